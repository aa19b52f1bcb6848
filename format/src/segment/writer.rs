//! Writes a segment: partitions in, a Parquet file with its indexes out.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::interleave_record_batch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use roaring::RoaringBitmap;

use super::checksum::{BLOCK_BYTES, ChecksummingWriter};
use super::directory::{self, Partition};
use super::header::{FOOTER_KEY, IndexHeader};
use super::key_index::{self, Key};
use super::layout;
use super::order::{OrderedRow, order};
use crate::error::FormatError;
use crate::id::{SegmentId, TeamId};
use crate::month::Month;
use crate::span::schema::{SESSION_ID, TRACE_START, schema};

/// Rows that are put together at a time.
const CHUNK_ROWS: usize = 8_192;

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
    /// The rows are not spans.
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
}

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter<W: Write + Send> {
    parquet: ArrowWriter<ChecksummingWriter<W>>,
    id: SegmentId,
    month: Month,
    rows: u32,
    partitions: Vec<Partition>,
    traces: Vec<u8>,
    sessions: Vec<u8>,
    postings: Vec<u8>,
    trace_entries: u32,
    session_entries: u32,
}

impl<W: Write + Send> SegmentWriter<W> {
    /// Begins a segment that goes to `out`.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn new(out: W, id: SegmentId, month: Month) -> Result<Self, SegmentWriteError> {
        let options = ArrowWriterOptions::new()
            .with_properties(layout::writer_properties())
            // View types are ours; other readers shall see plain texts.
            .with_skip_arrow_metadata(true);
        let out = ChecksummingWriter::new(out);
        Ok(Self {
            parquet: ArrowWriter::try_new_with_options(out, schema(), options)?,
            id,
            month,
            rows: 0,
            partitions: Vec::new(),
            traces: Vec::new(),
            sessions: Vec::new(),
            postings: Vec::new(),
            trace_entries: 0,
            session_entries: 0,
        })
    }

    /// Adds all rows of one team; teams come in the order of their bytes.
    /// `batches` have the columns of [`schema`] and may be in any order.
    ///
    /// # Errors
    /// When the rows are not spans, a team comes out of order, the segment
    /// would exceed 2^32 - 1 rows, or the writer below fails.
    pub fn write_partition(
        &mut self,
        team: &TeamId,
        batches: &[RecordBatch],
    ) -> Result<(), SegmentWriteError> {
        if let Some(last) = self.partitions.last()
            && last.team >= *team
        {
            let expected = format!("a team after {}", last.team);
            return Err(FormatError::malformed("segment", 0, expected, team.as_str()).into());
        }
        let ordered = order(batches)?;
        let total = u32::try_from(ordered.len())
            .ok()
            .and_then(|rows| self.rows.checked_add(rows));
        if total.is_none() {
            let found = format!("{} and {} more", self.rows, ordered.len());
            return Err(FormatError::malformed("segment", 0, "fewer than 2^32 rows", found).into());
        }
        let first_row = self.rows;
        let mut sessions: HashMap<Key, RoaringBitmap> = HashMap::new();
        for chunk in ordered.chunks(CHUNK_ROWS) {
            let batch = gather(batches, chunk)?;
            note_sessions(&batch, self.rows, &mut sessions)?;
            self.parquet.write(&batch)?;
            self.rows += chunk.len() as u32;
        }
        if first_row == self.rows {
            return Ok(());
        }
        let traces = self.index_traces(&ordered, first_row);
        let sessions = self.index_sessions(sessions)?;
        let starts = || ordered.iter().map(|row| row.start);
        self.partitions.push(Partition {
            team: team.clone(),
            rows: first_row..self.rows,
            traces,
            sessions,
            first_start: starts().min().unwrap_or(i64::MAX),
            last_start: starts().max().unwrap_or(i64::MIN),
        });
        Ok(())
    }

    fn index_traces(&mut self, ordered: &[OrderedRow], first_row: u32) -> Range<u32> {
        let mut row = first_row;
        let mut runs: Vec<(Key, Range<u32>)> = ordered
            .chunk_by(|one, next| one.trace_id == next.trace_id)
            .filter_map(|trace| {
                let start = row;
                row += trace.len() as u32;
                trace.first().map(|first| (first.trace_id, start..row))
            })
            .collect();
        runs.sort_unstable_by_key(|(key, _)| *key);
        for (key, run) in &runs {
            key_index::put_run(key, run.clone(), &mut self.traces);
        }
        let start = self.trace_entries;
        self.trace_entries += runs.len() as u32;
        start..self.trace_entries
    }

    fn index_sessions(
        &mut self,
        sessions: HashMap<Key, RoaringBitmap>,
    ) -> Result<Range<u32>, FormatError> {
        let mut sessions: Vec<_> = sessions.into_iter().collect();
        sessions.sort_unstable_by_key(|(key, _)| *key);
        for (key, rows) in &mut sessions {
            key_index::put_rows(key, rows, &mut self.sessions, &mut self.postings)?;
        }
        let start = self.session_entries;
        self.session_entries += sessions.len() as u32;
        Ok(start..self.session_entries)
    }

    /// Completes the segment: indexes, block checksums, Parquet footer.
    /// Gives the writer below back, flushed but not synced.
    ///
    /// # Errors
    /// When the writer below fails.
    pub fn finish(mut self) -> Result<(W, SegmentSummary), SegmentWriteError> {
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
        let directory = part(&directory::encode(&self.partitions), &mut self.parquet)?;
        let traces = part(&self.traces, &mut self.parquet)?;
        let sessions = part(&self.sessions, &mut self.parquet)?;
        let postings = part(&self.postings, &mut self.parquet)?;
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
            directory,
            traces,
            sessions,
            postings,
            blocks_crc: crc32c::crc32c(&blocks),
        };
        let index_offset = part(&header.encode(), &mut self.parquet)?.start;
        let tail_offset = part(&blocks, &mut self.parquet)?.end;
        self.parquet.sync()?;
        self.parquet.inner_mut().start_tail();
        self.parquet
            .append_key_value_metadata(KeyValue::new(FOOTER_KEY.into(), index_offset.to_string()));
        let starts = self.partitions.iter();
        let summary = SegmentSummary {
            id: self.id,
            month: self.month,
            rows: self.rows,
            partitions: self.partitions.len() as u32,
            bytes: 0,
            index_offset,
            tail_offset,
            tail_crc: 0,
            first_start: starts
                .clone()
                .map(|one| one.first_start)
                .min()
                .unwrap_or(i64::MAX),
            last_start: starts.map(|one| one.last_start).max().unwrap_or(i64::MIN),
        };
        let (out, bytes, tail_crc) = self.parquet.into_inner()?.finish();
        Ok((
            out,
            SegmentSummary {
                bytes,
                tail_crc,
                ..summary
            },
        ))
    }
}

/// Puts the rows of a chunk together and sets their `trace_start`.
fn gather(batches: &[RecordBatch], chunk: &[OrderedRow]) -> Result<RecordBatch, SegmentWriteError> {
    // Only the batches that the chunk takes from: their buffers are carried along.
    let mut used: Vec<usize> = chunk.iter().map(|row| row.place.batch).collect();
    used.sort_unstable();
    used.dedup();
    let sources: Vec<&RecordBatch> = used
        .iter()
        .filter_map(|batch| batches.get(*batch))
        .collect();
    let places: Vec<(usize, usize)> = chunk
        .iter()
        .map(|row| {
            (
                used.binary_search(&row.place.batch).unwrap_or_default(),
                row.place.row,
            )
        })
        .collect();
    let batch = interleave_record_batch(&sources, &places).map_err(ParquetError::from)?;
    let starts =
        TimestampNanosecondArray::from_iter_values(chunk.iter().map(|row| row.trace_start));
    let starts: ArrayRef = Arc::new(starts.with_timezone("UTC"));
    let (schema, mut columns, _) = batch.into_parts();
    let place = schema.index_of(TRACE_START).map_err(ParquetError::from)?;
    if let Some(column) = columns.get_mut(place) {
        *column = starts;
    }
    Ok(RecordBatch::try_new(schema, columns).map_err(ParquetError::from)?)
}

fn note_sessions(
    batch: &RecordBatch,
    first_row: u32,
    sessions: &mut HashMap<Key, RoaringBitmap>,
) -> Result<(), FormatError> {
    let column = batch
        .column_by_name(SESSION_ID)
        .and_then(|column| column.as_string_view_opt())
        .ok_or_else(|| {
            FormatError::malformed("columns", 0, "the span column session_id", "none")
        })?;
    for (session, row) in column.iter().zip(first_row..) {
        if let Some(session) = session {
            sessions
                .entry(key_index::session_key(session))
                .or_default()
                .insert(row);
        }
    }
    Ok(())
}
