//! Reads rows of a segment: the columns of its table, and single attributes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::arrow::{
    FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use crate::error::FormatError;
use crate::segment::layout::checksum::VerifiedBytes;
use crate::segment::layout::columns::FileColumns;
use crate::segment::layout::directory::Directory;
use crate::segment::layout::encoding::ROW_GROUP_ROWS;
use crate::segment::pages::footer::Footer;
use crate::segment::pages::locations::PageLocations;
use crate::segment::pages::point_read::PointRead;
use crate::segment::pages::{Pages, WantedPages, damaged, parquet_error, without_panic};
use crate::segment::parents::Parents;
use crate::segment::promotion::access::Attribute;
use crate::segment::promotion::moving::{Moving, SplitRows};
use crate::segment::promotion::{Owner, PromotedKey};
use crate::segment::reading::reader::SharedTables;
use crate::segment::reading::row_batches::{Constant, FileBatches, RowBatches, Source};
use crate::segment::reading::selection::select;
use crate::segment::shared::SharedMessages;
use crate::span::SpanColumn;
use crate::table::{SharedKind, Table};

/// A column to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Column {
    /// A column of the table, by its place in it.
    Stored(usize),
    /// One aspect of one attribute.
    Attribute(Attribute),
    /// A column of the segment's file as it is, by its place in the file, and its type.
    OfFile(usize, DataType),
}

impl From<SpanColumn> for Column {
    fn from(column: SpanColumn) -> Self {
        Self::Stored(column.place())
    }
}

impl Column {
    /// All columns of a table.
    pub fn all(table: &Table) -> Vec<Self> {
        (0..table.columns().len()).map(Self::Stored).collect()
    }

    /// Its name and type.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when its place lies outside the table.
    pub fn field(&self, table: &Table) -> Result<Field, FormatError> {
        match self {
            Self::Stored(place) => table.column(*place).map_or_else(
                || {
                    let expected = format!("a column of {}", table.name());
                    let found = place.to_string();
                    Err(FormatError::malformed("columns", 0, expected, found))
                },
                |column| Ok(column.field()),
            ),
            Self::Attribute(attribute) => Ok(Field::new(
                attribute.to_string(),
                attribute.aspect.data_type(),
                true,
            )),
            Self::OfFile(place, data_type) => Ok(Field::new(
                format!("column {place}"),
                data_type.clone(),
                true,
            )),
        }
    }

    /// The schema of batches with these columns.
    ///
    /// # Errors
    /// As [`Column::field`].
    pub fn schema(columns: &[Self], table: &Table) -> Result<SchemaRef, FormatError> {
        let all = (0..table.columns().len()).map(Self::Stored);
        if all.eq(columns.iter().cloned()) {
            return Ok(table.schema());
        }
        let fields: Result<Vec<_>, _> = columns.iter().map(|one| one.field(table)).collect();
        Ok(Arc::new(Schema::new(fields?)))
    }
}

/// What reading rows needs of a segment, parsed.
#[derive(Debug)]
pub struct RowReader {
    pub(super) table: &'static Table,
    pub(super) bytes: VerifiedBytes,
    pub(super) rows: u32,
    columns: Arc<FileColumns>,
    pub(super) shared: SharedTables,
    directory: Directory,
    /// The columns of the file.
    pub(super) schema: SchemaRef,
    pub(super) pages: Arc<Pages>,
    /// How to decode each set of columns that was asked for.
    levels: Mutex<HashMap<Vec<usize>, Arc<FieldLevels>>>,
}

/// Rows of a look-up, at most.
const MOST_POINT_READ_ROWS: usize = 1_024;
/// Stretches of rows of a look-up, at most.
const MOST_RANGES: usize = 64;

/// Sets of columns that are remembered.
const MOST_LEVELS: usize = 64;

impl RowReader {
    pub(crate) fn new(
        table: &'static Table,
        bytes: VerifiedBytes,
        (tail_offset, tail): (u64, Bytes),
        rows: u32,
        columns: Arc<FileColumns>,
        shared: SharedTables,
        directory: Directory,
    ) -> Result<Self, FormatError> {
        let footer = Footer::read(&tail).map_err(|error| footer_error(&error))?;
        check_row_groups(footer.rows(), rows)?;
        let schema = file_schema(table, &columns, footer.file())?;
        Ok(Self {
            table,
            bytes,
            rows,
            columns,
            shared,
            directory,
            schema,
            pages: Arc::new(Pages::new(footer, (tail_offset, tail))),
            levels: Mutex::default(),
        })
    }

    /// Memory that it takes and may come to take, in bytes, about.
    pub fn memory(&self) -> usize {
        let shared = self.shared.iter().flatten().flatten();
        self.pages.memory() + shared.map(SharedMessages::memory).sum::<usize>()
    }

    /// The table that its rows are of.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// The columns of the file.
    pub fn columns(&self) -> &FileColumns {
        &self.columns
    }

    /// The pages of a column of the file in a row group.
    pub(crate) fn locations(
        &self,
        row_group: usize,
        column: usize,
    ) -> Result<&PageLocations, FormatError> {
        let locations = self.pages.locations(row_group, column);
        locations.map_err(|error| parquet_error("page index", 0, &error))
    }

    /// The metadata of the Parquet file, without its page index, parsed anew.
    ///
    /// # Errors
    /// [`FormatError`] when it makes no sense.
    pub fn metadata(&self) -> Result<ParquetMetaData, FormatError> {
        let whole = self.pages.footer.whole();
        whole.map_err(|error| footer_error(&error))
    }

    /// The rows of a row group, by their numbers in the segment.
    pub fn rows_of_group(&self, row_group: u32) -> Range<u32> {
        let first = row_group.saturating_mul(ROW_GROUP_ROWS).min(self.rows);
        first..first.saturating_add(ROW_GROUP_ROWS).min(self.rows)
    }

    /// Least and greatest value of a column of times or of 64-bit integers in a row group,
    /// the column being given by its place in the table; none when the file does not tell.
    pub fn range(&self, row_group: u32, column: usize) -> Option<(i64, i64)> {
        let column = self.columns.place(column)?;
        match self.statistics(row_group as usize, column)? {
            Statistics::Int64(times) => times.min_opt().copied().zip(times.max_opt().copied()),
            _ => None,
        }
    }

    fn statistics(&self, row_group: usize, column: usize) -> Option<&Statistics> {
        let row_group = self.pages.row_group(row_group)?;
        row_group.columns().get(column)?.statistics()
    }

    /// The columns of the file that columns are read from, in rising order.
    fn file_columns(&self, columns: &[Column]) -> Vec<usize> {
        let mut wanted: Vec<usize> = Vec::with_capacity(columns.len() + 64);
        for column in columns {
            match column {
                Column::Stored(place) => {
                    wanted.extend(
                        self.columns
                            .place(*place)
                            .or_else(|| self.number_of(*place)),
                    );
                    if self.are_parents(*place) {
                        wanted.extend(self.columns.distance());
                    }
                    if self.are_attributes(*place) {
                        wanted.extend(self.columns.order());
                        let keys = self.columns.promoted().keys().iter();
                        wanted.extend(keys.flat_map(PromotedKey::columns));
                    }
                }
                Column::Attribute(attribute) => match attribute.owner {
                    Owner::Span => wanted.extend(attribute.file_columns(&self.columns)),
                    Owner::Resource => {
                        let place = attribute.owner.column().place();
                        let column = self.columns.place(place);
                        wanted.extend(column.or_else(|| self.number_of(place)));
                    }
                },
                Column::OfFile(place, _) => wanted.push(*place),
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Where the numbers are of what rows share, if a column of the table is one of
    /// that.
    pub(super) fn number_of(&self, column: usize) -> Option<usize> {
        let mut shared = self.table.roles().shared.iter();
        let place = shared.position(|shared| shared.has(column))?;
        self.columns.number(place)
    }

    /// Whether a column of the table is that of the ids of parents.
    pub(super) fn are_parents(&self, place: usize) -> bool {
        let parent = self.table.roles().parent.as_ref();
        parent.is_some_and(|parent| parent.parent == place)
    }

    /// Whether a column of the table is that of which attributes are promoted.
    pub(super) fn are_attributes(&self, place: usize) -> bool {
        self.table.roles().attributes == Some(place)
    }

    /// How many rows of a row group take so many bytes of some columns, about,
    /// before they are compressed; at least one.
    pub fn rows_within(&self, bytes: u64, row_group: u32, columns: &[Column]) -> usize {
        let Some(row_group) = self.pages.row_group(row_group as usize) else {
            return 1;
        };
        let stored = self.file_columns(columns).into_iter().map(|column| {
            let chunk = row_group.columns().get(column);
            chunk.map_or(0, |chunk| chunk.uncompressed_size().max(0).cast_unsigned())
        });
        let stored = stored.fold(0, u64::saturating_add).max(1);
        let rows = u128::from(row_group.num_rows().max(0).cast_unsigned());
        let shared = self
            .shared_bytes(bytes, columns)
            .saturating_mul(rows as u64);
        let stored = stored.saturating_add(shared);
        let within = (u128::from(bytes) * rows / u128::from(stored)).max(1);
        usize::try_from(within).unwrap_or(usize::MAX)
    }

    /// Bytes a row, about, that come with what rows share where it may take more than
    /// half of so many bytes; rows that share a message take it once.
    fn shared_bytes(&self, bytes: u64, columns: &[Column]) -> u64 {
        let of_table = self.table.roles().shared.iter().zip(&*self.shared);
        let wanted = of_table.filter(|(shared, _)| {
            let is_of = |column: &Column| match column {
                Column::Stored(place) => shared.has(*place),
                Column::Attribute(attribute) => {
                    attribute.owner == Owner::Resource && shared.kind == SharedKind::Resources
                }
                Column::OfFile(..) => false,
            };
            columns.iter().any(is_of)
        });
        let many = wanted.filter_map(|(_, messages)| {
            let messages = messages.as_ref()?.as_ref().ok()?;
            let is_much = messages.bytes() > bytes / 2;
            is_much.then(|| messages.bytes() / u64::from(messages.len().max(1)))
        });
        many.sum()
    }

    /// Reads rows: `rows` are row numbers in rising, disjoint ranges; batches
    /// hold at most `batch_rows` rows, in the order of the row numbers, with
    /// the columns in the order given.
    ///
    /// # Errors
    /// [`FormatError`] when the metadata is damaged. Damage in the rows is an
    /// error here where there are few, and else of the batch.
    pub fn read(
        &self,
        rows: &[Range<u32>],
        columns: &[Column],
        batch_rows: usize,
    ) -> Result<RowBatches, FormatError> {
        let (row_groups, first_row, selection) = select(rows, self.rows);
        if row_groups
            .iter()
            .any(|one| self.pages.row_group(*one).is_none())
        {
            return Err(footer_error(&damaged("a row group")));
        }
        let wanted = self.file_columns(columns);
        let mut sources: Vec<(usize, Source)> = Vec::with_capacity(wanted.len());
        let mut leaves = Vec::with_capacity(wanted.len());
        let bytes = self.bytes.noting();
        let point_read = self.point_read(rows, &row_groups, batch_rows);
        for column in wanted {
            let source = match self.constant(&row_groups, column) {
                Some(constant) => Source::Constant(constant),
                None => match self.read_column(&bytes, point_read.as_ref(), column)? {
                    Some(values) => Source::Values(values),
                    None => {
                        leaves.push(column);
                        Source::Read(leaves.len() - 1)
                    }
                },
            };
            sources.push((column, source));
        }
        let parents = self.table.roles().parent.as_ref();
        let ids = parents.and_then(|parent| self.columns.place(parent.id));
        let parents = ids.map(|ids| Parents {
            bytes: bytes.clone(),
            pages: Arc::clone(&self.pages),
            directory: self.directory.clone(),
            ids,
        });
        let batches = match point_read {
            Some(point_read) if leaves.is_empty() => FileBatches::PointRead(Some(point_read)),
            _ => {
                // Something has to say how many rows there are.
                if leaves.is_empty() {
                    leaves.push(0);
                }
                let levels = self.levels(leaves)?;
                let row_groups = WantedPages {
                    bytes: &bytes,
                    pages: &self.pages,
                    row_groups: &row_groups,
                    first_row,
                };
                let reader = without_panic(|| {
                    ParquetRecordBatchReader::try_new_with_row_groups(
                        &levels,
                        &row_groups,
                        batch_rows.max(1),
                        Some(selection),
                    )
                });
                let reader = reader.map_err(|error| {
                    let first = bytes.first_error();
                    first.unwrap_or_else(|| parquet_error("segment", 0, &error))
                })?;
                FileBatches::Stock(reader)
            }
        };
        Ok(RowBatches {
            table: self.table,
            bytes,
            batches,
            file: Arc::clone(&self.columns),
            shared: Arc::clone(&self.shared),
            parents,
            rows: rows.iter().rev().cloned().collect(),
            file_schema: Arc::clone(&self.schema),
            sources,
            columns: columns.to_vec(),
            schema: Column::schema(columns, self.table)?,
            moving: None,
            has_failed: false,
        })
    }

    /// Reads rows, as [`RowReader::read`] does, that are on their way into another
    /// segment.
    ///
    /// # Errors
    /// As [`RowReader::read`].
    pub fn read_split(
        &self,
        rows: &[Range<u32>],
        split: &Arc<SplitRows>,
        batch_rows: usize,
    ) -> Result<RowBatches, FormatError> {
        let batches = self.read(rows, &Column::all(self.table), batch_rows)?;
        let moving = Some(Moving::new(&self.columns, split));
        Ok(RowBatches { moving, ..batches })
    }

    /// The rows of a look-up: few, in one row group, so that they make one batch.
    fn point_read(
        &self,
        rows: &[Range<u32>],
        row_groups: &[usize],
        batch_rows: usize,
    ) -> Option<PointRead> {
        let [row_group] = row_groups else {
            return None;
        };
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let first = *row_group as u32 * ROW_GROUP_ROWS;
        let end = self.rows.min(first.saturating_add(ROW_GROUP_ROWS));
        let is_few = count <= MOST_POINT_READ_ROWS.min(batch_rows) && rows.len() <= MOST_RANGES;
        is_few.then(|| {
            let rows = rows.iter().filter(|range| !range.is_empty());
            let rows = rows.map(|range| range.start - first..range.end.min(end) - first);
            PointRead::new(*row_group, rows.collect())
        })
    }

    fn read_column(
        &self,
        bytes: &VerifiedBytes,
        point_read: Option<&PointRead>,
        column: usize,
    ) -> Result<Option<ArrayRef>, FormatError> {
        let (Some(point_read), Some(field)) = (point_read, self.schema.fields().get(column)) else {
            return Ok(None);
        };
        let read = point_read.read(bytes, &self.pages, column, field);
        read.map_err(|error| parquet_error("segment", 0, &error))
    }

    /// The value that a column has in all rows of these row groups, if the
    /// statistics tell: then no page of it needs to be read.
    pub(super) fn constant(&self, row_groups: &[usize], column: usize) -> Option<Constant> {
        let mut constant = None;
        for row_group in row_groups {
            let rows = self.pages.row_group(*row_group)?.num_rows();
            let statistics = self.statistics(*row_group, column)?;
            let found = match (statistics.null_count_opt()?, statistics) {
                (nulls, _) if nulls == rows as u64 => Constant::Null,
                (0, Statistics::ByteArray(texts))
                    if texts.min_is_exact() && texts.max_is_exact() =>
                {
                    let (least, most) = texts.min_opt().zip(texts.max_opt())?;
                    let is_text = *self.schema.field(column).data_type() == DataType::Utf8View;
                    if least != most || !is_text {
                        return None;
                    }
                    Constant::Text(std::str::from_utf8(least.data()).ok()?.to_owned())
                }
                (0, Statistics::Int32(numbers)) => {
                    let (least, most) = numbers.min_opt().zip(numbers.max_opt())?;
                    let is_number = *self.schema.field(column).data_type() == DataType::UInt32;
                    if least != most || !is_number {
                        return None;
                    }
                    Constant::Number(least.cast_unsigned())
                }
                _ => return None,
            };
            if constant
                .replace(found.clone())
                .is_some_and(|one| one != found)
            {
                return None;
            }
        }
        constant
    }

    fn levels(&self, leaves: Vec<usize>) -> Result<Arc<FieldLevels>, FormatError> {
        let mut all = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(levels) = all.get(&leaves) {
            return Ok(Arc::clone(levels));
        }
        let descriptor = self.pages.footer.file().file_metadata().schema_descr();
        let mask = ProjectionMask::leaves(descriptor, leaves.iter().copied());
        let levels = parquet_to_arrow_field_levels(descriptor, mask, Some(self.schema.fields()))
            .map_err(|error| parquet_error("Parquet schema", 0, &error))?;
        let levels = Arc::new(levels);
        if all.len() == MOST_LEVELS {
            all.clear();
        }
        all.insert(leaves, Arc::clone(&levels));
        Ok(levels)
    }
}

fn footer_error(error: &ParquetError) -> FormatError {
    parquet_error("Parquet footer", 0, error)
}

/// Sees that row groups have the rows that row numbers take for granted: all but the last
/// are full.
fn check_row_groups(row_groups: impl Iterator<Item = i64>, rows: u32) -> Result<(), FormatError> {
    let mut left = i64::from(rows);
    for found in row_groups {
        let expected = left.min(i64::from(ROW_GROUP_ROWS));
        if found != expected || found == 0 {
            let expected = format!("a row group of {expected} rows, none empty");
            let found = format!("one of {found}");
            return Err(FormatError::malformed("Parquet footer", 0, expected, found));
        }
        left -= found;
    }
    if left != 0 {
        let expected = format!("row groups of {rows} rows");
        let found = format!("{left} fewer");
        return Err(FormatError::malformed("Parquet footer", 0, expected, found));
    }
    Ok(())
}

/// What the columns of a file are read as: those of the table and of promoted keys
/// as what they are, others as Parquet has them.
fn file_schema(
    table: &Table,
    columns: &FileColumns,
    metadata: &ParquetMetaData,
) -> Result<SchemaRef, FormatError> {
    let descriptor = metadata.file_metadata().schema_descr();
    let found = without_panic(|| parquet_to_arrow_schema(descriptor, None))
        .map_err(|error| parquet_error("Parquet schema", 0, &error))?;
    let names = found.fields().iter().map(|field| field.name());
    if !names.eq(columns.names()) || descriptor.num_columns() != columns.names().len() {
        let expected = format!("the columns {:?}", columns.names());
        let found = format!("{:?}", found.fields());
        return Err(FormatError::malformed("Parquet schema", 0, expected, found));
    }
    let fields = found.fields().iter().enumerate();
    let fields = fields.map(|(place, field)| {
        let Some(known) = columns.field(table, place) else {
            return Ok(field.as_ref().clone());
        };
        let (found, expected) = (field.data_type(), known.data_type());
        // The decoder takes what it is told for granted: that a text is UTF-8 too.
        if !is_stored_as(expected, found) {
            let (expected, found) = (format!("{expected} in {}", field.name()), found.to_string());
            return Err(FormatError::malformed("Parquet schema", 0, expected, found));
        }
        Ok(known.with_nullable(field.is_nullable()))
    });
    Ok(Arc::new(Schema::new(
        fields.collect::<Result<Vec<_>, _>>()?,
    )))
}

/// Whether a column of a type is one of another in the file.
fn is_stored_as(column: &DataType, file: &DataType) -> bool {
    match (column, file) {
        (DataType::Utf8View, DataType::Utf8) | (DataType::BinaryView, DataType::Binary) => true,
        (column, file) => column == file,
    }
}
