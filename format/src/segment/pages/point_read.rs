//! Reads a few rows of a column without the stock decoder: its set-up, decoding the
//! dictionary for every look-up, and skipping rows value by value cost more than the rows
//! do. Whatever this does not know is left to it.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, Float64Array,
    GenericByteViewBuilder, Int32Array, Int64Array, TimestampNanosecondArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, Field, StringViewType, TimeUnit};
use bytes::Buf;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::data_page::DataPage;
use super::hybrid::Hybrid;
use super::locations::PageLocation;
use super::{Pages, damaged, delta};
use crate::segment::layout::checksum::VerifiedBytes;

/// Bytes of the longest ids of fixed size.
const MOST_ID_BYTES: i32 = u8::MAX as i32;

/// The rows of a look-up: few, in one row group.
#[derive(Debug)]
pub(crate) struct PointRead {
    row_group: usize,
    /// Their numbers in the row group, in rising, disjoint ranges, none of them empty.
    rows: Vec<Range<u32>>,
    count: usize,
    /// Columns without any value, which many columns of a look-up share.
    nulls: RefCell<Vec<ArrayRef>>,
    /// Which rows have a value in the column that is read: most often all or none have, and
    /// then its memory serves the next column.
    is_valid: RefCell<BooleanBufferBuilder>,
}

/// Values of a page that are wanted.
struct Part {
    page: DataPage,
    /// Places among the values of the page, in rising, disjoint ranges.
    places: Vec<Range<usize>>,
}

impl PointRead {
    /// Rows of a row group, by their numbers in it, in rising, disjoint ranges.
    pub(crate) fn new(row_group: usize, rows: Vec<Range<u32>>) -> Self {
        let rows: Vec<_> = rows.into_iter().filter(|rows| !rows.is_empty()).collect();
        let count = rows.iter().map(ExactSizeIterator::len).sum();
        Self {
            row_group,
            rows,
            count,
            nulls: RefCell::default(),
            is_valid: RefCell::new(BooleanBufferBuilder::new(count)),
        }
    }

    /// How many there are.
    pub(crate) fn rows(&self) -> usize {
        self.count
    }

    /// The rows of a column without any value.
    pub(crate) fn nulls(&self, data_type: &DataType) -> ArrayRef {
        let mut known = self.nulls.borrow_mut();
        if let Some(nulls) = known.iter().find(|nulls| nulls.data_type() == data_type) {
            return Arc::clone(nulls);
        }
        let nulls = new_null_array(data_type, self.count);
        known.push(Arc::clone(&nulls));
        nulls
    }

    /// The values of a column of the file; none when it is not encoded in one of the ways
    /// that are read here.
    pub(crate) fn read(
        &self,
        bytes: &VerifiedBytes,
        pages: &Pages,
        column: usize,
        field: &Field,
    ) -> Result<Option<ArrayRef>, ParquetError> {
        let group = pages.row_group(self.row_group);
        let Some(chunk) = group.and_then(|group| group.columns().get(column)) else {
            return Ok(None);
        };
        // A forged schema would have room made for what no page holds.
        if matches!(field.data_type(), DataType::FixedSizeBinary(bytes) if *bytes > MOST_ID_BYTES) {
            return Ok(None);
        }
        let mut is_valid = self.is_valid.borrow_mut();
        is_valid.truncate(0);
        let Some(parts) = self.parts(bytes, pages, (column, chunk), &mut is_valid)? else {
            return Ok(None);
        };
        if is_valid.len() != self.count {
            return Err(damaged("all rows of a look-up"));
        }
        let present = wanted(&parts);
        if present == 0 {
            return Ok(Some(self.nulls(field.data_type())));
        }
        let nulls = (present < self.count).then(|| NullBuffer::new(is_valid.finish()));
        let mut encodings = parts.iter().map(|part| part.page.encoding);
        if encodings
            .clone()
            .all(|encoding| encoding == Encoding::RLE_DICTIONARY)
        {
            let dictionary = pages.decoded_dictionary(bytes, self.row_group, column, field)?;
            return dictionary
                .map(|values| by_codes(&parts, &values, nulls))
                .transpose();
        }
        // Where the dictionary was full, some pages have codes and some do not.
        if encodings.any(|encoding| encoding == Encoding::RLE_DICTIONARY) {
            return Ok(None);
        }
        values(&parts, field.data_type(), nulls, self.count)
    }

    /// The pages that hold the rows, and which rows have a value; none when there are rows
    /// that no page holds.
    fn parts(
        &self,
        bytes: &VerifiedBytes,
        pages: &Pages,
        (column, chunk): (usize, &ColumnChunkMetaData),
        is_valid: &mut BooleanBufferBuilder,
    ) -> Result<Option<Vec<Part>>, ParquetError> {
        let locations = pages.locations(self.row_group, column)?;
        let mut parts = Vec::new();
        let mut wanted = self.rows.iter().cloned();
        let mut next = wanted.next();
        while let Some(range) = next.clone() {
            let location = locations.get(locations.page_of(range.start));
            let Some(PageLocation { rows, place }) = location else {
                return Ok(None);
            };
            if !rows.contains(&range.start) {
                return Ok(None);
            }
            let page = DataPage::read(bytes, chunk, place)?;
            let mut places = Vec::new();
            let mut levels = page.levels().map(|levels| Hybrid::new(levels, 1));
            // All ranges, or their parts, that lie in this page.
            while let Some(range) = next.clone().filter(|range| range.start < rows.end) {
                let end = range.end.min(rows.end);
                let part = (range.start - rows.start) as usize..(end - rows.start) as usize;
                places.extend(places_of(part, levels.as_mut(), is_valid)?);
                next = if range.end > end {
                    Some(end..range.end)
                } else {
                    wanted.next()
                };
            }
            parts.push(Part { page, places });
        }
        Ok(Some(parts))
    }
}

/// Where the values of some rows lie among those of the page; notes which rows have one.
fn places_of(
    rows: Range<usize>,
    levels: Option<&mut Hybrid<'_>>,
    is_valid: &mut BooleanBufferBuilder,
) -> Result<Option<Range<usize>>, ParquetError> {
    let Some(levels) = levels else {
        is_valid.append_n(rows.len(), true);
        return Ok(Some(rows));
    };
    // Most often all rows have a value, or none has.
    let mut before_rows = (rows.len() > 1).then(|| levels.clone());
    let ones = levels.ones(rows.clone());
    let (before, count) = ones.ok_or_else(|| damaged("levels"))?;
    match &mut before_rows {
        Some(levels) if count > 0 && count < rows.len() => {
            let bits = levels.bits(rows, is_valid);
            bits.ok_or_else(|| damaged("levels"))?;
        }
        _ => is_valid.append_n(rows.len(), count > 0),
    }
    Ok((count > 0).then_some(before..before + count))
}

/// How many values are wanted.
fn wanted(parts: &[Part]) -> usize {
    let places = parts.iter().flat_map(|part| &part.places);
    places.map(Range::len).sum()
}

/// The values of a dictionary that codes stand for.
fn by_codes(
    parts: &[Part],
    dictionary: &ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ParquetError> {
    let short = || damaged("codes of a dictionary");
    let mut codes: Vec<u32> = Vec::with_capacity(wanted(parts));
    for Part { page, places } in parts {
        let (width, packed) = page.codes();
        let mut packed = Hybrid::new(packed, width);
        for range in places {
            packed.read(range.clone(), &mut codes).ok_or_else(short)?;
        }
    }
    let length = dictionary.len() as u32;
    if !codes.iter().all(|code| *code < length) {
        return Err(damaged("codes within the dictionary"));
    }
    let codes = spread(codes, nulls.as_ref()).ok_or_else(short)?;
    let codes = UInt32Array::new(codes.into(), nulls);
    take(dictionary, &codes, None).map_err(|error| ParquetError::ArrowError(error.to_string()))
}

/// Values that lie in pages as they are, or as their differences; none for a type or an
/// encoding that is not read here.
fn values(
    parts: &[Part],
    data_type: &DataType,
    nulls: Option<NullBuffer>,
    count: usize,
) -> Result<Option<ArrayRef>, ParquetError> {
    let short = || damaged("the values of a page");
    let are = |encoding| parts.iter().all(|part| part.page.encoding == encoding);
    let is_integer = matches!(
        data_type,
        DataType::Int32 | DataType::UInt32 | DataType::Int64 | DataType::Timestamp(..)
    );
    if are(Encoding::DELTA_BINARY_PACKED) && is_integer {
        let mut found = Vec::with_capacity(wanted(parts));
        for Part { page, places } in parts {
            delta::read(page.values(), places, &mut found).ok_or_else(short)?;
        }
        let found = spread(found, nulls.as_ref()).ok_or_else(short)?;
        return Ok(integers(found, data_type, nulls));
    }
    if !are(Encoding::PLAIN) {
        return Ok(None);
    }
    let array: ArrayRef = match data_type {
        DataType::Utf8View => views::<StringViewType, _>(parts, nulls.as_ref(), |text| {
            std::str::from_utf8(text).map_err(|_| damaged("text in UTF-8"))
        })?,
        DataType::BinaryView => views::<BinaryViewType, _>(parts, nulls.as_ref(), Ok)?,
        DataType::FixedSizeBinary(bytes) => {
            let size = usize::try_from(*bytes).map_err(|_| short())?;
            let mut found = Vec::with_capacity(count * size);
            let mut present = of_size(parts, size);
            for row in 0..count {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    found.resize(found.len() + size, 0);
                } else {
                    let value = present.next().flatten().ok_or_else(short)?;
                    found.extend_from_slice(value);
                }
            }
            let ids = FixedSizeBinaryArray::try_new(*bytes, found.into(), nulls);
            Arc::new(ids.map_err(|error| ParquetError::ArrowError(error.to_string()))?)
        }
        DataType::Int32 | DataType::UInt32 => {
            let number = |bytes| i64::from(i32::from_le_bytes(bytes));
            let found = numbers(parts, nulls.as_ref(), number).ok_or_else(short)?;
            return Ok(integers(found, data_type, nulls));
        }
        DataType::Int64 | DataType::Timestamp(..) => {
            let found = numbers(parts, nulls.as_ref(), i64::from_le_bytes).ok_or_else(short)?;
            return Ok(integers(found, data_type, nulls));
        }
        DataType::Float64 => {
            let found = numbers(parts, nulls.as_ref(), f64::from_le_bytes).ok_or_else(short)?;
            Arc::new(Float64Array::new(found.into(), nulls))
        }
        DataType::Boolean => {
            let bit = |page: &DataPage, place: usize| {
                let byte = page.values().get(place / 8)?;
                Some(byte >> (place % 8) & 1 == 1)
            };
            let places = parts.iter().flat_map(|part| {
                let places = part.places.iter().cloned().flatten();
                places.map(|place| bit(&part.page, place))
            });
            let found: Option<Vec<bool>> = places.collect();
            let found = spread(found.ok_or_else(short)?, nulls.as_ref()).ok_or_else(short)?;
            Arc::new(BooleanArray::new(found.into(), nulls))
        }
        _ => return Ok(None),
    };
    Ok(Some(array))
}

/// Integers as their type has them; those of 32 bits are the lower ones.
fn integers(values: Vec<i64>, data_type: &DataType, nulls: Option<NullBuffer>) -> Option<ArrayRef> {
    Some(match data_type {
        DataType::Int64 => Arc::new(Int64Array::new(values.into(), nulls)),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let times = TimestampNanosecondArray::new(values.into(), nulls);
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        DataType::Int32 => {
            let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
            Arc::new(Int32Array::new(values.into(), nulls))
        }
        DataType::UInt32 => {
            let values: Vec<u32> = values.into_iter().map(|value| value as u32).collect();
            Arc::new(UInt32Array::new(values.into(), nulls))
        }
        _ => return None,
    })
}

/// The wanted values of pages in which each has a size of its own.
fn of_lengths(parts: &[Part]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::with_capacity(wanted(parts));
    for Part { page, places } in parts {
        let mut rest = page.values();
        let mut at = 0;
        for range in places {
            while at < range.end {
                let length = rest.try_get_u32_le().ok()? as usize;
                let (value, behind) = rest.split_at_checked(length)?;
                if at >= range.start {
                    found.push(value);
                }
                rest = behind;
                at += 1;
            }
        }
    }
    Some(found)
}

/// The wanted values of pages in which all have one size; none for one that is not there.
fn of_size(parts: &[Part], size: usize) -> impl Iterator<Item = Option<&[u8]>> {
    parts.iter().flat_map(move |Part { page, places }| {
        let values = page.values();
        places.iter().cloned().flatten().map(move |place| {
            let start = place.checked_mul(size)?;
            values.get(start..start.checked_add(size)?)
        })
    })
}

/// The wanted numbers, at the rows that have one.
fn numbers<T: Copy + Default, const N: usize>(
    parts: &[Part],
    nulls: Option<&NullBuffer>,
    number: impl Fn([u8; N]) -> T,
) -> Option<Vec<T>> {
    let mut found = Vec::with_capacity(wanted(parts));
    for value in of_size(parts, N) {
        found.push(number(value?.try_into().ok()?));
    }
    spread(found, nulls)
}

/// The wanted texts or bytes, at the rows that have one.
fn views<'a, T: ByteViewType, V: AsRef<T::Native>>(
    parts: &'a [Part],
    nulls: Option<&NullBuffer>,
    value: impl Fn(&'a [u8]) -> Result<V, ParquetError>,
) -> Result<ArrayRef, ParquetError> {
    let found = of_lengths(parts).and_then(|found| spread(found, nulls));
    let found = found.ok_or_else(|| damaged("the values of a page"))?;
    let mut views = GenericByteViewBuilder::<T>::with_capacity(found.len());
    for (row, bytes) in found.into_iter().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            views.append_null();
        } else {
            views.append_value(value(bytes)?);
        }
    }
    Ok(Arc::new(views.finish()))
}

/// Values at the rows that have one; others have any. None when there are too few.
fn spread<T: Copy + Default>(values: Vec<T>, nulls: Option<&NullBuffer>) -> Option<Vec<T>> {
    let Some(nulls) = nulls else {
        return Some(values);
    };
    let mut values = values.into_iter();
    let mut spread = Vec::with_capacity(nulls.len());
    for is_valid in nulls {
        spread.push(if is_valid {
            values.next()?
        } else {
            T::default()
        });
    }
    Some(spread)
}
