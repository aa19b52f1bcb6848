//! Opens a segment and finds rows by team and id.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt32Type};
use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use roaring::RoaringBitmap;

use super::rows::{Column, RowReader};
use crate::error::FormatError;
use crate::id::TraceId;
use crate::requests::{self, RequestColumn};
use crate::segment::SegmentSummary;
use crate::segment::facets::Facets;
use crate::segment::key_index::{self, Entries};
use crate::segment::layout::checksum::{BLOCK_BYTES, VerifiedBytes, verify_tail};
use crate::segment::layout::columns::FileColumns;
use crate::segment::layout::directory::{Directory, Partition};
use crate::segment::layout::encoding::ROW_GROUP_ROWS;
use crate::segment::layout::header::{FOOTER_KEY, IndexHeader, MOST_HEADER_BYTES, Part};
use crate::segment::layout::inner::InnerSegment;
use crate::segment::layout::origin::Origin;
use crate::segment::layout::source::Source;
use crate::segment::pages::{parquet_error, without_panic};
use crate::segment::shared::SharedMessages;
use crate::span;
use crate::table::{IndexedId, Table};

/// An id that rows are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'a> {
    /// A trace.
    Trace(TraceId),
    /// A session.
    Session(&'a str),
    /// A request.
    Request(&'a str),
}

/// What the rows of a segment share. Damage to it is no concern of who asks for other
/// columns.
pub(crate) type SharedTables = Arc<[Option<Result<SharedMessages, FormatError>>]>;

/// Rows of requests that are verified at a time.
const VERIFIED_ROWS: usize = 8_192;
const REQUESTS: &str = "table of requests";

/// An open segment. Opening parses no Parquet; rows are read through a
/// [`RowReader`], which does.
#[derive(Debug)]
pub struct SegmentReader {
    table: &'static Table,
    summary: SegmentSummary,
    header: IndexHeader,
    source: Source,
    bytes: VerifiedBytes,
    directory: Directory,
    columns: OnceLock<Arc<FileColumns>>,
}

impl SegmentReader {
    /// Opens a segment of spans of which the catalog keeps `summary`.
    ///
    /// # Errors
    /// [`FormatError`] when the file is not the one that the summary describes,
    /// or its index is damaged.
    pub fn open(file: impl Into<Source>, summary: SegmentSummary) -> Result<Self, FormatError> {
        Self::open_of(span::table(), file, summary)
    }

    /// Opens a segment of any table.
    ///
    /// # Errors
    /// As [`SegmentReader::open`]. That the rows are those of the table is seen when
    /// the columns are asked for.
    pub fn open_of(
        table: &'static Table,
        file: impl Into<Source>,
        summary: SegmentSummary,
    ) -> Result<Self, FormatError> {
        let source = file.into();
        if source.len() != summary.bytes {
            let expected = format!("{} bytes", summary.bytes);
            let found = format!("{} bytes", source.len());
            return Err(FormatError::malformed("segment", 0, expected, found));
        }
        let (header, checksums) = read_header(&source, summary.index_offset)?;
        let checksums_end = summary.index_offset + header.bytes() + checksums.len() as u64;
        if header.segment != summary.id
            || header.rows != summary.rows
            || header.month != summary.month
            || checksums_end != summary.tail_offset
        {
            let expected = format!("segment {} of {} rows", summary.id, summary.rows);
            let found = format!("segment {} of {} rows", header.segment, header.rows);
            let part = "index header";
            return Err(FormatError::malformed(
                part,
                summary.index_offset,
                expected,
                found,
            ));
        }
        let bytes = VerifiedBytes::new(source.clone(), summary.index_offset, checksums)?;
        let place = header.required(Part::Directory)?;
        let directory = Directory::new(bytes.slice(place.clone())?, place.start, header.rows);
        Ok(Self {
            table,
            summary,
            header,
            source,
            bytes,
            directory: directory?,
            columns: OnceLock::new(),
        })
    }

    /// The table that its rows are of.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// What the catalog keeps of the segment.
    pub fn summary(&self) -> &SegmentSummary {
        &self.summary
    }

    /// The partition directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Finds the rows whose id may be `id`: all that have it, and those of
    /// another id with the same hash.
    ///
    /// # Errors
    /// [`FormatError`] when the part of the index that is searched is damaged.
    pub fn find(
        &self,
        partition: &Partition,
        id: Id<'_>,
    ) -> Result<Option<RoaringBitmap>, FormatError> {
        let (id, key) = match id {
            Id::Trace(id) => (IndexedId::Trace, key_index::key_of(&id.0)),
            Id::Session(id) => (IndexedId::Session, key_index::key_of(id.as_bytes())),
            Id::Request(id) => (IndexedId::Request, key_index::key_of(id.as_bytes())),
        };
        self.find_key(partition, id, key)
    }

    /// Finds the rows with an id whose hash is a key.
    ///
    /// # Errors
    /// As [`SegmentReader::find`].
    pub fn find_key(
        &self,
        partition: &Partition,
        id: IndexedId,
        key: key_index::Key,
    ) -> Result<Option<RoaringBitmap>, FormatError> {
        let index = self.header.required(Part::of_id(id))?;
        let (block, rows) = (partition.block(id), &partition.rows);
        let start = index.start + u64::from(block.start);
        let bytes = u64::from(block.end - block.start);
        if start + bytes > index.end {
            let expected = format!("a block within {} bytes", index.end - index.start);
            let found = format!("{block:?}");
            return Err(FormatError::malformed("key index", start, expected, found));
        }
        let found = key_index::find(key, rows, bytes, |range| {
            self.bytes.get(start + range.start..start + range.end)
        })?;
        let read = |range| self.postings(range);
        found.map(|posting| posting.rows(rows, &read)).transpose()
    }

    /// The index of traces of a partition, all of it.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged.
    pub fn traces(&self, partition: &Partition) -> Result<Entries, FormatError> {
        let part = self.header.required(Part::Traces)?;
        let block = part.start.saturating_add(u64::from(partition.traces.start))
            ..part.start.saturating_add(u64::from(partition.traces.end));
        Entries::of(&self.bytes.slice(block)?, &partition.rows)
    }

    /// A range of the postings.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged or not there.
    pub fn postings(&self, range: Range<u64>) -> Result<Bytes, FormatError> {
        let part = self.header.required(Part::Postings)?;
        let end = part.start.saturating_add(range.end).min(part.end);
        self.bytes
            .slice(part.start.saturating_add(range.start)..end)
    }

    /// The facets of a partition; none when it is too small to have them.
    ///
    /// # Errors
    /// [`FormatError`] when they are damaged.
    pub fn facets(&self, partition: &Partition) -> Result<Option<Facets>, FormatError> {
        let Some(part) = self.header.part(Part::Facets) else {
            return Ok(None);
        };
        let start = part.start + u64::from(partition.facets.start);
        let end = part.start + u64::from(partition.facets.end);
        if start == end {
            return Ok(None);
        }
        let block = self.bytes.slice(start..end.min(part.end))?;
        Ok(Some(Facets::new(block, partition.rows.clone(), start)))
    }

    /// The columns of the file.
    ///
    /// # Errors
    /// [`FormatError`] when the part is damaged, or the rows are of another table.
    pub fn columns(&self) -> Result<Arc<FileColumns>, FormatError> {
        if let Some(columns) = self.columns.get() {
            return Ok(Arc::clone(columns));
        }
        let part = self.header.required(Part::Columns)?;
        let bytes = self.bytes.slice(part.clone())?;
        let columns = FileColumns::decode(&bytes, part.start, self.table)?;
        Ok(Arc::clone(self.columns.get_or_init(|| Arc::new(columns))))
    }

    /// What the rows share, in the order of the table's
    /// [shared columns](crate::table::Roles::shared); none where the file has no column
    /// of numbers.
    ///
    /// # Errors
    /// [`FormatError`] when a part is damaged or missing.
    pub fn shared(&self) -> Result<Vec<Option<SharedMessages>>, FormatError> {
        let parts = self.shared_parts(false)?.into_iter();
        parts.map(Option::transpose).collect()
    }

    /// Each of them, or what is wrong with it.
    fn shared_parts(
        &self,
        is_keeping: bool,
    ) -> Result<Vec<Option<Result<SharedMessages, FormatError>>>, FormatError> {
        let columns = self.columns()?;
        let of_table = self.table.roles().shared.iter().enumerate();
        let parts = of_table.map(|(place, shared)| {
            columns.number(place)?;
            let part = self.header.required(Part::of_shared(shared.kind));
            let (bytes, rows) = (self.bytes.clone(), self.summary.rows);
            Some(part.and_then(|part| SharedMessages::new(bytes, part, rows, is_keeping)))
        });
        Ok(parts.collect())
    }

    /// Where the rows come from.
    ///
    /// # Errors
    /// [`FormatError`] when the part is damaged.
    pub fn origin(&self) -> Result<Origin, FormatError> {
        let part = self.header.required(Part::Origin)?;
        Origin::decode(&self.bytes.slice(part.clone())?, part.start)
    }

    /// The segment of the requests of the rows; none when it has none. Each of its rows has
    /// the number of the row of its first span
    /// ([`FirstSpan`](crate::requests::RequestColumn::FirstSpan)) and how many there are
    /// ([`Spans`](crate::requests::RequestColumn::Spans)). Partitions of few rows are not in
    /// it.
    ///
    /// # Errors
    /// As [`SegmentReader::open`].
    pub fn requests(&self) -> Result<Option<Self>, FormatError> {
        let part = self.header.part(Part::RequestTable);
        // Only spans make requests.
        let Some(part) = part.filter(|_| std::ptr::eq(self.table, span::table())) else {
            return Ok(None);
        };
        let end = self.bytes.slice(InnerSegment::end_of(&part))?;
        let inner = InnerSegment::decode(&end, &part, &self.summary)?;
        let source = self.source.part(inner.range)?;
        Self::open_of(requests::table(), source, inner.summary).map(Some)
    }

    /// The index header.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// Parses what is needed to read rows, after its checksum was seen to hold.
    /// It takes time and memory in proportion to columns and row groups: keep it. What is
    /// said of the pages of a column is parsed when the column is read.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged.
    pub fn row_reader(&self) -> Result<RowReader, FormatError> {
        let (offset, expected) = (self.summary.tail_offset, self.summary.tail_crc);
        let tail = self.source.read(offset..self.source.len())?;
        let found = crc32c::crc32c(&tail);
        if found != expected {
            return Err(FormatError::Checksum {
                part: "segment tail",
                offset,
                expected,
                found,
            });
        }
        let bytes = self.bytes.clone();
        RowReader::new(
            self.table,
            bytes,
            (offset, tail),
            self.summary.rows,
            self.columns()?,
            self.shared_parts(true)?.into(),
            self.directory.clone(),
        )
    }

    /// Row groups of the segment.
    pub fn row_groups(&self) -> u32 {
        self.summary.rows.div_ceil(ROW_GROUP_ROWS)
    }

    /// Verifies every byte of the file and the agreement of its parts.
    /// Answers everything that is wrong.
    pub fn verify(&self) -> Vec<FormatError> {
        let mut damage = self.bytes.damaged_blocks();
        match self.row_reader() {
            Err(error) => damage.push(error),
            Ok(rows) => match rows.metadata() {
                Err(error) => damage.push(error),
                Ok(metadata) => damage.extend(self.verify_footer(&metadata)),
            },
        }
        damage.extend(self.origin().err());
        match self.requests() {
            Err(error) => damage.push(error),
            Ok(None) => {}
            Ok(Some(requests)) => {
                damage.extend(requests.verify());
                damage.extend(self.verify_requests(&requests).err());
            }
        }
        match self.shared() {
            Err(error) => damage.push(error),
            Ok(shared) => {
                let shared = shared.iter().flatten();
                damage.extend(shared.filter_map(|one| one.verify().err()));
            }
        }
        let mut next_row = 0;
        for partition in self.directory.partitions() {
            match partition {
                Ok(partition) if partition.rows.start == next_row => next_row = partition.rows.end,
                Ok(partition) => damage.push(FormatError::malformed(
                    "partition directory",
                    self.header
                        .part(Part::Directory)
                        .map_or(0, |part| part.start),
                    format!("rows of {} from {next_row} on", partition.team),
                    format!("{:?}", partition.rows),
                )),
                Err(error) => damage.push(error),
            }
        }
        if next_row != self.summary.rows {
            damage.push(FormatError::malformed(
                "partition directory",
                self.header
                    .part(Part::Directory)
                    .map_or(0, |part| part.start),
                format!("{} rows in all", self.summary.rows),
                format!("{next_row}"),
            ));
        }
        damage
    }

    /// Whether the requests of a partition have all its rows, one after the other.
    fn verify_requests(&self, requests: &Self) -> Result<(), FormatError> {
        let place = |column: RequestColumn| Column::Stored(column.place());
        let columns = [RequestColumn::FirstSpan, RequestColumn::Spans].map(place);
        let reader = requests.row_reader()?;
        for partition in requests.directory().partitions() {
            let partition = partition?;
            let outer = self.directory().find(&partition.team)?;
            let mut next = outer.as_ref().map(|outer| i64::from(outer.rows.start));
            for rows in reader.read(&[partition.rows], &columns, VERIFIED_ROWS)? {
                let rows = rows.map_err(|error| {
                    FormatError::malformed(REQUESTS, 0, "readable rows", error.to_string())
                })?;
                let [first, spans] = rows.columns() else {
                    continue;
                };
                let (Some(first), Some(spans)) = (
                    first.as_primitive_opt::<UInt32Type>(),
                    spans.as_primitive_opt::<Int64Type>(),
                ) else {
                    continue;
                };
                for (first, spans) in first.values().iter().zip(spans.values()) {
                    next = next.filter(|next| *next == i64::from(*first) && *spans > 0);
                    next = next.and_then(|next| next.checked_add(*spans));
                }
            }
            if next != outer.map(|outer| i64::from(outer.rows.end)) {
                let expected = format!("all spans of {}, one after the other", partition.team);
                let found = format!("spans up to {next:?}");
                return Err(FormatError::malformed(REQUESTS, 0, expected, found));
            }
        }
        Ok(())
    }

    fn verify_footer(&self, metadata: &ParquetMetaData) -> Option<FormatError> {
        let pointer = index_offset(metadata);
        let rows = metadata.file_metadata().num_rows();
        let agrees =
            pointer == Some(self.summary.index_offset) && rows == i64::from(self.summary.rows);
        (!agrees).then(|| {
            FormatError::malformed(
                "Parquet footer",
                self.summary.tail_offset,
                format!(
                    "{} rows, index at {}",
                    self.summary.rows, self.summary.index_offset
                ),
                format!("{rows} rows, index at {pointer:?}"),
            )
        })
    }
}

/// Finds what the catalog would keep of a segment in the file alone, through
/// the footer's key-value pairs: for repair and for readers without a catalog.
/// The footer is parsed first, to find the header; then the tail is verified by
/// the checksum that it has within itself.
///
/// # Errors
/// [`FormatError`] when the file is not a segment.
pub fn summarize(file: &Bytes) -> Result<SegmentSummary, FormatError> {
    let index_offset = find_index(file)?;
    let (header, checksums) = read_header(&file.clone().into(), index_offset)?;
    let tail_offset = index_offset + header.bytes() + checksums.len() as u64;
    let tail = file.get(tail_offset as usize..).unwrap_or_default();
    verify_tail(tail, tail_offset)?;
    let bytes = VerifiedBytes::new(file.clone(), index_offset, checksums)?;
    let place = header.required(Part::Directory)?;
    let directory = Directory::new(bytes.slice(place.clone())?, place.start, header.rows)?;
    let mut summary = SegmentSummary {
        id: header.segment,
        month: header.month,
        rows: header.rows,
        partitions: directory.len() as u32,
        bytes: file.len() as u64,
        index_offset,
        tail_offset,
        tail_crc: crc32c::crc32c(tail),
        first_start: i64::MAX,
        last_start: i64::MIN,
        first_team: String::new(),
        last_team: String::new(),
        level: 0,
        run: header.segment,
    };
    for partition in directory.partitions() {
        let partition = partition?;
        if summary.first_team.is_empty() {
            partition.team.as_str().clone_into(&mut summary.first_team);
        }
        partition.team.as_str().clone_into(&mut summary.last_team);
        summary.first_start = summary.first_start.min(partition.first_start);
        summary.last_start = summary.last_start.max(partition.last_start);
    }
    Ok(summary)
}

/// Where the Parquet footer says that the index header stands.
pub(crate) fn find_index(file: &Bytes) -> Result<u64, FormatError> {
    let metadata = without_panic(|| ParquetMetaDataReader::new().parse_and_finish(file))
        .map_err(|error| parquet_error("Parquet footer", file.len() as u64, &error))?;
    index_offset(&metadata).ok_or_else(|| {
        FormatError::malformed(
            "Parquet footer",
            file.len() as u64,
            FOOTER_KEY,
            "no such pair",
        )
    })
}

fn index_offset(metadata: &ParquetMetaData) -> Option<u64> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs
        .iter()
        .find(|pair| pair.key == FOOTER_KEY)?
        .value
        .as_ref()?
        .parse()
        .ok()
}

/// Reads and verifies the index header and the block checksums after it.
fn read_header(file: &Source, offset: u64) -> Result<(IndexHeader, Bytes), FormatError> {
    let outside = || {
        let expected = format!("an index header within {} bytes", file.len());
        FormatError::malformed("index header", offset, expected, format!("offset {offset}"))
    };
    if offset >= file.len() {
        return Err(outside());
    }
    let most_end = offset
        .saturating_add(MOST_HEADER_BYTES as u64)
        .min(file.len());
    let header = IndexHeader::decode(&file.read(offset..most_end)?, offset)?;
    let header_end = offset + header.bytes();
    let checksums_end = header_end + offset.div_ceil(BLOCK_BYTES) * 4;
    if checksums_end > file.len() {
        return Err(outside());
    }
    let checksums = file.read(header_end..checksums_end)?;
    let found = crc32c::crc32c(&checksums);
    if found != header.blocks_crc {
        return Err(FormatError::Checksum {
            part: "block checksums",
            offset: header_end,
            expected: header.blocks_crc,
            found,
        });
    }
    Ok((header, checksums))
}
