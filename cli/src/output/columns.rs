//! Which columns of a span are shown when none were asked for.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use spanstore_format::span::SpanColumn;

use crate::arguments::Format;
use crate::error::Error;

/// The columns of a table for people.
const TABLE_COLUMNS: &[&str] = &[
    "start_time",
    "level",
    "origin",
    "status_code",
    "name",
    "duration",
    "service",
    "trace_id",
];

/// All columns but those that only serve the store.
static COLUMNS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let is_shown =
        |column: &&SpanColumn| column.description().is_visible && **column != SpanColumn::Rest;
    let columns = SpanColumn::ALL.iter().filter(is_shown);
    columns.map(|column| column.name()).collect()
});

/// The columns of a span in a format: a few in a table, else all but those
/// that only serve the store.
pub fn span_columns(format: Format) -> Vec<&'static str> {
    if format == Format::Table {
        return TABLE_COLUMNS.to_vec();
    }
    COLUMNS.clone()
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
