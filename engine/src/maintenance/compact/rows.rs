//! Rows on their way from merged segments into a new one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::jobs::{Caller, Workers};
use spanstore_format::segment::layout::order::{CHUNK_ROWS, OrderedRow, Place, gather, order};
use spanstore_format::segment::promotion::moving::SplitRows;
use spanstore_format::segment::{Column, RowBatches};
use spanstore_format::span::{SpanColumn, table};

use crate::error::Error;
use crate::read::scan::{columns_error, damaged};
use crate::segment::Segment;
use crate::segment_file::SegmentFile;

/// A team's rows in one input.
pub(super) struct Part {
    pub(super) input: usize,
    pub(super) rows: Range<u32>,
    pub(super) hidden: RoaringBitmap,
}

impl Part {
    pub(super) fn rows(&self) -> u64 {
        u64::from(self.rows.end - self.rows.start)
    }
}

/// The rows of a trace in one input.
pub(super) struct TraceRun {
    pub(super) trace_start: i64,
    pub(super) trace_id: [u8; 16],
    pub(super) rows: Range<u32>,
    pub(super) input: u32,
}

/// Adds the traces of a part.
pub(super) fn trace_runs(
    segment: &Segment,
    part: &Part,
    runs: &mut Vec<TraceRun>,
) -> Result<(), Error> {
    // A trace begins where what stays of it does.
    let columns = [SpanColumn::TraceId, SpanColumn::StartTime].map(Column::from);
    let reader = segment.row_reader()?;
    let batches = reader
        .read(std::slice::from_ref(&part.rows), &columns, CHUNK_ROWS)
        .map_err(|error| segment.corrupt(error))?;
    let mut row = part.rows.start;
    for batch in batches {
        let batch = batch.map_err(|error| damaged(segment, &error))?;
        let columns = SpanColumn::TraceId
            .ids(&batch)
            .and_then(|ids| Ok((ids, SpanColumn::StartTime.times(&batch)?)));
        let (ids, starts) = columns.map_err(|error| segment.corrupt(error))?;
        for (place, start) in starts.values().iter().enumerate() {
            let trace_id: [u8; 16] = ids.value(place).try_into().unwrap_or_default();
            if part.hidden.contains(row) {
                row += 1;
                continue;
            }
            match runs.last_mut() {
                Some(run)
                    if run.trace_id == trace_id && run.rows.end == row && row > part.rows.start =>
                {
                    run.rows.end += 1;
                    run.trace_start = run.trace_start.min(*start);
                }
                _ => runs.push(TraceRun {
                    trace_start: *start,
                    trace_id,
                    rows: row..row + 1,
                    input: part.input as u32,
                }),
            }
            row += 1;
        }
    }
    Ok(())
}

/// All columns of some rows.
pub(super) fn read(
    segment: &Segment,
    rows: &[Range<u32>],
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let columns = Column::all(table());
    let reader = segment.row_reader()?;
    let batches = reader.read(rows, &columns, CHUNK_ROWS);
    whole_batches(segment, batches)
}

/// Some rows on their way into another segment.
pub(super) fn read_split(
    segment: &Segment,
    rows: &[Range<u32>],
    split: &Arc<SplitRows>,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let reader = segment.row_reader()?;
    let batches = reader.read_split(rows, split, CHUNK_ROWS);
    whole_batches(segment, batches)
}

fn whole_batches(
    segment: &Segment,
    batches: Result<RowBatches, FormatError>,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let batches = batches.map_err(|error| segment.corrupt(error))?;
    Ok(batches.map(move |batch| batch.map_err(|error| damaged(segment, &error))))
}

/// Reads an input from its beginning to its end.
pub(super) struct Cursor<'a> {
    segment: &'a Segment,
    split: &'a Arc<SplitRows>,
    /// Rows that were read and not taken, and the number of their first.
    buffer: Option<(u32, RecordBatch)>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(segment: &'a Segment, split: &'a Arc<SplitRows>) -> Self {
        Self {
            segment,
            split,
            buffer: None,
        }
    }

    /// Adds the visible rows of a part.
    pub(super) fn take(&mut self, part: &Part, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        let mut row = part.rows.start;
        while row < part.rows.end {
            let (first, buffer) = match &self.buffer {
                Some((first, buffer))
                    if *first <= row && row < *first + buffer.num_rows() as u32 =>
                {
                    (*first, buffer.clone())
                }
                _ => {
                    let end = self.segment.summary().rows.min(row + CHUNK_ROWS as u32);
                    let stretch = row..end;
                    let stretch = std::slice::from_ref(&stretch);
                    let next = read_split(self.segment, stretch, self.split)?.next();
                    let Some(batch) = next.transpose()? else {
                        let expected = format!("rows from {row} on");
                        let error = FormatError::malformed("rows", 0, expected, "none");
                        return Err(self.segment.corrupt(error));
                    };
                    self.buffer = Some((row, batch.clone()));
                    (row, batch)
                }
            };
            let offset = (row - first) as usize;
            let count = (buffer.num_rows() - offset).min((part.rows.end - row) as usize);
            let rows = buffer.slice(offset, count);
            pieces.push(if part.hidden.is_empty() {
                Piece {
                    rows,
                    source: Some(((part.input, first), buffer, offset)),
                }
            } else {
                let is_seen = (row..row + count as u32).map(|row| Some(!part.hidden.contains(row)));
                let rows = filter_record_batch(&rows, &is_seen.collect());
                Piece::whole(rows.map_err(|error| columns_error("rows", &error))?)
            });
            row += count as u32;
        }
        Ok(())
    }
}

/// Some rows of one team.
pub(super) struct Piece {
    rows: RecordBatch,
    /// The larger batch that they are a slice of: its input and first row, the
    /// batch, and where the slice begins.
    source: Option<((usize, u32), RecordBatch, usize)>,
}

impl Piece {
    pub(super) fn whole(rows: RecordBatch) -> Self {
        Self { rows, source: None }
    }
}

/// Rows in the order of the segment that are too few to be written alone.
pub(super) struct Waiting<'a> {
    split: &'a SplitRows,
    workers: &'a dyn Workers,
    batches: Vec<RecordBatch>,
    /// Places in `batches` of those that many teams have rows in.
    shared: HashMap<(usize, u32), usize>,
    rows: Vec<OrderedRow>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(split: &'a SplitRows, workers: &'a dyn Workers) -> Self {
        Self {
            split,
            workers,
            batches: Vec::new(),
            shared: HashMap::new(),
            rows: Vec::new(),
        }
    }

    /// Adds whole traces of one team; answers how many rows are kept: spans
    /// that are there twice with the same content are kept once.
    pub(super) fn add(&mut self, pieces: Vec<Piece>, out: &mut SegmentFile) -> Result<u64, Error> {
        let corrupt = |error| Error::corrupt("rows to merge", error);
        let batches: Vec<RecordBatch> = pieces.iter().map(|piece| piece.rows.clone()).collect();
        let kept = order(&batches).and_then(|rows| distinct(self.split, &batches, rows));
        let kept = kept.map_err(corrupt)?;
        let count = kept.len() as u64;
        let places: Vec<(usize, usize)> = pieces
            .into_iter()
            .map(|piece| {
                let next = self.batches.len();
                match piece.source {
                    None => {
                        self.batches.push(piece.rows);
                        (next, 0)
                    }
                    Some((key, batch, offset)) => {
                        let place = *self.shared.entry(key).or_insert(next);
                        if place == next {
                            self.batches.push(batch);
                        }
                        (place, offset)
                    }
                }
            })
            .collect();
        self.rows.extend(kept.into_iter().filter_map(|mut row| {
            let (batch, offset) = *places.get(row.place.batch)?;
            row.place = Place {
                batch,
                row: row.place.row + offset,
            };
            Some(row)
        }));
        if self.rows.len() >= CHUNK_ROWS {
            self.flush(out)?;
        }
        Ok(count)
    }

    pub(super) fn flush(&mut self, out: &mut SegmentFile) -> Result<(), Error> {
        for chunk in self.rows.chunks(CHUNK_ROWS) {
            let batch = gather(&self.batches, chunk, self.workers);
            out.write_split(&batch.map_err(|error| Error::corrupt("rows to merge", error))?)?;
        }
        self.rows.clear();
        self.shared.clear();
        self.batches.clear();
        Ok(())
    }
}

/// A column of bytes or texts as numbers, equal ones for equal values: each value is
/// looked at once, however many rows share it.
fn coded(column: &ArrayRef) -> ArrayRef {
    fn codes<'a>(views: &[u128], value: impl Fn(usize) -> Option<&'a [u8]>) -> ArrayRef {
        let mut codes: HashMap<&[u8], u32> = HashMap::new();
        let mut seen: HashMap<u128, u32> = HashMap::new();
        let rows = views.iter().enumerate().map(|(row, view)| {
            let value = value(row)?;
            Some(*seen.entry(*view).or_insert_with(|| {
                let next = codes.len() as u32;
                *codes.entry(value).or_insert(next)
            }))
        });
        Arc::new(rows.collect::<UInt32Array>())
    }
    if let Some(bytes) = column.as_binary_view_opt() {
        codes(bytes.views(), |row| {
            bytes.is_valid(row).then(|| bytes.value(row))
        })
    } else if let Some(texts) = column.as_string_view_opt() {
        codes(texts.views(), |row| {
            texts.is_valid(row).then(|| texts.value(row).as_bytes())
        })
    } else {
        Arc::clone(column)
    }
}

/// Leaves out rows of the same span with the same content. Their order brings
/// the same ids together.
fn distinct(
    split: &SplitRows,
    batches: &[RecordBatch],
    mut rows: Vec<OrderedRow>,
) -> Result<Vec<OrderedRow>, FormatError> {
    let is_same_span = |one: &OrderedRow, other: &OrderedRow| {
        one.trace_id == other.trace_id && one.start == other.start && one.span_id == other.span_id
    };
    let spans = rows.chunk_by(is_same_span).filter(|span| span.len() > 1);
    let candidates: Vec<OrderedRow> = spans.flatten().copied().collect();
    if candidates.is_empty() {
        return Ok(rows);
    }
    // As bytes, and looked up by hash: there may be any number of versions. When a
    // copy was accepted is no part of its content: the first one stays.
    let converted = split.whole(&gather(batches, &candidates, &Caller)?)?;
    let malformed = |error: ArrowError| {
        FormatError::malformed("columns", 0, "the columns of spans", error.to_string())
    };
    let sequences = SpanColumn::Sequence.int64s(&converted)?;
    let of_content = SpanColumn::ALL
        .iter()
        .filter(|column| **column != SpanColumn::Sequence);
    let columns: Vec<ArrayRef> = of_content
        .map(|column| column.of(&converted).map(coded))
        .collect::<Result<_, _>>()?;
    let fields = columns
        .iter()
        .map(|column| SortField::new(column.data_type().clone()));
    let contents = RowConverter::new(fields.collect())
        .and_then(|converter| converter.convert_columns(&columns))
        .map_err(malformed)?;
    // The first one of each content: its sequence and its place.
    let mut first: HashMap<&[u8], (i64, Place)> = HashMap::with_capacity(candidates.len());
    let mut copies: HashSet<Place> = HashSet::new();
    for ((row, content), sequence) in candidates.iter().zip(&contents).zip(sequences.values()) {
        let this = (*sequence, row.place);
        let kept = first.entry(content.data()).or_insert(this);
        if *kept != this {
            let (earlier, later) = (this.min(*kept), this.max(*kept));
            *kept = earlier;
            copies.insert(later.1);
        }
    }
    rows.retain(|row| !copies.contains(&row.place));
    Ok(rows)
}
