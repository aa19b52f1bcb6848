use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringViewArray,
};
use arrow::datatypes::{Int32Type, Int64Type};
use proptest::prelude::*;

use super::build::FacetsBuilder;
use super::*;
use crate::segment::postings::PostingsBuilder;

/// Values of one column, neighbours often being equal, as four columns: texts,
/// two widths of integers, booleans.
fn columns(values: &[Option<u8>]) -> Vec<ArrayRef> {
    // Some texts fit into a view, some differ only behind their beginning.
    let text = |value: u8| match value % 3 {
        0 => format!("v{value}"),
        1 => format!("a text of more than twelve bytes, {value}"),
        _ => format!("{value} then a text of more than twelve bytes"),
    };
    let values = || values.iter().copied();
    vec![
        Arc::new(
            values()
                .map(|value| value.map(text))
                .collect::<StringViewArray>(),
        ),
        Arc::new(
            values()
                .map(|value| value.map(|value| i32::from(value) - 2))
                .collect::<Int32Array>(),
        ),
        Arc::new(
            values()
                .map(|value| value.map(|value| (i64::from(value) - 2) << 40))
                .collect::<Int64Array>(),
        ),
        Arc::new(
            values()
                .map(|value| value.map(|value| value % 2 == 0))
                .collect::<BooleanArray>(),
        ),
    ]
}

/// What a value of a column is in a facet.
fn bytes(column: usize, value: u8) -> Vec<u8> {
    let columns = columns(&[Some(value)]);
    let column = &columns[column];
    if let Some(texts) = column.as_string_view_opt() {
        texts.value(0).as_bytes().to_vec()
    } else if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
        integer_bytes(i64::from(numbers.value(0))).to_vec()
    } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        integer_bytes(numbers.value(0)).to_vec()
    } else {
        vec![u8::from(column.as_boolean().value(0))]
    }
}

fn runs() -> impl Strategy<Value = Vec<(Option<u8>, usize)>> {
    let value = prop_oneof![Just(None), (0u8..6).prop_map(Some)];
    let length = prop_oneof![1usize..4, 1usize..300];
    prop::collection::vec((value, length), 1..40)
}

proptest! {
    #[test]
    fn a_facet_has_the_rows_of_each_value(
        runs in runs(),
        first_row in prop_oneof![Just(0u32), 0u32..200_000],
        batch_rows in 1usize..200,
    ) {
        let values: Vec<Option<u8>> = runs
            .iter()
            .flat_map(|(value, length)| std::iter::repeat_n(*value, *length))
            .collect();
        let rows = first_row..first_row + values.len() as u32;
        let mut builder = FacetsBuilder::new(&[0, 1, 2, 3], 4, first_row);
        for batch in values.chunks(batch_rows) {
            builder.add(&columns(batch));
        }
        let mut postings = PostingsBuilder::default();
        let strays = BTreeSet::from([3, 70]);
        let block = builder.finish(&rows, &strays, &mut postings).unwrap();
        let postings = Bytes::from(postings.bytes);
        let read = |range: Range<u64>| {
            Ok(postings.slice(range.start as usize..range.end as usize))
        };
        let facets = Facets::new(block.into(), rows.clone(), 0);
        for key in 0..72 {
            prop_assert_eq!(facets.has_strays(key), Ok(key == 3 || key == 70));
        }
        // Facets share what is known of the same rows.
        let mut known: [CodeCounts; 4] = Default::default();
        for column in 0..4 {
            let mut expected: BTreeMap<Vec<u8>, RoaringBitmap> = BTreeMap::new();
            let mut nulls = RoaringBitmap::new();
            for (row, value) in rows.clone().zip(&values) {
                match value {
                    Some(value) => expected.entry(bytes(column, *value)).or_default().insert(row),
                    None => nulls.insert(row),
                };
            }
            let Some(facet) = facets.facet(column).unwrap() else {
                prop_assert!(expected.is_empty(), "column {}", column);
                continue;
            };
            prop_assert_eq!(facet.len(), expected.len());
            prop_assert_eq!(u64::from(facet.null_rows()), nulls.len());
            prop_assert_eq!(facet.nulls(&read).unwrap(), nulls.clone(), "column {}", column);
            for (place, (bytes, expected)) in expected.iter().enumerate() {
                let value = facet.value(place).unwrap();
                prop_assert_eq!(&value.bytes, bytes);
                prop_assert_eq!(u64::from(value.rows), expected.len());
                prop_assert_eq!(&facet.rows(&value, &read).unwrap(), expected);
                prop_assert_eq!(facet.find(bytes).unwrap(), Some(value));
            }
            prop_assert_eq!(facet.find(b"none").unwrap(), None);
            // Several values, and counts of some of the rows.
            let sets: Vec<_> = expected.values().chain([&nulls]).collect();
            for wanted in [0b101_0101u32, 0b0110, 0b111_1111] {
                let is_wanted = |place: usize| wanted >> place & 1 == 1;
                let found = sets.iter().enumerate().filter(|(place, _)| is_wanted(*place));
                let found = found.map(|(_, set)| *set).union();
                let rows = facet.rows_of(is_wanted, &read).unwrap();
                let of_groups = (0..4).map(|group| rows.of_row_group(group).unwrap());
                prop_assert_eq!(of_groups.union(), found.clone());
                prop_assert_eq!(rows.all(), Ok(found));
            }
            for (sevenths, known) in [0, 3, 5, 7].into_iter().zip(&mut known) {
                let some: RoaringBitmap = rows.clone().filter(|row| row % 7 < sevenths).collect();
                let counts = sets.iter().map(|set| set.intersection_len(&some));
                let counts: Vec<u64> = counts.collect();
                prop_assert_eq!(&facet.counts(&some, |_| true, known, &read).unwrap(), &counts);
                for wanted in [0b101_0101u32, 0b0010, 0] {
                    let is_wanted = |place: usize| wanted >> place & 1 == 1;
                    let places = counts.iter().enumerate();
                    let some_counts = places.map(|(place, count)| {
                        if is_wanted(place) { *count } else { 0 }
                    });
                    let found = facet.counts(&some, is_wanted, known, &read);
                    prop_assert_eq!(found, Ok(some_counts.collect()));
                    let most = wanted.count_ones() as usize;
                    let postings = facet.postings_of(is_wanted).unwrap();
                    prop_assert!(postings <= most || postings == facet.len());
                }
            }
        }
    }
}

/// Columns of integers, each a function of the row's number; none where it answers
/// none.
type Columns<'a> = &'a [&'a dyn Fn(u32) -> Option<i32>];

/// The facets of such columns, which come back as they are; answers the bytes of their
/// postings.
fn written_and_read(columns: Columns<'_>, rows: Range<u32>) -> usize {
    let places: Vec<usize> = (0..columns.len()).collect();
    let mut builder = FacetsBuilder::new(&places, columns.len(), rows.start);
    for start in rows.clone().step_by(1_000) {
        let batch = start..rows.end.min(start + 1_000);
        let of_batch = columns.iter().map(|value| -> ArrayRef {
            Arc::new(batch.clone().map(value).collect::<Int32Array>())
        });
        builder.add(&of_batch.collect::<Vec<_>>());
    }
    let mut postings = PostingsBuilder::default();
    let block = builder
        .finish(&rows, &BTreeSet::new(), &mut postings)
        .unwrap();
    let postings = Bytes::from(postings.bytes);
    let read = |range: Range<u64>| Ok(postings.slice(range.start as usize..range.end as usize));
    let facets = Facets::new(block.into(), rows.clone(), 0);
    let mut bytes = 0;
    for (place, value) in columns.iter().enumerate() {
        let mut expected: BTreeMap<Option<i32>, RoaringBitmap> = BTreeMap::new();
        for row in rows.clone() {
            expected.entry(value(row)).or_default().insert(row);
        }
        let nulls = expected.remove(&None).unwrap_or_default();
        let facet = facets.facet(place).unwrap().unwrap();
        bytes += facet.posting_bytes().unwrap();
        assert_eq!(facet.nulls(&read).unwrap(), nulls);
        assert_eq!(u64::from(facet.null_rows()), nulls.len());
        assert_eq!(facet.len(), expected.len());
        for (place, (value, expected)) in expected.into_iter().enumerate() {
            let found = facet.value(place).unwrap();
            assert_eq!(integer_of(&found.bytes), value.map(i64::from));
            assert_eq!(u64::from(found.rows), expected.len());
            assert_eq!(facet.rows(&found, &read).unwrap(), expected);
        }
    }
    assert_eq!(bytes, postings.len() as u64, "each byte is counted once");
    postings.len()
}

/// A number that tells nothing of its row.
fn scattered(row: u32) -> u32 {
    row.wrapping_mul(0x9e37_79b9) >> 7
}

#[test]
fn columns_that_depend_on_each_other_share_codes() {
    // Rows not from 0 on, over a border of row groups, that no byte ends at.
    for rows in [5..8_197, 60_003..130_007, 65_536..139_264] {
        let count = rows.len();
        let number = |row: u32| Some((scattered(row) % 40) as i32);
        let tens = |row: u32| Some((scattered(row) % 40 / 10) as i32);
        let some = |row: u32| (scattered(row) % 40 < 13).then_some(7);
        let alone = written_and_read(&[&number], rows.clone());
        let all = written_and_read(&[&tens, &number, &some, &number], rows.clone());
        assert_eq!(all, alone, "the others cost nothing");
        assert!(
            alone <= count * 6 / 8 + 1_000,
            "six bits a row, not {alone}"
        );
    }
}

#[test]
fn columns_of_any_shape_come_back() {
    let rows = 70_001..140_003;
    let one = |_| Some(5);
    let one_or_none = |row: u32| scattered(row).is_multiple_of(3).then_some(5);
    let most = |row: u32| Some((scattered(row) % 4_096) as i32);
    let runs = |row: u32| Some((row / 5_000) as i32);
    let codes = |row: u32| Some((scattered(row) % 128) as i32);
    let too_many_codes = |row: u32| (scattered(row) % 129).checked_sub(1).map(|n| n as i32);
    // In few rows, which are not among the first combinations.
    let rare = |row: u32| Some(i32::from(row > 139_990) * (row % 9) as i32);
    assert_eq!(written_and_read(&[&one], rows.clone()), 0);
    let columns: Columns<'_> = &[
        &one_or_none,
        &most,
        &runs,
        &codes,
        &too_many_codes,
        &rare,
        &one,
    ];
    for column in columns {
        written_and_read(&[column], rows.clone());
    }
    written_and_read(columns, rows);
    written_and_read(&[&one, &runs], 3..4);
}

#[test]
fn bytes_of_integers_are_in_the_order_of_numbers() {
    let numbers = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX];
    let bytes = numbers.map(integer_bytes);
    assert!(bytes.is_sorted());
    assert_eq!(bytes.map(|bytes| integer_of(&bytes)), numbers.map(Some));
    assert_eq!(integer_of(&[1; 7]), None);
}

#[test]
fn columns_of_too_many_values_or_of_none_are_left_out() {
    let count = 5_000;
    let texts: ArrayRef = Arc::new(
        (0..count)
            .map(|n| Some(format!("value {n}")))
            .collect::<StringViewArray>(),
    );
    let few: ArrayRef = Arc::new((0..count).map(|n| Some(n % 4)).collect::<Int32Array>());
    let nulls: ArrayRef = Arc::new((0..count).map(|_| None).collect::<Int32Array>());
    let doubles: ArrayRef = Arc::new((0..count).map(|_| Some(0.5)).collect::<Float64Array>());
    let mut builder = FacetsBuilder::new(&[0, 1, 2, 3], 4, 0);
    builder.add(&[texts, few, nulls, doubles]);
    let none = BTreeSet::new();
    let block = builder
        .finish(&(0..count as u32), &none, &mut PostingsBuilder::default())
        .unwrap();
    let facets = Facets::new(block.into(), 0..count as u32, 0);
    assert_eq!(facets.columns().unwrap(), [1]);
}
