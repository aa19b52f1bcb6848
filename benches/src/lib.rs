//! What the benchmarks share: batches of the sample application, stores in places of their
//! own, and questions with their answers.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

pub mod machine;
#[cfg(feature = "query")]
pub mod questions;

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spanstore::io::RealDisk;
use spanstore::otlp::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, protobuf};
use spanstore::{ManualClock, SpanBatch, SpanRow, Store, StoreOptions, Team, TeamId};
use spanstore_cli::generate::Application;

/// The time that benchmarks show: 2026-11-15 00:00 UTC, ns since 1970.
pub const NOW: i64 = 1_794_700_800_000_000_000;

/// A day before [`NOW`], when the sample application begins.
const START: i64 = NOW - 86_400_000_000_000;

/// Spans of the sample application as OTLP protobuf bodies of `batch` spans each.
pub fn bodies(spans: u64, batch: usize) -> Vec<Vec<u8>> {
    bodies_of(1, spans, batch)
}

/// The same of another run of the application.
pub fn bodies_of(seed: u64, spans: u64, batch: usize) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let mut pending = ExportTraceServiceRequest::default();
    let mut count = 0;
    for request in Application::new(seed, START).requests(spans) {
        for resource in request.resource_spans {
            for scope in resource.scope_spans {
                let mut spans = scope.spans;
                while !spans.is_empty() {
                    let rest = spans.split_off(spans.len().min(batch - count));
                    count += spans.len();
                    pending.resource_spans.push(ResourceSpans {
                        resource: resource.resource.clone(),
                        schema_url: resource.schema_url.clone(),
                        scope_spans: vec![ScopeSpans {
                            scope: scope.scope.clone(),
                            schema_url: scope.schema_url.clone(),
                            spans,
                        }],
                    });
                    spans = rest;
                    if count == batch {
                        bodies.push(protobuf::encode(&std::mem::take(&mut pending)));
                        count = 0;
                    }
                }
            }
        }
    }
    if count > 0 {
        bodies.push(protobuf::encode(&pending));
    }
    bodies
}

/// Opens a store on the file system.
///
/// # Panics
/// When it does not open.
pub fn open(path: &Path, options: StoreOptions) -> Store {
    Store::open_on(
        Arc::new(RealDisk),
        path,
        options,
        Arc::new(ManualClock::new(NOW)),
    )
    .expect("the store opens")
}

/// Options of a store that seals and merges only when it is told to.
pub fn by_hand() -> StoreOptions {
    StoreOptions {
        seal_rows: u64::MAX,
        seal_age: None,
        hot_bytes: usize::MAX,
        log_bytes: u64::MAX,
        background: false,
        ..StoreOptions::default()
    }
}

/// Appends bodies to a team, each durable before the next. Gives the spans that were
/// accepted and those that were refused.
///
/// # Panics
/// When a body is refused as a whole.
pub fn append<'a>(team: &Team, bodies: impl IntoIterator<Item = &'a Vec<u8>>) -> (u64, u64) {
    let (mut accepted, mut refused) = (0, 0);
    for body in bodies {
        let batch = SpanBatch::from_otlp_protobuf(body).expect("a body of spans");
        let receipt = team.append(batch).expect("an answer");
        accepted += receipt.accepted;
        refused += receipt.refused.len() as u64;
    }
    (accepted, refused)
}

/// All spans of a team.
///
/// # Panics
/// When they cannot be read.
pub fn rows(team: &Team) -> Vec<SpanRow> {
    let chunks = team.export().expect("an export");
    let rows = chunks.map(|spans| spans.and_then(|spans| spans.rows()).expect("rows"));
    rows.flatten().collect()
}

/// The same, the newest first.
pub fn newest_first(team: &Team) -> Vec<SpanRow> {
    let mut rows = rows(team);
    rows.sort_unstable_by_key(|row| Reverse((row.start_nanos, row.trace_id, row.span_id)));
    rows
}

/// The team of the benchmarks.
///
/// # Panics
/// Never: the id is one.
pub fn team() -> TeamId {
    TeamId::new("bench").expect("a team id")
}

/// Runs something again and again, and prints how long it takes.
///
/// # Panics
/// When `times` is 0.
pub fn report(what: &str, times: usize, mut run: impl FnMut(usize)) {
    let mut taken: Vec<Duration> = (0..times)
        .map(|n| {
            let start = Instant::now();
            run(n);
            start.elapsed()
        })
        .collect();
    taken.sort_unstable();
    let at = |part: usize| milliseconds(*taken.get(times * part / 100).expect("a time"));
    println!("{what}: {:.4} ms (p50), {:.4} ms (p99)", at(50), at(99));
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
