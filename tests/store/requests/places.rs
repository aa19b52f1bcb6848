//! The values of a request may lie in different spans, segments, months and versions.

use std::collections::BTreeSet;

use spanstore::{Store, Team};
use spanstore_test_support::{NOW, open, team};
use tempfile::TempDir;

use super::MILLI;
use super::spans::{Span, append, requests, rows};

/// The start of the month.
const MONTH: i64 = NOW - 14 * 86_400_000 * MILLI;
/// A minute before the time of the tests.
const START: i64 = NOW - 60_000 * MILLI;

fn span(trace: u64, id: u64, parent: Option<u64>, start: i64) -> Span {
    Span {
        trace,
        id,
        parent,
        start,
        duration: MILLI,
        kind: 1,
        name: format!("span {id}"),
        service: Some("web"),
        ..Span::default()
    }
}

fn fixture() -> (TempDir, Store, Team) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let team = store.team(&team("acme"));
    (directory, store, team)
}

#[tokio::test]
async fn the_session_and_the_id_may_come_from_two_spans() {
    let (_directory, store, acme) = fixture();
    append(
        &acme,
        &[
            span(1, 1, None, START).with("session_id", "s"),
            span(1, 2, Some(1), START + MILLI).with("request_id", "r"),
        ],
    );
    let filter = "session_id = 's' and request_id = 'r'";
    let count = || acme.requests().filter(filter).unwrap().count();
    assert_eq!(count().await.unwrap(), 1);
    store.seal().unwrap();
    assert_eq!(count().await.unwrap(), 1);
}

#[tokio::test]
async fn the_session_may_come_from_a_span_beyond_the_times_asked_for() {
    // In the month after, and half a second later.
    for (start, later) in [
        (MONTH - 5 * MILLI, MONTH + MILLI),
        (START, START + 500 * MILLI),
    ] {
        let (_directory, store, acme) = fixture();
        append(&acme, &[span(1, 1, None, start)]);
        store.seal().unwrap();
        append(&acme, &[span(1, 2, Some(1), later).with("session_id", "s")]);
        let query = || acme.requests().filter("session_id = 's'").unwrap();
        let count = || query().since(start).until(start + 5 * MILLI).count();
        assert_eq!(count().await.unwrap(), 1);
        store.seal().unwrap();
        assert_eq!(count().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn of_versions_of_a_root_the_first_one_counts() {
    let (_directory, store, acme) = fixture();
    for version in 0..4 {
        let of = |trace| span(trace, 1_000 + trace, None, START).with("path", &version.to_string());
        append(&acme, &(0..50).map(of).collect::<Vec<_>>());
        store.seal().unwrap();
    }
    for _ in 0..50 {
        let found = acme.requests().columns(["path"]).unwrap().collect().await;
        let paths: BTreeSet<String> = rows(&found.unwrap())
            .into_iter()
            .map(|row| row["path"].clone())
            .collect();
        assert_eq!(paths, BTreeSet::from(["0".to_owned()]));
    }
}

#[tokio::test]
async fn filters_are_as_deep_as_they_may_be() {
    let (_directory, _store, acme) = fixture();
    append(&acme, &[span(1, 1, None, START)]);
    for depth in [10, 40, 63] {
        let mut filter = "level = 'info'".to_owned();
        for level in 0..depth {
            let word = ["and", "or"][level % 2];
            filter = format!("(spans > 0 {word} {filter})");
        }
        let query = acme.requests().filter(&filter).unwrap();
        assert_eq!(query.count().await.unwrap(), 1, "{depth}");
    }
}

#[tokio::test]
async fn long_traces_and_many_traces_are_whole() {
    let (_directory, store, acme) = fixture();
    // One of more than a row group, and more than fit in the memory of a query if their
    // columns were counted more than once.
    let mut all: Vec<Span> = (0..70_000)
        .map(|n| {
            span(
                0,
                n + 1,
                Some(900_000_000),
                START + n.cast_signed() * 7_919 % 70_000,
            )
        })
        .collect();
    all[69_000].service = Some("db");
    all[69_001] = all[69_001].clone().with("session_id", "s");
    let small = (1..100_001).map(|n| span(n, 100_000 + n, None, START + n.cast_signed() % 1_000));
    all.extend(small);
    for spans in all.chunks(5_000) {
        append(&acme, spans);
    }
    let expected = requests(&all, |_| false);
    for is_sealed in [false, true] {
        if is_sealed {
            store.seal().unwrap();
        }
        let mut found = rows(&acme.requests().collect().await.unwrap());
        found.sort_by_key(|row| row["trace_id"].clone());
        assert!(
            found
                .iter()
                .eq(expected.iter().map(|request| &request.columns))
        );
        for filter in [
            "any(service = 'db')",
            "session_id = 's'",
            "service = 'db' and spans = 70000",
            "any(span_id = '01')",
        ] {
            let query = acme.requests().filter(filter).unwrap();
            assert_eq!(query.count().await.unwrap(), 1, "{filter}");
        }
    }
}

#[tokio::test]
async fn a_few_late_spans_change_their_requests_alone() {
    let (_directory, store, acme) = fixture();
    let mut all: Vec<Span> = (1..4_001).map(|n| span(n, n, None, START)).collect();
    append(&acme, &all);
    store.seal().unwrap();
    // So few of so many that their traces are looked up one by one.
    let late = [5, 2_000, 4_000, 9_000].map(|n| span(n, 10_000 + n, Some(n), START + 5 * MILLI));
    append(&acme, &late);
    all.extend(late);
    let expected = requests(&all, |trace| [5, 2_000, 4_000].contains(&trace));
    let mut found = rows(&acme.requests().collect().await.unwrap());
    found.sort_by_key(|row| row["trace_id"].clone());
    let expected: Vec<_> = expected
        .into_iter()
        .map(|request| request.columns)
        .collect();
    assert_eq!(found, expected);
    let two = acme.requests().filter("spans = 2").unwrap();
    assert_eq!(two.count().await.unwrap(), 3);
}
