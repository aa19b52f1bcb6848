//! Spans as other programs read them: plain Arrow types that every reader of Parquet
//! knows, and the same columns for every team and month.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `team_id` | text | the tenant; files of several teams can be read as one table |
//! | `trace_id`, `span_id`, `parent_span_id` | text, or 16, 8 and 8 bytes | lower-case hexadecimal digits unless [bytes](IdForm::Bytes) are asked for; no parent is null |
//! | `start_time`, `end_time` | timestamp, UTC | nanoseconds unless [microseconds](TimePrecision::Microseconds) are asked for; the end as it came, also before the start |
//! | `duration` | int64 | nanoseconds in any case; 0 when the end lies before the start |
//! | `name` … `error_type` | text, int32, bool | as in the [columns of a span](crate::span::SpanColumn) |
//! | `trace_state`, `flags`, `scope_name`, `scope_version` | text, uint32, text, text | likewise |
//! | `attributes`, `resource_attributes`, `scope_attributes` | map of texts | each value as the [text](crate::span::attribute::text) that filters compare; a value that is empty is null |
//! | `attributes_json`, `resource_attributes_json`, `scope_attributes_json` | text | the same as a JSON object with [types](crate::otlp::json::any_value_to_plain_json) |
//! | `resource_schema_url`, `scope_schema_url` | text | null when empty |
//! | `events` | list of structs | `time`, `name`, `attributes`, `attributes_json`, `dropped_attributes_count` |
//! | `links` | list of structs | `trace_id`, `span_id`, `trace_state`, `flags`, `attributes`, `attributes_json`, `dropped_attributes_count` |
//! | `dropped_attributes_count`, `dropped_events_count`, `dropped_links_count` | uint32 | of the span |
//!
//! In JSON, integers have all their digits, bytes are text in base64, an empty value is
//! `null`, and what is not finite is the text `NaN`, `Infinity` or `-Infinity`. Of keys
//! that repeat, the first counts. Maps, JSON texts and lists are never null: what is
//! absent is empty, `{}` in JSON.
//!
//! A time is null when it is 0, which is OTLP's way to say that there is none, and in
//! nanoseconds when it lies beyond the year 2262. Microseconds are cut towards the
//! past. The id of a link is null when it is empty, and as bytes also when it has
//! not the length of an id.

mod attributes;
mod convert;
mod events;
mod ids;
mod links;
mod lists;
mod requests;
mod schema;
#[cfg(test)]
mod tests;
mod texts;
mod times;

use arrow::error::ArrowError;

use crate::error::FormatError;

pub use convert::{convert, pieces};
pub use requests::{requests, requests_columns, requests_schema};
pub use schema::schema;

/// What a reader may choose; the columns are the same in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterchangeOptions {
    /// How ids are written.
    pub ids: IdForm,
    /// How exact times are.
    pub times: TimePrecision,
}

/// How ids are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdForm {
    /// As lower-case hexadecimal digits.
    #[default]
    Hex,
    /// As bytes of a fixed size.
    Bytes,
}

/// How exact times are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimePrecision {
    /// As they came.
    #[default]
    Nanoseconds,
    /// Cut towards the past, for readers that know no nanoseconds.
    Microseconds,
}

/// Columns that do not fit together.
fn columns_error(error: ArrowError) -> FormatError {
    FormatError::malformed("columns", 0, "spans", error.to_string())
}
