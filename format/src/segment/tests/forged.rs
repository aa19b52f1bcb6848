//! Segments whose checksums hold and whose content makes no sense, as a bug of
//! another writer, or malice, would leave them: each read ends in an answer or
//! an error.

use std::sync::LazyLock;

use arrow::compute::concat_batches;
use proptest::prelude::*;

use super::*;
use crate::segment::layout::encoding::PAGE_ROWS;
use crate::segment::reading::row_batches::FileBatches;
use crate::segment::testing::{Change, Forgery, Place, columns, read_all, resealed};

static FORGERY: LazyLock<Forgery> = LazyLock::new(Forgery::new);

fn change() -> impl Strategy<Value = Change> {
    let place = prop_oneof![
        4 => (any::<u32>(), 0u64..80).prop_map(|(at, by)| Place::Start(at, by)),
        4 => any::<(u32, u32)>().prop_map(|(part, at)| Place::Part(part, at)),
        1 => any::<u32>().prop_map(Place::Header),
        4 => any::<u32>().prop_map(Place::Tail),
    ];
    let byte = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xff),
        any::<u8>()
    ];
    let bytes = prop_oneof![
        proptest::collection::vec(byte, 1..4),
        (1usize..12, any::<u8>()).prop_map(|(times, byte)| vec![byte; times]),
    ];
    (place, bytes).prop_map(|(place, bytes)| Change { place, bytes })
}

/// Few rows are read by other code than many: all columns, equal.
#[test]
fn look_ups_read_what_scans_read() {
    let (file, summary) = FORGERY.unchanged();
    let rows = summary.rows;
    let reader = SegmentReader::open(file, summary).unwrap();
    let all = read_columns(&reader, &[0..rows], 100_000);
    let all = concat_batches(&all[0].schema(), &all).unwrap();
    let mut ranges: Vec<Vec<std::ops::Range<u32>>> = (0..rows - 60)
        .step_by(97)
        .map(|start| vec![start..start + 1 + start % 60])
        .collect();
    let page = PAGE_ROWS as u32;
    // One row of the next page.
    let borders = (page..rows - 1).step_by(PAGE_ROWS);
    ranges.extend(borders.map(|border| vec![border - 2..border + 1]));
    ranges.push(vec![3..5, 1_270..1_300, 2_600..2_601, 8_990..9_030]);
    for ranges in ranges {
        let rows = reader.row_reader().unwrap();
        let rows = rows.read(&ranges, &columns(), 1_000).unwrap();
        // Pages with codes and pages without them are left to the stock reader.
        let is_mixed = ranges.len() > 1;
        assert!(is_mixed || matches!(rows.batches, FileBatches::PointRead(_)));
        let few = read_columns(&reader, &ranges, 1_000);
        let slices = ranges
            .iter()
            .map(|rows| all.slice(rows.start as usize, rows.len()));
        let expected = concat_batches(&all.schema(), &slices.collect::<Vec<_>>()).unwrap();
        assert_eq!(few, [expected], "{ranges:?}");
    }
}

fn read_columns(
    reader: &SegmentReader,
    rows: &[std::ops::Range<u32>],
    batch_rows: usize,
) -> Vec<RecordBatch> {
    let rows = reader
        .row_reader()
        .unwrap()
        .read(rows, &columns(), batch_rows);
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

proptest! {
    #[test]
    fn nonsense_with_checksums_that_hold_is_no_panic(changes in proptest::collection::vec(change(), 1..4)) {
        let (file, summary) = FORGERY.with(&changes);
        read_all(file, summary);
    }
}

#[test]
fn unchanged_it_reads() {
    let (file, summary) = FORGERY.with(&[]);
    assert_eq!((file.clone(), summary.clone()), FORGERY.unchanged());
    let reader = SegmentReader::open(file, summary).unwrap();
    assert_eq!(reader.verify(), []);
}

/// Also without a catalog, where only the footer says where the index is.
#[test]
fn resealed_it_is_what_it_was() {
    let unchanged = FORGERY.unchanged();
    assert_eq!(resealed(&unchanged.0), Some(unchanged.clone()));
    let mut damaged = unchanged.0.to_vec();
    damaged[100] ^= 1;
    assert!(summarize(&Bytes::from(damaged.clone())).is_ok());
    let (file, summary) = resealed(&damaged).unwrap();
    assert_eq!(SegmentReader::open(file, summary).unwrap().verify(), []);
}
