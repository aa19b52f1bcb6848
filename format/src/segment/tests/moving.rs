//! Rows that move from one segment into another.

use std::sync::Arc;

use super::*;
use crate::segment::layout::order::CHUNK_ROWS;
use crate::segment::promotion::moving::{Moving, SplitRows};
use crate::segment::promotion::{ChosenKey, PromotedType};
use crate::segment::testing::varied_segment;

fn write(
    to: &Promotion,
    batches: impl Iterator<Item = RecordBatch>,
    write: impl Fn(&mut SegmentWriter<Vec<u8>>, &RecordBatch),
) -> Vec<u8> {
    let segment = NewSegment {
        id: SegmentId(10),
        month: crate::month::Month::of(START as i64),
        origin: Origin::sealed(1..9),
        promotion: to.clone(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), table(), segment).unwrap();
    batches.for_each(|batch| write(&mut writer, &batch));
    writer.finish().unwrap().0
}

/// Whatever both segments promote, the new one is what it would be if its rows had
/// come in whole: columns, strays, facets and indexes.
#[test]
fn a_segment_of_moved_rows_is_that_of_whole_rows() {
    let (file, summary) = varied_segment(&[("a", 20_000), ("b", 300)]);
    let rows = [0..summary.rows];
    let open = |file: Vec<u8>| {
        let file = Bytes::from(file);
        let summary = summarize(&file).unwrap();
        SegmentReader::open(file, summary)
            .unwrap()
            .row_reader()
            .unwrap()
    };
    let reader = open(file.to_vec());
    let same = reader.columns().promotion(table()).unwrap();
    let keys = same.keys().to_vec();
    assert!(keys.len() >= 6 && keys.iter().any(|key| key.mapped.is_some()));
    assert!(keys.iter().any(|key| key.suffix.is_some()));
    let all_strays = reader.columns().promoted().keys().iter();
    assert!(all_strays.filter(|key| key.has_strays).count() > 0);
    let mut others = keys.clone();
    let text = others.iter().position(|key| key.key == "text").unwrap();
    others[text].value = PromotedType::Integer;
    let every = |step: usize, from: usize| keys.iter().skip(from).step_by(step).cloned();
    let promotions = [
        same,
        Promotion::of(keys.iter().rev().cloned().collect()),
        Promotion::of(every(1, 2).collect()),
        Promotion::of(every(2, 0).collect()),
        Promotion::of(every(2, 1).collect()),
        Promotion::of(others),
        Promotion::default(),
    ];
    let whole = |reader: &RowReader| -> Vec<RecordBatch> {
        let batches = reader.read(&rows, &all_columns(), CHUNK_ROWS).unwrap();
        batches.map(Result::unwrap).collect()
    };
    let expected = whole(&reader);
    let written: Vec<Vec<u8>> = promotions
        .iter()
        .map(|to| {
            write(to, expected.iter().cloned(), |writer, batch| {
                writer.write(batch).unwrap();
            })
        })
        .collect();
    for (from, file) in promotions.iter().zip(&written) {
        let reader = open(file.clone());
        assert_eq!(whole(&reader), expected);
        for (to, file) in promotions.iter().zip(&written) {
            let context = format!("from {from:?} to {to:?}");
            let split = Arc::new(SplitRows::new(table(), to.clone()).unwrap());
            let moving = Moving::new(reader.columns(), &split);
            let differs = |one: &ChosenKey| {
                let mut keys = to.keys().iter();
                keys.any(|key| key.key == one.key && !key.is_same_column(one))
            };
            let is_as_stored = !from.keys().iter().any(differs);
            assert_eq!(moving.is_as_stored(), is_as_stored, "{context}");
            let moved = || reader.read_split(&rows, &split, CHUNK_ROWS).unwrap();
            for (whole, moved) in expected.iter().zip(moved()) {
                let moved = moved.unwrap();
                assert_eq!(moved.schema(), *split.schema());
                assert_eq!(split.whole(&moved).unwrap(), *whole, "{context}");
            }
            let found = write(to, moved().map(Result::unwrap), |writer, batch| {
                writer.write_split(batch).unwrap();
            });
            assert!(found == *file, "{context}");
        }
    }
}

#[test]
fn keys_that_most_rows_have_are_promoted() {
    let key = |key: String, value| ChosenKey {
        key,
        value,
        mapped: None,
        suffix: None,
        is_varied: false,
    };
    let common = (0..18).map(|number| key(format!("common {number}"), PromotedType::Text));
    let common: Vec<ChosenKey> = common.collect();
    let with = |name: &str, value| {
        let more = [key(name.to_owned(), value)];
        Promotion::of(common.iter().cloned().chain(more).collect())
    };
    let text = |name: &str| with(name, PromotedType::Text);
    let of_most = |promotions: &[(Promotion, u64)]| {
        let found = Promotion::of_most(promotions)?;
        Some(found.keys().get(18).map(|key| key.key.clone()))
    };
    let half = [(text("a"), 50), (Promotion::of(common.clone()), 50)];
    assert_eq!(of_most(&half), Some(Some("a".into())));
    let fewer = [(text("a"), 49), (Promotion::of(common.clone()), 51)];
    assert_eq!(of_most(&fewer), Some(None));
    let two = [(text("a"), 30), (text("b"), 70)];
    assert_eq!(of_most(&two), Some(Some("b".into())));
    // In whatever column most rows have it, and in one only.
    let types = [(text("a"), 50), (with("a", PromotedType::Integer), 50)];
    let found = Promotion::of_most(&types).unwrap();
    assert_eq!(found, text("a"));
    // More than one key in ten is not common to all.
    let many = [(text("a"), 10), (text("b"), 10), (text("c"), 80)];
    assert_eq!(of_most(&many), None);
}

#[test]
fn rows_that_are_not_split_are_refused() {
    let mut writer = SegmentWriter::new(
        Vec::new(),
        table(),
        NewSegment {
            id: SegmentId(10),
            month: crate::month::Month::of(START as i64),
            origin: Origin::sealed(1..9),
            promotion: Promotion::default(),
        },
    )
    .unwrap();
    assert!(writer.write_split(&batch("a", 10)).is_err());
    let split = SplitRows::new(table(), Promotion::default()).unwrap();
    assert!(split.whole(&batch("a", 10)).is_err());
}
