//! The pages of a segment's columns, handed to the Parquet decoders.
//!
//! The stock page reader suits long scans. A look-up reads one page of each of
//! a hundred columns, and there its fixed costs dominate: it copies the list of
//! all pages, makes a decompressor for every column and visits every page that
//! is skipped. This one starts at the page that holds the first wanted row,
//! keeps one decompressor a thread, and decompresses a dictionary once.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::dictionary;
use super::footer::Footer;
use super::header::PageHeader;
use super::locations::{PageLocation, PageLocations};
use super::stock::damaged;
use crate::segment::layout::checksum::VerifiedBytes;

/// Bytes that a page may have when it is decompressed.
const MOST_PAGE_BYTES: usize = 256 << 20;

/// The metadata of a segment's Parquet file. What it says of the pages of a column chunk
/// is read when the chunk is, and kept, as its dictionary is.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) footer: Footer,
    /// What lies behind the index, the offset indexes of all column chunks among it, and
    /// where it begins.
    tail: (u64, Bytes),
    /// By row group, then by column.
    chunks: Vec<KeptChunk>,
    columns: usize,
}

/// What is kept of a column chunk.
#[derive(Debug, Default)]
struct KeptChunk {
    locations: OnceLock<PageLocations>,
    /// The dictionary, decompressed.
    dictionary: OnceLock<Bytes>,
    /// The same as values; none where only the stock decoder knows them.
    decoded: OnceLock<Option<ArrayRef>>,
}

impl Pages {
    pub(crate) fn new(footer: Footer, tail: (u64, Bytes)) -> Self {
        let columns = footer.file().file_metadata().schema_descr().num_columns();
        let chunks = footer.rows().len() * columns;
        Self {
            footer,
            tail,
            chunks: (0..chunks).map(|_| KeptChunk::default()).collect(),
            columns,
        }
    }

    /// What the footer says of a row group; none when there is no such one, or it makes no
    /// sense.
    pub(crate) fn row_group(&self, number: usize) -> Option<&RowGroupMetaData> {
        self.footer.row_group(number)
    }

    /// Memory that it may come to take, in bytes, as far as the first row group tells.
    pub(crate) fn memory(&self) -> usize {
        let first = self.row_group(0).map_or(&[][..], RowGroupMetaData::columns);
        let dictionaries = first
            .iter()
            .filter_map(|chunk| {
                let start = chunk.dictionary_page_offset()?;
                Some(chunk.data_page_offset().saturating_sub(start))
            })
            .fold(0, i64::saturating_add);
        let dictionaries = dictionaries.saturating_mul(self.footer.rows().len() as i64);
        let kept = self.chunks.len() * size_of::<KeptChunk>();
        // Numbers of pages are packed in the tail, but not when they are read.
        let tail = self.tail.1.len().saturating_mul(3);
        // Text compresses two to four times, and there are two forms of it.
        let dictionaries = (dictionaries.max(0) as usize).saturating_mul(6);
        self.footer.memory() + kept + tail + dictionaries
    }

    /// The values of a column's dictionary in a row group; none when it has
    /// none, or of a type that is left to the stock decoder.
    pub(crate) fn decoded_dictionary(
        &self,
        bytes: &VerifiedBytes,
        row_group: usize,
        column: usize,
        field: &Field,
    ) -> Result<Option<ArrayRef>, ParquetError> {
        let Some(kept) = self.kept(row_group, column) else {
            return Ok(None);
        };
        if let Some(decoded) = kept.decoded.get() {
            return Ok(decoded.clone());
        }
        let group = self.row_group(row_group);
        let chunk = group.and_then(|group| group.columns().get(column));
        let place = match chunk {
            Some(chunk) => dictionary_place(chunk, self.locations(row_group, column)?),
            None => None,
        };
        let decoded = match (chunk, place) {
            (Some(chunk), Some(place)) => {
                let (header, data) = read_page(bytes, chunk.compression(), place)?;
                dictionary::decode(&data, header.values as usize, field.data_type())?
            }
            _ => None,
        };
        Ok(kept.decoded.get_or_init(|| decoded).clone())
    }

    /// Where the pages of a column lie in a row group.
    pub(crate) fn locations(
        &self,
        row_group: usize,
        column: usize,
    ) -> Result<&PageLocations, ParquetError> {
        let missing = || damaged("an offset index");
        let kept = self.kept(row_group, column).ok_or_else(missing)?;
        if let Some(locations) = kept.locations.get() {
            return Ok(locations);
        }
        let group = self.row_group(row_group);
        let read = group.and_then(|group| {
            let place = offset_index_place(group.columns().get(column)?)?;
            let rows = u32::try_from(group.num_rows()).ok()?;
            PageLocations::read(self.of_tail(place)?, rows)
        });
        let read = read.ok_or_else(missing)?;
        Ok(kept.locations.get_or_init(|| read))
    }

    /// The column index of a column in a row group, if there is one.
    pub(crate) fn column_index(&self, row_group: usize, column: usize) -> Option<&[u8]> {
        let group = self.row_group(row_group)?;
        let chunk = group.columns().get(column)?;
        let start = u64::try_from(chunk.column_index_offset()?).ok()?;
        let bytes = u64::try_from(chunk.column_index_length()?).ok()?;
        self.of_tail(start..start.checked_add(bytes)?)
    }

    fn of_tail(&self, place: Range<u64>) -> Option<&[u8]> {
        let (offset, tail) = &self.tail;
        let start = usize::try_from(place.start.checked_sub(*offset)?).ok()?;
        let end = usize::try_from(place.end.checked_sub(*offset)?).ok()?;
        tail.get(start..end)
    }

    fn kept(&self, row_group: usize, column: usize) -> Option<&KeptChunk> {
        if column >= self.columns {
            return None;
        }
        self.chunks.get(row_group * self.columns + column)
    }
}

/// Some row groups, of which rows from a first one on are wanted.
pub(crate) struct WantedPages<'a> {
    pub(crate) bytes: &'a VerifiedBytes,
    pub(crate) pages: &'a Arc<Pages>,
    pub(crate) row_groups: &'a [usize],
    /// The first wanted row, from the start of the first row group.
    pub(crate) first_row: usize,
}

impl RowGroups for WantedPages<'_> {
    fn num_rows(&self) -> usize {
        self.row_groups()
            .map(|group| group.num_rows() as usize)
            .sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        Ok(Box::new(Chunks {
            bytes: self.bytes.clone(),
            pages: Arc::clone(self.pages),
            row_groups: self.row_groups.to_vec(),
            next: 0,
            column,
            first_row: self.first_row,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(
            self.row_groups
                .iter()
                .filter_map(|group| self.pages.row_group(*group)),
        )
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.pages.footer.file()
    }
}

/// One column through some row groups.
struct Chunks {
    bytes: VerifiedBytes,
    pages: Arc<Pages>,
    row_groups: Vec<usize>,
    next: usize,
    column: usize,
    first_row: usize,
}

impl PageIterator for Chunks {}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row_group = *self.row_groups.get(self.next)?;
        self.next += 1;
        let first_row = std::mem::take(&mut self.first_row);
        let chunk = Chunk::new(&self.bytes, &self.pages, row_group, self.column, first_row);
        Some(chunk.map(|chunk| Box::new(chunk) as _))
    }
}

/// The pages of one column chunk.
struct Chunk {
    bytes: VerifiedBytes,
    pages: Arc<Pages>,
    row_group: usize,
    column: usize,
    compression: Compression,
    /// Where the dictionary lies, until it is read.
    dictionary: Option<Range<u64>>,
    has_dictionary: bool,
    /// Rows before the first page that is wanted, which are skipped as one.
    skipped: usize,
    next: usize,
}

impl Chunk {
    fn new(
        bytes: &VerifiedBytes,
        pages: &Arc<Pages>,
        row_group: usize,
        column: usize,
        first_row: usize,
    ) -> Result<Self, ParquetError> {
        let group = pages.row_group(row_group);
        let chunk = group.and_then(|group| group.columns().get(column));
        let chunk = chunk.ok_or_else(|| damaged("a column chunk"))?;
        let locations = pages.locations(row_group, column)?;
        let next = locations.page_of(first_row as u32);
        let before = locations.get(next).map_or(0, |page| page.rows.start);
        let dictionary = dictionary_place(chunk, locations);
        Ok(Self {
            bytes: bytes.clone(),
            pages: Arc::clone(pages),
            row_group,
            column,
            compression: chunk.compression(),
            has_dictionary: dictionary.is_some(),
            dictionary,
            skipped: before as usize,
            next,
        })
    }

    fn location(&self, page: usize) -> Option<PageLocation> {
        let locations = self.pages.locations(self.row_group, self.column);
        locations.ok()?.get(page)
    }

    fn read_dictionary(&self, range: Range<u64>) -> Result<Page, ParquetError> {
        let kept = self.pages.kept(self.row_group, self.column);
        let cell = kept.map(|kept| &kept.dictionary);
        // The header is small and says how many values there are.
        let (header, data) = match cell.and_then(OnceLock::get) {
            Some(data) => {
                let (header, _) = find_page(&self.bytes, range)?;
                (header, data.clone())
            }
            None => {
                let (header, data) = read_page(&self.bytes, self.compression, range)?;
                let data = cell
                    .map_or(&data, |cell| cell.get_or_init(|| data.clone()))
                    .clone();
                (header, data)
            }
        };
        // The stock decoder makes room for as many as the header says.
        if header.values as usize > data.len() / 4 {
            return Err(damaged("the values of a dictionary"));
        }
        Ok(Page::DictionaryPage {
            buf: data,
            num_values: header.values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })
    }
}

impl PageReader for Chunk {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        if let Some(range) = self.dictionary.take() {
            return self.read_dictionary(range).map(Some);
        }
        let Some(location) = self.location(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        self.skipped = 0;
        let (header, data) = read_page(&self.bytes, self.compression, location.place)?;
        let needs_dictionary = matches!(
            header.encoding,
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY
        );
        // The stock decoder takes it for granted.
        if needs_dictionary && !self.has_dictionary {
            return Err(damaged("a dictionary"));
        }
        Ok(Some(Page::DataPage {
            buf: data,
            num_values: header.values,
            encoding: header.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let page = |rows| PageMetadata {
            num_rows: rows,
            num_levels: None,
            is_dict: rows.is_none(),
        };
        Ok(if self.dictionary.is_some() {
            Some(page(None))
        } else if self.skipped > 0 {
            Some(page(Some(self.skipped)))
        } else {
            let next = self.location(self.next);
            next.map(|next| page(Some(next.rows.len())))
        })
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        if self.dictionary.take().is_none() && std::mem::take(&mut self.skipped) == 0 {
            self.next += 1;
        }
        Ok(())
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        // Columns are flat.
        Ok(true)
    }
}

impl Iterator for Chunk {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// Where the dictionary of a column chunk lies, if it has one.
fn dictionary_place(chunk: &ColumnChunkMetaData, pages: &PageLocations) -> Option<Range<u64>> {
    let start = u64::try_from(chunk.dictionary_page_offset()?).ok()?;
    let end = pages.get(0)?.place.start;
    (start < end).then_some(start..end)
}

/// Where the offset index of a column chunk lies, if it has one.
fn offset_index_place(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(chunk.offset_index_offset()?).ok()?;
    let bytes = u64::try_from(chunk.offset_index_length()?).ok()?;
    Some(start..start.checked_add(bytes)?)
}

/// Reads a page that lies at a place of the file.
fn read_page(
    bytes: &VerifiedBytes,
    compression: Compression,
    place: Range<u64>,
) -> Result<(PageHeader, Bytes), ParquetError> {
    let (header, page) = find_page(bytes, place)?;
    let data = decompress(compression, page, header.uncompressed_bytes)?;
    Ok((header, data))
}

/// The header of a page that lies at a place of the file, and its bytes as they
/// are there.
pub(crate) fn find_page(
    bytes: &VerifiedBytes,
    place: Range<u64>,
) -> Result<(PageHeader, Bytes), ParquetError> {
    let bytes = bytes
        .slice(place)
        .map_err(|error| ParquetError::External(Box::new(error)))?;
    let (header, length) = PageHeader::read(&bytes).ok_or_else(|| damaged("a page header"))?;
    let end = length.saturating_add(header.compressed_bytes);
    if end > bytes.len() {
        return Err(damaged("a page within its place"));
    }
    Ok((header, bytes.slice(length..end)))
}

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(crate) fn decompress(
    compression: Compression,
    data: Bytes,
    uncompressed_bytes: usize,
) -> Result<Bytes, ParquetError> {
    if uncompressed_bytes > MOST_PAGE_BYTES {
        return Err(damaged("a page of at most 256 MiB"));
    }
    let failed = |error: String| ParquetError::General(format!("decompress a page: {error}"));
    let out = match compression {
        Compression::UNCOMPRESSED => return Ok(data),
        // A page of no values has no frame either.
        _ if uncompressed_bytes == 0 => return Ok(Bytes::new()),
        Compression::LZ4_RAW => lz4_flex::block::decompress(&data, uncompressed_bytes)
            .map_err(|error| failed(error.to_string()))?,
        Compression::ZSTD(_) => ZSTD.with(|cell| {
            let mut cell = cell
                .try_borrow_mut()
                .map_err(|error| failed(error.to_string()))?;
            let decompressor = match &mut *cell {
                Some(decompressor) => decompressor,
                none => none.insert(
                    zstd::bulk::Decompressor::new().map_err(|error| failed(error.to_string()))?,
                ),
            };
            decompressor
                .decompress(&data, uncompressed_bytes)
                .map_err(|error| failed(error.to_string()))
        })?,
        other => return Err(failed(format!("expected LZ4 or ZSTD, found {other}"))),
    };
    if out.len() == uncompressed_bytes {
        Ok(Bytes::from(out))
    } else {
        Err(failed(format!(
            "expected {uncompressed_bytes} bytes, found {}",
            out.len()
        )))
    }
}
