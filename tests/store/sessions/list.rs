//! The table of sessions: what was started, with what requests say.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use futures::executor::block_on;
use spanstore::io::SimulatedDisk;
use spanstore::otlp::Span;
use spanstore::query::{Order, Query};
use spanstore::{Error, ManualClock, Store, Team, TraceId};
use spanstore_test_support::model::sessions::Session as Listed;
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{NOW, open_at, quiet, sessions, team};

use super::{DAY, by};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// The root of trace number `trace`, which starts at a time and takes a second.
fn root(trace: u64, session: &str, start: i64) -> Span {
    Span {
        start_time_unix_nano: start.cast_unsigned(),
        end_time_unix_nano: (start + SECOND).cast_unsigned(),
        attributes: vec![text("session.id", session)],
        ..span(trace * 10)
    }
}

/// A child in that trace, a minute later, without the session.
fn failed_child(trace: u64, start: i64) -> Span {
    Span {
        start_time_unix_nano: (start + 60 * SECOND).cast_unsigned(),
        end_time_unix_nano: (start + 61 * SECOND).cast_unsigned(),
        attributes: vec![text("level", "error")],
        ..span(trace * 10 + 1)
    }
}

fn with_user(mut span: Span, user: &str) -> Span {
    span.attributes.push(text("user.id", user));
    span
}

fn ids(query: Query) -> Vec<String> {
    let batches = block_on(query.columns(["session_id"]).unwrap().collect()).unwrap();
    let ids = batches
        .iter()
        .flat_map(|rows| rows.column(0).as_string_view().iter());
    ids.flatten().map(str::to_owned).collect()
}

fn numbers(team: &Team, sql: &str) -> Vec<i64> {
    let batches = block_on(async {
        let stream = team.sql(sql).await.unwrap();
        stream.try_collect::<Vec<_>>().await.unwrap()
    });
    let columns = batches.iter().flat_map(RecordBatch::columns);
    columns
        .flat_map(|column| column.as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

struct World {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self {
            disk: SimulatedDisk::new(),
            clock: Arc::new(ManualClock::new(NOW)),
        }
    }

    fn open(&self) -> Store {
        open_at(Arc::new(self.disk.clone()), "/store", quiet(), &self.clock).unwrap()
    }
}

#[test]
fn a_session_is_what_was_started_and_what_its_requests_say() {
    let world = World::new();
    let store = world.open();
    let acme = store.team(&team("acme"));
    let first = acme.start_session(by("ada")).unwrap();
    world.clock.advance(DAY);
    let page = acme.start_page_trace(by("bob")).unwrap();
    acme.stop_session(&first.id).unwrap();
    let later = NOW + DAY.as_nanos() as i64;
    let spans = [
        root(1, &first.id, NOW),
        failed_child(1, NOW),
        root(2, &first.id, NOW + HOUR),
        with_user(root(3, "only in spans", NOW - HOUR), "zoe"),
        with_user(root(4, "only in spans", NOW - 2 * HOUR), "eve"),
    ];
    acme.append(request(spans)).unwrap();
    store
        .team(&team("other"))
        .append(request([root(1, &first.id, NOW)]))
        .unwrap();
    let listed = |id: &str, user: &str| Listed {
        id: Some(id.to_owned()),
        user: Some(user.to_owned()),
        kind: None,
        state: None,
        times: (0, None),
        predecessor: None,
        seen: None,
        counts: (0, 0, 0),
    };
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        Listed {
            kind: text("page_trace"),
            state: text("open"),
            times: (later, None),
            ..listed(&page.id, "bob")
        },
        Listed {
            kind: text("session"),
            state: text("stopped"),
            times: (NOW, Some(later)),
            seen: Some((NOW, NOW + HOUR + SECOND)),
            counts: (2, 3, 1),
            ..listed(&first.id, "ada")
        },
        Listed {
            times: (NOW - 2 * HOUR, None),
            seen: Some((NOW - 2 * HOUR, NOW - HOUR + SECOND)),
            counts: (2, 2, 0),
            // The user of the earliest request.
            ..listed("only in spans", "eve")
        },
    ];
    assert_eq!(sessions(&acme).unwrap(), expected, "in memory");
    store.seal().unwrap();
    assert_eq!(sessions(&acme).unwrap(), expected, "sealed");
    // A trace that lies in a segment and in memory is one request.
    acme.append(request([failed_child(2, NOW + HOUR)])).unwrap();
    let [_, of_ada, _] = sessions(&acme).unwrap().try_into().unwrap();
    assert_eq!(of_ada.counts, (2, 4, 2));
    assert_eq!(of_ada.seen, Some((NOW, NOW + HOUR + 61 * SECOND)));
    drop((acme, store));
    let acme = world.open().team(&team("acme"));
    assert_eq!(sessions(&acme).unwrap()[1], of_ada, "opened again");
    acme.forget_session(&first.id).unwrap();
    let left = ids(acme.sessions());
    assert_eq!(left, [page.id.as_str(), "only in spans"]);
}

/// Three sessions that were started and two that spans name, of which one has errors.
fn filled(world: &World) -> (Store, [String; 5]) {
    let store = world.open();
    let acme = store.team(&team("acme"));
    let mut started = Vec::new();
    for user in ["ada", "bob", "ada"] {
        started.push(acme.start_session(by(user)).unwrap().id);
        world.clock.advance(Duration::from_secs(1));
    }
    acme.stop_session(&started[0]).unwrap();
    let mut spans = vec![root(1, "one", NOW - HOUR), root(2, "two", NOW - 2 * HOUR)];
    spans.push(failed_child(2, NOW - 2 * HOUR));
    spans.extend((10..13).map(|trace| root(trace, &started[1], NOW)));
    acme.append(request(spans)).unwrap();
    let [first, second, third] = started.try_into().unwrap();
    (store, [third, second, first, "one".into(), "two".into()])
}

#[test]
fn sessions_are_filtered_ordered_and_counted() {
    let world = World::new();
    let (store, [third, second, first, one, two]) = filled(&world);
    let acme = store.team(&team("acme"));
    for state in ["in memory", "sealed"] {
        let all = [&third, &second, &first, &one, &two];
        assert_eq!(
            ids(acme.sessions()).iter().collect::<Vec<_>>(),
            all,
            "{state}"
        );
        for (filter, expected) in [
            ("user_id = 'ada' and state = 'open'", vec![&third]),
            ("kind is null", vec![&one, &two]),
            ("state != 'open'", vec![&first]),
            ("errors > 0", vec![&two]),
            ("requests = 3 and spans = 3", vec![&second]),
            ("duration > '30s'", vec![&two]),
            ("last_seen is null", vec![&third, &first]),
            ("session_id in ('one', 'two', 'three')", vec![&one, &two]),
            ("session_id = 'three'", vec![]),
            ("search('SHOP.example')", vec![&third, &second, &first]),
            ("lower(browser) like '%1'", vec![&third, &second, &first]),
        ] {
            let query = acme.sessions().filter(filter).unwrap();
            let count = block_on(query.clone().count()).unwrap();
            assert_eq!(
                ids(query).iter().collect::<Vec<_>>(),
                expected,
                "{state}: {filter}"
            );
            assert_eq!(count, expected.len() as u64, "{state}: {filter}");
        }
        for (typed, expected) in [
            ("user:ada state:open", vec![&third]),
            ("-user:ada duration:>30s", vec![&two]),
            ("tw", vec![&two]),
            ("session:one|two -has:kind", vec![&one, &two]),
        ] {
            let query = acme.sessions().search(typed).unwrap();
            assert_eq!(
                ids(query).iter().collect::<Vec<_>>(),
                expected,
                "{state}: {typed}"
            );
        }
        for (order, expected) in [
            (Order::OldestFirst, &two),
            (Order::MostSpansFirst, &second),
            (Order::MostErrorsFirst, &two),
            (Order::SlowestFirst, &two),
        ] {
            assert_eq!(
                ids(acme.sessions().order(order))[0],
                *expected,
                "{state}: {order:?}"
            );
        }
        let within = acme.sessions().since(NOW - HOUR).until(NOW + SECOND);
        assert_eq!(
            ids(within).iter().collect::<Vec<_>>(),
            [&first, &one],
            "{state}"
        );
        let users = block_on(acme.sessions().facet("user_id")).unwrap();
        let users: Vec<_> = users
            .iter()
            .map(|one| (one.value.as_deref(), one.spans))
            .collect();
        assert_eq!(
            users,
            [(Some("ada"), 2), (None, 2), (Some("bob"), 1)],
            "{state}"
        );
        let sql = "select count(*), sum(requests), sum(spans), count(kind) from sessions";
        assert_eq!(numbers(&acme, sql), [5, 5, 6, 3], "{state}");
        let sql = "select s.requests from \"sessions\" s where s.session_id = 'two'";
        assert_eq!(numbers(&acme, sql), [1], "{state}");
        let sql = format!(
            "select count(*) from requests r join Sessions s on r.session_id = s.session_id \
             where s.user_id = 'bob' and s.session_id = '{second}'"
        );
        assert_eq!(numbers(&acme, &sql), [3], "{state}");
        store.seal().unwrap();
    }
}

#[test]
fn pages_of_sessions_show_the_spans_that_the_first_one_saw() {
    let world = World::new();
    let (store, all) = filled(&world);
    let acme = store.team(&team("acme"));
    let page = |cursor: Option<&str>| {
        let query = acme.sessions().limit(2).columns(["session_id", "spans"]);
        block_on(query.unwrap().page_with_total(cursor)).unwrap()
    };
    let mut cursor = None;
    let mut found = Vec::new();
    loop {
        let page = page(cursor.as_deref());
        assert_eq!(page.total, Some(5));
        let ids = page.rows.column(0).as_string_view().iter().flatten();
        let spans = page.rows.column(1).as_primitive::<Int64Type>().values();
        found.extend(ids.map(str::to_owned).zip(spans.iter().copied()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // What comes now is not on the pages that follow.
        acme.append(request([
            failed_child(1, NOW - HOUR),
            root(77, "three", NOW - 3 * HOUR),
        ]))
        .unwrap();
        store.seal().unwrap();
    }
    let expected: Vec<(String, i64)> = all.into_iter().zip([0, 3, 0, 1, 2]).collect();
    assert_eq!(found, expected);
    assert_eq!(ids(acme.sessions()).len(), 6);
}

/// Of so many spans a segment stores the requests, and what they say of sessions is kept.
#[test]
fn what_is_kept_of_sessions_changes_with_their_requests() {
    let world = World::new();
    let store = world.open();
    let acme = store.team(&team("acme"));
    let session = |n: u64| format!("session-{}", n % 2);
    acme.append(request((0..200).map(|n| root(n, &session(n), NOW - HOUR))))
        .unwrap();
    store.seal().unwrap();
    let counts = || {
        let mut listed = sessions(&acme).unwrap();
        listed.sort();
        let counts = listed.iter().map(|one| (one.counts.0, one.counts.1));
        counts.collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(counts(), [(100, 100), (100, 100)]);
    }
    acme.append(request([failed_child(7, NOW - HOUR)])).unwrap();
    assert_eq!(counts(), [(100, 100), (100, 101)], "a late span");
    acme.forget_trace(TraceId(trace_id(8))).unwrap();
    assert_eq!(counts(), [(99, 99), (100, 101)], "a trace was forgotten");
    store.compact().unwrap();
    assert_eq!(counts(), [(99, 99), (100, 101)], "merged");
}

#[test]
fn sessions_that_start_together_are_each_on_one_page() {
    let world = World::new();
    let store = world.open();
    let acme = store.team(&team("acme"));
    let mut expected: Vec<String> = (0..25)
        .map(|_| acme.start_session(by("ada")).unwrap().id)
        .collect();
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let query = acme.sessions().limit(4).columns(["session_id"]).unwrap();
        let page = block_on(query.page(cursor.as_deref())).unwrap();
        let ids = page.rows.column(0).as_string_view().iter().flatten();
        found.extend(ids.map(str::to_owned));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn what_sessions_do_not_have_cannot_be_asked_of_them() {
    let world = World::new();
    let acme = world.open().team(&team("acme"));
    for (filter, expected) in [
        (
            "attributes['a'] = 'b'",
            "sessions, which have no attributes",
        ),
        (
            "any(level = 'error')",
            "a condition on the columns of a session",
        ),
        ("level = 'error'", "unknown column `level`"),
        ("user_if = 'ada'", "such as user_id"),
        ("has('key')", "sessions, which have no attributes"),
    ] {
        let error = acme.sessions().filter(filter).unwrap_err();
        assert!(
            matches!(error, Error::InvalidFilter(_)),
            "{filter}: {error:?}"
        );
        assert!(error.to_string().contains(expected), "{filter}: {error}");
    }
    let error = block_on(acme.sessions().facet("session_id")).unwrap_err();
    assert!(matches!(error, Error::NoFacet { .. }), "{error:?}");
    let error = block_on(acme.sessions().spans()).unwrap_err();
    assert!(matches!(error, Error::UnknownColumn { .. }), "{error:?}");
}
