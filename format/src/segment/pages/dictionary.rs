//! Reads a few rows of a column that is encoded by dictionary, without the
//! stock decoder: its set-up, and decoding the dictionary for every look-up,
//! cost more than the rows do. Whatever this does not know is left to it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, Float64Array, Int32Array, Int64Array, StringViewBuilder,
    UInt32Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use bytes::{Buf, Bytes};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::hybrid;
use super::locations::PageLocation;
use super::{Pages, damaged, decompress, find_page};
use crate::segment::layout::checksum::VerifiedBytes;

/// Some rows of a column in one row group, `rows` being numbers within the
/// group in rising, disjoint ranges. None when the column is not encoded in the
/// one way that is read here.
pub(crate) fn read(
    bytes: &VerifiedBytes,
    pages: &Pages,
    row_group: usize,
    column: usize,
    field: &Field,
    rows: &[Range<u32>],
) -> Result<Option<ArrayRef>, ParquetError> {
    let Some(dictionary) = pages.decoded_dictionary(bytes, row_group, column, field)? else {
        return Ok(None);
    };
    let group = pages.metadata.row_groups().get(row_group);
    let chunk = group.and_then(|group| group.columns().get(column));
    let Some(chunk) = chunk else {
        return Ok(None);
    };
    let locations = pages.locations(row_group, column)?;
    let mut indices: Vec<u32> = Vec::new();
    let mut is_valid: Vec<bool> = Vec::new();
    let mut wanted = rows.iter().cloned();
    let mut next = wanted.next();
    let mut page = locations.page_of(next.as_ref().map_or(0, |rows| rows.start));
    while let Some(range) = next.clone() {
        let Some(location) = locations.get(page) else {
            return Ok(None);
        };
        let Range { start: first, end } = location.rows;
        if range.start >= end {
            page = locations.page_of(range.start).max(page + 1);
            continue;
        }
        let Some(codes) = CodePage::read(bytes, chunk, location.place)? else {
            return Ok(None);
        };
        let levels = codes.levels();
        // All ranges, or their parts, that lie in this page.
        let mut present: Vec<u32> = Vec::new();
        while let Some(range) = next.clone().filter(|range| range.start < end) {
            let part = (range.start - first) as usize..(range.end.min(end) - first) as usize;
            let positions = match levels {
                None => {
                    is_valid.extend(std::iter::repeat_n(true, part.len()));
                    part
                }
                Some(levels) => {
                    let before = hybrid::ones_before(levels, part.start);
                    present.clear();
                    let read = hybrid::read(levels, 1, part, &mut present);
                    let before = before.zip(read).ok_or_else(|| damaged("levels"))?.0;
                    is_valid.extend(present.iter().map(|level| *level == 1));
                    let count = present.iter().filter(|level| **level == 1).count();
                    before..before + count
                }
            };
            let mut found = Vec::with_capacity(positions.len());
            if !positions.is_empty() {
                hybrid::read(codes.codes(), codes.bit_width, positions, &mut found)
                    .ok_or_else(|| damaged("indices of a dictionary"))?;
            }
            // Rows without a value point anywhere.
            let mut found = found.into_iter();
            let added = is_valid.get(indices.len()..).unwrap_or_default();
            let added: Vec<u32> = added
                .iter()
                .map(|is_valid| {
                    if *is_valid {
                        found.next().unwrap_or(0)
                    } else {
                        0
                    }
                })
                .collect();
            indices.extend(added);
            next = if range.end > end {
                Some(end..range.end)
            } else {
                wanted.next()
            };
        }
        page += 1;
    }
    let nulls = NullBuffer::new(BooleanBuffer::from(is_valid));
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    let length = dictionary.len() as u32;
    let is_within = indices.iter().enumerate().all(|(row, index)| {
        *index < length || nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    });
    if !is_within {
        return Err(damaged("indices within the dictionary"));
    }
    let indices = UInt32Array::new(indices.into(), nulls);
    take(&dictionary, &indices, None)
        .map(Some)
        .map_err(|error| ParquetError::ArrowError(error.to_string()))
}

/// A page of codes, decompressed.
struct CodePage {
    data: Bytes,
    /// Where the levels lie that tell which rows have a value; none where all have.
    levels: Option<Range<usize>>,
    bit_width: u32,
    /// Where the codes begin.
    codes: usize,
}

impl CodePage {
    /// Reads a page; none when it does not hold codes.
    fn read(
        bytes: &VerifiedBytes,
        chunk: &ColumnChunkMetaData,
        place: Range<u64>,
    ) -> Result<Option<Self>, ParquetError> {
        let (header, data) = find_page(bytes, place)?;
        if header.encoding != Encoding::RLE_DICTIONARY {
            return Ok(None);
        }
        let data = decompress(chunk.compression(), data, header.uncompressed_bytes)?;
        let mut start = 0;
        let mut levels = None;
        if chunk.column_descr().max_def_level() == 1 {
            let mut length: &[u8] = &data;
            let length = length.try_get_u32_le().map_err(|_| damaged("levels"))?;
            let end = size_of::<u32>().saturating_add(length as usize);
            if end > data.len() {
                return Err(damaged("levels within their page"));
            }
            levels = Some(size_of::<u32>()..end);
            start = end;
        }
        Ok(Some(Self {
            levels,
            // A page without any value has no width.
            bit_width: data.get(start).copied().unwrap_or(0).into(),
            codes: data.len().min(start + 1),
            data,
        }))
    }

    fn levels(&self) -> Option<&[u8]> {
        self.data.get(self.levels.clone()?)
    }

    fn codes(&self) -> &[u8] {
        self.data.get(self.codes..).unwrap_or_default()
    }
}

/// The codes of all rows of a page, in place of what `codes` held, `null` for rows without
/// a value, which is the number of values that there are; false when the page does not
/// hold codes.
pub(crate) fn codes(
    bytes: &VerifiedBytes,
    chunk: &ColumnChunkMetaData,
    location: &PageLocation,
    null: u32,
    codes: &mut Vec<u32>,
) -> Result<bool, ParquetError> {
    codes.clear();
    let Some(page) = CodePage::read(bytes, chunk, location.place.clone())? else {
        return Ok(false);
    };
    let rows = location.rows.len();
    let read = |count: usize, codes: &mut Vec<u32>| {
        let read = hybrid::read(page.codes(), page.bit_width, 0..count, codes);
        let greatest = codes.iter().copied().max();
        let read = read.filter(|()| greatest.is_none_or(|greatest| greatest < null));
        read.ok_or_else(|| damaged("codes of a dictionary"))
    };
    let Some(levels) = page.levels() else {
        read(rows, codes)?;
        return Ok(true);
    };
    let mut present = Vec::with_capacity(rows);
    hybrid::read(levels, 1, 0..rows, &mut present).ok_or_else(|| damaged("levels"))?;
    let count = present.iter().filter(|level| **level == 1).count();
    if count == rows {
        read(rows, codes)?;
        return Ok(true);
    }
    let mut of_present = Vec::with_capacity(count);
    if count > 0 {
        read(count, &mut of_present)?;
    }
    let mut next = 0;
    codes.extend(present.into_iter().map(|level| {
        let code = of_present.get(next).copied().unwrap_or(null);
        let is_present = level == 1;
        next += usize::from(is_present);
        if is_present { code } else { null }
    }));
    Ok(true)
}

/// The values of a dictionary page; none for a type that is not read here.
pub(crate) fn decode(
    mut page: &[u8],
    values: usize,
    data_type: &DataType,
) -> Result<Option<ArrayRef>, ParquetError> {
    let short = || damaged("the values of a dictionary");
    // A value takes four bytes at least, whatever the header says.
    if values > page.len() / 4 {
        return Err(short());
    }
    let array: ArrayRef = match data_type {
        DataType::Utf8View => {
            let mut builder = StringViewBuilder::with_capacity(values);
            for _ in 0..values {
                let text = std::str::from_utf8(take_bytes(&mut page).ok_or_else(short)?);
                builder.append_value(text.map_err(|_| damaged("text in UTF-8"))?);
            }
            Arc::new(builder.finish())
        }
        DataType::BinaryView => {
            let mut builder = BinaryViewBuilder::with_capacity(values);
            for _ in 0..values {
                builder.append_value(take_bytes(&mut page).ok_or_else(short)?);
            }
            Arc::new(builder.finish())
        }
        DataType::Int32 | DataType::UInt32 => {
            let numbers: Result<Vec<i32>, _> = (0..values).map(|_| page.try_get_i32_le()).collect();
            let numbers = numbers.map_err(|_| short())?;
            if *data_type == DataType::Int32 {
                Arc::new(Int32Array::from(numbers))
            } else {
                let numbers = numbers.into_iter().map(i32::cast_unsigned);
                Arc::new(UInt32Array::from_iter_values(numbers))
            }
        }
        DataType::Int64 => {
            let numbers: Result<Vec<i64>, _> = (0..values).map(|_| page.try_get_i64_le()).collect();
            Arc::new(Int64Array::from(numbers.map_err(|_| short())?))
        }
        DataType::Float64 => {
            let numbers: Result<Vec<f64>, _> = (0..values).map(|_| page.try_get_f64_le()).collect();
            Arc::new(Float64Array::from(numbers.map_err(|_| short())?))
        }
        _ => return Ok(None),
    };
    Ok(Some(array))
}

fn take_bytes<'a>(page: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = page.try_get_u32_le().ok()? as usize;
    let (bytes, rest) = page.split_at_checked(length)?;
    *page = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_that_says_too_much_is_damaged() {
        let page = [2, 0, 0, 0, b'o', b'k', 9, 0, 0, 0, b'x'];
        let texts = decode(&page, 1, &DataType::Utf8View).unwrap().unwrap();
        assert_eq!(texts.len(), 1);
        for data_type in [DataType::Utf8View, DataType::BinaryView, DataType::Int64] {
            for values in [2, 3, usize::MAX] {
                assert!(decode(&page, values, &data_type).is_err(), "{data_type}");
            }
        }
        assert!(decode(&[1, 0, 0, 0, 0xff], 1, &DataType::Utf8View).is_err());
    }
}
