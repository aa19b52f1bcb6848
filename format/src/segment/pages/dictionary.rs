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
use bytes::Buf;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;

use super::hybrid;
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
    let is_optional = chunk.column_descr().max_def_level() == 1;
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
        let (header, data) = find_page(bytes, location.place)?;
        if header.encoding != Encoding::RLE_DICTIONARY {
            return Ok(None);
        }
        let data = decompress(chunk.compression(), data, header.uncompressed_bytes)?;
        let mut data: &[u8] = &data;
        let levels = if is_optional {
            let length = data.try_get_u32_le().map_err(|_| damaged("levels"))?;
            let (levels, rest) = data
                .split_at_checked(length as usize)
                .ok_or_else(|| damaged("levels within their page"))?;
            data = rest;
            Some(levels)
        } else {
            None
        };
        let (bit_width, values) = match data.split_first() {
            Some((width, values)) => (u32::from(*width), values),
            // A page without any value.
            None => (0, data),
        };
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
                hybrid::read(values, bit_width, positions, &mut found)
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
