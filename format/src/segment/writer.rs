//! Writes a segment: rows in their order in, a Parquet file with its indexes out.

use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::checksum::{BLOCK_BYTES, ChecksummingWriter};
use super::directory;
use super::facets;
use super::header::{FOOTER_KEY, IndexHeader};
use super::layout;
use super::origin::Origin;
use super::partition::{Indexes, OpenPartition};
use super::promotion::Promotion;
use super::promotion::split::Splitter;
use crate::error::FormatError;
use crate::id::{SegmentId, TeamId};
use crate::month::Month;
use crate::span::schema::{REQUEST_ID, SESSION_ID, START_TIME, TEAM_ID, TRACE_ID};

/// A segment could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentWriteError {
    /// Parquet, or the writer below it, failed.
    #[error("write a segment: {0}")]
    Parquet(#[from] ParquetError),
    /// The writer below failed.
    #[error("write a segment: {0}")]
    Io(#[from] std::io::Error),
    /// The rows are not spans, or not in order.
    #[error("write a segment: {0}")]
    Rows(#[from] FormatError),
}

/// What the catalog keeps of a segment, so that opening it needs no Parquet
/// footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The segment.
    pub id: SegmentId,
    /// The month of its rows.
    pub month: Month,
    /// Its rows.
    pub rows: u32,
    /// Its partitions: teams with rows in it.
    pub partitions: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Where the index header stands.
    pub index_offset: u64,
    /// Where the tail begins: page index and Parquet footer.
    pub tail_offset: u64,
    /// CRC32C of the tail.
    pub tail_crc: u32,
    /// Earliest start of a span, ns since 1970.
    pub first_start: i64,
    /// Latest start of a span, ns since 1970.
    pub last_start: i64,
    /// The first of its teams in the order of their bytes; empty when it has
    /// no rows.
    pub first_team: String,
    /// The last of its teams, likewise.
    pub last_team: String,
    /// How many times its rows were merged: 0 for what a seal wrote.
    pub level: u32,
    /// The run that it is part of, named by its first segment: the segments of
    /// a run share no team.
    pub run: SegmentId,
}

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter<W: Write + Send> {
    parquet: ArrowWriter<ChecksummingWriter<W>>,
    id: SegmentId,
    month: Month,
    origin: Origin,
    rows: u32,
    splitter: Splitter,
    facet_columns: Vec<usize>,
    indexes: Indexes,
    open: Option<OpenPartition>,
}

impl<W: Write + Send> SegmentWriter<W> {
    /// Begins a segment whose rows come from `origin`, that goes to `out` and
    /// promotes these keys.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn new(
        out: W,
        id: SegmentId,
        month: Month,
        origin: Origin,
        promotion: Promotion,
    ) -> Result<Self, SegmentWriteError> {
        let options = ArrowWriterOptions::new()
            .with_properties(layout::writer_properties(&promotion))
            // View types are ours; other readers shall see plain texts.
            .with_skip_arrow_metadata(true);
        let out = ChecksummingWriter::new(out);
        Ok(Self {
            parquet: ArrowWriter::try_new_with_options(out, promotion.file_schema(), options)?,
            id,
            month,
            origin,
            rows: 0,
            facet_columns: facets::columns(&promotion),
            splitter: Splitter::new(promotion),
            indexes: Indexes::default(),
            open: None,
        })
    }

    /// Rows so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of the file so far, those of the row group at work included, about.
    pub fn bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    /// Adds rows with the columns of [`schema`](crate::span::schema()), in the
    /// order of a segment ([`order`](super::order)), `trace_start` set.
    ///
    /// # Errors
    /// When the rows are not spans, a team comes out of order, the segment
    /// would exceed 2^32 - 1 rows, or the writer below fails.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentWriteError> {
        let missing = |name: &str| {
            FormatError::malformed("columns", 0, format!("the span column {name}"), "none")
        };
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let texts = |name: &str| {
            column(name)?
                .as_string_view_opt()
                .ok_or_else(|| missing(name))
        };
        let teams = texts(TEAM_ID)?;
        let (sessions, requests) = (texts(SESSION_ID)?, texts(REQUEST_ID)?);
        let traces = column(TRACE_ID)?.as_fixed_size_binary_opt();
        let traces = traces.ok_or_else(|| missing(TRACE_ID))?;
        let starts = column(START_TIME)?.as_primitive_opt::<TimestampNanosecondType>();
        let starts = starts.ok_or_else(|| missing(START_TIME))?;
        let first_row = self.rows;
        let total = u32::try_from(batch.num_rows()).ok();
        let Some(total) = total.and_then(|rows| self.rows.checked_add(rows)) else {
            let found = format!("{} and {} more", self.rows, batch.num_rows());
            return Err(FormatError::malformed("segment", 0, "fewer than 2^32 rows", found).into());
        };
        let split = self.splitter.split(batch)?;
        let mut row = 0;
        while row < batch.num_rows() {
            let team = teams.value(row);
            let start = row;
            let partition = self.partition(team, first_row + row as u32)?;
            while row < batch.num_rows() && teams.value(row) == team {
                let trace = traces.value(row).try_into().unwrap_or_default();
                partition.add_row(trace, starts.value(row));
                row += 1;
            }
            partition.add_ids(sessions, requests, start..row, first_row);
            let slice = split.slice(start, row - start);
            let columns = std::mem::take(&mut self.facet_columns);
            if let Some(partition) = &mut self.open {
                partition.add_strays(self.splitter.strays(start as u32..row as u32));
                partition.add_facets(&slice, first_row + start as u32, &columns);
            }
            self.facet_columns = columns;
        }
        self.parquet.write(&split)?;
        self.rows = total;
        Ok(())
    }

    /// The partition of a team, which the rows from `row` on belong to.
    fn partition(&mut self, team: &str, row: u32) -> Result<&mut OpenPartition, FormatError> {
        let is_open = self
            .open
            .as_ref()
            .is_some_and(|open| open.team.as_str() == team);
        if !is_open {
            let id = TeamId::new(team).map_err(|error| {
                FormatError::malformed("segment", 0, "a team", error.to_string())
            })?;
            if let Some(open) = self.open.take() {
                if open.team >= id {
                    let expected = format!("a team after {}", open.team);
                    return Err(FormatError::malformed("segment", 0, expected, team));
                }
                self.indexes.add(open)?;
            }
            self.open = Some(OpenPartition::new(id.clone(), row));
        }
        self.open
            .as_mut()
            .ok_or_else(|| FormatError::malformed("segment", 0, "a partition", "none"))
    }

    /// Completes the segment: indexes, block checksums, Parquet footer.
    /// Gives the writer below back, flushed but not synced.
    ///
    /// # Errors
    /// When the writer below fails.
    pub fn finish(mut self) -> Result<(W, SegmentSummary), SegmentWriteError> {
        if let Some(open) = self.open.take() {
            self.indexes.add(open)?;
        }
        self.parquet.flush()?;
        // Damage in the last rows shall not reach the directory's block.
        let used = self.parquet.bytes_written() as u64 % BLOCK_BYTES;
        let padding = vec![0; ((BLOCK_BYTES - used) % BLOCK_BYTES) as usize];
        self.parquet.write_all(&padding)?;
        let mut offset = self.parquet.bytes_written() as u64;
        let mut part = |bytes: &[u8], parquet: &mut ArrowWriter<_>| {
            let start = offset;
            offset += bytes.len() as u64;
            parquet.write_all(bytes).map(|()| start..offset)
        };
        let indexes = &self.indexes;
        let parts = [
            part(&directory::encode(&indexes.partitions), &mut self.parquet)?,
            part(&indexes.traces.entries, &mut self.parquet)?,
            part(&indexes.sessions.entries, &mut self.parquet)?,
            part(&indexes.requests.entries, &mut self.parquet)?,
            part(&self.splitter.promotion().encode(), &mut self.parquet)?,
            part(&indexes.facets, &mut self.parquet)?,
            part(&indexes.postings, &mut self.parquet)?,
            part(&self.origin.encode(), &mut self.parquet)?,
        ];
        self.parquet.sync()?;
        let blocks: Vec<u8> = self
            .parquet
            .inner()
            .blocks()
            .iter()
            .flat_map(|block| block.to_le_bytes())
            .collect();
        let header = IndexHeader {
            segment: self.id,
            month: self.month,
            rows: self.rows,
            blocks_crc: crc32c::crc32c(&blocks),
            parts,
        };
        let index_offset = part(&header.encode(), &mut self.parquet)?.start;
        let tail_offset = part(&blocks, &mut self.parquet)?.end;
        self.parquet.sync()?;
        self.parquet.inner_mut().start_tail();
        self.parquet
            .append_key_value_metadata(KeyValue::new(FOOTER_KEY.into(), index_offset.to_string()));
        let partitions = std::mem::take(&mut self.indexes.partitions);
        let (out, bytes, tail_crc) = self.parquet.into_inner()?.finish()?;
        let team = |partition: Option<&directory::Partition>| {
            partition.map_or(String::new(), |one| one.team.as_str().to_owned())
        };
        let starts = |one: &directory::Partition| (one.first_start, one.last_start);
        let (first, last) = partitions
            .iter()
            .map(starts)
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
            .unwrap_or((i64::MAX, i64::MIN));
        let summary = SegmentSummary {
            id: self.id,
            month: self.month,
            rows: self.rows,
            partitions: partitions.len() as u32,
            bytes,
            index_offset,
            tail_offset,
            tail_crc,
            first_start: first,
            last_start: last,
            first_team: team(partitions.first()),
            last_team: team(partitions.last()),
            level: 0,
            run: self.id,
        };
        Ok((out, summary))
    }
}
