//! How much of a trace is here, and who waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spanstore::io::SimulatedDisk;
use spanstore::otlp::Span;
use spanstore::{Error, ManualClock, Store, StoreOptions, Team, TraceId, TraceStatus};
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{NOW, open_at, open_on, quiet, team};

const QUIET: Duration = Duration::from_millis(200);
const TRACE: TraceId = TraceId([7; 16]);

fn options() -> StoreOptions {
    StoreOptions {
        trace_quiet_time: QUIET,
        ..quiet()
    }
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Store {
    open_at(Arc::new(disk.clone()), "/store", options(), clock).unwrap()
}

/// A span of the trace; the first one is the root.
fn of_trace(number: u64) -> Span {
    let mut span = span(number);
    span.trace_id = TRACE.0.to_vec();
    span.span_id = (number + 1).to_be_bytes().to_vec();
    span.parent_span_id = match number {
        0 => Vec::new(),
        // There is no such span.
        _ => vec![9; 8],
    };
    span.attributes.retain(|one| one.key != "session.id");
    span
}

fn append(team: &Team, spans: impl IntoIterator<Item = Span>) {
    let receipt = team.append(request(spans)).unwrap();
    assert!(receipt.accepted > 0 && receipt.refused.is_empty());
}

#[test]
fn a_trace_is_ready_when_its_root_is_here_and_nothing_came_for_a_while() {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(NOW)));
    let store = open(&disk, &clock);
    let acme = store.team(&team("acme"));
    let status = || acme.trace_status(TRACE).unwrap();
    let partial = |spans, has_root| TraceStatus::Partial { spans, has_root };
    assert_eq!(status(), TraceStatus::Unknown);
    append(&acme, [of_trace(1), of_trace(2)]);
    clock.advance(Duration::from_hours(9));
    assert_eq!(status(), partial(2, false), "without a root it stays so");
    append(&acme, [of_trace(0)]);
    assert_eq!(status(), partial(3, true));
    clock.advance(QUIET.saturating_sub(Duration::from_nanos(1)));
    assert_eq!(status(), partial(3, true));
    // Those of another trace, and of another team, do not matter.
    append(&acme, [span(1)]);
    append(&store.team(&team("other")), [of_trace(0)]);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(status(), TraceStatus::Ready, "orphans do not matter");
    // A late span counts, and the wall clock does not.
    append(&acme, [of_trace(3)]);
    clock.set(NOW + 1_000_000_000_000_000);
    assert_eq!(status(), partial(4, true));
    // What is sealed is quiet.
    store.seal().unwrap();
    assert_eq!(status(), TraceStatus::Ready);
    append(&acme, [of_trace(4)]);
    assert_eq!(status(), partial(5, true));
    drop((acme, store));
    // So is what came before the store was opened.
    let store = open(&disk, &clock);
    let acme = store.team(&team("acme"));
    assert_eq!(acme.trace_status(TRACE).unwrap(), TraceStatus::Ready);
    assert_eq!(acme.trace(TRACE).unwrap().len(), 5);
    acme.forget_trace(TRACE).unwrap();
    assert_eq!(acme.trace_status(TRACE).unwrap(), TraceStatus::Unknown);
}

#[test]
fn a_request_is_ready_when_all_its_traces_are() {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(NOW)));
    let store = open(&disk, &clock);
    let acme = store.team(&team("acme"));
    let of = |n: u64, trace: u8, is_root: bool, has_id: bool| {
        let mut span = span(n);
        span.trace_id = vec![trace; 16];
        span.parent_span_id = if is_root { Vec::new() } else { vec![9; 8] };
        let id = if has_id { "request-1" } else { "request-2" };
        span.attributes.retain(|one| one.key != "vercel.request_id");
        span.attributes.push(text("vercel.request_id", id));
        span
    };
    let status = || acme.request_status("request-1").unwrap();
    assert_eq!(status(), TraceStatus::Unknown);
    assert!(acme.traces_of_request("request-1").unwrap().is_empty());
    // A span of the trace that does not carry the id belongs to it too.
    append(
        &acme,
        [
            of(1, 1, true, false),
            of(2, 1, false, true),
            of(3, 3, true, false),
        ],
    );
    clock.advance(QUIET);
    assert_eq!(status(), TraceStatus::Ready);
    append(&acme, [of(4, 2, false, true)]);
    clock.advance(QUIET);
    let partial = TraceStatus::Partial {
        spans: 3,
        has_root: true,
    };
    assert_eq!(status(), partial, "one trace is without a root");
    store.seal().unwrap();
    assert_eq!(status(), partial);
    let traces = acme.traces_of_request("request-1").unwrap();
    let found: Vec<_> = traces
        .iter()
        .map(|(id, spans)| (id.0[0], spans.len()))
        .collect();
    assert_eq!(found, [(1, 2), (2, 1)]);
    append(&acme, [of(5, 2, true, false)]);
    assert_eq!(
        status(),
        TraceStatus::Partial {
            spans: 4,
            has_root: true
        }
    );
    clock.advance(QUIET);
    assert_eq!(status(), TraceStatus::Ready);
}

#[test]
fn a_page_trace_is_the_trace_of_the_first_span_of_its_session() {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(NOW)));
    let store = open(&disk, &clock);
    let acme = store.team(&team("acme"));
    assert!(acme.page_trace("page").unwrap().is_none());
    let in_page = |n: u64| {
        let mut span = span(n);
        span.attributes.insert(0, text("session.id", "page"));
        span
    };
    append(&acme, [in_page(25), span(11), in_page(12), span(13)]);
    let (trace, spans) = acme.page_trace("page").unwrap().unwrap();
    assert_eq!((trace, spans.len()), (TraceId(trace_id(1)), 3));
}

/// With the clock of the machine, as the store waits by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_woken_by_spans_and_by_quiet() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(spanstore::SystemClock);
    let store = Store::open_on(Arc::new(disk), "/store", options(), clock).unwrap();
    let acme = store.team(&team("acme"));
    let hours = Duration::from_hours(5);
    // Nothing comes.
    let nothing = acme.wait_for_trace(TRACE, Duration::from_millis(1)).await;
    assert_eq!(nothing.unwrap(), TraceStatus::Unknown);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let acme = acme.clone();
            tokio::spawn(async move { acme.wait_for_trace(TRACE, hours).await.unwrap() })
        })
        .collect();
    let recent = |number| {
        let mut span = of_trace(number);
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        (span.start_time_unix_nano, span.end_time_unix_nano) = (now, now + 5);
        span
    };
    append(&acme, [recent(1)]);
    let partial = acme.wait_for_trace(TRACE, QUIET * 2).await.unwrap();
    assert_eq!(
        partial,
        TraceStatus::Partial {
            spans: 1,
            has_root: false
        }
    );
    assert!(waiting.iter().all(|one| !one.is_finished()));
    let began = Instant::now();
    append(&acme, [recent(0)]);
    for one in waiting {
        assert_eq!(one.await.unwrap(), TraceStatus::Ready);
    }
    assert!(began.elapsed() >= QUIET, "it was quiet for a while");
}

/// A seal counts as quiet, and nothing comes to a store that is closed.
#[tokio::test]
async fn who_waits_is_woken_by_a_seal_and_by_the_end() {
    let hours = Duration::from_hours(5);
    // Nothing but the seal makes it ready.
    let options = StoreOptions {
        trace_quiet_time: hours,
        ..quiet()
    };
    let store = open_on(Arc::new(SimulatedDisk::new()), "/store", options).unwrap();
    let acme = store.team(&team("acme"));
    append(&acme, [of_trace(0)]);
    let wait = |trace| {
        let acme = acme.clone();
        tokio::spawn(async move { acme.wait_for_trace(trace, hours).await })
    };
    let (ready, unknown) = (wait(TRACE), wait(TraceId([1; 16])));
    // By then both wait, mostly. The answers are the same where they do not.
    tokio::time::sleep(QUIET / 10).await;
    store.seal().unwrap();
    assert_eq!(ready.await.unwrap().unwrap(), TraceStatus::Ready);
    store.close().unwrap();
    let closed = unknown.await.unwrap();
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
}

/// What was left out of a batch did not come.
#[test]
fn a_span_that_is_there_already_does_not_disturb() {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(NOW)));
    let store = open(&disk, &clock);
    let acme = store.team(&team("acme"));
    append(&acme, [of_trace(0)]);
    clock.advance(QUIET);
    append(&acme, [of_trace(0), span(3)]);
    assert_eq!(acme.trace_status(TRACE).unwrap(), TraceStatus::Ready);
}
