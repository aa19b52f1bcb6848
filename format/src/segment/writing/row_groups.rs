//! Encodes rows into row groups of a Parquet file. The columns are encoded by
//! themselves, so that several threads can share the work; what is written does not
//! depend on that.

use std::fmt;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;

use crate::jobs::{Job, Workers, for_rows};
use crate::segment::layout::encoding::ROW_GROUP_ROWS;

/// Writes row groups of [`ROW_GROUP_ROWS`] rows.
pub(crate) struct RowGroups<W: Write + Send> {
    pub(crate) file: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// The columns of the row group at work, and its rows.
    open: Option<(Vec<ArrowColumnWriter>, usize)>,
}

impl<W: Write + Send> fmt::Debug for RowGroups<W> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.open.as_ref().map(|(_, rows)| rows);
        out.debug_struct("RowGroups")
            .field("open_rows", &rows)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send> RowGroups<W> {
    pub(crate) fn new(
        out: W,
        schema: &SchemaRef,
        options: ArrowWriterOptions,
    ) -> Result<Self, ParquetError> {
        let writer = ArrowWriter::try_new_with_options(out, SchemaRef::clone(schema), options)?;
        let (file, factory) = writer.into_serialized_writer()?;
        Ok(Self {
            file,
            factory,
            schema: SchemaRef::clone(schema),
            open: None,
        })
    }

    /// Bytes of the file so far, those of the row group at work included, about.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.open.iter().flat_map(|(columns, _)| columns);
        let open: usize = columns
            .map(ArrowColumnWriter::get_estimated_total_bytes)
            .sum();
        self.file.bytes_written() + open
    }

    /// Adds rows. One more job, `beside`, is done with the others.
    pub(crate) fn write(
        &mut self,
        batch: &RecordBatch,
        workers: &dyn Workers,
        beside: Job<'_>,
    ) -> Result<(), ParquetError> {
        let mut beside = Some(beside);
        let mut start = 0;
        while start < batch.num_rows() {
            let (columns, rows) = match &mut self.open {
                Some(open) => open,
                None => {
                    let number = self.file.flushed_row_groups().len();
                    let columns = self.factory.create_column_writers(number)?;
                    self.open.insert((columns, 0))
                }
            };
            let count = (batch.num_rows() - start).min(ROW_GROUP_ROWS as usize - *rows);
            let part = batch.slice(start, count);
            let mut encoded: Vec<Result<(), ParquetError>> = Vec::new();
            encoded.resize_with(columns.len(), || Ok(()));
            // The one that may take longest comes first.
            let mut jobs: Vec<Job<'_>> = beside.take().into_iter().collect();
            let fields = self.schema.fields().iter().zip(part.columns());
            for ((writer, (field, column)), encoded) in
                columns.iter_mut().zip(fields).zip(&mut encoded)
            {
                jobs.push(Box::new(move || {
                    let leaves = compute_leaves(field, column);
                    // A column that is no list and no struct is one leaf.
                    *encoded = leaves
                        .and_then(|leaves| leaves.iter().try_for_each(|one| writer.write(one)));
                }));
            }
            for_rows(count, workers).work(jobs);
            encoded.into_iter().collect::<Result<(), _>>()?;
            *rows += count;
            start += count;
            if *rows == ROW_GROUP_ROWS as usize {
                self.flush()?;
            }
        }
        if let Some(beside) = beside {
            beside();
        }
        Ok(())
    }

    /// Ends the row group at work.
    pub(crate) fn flush(&mut self) -> Result<(), ParquetError> {
        let Some((columns, _)) = self.open.take() else {
            return Ok(());
        };
        let mut row_group = self.file.next_row_group()?;
        for column in columns {
            column.close()?.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        Ok(())
    }
}
