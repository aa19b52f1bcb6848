//! Rows as lines for people, each written when it comes.

use std::io::Write;

use arrow::array::RecordBatch;

use super::cell::Column;
use super::table::{Shown, shown};
use crate::error::Error;

/// How wide the columns are so far, in characters. A wider value widens its column from there on.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    widths: Vec<usize>,
}

impl Lines {
    /// Writes the rows of a batch, below the names of the columns if it is the first.
    pub(crate) fn write(&mut self, batch: &RecordBatch, out: &mut impl Write) -> Result<(), Error> {
        let schema = batch.schema();
        let fields = schema.fields();
        let columns = fields.iter().zip(batch.columns());
        let columns = columns
            .map(|(field, array)| Column::new(field, array))
            .collect::<Result<Vec<_>, _>>()?;
        let mut lines = Vec::new();
        if self.widths.is_empty() {
            self.widths.resize(fields.len(), 0);
            let names = fields.iter().map(|field| Shown::left(field.name()));
            lines.push(names.collect::<Vec<_>>());
        }
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.cell(row).map(shown));
            lines.push(cells.collect::<Result<Vec<_>, _>>()?);
        }
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = cell.text.chars().count().max(*width);
            }
        }
        for line in lines {
            let cells = line.iter().zip(&self.widths).map(|(cell, width)| {
                let text = &cell.text;
                if cell.is_right {
                    format!("{text:>width$}")
                } else {
                    format!("{text:width$}")
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
