//! Many teams, many segments, and merging them: one run, one table.
//!
//! `cargo bench -p spanstore-benches --no-default-features --bench scale -- [gather] [teams] [segments] [load]`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spanstore::{Month, Remembered, SpanBatch, Store, StoreOptions, Team, TeamId, TraceId};
use spanstore_benches::{
    NOW, append, bodies, bodies_of, by_hand, machine, milliseconds, open, report, team,
};

const TEAMS: usize = 100_000;
const SPANS_A_TEAM: usize = 10;
const THREADS: usize = 8;

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: Every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().cast_signed();
        let now = ALLOCATED.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: The caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: The caller's promises are those of `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs this too; it is no test.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let is_asked = |name: &str| {
        let parts = ["gather", "teams", "segments", "load"];
        let asked = |part: &&str| arguments.iter().any(|argument| argument == part);
        !parts.iter().any(asked) || asked(&name)
    };
    let directory = machine::directory();
    machine::print(directory.path());
    if is_asked("gather") {
        gather(directory.path());
    }
    if is_asked("teams") {
        teams(directory.path());
    }
    if is_asked("segments") {
        segments(&directory.path().join("segments"));
    }
    if is_asked("load") {
        load(&directory.path().join("load"));
    }
}

/// What it costs appends that their batches are put together beside the writer: small ones
/// with it and without it, in turn.
fn gather(directory: &Path) {
    const ROUNDS: usize = 5;
    let small = bodies(200_000, SPANS_A_TEAM);
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let with = StoreOptions::default().gather_rows;
        for (rates, gather_rows) in rates.iter_mut().zip([with, 1]) {
            let path = directory.join(format!("gather-{round}-{gather_rows}"));
            let options = StoreOptions {
                gather_rows,
                seal_rows: u64::MAX,
                seal_age: None,
                ..StoreOptions::default()
            };
            rates.push(ingest(&path, &small, |_| team(), options));
        }
    }
    let [with, without] = rates.map(|mut rates| {
        rates.sort_unstable_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    println!(
        "one team, durable batches of {SPANS_A_TEAM}, {THREADS} threads: {with:.0} spans/s, \
         {without:.0} where they are not put together: {:.3}",
        with / without
    );
}

/// 100,000 teams with ten spans each, and one with a million beside them.
fn teams(directory: &Path) {
    let small = bodies((TEAMS * SPANS_A_TEAM) as u64, SPANS_A_TEAM);
    let single = ingest(
        &directory.join("single"),
        &small,
        |_| team(),
        StoreOptions::default(),
    );
    println!("one team, durable batches of {SPANS_A_TEAM}, {THREADS} threads: {single:.0} spans/s");
    let path = directory.join("teams");
    let rate = ingest(&path, &small, name, StoreOptions::default());
    println!(
        "{TEAMS} teams likewise: {rate:.0} spans/s, {:.2} of the single team's",
        rate / single
    );
    {
        let store = open(&path, by_hand());
        append(&store.team(&team()), &bodies(1_000_000, 500));
        store.seal().unwrap();
        let start = Instant::now();
        let report = store.compact().unwrap();
        println!(
            "merge of {} segments with {} rows: {:.1} s",
            report.segments_before,
            report.rows_written,
            start.elapsed().as_secs_f64()
        );
    }
    println!("files: {}", files_below(&path));
    let traces = traces_of(&small);
    let memory = |options: StoreOptions| {
        let before = ALLOCATED.load(Ordering::Relaxed);
        let start = Instant::now();
        let store = open(&path, options);
        let opened = milliseconds(start.elapsed());
        // Every team is looked at once: what stays is what an idle team costs.
        for (team, _) in &traces {
            black_box(store.team(team).usage(Month::of(NOW))).unwrap();
        }
        let after = ALLOCATED.load(Ordering::Relaxed);
        (store, opened, (after - before) as f64 / TEAMS as f64)
    };
    let repeats = Remembered {
        time: Duration::ZERO,
        bytes: 0,
    };
    let forgetful = StoreOptions {
        repeats,
        ..by_hand()
    };
    let (store, _, without) = memory(forgetful);
    drop(store);
    let (store, opened, with) = memory(StoreOptions::default());
    println!("open: {opened:.2} ms");
    println!(
        "memory of the open store with every team read once: {with:.0} bytes a team, {without:.0} \
         when nothing is remembered of its appends"
    );
    let catalog = std::fs::metadata(path.join("catalog.redb")).unwrap().len();
    let start = Instant::now();
    let reading = StoreOptions {
        read_only: true,
        ..by_hand()
    };
    let reading = open(&path, reading);
    println!(
        "open beside it, to be read alone, with a catalog of {:.1} MB: {:.2} ms",
        catalog as f64 / 1e6,
        milliseconds(start.elapsed())
    );
    drop(reading);
    report("trace of a small team", 2_000, |n| {
        let (team, trace) = &traces[n * 37 % traces.len()];
        assert!(!store.team(team).trace(*trace).unwrap().is_empty());
    });
    let large = store.team(&team());
    let in_large = trace_ids(&large, 2_000);
    report("trace of the large team", 2_000, |n| {
        assert!(!large.trace(in_large[n]).unwrap().is_empty());
    });
    report("absent trace of a small team", 2_000, |n| {
        let (team, _) = &traces[n * 37 % traces.len()];
        assert!(store.team(team).trace(TraceId([7; 16])).unwrap().is_empty());
    });
}

fn name(number: usize) -> TeamId {
    TeamId::new(&format!("team-{number:06}")).unwrap()
}

/// Appends bodies from some threads; spans a second.
fn ingest(
    path: &Path,
    bodies: &[Vec<u8>],
    team: impl Fn(usize) -> TeamId + Sync,
    options: StoreOptions,
) -> f64 {
    let store = open(path, options);
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(body) = bodies.get(number) else {
                        break;
                    };
                    let batch = SpanBatch::from_otlp_protobuf(body).unwrap();
                    let receipt = store.team(&team(number)).append(batch).unwrap();
                    assert!(receipt.refused.is_empty());
                }
            });
        }
    });
    let rate = (bodies.len() * SPANS_A_TEAM) as f64 / start.elapsed().as_secs_f64();
    store.seal().unwrap();
    rate
}

/// One trace of each team.
fn traces_of(bodies: &[Vec<u8>]) -> Vec<(TeamId, TraceId)> {
    let traces = bodies.iter().enumerate().map(|(number, body)| {
        let request = spanstore::otlp::protobuf::decode(body).unwrap();
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        let trace = TraceId::from_bytes(&span.trace_id).unwrap();
        (name(number), trace)
    });
    traces.collect()
}

fn trace_ids(team: &Team, count: usize) -> Vec<TraceId> {
    let mut traces = Vec::new();
    for chunk in team.export().unwrap().step_by(7) {
        for row in chunk.unwrap().rows().unwrap().iter().step_by(29) {
            traces.push(row.trace_id);
        }
    }
    traces.truncate(count);
    traces
}

/// Look-ups over 1, 4 and 8 segments, and merging 8 of a million rows.
fn segments(path: &Path) {
    let store = open(path, by_hand());
    let bench = store.team(&team());
    bench.set_quota(Some(u64::MAX)).unwrap();
    for seal in 1..=8 {
        assert_eq!(append(&bench, &bodies_of(seal, 1_000_000, 500)).1, 0);
        store.seal().unwrap();
        if [1, 4, 8].contains(&seal) {
            look_ups(&bench, &format!("{seal} segments of a million"));
        }
    }
    drop(bench);
    drop(store);
    let store = open(path, by_hand());
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let is_done = AtomicBool::new(false);
    let (report, seconds, resident) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_done.load(Ordering::Relaxed) {
                most = most.max(anonymous_bytes());
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let start = Instant::now();
        let report = store.compact().unwrap();
        let seconds = start.elapsed().as_secs_f64();
        is_done.store(true, Ordering::Relaxed);
        (report, seconds, watch.join().unwrap())
    });
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!(
        "merge of 8 segments of 1,000,000 rows of one team: {:.0} rows/s, {seconds:.1} s, at most {} MiB allocated, {} MiB of anonymous memory resident in the process",
        report.rows_written as f64 / seconds,
        peak >> 20,
        resident >> 20,
    );
    println!(
        "  {} segments of {} bytes a span after it",
        report.segments_after,
        report.bytes_written / report.rows_written
    );
    look_ups(&store.team(&team()), "one segment of 8 million");
}

/// 10,000,000 spans of one team at full rate: how many segments there are at a time, how
/// soon there are few, and what merging costs appends.
fn load(path: &Path) {
    let bodies = bodies(1_000_000, 500);
    let places: Vec<Vec<usize>> = bodies.iter().map(|body| places_of_traces(body)).collect();
    let store = open(&path.join("merging"), StoreOptions::default());
    let (rate, most) = full_rate(&store, &bodies, &places, || {});
    let end = Instant::now();
    while store.segments().len() > 8 && end.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!(
        "10,000,000 spans of one team, {THREADS} threads: {rate:.0} spans/s, at most {most} segments at a time, {} after {:.0} s",
        store.segments().len(),
        end.elapsed().as_secs_f64()
    );
    drop(store);
    let options = StoreOptions {
        hot_bytes: usize::MAX,
        background: false,
        ..StoreOptions::default()
    };
    let seal_rows = options.seal_rows;
    let store = open(&path.join("sealing"), options);
    let sealed = AtomicU64::new(0);
    let (without, _) = full_rate(&store, &bodies, &places, || {
        let usage = store.team(&team()).usage(Month::of(NOW - 1)).unwrap();
        if usage.used >= sealed.load(Ordering::Relaxed) + seal_rows {
            sealed.store(usage.used, Ordering::Relaxed);
            store.seal().unwrap();
        }
    });
    println!(
        "  {without:.0} spans/s where they are sealed and not merged: {:.3}",
        rate / without
    );
}

/// Appends bodies ten times, in other traces each time, from some threads: spans a second,
/// and the most segments that there were. Does `beside` all the while.
fn full_rate(
    store: &Store,
    bodies: &[Vec<u8>],
    places: &[Vec<usize>],
    beside: impl Fn() + Sync,
) -> (f64, usize) {
    const ROUNDS: usize = 10;
    let bench = store.team(&team());
    bench.set_quota(Some(u64::MAX)).unwrap();
    let next = AtomicUsize::new(0);
    let is_done = AtomicBool::new(false);
    let start = Instant::now();
    let most = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_done.load(Ordering::Relaxed) {
                most = most.max(store.segments().len());
                beside();
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let append = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= ROUNDS * bodies.len() {
                    break;
                }
                let (round, number) = (number / bodies.len(), number % bodies.len());
                // The same spans in other traces.
                let mut body = bodies[number].clone();
                for place in &places[number] {
                    body[place + 15] ^= round as u8;
                }
                let batch = SpanBatch::from_otlp_protobuf(&body).unwrap();
                assert_eq!(bench.append(batch).unwrap().accepted, 500);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(append)).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    let rate = (ROUNDS * bodies.len() * 500) as f64 / start.elapsed().as_secs_f64();
    (rate, most)
}

/// Where the trace ids of its spans stand in a body.
fn places_of_traces(body: &[u8]) -> Vec<usize> {
    let request = spanstore::otlp::protobuf::decode(body).unwrap();
    let resources = request.resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    let ids: HashSet<Vec<u8>> = spans.map(|span| span.trace_id).collect();
    let windows = body.windows(16).enumerate();
    let found = windows.filter(|(_, bytes)| ids.contains(*bytes));
    found.map(|(place, _)| place).collect()
}

fn look_ups(team: &Team, state: &str) {
    let traces = trace_ids(team, 2_000);
    for trace in &traces {
        black_box(team.trace(*trace).unwrap().len());
    }
    report(&format!("trace, {state}"), traces.len(), |n| {
        black_box(team.trace(traces[n]).unwrap().len());
    });
    report(&format!("absent trace, {state}"), 2_000, |n| {
        let id = (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        assert!(team.trace(TraceId(id.to_be_bytes())).unwrap().is_empty());
    });
}

/// Anonymous memory of this process that is resident, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn files_below(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path) } else { 1 }
    });
    entries.sum()
}
