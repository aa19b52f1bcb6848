//! Columns as codes: the different values of a column in a row group, and which of them
//! each row has. A condition on the column is evaluated once for each value.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt32Array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::UInt32Type;
use parquet::basic::Encoding;
use parquet::file::metadata::ColumnChunkMetaData;

use super::row_batches::Constant;
use super::rows::{Column, RowReader};
use crate::error::FormatError;
use crate::segment::layout::encoding::ROW_GROUP_ROWS;
use crate::segment::pages::{bounds, damaged, dictionary, parquet_error};
use crate::segment::promotion::Owner;
use crate::segment::promotion::access::Attribute;
use crate::table::SharedKind;

/// Bytes of the resources of a segment up to which a condition looks at all of them.
pub const MOST_RESOURCE_BYTES: u64 = 16 << 20;

/// A column of a row group as codes.
#[derive(Debug)]
pub struct CodedColumn<'a> {
    reader: &'a RowReader,
    row_group: usize,
    /// Where the codes are; none when all rows have the first value.
    column: Option<usize>,
    values: ArrayRef,
}

impl RowReader {
    /// A column of a row group as codes; none when it is not stored so, and has to be
    /// read row by row. `has_strays` says whether rows that are asked for have their value
    /// of a promoted key elsewhere; what the segment says of all its rows where that is not
    /// known.
    ///
    /// # Errors
    /// [`FormatError`] when the dictionary is damaged.
    pub fn coded(
        &self,
        row_group: u32,
        column: &Column,
        has_strays: Option<bool>,
    ) -> Result<Option<CodedColumn<'_>>, FormatError> {
        let Some(place) = self.coded_place(column, has_strays) else {
            return Ok(None);
        };
        let Some((values, is_constant)) = self.dictionary(row_group as usize, place)? else {
            return Ok(None);
        };
        if values.len() > dictionary::MOST_CODED_VALUES + 1 {
            return Ok(None);
        }
        let values = match column {
            Column::Stored(_) | Column::OfFile(..) => values,
            Column::Attribute(attribute) => match self.of_attribute(attribute, place, &values)? {
                Some(values) => values,
                None => return Ok(None),
            },
        };
        Ok(Some(CodedColumn {
            reader: self,
            row_group: row_group as usize,
            column: (!is_constant).then_some(place),
            values,
        }))
    }

    /// The column of the file whose codes are those of a column.
    fn coded_place(&self, column: &Column, has_strays: Option<bool>) -> Option<usize> {
        let columns = self.columns();
        match column {
            Column::Stored(place) => {
                let is_apart = self.number_of(*place).is_some()
                    || self.are_parents(*place)
                    || self.are_attributes(*place);
                columns.place(*place).filter(|_| !is_apart)
            }
            Column::Attribute(attribute) => match attribute.owner {
                Owner::Span => {
                    let (_, key) = columns.promoted().find(&attribute.key)?;
                    let has_strays = has_strays.unwrap_or(key.has_strays);
                    let is_alone = key.is_own && !has_strays && key.suffix.is_none();
                    is_alone.then_some(key.column)
                }
                Owner::Resource => self.number_of(attribute.owner.column().place()),
            },
            Column::OfFile(place, _) => Some(*place),
        }
    }

    /// The different values of a column of the file in a row group and a null, and
    /// whether all rows have the first of these; none when there is no dictionary.
    fn dictionary(
        &self,
        row_group: usize,
        column: usize,
    ) -> Result<Option<(ArrayRef, bool)>, FormatError> {
        let Some(field) = self.schema.fields().get(column) else {
            return Ok(None);
        };
        let null = new_null_array(field.data_type(), 1);
        let constant: Option<ArrayRef> = match self.constant(&[row_group], column) {
            Some(Constant::Null) => return Ok(Some((null, true))),
            Some(Constant::Text(text)) => Some(Arc::new(StringViewArray::from_iter([Some(text)]))),
            Some(Constant::Number(number)) => {
                Some(Arc::new(UInt32Array::from_iter([Some(number)])))
            }
            None => None,
        };
        let is_constant = constant.is_some();
        let values = match constant {
            Some(values) => Some(values),
            None => self
                .pages
                .decoded_dictionary(&self.bytes, row_group, column, field)
                .map_err(|error| parquet_error("segment", 0, &error))?,
        };
        let Some(values) = values else {
            return Ok(None);
        };
        let values = concat(&[values.as_ref(), null.as_ref()]);
        let values = values.map_err(|error| {
            FormatError::malformed("segment", 0, "values of one type", error.to_string())
        })?;
        Ok(Some((values, is_constant)))
    }

    /// An attribute for each of some values of the column of the file that it is read
    /// from; none when it is rather read row by row.
    fn of_attribute(
        &self,
        attribute: &Attribute,
        place: usize,
        values: &ArrayRef,
    ) -> Result<Option<ArrayRef>, FormatError> {
        if attribute.owner == Owner::Span {
            let column = |at| (at == place).then_some(values);
            let read = attribute.read_promoted(self.columns(), values.len(), false, column);
            return read.map(Some);
        }
        let mut shared = self.table.roles().shared.iter().zip(&*self.shared);
        let resources = shared.find(|(shared, _)| shared.kind == SharedKind::Resources);
        let (Some(numbers), Some((_, Some(messages)))) =
            (values.as_primitive_opt::<UInt32Type>(), resources)
        else {
            return Ok(None);
        };
        let messages = messages.as_ref().map_err(Clone::clone)?;
        if messages.bytes() > MOST_RESOURCE_BYTES {
            return Ok(None);
        }
        messages.pick(numbers)?.attribute(attribute).map(Some)
    }

    /// Whether all rows of a row group have one text in a column of the table, given by
    /// its place, as its statistics tell.
    pub fn has_only(&self, row_group: u32, column: usize, text: &str) -> bool {
        let constant = self.columns().place(column);
        let constant = constant.and_then(|column| self.constant(&[row_group as usize], column));
        constant.is_some_and(|constant| constant == Constant::Text(text.to_owned()))
    }

    /// The pages of a column of times or of 64-bit integers in a row group, the column being
    /// given by its place in the table: their rows, and the least and the greatest value.
    /// Empty when the file does not tell.
    ///
    /// # Errors
    /// [`FormatError`] when the page index is damaged.
    pub fn page_ranges(
        &self,
        row_group: u32,
        column: usize,
    ) -> Result<Vec<(Range<u32>, i64, i64)>, FormatError> {
        let Some(column) = self.columns().place(column) else {
            return Ok(Vec::new());
        };
        let locations = self.locations(row_group as usize, column)?;
        let Some(index) = self.pages.column_index(row_group as usize, column) else {
            return Ok(Vec::new());
        };
        let ranges = bounds::read(index, locations.len())
            .ok_or_else(|| parquet_error("page index", 0, &damaged("bounds of each page")))?;
        let first = row_group * ROW_GROUP_ROWS;
        let pages = ranges
            .into_iter()
            .enumerate()
            .filter_map(|(page, (least, greatest))| {
                let rows = locations.get(page)?.rows;
                Some((first + rows.start..first + rows.end, least, greatest))
            });
        Ok(pages.collect())
    }
}

impl CodedColumn<'_> {
    /// The rows of the row group, by their numbers in the segment.
    pub fn all_rows(&self) -> Range<u32> {
        self.reader.rows_of_group(self.row_group as u32)
    }

    /// The column of the file that has the codes; none when all rows have the first value.
    pub fn file_column(&self) -> Option<u32> {
        self.column.map(|column| column as u32)
    }

    /// The different values, and behind them what rows without a value have. A code is
    /// a place among them.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// Whether all pages hold codes, as the file tells: where the dictionary was full, there
    /// are values that it does not have.
    pub fn is_whole(&self) -> bool {
        if self.column.is_none() {
            return true;
        }
        let encodings = self
            .chunk()
            .and_then(|chunk| chunk.page_encoding_stats_mask());
        encodings.is_some_and(|encodings| encodings.is_only(Encoding::RLE_DICTIONARY))
    }

    /// The values that rows of the row group have, and a null if a row has no value; a value
    /// may come again. None when the file does not tell.
    pub fn different_values(&self) -> Option<ArrayRef> {
        if self.column.is_none() {
            return Some(self.values.slice(0, 1));
        }
        let nulls = self.chunk()?.statistics()?.null_count_opt()?;
        let values = self.values.len() - usize::from(nulls == 0);
        self.is_whole().then(|| self.values.slice(0, values))
    }

    fn chunk(&self) -> Option<&ColumnChunkMetaData> {
        let row_group = self.reader.pages.row_group(self.row_group)?;
        row_group.columns().get(self.column?)
    }

    /// How many pages there are.
    ///
    /// # Errors
    /// [`FormatError`] when the page index is damaged.
    pub fn pages(&self) -> Result<usize, FormatError> {
        match self.column {
            Some(column) => Ok(self.reader.locations(self.row_group, column)?.len()),
            None => Ok(1),
        }
    }

    /// The rows of a page, by their numbers in the segment.
    ///
    /// # Errors
    /// [`FormatError`] when there is no such page.
    pub fn rows(&self, page: usize) -> Result<Range<u32>, FormatError> {
        let Some(column) = self.column else {
            return Ok(self.all_rows());
        };
        let first = self.row_group as u32 * ROW_GROUP_ROWS;
        let location = self.reader.locations(self.row_group, column)?.get(page);
        let rows = location.map(|location| location.rows);
        let rows = rows.ok_or_else(|| parquet_error("page index", 0, &damaged("a page")))?;
        Ok(first + rows.start..first + rows.end)
    }

    /// Bytes of a page as it lies in the file.
    ///
    /// # Errors
    /// [`FormatError`] when the page index is damaged.
    pub fn bytes(&self, page: usize) -> Result<u64, FormatError> {
        let Some(column) = self.column else {
            return Ok(0);
        };
        let location = self.reader.locations(self.row_group, column)?.get(page);
        Ok(location.map_or(0, |location| location.place.end - location.place.start))
    }

    /// Reads the codes of all rows of a page, in place of what `codes` held; false when
    /// the page does not hold codes, since the dictionary was full.
    ///
    /// # Errors
    /// [`FormatError`] when the page is damaged.
    pub fn read(&self, page: usize, codes: &mut Vec<u16>) -> Result<bool, FormatError> {
        codes.clear();
        if self.column.is_none() {
            codes.resize(self.all_rows().len(), 0);
            return Ok(true);
        }
        self.add_page(page, &mut Vec::new(), codes)
    }

    /// Reads the codes of all rows of the row group; none when some pages do not hold codes.
    ///
    /// # Errors
    /// [`FormatError`] when a page is damaged.
    pub fn read_all(&self) -> Result<Option<Arc<[u16]>>, FormatError> {
        let rows = self.all_rows().len();
        let mut codes = Vec::with_capacity(rows);
        let mut scratch = Vec::new();
        for page in 0..self.pages()? {
            if !self.add_page(page, &mut scratch, &mut codes)? {
                return Ok(None);
            }
        }
        Ok((codes.len() == rows).then(|| codes.into()))
    }

    fn add_page(
        &self,
        page: usize,
        scratch: &mut Vec<u32>,
        codes: &mut Vec<u16>,
    ) -> Result<bool, FormatError> {
        let location = match self.column {
            Some(column) => self.reader.locations(self.row_group, column)?.get(page),
            None => None,
        };
        let (Some(chunk), Some(location)) = (self.chunk(), location) else {
            return Err(parquet_error("page index", 0, &damaged("a page")));
        };
        let null = self.values.len().saturating_sub(1) as u16;
        let bytes = &self.reader.bytes;
        let read = dictionary::codes(bytes, chunk, &location, null, scratch, codes);
        read.map_err(|error| parquet_error("segment", location.place.start, &error))
    }
}
