//! There is no moment at which an acknowledged span is invisible or seen
//! twice: readers watch while spans are appended and sealed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spanstore::{Store, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{open, sessions, team};

const BATCHES: u64 = 120;
const BATCH: u64 = 30;

/// Appends in order, seals after every fifth batch, and says how far it is.
fn write(store: &Store, acknowledged: &AtomicU64, started: &AtomicU64) {
    let acme = store.team(&team("acme"));
    for number in 0..BATCHES {
        let end = (number + 1) * BATCH;
        started.store(end, Ordering::SeqCst);
        acme.append(request((number * BATCH..end).map(span)))
            .unwrap();
        acknowledged.store(end, Ordering::SeqCst);
        if number % 5 == 4 {
            store.seal().unwrap();
        }
    }
}

/// Counts the spans that a look at the store finds, between what was
/// acknowledged before it and what was under way after it.
fn watch(
    acknowledged: &AtomicU64,
    started: &AtomicU64,
    is_done: &AtomicBool,
    look: impl Fn(u64) -> (u64, u64),
) -> u64 {
    let mut looks = 0;
    while !is_done.load(Ordering::SeqCst) {
        let before = acknowledged.load(Ordering::SeqCst);
        let (found, expected) = look(before);
        let after = started.load(Ordering::SeqCst);
        assert!(found >= expected, "{found} of {expected}");
        assert!(
            found <= expected + (after - before),
            "{found} of {expected}, {after} under way"
        );
        looks += 1;
    }
    looks
}

#[test]
fn readers_see_each_span_once_through_seals() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acknowledged, started) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_done = AtomicBool::new(false);
    let acme = || store.team(&team("acme"));
    std::thread::scope(|scope| {
        let export = scope.spawn(|| {
            let acme = acme();
            watch(&acknowledged, &started, &is_done, |before| {
                let spans = acme
                    .export()
                    .unwrap()
                    .map(|spans| spans.unwrap().len() as u64);
                (spans.sum(), before)
            })
        });
        let by_trace = scope.spawn(|| {
            let acme = acme();
            watch(&acknowledged, &started, &is_done, |before| {
                // The last whole trace has just been appended, or is being sealed.
                let Some(trace) = (before / 10).checked_sub(1) else {
                    return (0, 0);
                };
                (
                    acme.trace(TraceId(trace_id(trace))).unwrap().len() as u64,
                    10,
                )
            })
        });
        let by_session = scope.spawn(|| {
            let acme = acme();
            watch(&acknowledged, &started, &is_done, |before| {
                let Some(session) = (before / 30).checked_sub(1) else {
                    return (0, 0);
                };
                (
                    acme.session_spans(&format!("session-{session}"))
                        .unwrap()
                        .len() as u64,
                    30,
                )
            })
        });
        write(&store, &acknowledged, &started);
        is_done.store(true, Ordering::SeqCst);
        for reader in [export, by_trace, by_session] {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn what_an_append_acknowledges_every_kind_of_query_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for number in 0..20u64 {
        let end = (number + 1) * BATCH;
        acme.append(request((number * BATCH..end).map(span)))
            .unwrap();
        let count = |batches: Vec<arrow::array::RecordBatch>| {
            batches
                .iter()
                .map(|batch| batch.num_rows() as u64)
                .sum::<u64>()
        };
        let filtered = runtime.block_on(async {
            let query = acme
                .query()
                .filter("attributes['db.system'] is not null")
                .unwrap();
            count(query.columns(["span_id"]).unwrap().collect().await.unwrap())
        });
        let by_sql = runtime.block_on(async {
            use futures::TryStreamExt;
            let stream = acme
                .sql("select span_id from spans where duration >= 0")
                .await
                .unwrap();
            count(stream.try_collect().await.unwrap())
        });
        let listed = sessions(&acme).unwrap();
        let listed = listed.iter().map(|one| one.counts.1 as u64).sum();
        assert_eq!((filtered, by_sql, listed), (end, end, end));
        if number % 3 == 2 {
            store.seal().unwrap();
        }
    }
}
