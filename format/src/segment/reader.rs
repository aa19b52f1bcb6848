//! Reads a segment: finds rows by team, trace and session, and hands out
//! their columns.

use std::ops::Range;
use std::sync::OnceLock;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use roaring::RoaringBitmap;

use super::checksum::{BLOCK_BYTES, VerifiedBytes};
use super::directory::{Directory, Partition};
use super::header::{FOOTER_KEY, HEADER_BYTES, IndexHeader};
use super::key_index::{self, Key, Posting};
use super::layout::ROW_GROUP_ROWS;
use super::writer::SegmentSummary;
use crate::error::FormatError;
use crate::id::TraceId;
use crate::span::schema::schema;

/// An open segment. Opening parses no Parquet; the footer is parsed when rows
/// are read for the first time.
#[derive(Debug)]
pub struct SegmentReader {
    summary: SegmentSummary,
    header: IndexHeader,
    bytes: VerifiedBytes,
    /// The tail as it was mapped, not verified yet.
    tail: Bytes,
    directory: Directory,
    metadata: OnceLock<ArrowReaderMetadata>,
}

impl SegmentReader {
    /// Opens a segment of which the catalog keeps `summary`.
    ///
    /// # Errors
    /// [`FormatError`] when the file is not the one that the summary describes,
    /// or its index is damaged.
    pub fn open(file: Bytes, summary: SegmentSummary) -> Result<Self, FormatError> {
        if file.len() as u64 != summary.bytes {
            let expected = format!("{} bytes", summary.bytes);
            let found = format!("{} bytes", file.len());
            return Err(FormatError::malformed("segment", 0, expected, found));
        }
        let (header, checksums) = read_header(&file, summary.index_offset)?;
        let checksums_end = summary.index_offset + HEADER_BYTES as u64 + checksums.len() as u64;
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
        let bytes = VerifiedBytes::new(file.clone(), summary.index_offset, checksums)?;
        let directory = Directory::new(
            bytes.slice(header.directory.clone())?,
            header.directory.start,
        )?;
        let tail = file.slice(summary.tail_offset as usize..);
        Ok(Self {
            summary,
            header,
            bytes,
            tail,
            directory,
            metadata: OnceLock::new(),
        })
    }

    /// What the catalog keeps of the segment.
    pub fn summary(&self) -> &SegmentSummary {
        &self.summary
    }

    /// The partition directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Finds the rows of a trace. They are one run.
    ///
    /// # Errors
    /// [`FormatError`] when the part of the index that is searched is damaged.
    pub fn trace(
        &self,
        partition: &Partition,
        trace: TraceId,
    ) -> Result<Option<Range<u32>>, FormatError> {
        let found = self.find(&trace.0, &self.header.traces, partition.traces.clone())?;
        match found {
            None => Ok(None),
            Some(Posting::Run(run)) => within(run, partition).map(Some),
            Some(Posting::Bitmap(range)) => Err(FormatError::malformed(
                "trace index",
                self.header.traces.start,
                "a run of rows",
                format!("a bitmap at {range:?}"),
            )),
        }
    }

    /// Finds the rows whose session id may be `session`: all that have it, and
    /// those of another session with the same hash.
    ///
    /// # Errors
    /// [`FormatError`] when the part of the index that is searched is damaged.
    pub fn session(
        &self,
        partition: &Partition,
        session: &str,
    ) -> Result<Option<RoaringBitmap>, FormatError> {
        let key = key_index::session_key(session);
        let found = self.find(&key, &self.header.sessions, partition.sessions.clone())?;
        found
            .map(|posting| self.rows_of(posting, partition))
            .transpose()
    }

    fn rows_of(
        &self,
        posting: Posting,
        partition: &Partition,
    ) -> Result<RoaringBitmap, FormatError> {
        match posting {
            Posting::Run(run) => {
                let run = within(run, partition)?;
                let mut rows = RoaringBitmap::new();
                rows.insert_range(run);
                Ok(rows)
            }
            Posting::Bitmap(range) => {
                let start = self.header.postings.start;
                let bytes = self.bytes.slice(start + range.start..start + range.end)?;
                let rows = Posting::decode_bitmap(&bytes, start + range.start)?;
                if let (Some(first), Some(last)) = (rows.min(), rows.max()) {
                    within(first..last.saturating_add(1), partition)?;
                }
                Ok(rows)
            }
        }
    }

    fn find(
        &self,
        key: &Key,
        index: &Range<u64>,
        partition: Range<u32>,
    ) -> Result<Option<Posting>, FormatError> {
        key_index::find(key, partition, |range| {
            self.bytes
                .slice(index.start + range.start..(index.start + range.end).min(index.end))
        })
    }

    /// The Parquet metadata with its page index, parsed once, after its
    /// checksum was seen to hold.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged.
    pub fn metadata(&self) -> Result<&ArrowReaderMetadata, FormatError> {
        if let Some(metadata) = self.metadata.get() {
            return Ok(metadata);
        }
        let found = crc32c::crc32c(&self.tail);
        let (offset, expected) = (self.summary.tail_offset, self.summary.tail_crc);
        if found != expected {
            return Err(FormatError::Checksum {
                part: "segment tail",
                offset,
                expected,
                found,
            });
        }
        let options = ArrowReaderOptions::new()
            .with_schema(schema())
            .with_column_index_policy(PageIndexPolicy::Optional)
            // Without it a selection would decode whole column chunks.
            .with_offset_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&self.bytes, options)
            .map_err(|error| parquet_error("Parquet footer", offset, &error))?;
        Ok(self.metadata.get_or_init(|| metadata))
    }

    /// Row groups of the segment.
    pub fn row_groups(&self) -> u32 {
        self.summary.rows.div_ceil(ROW_GROUP_ROWS)
    }

    /// Earliest and latest value of a time column in a row group, ns since
    /// 1970; none when the file does not tell.
    ///
    /// # Errors
    /// [`FormatError`] when the metadata is damaged.
    pub fn time_range(
        &self,
        row_group: u32,
        column: &str,
    ) -> Result<Option<(i64, i64)>, FormatError> {
        let metadata = self.metadata()?.metadata();
        let statistics = schema().index_of(column).ok().and_then(|column| {
            metadata
                .row_groups()
                .get(row_group as usize)?
                .columns()
                .get(column)?
                .statistics()
        });
        Ok(match statistics {
            Some(Statistics::Int64(times)) => {
                times.min_opt().copied().zip(times.max_opt().copied())
            }
            _ => None,
        })
    }

    /// Reads rows: `rows` are row numbers in rising, disjoint ranges,
    /// `columns` places in [`schema`]; batches hold at most `batch_rows` rows,
    /// in the order of the row numbers, with the columns in the order of the
    /// schema.
    ///
    /// # Errors
    /// [`FormatError`] when the metadata is damaged. Damage in the rows is an
    /// error of the batch.
    pub fn read(
        &self,
        rows: &[Range<u32>],
        columns: &[usize],
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, FormatError> {
        let metadata = self.metadata()?.clone();
        let (row_groups, selection) = select(rows, self.summary.rows);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), metadata)
            .with_row_groups(row_groups)
            .with_row_selection(selection)
            .with_projection(mask)
            .with_batch_size(batch_rows.max(1))
            .build()
            .map_err(|error| parquet_error("segment", 0, &error))
    }

    /// The schema of batches with these columns.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when a place lies outside the schema.
    pub fn projected_schema(columns: &[usize]) -> Result<SchemaRef, FormatError> {
        let projected = schema().project(columns);
        projected.map(Into::into).map_err(|error| {
            FormatError::malformed("columns", 0, "places in the schema", error.to_string())
        })
    }

    /// Verifies every byte of the file and the agreement of its parts.
    /// Answers everything that is wrong.
    pub fn verify(&self) -> Vec<FormatError> {
        let mut damage = self.bytes.damaged_blocks();
        match self.metadata() {
            Err(error) => damage.push(error),
            Ok(metadata) => damage.extend(self.verify_footer(metadata.metadata())),
        }
        let mut next_row = 0;
        for partition in self.directory.partitions() {
            match partition {
                Ok(partition) if partition.rows.start == next_row => next_row = partition.rows.end,
                Ok(partition) => damage.push(FormatError::malformed(
                    "partition directory",
                    self.header.directory.start,
                    format!("rows of {} from {next_row} on", partition.team),
                    format!("{:?}", partition.rows),
                )),
                Err(error) => damage.push(error),
            }
        }
        if next_row != self.summary.rows {
            damage.push(FormatError::malformed(
                "partition directory",
                self.header.directory.start,
                format!("{} rows in all", self.summary.rows),
                format!("{next_row}"),
            ));
        }
        damage
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
/// The footer is parsed before any checksum of it is known.
///
/// # Errors
/// [`FormatError`] when the file is not a segment.
pub fn summarize(file: &Bytes) -> Result<SegmentSummary, FormatError> {
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(file)
        .map_err(|error| parquet_error("Parquet footer", file.len() as u64, &error))?;
    let index_offset = index_offset(&metadata).ok_or_else(|| {
        FormatError::malformed(
            "Parquet footer",
            file.len() as u64,
            FOOTER_KEY,
            "no such pair",
        )
    })?;
    let (header, checksums) = read_header(file, index_offset)?;
    let tail_offset = index_offset + HEADER_BYTES as u64 + checksums.len() as u64;
    let bytes = VerifiedBytes::new(file.clone(), index_offset, checksums)?;
    let directory = Directory::new(
        bytes.slice(header.directory.clone())?,
        header.directory.start,
    )?;
    let mut summary = SegmentSummary {
        id: header.segment,
        month: header.month,
        rows: header.rows,
        partitions: directory.len() as u32,
        bytes: file.len() as u64,
        index_offset,
        tail_offset,
        tail_crc: crc32c::crc32c(file.get(tail_offset as usize..).unwrap_or_default()),
        first_start: i64::MAX,
        last_start: i64::MIN,
    };
    for partition in directory.partitions() {
        let partition = partition?;
        summary.first_start = summary.first_start.min(partition.first_start);
        summary.last_start = summary.last_start.max(partition.last_start);
    }
    Ok(summary)
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
fn read_header(file: &Bytes, offset: u64) -> Result<(IndexHeader, Bytes), FormatError> {
    let outside = || {
        let expected = format!("an index header within {} bytes", file.len());
        FormatError::malformed("index header", offset, expected, format!("offset {offset}"))
    };
    let start = usize::try_from(offset).map_err(|_| outside())?;
    let header_end = start.checked_add(HEADER_BYTES).ok_or_else(outside)?;
    let header = IndexHeader::decode(file.get(start..header_end).ok_or_else(outside)?, offset)?;
    let checksums_end = header_end + offset.div_ceil(BLOCK_BYTES) as usize * 4;
    if checksums_end > file.len() {
        return Err(outside());
    }
    let checksums = file.slice(header_end..checksums_end);
    let found = crc32c::crc32c(&checksums);
    if found != header.blocks_crc {
        return Err(FormatError::Checksum {
            part: "block checksums",
            offset: header_end as u64,
            expected: header.blocks_crc,
            found,
        });
    }
    Ok((header, checksums))
}

fn within(run: Range<u32>, partition: &Partition) -> Result<Range<u32>, FormatError> {
    if partition.rows.start <= run.start && run.end <= partition.rows.end {
        return Ok(run);
    }
    let expected = format!("rows within {:?}", partition.rows);
    Err(FormatError::malformed(
        "key index",
        0,
        expected,
        format!("{run:?}"),
    ))
}

/// The row groups that hold some of the rows, and the selection of the rows
/// among those of these row groups.
fn select(rows: &[Range<u32>], total: u32) -> (Vec<usize>, RowSelection) {
    let mut row_groups: Vec<usize> = Vec::new();
    let mut selectors: Vec<RowSelector> = Vec::new();
    // Where the last row group of the list was left.
    let mut position = 0;
    let group_end = |group: u32| {
        group
            .saturating_add(1)
            .saturating_mul(ROW_GROUP_ROWS)
            .min(total)
    };
    for range in rows {
        let mut start = range.start;
        while start < range.end.min(total) {
            let group = start / ROW_GROUP_ROWS;
            if row_groups.last() != Some(&(group as usize)) {
                if let Some(last) = row_groups.last() {
                    selectors.push(RowSelector::skip(
                        (group_end(*last as u32) - position) as usize,
                    ));
                }
                row_groups.push(group as usize);
                position = group * ROW_GROUP_ROWS;
            }
            let end = range.end.min(group_end(group));
            selectors.push(RowSelector::skip((start - position) as usize));
            selectors.push(RowSelector::select((end - start) as usize));
            position = end;
            start = end;
        }
    }
    if let Some(last) = row_groups.last() {
        selectors.push(RowSelector::skip(
            (group_end(*last as u32) - position) as usize,
        ));
    }
    // Merges neighbours of a kind and drops empty ones.
    (row_groups, RowSelection::from(selectors))
}

fn parquet_error(
    part: &'static str,
    offset: u64,
    error: &parquet::errors::ParquetError,
) -> FormatError {
    FormatError::malformed(part, offset, "readable Parquet", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_cover_their_row_groups() {
        let group = ROW_GROUP_ROWS;
        let total = 3 * group + 10;
        let cases: [&[Range<u32>]; 5] = [
            &[0..5],
            &[10..20, 30..40],
            &[group - 1..group + 1],
            &[
                5..6,
                2 * group..2 * group + 3,
                3 * group + 1..3 * group + 10,
            ],
            &[0..total],
        ];
        for rows in cases {
            let (groups, selection) = select(rows, total);
            let covered: usize = selection.iter().map(|selector| selector.row_count).sum();
            let expected: usize = groups
                .iter()
                .map(|group| {
                    let start = *group as u32 * ROW_GROUP_ROWS;
                    (total - start).min(ROW_GROUP_ROWS) as usize
                })
                .sum();
            assert_eq!(covered, expected, "{rows:?}");
            let wanted: usize = rows.iter().map(ExactSizeIterator::len).sum();
            assert_eq!(selection.row_count(), wanted, "{rows:?}");
        }
    }
}
