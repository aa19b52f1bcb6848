//! What a read of rows gives: batch after batch, with the columns that were asked for
//! made of those of the file.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringViewArray, UInt32Array, new_null_array};
use arrow::datatypes::{SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::reader::SharedTables;
use super::rows::Column;
use crate::error::FormatError;
use crate::segment::layout::checksum::VerifiedBytes;
use crate::segment::layout::columns::FileColumns;
use crate::segment::pages::point_read::PointRead;
use crate::segment::pages::without_panic;
use crate::segment::parents::Parents;
use crate::segment::promotion::access::Attribute;
use crate::segment::promotion::moving::Moving;
use crate::segment::promotion::{Owner, rebuild};
use crate::segment::shared::SharedRows;
use crate::table::{ParentColumns, Table};

/// Where the values of a column of the file come from.
#[derive(Debug)]
pub(crate) enum Source {
    Constant(Constant),
    /// The column of the Parquet reader at this place.
    Read(usize),
    /// Read already; the read has one batch.
    Values(ArrayRef),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Constant {
    Null,
    Text(String),
    Number(u32),
}

/// Where the batches of a read come from.
#[derive(Debug)]
pub(crate) enum FileBatches {
    Stock(ParquetRecordBatchReader),
    /// One of rows that were read already, until it is handed out.
    PointRead(Option<PointRead>),
}

/// The batches of a read, one by one; an error is the last.
#[derive(Debug)]
pub struct RowBatches {
    pub(crate) table: &'static Table,
    pub(crate) bytes: VerifiedBytes,
    pub(crate) batches: FileBatches,
    pub(crate) file: Arc<FileColumns>,
    pub(crate) shared: SharedTables,
    pub(super) parents: Option<Parents>,
    /// The rows of batches that are still to come, the first ones last.
    pub(crate) rows: Vec<Range<u32>>,
    pub(crate) file_schema: SchemaRef,
    pub(crate) sources: Vec<(usize, Source)>,
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: SchemaRef,
    /// How rows are handed on to another segment; none when they are not.
    pub(super) moving: Option<Moving>,
    pub(crate) has_failed: bool,
}

impl RowBatches {
    /// How many pages were read so far, and their bytes as they lie in the file.
    pub fn pages(&self) -> (u64, u64) {
        self.bytes.noted()
    }

    /// The columns that were asked for of so many rows, out of those that the stock reader
    /// read; it read none where the rows are those of a point read.
    fn columns_of(
        &mut self,
        read: &[ArrayRef],
        rows: usize,
        point_read: Option<&PointRead>,
    ) -> Result<RecordBatch, ArrowError> {
        let numbers = self.take_rows(rows);
        let mut file: Vec<Option<ArrayRef>> = vec![None; self.file_schema.fields().len()];
        for (place, source) in &self.sources {
            let column: ArrayRef = match source {
                Source::Read(at) => {
                    let column = read.get(*at).map(Arc::clone);
                    column.ok_or_else(|| ArrowError::SchemaError(format!("no column {at}")))?
                }
                Source::Values(values) => Arc::clone(values),
                Source::Constant(Constant::Null) => {
                    let data_type = self.file_schema.field(*place).data_type();
                    match point_read {
                        Some(point_read) => point_read.nulls(data_type),
                        None => new_null_array(data_type, rows),
                    }
                }
                Source::Constant(Constant::Number(number)) => {
                    Arc::new(UInt32Array::from_value(*number, rows))
                }
                Source::Constant(Constant::Text(text)) => Arc::new(
                    StringViewArray::from_iter_values(std::iter::repeat_n(text, rows)),
                ),
            };
            if let Some(slot) = file.get_mut(*place) {
                *slot = Some(column);
            }
        }
        let damaged = |error: FormatError| ArrowError::ExternalError(Box::new(error));
        let read = |place: usize| file.get(place)?.as_ref();
        // Attributes that are handed on as they are stay apart.
        let is_apart = self.moving.as_ref().is_some_and(Moving::is_as_stored);
        let attributes = self.table.roles().attributes.filter(|_| !is_apart);
        let shared = self.shared_rows(read).map_err(damaged)?;
        let columns: Result<Vec<ArrayRef>, ArrowError> = self
            .columns
            .iter()
            .map(|column| {
                let values = match column {
                    Column::Stored(place) => {
                        let order = self.file.order().filter(|_| attributes == Some(*place));
                        match self.parents_of(*place, &numbers, read).transpose() {
                            Some(parents) => parents,
                            None => self.stored(*place, order, rows, &shared, read),
                        }
                    }
                    Column::Attribute(attribute) => match attribute.owner {
                        Owner::Span => attribute.read_promoted(&self.file, rows, true, read),
                        Owner::Resource => self.of_resource(attribute, rows, &shared, read),
                    },
                    Column::OfFile(place, _) => read(*place).cloned().ok_or_else(|| {
                        let found = format!("no column {place}");
                        FormatError::malformed("columns", 0, "a column that was read", found)
                    }),
                };
                values.map_err(damaged)
            })
            .collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns?, &options)?;
        match &mut self.moving {
            None => Ok(rows),
            Some(moving) => moving.rows(&self.file, &rows, read).map_err(damaged),
        }
    }

    /// The numbers of the rows of the next batch.
    fn take_rows(&mut self, mut count: usize) -> Vec<Range<u32>> {
        let mut taken = Vec::new();
        while count > 0
            && let Some(last) = self.rows.last_mut()
        {
            let end = last.end.min(last.start.saturating_add(count as u32));
            count -= (end.saturating_sub(last.start)) as usize;
            taken.push(last.start..end);
            last.start = end;
            if last.start >= last.end {
                self.rows.pop();
            }
        }
        taken
    }

    /// The ids of parents, if a column of the table is that, and the file has distances.
    fn parents_of<'a>(
        &self,
        column: usize,
        rows: &[Range<u32>],
        read: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<Option<ArrayRef>, FormatError> {
        let is_asked = |parent: &&ParentColumns| parent.parent == column;
        let role = self.table.roles().parent.as_ref().filter(is_asked);
        let distances = role.and_then(|_| self.file.distance()).and_then(&read);
        let strays = self.file.place(column).and_then(read);
        match (&self.parents, strays, distances) {
            (Some(parents), Some(strays), Some(distances)) => {
                parents.ids(rows, strays, distances).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A column of the table; `order` is the column that says how attributes are put
    /// together, if the column is that of attributes.
    fn stored<'a>(
        &self,
        column: usize,
        order: Option<usize>,
        rows: usize,
        shared: &[Option<SharedRows>],
        read: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<ArrayRef, FormatError> {
        let missing = || {
            let found = format!("no column {column}");
            FormatError::malformed("columns", 0, "a column that was read", found)
        };
        let Some(place) = self.file.place(column) else {
            let of_table = self.table.roles().shared.iter().zip(shared);
            let mut of_table = of_table.filter(|(columns, _)| columns.has(column));
            if let Some((columns, Some(shared))) = of_table.next() {
                return shared.column(columns, column);
            }
            let column = self.table.column(column).ok_or_else(missing)?;
            return column.values_if_missing(rows);
        };
        let values = read(place).ok_or_else(missing)?;
        match order {
            None => Ok(Arc::clone(values)),
            Some(order) => {
                let order = read(order).ok_or_else(missing)?;
                rebuild::attributes(self.file.promoted(), values, order, read)
            }
        }
    }
}

impl RowBatches {
    /// What the rows share, as far as its numbers were read.
    fn shared_rows<'a>(
        &self,
        read: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<Vec<Option<SharedRows>>, FormatError> {
        let shared = self.shared.iter().enumerate();
        let rows = shared.map(|(place, messages)| {
            let numbers = self.file.number(place).and_then(&read);
            let numbers = numbers.and_then(|numbers| numbers.as_primitive_opt::<UInt32Type>());
            match (messages, numbers) {
                (Some(Ok(messages)), Some(numbers)) => messages.pick(numbers).map(Some),
                (Some(Err(error)), Some(_)) => Err(error.clone()),
                _ => Ok(None),
            }
        });
        rows.collect()
    }

    /// One aspect of an attribute of resources: of each resource once.
    fn of_resource<'a>(
        &self,
        attribute: &Attribute,
        rows: usize,
        shared: &[Option<SharedRows>],
        read: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<ArrayRef, FormatError> {
        let column = attribute.owner.column().place();
        let of_table = self.table.roles().shared.iter().zip(shared);
        let mut of_table = of_table.filter(|(columns, _)| columns.message == column);
        if let Some((_, Some(shared))) = of_table.next() {
            return shared.attribute(attribute);
        }
        let messages = self.stored(column, None, rows, shared, read)?;
        let messages = messages.as_binary_view_opt().ok_or_else(|| {
            FormatError::malformed("columns", 0, "messages of resources", "others")
        })?;
        Ok(attribute.read(messages))
    }
}

impl Iterator for RowBatches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let batch = match &mut self.batches {
            FileBatches::Stock(reader) => {
                let batch = without_panic(|| reader.next().transpose()).transpose()?;
                batch.and_then(|batch| self.columns_of(batch.columns(), batch.num_rows(), None))
            }
            FileBatches::PointRead(point_read) => {
                let point_read = point_read.take()?;
                self.columns_of(&[], point_read.rows(), Some(&point_read))
            }
        };
        self.has_failed = batch.is_err();
        Some(batch.map_err(|error| match self.bytes.first_error() {
            Some(first) => ArrowError::ExternalError(Box::new(first)),
            None => error,
        }))
    }
}
