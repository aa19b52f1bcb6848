//! Dictionaries, and the codes of the rows of a page.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, Float64Array, Int32Array, Int64Array, StringViewBuilder,
    UInt32Array,
};
use arrow::datatypes::DataType;
use bytes::Buf;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::data_page::DataPage;
use super::locations::PageLocation;
use super::{damaged, hybrid};
use crate::segment::layout::checksum::VerifiedBytes;

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
    let page = DataPage::read(bytes, chunk, location.place.clone())?;
    if page.encoding != Encoding::RLE_DICTIONARY {
        return Ok(false);
    }
    let rows = location.rows.len();
    let (width, packed) = page.codes();
    let read = |count: usize, codes: &mut Vec<u32>| {
        let read = hybrid::read(packed, width, 0..count, codes);
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
