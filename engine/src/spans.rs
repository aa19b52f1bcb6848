//! Spans that were found: columns, typed rows, or OTLP.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use spanstore_format::otlp::{ExportTraceServiceRequest, Span};
use spanstore_format::span::restore::{SpanColumns, to_otlp};
use spanstore_format::span::{SpanColumn, schema};
use spanstore_format::{FormatError, SpanId, TraceId};

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
        let all = match self.batches.as_slice() {
            [one] => one.clone(),
            several => {
                let all = concat_batches(&schema(), several);
                all.map_err(|error| columns_error("spans", &error))?
            }
        };
        // Those of a trace lie so in a segment.
        if are_by_start(&all).map_err(|error| Error::corrupt("spans", error))? {
            return Ok(Self { batches: vec![all] });
        }
        let keys = [SpanColumn::StartTime, SpanColumn::SpanId]
            .into_iter()
            .map(|column| {
                Ok(SortColumn {
                    values: Arc::clone(column.of(&all)?),
                    options: None,
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::corrupt("spans", error))?;
        let sorted = lexsort_to_indices(&keys, None)
            .and_then(|places| take_record_batch(&all, &places))
            .map_err(|error| columns_error("spans", &error))?;
        Ok(Self {
            batches: vec![sorted],
        })
    }

    /// The spans as columns, see [`SpanColumn`].
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

/// Whether spans come by start, then by span id.
fn are_by_start(spans: &RecordBatch) -> Result<bool, FormatError> {
    let starts = SpanColumn::StartTime.times(spans)?.values();
    let ids = SpanColumn::SpanId.ids(spans)?;
    let starts = starts.iter().enumerate();
    Ok(starts.is_sorted_by_key(|(row, start)| (*start, ids.value(row))))
}

fn typed_row(batch: &RecordBatch, row: usize, otlp: Span) -> Result<SpanRow, Error> {
    let corrupt = |error| Error::corrupt("spans", error);
    let optional = |column: SpanColumn| {
        let texts = column.texts(batch).map_err(corrupt)?;
        Ok::<_, Error>(texts.is_valid(row).then(|| texts.value(row).to_owned()))
    };
    let text = |column: SpanColumn| {
        let texts = column.texts(batch).map_err(corrupt)?;
        Ok::<_, Error>(texts.value(row).to_owned())
    };
    let id = |column: SpanColumn| Ok::<_, Error>(column.ids(batch).map_err(corrupt)?.value(row));
    let parents = SpanColumn::ParentSpanId.ids(batch).map_err(corrupt)?;
    let starts = SpanColumn::StartTime.times(batch).map_err(corrupt)?;
    let durations = SpanColumn::Duration.int64s(batch).map_err(corrupt)?;
    let status_codes = SpanColumn::StatusCode.int32s(batch).map_err(corrupt)?;
    let cold_starts = SpanColumn::ColdStart.booleans(batch).map_err(corrupt)?;
    let parent = parents.is_valid(row).then(|| parents.value(row));
    Ok(SpanRow {
        trace_id: TraceId::from_bytes(id(SpanColumn::TraceId)?)?,
        span_id: SpanId::from_bytes(id(SpanColumn::SpanId)?)?,
        parent_span_id: parent.and_then(|id| SpanId::from_bytes(id).ok()),
        start_nanos: starts.value(row),
        duration_nanos: durations.value(row),
        name: text(SpanColumn::Name)?,
        kind: text(SpanColumn::Kind)?,
        origin: text(SpanColumn::Origin)?,
        status: text(SpanColumn::Status)?,
        level: text(SpanColumn::Level)?,
        session_id: optional(SpanColumn::SessionId)?,
        service: optional(SpanColumn::Service)?,
        route: optional(SpanColumn::Route)?,
        status_code: status_codes.is_valid(row).then(|| status_codes.value(row)),
        cold_start: cold_starts.is_valid(row).then(|| cold_starts.value(row)),
        otlp,
    })
}
