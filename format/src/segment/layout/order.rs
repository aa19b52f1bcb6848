//! The order of rows in a segment: by team; within a team trace after trace,
//! those with the earliest start first; within a trace by start.
//!
//! So a trace is one run of rows, and the rows are still almost in the order
//! of time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, FixedSizeBinaryArray, MutableArrayData, RecordBatch,
    TimestampNanosecondArray, make_array, new_null_array,
};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::error::FormatError;
use crate::jobs::{Caller, Job, Workers, for_rows};
use crate::segment::layout::encoding::PAGE_ROWS;
use crate::span::SpanColumn;

/// Rows of the batches that are put together: some pages.
pub const CHUNK_ROWS: usize = 6 * PAGE_ROWS;

/// Rows of runs on average from which on they are copied run by run.
const LEAST_RUN_ROWS: usize = 4;

/// A row's place: the batch it comes from and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Number of the batch.
    pub batch: usize,
    /// Number of the row in the batch.
    pub row: usize,
}

/// A row of a partition in the order of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderedRow {
    /// The earliest start among the rows of its trace, ns since 1970.
    pub trace_start: i64,
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its own start, ns since 1970.
    pub start: i64,
    /// Its span.
    pub span_id: [u8; 8],
    /// Where it comes from.
    pub place: Place,
}

/// The columns that order rows.
#[derive(Debug)]
pub struct OrderColumns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    start: &'a TimestampNanosecondArray,
}

impl<'a> OrderColumns<'a> {
    /// Finds the columns in a batch.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when one is missing or has another type.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, FormatError> {
        Ok(Self {
            trace_id: SpanColumn::TraceId.ids(batch)?,
            span_id: SpanColumn::SpanId.ids(batch)?,
            start: SpanColumn::StartTime.times(batch)?,
        })
    }

    /// The trace id of a row.
    pub fn trace_id(&self, row: usize) -> [u8; 16] {
        self.trace_id.value(row).try_into().unwrap_or_default()
    }

    /// The span id of a row.
    pub fn span_id(&self, row: usize) -> [u8; 8] {
        self.span_id.value(row).try_into().unwrap_or_default()
    }

    /// The start of a row, ns since 1970.
    pub fn start(&self, row: usize) -> i64 {
        self.start.value(row)
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.start.len()
    }
}

/// Orders the rows of one partition.
///
/// # Errors
/// [`FormatError::Malformed`] when a batch lacks a column.
pub fn order(batches: &[RecordBatch]) -> Result<Vec<OrderedRow>, FormatError> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    let mut trace_starts: HashMap<[u8; 16], i64> = HashMap::new();
    for (number, batch) in batches.iter().enumerate() {
        let columns = OrderColumns::of(batch)?;
        for row in 0..columns.rows() {
            let (trace_id, start) = (columns.trace_id(row), columns.start(row));
            let trace_start = trace_starts.entry(trace_id).or_insert(start);
            *trace_start = start.min(*trace_start);
            let place = Place { batch: number, row };
            let span_id = columns.span_id(row);
            rows.push(OrderedRow {
                trace_start: 0,
                trace_id,
                start,
                span_id,
                place,
            });
        }
    }
    for row in &mut rows {
        row.trace_start = trace_starts
            .get(&row.trace_id)
            .copied()
            .unwrap_or(row.start);
    }
    // Batches are often in order already: this sort merges what is.
    rows.sort();
    Ok(rows)
}

/// Puts the rows of partitions in the order of a segment, one partition after
/// the other: hands batches of about [`CHUNK_ROWS`] rows, `trace_start` set, to
/// `write`. A batch may hold rows of many partitions.
///
/// # Errors
/// What `write` answers, and [`FormatError::Malformed`] when the rows are not
/// spans.
pub fn arrange<E: From<FormatError>>(
    partitions: impl IntoIterator<Item = Vec<RecordBatch>>,
    mut write: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows: Vec<OrderedRow> = Vec::new();
    for partition in partitions {
        let ordered = order(&partition)?;
        let first = batches.len();
        rows.extend(ordered.into_iter().map(|mut row| {
            row.place.batch += first;
            row
        }));
        batches.extend(partition);
        if rows.len() >= CHUNK_ROWS {
            for chunk in rows.chunks(CHUNK_ROWS) {
                write(&gather(&batches, chunk, &Caller)?)?;
            }
            rows.clear();
            batches.clear();
        }
    }
    for chunk in rows.chunks(CHUNK_ROWS) {
        write(&gather(&batches, chunk, &Caller)?)?;
    }
    Ok(())
}

/// Puts rows together and sets their `trace_start`. The work is shared among `workers`.
///
/// # Errors
/// [`FormatError::Malformed`] when the batches do not have the columns of spans.
pub fn gather(
    batches: &[RecordBatch],
    chunk: &[OrderedRow],
    workers: &dyn Workers,
) -> Result<RecordBatch, FormatError> {
    let malformed = |error: ArrowError| {
        FormatError::malformed("columns", 0, "the columns of spans", error.to_string())
    };
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
    let Some(first) = sources.first() else {
        return Err(FormatError::malformed("rows", 0, "some rows", "none"));
    };
    let runs = runs(&places);
    let mut columns: Vec<Result<ArrayRef, ArrowError>> = Vec::new();
    columns.resize_with(first.num_columns(), || {
        Ok(new_null_array(&DataType::Null, 0))
    });
    let jobs = columns
        .iter_mut()
        .enumerate()
        .map(|(number, column)| -> Job<'_> {
            Box::new({
                let (sources, places, runs) = (&sources, &places, &runs);
                move || *column = pick(sources, number, places, runs)
            })
        });
    for_rows(chunk.len(), workers).work(jobs.collect());
    let columns: Result<Vec<ArrayRef>, ArrowError> = columns.into_iter().collect();
    let mut columns = columns.map_err(malformed)?;
    let starts =
        TimestampNanosecondArray::from_iter_values(chunk.iter().map(|row| row.trace_start));
    if let Some(column) = columns.get_mut(SpanColumn::TraceStart.place()) {
        *column = Arc::new(starts.with_timezone("UTC"));
    }
    RecordBatch::try_new(first.schema(), columns).map_err(malformed)
}

/// Rows that follow each other in one batch: the batch, and their numbers in it.
fn runs(places: &[(usize, usize)]) -> Vec<(usize, Range<usize>)> {
    let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
    for (batch, row) in places {
        match runs.last_mut() {
            Some((last, rows)) if last == batch && rows.end == *row => rows.end += 1,
            _ => runs.push((*batch, *row..*row + 1)),
        }
    }
    runs
}

/// One column of rows, which are given by their places and as runs.
fn pick(
    batches: &[&RecordBatch],
    column: usize,
    places: &[(usize, usize)],
    runs: &[(usize, Range<usize>)],
) -> Result<ArrayRef, ArrowError> {
    let columns = batches.iter().map(|batch| batch.columns().get(column));
    let arrays: Option<Vec<&dyn Array>> = columns.map(|one| Some(one?.as_ref())).collect();
    let arrays =
        arrays.ok_or_else(|| ArrowError::SchemaError("batches have other columns".into()))?;
    if arrays.iter().all(|array| array.null_count() == array.len()) {
        let of_type = arrays
            .first()
            .map_or(&DataType::Null, |array| array.data_type());
        return Ok(new_null_array(of_type, places.len()));
    }
    if runs.len() * LEAST_RUN_ROWS > places.len() {
        return interleave(&arrays, places);
    }
    let data: Vec<ArrayData> = arrays.iter().map(|array| array.to_data()).collect();
    let mut out = MutableArrayData::new(data.iter().collect(), false, places.len());
    for (batch, rows) in runs {
        out.try_extend(*batch, rows.start, rows.end)?;
    }
    Ok(make_array(out.freeze()))
}
