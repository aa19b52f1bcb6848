//! Rows as a table for people.

use std::io::Write;

use arrow::array::RecordBatch;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::cell::{Cell, Column};
use super::fit::Cells;
use super::terminal::width;
use crate::error::Error;
use crate::time;
use crate::tree::shorten;

/// Longest text in a cell, in characters.
const CELL_WIDTH: usize = 48;

/// Writes batches of the same columns as one table, where the terminal is narrow without some of
/// those that may be left out.
pub(crate) fn write(
    batches: &[RecordBatch],
    may_leave_out: &[&str],
    out: &mut impl Write,
) -> Result<(), Error> {
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
    let names = names.map(str::to_owned).collect();
    let mut cells = Cells { names, rows };
    if let Some(width) = width() {
        if let ([row], true) = (cells.rows.as_slice(), cells.width() > width) {
            return write_lines(&cells.names, row, out);
        }
        let left_out = cells.fit(width, may_leave_out);
        if !left_out.is_empty() {
            let left_out = left_out.join(", ");
            eprintln!("The terminal has no room for {left_out}; --columns names those to show.");
        }
    }
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(cells.names);
    let rows = cells.rows.into_iter();
    table.add_rows(rows.map(|row| row.into_iter().map(written)));
    writeln!(out, "{table}")?;
    Ok(())
}

/// Writes a row with a line for each column.
fn write_lines(names: &[String], row: &[Shown], out: &mut impl Write) -> Result<(), Error> {
    let widths = names.iter().map(|name| name.chars().count());
    let width = widths.max().unwrap_or(0);
    for (name, cell) in names.iter().zip(row) {
        writeln!(out, "{name:width$}  {}", cell.text)?;
    }
    Ok(())
}

/// A value as a table shows it.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) is_right: bool,
    /// What a part of it tells.
    part: Part,
}

/// What a part of a text tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Something,
    Nothing,
    /// About when it was.
    Time,
}

impl Shown {
    /// One that stands on the left.
    pub(super) fn left(text: &str) -> Self {
        Self {
            text: shorten(text, CELL_WIDTH),
            is_right: false,
            part: Part::Something,
        }
    }

    /// One that is whole or nothing.
    fn whole(text: &str) -> Self {
        Self {
            part: Part::Nothing,
            ..Self::left(text)
        }
    }

    fn right(text: String) -> Self {
        Self {
            text,
            is_right: true,
            part: Part::Nothing,
        }
    }

    /// Whether a part of it tells something.
    pub(super) fn is_text(&self) -> bool {
        self.part == Part::Something
    }

    /// Whether it is a time.
    pub(super) fn is_time(&self) -> bool {
        self.part == Part::Time
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
        Cell::Time(nanos) => Shown {
            part: Part::Time,
            ..Shown::left(&time::short(nanos))
        },
        Cell::Duration(nanos) => Shown::right(time::humanise(nanos)),
        Cell::Message(Value::Array(elements)) if elements.is_empty() => Shown::left(""),
        Cell::Message(value) => Shown::left(&value.to_string()),
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
