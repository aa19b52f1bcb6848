//! Appending and finding again: at once, after a seal, after a reopen.

use futures::TryStreamExt;
use spanstore::query::Order;
use spanstore::{Month, Store, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, open, team};

fn found(store: &Store) -> (usize, usize, u64) {
    let team = store.team(&team("acme"));
    let trace = team.trace(TraceId(trace_id(3))).unwrap().len();
    let session = team.session_spans("session-1").unwrap().len();
    (trace, session, team.usage(Month::of(NOW)).unwrap().used)
}

/// Async runtimes let a task do only so much at a time; a call that blocks must not
/// wait for what they hold back.
#[tokio::test]
async fn blocking_calls_in_an_async_task_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for n in 0..400 {
        assert_eq!(acme.append(request([span(n)])).unwrap().accepted, 1);
    }
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, 400);
}

#[test]
fn rows_are_found_at_once_after_the_seal_and_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let receipt = store
        .team(&team("acme"))
        .append(request((0..100).map(span)))
        .unwrap();
    assert_eq!(
        (receipt.accepted, receipt.duplicates, receipt.refused.len()),
        (100, 0, 0)
    );
    assert_eq!(found(&store), (10, 30, 100));
    let again = store
        .team(&team("acme"))
        .append(request((0..100).map(span)))
        .unwrap();
    assert!(again.repeated);
    assert_eq!(found(&store), (10, 30, 100));
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.recovered().log_records, 1);
    assert_eq!(found(&store), (10, 30, 100));
    let report = store.seal().unwrap();
    assert_eq!(report.segments.len(), 1);
    assert_eq!(report.segments[0].rows, 100);
    assert_eq!(found(&store), (10, 30, 100));
    assert_eq!(store.check().unwrap().damage, []);
    drop(store);

    let store = open(directory.path());
    assert_eq!(store.recovered().log_records, 0);
    assert_eq!(found(&store), (10, 30, 100));
    assert_eq!(
        store
            .team(&team("other"))
            .trace(TraceId(trace_id(3)))
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn sql_sees_hot_and_sealed_rows() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    acme.append(request((0..100).map(span))).unwrap();
    store.seal().unwrap();
    acme.append_async(request((100..150).map(span)))
        .await
        .unwrap();
    let batches: Vec<_> = acme
        .sql("select count(*) n, sum(duration) d, max(status_code) c from spans")
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let line = |place: usize| {
        arrow::util::display::array_value_to_string(batches[0].column(place), 0).unwrap()
    };
    let durations: u64 = (0..150).map(|n| n % 100 * 10_000).sum();
    assert_eq!(
        (line(0), line(1), line(2)),
        ("150".into(), durations.to_string(), "500".into())
    );
    let newest = acme
        .query()
        .columns(["span_id", "name"])
        .unwrap()
        .limit(7)
        .collect()
        .await
        .unwrap();
    assert_eq!(
        newest
            .iter()
            .map(arrow::array::RecordBatch::num_rows)
            .sum::<usize>(),
        7
    );
    let all = acme
        .query()
        .order(Order::OldestFirst)
        .collect()
        .await
        .unwrap();
    assert_eq!(
        all.iter()
            .map(arrow::array::RecordBatch::num_rows)
            .sum::<usize>(),
        150
    );
}
