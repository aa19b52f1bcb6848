//! Merges of teams whose rows lie in parts of many batches and inputs: each row goes where
//! its own team and trace are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spanstore::io::{Disk, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{Store, TraceId};
use spanstore_format::segment::SegmentReader;
use spanstore_format::span::SpanColumn;
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{open_on, segment_path, team, without_repeats};

fn open(disk: &SimulatedDisk) -> Store {
    open_on(Arc::new(disk.clone()), "/store", without_repeats()).unwrap()
}

/// Span number `n` of a trace.
fn span_of(trace: u64, n: u64) -> Span {
    let mut span = span(n);
    span.trace_id = trace_id(trace).to_vec();
    span.parent_span_id.clear();
    span
}

fn append(store: &Store, name: &str, spans: impl Iterator<Item = Span>) {
    let receipt = store.team(&team(name)).append(request(spans)).unwrap();
    assert_eq!(receipt.refused, []);
}

/// The spans of a team, and how often each is there.
fn found(store: &Store, name: &str) -> BTreeMap<(TraceId, u64), u32> {
    let mut found = BTreeMap::new();
    for chunk in store.team(&team(name)).export().unwrap() {
        for row in chunk.unwrap().rows().unwrap() {
            let n = u64::from_be_bytes(row.span_id.0) - 1;
            *found.entry((row.trace_id, n)).or_default() += 1;
        }
    }
    found
}

/// Small teams share a batch with a team before them, after which rows were written.
#[test]
fn small_teams_that_share_a_batch_keep_their_rows() {
    const TEAMS: u64 = 30;
    const ROWS: u64 = 20_000;
    let store = open(&SimulatedDisk::new());
    let name = |n: u64| format!("team-{n:02}");
    for n in 0..TEAMS {
        append(&store, &name(n), (0..60).map(|row| span(n * 100 + row)));
    }
    store.seal().unwrap();
    // More than are written at a time, of the first team alone.
    append(&store, &name(0), (0..ROWS).map(|row| span(100_000 + row)));
    store.seal().unwrap();
    let all = || -> Vec<_> { (0..TEAMS).map(|n| found(&store, &name(n))).collect() };
    let before = all();
    let report = store.compact().unwrap();
    assert_eq!(
        (report.rows_written, report.rows_removed),
        (TEAMS * 60 + ROWS, 0)
    );
    assert_eq!(all(), before);
    assert_eq!(store.check().unwrap().damage, []);
}

/// Of a large team the rows of one input end with the number that those of the next begin
/// with, and with the same trace. Other teams lie before and behind.
#[test]
fn a_trace_at_the_border_of_two_inputs_takes_no_rows_of_others() {
    const ROWS: u64 = 17_000;
    const BORDER: u64 = 1_000_000;
    let store = open(&SimulatedDisk::new());
    // The rows of `b` begin at ROWS here, with the trace BORDER, and end there elsewhere.
    append(&store, "a", (0..ROWS).map(span));
    let later = (0..ROWS).map(|n| span_of(if n < 10 { BORDER } else { n / 10 }, ROWS + n));
    append(&store, "b", later);
    store.seal().unwrap();
    let earlier = (0..ROWS).map(|n| {
        let trace = 5_000 + n / 10;
        span_of(if n + 10 < ROWS { trace } else { BORDER }, n)
    });
    append(&store, "b", earlier);
    append(&store, "c", (0..ROWS).map(span));
    store.seal().unwrap();
    let names = ["a", "b", "c"];
    let before = names.map(|name| found(&store, name));
    let counts = before.each_ref().map(|one| one.len() as u64);
    assert_eq!(counts, [ROWS, 2 * ROWS, ROWS]);
    let report = store.compact().unwrap();
    assert_eq!((report.rows_written, report.rows_removed), (4 * ROWS, 0));
    assert_eq!(names.map(|name| found(&store, name)), before);
    let border = TraceId(trace_id(BORDER));
    assert_eq!(store.team(&team("b")).trace(border).unwrap().len(), 20);
    assert_eq!(store.check().unwrap().damage, []);
}

/// A trace of a large team is one run after a merge, and copies in it are one, though its
/// parts began at other times.
#[test]
fn a_trace_whose_parts_begin_far_apart_is_one_run() {
    const TRACES: u64 = 20_000;
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    // Each trace has a span early and a span late, and one that comes twice: with the early
    // span of some traces, and with the late one of all.
    let early = |trace: u64| span_of(trace, trace);
    let late = |trace: u64| span_of(trace, 100_000 + (trace * 7_919) % TRACES);
    let copied = |trace: u64| span_of(trace, 200_000 + trace);
    append(&store, "acme", (0..TRACES).map(early));
    append(&store, "acme", (0..TRACES).step_by(10).map(copied));
    store.seal().unwrap();
    append(&store, "acme", (0..TRACES).map(late));
    append(&store, "acme", (0..TRACES).map(copied));
    store.seal().unwrap();
    let report = store.compact().unwrap();
    assert_eq!(
        (report.rows_written, report.rows_removed),
        (3 * TRACES, TRACES / 10)
    );
    let found = found(&store, "acme");
    assert!(found.len() as u64 == 3 * TRACES && found.values().all(|count| *count == 1));
    let segment = store.segments().remove(0);
    let path = format!("/store/{}", segment_path(&segment));
    let bytes = disk.map(path.as_ref()).unwrap();
    let reader = SegmentReader::open(bytes, segment.clone()).unwrap();
    let rows = reader.row_reader().unwrap();
    let columns = [SpanColumn::TraceId.into()];
    let (mut last, mut runs) = (Vec::new(), BTreeSet::new());
    for batch in rows.read(&[0..segment.rows], &columns, 8_192).unwrap() {
        let batch = batch.unwrap();
        let ids = batch.column(0);
        let ids = arrow::array::AsArray::as_fixed_size_binary(ids);
        for id in ids.iter().flatten() {
            if id != last {
                assert!(runs.insert(id.to_vec()), "a trace is in two places");
                last = id.to_vec();
            }
        }
    }
    assert_eq!(runs.len() as u64, TRACES);
}
