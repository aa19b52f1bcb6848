//! The figures that README.md states: one run, one table.
//!
//! `cargo bench -p spanstore-benches --no-default-features --bench figures`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use spanstore::{Month, ReadBy, Store, StoreOptions, TraceId};
use spanstore_benches::{NOW, append, bodies, machine, milliseconds, open, report, team};
use spanstore_format::segment::summarize;
use spanstore_format::segment::{Column, SegmentReader};
use spanstore_format::span::table;

const SPANS: u64 = 1_000_000;
const OVER: u64 = 1_200_000;
const BATCH: usize = 500;
const LOOK_UPS: usize = 2_000;

fn main() {
    // `cargo test --benches` runs this too; it is no test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let directory = machine::directory();
    machine::print(directory.path());
    let bodies = bodies(OVER, BATCH);
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!(
        "{OVER} spans of the sample application, {} bytes a span in OTLP protobuf",
        bytes as u64 / OVER
    );
    for threads in [1, 8] {
        appends(
            &directory.path().join(format!("append-{threads}")),
            &bodies,
            threads,
        );
    }
    let path = directory.path().join("append-8");
    sealed(&path);
    one_segment(&directory.path().join("one"), &bodies);
    open_unsealed(&directory.path().join("unsealed"), &bodies);
}

/// Durable appends of batches of 500 from some threads: up to the quota, which is what is
/// timed, and over it.
fn appends(path: &Path, bodies: &[Vec<u8>], threads: usize) {
    let store = open(path, StoreOptions::default());
    let team = store.team(&team());
    let (within, over) = bodies.split_at((SPANS / BATCH as u64) as usize);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (team, part) = (&team, within.iter().skip(thread).step_by(threads));
            scope.spawn(move || assert_eq!(append(team, part).1, 0));
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "append, durable, batches of {BATCH}, {threads} threads: {:.0} spans/s ({seconds:.2} s)",
        SPANS as f64 / seconds
    );
    let usage = team.usage(Month::of(NOW - 1)).unwrap();
    assert_eq!((usage.used, usage.remaining), (SPANS, 0));
    assert_eq!(append(&team, over), (0, OVER - SPANS));
    println!(
        "  {SPANS} accepted, and the {} over the quota refused",
        OVER - SPANS
    );
}

/// Bytes, time to open and look-ups of a million sealed spans.
fn sealed(path: &Path) {
    let store = open(path, StoreOptions::default());
    let start = Instant::now();
    store.seal().unwrap();
    println!("seal of the rest: {:.2} s", start.elapsed().as_secs_f64());
    drop(store);
    let bytes = bytes_below(&path.join("segments"));
    println!("segments: {:.1} bytes a span", bytes as f64 / SPANS as f64);
    let start = Instant::now();
    let store = open(path, StoreOptions::default());
    println!("open, all sealed: {:.2} ms", milliseconds(start.elapsed()));
    look_ups(&store, "several segments");
}

fn look_ups(store: &Store, state: &str) {
    let team = store.team(&team());
    let mut traces: Vec<TraceId> = Vec::new();
    let mut sessions = Vec::new();
    for chunk in team.export().unwrap().step_by(7) {
        for row in chunk.unwrap().rows().unwrap().iter().step_by(97) {
            traces.push(row.trace_id);
            sessions.extend(row.session_id.clone());
        }
    }
    sessions.dedup();
    // Warm: each trace is asked for once before.
    for trace in traces.iter().take(LOOK_UPS) {
        black_box(team.trace(*trace).unwrap().len());
    }
    let mut spans = 0;
    report(
        &format!("trace, {state}"),
        traces.len().min(LOOK_UPS),
        |n| {
            spans += team.trace(traces[n]).unwrap().len();
        },
    );
    println!(
        "  {:.1} spans a trace",
        spans as f64 / traces.len().min(LOOK_UPS) as f64
    );
    report(&format!("absent trace, {state}"), LOOK_UPS, |n| {
        let id = (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        assert!(team.trace(TraceId(id.to_be_bytes())).unwrap().is_empty());
    });
    report(&format!("session, {state}"), sessions.len().min(200), |n| {
        black_box(team.session_spans(&sessions[n]).unwrap().len());
    });
}

/// The same look-ups where one seal wrote everything.
fn one_segment(path: &Path, bodies: &[Vec<u8>]) {
    let options = StoreOptions {
        seal_rows: u64::MAX,
        seal_age: None,
        hot_bytes: usize::MAX,
        log_bytes: u64::MAX,
        ..StoreOptions::default()
    };
    let store = open(path, options);
    append(&store.team(&team()), bodies.iter());
    let start = Instant::now();
    store.seal().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "seal of a million spans: {:.0} spans/s",
        SPANS as f64 / seconds
    );
    let bytes = bytes_below(&path.join("segments"));
    println!(
        "one segment: {:.1} bytes a span",
        bytes as f64 / SPANS as f64
    );
    look_ups(&store, "one segment");
    drop(store);
    for (cache_bytes, state) in [(256 << 20, "read"), (1, "read, nothing kept")] {
        let options = StoreOptions {
            read_by: ReadBy::Pread,
            cache_bytes,
            ..StoreOptions::default()
        };
        look_ups(&open(path, options), state);
    }
    fifty_rows(&path.join("segments"));
}

/// 50 neighbours with all columns, out of the one segment below a directory:
/// what a trace of 50 spans takes, whose traces are shorter here.
fn fifty_rows(path: &Path) {
    let month = std::fs::read_dir(path).unwrap().next().unwrap().unwrap();
    let file = std::fs::read_dir(month.path()).unwrap().next().unwrap();
    let file = bytes::Bytes::from(std::fs::read(file.unwrap().path()).unwrap());
    let summary = summarize(&file).unwrap();
    let rows = summary.rows;
    let segment = SegmentReader::open(file, summary).unwrap();
    let reader = segment.row_reader().unwrap();
    let columns = Column::all(table());
    for state in ["first", "again"] {
        report(&format!("50 rows of one segment, {state}"), LOOK_UPS, |n| {
            let start = (n as u32 * 102_947) % (rows - 50);
            let batches = reader.read(&[start..start + 50], &columns, 50).unwrap();
            let read: usize = batches.map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(read, 50);
        });
    }
}

/// Time to open with a log that is not sealed.
fn open_unsealed(path: &Path, bodies: &[Vec<u8>]) {
    let options = StoreOptions {
        seal_rows: u64::MAX,
        seal_age: None,
        ..StoreOptions::default()
    };
    let store = open(path, options.clone());
    let spans = 100_000;
    append(&store.team(&team()), bodies.iter().take(spans / BATCH));
    drop(store);
    let start = Instant::now();
    let store = open(path, options);
    println!(
        "open, {spans} spans unsealed: {:.0} ms",
        milliseconds(start.elapsed())
    );
    look_ups(&store, "hot");
}

fn bytes_below(path: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path())
        } else {
            metadata.len()
        };
    }
    bytes
}
