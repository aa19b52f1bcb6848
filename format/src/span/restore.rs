//! Columns back into OTLP, equal to what came in.

use arrow::array::{
    Array, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch,
    StringViewArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{Int64Type, TimestampNanosecondType, UInt32Type};
use prost::Message;

use super::columns::{kind_number, status_number};
use super::schema::{
    ATTRIBUTES, DURATION, END_BEFORE_START, EVENTS, FLAGS, KIND, LINKS, NAME, PARENT_SPAN_ID,
    RESOURCE_ATTRIBUTES, RESOURCE_SCHEMA_URL, REST, SCOPE, SCOPE_SCHEMA_URL, SPAN_ID, START_TIME,
    STATUS, STATUS_MESSAGE, TRACE_ID, TRACE_STATE,
};
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
            trace_id: typed(batch, TRACE_ID, AsArray::as_fixed_size_binary_opt)?,
            span_id: typed(batch, SPAN_ID, AsArray::as_fixed_size_binary_opt)?,
            parent_span_id: typed(batch, PARENT_SPAN_ID, AsArray::as_fixed_size_binary_opt)?,
            start_time: typed(
                batch,
                START_TIME,
                AsArray::as_primitive_opt::<TimestampNanosecondType>,
            )?,
            duration: typed(batch, DURATION, AsArray::as_primitive_opt::<Int64Type>)?,
            end_before_start: typed(batch, END_BEFORE_START, AsArray::as_boolean_opt)?,
            name: typed(batch, NAME, AsArray::as_string_view_opt)?,
            kind: typed(batch, KIND, AsArray::as_string_view_opt)?,
            status: typed(batch, STATUS, AsArray::as_string_view_opt)?,
            status_message: typed(batch, STATUS_MESSAGE, AsArray::as_string_view_opt)?,
            trace_state: typed(batch, TRACE_STATE, AsArray::as_string_view_opt)?,
            flags: typed(batch, FLAGS, AsArray::as_primitive_opt::<UInt32Type>)?,
            attributes: typed(batch, ATTRIBUTES, AsArray::as_binary_view_opt)?,
            resource: typed(batch, RESOURCE_ATTRIBUTES, AsArray::as_binary_view_opt)?,
            scope: typed(batch, SCOPE, AsArray::as_binary_view_opt)?,
            resource_schema_url: typed(batch, RESOURCE_SCHEMA_URL, AsArray::as_string_view_opt)?,
            scope_schema_url: typed(batch, SCOPE_SCHEMA_URL, AsArray::as_string_view_opt)?,
            events: typed(batch, EVENTS, AsArray::as_binary_view_opt)?,
            links: typed(batch, LINKS, AsArray::as_binary_view_opt)?,
            rest: typed(batch, REST, AsArray::as_binary_view_opt)?,
        })
    }

    /// The OTLP span of a row.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when a stored piece is not protobuf.
    pub fn span(&self, row: usize) -> Result<Span, FormatError> {
        let mut span = Span::default();
        for (column, name) in [
            (self.attributes, ATTRIBUTES),
            (self.events, EVENTS),
            (self.links, LINKS),
            (self.rest, REST),
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
            .ok_or_else(|| unknown(KIND, row, self.kind.value(row)))?;
        if self.status_message.is_valid(row) {
            let code = status_number(self.status.value(row))
                .ok_or_else(|| unknown(STATUS, row, self.status.value(row)))?;
            span.status = Some(Status {
                message: self.status_message.value(row).to_owned(),
                code,
            });
        }
        text_or_empty(self.trace_state, row).clone_into(&mut span.trace_state);
        span.flags = self.flags.value(row);
        Ok(span)
    }

    /// Whether two rows have the same resource, as a message.
    fn same_resource(&self, row: usize, other: usize) -> bool {
        same(self.resource, row, other)
            && text_or_empty(self.resource_schema_url, row)
                == text_or_empty(self.resource_schema_url, other)
    }

    fn same_scope(&self, row: usize, other: usize) -> bool {
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
                resource: message::<Resource>(columns.resource, RESOURCE_ATTRIBUTES, row)?,
                scope_spans: Vec::new(),
                schema_url: text_or_empty(columns.resource_schema_url, row).to_owned(),
            });
        }
        let Some(resource) = resource_spans.last_mut() else {
            continue;
        };
        if new_resource || !columns.same_scope(row, row - 1) {
            resource.scope_spans.push(ScopeSpans {
                scope: message::<InstrumentationScope>(columns.scope, SCOPE, row)?,
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

fn typed<'a, T>(
    batch: &'a RecordBatch,
    name: &str,
    cast: impl Fn(&'a dyn Array) -> Option<&'a T>,
) -> Result<&'a T, FormatError> {
    let column = batch.column_by_name(name);
    column
        .and_then(|column| cast(column.as_ref()))
        .ok_or_else(|| {
            let found = column.map_or("no such column".into(), |column| {
                column.data_type().to_string()
            });
            FormatError::malformed("columns", 0, format!("the span column {name}"), found)
        })
}

fn message<M: Message + Default>(
    column: &BinaryViewArray,
    name: &str,
    row: usize,
) -> Result<Option<M>, FormatError> {
    if column.is_null(row) {
        return Ok(None);
    }
    M::decode(column.value(row))
        .map(Some)
        .map_err(|error| malformed(name, row, &error))
}

fn malformed(column: &str, row: usize, error: &prost::DecodeError) -> FormatError {
    FormatError::malformed(
        "columns",
        row as u64,
        format!("protobuf in {column}"),
        error.to_string(),
    )
}

fn unknown(column: &str, row: usize, text: &str) -> FormatError {
    FormatError::malformed("columns", row as u64, format!("a known {column}"), text)
}

fn same(column: &BinaryViewArray, row: usize, other: usize) -> bool {
    let value = |row| column.is_valid(row).then(|| column.value(row));
    value(row) == value(other)
}

fn text_or_empty(column: &StringViewArray, row: usize) -> &str {
    if column.is_valid(row) {
        column.value(row)
    } else {
        ""
    }
}
