//! The requests of the rows of a segment.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampNanosecondType, UInt32Type};
use bytes::Bytes;

use super::*;
use crate::requests::{self, RequestColumn};
use crate::segment::layout::order::arrange;
use crate::segment::{ReadFile, Source};

fn column(rows: &RecordBatch, column: RequestColumn) -> &ArrayRef {
    rows.column(column.place())
}

/// A segment whose rows come in batches of so many.
fn segment_in_batches(teams: &[(&str, u64)], batch_rows: usize) -> (Bytes, SegmentSummary) {
    let segment = NewSegment {
        id: SegmentId(9),
        month: crate::Month::of(START as i64),
        origin: Origin::sealed(1..9),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), table(), segment).unwrap();
    let teams = teams.iter().map(|(team, rows)| vec![batch(team, *rows)]);
    let teams: Vec<Vec<RecordBatch>> = teams.collect();
    let mut all = Vec::new();
    arrange(teams, |rows| {
        all.push(rows.clone());
        Ok::<_, SegmentWriteError>(())
    })
    .unwrap();
    let all = concat_batches(&table().schema(), &all).unwrap();
    for start in (0..all.num_rows()).step_by(batch_rows) {
        let rows = batch_rows.min(all.num_rows() - start);
        writer.write(&all.slice(start, rows)).unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    (Bytes::from(file), summary)
}

/// All requests that are stored.
fn stored(reader: &SegmentReader) -> RecordBatch {
    let requests = reader.requests().unwrap().unwrap();
    let rows = requests.summary().rows;
    let columns = Column::all(requests::table());
    let read = requests.row_reader().unwrap();
    let batches = read.read(&[0..rows], &columns, 1_000).unwrap();
    let batches: Vec<RecordBatch> = batches.map(Result::unwrap).collect();
    concat_batches(&requests::table().schema(), &batches).unwrap()
}

/// First span, spans, start, end, sequence and name of the root of a request.
type Known = (u32, i64, i64, i64, i64, String);

#[test]
fn each_trace_of_a_large_partition_is_a_request_that_names_its_spans() {
    let teams = [("a", 9_000), ("b", 120), ("c", 130), ("d", 3), ("e", 400)];
    let (file, summary) = segment_in_batches(&teams, 1_000);
    let reader = SegmentReader::open(file, summary).unwrap();
    assert_eq!(reader.verify(), []);
    let requests = reader.requests().unwrap().unwrap();
    let partitions = requests.directory().partitions();
    let partitions = partitions.map(|one| one.unwrap());
    let partitions: Vec<_> = partitions
        .map(|one| (one.team.to_string(), one.rows))
        .collect();
    let of = |team: &str, rows| (team.to_owned(), rows);
    let expected = [of("a", 0..900), of("c", 900..913), of("e", 913..953)];
    assert_eq!(partitions, expected);
    let found = stored(&reader);
    let spans = read(&reader, &[0..9_000, 9_120..9_250, 9_253..9_653]);
    let spans = concat_batches(&table().schema(), &spans).unwrap();
    let numbers = (0..9_000).chain(9_120..9_250).chain(9_253..9_653);
    let mut expected: BTreeMap<(String, Vec<u8>), Known> = BTreeMap::new();
    let traces = SpanColumn::TraceId.ids(&spans).unwrap();
    let teams = SpanColumn::TeamId.texts(&spans).unwrap();
    let starts = SpanColumn::StartTime.times(&spans).unwrap();
    let durations = SpanColumn::Duration.int64s(&spans).unwrap();
    let sequences = SpanColumn::Sequence.int64s(&spans).unwrap();
    let parents = SpanColumn::ParentSpanId.ids(&spans).unwrap();
    let names = SpanColumn::Name.texts(&spans).unwrap();
    for (row, number) in numbers.enumerate() {
        let key = (teams.value(row).to_owned(), traces.value(row).to_vec());
        let (start, end) = (starts.value(row), starts.value(row) + durations.value(row));
        let new = (number, 0, start, end, 0, String::new());
        let request = expected.entry(key).or_insert(new);
        request.1 += 1;
        request.2 = request.2.min(start);
        request.3 = request.3.max(end);
        request.4 = request.4.max(sequences.value(row));
        if parents.is_null(row) {
            request.5 = names.value(row).to_owned();
        }
    }
    assert_eq!(found.num_rows(), expected.len());
    let teams = column(&found, RequestColumn::TeamId).as_string_view();
    let traces = column(&found, RequestColumn::TraceId).as_fixed_size_binary();
    let firsts = column(&found, RequestColumn::FirstSpan).as_primitive::<UInt32Type>();
    let spans = column(&found, RequestColumn::Spans).as_primitive::<Int64Type>();
    let starts = column(&found, RequestColumn::StartTime);
    let starts = starts.as_primitive::<TimestampNanosecondType>();
    let ends = column(&found, RequestColumn::EndTime);
    let ends = ends.as_primitive::<TimestampNanosecondType>();
    let sequences = column(&found, RequestColumn::LastSequence).as_primitive::<Int64Type>();
    let names = column(&found, RequestColumn::Name).as_string_view();
    for row in 0..found.num_rows() {
        let key = (teams.value(row).to_owned(), traces.value(row).to_vec());
        let request = (
            firsts.value(row),
            spans.value(row),
            starts.value(row),
            ends.value(row),
            sequences.value(row),
            names.value(row).to_owned(),
        );
        assert_eq!(Some(&request), expected.get(&key), "row {row}");
    }
}

#[test]
fn requests_do_not_depend_on_how_the_spans_come() {
    let teams = [("a", 2_000), ("b", 40), ("c", 128)];
    let whole = segment_in_batches(&teams, 100_000);
    let whole = stored(&SegmentReader::open(whole.0, whole.1).unwrap());
    assert_eq!(whole.num_rows(), 213);
    for batch_rows in [1, 7, 10, 999] {
        let (file, summary) = segment_in_batches(&teams, batch_rows);
        let reader = SegmentReader::open(file, summary).unwrap();
        assert_eq!(stored(&reader), whole, "batches of {batch_rows}");
    }
}

#[test]
fn a_segment_of_small_partitions_has_no_requests() {
    let (file, summary) = segment(&[("a", 127), ("b", 127)]);
    let reader = SegmentReader::open(file, summary).unwrap();
    assert!(reader.requests().unwrap().is_none());
    assert_eq!(reader.verify(), []);
}

#[test]
fn damage_to_requests_is_found() {
    let (file, summary) = segment(&[("a", 200)]);
    let reader = SegmentReader::open(file.clone(), summary.clone()).unwrap();
    let part = reader.header().parts.iter();
    let part = part.max_by_key(|part| part.kind).unwrap().range.clone();
    let expected = stored(&reader);
    assert_eq!(expected.num_rows(), 20);
    for at in (part.start..part.end).step_by(37) {
        let mut damaged = file.to_vec();
        damaged[at as usize] ^= 1;
        // The directory of a small segment lies in the same block.
        let Ok(reader) = SegmentReader::open(Bytes::from(damaged), summary.clone()) else {
            continue;
        };
        assert_ne!(reader.verify(), [], "byte {at}");
    }
}

/// A file that is read piece by piece, each once.
#[derive(Debug)]
struct Pieces(Bytes, Mutex<HashMap<u64, Bytes>>);

impl ReadFile for Pieces {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0[start..start + out.len()]);
        Ok(())
    }

    fn kept(&self, block: u64) -> Option<Bytes> {
        self.1.lock().unwrap().get(&block).cloned()
    }

    fn keep(&self, block: u64, bytes: Bytes) {
        self.1.lock().unwrap().insert(block, bytes);
    }
}

#[test]
fn requests_are_read_from_a_file_that_is_not_mapped() {
    let (file, summary) = segment(&[("a", 2_000)]);
    let whole = stored(&SegmentReader::open(file.clone(), summary.clone()).unwrap());
    let source = Source::File(Arc::new(Pieces(file, Mutex::default())));
    let reader = SegmentReader::open(source, summary).unwrap();
    // The file has other bytes in its first blocks than the part.
    read(&reader, &[0..2_000]);
    assert_eq!(stored(&reader), whole);
    read(&reader, &[0..2_000]);
}

/// A part of requests that was made by someone else, within a segment of spans.
fn forged(part: &[u8]) -> SegmentReader {
    let segment = NewSegment {
        id: SegmentId(9),
        month: crate::Month::of(START as i64),
        origin: Origin::sealed(1..9),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), table(), segment).unwrap();
    arrange(vec![vec![batch("a", 30)]], |rows| writer.write(rows)).unwrap();
    writer.add_part(11, false, part.to_vec());
    let (file, summary) = writer.finish().unwrap();
    SegmentReader::open(Bytes::from(file), summary).unwrap()
}

#[test]
fn requests_of_other_spans_are_found_out() {
    let of = |rows| {
        let (file, summary) = segment(&[("a", rows)]);
        let reader = SegmentReader::open(file.clone(), summary).unwrap();
        let part = reader.header().parts.iter().find(|part| part.kind == 11);
        let range = part.unwrap().range.clone();
        file.slice(range.start as usize..range.end as usize)
    };
    let part = of(200);
    let reader = forged(&part);
    let requests = reader.requests().unwrap().unwrap();
    assert!(requests.requests().unwrap().is_none());
    let damage = reader.verify();
    let message = damage.first().unwrap().to_string();
    assert!(
        message.contains("all spans of a, one after the other"),
        "{message}"
    );
    // More requests than there are spans.
    let error = forged(&of(400)).requests().unwrap_err().to_string();
    assert!(error.contains("at most 30 rows, found 40 rows"), "{error}");
    for bytes in 0..28 {
        assert!(forged(&part[..bytes]).requests().is_err());
    }
}
