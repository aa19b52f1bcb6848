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

fn written(cell: Cell<'_>) -> comfy_table::Cell {
    let left = |text: &str| comfy_table::Cell::new(shorten(text, CELL_WIDTH));
    let right = |text: String| comfy_table::Cell::new(text).set_alignment(CellAlignment::Right);
    match cell {
        Cell::Null => left(""),
        Cell::Text(text) => left(text),
        Cell::Written(text) => left(&text),
        Cell::Boolean(truth) => left(if truth { "true" } else { "false" }),
        Cell::Integer(number) => right(number.to_string()),
        Cell::Unsigned(number) => right(number.to_string()),
        Cell::Float(number) => right(number.to_string()),
        Cell::Time(nanos) => left(&time::short(nanos)),
        Cell::Duration(nanos) => right(time::humanise(nanos)),
        Cell::Message(Value::Array(elements)) if elements.is_empty() => left(""),
        Cell::Message(value) => left(&value.to_string()),
    }
}
