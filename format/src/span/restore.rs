//! Columns back into OTLP, equal to what came in.

use arrow::array::{
    Array, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch,
    StringViewArray, TimestampNanosecondArray, UInt32Array,
};
use prost::Message;

use super::column::SpanColumn;
use super::columns::{kind_number, status_number};
use crate::error::FormatError;
use crate::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Span,
    Status,
};

/// The columns that OTLP is restored from.
#[derive(Debug)]
pub struct SpanColumns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    parent_span_id: &'a FixedSizeBinaryArray,
    start_time: &'a TimestampNanosecondArray,
    duration: &'a Int64Array,
    end_before_start: &'a BooleanArray,
    name: &'a StringViewArray,
    kind: &'a StringViewArray,
    status: &'a StringViewArray,
    status_message: &'a StringViewArray,
    trace_state: &'a StringViewArray,
    flags: &'a UInt32Array,
    attributes: &'a BinaryViewArray,
    resource: &'a BinaryViewArray,
    scope: &'a BinaryViewArray,
    resource_schema_url: &'a StringViewArray,
    scope_schema_url: &'a StringViewArray,
    events: &'a BinaryViewArray,
    links: &'a BinaryViewArray,
    rest: &'a BinaryViewArray,
}

impl<'a> SpanColumns<'a> {
    /// Finds the columns in a batch.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when one is missing or has another type.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, FormatError> {
        Ok(Self {
            trace_id: SpanColumn::TraceId.ids(batch)?,
            span_id: SpanColumn::SpanId.ids(batch)?,
            parent_span_id: SpanColumn::ParentSpanId.ids(batch)?,
            start_time: SpanColumn::StartTime.times(batch)?,
            duration: SpanColumn::Duration.int64s(batch)?,
            end_before_start: SpanColumn::EndBeforeStart.booleans(batch)?,
            name: SpanColumn::Name.texts(batch)?,
            kind: SpanColumn::Kind.texts(batch)?,
            status: SpanColumn::Status.texts(batch)?,
            status_message: SpanColumn::StatusMessage.texts(batch)?,
            trace_state: SpanColumn::TraceState.texts(batch)?,
            flags: SpanColumn::Flags.uint32s(batch)?,
            attributes: SpanColumn::Attributes.bytes(batch)?,
            resource: SpanColumn::ResourceAttributes.bytes(batch)?,
            scope: SpanColumn::Scope.bytes(batch)?,
            resource_schema_url: SpanColumn::ResourceSchemaUrl.texts(batch)?,
            scope_schema_url: SpanColumn::ScopeSchemaUrl.texts(batch)?,
            events: SpanColumn::Events.bytes(batch)?,
            links: SpanColumn::Links.bytes(batch)?,
            rest: SpanColumn::Rest.bytes(batch)?,
        })
    }

    /// The OTLP span of a row.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when a stored piece is not protobuf.
    pub fn span(&self, row: usize) -> Result<Span, FormatError> {
        let mut span = Span::default();
        for (column, name) in [
            (self.attributes, SpanColumn::Attributes),
            (self.events, SpanColumn::Events),
            (self.links, SpanColumn::Links),
            (self.rest, SpanColumn::Rest),
        ] {
            if column.is_valid(row) {
                span.merge(column.value(row))
                    .map_err(|error| malformed(name, row, &error))?;
            }
        }
        span.trace_id = self.trace_id.value(row).to_vec();
        span.span_id = self.span_id.value(row).to_vec();
        if self.parent_span_id.is_valid(row) {
            span.parent_span_id = self.parent_span_id.value(row).to_vec();
        }
        let start = self.start_time.value(row).cast_unsigned();
        span.start_time_unix_nano = start;
        let is_end_in_rest = self.end_before_start.is_valid(row) || span.end_time_unix_nano != 0;
        if !is_end_in_rest {
            span.end_time_unix_nano = start.wrapping_add(self.duration.value(row).cast_unsigned());
        }
        self.name.value(row).clone_into(&mut span.name);
        span.kind = kind_number(self.kind.value(row))
            .ok_or_else(|| unknown(SpanColumn::Kind, row, self.kind.value(row)))?;
        if self.status_message.is_valid(row) {
            let code = status_number(self.status.value(row))
                .ok_or_else(|| unknown(SpanColumn::Status, row, self.status.value(row)))?;
            span.status = Some(Status {
                message: self.status_message.value(row).to_owned(),
                code,
            });
        }
        text_or_empty(self.trace_state, row).clone_into(&mut span.trace_state);
        span.flags = self.flags.value(row);
        Ok(span)
    }

    /// The OTLP resource of a row, if it had one.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when what is stored is not protobuf.
    pub fn resource(&self, row: usize) -> Result<Option<Resource>, FormatError> {
        message(self.resource, SpanColumn::ResourceAttributes, row)
    }

    /// The OTLP instrumentation scope of a row, if it had one.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when what is stored is not protobuf.
    pub fn scope(&self, row: usize) -> Result<Option<InstrumentationScope>, FormatError> {
        message(self.scope, SpanColumn::Scope, row)
    }

    /// Whether two rows have the same resource, as a message.
    pub fn same_resource(&self, row: usize, other: usize) -> bool {
        same(self.resource, row, other)
            && text_or_empty(self.resource_schema_url, row)
                == text_or_empty(self.resource_schema_url, other)
    }

    /// Whether two rows have the same instrumentation scope, as a message.
    pub fn same_scope(&self, row: usize, other: usize) -> bool {
        same(self.scope, row, other)
            && text_or_empty(self.scope_schema_url, row)
                == text_or_empty(self.scope_schema_url, other)
    }
}

/// The rows of a batch as one OTLP request; neighbours with the same resource
/// and scope share it.
///
/// # Errors
/// [`FormatError::Malformed`] when a column is missing or a stored piece is
/// not protobuf.
pub fn to_otlp(batch: &RecordBatch) -> Result<ExportTraceServiceRequest, FormatError> {
    let columns = SpanColumns::of(batch)?;
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    for row in 0..batch.num_rows() {
        let new_resource = row == 0 || !columns.same_resource(row, row - 1);
        if new_resource {
            resource_spans.push(ResourceSpans {
                resource: columns.resource(row)?,
                scope_spans: Vec::new(),
                schema_url: text_or_empty(columns.resource_schema_url, row).to_owned(),
            });
        }
        let Some(resource) = resource_spans.last_mut() else {
            continue;
        };
        if new_resource || !columns.same_scope(row, row - 1) {
            resource.scope_spans.push(ScopeSpans {
                scope: columns.scope(row)?,
                spans: Vec::new(),
                schema_url: text_or_empty(columns.scope_schema_url, row).to_owned(),
            });
        }
        if let Some(scope) = resource.scope_spans.last_mut() {
            scope.spans.push(columns.span(row)?);
        }
    }
    Ok(ExportTraceServiceRequest { resource_spans })
}

fn message<M: Message + Default>(
    column: &BinaryViewArray,
    name: SpanColumn,
    row: usize,
) -> Result<Option<M>, FormatError> {
    if column.is_null(row) {
        return Ok(None);
    }
    M::decode(column.value(row))
        .map(Some)
        .map_err(|error| malformed(name, row, &error))
}

fn malformed(column: SpanColumn, row: usize, error: &prost::DecodeError) -> FormatError {
    FormatError::malformed(
        "columns",
        row as u64,
        format!("protobuf in {}", column.name()),
        error.to_string(),
    )
}

fn unknown(column: SpanColumn, row: usize, text: &str) -> FormatError {
    FormatError::malformed(
        "columns",
        row as u64,
        format!("a known {}", column.name()),
        text,
    )
}

fn same(column: &BinaryViewArray, row: usize, other: usize) -> bool {
    let view = |row: usize| column.is_valid(row).then(|| column.views().get(row));
    let value = |row| column.is_valid(row).then(|| column.value(row));
    // Rows often share the bytes, which then need no look.
    view(row) == view(other) || value(row) == value(other)
}

fn text_or_empty(column: &StringViewArray, row: usize) -> &str {
    if column.is_valid(row) {
        column.value(row)
    } else {
        ""
    }
}
