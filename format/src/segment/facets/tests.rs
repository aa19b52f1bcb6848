use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringViewArray,
};
use arrow::datatypes::{Int32Type, Int64Type};
use proptest::prelude::*;

use super::build::FacetsBuilder;
use super::*;

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
        let mut builder = FacetsBuilder::new(&[0, 1, 2, 3], 4);
        for (number, batch) in values.chunks(batch_rows).enumerate() {
            builder.add(&columns(batch), first_row + (number * batch_rows) as u32);
        }
        let mut postings = Vec::new();
        let strays = BTreeSet::from([3, 70]);
        let block = builder.finish(&rows, &strays, &mut postings).unwrap();
        let postings = Bytes::from(postings);
        let read = |range: Range<u64>| {
            Ok(postings.slice(range.start as usize..range.end as usize))
        };
        let facets = Facets::new(block.into(), rows.clone(), 0);
        for key in 0..72 {
            prop_assert_eq!(facets.has_strays(key), Ok(key == 3 || key == 70));
        }
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
            prop_assert_eq!(facet.nulls(&read).unwrap(), nulls, "column {}", column);
            for (place, (bytes, expected)) in expected.iter().enumerate() {
                let value = facet.value(place).unwrap();
                prop_assert_eq!(&value.bytes, bytes);
                prop_assert_eq!(u64::from(value.rows), expected.len());
                prop_assert_eq!(&facet.rows(&value, &read).unwrap(), expected);
                prop_assert_eq!(facet.find(bytes).unwrap(), Some(value));
            }
            prop_assert_eq!(facet.find(b"none").unwrap(), None);
        }
    }
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
    let mut builder = FacetsBuilder::new(&[0, 1, 2, 3], 4);
    builder.add(&[texts, few, nulls, doubles], 0);
    let none = BTreeSet::new();
    let block = builder
        .finish(&(0..count as u32), &none, &mut Vec::new())
        .unwrap();
    let facets = Facets::new(block.into(), 0..count as u32, 0);
    assert_eq!(facets.columns().unwrap(), [1]);
}
