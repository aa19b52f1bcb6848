//! Parents are stored as distances, and come back as ids.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;
use crate::error::FormatError;
use crate::month::Month;
use crate::segment::layout::order::arrange;
use crate::table::{Codec, ParentColumns, Roles, Table, TableColumn};

const ROWS: u64 = 300;

fn with_column(rows: &RecordBatch, name: &str, values: ArrayRef) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    columns[rows.schema().index_of(name).unwrap()] = values;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

/// Rows of which those that have a parent are children of the row of this number.
fn with_parents(rows: &RecordBatch, parents: &[Option<u64>]) -> RecordBatch {
    let ids = parents
        .iter()
        .map(|parent| Some((parent.as_ref()? + 1).to_be_bytes()));
    let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 8).unwrap();
    with_column(rows, "parent_span_id", Arc::new(ids))
}

/// A segment of rows in their order, which come in batches of a size.
fn segment_in_batches(
    table: &'static Table,
    rows: &RecordBatch,
    size: usize,
) -> (Bytes, SegmentSummary) {
    let segment = NewSegment {
        id: SegmentId(9),
        month: Month::of(START.cast_signed()),
        origin: Origin::sealed(1..9),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), table, segment).unwrap();
    for start in (0..rows.num_rows()).step_by(size) {
        let length = size.min(rows.num_rows() - start);
        writer.write(&rows.slice(start, length)).unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    (Bytes::from(file), summary)
}

fn arranged(batches: Vec<RecordBatch>) -> RecordBatch {
    let mut ordered = Vec::new();
    arrange(batches.into_iter().map(|batch| vec![batch]), |batch| {
        ordered.push(batch.clone());
        Ok::<(), FormatError>(())
    })
    .unwrap();
    concat_batches(&table().schema(), &ordered).unwrap()
}

/// How many rows have a distance in the file, as any Parquet reader sees it.
fn distances(file: &Bytes) -> usize {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let batches = reader.build().unwrap().map(Result::unwrap);
    let counts = batches.map(|batch| {
        let column = batch.column_by_name("parent_distance").unwrap();
        column.len() - column.null_count()
    });
    counts.sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Parents before and after their children, in other traces, of another team,
    /// nowhere; spans that are their own parents; batches that end within traces.
    #[test]
    fn they_come_back_as_they_went_in(
        parents in proptest::collection::vec(
            proptest::option::of((0u64..14, any::<bool>())), ROWS as usize),
        size in prop_oneof![1usize..40, Just(1_000)],
        start in 0u32..ROWS as u32,
        length in 1u32..60,
        batch_rows in 1usize..40,
    ) {
        let parents: Vec<Option<u64>> = parents
            .iter()
            .enumerate()
            // Rows were made last first.
            .map(|(row, parent)| {
                let n = ROWS - 1 - row as u64;
                parent.map(|(place, is_far)| {
                    if is_far {
                        place * 1_000
                    } else {
                        n / 10 * 10 + place
                    }
                })
            })
            .collect();
        let of = |name| with_parents(&batch(name, ROWS), &parents);
        let rows = arranged(vec![of("a"), of("b")]);
        let (file, summary) = segment_in_batches(table(), &rows, size);
        let is_within = |row: usize| {
            let n = ROWS - 1 - row as u64;
            parents[row].is_some_and(|parent| parent / 10 == n / 10 && parent < ROWS)
        };
        let expected = 2 * (0..ROWS as usize).filter(|row| is_within(*row)).count();
        if size == 1_000 {
            prop_assert_eq!(distances(&file), expected);
        } else {
            prop_assert!(distances(&file) <= expected);
        }
        let reader = SegmentReader::open(file, summary).unwrap();
        let ids = rows.column_by_name("parent_span_id").unwrap();
        let row_reader = reader.row_reader().unwrap();
        let end = 2 * ROWS as u32;
        let ranges = [start..start + length, (start + length + 5).min(end)..end];
        let batches = row_reader.read(&ranges, &[SpanColumn::ParentSpanId.into()], batch_rows);
        let mut wanted = ranges.iter().cloned().flatten();
        for batch in batches.unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let wanted = wanted.next().unwrap() as usize;
                prop_assert_eq!(&batch.column(0).slice(row, 1), &ids.slice(wanted, 1));
            }
        }
        prop_assert_eq!(wanted.next(), None);
    }
}

/// Row groups, pages and batches end within a trace; the parents lie far away.
#[test]
fn parents_are_found_across_row_groups() {
    let rows = 70_000;
    let trace = vec![7; 16];
    let one_trace = |rows: &RecordBatch| {
        let ids = std::iter::repeat_n(Some(&trace), rows.num_rows());
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16).unwrap();
        with_column(rows, "trace_id", Arc::new(ids))
    };
    let parents: Vec<Option<u64>> = (0..rows).rev().map(|n| (n > 0).then_some(n % 3)).collect();
    let all = arranged(vec![with_parents(&one_trace(&batch("a", rows)), &parents)]);
    let (file, summary) = segment_in_batches(table(), &all, 8_192);
    assert_eq!(distances(&file) as u64, rows - 1);
    let reader = SegmentReader::open(file, summary).unwrap();
    assert_eq!(reader.verify(), []);
    let ids = all.column_by_name("parent_span_id").unwrap();
    let mut start = 0;
    for batch in read(&reader, &[0..rows as u32]) {
        let found = batch.column(SpanColumn::ParentSpanId.place());
        assert_eq!(found, &ids.slice(start, batch.num_rows()));
        start += batch.num_rows();
    }
    assert_eq!(start as u64, rows);
    let few = read(&reader, &[65_530..65_540, 69_999..70_000]);
    let found = few[0].column(SpanColumn::ParentSpanId.place());
    assert_eq!(&found.slice(0, 10), &ids.slice(65_530, 10));
    assert_eq!(&found.slice(10, 1), &ids.slice(69_999, 1));
}

/// The table of spans, of which `parent_distance` is a column as any other.
fn with_distances() -> &'static Table {
    let roles = table().roles();
    let mut columns = table().columns().to_vec();
    columns.push(TableColumn::int32("parent_distance").nullable());
    let roles = Roles {
        parent: None,
        ..*roles
    };
    Box::leak(Box::new(Table::new("spans", 1, columns.leak(), roles)))
}

/// Distances that no writer makes.
#[test]
fn a_distance_stays_within_the_partition() {
    let rows = arranged(vec![batch("a", 20), batch("b", 20)]);
    let forged = |distance: Option<i32>| {
        let table = with_distances();
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int32Array::from(vec![distance; rows.num_rows()])));
        let rows = RecordBatch::try_new(table.schema(), columns).unwrap();
        let (file, summary) = segment_in_batches(table, &rows, 100);
        let reader = SegmentReader::open(file, summary).unwrap();
        let columns = [SpanColumn::ParentSpanId.into()];
        let read = reader.row_reader().unwrap().read(&[20..21], &columns, 10);
        let batch = read.unwrap().next().unwrap();
        let batch = batch.map_err(|error| error.to_string())?;
        Ok::<ArrayRef, String>(Arc::clone(batch.column(0)))
    };
    let ids = rows.column_by_name("span_id").unwrap();
    assert_eq!(forged(Some(19)).as_ref(), Ok(&ids.slice(39, 1)));
    let parents = rows.column_by_name("parent_span_id").unwrap();
    assert_eq!(forged(None).as_ref(), Ok(&parents.slice(20, 1)));
    for distance in [-1, -20, 20, i32::MIN, i32::MAX] {
        let error = forged(Some(distance)).unwrap_err();
        assert!(error.contains("rows within 20..40"), "{error}");
    }
}

/// Files may be without distances, and a table without the ids of its rows' parents
/// has none.
#[test]
fn a_table_of_its_own_may_have_parents() {
    const PARENT: ParentColumns = ParentColumns {
        id: 2,
        parent: 3,
        trace: 1,
        distance: TableColumn::int32("up").nullable(),
    };
    let columns = table().columns()[..4].to_vec();
    let times = [TableColumn::time("at")];
    let columns: Vec<TableColumn> = columns.into_iter().chain(times).collect();
    let roles = Roles {
        team: 0,
        start: 4,
        ids: &[],
        order: &[0],
        identity: &[],
        attributes: None,
        shared: &[],
        parent: Some(PARENT),
    };
    let own: &'static Table = Box::leak(Box::new(Table::new("own", 1, columns.leak(), roles)));
    let rows = arranged(vec![batch("a", 50)]);
    let places = [0, 1, 2, 3, SpanColumn::StartTime.place()];
    let columns = places.map(|place| Arc::clone(rows.column(place)));
    let rows = RecordBatch::try_new(own.schema(), columns.to_vec()).unwrap();
    let (file, summary) = segment_in_batches(own, &rows, 100);
    let plain = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let plain = plain.build().unwrap().next().unwrap().unwrap();
    let up = plain.column_by_name("up").unwrap();
    assert_eq!(up.as_primitive::<Int32Type>().null_count(), 10);
    let reader = SegmentReader::open_of(own, file, summary).unwrap();
    let read = reader
        .row_reader()
        .unwrap()
        .read(&[0..50], &Column::all(own), 100);
    assert_eq!(read.unwrap().next().unwrap().unwrap(), rows);
}

/// Ids of parents are taken out of pages as they lie there: others are refused, never read
/// as if they were ids.
#[test]
fn ids_that_are_not_stored_as_they_are_name_no_parents() {
    let rows = arranged(vec![batch("a", 3_000)]);
    let read = |id: TableColumn| {
        let mut columns = table().columns().to_vec();
        columns[SpanColumn::SpanId.place()] = id;
        let roles = *table().roles();
        let other = Box::leak(Box::new(Table::new("spans", 1, columns.leak(), roles)));
        let rows = RecordBatch::try_new(other.schema(), rows.columns().to_vec()).unwrap();
        let (file, summary) = segment_in_batches(other, &rows, 10_000);
        assert!(distances(&file) > 0);
        // As one who knows the table reads it.
        let reader = SegmentReader::open(file, summary).unwrap();
        let columns = [SpanColumn::ParentSpanId.into()];
        let mut read = reader
            .row_reader()
            .unwrap()
            .read(&[0..20], &columns, 20)
            .unwrap();
        read.next().unwrap().map_err(|error| error.to_string())
    };
    let id = table().columns()[SpanColumn::SpanId.place()];
    let found = read(id).unwrap();
    let expected = rows.column_by_name("parent_span_id").unwrap().slice(0, 20);
    assert_eq!(found.column(0), &expected);
    for id in [id.compressed(Codec::Lz4), id.nullable()] {
        let error = read(id).unwrap_err();
        assert!(error.contains("ids as they are"), "{error}");
    }
}
