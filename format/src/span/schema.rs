//! The columns of a span, in memory and in a segment.
//!
//! | column | meaning |
//! |---|---|
//! | `team_id` | the tenant |
//! | `trace_id`, `span_id`, `parent_span_id` | OpenTelemetry's ids, 16, 8 and 8 bytes; no parent is null |
//! | `trace_start` | earliest start of the trace among the rows stored together, ns UTC; equal in all its rows |
//! | `start_time` | when the span started, ns UTC |
//! | `duration` | end minus start, ns; 0 when the end lies before the start |
//! | `end_before_start` | true when it did (the end as it came is in `rest`), else null |
//! | `name`, `kind` | the span's name; `unspecified`, `internal`, `server`, `client`, `producer`, `consumer`, or the number of a kind unknown to OpenTelemetry |
//! | `origin` | who made the span: `infra`, `framework`, `user`, `fetch` (see [`origin`](crate::span::origin)) |
//! | `status`, `status_message` | `unset`, `ok`, `error`, or the number of an unknown code; the message is null when the span carried no status at all |
//! | `level` | `info`, `warning`, `error`, `fatal` |
//! | `session_id` … `error_type` | what [`mapping`] finds in the attributes |
//! | `trace_state`, `flags` | OpenTelemetry's |
//! | `scope_name`, `scope_version` | of the instrumentation scope |
//! | `attributes`, `events`, `links`, `rest` | pieces of the OTLP `Span` message, in protobuf: fields 9, 11, 13, and what no column carries. Their concatenation decodes as one `Span` |
//! | `resource_attributes` | the OTLP `Resource` message; null when there was none |
//! | `scope` | the OTLP `InstrumentationScope` message; null when there was none |
//! | `resource_schema_url`, `scope_schema_url` | as they came, null when empty |

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::mapping;

/// Name of the column that holds the tenant.
pub const TEAM_ID: &str = "team_id";
/// Name of the trace id column.
pub const TRACE_ID: &str = "trace_id";
/// Name of the span id column.
pub const SPAN_ID: &str = "span_id";
/// Name of the parent span id column.
pub const PARENT_SPAN_ID: &str = "parent_span_id";
/// Name of the column with the earliest start of the trace.
pub const TRACE_START: &str = "trace_start";
/// Name of the start time column.
pub const START_TIME: &str = "start_time";
/// Name of the duration column.
pub const DURATION: &str = "duration";
/// Name of the mark for spans whose end lies before their start.
pub const END_BEFORE_START: &str = "end_before_start";
/// Name of the span name column.
pub const NAME: &str = "name";
/// Name of the span kind column.
pub const KIND: &str = "kind";
/// Name of the column that says who made the span.
pub const ORIGIN: &str = "origin";
/// Name of the status column.
pub const STATUS: &str = "status";
/// Name of the status message column.
pub const STATUS_MESSAGE: &str = "status_message";
/// Name of the level column.
pub const LEVEL: &str = "level";
/// Name of the session id column.
pub const SESSION_ID: &str = "session_id";
/// Name of the request id column.
pub const REQUEST_ID: &str = "request_id";
/// Name of the HTTP status code column.
pub const STATUS_CODE: &str = "status_code";
/// Name of the cold start column.
pub const COLD_START: &str = "cold_start";
/// Name of the W3C trace state column.
pub const TRACE_STATE: &str = "trace_state";
/// Name of the flags column.
pub const FLAGS: &str = "flags";
/// Name of the instrumentation scope's name column.
pub const SCOPE_NAME: &str = "scope_name";
/// Name of the instrumentation scope's version column.
pub const SCOPE_VERSION: &str = "scope_version";
/// Name of the span attributes column.
pub const ATTRIBUTES: &str = "attributes";
/// Name of the resource column (attributes and dropped count).
pub const RESOURCE_ATTRIBUTES: &str = "resource_attributes";
/// Name of the instrumentation scope column.
pub const SCOPE: &str = "scope";
/// Name of the column with the resource's schema URL.
pub const RESOURCE_SCHEMA_URL: &str = "resource_schema_url";
/// Name of the column with the scope's schema URL.
pub const SCOPE_SCHEMA_URL: &str = "scope_schema_url";
/// Name of the events column.
pub const EVENTS: &str = "events";
/// Name of the links column.
pub const LINKS: &str = "links";
/// Name of the column with what no other column carries.
pub const REST: &str = "rest";

/// Columns that queries do not see: the tenant, which is not theirs to ask,
/// and what changes when rows move to another segment.
pub const INTERNAL: [&str; 2] = [TEAM_ID, TRACE_START];

/// Nanoseconds since 1970, UTC.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::from("UTC")))
}

/// The columns of a span in their order: the schema of every batch of rows
/// that goes into the store or comes out of it whole.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = DataType::Utf8View;
        let bytes = DataType::BinaryView;
        let mut fields = vec![
            Field::new(TEAM_ID, text.clone(), false),
            Field::new(TRACE_ID, DataType::FixedSizeBinary(16), false),
            Field::new(SPAN_ID, DataType::FixedSizeBinary(8), false),
            Field::new(PARENT_SPAN_ID, DataType::FixedSizeBinary(8), true),
            Field::new(TRACE_START, time_type(), false),
            Field::new(START_TIME, time_type(), false),
            Field::new(DURATION, DataType::Int64, false),
            Field::new(END_BEFORE_START, DataType::Boolean, true),
            Field::new(NAME, text.clone(), false),
            Field::new(KIND, text.clone(), false),
            Field::new(ORIGIN, text.clone(), false),
            Field::new(STATUS, text.clone(), false),
            Field::new(STATUS_MESSAGE, text.clone(), true),
            Field::new(LEVEL, text.clone(), false),
        ];
        fields.extend(mapping::COLUMNS.iter().map(|column| {
            let data_type = match column.value {
                mapping::ValueKind::Integer => DataType::Int32,
                mapping::ValueKind::Boolean => DataType::Boolean,
                _ => text.clone(),
            };
            Field::new(column.name, data_type, true)
        }));
        fields.extend([
            Field::new(TRACE_STATE, text.clone(), true),
            Field::new(FLAGS, DataType::UInt32, false),
            Field::new(SCOPE_NAME, text.clone(), true),
            Field::new(SCOPE_VERSION, text.clone(), true),
            Field::new(ATTRIBUTES, bytes.clone(), true),
            Field::new(RESOURCE_ATTRIBUTES, bytes.clone(), true),
            Field::new(SCOPE, bytes.clone(), true),
            Field::new(RESOURCE_SCHEMA_URL, text.clone(), true),
            Field::new(SCOPE_SCHEMA_URL, text, true),
            Field::new(EVENTS, bytes.clone(), true),
            Field::new(LINKS, bytes.clone(), true),
            Field::new(REST, bytes, true),
        ]);
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let schema = schema();
        let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
