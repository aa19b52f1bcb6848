//! Rows as a table for people.

use std::io::Write;

use arrow::array::RecordBatch;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::cell::{Cell, Column};
use super::terminal::width;
use crate::error::Error;
use crate::time;
use crate::tree::shorten;

/// Longest text in a cell, in characters.
const CELL_WIDTH: usize = 48;

/// How short texts become, in characters, where the terminal is narrow.
const LEAST_CELL_WIDTH: usize = 10;

/// Writes batches of the same columns as one table.
pub(crate) fn write(batches: &[RecordBatch], out: &mut impl Write) -> Result<(), Error> {
    let Some(first) = batches.first() else {
        return Ok(());
    };
    let schema = first.schema();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Column::new(field, array))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.cell(row).map(shown));
            rows.push(cells.collect::<Result<Vec<_>, _>>()?);
        }
    }
    if let Some(width) = width() {
        fit(&mut rows, names.clone().collect(), width);
    }
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(names);
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(written)));
    writeln!(out, "{table}")?;
    Ok(())
}

/// A value as a table shows it.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) is_right: bool,
    /// Whether a part of it tells something.
    is_text: bool,
}

impl Shown {
    /// One that stands on the left.
    pub(super) fn left(text: &str) -> Self {
        Self {
            text: shorten(text, CELL_WIDTH),
            is_right: false,
            is_text: true,
        }
    }

    /// One that is whole or nothing.
    fn whole(text: &str) -> Self {
        Self {
            is_text: false,
            ..Self::left(text)
        }
    }

    fn right(text: String) -> Self {
        Self {
            text,
            is_right: true,
            is_text: false,
        }
    }
}

/// How a table shows a value.
pub(super) fn shown(cell: Cell<'_>) -> Shown {
    match cell {
        Cell::Null => Shown::left(""),
        Cell::Text(text) => Shown::left(text),
        Cell::Written(text) => Shown::whole(&text),
        Cell::Boolean(truth) => Shown::left(if truth { "true" } else { "false" }),
        Cell::Integer(number) => Shown::right(number.to_string()),
        Cell::Unsigned(number) => Shown::right(number.to_string()),
        Cell::Float(number) => Shown::right(number.to_string()),
        Cell::Time(nanos) => Shown::whole(&time::short(nanos)),
        Cell::Duration(nanos) => Shown::right(time::humanise(nanos)),
        Cell::Message(Value::Array(elements)) if elements.is_empty() => Shown::left(""),
        Cell::Message(value) => Shown::left(&value.to_string()),
    }
}

/// Shortens texts, the longest first, so that a line has `width` characters, as far as that goes.
/// Ids stay whole: they are typed again.
fn fit(rows: &mut [Vec<Shown>], names: Vec<&str>, width: usize) {
    let mut widths: Vec<usize> = names.iter().map(|name| name.chars().count()).collect();
    let mut are_texts = vec![true; names.len()];
    for row in rows.iter() {
        for ((cell, width), is_text) in row.iter().zip(&mut widths).zip(&mut are_texts) {
            *width = cell.text.chars().count().max(*width);
            *is_text &= cell.is_text;
        }
    }
    // A blank on both sides of each cell, and what stands between and beside them.
    let frame = 3 * names.len() + 1;
    while widths.iter().sum::<usize>() + frame > width {
        let columns = widths.iter_mut().zip(&names).zip(&are_texts);
        let texts = columns.filter(|((_, name), is_text)| **is_text && !name.ends_with("_id"));
        let longest = texts.map(|((width, _), _)| width).max();
        match longest {
            Some(longest) if *longest > LEAST_CELL_WIDTH => *longest -= 1,
            _ => break,
        }
    }
    for row in rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            if cell.is_text {
                cell.text = shorten(&cell.text, *width);
            }
        }
    }
}

fn written(shown: Shown) -> comfy_table::Cell {
    let cell = comfy_table::Cell::new(shown.text);
    if shown.is_right {
        cell.set_alignment(CellAlignment::Right)
    } else {
        cell
    }
}
