//! Spans that were found: columns, typed rows, or OTLP.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use spanstore_format::otlp::{ExportTraceServiceRequest, Span};
use spanstore_format::span::restore::{SpanColumns, to_otlp};
use spanstore_format::span::schema::{
    self, COLD_START, DURATION, KIND, LEVEL, NAME, ORIGIN, SESSION_ID, SPAN_ID, START_TIME, STATUS,
    STATUS_CODE, TRACE_ID,
};
use spanstore_format::{SpanId, TraceId};

use crate::error::Error;
use crate::read::scan::columns_error;

/// Spans of one team, with all their columns.
#[derive(Debug, Clone)]
pub struct Spans {
    batches: Vec<RecordBatch>,
}

/// A span as a value.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRow {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// Its parent, none for a root.
    pub parent_span_id: Option<SpanId>,
    /// Its start, ns since 1970.
    pub start_nanos: i64,
    /// End minus start, ns; 0 when the end lies before the start.
    pub duration_nanos: i64,
    /// Its name.
    pub name: String,
    /// Its kind, such as `server`.
    pub kind: String,
    /// Who made it: `infra`, `framework`, `user` or `fetch`.
    pub origin: String,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// `info`, `warning`, `error` or `fatal`.
    pub level: String,
    /// Its session.
    pub session_id: Option<String>,
    /// Its service.
    pub service: Option<String>,
    /// Its route.
    pub route: Option<String>,
    /// Its HTTP status code.
    pub status_code: Option<i32>,
    /// Whether a function was started for it.
    pub cold_start: Option<bool>,
    /// The span as it came, without resource and scope.
    pub otlp: Span,
}

impl Spans {
    /// Spans as they were read.
    pub(crate) fn new(batches: Vec<RecordBatch>) -> Self {
        Self {
            batches: batches
                .into_iter()
                .filter(|batch| batch.num_rows() > 0)
                .collect(),
        }
    }

    /// The same spans by start, then by span id.
    pub(crate) fn by_start(self) -> Result<Self, Error> {
        if self.batches.is_empty() {
            return Ok(self);
        }
        let all = concat_batches(&schema::schema(), &self.batches);
        let all = all.map_err(|error| columns_error("spans", &error))?;
        let keys: Vec<SortColumn> = [START_TIME, SPAN_ID]
            .into_iter()
            .filter_map(|name| all.column_by_name(name))
            .map(|values| SortColumn {
                values: Arc::clone(values),
                options: None,
            })
            .collect();
        let sorted = lexsort_to_indices(&keys, None)
            .and_then(|places| take_record_batch(&all, &places))
            .map_err(|error| columns_error("spans", &error))?;
        Ok(Self {
            batches: vec![sorted],
        })
    }

    /// The spans as columns, see [`mod@spanstore_format::span::schema`].
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// The spans as columns.
    pub fn into_batches(self) -> Vec<RecordBatch> {
        self.batches
    }

    /// Spans in all.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The spans in OTLP, equal to what came in. Neighbours with the same
    /// resource and scope share it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a stored piece cannot be read.
    pub fn to_otlp(&self) -> Result<ExportTraceServiceRequest, Error> {
        let mut request = ExportTraceServiceRequest::default();
        for batch in &self.batches {
            let part = to_otlp(batch).map_err(|error| Error::corrupt("spans", error))?;
            request.resource_spans.extend(part.resource_spans);
        }
        Ok(request)
    }

    /// The spans as values.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a stored piece cannot be read.
    pub fn rows(&self) -> Result<Vec<SpanRow>, Error> {
        let mut rows = Vec::with_capacity(self.len());
        for batch in &self.batches {
            let columns = SpanColumns::of(batch).map_err(|error| Error::corrupt("spans", error))?;
            for row in 0..batch.num_rows() {
                let otlp = columns
                    .span(row)
                    .map_err(|error| Error::corrupt("spans", error))?;
                rows.push(typed_row(batch, row, otlp)?);
            }
        }
        Ok(rows)
    }
}

fn typed_row(batch: &RecordBatch, row: usize, otlp: Span) -> Result<SpanRow, Error> {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_view_opt()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let id = |name: &str| {
        let column = batch.column_by_name(name)?.as_fixed_size_binary_opt()?;
        column.is_valid(row).then(|| column.value(row))
    };
    let start = batch
        .column_by_name(START_TIME)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    let duration = batch
        .column_by_name(DURATION)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let status_code = batch
        .column_by_name(STATUS_CODE)
        .and_then(|column| column.as_primitive_opt::<Int32Type>())
        .filter(|column| column.is_valid(row));
    let cold_start = batch
        .column_by_name(COLD_START)
        .and_then(|column| column.as_boolean_opt())
        .filter(|column| column.is_valid(row));
    Ok(SpanRow {
        trace_id: TraceId::from_bytes(id(TRACE_ID).unwrap_or_default())?,
        span_id: SpanId::from_bytes(id(SPAN_ID).unwrap_or_default())?,
        parent_span_id: id(schema::PARENT_SPAN_ID).and_then(|id| SpanId::from_bytes(id).ok()),
        start_nanos: start.map_or(0, |column| column.value(row)),
        duration_nanos: duration.map_or(0, |column| column.value(row)),
        name: text(NAME).unwrap_or_default(),
        kind: text(KIND).unwrap_or_default(),
        origin: text(ORIGIN).unwrap_or_default(),
        status: text(STATUS).unwrap_or_default(),
        level: text(LEVEL).unwrap_or_default(),
        session_id: text(SESSION_ID),
        service: text("service"),
        route: text("route"),
        status_code: status_code.map(|column| column.value(row)),
        cold_start: cold_start.map(|column| column.value(row)),
        otlp,
    })
}
