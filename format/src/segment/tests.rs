mod evolution;
mod forged;
mod golden;
mod moving;
mod parents;
mod requests;
mod tables;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::layout::order::OrderColumns;
use super::testing::{START, attribute, batch, batch_with, segment_of, team};
use super::*;
use crate::id::{SegmentId, TraceId};
use crate::otlp::Value;
use crate::span::{SpanColumn, table};

fn segment(partitions: &[(&str, u64)]) -> (Bytes, SegmentSummary) {
    segment_of(partitions.iter().map(|(name, rows)| batch(name, *rows)))
}

fn read(reader: &SegmentReader, rows: &[std::ops::Range<u32>]) -> Vec<RecordBatch> {
    let rows = reader
        .row_reader()
        .unwrap()
        .read(rows, &all_columns(), 1_000);
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn all_columns() -> Vec<Column> {
    Column::all(table())
}

/// Where no catalog has the tail's checksum.
#[test]
fn a_damaged_tail_is_found_by_the_file_alone() {
    let (file, summary) = segment(&[("a", 300), ("b", 10)]);
    let reader = SegmentReader::open(file.clone(), summary.clone()).unwrap();
    assert_eq!(reader.origin(), Ok(Origin::sealed(1..9)));
    assert_eq!(summarize(&file), Ok(summary.clone()));
    for at in (summary.tail_offset as usize..file.len()).rev().step_by(3) {
        let mut damaged = file.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert!(summarize(&Bytes::from(damaged)).is_err(), "byte {at}");
    }
}

#[test]
fn each_team_finds_its_traces_and_sessions_and_no_other() {
    let partitions = [("a", 70_000), ("b", 10), ("c", 3_000)];
    let (file, summary) = segment(&partitions);
    assert_eq!(summarize(&file).unwrap(), summary);
    let reader = SegmentReader::open(file, summary).unwrap();
    assert_eq!(reader.verify(), []);
    assert_eq!(reader.row_groups(), 2);
    for (name, rows) in partitions {
        let partition = reader.directory().find(&team(name)).unwrap().unwrap();
        assert_eq!(u64::from(partition.rows.end - partition.rows.start), rows);
        let mut session_rows = 0;
        for trace in 1..=rows / 10 {
            let id = u128::from(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
            let rows = reader.find(&partition, Id::Trace(TraceId(id)));
            let rows = rows.unwrap().unwrap();
            assert_eq!(rows.len(), 10);
            let run = rows.min().unwrap()..rows.max().unwrap() + 1;
            assert_eq!(run.len(), 10);
            session_rows += u64::from(trace % 3 == 0) * 10;
            if trace % 1_000 == 1 {
                for batch in read(&reader, &[run]) {
                    let columns = OrderColumns::of(&batch).unwrap();
                    assert!((0..batch.num_rows()).all(|row| columns.trace_id(row) == id));
                    let teams = SpanColumn::TeamId.texts(&batch).unwrap();
                    assert!(teams.iter().all(|found| found == Some(name)));
                }
            }
        }
        assert_eq!(
            reader
                .find(&partition, Id::Trace(TraceId([9; 16])))
                .unwrap(),
            None
        );
        let mut found = 0;
        for session in 0..7 {
            let wanted = format!("s{session}");
            let Some(rows) = reader.find(&partition, Id::Session(&wanted)).unwrap() else {
                continue;
            };
            found += rows.len();
            let ranges: Vec<_> = std::iter::from_fn({
                let mut rows = rows.iter();
                move || rows.next_range()
            })
            .map(|range| *range.start()..range.end() + 1)
            .collect();
            let batches = read(&reader, &ranges);
            assert_eq!(
                batches
                    .iter()
                    .map(|batch| batch.num_rows() as u64)
                    .sum::<u64>(),
                rows.len()
            );
            for batch in batches {
                let ids = SpanColumn::SessionId.texts(&batch).unwrap();
                assert!(ids.iter().all(|id| id == Some(wanted.as_str())));
            }
        }
        assert_eq!(found, session_rows);
        assert_eq!(reader.find(&partition, Id::Session("s7")).unwrap(), None);
    }
    assert_eq!(reader.directory().find(&team("d")).unwrap(), None);
}

#[test]
fn rows_lie_in_the_order_of_their_traces() {
    let (file, summary) = segment(&[("a", 5_000)]);
    let reader = SegmentReader::open(file, summary).unwrap();
    let mut last = 0;
    for batch in read(&reader, &[0..5_000]) {
        let trace_start = SpanColumn::TraceStart.times(&batch).unwrap();
        let start = SpanColumn::StartTime.times(&batch).unwrap();
        for (trace_start, start) in trace_start.values().iter().zip(start.values()) {
            assert!(trace_start <= start && last <= *trace_start);
            last = *trace_start;
        }
    }
    let start = SpanColumn::StartTime.place();
    let range = reader.row_reader().unwrap().range(0, start);
    assert_eq!(range, Some((START as i64, START as i64 + 4_999_000)));
}

#[test]
fn a_look_up_reads_a_page_a_column_not_the_chunk() {
    let (file, summary) = segment(&[("a", 60_000)]);
    let reader = SegmentReader::open(file, summary).unwrap();
    let rows = reader.row_reader().unwrap();
    for (column, name) in rows.columns().names().iter().enumerate() {
        let pages = rows.locations(0, column).unwrap();
        let most = (0..pages.len()).map(|page| pages.get(page).unwrap().rows.len());
        assert!(
            most.max().unwrap() <= 2 * layout::encoding::PAGE_ROWS,
            "{name}"
        );
    }
}

#[test]
fn every_flipped_byte_is_found_and_none_is_served() {
    let (file, summary) = segment(&[("a", 40), ("b", 10)]);
    let whole = SegmentReader::open(file.clone(), summary.clone()).unwrap();
    let expected = read(&whole, &[0..50]);
    for at in 0..file.len() {
        let mut damaged = file.to_vec();
        damaged[at] ^= 0x10;
        let Ok(reader) = SegmentReader::open(Bytes::from(damaged), summary.clone()) else {
            continue;
        };
        assert_ne!(reader.verify(), [], "byte {at}");
        let Ok(rows) = reader.row_reader() else {
            continue;
        };
        let batches = rows
            .read(&[0..50], &all_columns(), 1_000)
            .map(Iterator::collect::<Result<Vec<_>, _>>);
        if let Ok(Ok(batches)) = batches {
            assert_eq!(batches, expected, "byte {at}");
        }
    }
    for end in [0, 1, file.len() / 2, file.len() - 1] {
        assert!(SegmentReader::open(file.slice(..end), summary.clone()).is_err());
    }
}

#[test]
fn teams_out_of_order_are_refused() {
    let month = crate::month::Month::of(START as i64);
    let segment = NewSegment {
        id: SegmentId(1),
        month,
        origin: Origin::sealed(1..9),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), table(), segment).unwrap();
    writer.write(&batch("b", 10)).unwrap();
    writer.write(&batch("c", 10)).unwrap();
    assert!(writer.write(&batch("a", 10)).is_err());
}

#[test]
fn wide_rows_make_small_batches() {
    let wide = batch_with("a", 2_000, |n| {
        let text = format!("{n}-{}", "x".repeat(10_000));
        vec![attribute("wide", Value::StringValue(text))]
    });
    let (file, summary) = segment_of([wide]);
    let rows = SegmentReader::open(file, summary)
        .unwrap()
        .row_reader()
        .unwrap();
    let columns = all_columns();
    let start = [SpanColumn::StartTime.into()];
    let mebibyte = rows.rows_within(1 << 20, 0, &columns);
    assert!((80..=110).contains(&mebibyte), "{mebibyte}");
    assert!(rows.rows_within(1 << 20, 0, &start) > 50_000);
    assert_eq!(rows.rows_within(0, 0, &columns), 1);
    assert_eq!(rows.rows_within(1 << 20, 7, &columns), 1);
}
