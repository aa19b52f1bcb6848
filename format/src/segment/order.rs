//! The order of rows in a segment: by team; within a team trace after trace,
//! those with the earliest start first; within a trace by start.
//!
//! So a trace is one run of rows, and the rows are still almost in the order
//! of time.

use std::collections::HashMap;

use arrow::array::{AsArray, FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::TimestampNanosecondType;

use crate::error::FormatError;
use crate::span::schema::{SPAN_ID, START_TIME, TRACE_ID};

/// A row's place: the batch it comes from and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        let missing = |name: &str| {
            FormatError::malformed("columns", 0, format!("the span column {name}"), "none such")
        };
        let ids = |name| {
            batch
                .column_by_name(name)
                .and_then(|column| column.as_fixed_size_binary_opt())
                .ok_or_else(|| missing(name))
        };
        let start = batch
            .column_by_name(START_TIME)
            .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
            .ok_or_else(|| missing(START_TIME))?;
        Ok(Self {
            trace_id: ids(TRACE_ID)?,
            span_id: ids(SPAN_ID)?,
            start,
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
    rows.sort_unstable();
    Ok(rows)
}
