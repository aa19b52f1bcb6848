//! Batches of rows into any of the row formats.

use std::fmt;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::lines::Lines;
use super::{csv, json, table};
use crate::arguments::Format;
use crate::error::Error;

/// Rows of one table; a longer result is written as several tables.
const TABLE_ROWS: usize = 10_000;

/// Writes batches of the same columns in one format.
pub struct RowWriter<W: Write + Send> {
    schema: SchemaRef,
    form: Form<W>,
}

enum Form<W: Write + Send> {
    Table {
        out: W,
        waiting: Vec<RecordBatch>,
        written: bool,
        may_leave_out: &'static [&'static str],
    },
    Lines {
        out: W,
        lines: Lines,
    },
    Json(W),
    Csv(W),
    Parquet(Box<ArrowWriter<W>>),
    Arrow(Box<StreamWriter<W>>),
}

impl<W: Write + Send> fmt::Debug for RowWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowWriter")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send> RowWriter<W> {
    /// Begins the output.
    ///
    /// # Errors
    /// [`Error::Usage`] for a format that is not made of rows, and errors of
    /// writing the beginning.
    pub fn new(format: Format, schema: SchemaRef, mut out: W) -> Result<Self, Error> {
        let form = match format {
            Format::Table => Form::Table {
                out,
                waiting: Vec::new(),
                written: false,
                may_leave_out: &[],
            },
            Format::Json => Form::Json(out),
            Format::Csv => {
                csv::write_header(&schema, &mut out)?;
                Form::Csv(out)
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer =
                    ArrowWriter::try_new(out, SchemaRef::clone(&schema), Some(properties))?;
                Form::Parquet(Box::new(writer))
            }
            Format::Arrow => Form::Arrow(Box::new(StreamWriter::try_new(out, &schema)?)),
            Format::Tree | Format::OtlpJson | Format::OtlpProtobuf => {
                return Err(Error::Usage(format!("{format:?} is not a format of rows")));
            }
        };
        Ok(Self { schema, form })
    }

    /// Begins an output that shows each row when it is written: lines in place of a table.
    ///
    /// # Errors
    /// As [`RowWriter::new`].
    pub fn following(format: Format, schema: SchemaRef, out: W) -> Result<Self, Error> {
        if format != Format::Table {
            return Self::new(format, schema, out);
        }
        let mut lines = Self {
            form: Form::Lines {
                out,
                lines: Lines::default(),
            },
            schema: SchemaRef::clone(&schema),
        };
        lines.write(&RecordBatch::new_empty(schema))?;
        Ok(lines)
    }

    /// Lets a table leave these columns out where the terminal is narrow, the first one first.
    pub fn leaving_out(mut self, columns: &'static [&'static str]) -> Self {
        if let Form::Table { may_leave_out, .. } = &mut self.form {
            *may_leave_out = columns;
        }
        self
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Arrow`] or [`Error::Parquet`] when a value or
    /// the output cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match &mut self.form {
            Form::Table {
                out,
                waiting,
                written,
                may_leave_out,
            } => {
                waiting.push(batch.clone());
                if waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= TABLE_ROWS {
                    table::write(waiting, may_leave_out, out)?;
                    waiting.clear();
                    *written = true;
                }
            }
            Form::Lines { out, lines } => lines.write(batch, out)?,
            Form::Json(out) => json::write(batch, out)?,
            Form::Csv(out) => csv::write(batch, out)?,
            Form::Parquet(writer) => writer.write(batch)?,
            Form::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Hands on what was written so far, but for rows of a table.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<(), Error> {
        match &mut self.form {
            Form::Table { out, .. }
            | Form::Lines { out, .. }
            | Form::Json(out)
            | Form::Csv(out) => {
                out.flush()?;
            }
            Form::Parquet(writer) => writer.inner_mut().flush()?,
            Form::Arrow(writer) => writer.flush()?,
        }
        Ok(())
    }

    /// Ends the output and gives back what it was written to.
    ///
    /// # Errors
    /// As [`RowWriter::write`].
    pub fn finish(self) -> Result<W, Error> {
        let mut out = match self.form {
            Form::Table {
                mut out,
                mut waiting,
                written,
                may_leave_out,
            } => {
                if waiting.is_empty() && !written {
                    waiting.push(RecordBatch::new_empty(self.schema));
                }
                table::write(&waiting, may_leave_out, &mut out)?;
                out
            }
            Form::Lines { out, .. } | Form::Json(out) | Form::Csv(out) => out,
            Form::Parquet(writer) => writer.into_inner()?,
            Form::Arrow(writer) => writer.into_inner()?,
        };
        out.flush()?;
        Ok(out)
    }
}
