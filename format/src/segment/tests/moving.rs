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
    let reader = SegmentReader::open(file, summary).unwrap();
    let reader = reader.row_reader().unwrap();
    let same = reader.columns().promotion(table()).unwrap();
    let keys = same.keys().to_vec();
    assert!(keys.len() >= 6 && keys.iter().any(|key| key.mapped.is_some()));
    assert!(keys.iter().any(|key| key.suffix.is_some()));
    let all_strays = reader.columns().promoted().keys().iter();
    assert!(all_strays.filter(|key| key.has_strays).count() > 0);
    let reversed = Promotion::of(keys.iter().rev().cloned().collect());
    let fewer = Promotion::of(keys.iter().skip(2).cloned().collect());
    let mut more = keys.clone();
    more.push(ChosenKey {
        key: "session.id".into(),
        value: PromotedType::Integer,
        mapped: None,
        suffix: None,
        is_varied: false,
    });
    let mut others = keys.clone();
    let text = others.iter().position(|key| key.key == "text").unwrap();
    others[text].value = PromotedType::Integer;
    let cases = [
        (same, true),
        (reversed, true),
        (fewer, false),
        (Promotion::of(more), false),
        (Promotion::of(others), false),
        (Promotion::default(), false),
    ];
    for (to, is_as_stored) in cases {
        let context = format!("{to:?}");
        let split = Arc::new(SplitRows::new(table(), to.clone()).unwrap());
        let moving = Moving::new(reader.columns(), &split);
        assert_eq!(moving.is_as_stored(), is_as_stored, "{context}");
        let whole = || reader.read(&rows, &all_columns(), CHUNK_ROWS).unwrap();
        let moved = || reader.read_split(&rows, &split, CHUNK_ROWS).unwrap();
        for (whole, moved) in whole().zip(moved()) {
            let moved = moved.unwrap();
            assert_eq!(moved.schema(), *split.schema());
            assert_eq!(split.whole(&moved).unwrap(), whole.unwrap(), "{context}");
        }
        let expected = write(&to, whole().map(Result::unwrap), |writer, batch| {
            writer.write(batch).unwrap();
        });
        let found = write(&to, moved().map(Result::unwrap), |writer, batch| {
            writer.write_split(batch).unwrap();
        });
        assert!(found == expected, "{context}");
    }
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
