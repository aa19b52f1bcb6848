//! Requests as other programs read them.
//!
//! The columns are those of [`RequestColumn`] that queries see, and the team: ids and times as
//! those of spans, `services` and `resources` as lists of texts, never null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampNanosecondType};

use super::schema::{id_type, time_type};
use super::{InterchangeOptions, columns_error, ids, texts, times};
use crate::error::FormatError;
use crate::requests::RequestColumn;
use crate::table::ColumnType;

/// The columns in their order.
pub fn requests_schema(options: InterchangeOptions) -> SchemaRef {
    let fields = columns().map(|column| {
        let stored = column.description();
        let data_type = match stored.value {
            _ if is_list(column) => DataType::List(element()),
            ColumnType::Text => DataType::Utf8,
            ColumnType::Id(bytes) => id_type(options.ids, i32::from(bytes)),
            ColumnType::Time => time_type(options.times),
            other => other.data_type(),
        };
        Field::new(column.name(), data_type, stored.is_nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The names of the columns of requests that [`requests`] needs; the team stands in front of
/// them.
pub fn requests_columns() -> impl Iterator<Item = &'static str> {
    columns().skip(1).map(RequestColumn::name)
}

/// Rows of a team with [`requests_columns`] as rows with the columns of [`requests_schema`].
///
/// # Errors
/// [`FormatError::Malformed`] when a column is missing or of another type, a list is no JSON,
/// or a column would have 2 GiB.
pub fn requests(
    team: &str,
    rows: &RecordBatch,
    options: InterchangeOptions,
) -> Result<RecordBatch, FormatError> {
    let mut converted: Vec<ArrayRef> = Vec::new();
    for column in columns() {
        if column == RequestColumn::TeamId {
            let mut teams = texts::Texts::default();
            (0..rows.num_rows()).try_for_each(|_| teams.append(Some(team)))?;
            converted.push(teams.finish());
            continue;
        }
        let name = column.name();
        let wrong =
            || FormatError::malformed("columns", 0, format!("requests with {name}"), "none");
        let stored = rows.column_by_name(name).ok_or_else(wrong)?;
        converted.push(match column.description().value {
            _ if is_list(column) => lists(stored)?,
            ColumnType::Text => texts::of_views(stored.as_string_view_opt().ok_or_else(wrong)?)?,
            ColumnType::Id(_) => {
                let ids = stored.as_fixed_size_binary_opt().ok_or_else(wrong)?;
                ids::of_stored(ids, options.ids)?
            }
            ColumnType::Time => {
                let stored = stored.as_primitive_opt::<TimestampNanosecondType>();
                times::of_stored(stored.ok_or_else(wrong)?, options.times)
            }
            _ => Arc::clone(stored),
        });
    }
    RecordBatch::try_new(requests_schema(options), converted).map_err(columns_error)
}

fn columns() -> impl Iterator<Item = RequestColumn> {
    let columns = RequestColumn::ALL.iter().copied();
    columns.filter(|column| *column == RequestColumn::TeamId || column.description().is_visible)
}

fn is_list(column: RequestColumn) -> bool {
    matches!(column, RequestColumn::Services | RequestColumn::Resources)
}

fn element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Utf8, false))
}

/// JSON arrays of texts as lists.
fn lists(stored: &ArrayRef) -> Result<ArrayRef, FormatError> {
    let wrong = |found: String| FormatError::malformed("columns", 0, "arrays of texts", found);
    let arrays = stored.as_string_view_opt();
    let arrays = arrays.ok_or_else(|| wrong(stored.data_type().to_string()))?;
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element());
    for array in arrays.iter().flatten() {
        let texts: Vec<String> =
            serde_json::from_str(array).map_err(|error| wrong(error.to_string()))?;
        lists.append_value(texts.into_iter().map(Some));
    }
    Ok(Arc::new(lists.finish()))
}
