//! Rows as JSON, one object a line.

use std::io::Write;

use arrow::array::RecordBatch;
use serde_json::{Map, Value};

use super::cell::{Column, shown_name};
use crate::error::Error;

/// The rows of a batch as objects. Every object has every key; null stands
/// where there is no value.
///
/// # Errors
/// [`Error::Arrow`] when a value cannot be written.
pub fn objects(
    batch: &RecordBatch,
) -> Result<impl Iterator<Item = Result<Map<String, Value>, Error>>, Error> {
    let schema = batch.schema();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        if let Some(name) = shown_name(field) {
            columns.push((name.to_owned(), Column::new(field, array)?));
        }
    }
    Ok((0..batch.num_rows()).map(move |row| {
        let entry =
            |(name, column): &(String, Column)| Ok((name.clone(), column.cell(row)?.into_json()));
        columns.iter().map(entry).collect()
    }))
}

/// Writes the rows of a batch, one object a line.
pub(crate) fn write(batch: &RecordBatch, out: &mut impl Write) -> Result<(), Error> {
    let mut line = Vec::new();
    for object in objects(batch)? {
        line.clear();
        serde_json::to_writer(&mut line, &object?).map_err(std::io::Error::from)?;
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}
