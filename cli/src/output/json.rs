//! Rows as JSON objects.

use std::io::Write;

use arrow::array::RecordBatch;

use super::cell::{Cell, Column, shown_name};
use crate::error::Error;

/// The rows of a batch as JSON objects. Every object has every key; null
/// stands where there is no value.
#[derive(Debug)]
pub struct JsonRows {
    /// What stands before each value: brace or comma, key and colon.
    columns: Vec<(String, Column)>,
    rows: usize,
}

impl JsonRows {
    /// Takes the columns of a batch.
    ///
    /// # Errors
    /// [`Error::Arrow`] when the values of a column cannot be written.
    pub fn new(batch: &RecordBatch) -> Result<Self, Error> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
            if let Some(name) = shown_name(field) {
                let before = if columns.is_empty() { '{' } else { ',' };
                let key = serde_json::Value::from(name);
                columns.push((format!("{before}{key}:"), Column::new(field, array)?));
            }
        }
        Ok(Self {
            columns,
            rows: batch.num_rows(),
        })
    }

    /// Writes each row as an object, with a separator after each but the last.
    ///
    /// # Errors
    /// [`Error::Arrow`] when a value cannot be written, [`Error::Io`] when the
    /// output cannot.
    pub fn write(&self, separator: &str, out: &mut impl Write) -> Result<(), Error> {
        let mut object = Vec::new();
        for row in 0..self.rows {
            object.clear();
            for (before, column) in &self.columns {
                object.extend_from_slice(before.as_bytes());
                push(column.cell(row)?, &mut object)?;
            }
            if self.columns.is_empty() {
                object.push(b'{');
            }
            object.push(b'}');
            if row + 1 < self.rows {
                object.extend_from_slice(separator.as_bytes());
            }
            out.write_all(&object)?;
        }
        Ok(())
    }
}

fn push(cell: Cell<'_>, json: &mut Vec<u8>) -> Result<(), Error> {
    let written = match cell {
        Cell::Text(text) => serde_json::to_writer(json, text),
        other => serde_json::to_writer(json, &other.into_json()),
    };
    Ok(written.map_err(std::io::Error::from)?)
}

/// Writes the rows of a batch, one object a line.
pub(crate) fn write(batch: &RecordBatch, out: &mut impl Write) -> Result<(), Error> {
    JsonRows::new(batch)?.write("\n", out)?;
    if batch.num_rows() > 0 {
        out.write_all(b"\n")?;
    }
    Ok(())
}
