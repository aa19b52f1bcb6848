//! Pages of a list show what the first one saw, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::otlp::Span;
use spanstore::query::{Order, Query};
use spanstore::{Error, Store, Team, TraceId};
use spanstore_test_support::spans::{attribute, integer, request, span, text, trace_id};
use spanstore_test_support::{open, team};

use super::requests::{ORDERS, rows};

type Row = BTreeMap<String, String>;

/// Spans of 60 traces, many of which start together and take as long.
fn spans(first: u64, count: u64) -> Vec<Span> {
    let numbers = first..first + count;
    numbers
        .map(|n| {
            let mut one = span(n);
            one.trace_id = trace_id(n * 7 % 60).to_vec();
            one.start_time_unix_nano -= one.start_time_unix_nano % 64_000_000;
            one.end_time_unix_nano = one.start_time_unix_nano + n % 3 * 1_000_000;
            one
        })
        .collect()
}

fn append(team: &Team, spans: Vec<Span>) {
    let count = spans.len() as u64;
    let receipt = team.append(request(spans)).unwrap();
    assert_eq!(receipt.accepted, count);
}

/// All rows of a query, and those of all pages, with a change after each.
async fn walk(query: impl Fn() -> Query, size: usize, mut change: impl FnMut()) {
    let expected = rows(&query().collect().await.unwrap());
    assert!(expected.len() > 2 * size);
    let mut found: Vec<Row> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = query().limit(size);
        let page = page.page_with_total(cursor.as_deref()).await.unwrap();
        assert_eq!(page.total, Some(expected.len() as u64));
        let of_page = rows(&[page.rows]);
        assert!(of_page.len() == size || page.next.is_none());
        found.extend(of_page);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        change();
    }
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
}

fn queries(team: &Team) -> Vec<Query> {
    let mut queries = Vec::new();
    for order in ORDERS {
        let columns = [
            "trace_id",
            "duration",
            "start_time",
            "spans",
            "errors",
            "level",
            "end_time",
        ];
        let requests = team.requests().columns(columns).unwrap().order(order);
        queries.push(requests.clone());
        queries.push(
            requests
                .filter("any(name = 'operation 3') and spans > 2")
                .unwrap(),
        );
        if !matches!(order, Order::MostSpansFirst | Order::MostErrorsFirst) {
            let spans = team.query().order(order);
            let spans = spans
                .columns(["name", "span_id", "path", "sequence"])
                .unwrap();
            queries.push(spans.clone());
            queries.push(spans.filter("method = 'GET' and duration < '2ms'").unwrap());
        }
    }
    queries
}

#[tokio::test]
async fn no_row_comes_twice_is_left_out_or_changes_while_spans_come() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, spans(0, 150));
    store.seal().unwrap();
    append(&acme, spans(150, 130));
    let mut next = 10_000;
    let mut random = StdRng::seed_from_u64(5);
    for query in queries(&acme) {
        let change = || match random.random_range(0..5) {
            // They belong to traces that are there, and are new ones.
            0..=2 => {
                let mut more = spans(next, 9);
                more[3].trace_id = trace_id(next).to_vec();
                append(&acme, more);
                next += 9;
            }
            3 => drop(store.seal().unwrap()),
            _ => drop(store.compact().unwrap()),
        };
        walk(|| query.clone(), 9, change).await;
    }
}

#[tokio::test]
async fn versions_of_one_span_come_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    // Five spans of one id, told apart by their attributes alone.
    let versions = (0..5).map(|n| {
        let mut one = span(3);
        one.attributes.push(integer("version", n));
        one
    });
    append(&acme, versions.chain([span(1), span(8)]).collect());
    let query = || acme.query().columns(["name", "attributes"]).unwrap();
    for size in [1, 2, 3] {
        walk(query, size, || ()).await;
        walk(|| query().order(Order::OldestFirst), size, || ()).await;
    }
}

#[tokio::test]
async fn versions_come_once_each_while_they_are_sealed_and_forgotten() {
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let acme = store.team(&team("acme"));
        for session in ["a", "b", "c"] {
            let mut one = span(3);
            one.attributes = vec![text("session.id", session)];
            append(&acme, vec![one]);
            if session != "b" {
                store.seal().unwrap();
            }
        }
        let query = || acme.query().order(order).columns(["session_id"]).unwrap();
        let first = query().limit(1).page(None).await.unwrap();
        store.seal().unwrap();
        let second = query().limit(1).page(first.next.as_deref()).await.unwrap();
        let given = &rows(&[first.rows])[0]["session_id"];
        acme.forget_session(given).unwrap();
        let third = query().page(second.next.as_deref()).await.unwrap();
        let rest = [rows(&[second.rows]), rows(&[third.rows])].concat();
        let mut all: Vec<&str> = rest.iter().map(|row| row["session_id"].as_str()).collect();
        all.push(given);
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c"], "{order:?}");
    }
}

#[tokio::test]
async fn what_merges_change_is_no_filter_of_pages() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, spans(0, 20));
    for filter in ["split", "spans > 1 or not split"] {
        let query = acme.requests().filter(filter).unwrap();
        let refused = query.page(None).await;
        assert!(matches!(refused, Err(Error::InvalidFilter(_))), "{filter}");
    }
}

/// Copies the files of a store that nobody has open.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn an_older_copy_takes_no_cursor_of_later_spans() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path);
    append(&store.team(&team("acme")), spans(0, 50));
    let backup = directory.path().join("backup");
    store.backup(&backup).unwrap();
    store.close().unwrap();
    let older = directory.path().join("older");
    copy(&path, &older);
    let store = open(&path);
    append(&store.team(&team("acme")), spans(50, 10));
    let query = |store: &Store| store.team(&team("acme")).query().limit(5);
    let first = query(&store).page(None).await.unwrap();
    for (copy, expected) in [
        (&older, "it knows spans that this store does not have"),
        (&backup, "this store did not write it"),
    ] {
        let refused = query(&open(copy)).page(first.next.as_deref()).await;
        assert_eq!(refusal(refused), expected);
    }
    let first = query(&open(&older)).page(None).await.unwrap();
    assert!(query(&store).page(first.next.as_deref()).await.is_ok());
}

#[tokio::test]
async fn what_is_forgotten_meanwhile_is_missing_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, spans(0, 400));
    for order in ORDERS {
        let query = || acme.requests().order(order);
        let expected = rows(&query().collect().await.unwrap());
        let first = query().limit(20).page(None).await.unwrap();
        // One that was given, and one that is to come.
        for row in [&expected[4], &expected[24]] {
            let id = u128::from_str_radix(&row["trace_id"], 16).unwrap();
            acme.forget_trace(TraceId(id.to_be_bytes())).unwrap();
        }
        let second = query()
            .limit(1_000)
            .page(first.next.as_deref())
            .await
            .unwrap();
        assert_eq!(second.next, None);
        let mut rest = expected[20..].to_vec();
        rest.remove(4);
        assert!(rows(&[second.rows]) == rest, "{order:?}");
    }
}

fn refusal(page: Result<spanstore::query::Page, Error>) -> String {
    match page {
        Err(Error::InvalidCursor { cause }) => cause.to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn cursors_survive_reopening_and_no_others_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let filter = "method = 'GET'";
    let query = |store: &Store, name: &str, filter: &str| {
        let query = store.team(&team(name)).query().filter(filter).unwrap();
        query.columns(["span_id"]).unwrap().limit(5)
    };
    let store = open(directory.path());
    for name in ["acme", "other"] {
        append(&store.team(&team(name)), spans(0, 40));
    }
    let first = query(&store, "acme", filter).page(None).await.unwrap();
    let cursor = first.next.unwrap();
    let of_store = |store: &Store| {
        let page = query(store, "acme", filter).page(Some(&cursor));
        futures::executor::block_on(page)
    };
    let second = rows(&[of_store(&store).unwrap().rows]);
    store.close().unwrap();
    let store = open(directory.path());
    assert!(rows(&[of_store(&store).unwrap().rows]) == second);
    // It belongs to its question.
    let foreign = "it belongs to another team, filter or order";
    let page = query(&store, "other", filter).page(Some(&cursor)).await;
    assert_eq!(refusal(page), foreign);
    let page = query(&store, "acme", "true").page(Some(&cursor)).await;
    assert_eq!(refusal(page), foreign);
    let both = query(&store, "acme", filter).filter("true").unwrap();
    assert_eq!(refusal(both.page(Some(&cursor)).await), foreign);
    let oldest = query(&store, "acme", filter).order(Order::OldestFirst);
    assert_eq!(refusal(oldest.page(Some(&cursor)).await), foreign);
    let requests = store.team(&team("acme")).requests().filter(filter).unwrap();
    assert_eq!(refusal(requests.page(Some(&cursor)).await), foreign);
    // Each of its digits counts.
    for place in 0..cursor.len() {
        let mut forged: Vec<char> = cursor.chars().collect();
        forged[place] = if forged[place] == '0' { '1' } else { '0' };
        let forged: String = forged.into_iter().collect();
        let page = query(&store, "acme", filter).page(Some(&forged)).await;
        assert_eq!(refusal(page), "this store did not write it");
    }
    for wrong in ["", "00", "xyz", "é", &cursor[1..], &"0".repeat(10_000)] {
        let page = query(&store, "acme", filter).page(Some(wrong)).await;
        assert!(matches!(page, Err(Error::InvalidCursor { .. })), "{wrong}");
    }
    // Another store has another key.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path());
    assert_eq!(refusal(of_store(&other)), "this store did not write it");
}

#[tokio::test]
async fn pages_have_the_times_of_the_first_and_bounded_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let mut late = span(5_000);
    late.attributes = vec![
        text("k", "v"),
        attribute("n", spanstore::otlp::Value::IntValue(1)),
    ];
    append(&acme, spans(0, 300).into_iter().chain([late]).collect());
    let all = rows(
        &acme
            .query()
            .order(Order::OldestFirst)
            .collect()
            .await
            .unwrap(),
    );
    let time = |row: usize| all[row]["start_time"].parse::<i64>().unwrap();
    let (since, until) = (time(100), time(290));
    let query = || acme.query().order(Order::OldestFirst).limit(60);
    let first = query().since(since).until(until);
    let first = first.page(None).await.unwrap();
    // A later page may be asked for with other times, such as those an hour ago by then.
    let second = query()
        .since(i64::MAX - 1)
        .page(first.next.as_deref())
        .await;
    let third = query().page(second.as_ref().unwrap().next.as_deref()).await;
    let mut found = rows(&[first.rows]);
    found.extend(rows(&[second.unwrap().rows]));
    found.extend(rows(&[third.as_ref().unwrap().rows.clone()]));
    let within = |row: &&Row| (since..until).contains(&row["start_time"].parse().unwrap());
    let expected: Vec<&Row> = all.iter().filter(within).collect();
    assert!(found.len() < 190 && found.iter().eq(expected.iter().take(found.len()).copied()));
    let fourth = query()
        .page(third.as_ref().unwrap().next.as_deref())
        .await
        .unwrap();
    found.extend(rows(&[fourth.rows]));
    assert_eq!(fourth.next, None);
    assert!(found.iter().eq(expected));
    let large = acme.query().limit(1_001).page(None).await;
    assert!(matches!(large, Err(Error::TooLarge { limit: 1_000, .. })));
    let page = acme.query().page(None).await.unwrap();
    assert_eq!((page.rows.num_rows(), page.total), (100, None));
}
