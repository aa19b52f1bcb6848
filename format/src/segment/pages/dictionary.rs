//! Dictionaries, and the codes of the rows of a page.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanBufferBuilder, Float64Array, Int32Array, Int64Array,
    StringViewBuilder, UInt32Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use bytes::Buf;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::damaged;
use super::data_page::DataPage;
use super::hybrid::Hybrid;
use super::locations::PageLocation;
use crate::segment::layout::checksum::VerifiedBytes;

/// Values that a dictionary has at most whose codes are read: one more code is that of rows
/// without a value.
pub(crate) const MOST_CODED_VALUES: usize = u16::MAX as usize;

/// Adds the codes of all rows of a page, `null` for rows without a value, which is the
/// number of values that there are; false when the page does not hold codes. `scratch` is
/// memory to work in.
pub(crate) fn codes(
    bytes: &VerifiedBytes,
    chunk: &ColumnChunkMetaData,
    location: &PageLocation,
    null: u16,
    scratch: &mut Vec<u32>,
    codes: &mut Vec<u16>,
) -> Result<bool, ParquetError> {
    let page = DataPage::read(bytes, chunk, location.place.clone())?;
    if page.encoding != Encoding::RLE_DICTIONARY {
        return Ok(false);
    }
    let rows = location.rows.len();
    let present = match page.levels() {
        None => None,
        Some(levels) => {
            let mut present = BooleanBufferBuilder::new(rows);
            let bits = Hybrid::new(levels, 1).bits(0..rows, &mut present);
            bits.ok_or_else(|| damaged("levels"))?;
            Some(present.finish())
        }
    };
    let count = present.as_ref().map_or(rows, BooleanBuffer::count_set_bits);
    scratch.clear();
    if count > 0 {
        let (width, packed) = page.codes();
        let read = Hybrid::new(packed, width).read(0..count, scratch);
        let greatest = scratch.iter().copied().max();
        let read = read.filter(|()| greatest.is_some_and(|greatest| greatest < u32::from(null)));
        read.ok_or_else(|| damaged("codes of a dictionary"))?;
    }
    let mut values = scratch.iter().map(|code| *code as u16);
    let Some(present) = present.filter(|_| count < rows) else {
        codes.extend(values);
        return Ok(true);
    };
    let first = codes.len();
    codes.resize(first + rows, null);
    let of_page = codes.get_mut(first..).unwrap_or_default();
    for (start, end) in present.set_slices() {
        let run = of_page.get_mut(start..end).unwrap_or_default();
        // The run comes first: a value that has no place in it is not taken.
        run.iter_mut()
            .zip(&mut values)
            .for_each(|(place, value)| *place = value);
    }
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
