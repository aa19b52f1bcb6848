//! Which columns are shown when none were asked for.

use arrow::array::RecordBatch;
use spanstore::query::Rows;
use spanstore_format::span::SpanColumn;
use spanstore_format::table::TableColumn;
use spanstore_format::{requests, sessions, span};

use crate::arguments::Format;
use crate::error::Error;

/// The columns of a span in a table for people.
const OF_SPANS: &[&str] = &[
    "start_time",
    "level",
    "origin",
    "status_code",
    "name",
    "duration",
    "service",
    "trace_id",
];

/// The columns of a request in a table for people.
const OF_REQUESTS: &[&str] = &[
    "start_time",
    "level",
    "method",
    "path",
    "status_code",
    "duration",
    "spans",
    "errors",
    "service",
    "trace_id",
];

/// The columns of a session in a table for people.
const OF_SESSIONS: &[&str] = &[
    "start_time",
    "kind",
    "state",
    "user_id",
    "requests",
    "errors",
    "duration",
    "last_seen",
    "session_id",
];

/// Those that a narrow terminal has no room for, the first of which is left out first.
const LEAST_OF_SPANS: &[&str] = &["origin", "service", "status_code", "level"];
const LEAST_OF_REQUESTS: &[&str] = &[
    "service",
    "spans",
    "method",
    "level",
    "errors",
    "status_code",
];
const LEAST_OF_SESSIONS: &[&str] = &["last_seen", "kind", "duration", "state", "requests"];

/// Columns that a table for people may leave out, in this order.
pub fn least_important(rows: Rows) -> &'static [&'static str] {
    match rows {
        Rows::Spans => LEAST_OF_SPANS,
        Rows::Requests => LEAST_OF_REQUESTS,
        Rows::Sessions => LEAST_OF_SESSIONS,
    }
}

/// The columns of rows in a format: a few in a table, else all but those that only serve
/// the store.
pub fn row_columns(rows: Rows, format: Format) -> Vec<&'static str> {
    let (table, few) = match rows {
        Rows::Spans => (span::table(), OF_SPANS),
        Rows::Requests => (requests::table(), OF_REQUESTS),
        Rows::Sessions => (sessions::table(), OF_SESSIONS),
    };
    if format == Format::Table {
        return few.to_vec();
    }
    let is_shown =
        |column: &&TableColumn| column.is_visible && column.name != SpanColumn::Rest.name();
    let columns = table.columns().iter().filter(is_shown);
    columns.map(|column| column.name).collect()
}

/// The columns of these names, in their order.
///
/// # Errors
/// [`Error::Arrow`] when one is not there.
pub fn pick(batch: &RecordBatch, names: &[&str]) -> Result<RecordBatch, Error> {
    let schema = batch.schema();
    let places = names
        .iter()
        .map(|name| schema.index_of(name))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(batch.project(&places)?)
}
