//! Rows as comma-separated values (RFC 4180, lines end with a line feed).

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use spanstore_format::month::rfc3339;

use super::cell::{Cell, Column, shown_name};
use crate::error::Error;

/// Writes the names of the columns.
pub(crate) fn write_header(schema: &Schema, out: &mut impl Write) -> Result<(), Error> {
    let names = schema.fields().iter().filter_map(|field| shown_name(field));
    let mut line = String::new();
    for name in names {
        push(&mut line, name);
    }
    end(line, out)
}

/// Writes the rows of a batch. No value is an empty field, empty text is `""`.
pub(crate) fn write(batch: &RecordBatch, out: &mut impl Write) -> Result<(), Error> {
    let schema = batch.schema();
    let mut columns = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        if shown_name(field).is_some() {
            columns.push(Column::new(field, array)?);
        }
    }
    for row in 0..batch.num_rows() {
        let mut line = String::new();
        for column in &columns {
            match column.cell(row)? {
                Cell::Null => line.push(','),
                Cell::Text(text) => push(&mut line, text),
                Cell::Time(nanos) => push(&mut line, &rfc3339(nanos)),
                Cell::Float(number) => push(&mut line, &number.to_string()),
                Cell::Written(text) => push(&mut line, &text),
                other => push(&mut line, &other.into_json().to_string()),
            }
        }
        end(line, out)?;
    }
    Ok(())
}

/// Appends a field and the comma after it.
fn push(line: &mut String, text: &str) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
    line.push(',');
}

fn end(mut line: String, out: &mut impl Write) -> Result<(), Error> {
    // The comma after the last field.
    line.pop();
    line.push('\n');
    out.write_all(line.as_bytes())?;
    Ok(())
}
