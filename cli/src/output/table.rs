//! Rows as a table for people.

use std::io::Write;

use arrow::array::RecordBatch;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::cell::{Cell, Column};
use crate::error::Error;
use crate::time;
use crate::tree::shorten;

/// Longest text in a cell, in characters.
const CELL_WIDTH: usize = 48;

/// Writes batches of the same columns as one table.
pub(crate) fn write(batches: &[RecordBatch], out: &mut impl Write) -> Result<(), Error> {
    let Some(first) = batches.first() else {
        return Ok(());
    };
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(first.schema().fields().iter().map(|field| field.name()));
    for batch in batches {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Column::new(field, array))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.cell(row).map(written));
            table.add_row(cells.collect::<Result<Vec<_>, _>>()?);
        }
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// A value as a table shows it.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) is_right: bool,
}

impl Shown {
    /// One that stands on the left.
    pub(super) fn left(text: &str) -> Self {
        Self {
            text: shorten(text, CELL_WIDTH),
            is_right: false,
        }
    }

    fn right(text: String) -> Self {
        Self {
            text,
            is_right: true,
        }
    }
}

/// How a table shows a value.
pub(super) fn shown(cell: Cell<'_>) -> Shown {
    match cell {
        Cell::Null => Shown::left(""),
        Cell::Text(text) => Shown::left(text),
        Cell::Written(text) => Shown::left(&text),
        Cell::Boolean(truth) => Shown::left(if truth { "true" } else { "false" }),
        Cell::Integer(number) => Shown::right(number.to_string()),
        Cell::Unsigned(number) => Shown::right(number.to_string()),
        Cell::Float(number) => Shown::right(number.to_string()),
        Cell::Time(nanos) => Shown::left(&time::short(nanos)),
        Cell::Duration(nanos) => Shown::right(time::humanise(nanos)),
        Cell::Message(Value::Array(elements)) if elements.is_empty() => Shown::left(""),
        Cell::Message(value) => Shown::left(&value.to_string()),
    }
}

fn written(cell: Cell<'_>) -> comfy_table::Cell {
    let shown = shown(cell);
    let cell = comfy_table::Cell::new(shown.text);
    if shown.is_right {
        cell.set_alignment(CellAlignment::Right)
    } else {
        cell
    }
}
