//! Parquet's packed differences of integers, `DELTA_BINARY_PACKED`
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>).

use std::ops::Range;

use crate::wire::take_varint;

/// Adds the values at some places of a page, in rising, disjoint ranges. Of integers of 32
/// bits the lower 32 are the value. None when the bytes make no sense.
pub(crate) fn read(mut bytes: &[u8], wanted: &[Range<usize>], values: &mut Vec<i64>) -> Option<()> {
    let Some(end) = wanted.last().map(|range| range.end) else {
        return Some(());
    };
    let block = usize::try_from(take_varint(&mut bytes)?).ok()?;
    let per_block = usize::try_from(take_varint(&mut bytes)?).ok()?;
    let count = usize::try_from(take_varint(&mut bytes)?).ok()?;
    let mini = block.checked_div(per_block)?;
    if end > count || mini == 0 || !mini.is_multiple_of(8) {
        return None;
    }
    let mut value = signed(take_varint(&mut bytes)?);
    let mut ranges = wanted.iter().cloned();
    let mut range = ranges.next();
    let mut place = 0;
    let mut take = |value: i64| {
        while let Some(wanted) = &range
            && place >= wanted.end
        {
            range = ranges.next();
        }
        if range.as_ref().is_some_and(|wanted| place >= wanted.start) {
            values.push(value);
        }
        place += 1;
        place < end
    };
    if !take(value) {
        return Some(());
    }
    loop {
        let least = signed(take_varint(&mut bytes)?);
        let (widths, rest) = bytes.split_at_checked(per_block)?;
        bytes = rest;
        for width in widths {
            let length = mini.checked_mul(usize::from(*width))? / 8;
            // The last one of a page may be cut.
            let (packed, rest) = bytes.split_at(length.min(bytes.len()));
            bytes = rest;
            for number in 0..mini {
                let difference = bits(packed, u32::from(*width), number)?;
                value = value
                    .wrapping_add(least)
                    .wrapping_add(difference.cast_signed());
                if !take(value) {
                    return Some(());
                }
            }
        }
    }
}

/// The number of so many bits at a place of packed ones.
fn bits(bytes: &[u8], width: u32, place: usize) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let bit = place.checked_mul(width as usize)?;
    let bytes = bytes.get(bit / 8..)?;
    let word = if let Some(word) = bytes.first_chunk() {
        u128::from_le_bytes(*word)
    } else {
        let mut word = [0; 16];
        let end = word.len().min(bytes.len());
        word.get_mut(..end)?.copy_from_slice(bytes.get(..end)?);
        // The last value has to lie within.
        if bit % 8 + width as usize > bytes.len() * 8 {
            return None;
        }
        u128::from_le_bytes(word)
    };
    let mask = u64::MAX.checked_shr(64_u32.checked_sub(width)?)?;
    Some((word >> (bit % 8)) as u64 & mask)
}

/// A number whose sign is its last bit.
fn signed(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, Int64Array, RecordBatch};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, Encoding};
    use parquet::column::page::Page;
    use parquet::file::properties::WriterProperties;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;

    use super::*;

    /// The one page that the stock writer makes of some integers.
    fn page(batch: &RecordBatch) -> Bytes {
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_compression(Compression::UNCOMPRESSED)
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let page = group.get_column_page_reader(0).unwrap().get_next_page();
        match page.unwrap().unwrap() {
            Page::DataPage { buf, encoding, .. } => {
                assert_eq!(encoding, Encoding::DELTA_BINARY_PACKED);
                buf
            }
            other => panic!("{other:?}"),
        }
    }

    fn batch(values: impl arrow::array::Array + 'static) -> RecordBatch {
        RecordBatch::try_from_iter([("number", Arc::new(values) as _)]).unwrap()
    }

    proptest! {
        #[test]
        fn any_ranges_are_read(
            values in proptest::collection::vec(
                prop_oneof![any::<i64>(), 0..1_000_i64, Just(i64::MIN), Just(i64::MAX)], 1..700),
            cuts in proptest::collection::vec(0_usize..700, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (values.len() + 1)).collect();
            cuts.sort_unstable();
            let ranges: Vec<_> = cuts.chunks_exact(2).map(|cut| cut[0]..cut[1]).collect();
            let wide = page(&batch(Int64Array::from(values.clone())));
            let narrow: Vec<i32> = values.iter().map(|value| *value as i32).collect();
            let narrow_page = page(&batch(Int32Array::from(narrow.clone())));
            let (mut found, mut found_narrow) = (Vec::new(), Vec::new());
            prop_assert_eq!(read(&wide, &ranges, &mut found), Some(()));
            prop_assert_eq!(read(&narrow_page, &ranges, &mut found_narrow), Some(()));
            let expected: Vec<i64> = ranges.iter().flat_map(|range| values[range.clone()].to_vec()).collect();
            prop_assert_eq!(found, expected);
            let expected: Vec<i32> = ranges.iter().flat_map(|range| narrow[range.clone()].to_vec()).collect();
            let found: Vec<i32> = found_narrow.into_iter().map(|value| value as i32).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut values = Vec::new();
            let is_read = read(&bytes, &[3..20, 25..26], &mut values).is_some();
            prop_assert!(!is_read || values.len() == 18);
        }
    }

    #[test]
    fn what_is_cut_or_beyond_the_end_is_none() {
        let page = page(&batch(
            (0..300).map(|n| n * n * 7_919).collect::<Int64Array>(),
        ));
        let mut values = Vec::new();
        assert_eq!(read(&page, &[0..300], &mut values), Some(()));
        assert_eq!(read(&page, &[299..301], &mut values), None);
        for end in 0..page.len() / 2 {
            assert_eq!(
                read(&page[..end], &[0..300], &mut Vec::new()),
                None,
                "{end}"
            );
        }
    }
}
