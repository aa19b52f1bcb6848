//! Requests are what a naive look makes of the spans of each trace: wherever these lie, in
//! every order, with every filter and every answer.

mod compare;
mod filters;
mod places;
mod random;
mod spans;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::query::{Aggregate, Order};
use spanstore::{Error, Team, TraceId};
use spanstore_test_support::spans::trace_id;
use spanstore_test_support::{NOW, open, team};

pub(crate) use self::spans::rows;
use self::spans::{Request, Span, append, requests};

pub(crate) const ORDERS: [Order; 6] = [
    Order::NewestFirst,
    Order::OldestFirst,
    Order::SlowestFirst,
    Order::FastestFirst,
    Order::MostSpansFirst,
    Order::MostErrorsFirst,
];
const MILLI: i64 = 1_000_000;
const TRACES: u64 = 300;

/// A random span of one of the traces.
fn random(random: &mut StdRng, id: u64) -> Span {
    let trace = random.random_range(0..TRACES);
    let mut span = Span {
        trace,
        id,
        parent: random
            .random_bool(0.8)
            .then(|| id.saturating_sub(random.random_range(0..3 * TRACES)).max(1)),
        // Many start together.
        start: NOW - 3_600_000 * MILLI
            + (trace.cast_signed() / 7 * 50 + random.random_range(0..10) * 5) * MILLI,
        duration: random.random_range(0..20) * MILLI,
        kind: random.random_range(1..4),
        name: format!("operation {}", random.random_range(0..5)),
        service: [Some("web"), Some("db"), None][random.random_range(0..3)],
        level: [None, None, None, Some("warning"), Some("fatal")][random.random_range(0..5)],
        code: [None, None, Some(200), Some(404), Some(500)][random.random_range(0..5)],
        cold_start: [None, None, Some(false), Some(true)][random.random_range(0..4)],
        ..Span::default()
    };
    for (column, values) in [
        ("session_id", 40),
        ("request_id", 60),
        ("user_id", 3),
        ("method", 3),
        ("path", 9),
        ("route", 3),
        ("resource", 3),
        ("function", 4),
        ("host", 3),
    ] {
        if random.random_bool(0.3) {
            let value = random.random_range(0..values);
            span = span.with(column, &format!("{column} {value}"));
        }
    }
    span
}

/// A filter, and the requests that it finds.
type Filter = (&'static str, fn(&Request) -> bool);

fn has(span: &Span, column: &str, value: &str) -> bool {
    span.texts.get(column).is_some_and(|text| text == value)
}

const FILTERS: &[Filter] = &[
    ("true", |_| true),
    ("level = 'error'", |request| {
        request.any(|span| span.level() == "error")
    }),
    ("not (level = 'error') and spans >= 5", |request| {
        !request.any(|span| span.level() == "error") && request.spans.len() >= 5
    }),
    ("level != 'info'", |request| {
        !request.any(|span| span.level() == "info")
    }),
    ("service in ('db', 'none') and complete", |request| {
        request.any(|span| span.service == Some("db")) && request.columns["complete"] == "true"
    }),
    ("function is null or method = 'method 1'", |request| {
        !request.any(|span| span.texts.contains_key("function"))
            || request.text("method") == Some("method 1")
    }),
    ("session_id = 'session_id 7'", |request| {
        request.text("session_id") == Some("session_id 7")
    }),
    (
        "session_id = 'session_id 7' or request_id = 'request_id 8'",
        |request| {
            request.text("session_id") == Some("session_id 7")
                || request.text("request_id") == Some("request_id 8")
        },
    ),
    (
        "request_id in ('request_id 3', 'request_id 4') and has_root",
        |request| {
            let ids = [Some("request_id 3"), Some("request_id 4")];
            ids.contains(&request.text("request_id")) && request.columns["has_root"] == "true"
        },
    ),
    ("any(service = 'db' and duration > '10ms')", |request| {
        request.any(|span| span.service == Some("db") && span.duration > 10 * MILLI)
    }),
    (
        "status_code >= 500 and any(resource = 'resource 1') and not any(kind = 'server')",
        |request| {
            request.text("status_code") == Some("500")
                && request.any(|span| has(span, "resource", "resource 1"))
                && !request.any(|span| span.kind == 2)
        },
    ),
    (
        "any(attributes['url.path'] = '/none') or errors > 2",
        |request| request.number("errors") > 2,
    ),
    (
        "any(session_id = 'session_id 3' and path is null)",
        |request| {
            request.any(|span| {
                has(span, "session_id", "session_id 3") && !span.texts.contains_key("path")
            })
        },
    ),
    (
        "not (any(level = 'fatal') or any(level = 'error')) and cold_start",
        |request| request.number("errors") == 0 && request.text("cold_start") == Some("true"),
    ),
    (
        "duration < '80ms' and warnings between 1 and 2",
        |request| {
            request.number("duration") < 80 * MILLI && (1..=2).contains(&request.number("warnings"))
        },
    ),
    (
        "services = '[\"db\",\"web\"]' and host != 'host 0'",
        |request| {
            request.text("services") == Some("[\"db\",\"web\"]")
                && request.text("host").is_some_and(|host| host != "host 0")
        },
    ),
    ("split", |request| request.columns["split"] == "true"),
];

const FACETS: [&str; 5] = ["method", "level", "service", "status_code", "name"];

fn facet(requests: &[&Request], column: &str) -> Vec<(Option<String>, u64)> {
    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for request in requests {
        let lists = match column {
            "services" => Some("services"),
            "resource" => Some("resources"),
            _ => None,
        };
        let values: Vec<Option<String>> = match lists {
            None => vec![request.text(column).map(str::to_owned)],
            Some(list) => {
                let values: Vec<String> = serde_json::from_str(&request.columns[list]).unwrap();
                values.into_iter().map(Some).collect()
            }
        };
        let none = vec![None];
        for value in if values.is_empty() { none } else { values } {
            *counts.entry(value).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(value, count)| (u64::MAX - count, value.is_none(), value.clone()));
    counts
}

/// Asks everything of a team that has these requests.
async fn check(team: &Team, all: &[Request]) {
    for (text, holds) in FILTERS {
        let found: Vec<&Request> = all.iter().filter(|request| holds(request)).collect();
        let query = || team.requests().filter(text).unwrap();
        let count = query().count().await.unwrap();
        assert_eq!(count, found.len() as u64, "{text}");
        // Ids decide last, in the direction of the order.
        let by = |request: &&&Request, column: &str| request.number(column);
        for order in ORDERS {
            let mut expected: Vec<&&Request> = found.iter().collect();
            expected.sort_by_key(|request| {
                let first = match order {
                    Order::NewestFirst | Order::OldestFirst => 0,
                    Order::SlowestFirst | Order::FastestFirst => by(request, "duration"),
                    Order::MostSpansFirst => by(request, "spans"),
                    Order::MostErrorsFirst => by(request, "errors"),
                };
                let id = request.columns["trace_id"].clone();
                (first, by(request, "start_time"), id)
            });
            if !matches!(order, Order::OldestFirst | Order::FastestFirst) {
                expected.reverse();
            }
            let expected = expected.iter().map(|request| &request.columns).take(40);
            let rows = rows(&query().order(order).limit(40).collect().await.unwrap());
            assert!(rows.iter().eq(expected), "{order:?} of {text}");
        }
        let facets = query().facets(FACETS.into_iter().chain(["services", "resource"]));
        let facets = facets.await.unwrap();
        for (column, counts) in FACETS
            .into_iter()
            .chain(["services", "resource"])
            .zip(facets)
        {
            let counts = counts.into_iter().map(|count| (count.value, count.spans));
            let expected = facet(&found, column);
            assert_eq!(counts.collect::<Vec<_>>(), expected, "{column} of {text}");
        }
        let groups = query()
            .aggregate(["method"], [Aggregate::Sum("spans")])
            .await;
        let mut sums: BTreeMap<Option<&str>, i64> = BTreeMap::new();
        for request in &found {
            *sums.entry(request.text("method")).or_default() += request.number("spans");
        }
        let groups = rows(&[groups.unwrap()]);
        assert_eq!(groups.len(), sums.len(), "{text}");
        for group in groups {
            let method = group.get("method").map(String::as_str);
            assert_eq!(group["sum(spans)"], sums[&method].to_string(), "{text}");
        }
        let timeline = query().timeline(10, Some("level")).await.unwrap();
        for series in timeline.series {
            let level = |request: &&&Request| request.text("level") == series.value.as_deref();
            assert_eq!(
                series.total(),
                found.iter().filter(level).count() as u64,
                "{text}"
            );
        }
    }
}

/// What an SQL text gives.
async fn sql(team: &Team, text: &str) -> Vec<BTreeMap<String, String>> {
    let stream = team.sql(text).await.unwrap();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    rows(&batches)
}

/// Asks the table `requests` by SQL.
async fn check_sql(team: &Team, all: &[Request]) {
    let text = "select count(*) as n, sum(spans) as spans, max(duration) as longest, \
                count(distinct session_id) as sessions from requests where status_code >= 400";
    let is_bad = |request: &&Request| {
        ["404", "500"]
            .map(Some)
            .contains(&request.text("status_code"))
    };
    let bad: Vec<&Request> = all.iter().filter(is_bad).collect();
    let sum = |column| {
        bad.iter()
            .map(|request| request.number(column))
            .sum::<i64>()
    };
    let longest = bad.iter().map(|request| request.number("duration")).max();
    let sessions: BTreeSet<_> = bad
        .iter()
        .filter_map(|one| one.text("session_id"))
        .collect();
    let found = &sql(team, text).await[0];
    let expected = [
        ("n", bad.len() as i64),
        ("spans", sum("spans")),
        ("longest", longest.unwrap()),
        ("sessions", sessions.len() as i64),
    ];
    for (column, number) in expected {
        assert_eq!(found[column], number.to_string(), "{column}");
    }
    let text = "select trace_id from requests where session_id = 'session_id 7' and spans > 2";
    let of_session = |request: &&Request| {
        request.text("session_id") == Some("session_id 7") && request.spans.len() > 2
    };
    let expected = all.iter().filter(of_session).count();
    assert_eq!(sql(team, text).await.len(), expected);
    // Beside the spans, of which each has its request.
    let text = "select sum(r.spans) as n from requests r join spans s on s.trace_id = r.trace_id \
                where s.level = 'fatal'";
    let fatal = |span: &&Span| span.level() == "fatal";
    let of_request = |request: &Request| {
        request.spans.iter().filter(fatal).count() as i64 * request.number("spans")
    };
    let expected: i64 = all.iter().map(of_request).sum();
    assert_eq!(sql(team, text).await[0]["n"], expected.to_string());
    check_any_span(team, all).await;
}

/// Asks for requests by their spans in SQL.
async fn check_any_span(team: &Team, all: &[Request]) {
    let is_fatal = |request: &Request| request.any(|span| span.level() == "fatal");
    let is_slow = |request: &Request| {
        request.any(|span| span.service == Some("db") && span.duration > 10 * MILLI)
    };
    let text = "select count(*) as n from requests where not Any_Span('level = ''fatal''') \
                or any_span(trace_id, 'service = ''db'' and duration > ''10ms''') and spans > 3";
    let expected = all
        .iter()
        .filter(|one| !is_fatal(one) || is_slow(one) && one.spans.len() > 3);
    let expected = expected.count().to_string();
    assert_eq!(sql(team, text).await[0]["n"], expected);
    // As a value, and of spans.
    let text = "select any_span('level = ''fatal''') as has, count(*) as n from requests \
                group by 1 order by 1";
    let fatal = all.iter().filter(|one| is_fatal(one)).count();
    let found = sql(team, text).await;
    let found: Vec<(&str, &str)> = found.iter().map(|row| (&*row["has"], &*row["n"])).collect();
    let (others, fatal) = ((all.len() - fatal).to_string(), fatal.to_string());
    assert_eq!(found, [("false", &*others), ("true", &*fatal)]);
    let text = "select count(*) as n from spans s where any_span(s.trace_id, 'level = ''fatal''')";
    let of_fatal = all.iter().filter(|one| is_fatal(one));
    let of_fatal = of_fatal.map(|one| one.spans.len()).sum::<usize>();
    assert_eq!(sql(team, text).await[0]["n"], of_fatal.to_string());
    for (arguments, expected) in [
        ("", "expected any_span('filter of spans')"),
        ("name", "expected any_span('filter of spans')"),
        (
            "'true', 'true', 'true'",
            "expected any_span('filter of spans')",
        ),
        ("'nothing = 1'", "nothing"),
        ("name, 'true'", "any_span_0"),
    ] {
        let text = format!("select count(*) from requests where any_span({arguments})");
        let error = team.sql(&text).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let many = ["any_span('true')"; 17].join(" and ");
    let error = team
        .sql(&format!("select 1 from requests where {many}"))
        .await;
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("at most 16 calls")
    );
}

/// Checks what begins within a time, too.
async fn check_times(team: &Team, all: &[Request]) {
    let (since, until) = (NOW - 3_599_500 * MILLI, NOW - 3_598_750 * MILLI);
    let query = team.requests().since(since).until(until);
    let found = rows(&query.order(Order::OldestFirst).collect().await.unwrap());
    let mut expected: Vec<&Request> = all.iter().collect();
    expected.retain(|request| (since..until).contains(&request.number("start_time")));
    expected.sort_by_key(|one| (one.number("start_time"), one.columns["trace_id"].clone()));
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert!(
        found
            .iter()
            .eq(expected.iter().map(|request| &request.columns))
    );
}

#[tokio::test]
async fn every_answer_is_that_of_a_naive_look_at_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let mut source = StdRng::seed_from_u64(11);
    let mut all: Vec<Span> = Vec::new();
    // For each trace the parts that its spans lie in.
    let mut parts: HashMap<u64, HashSet<u32>> = HashMap::new();
    for part in 0..4 {
        let first = all.len() as u64 + 1;
        let spans: Vec<Span> = (first..first + 500)
            .map(|id| random(&mut source, id))
            .collect();
        for spans in spans.chunks(90) {
            append(&acme, spans);
            append(&store.team(&team("other")), &spans[..9]);
        }
        for span in &spans {
            parts.entry(span.trace).or_default().insert(part);
        }
        all.extend(spans);
        if part < 3 {
            store.seal().unwrap();
        }
    }
    let is_split = |trace: u64| parts[&trace].len() > 1;
    let seen = requests(&all, is_split);
    assert!(
        seen.iter()
            .any(|request| request.columns["split"] == "true")
    );
    assert!(
        seen.iter()
            .any(|request| request.columns["complete"] == "true")
    );
    assert!(
        seen.iter()
            .any(|request| request.columns["has_root"] == "false")
    );
    check(&acme, &seen).await;
    check_times(&acme, &seen).await;
    check_sql(&acme, &seen).await;
    // A horizon hides spans of some requests, and others whole.
    let horizon = NOW - 3_599_000 * MILLI + 7 * MILLI;
    let kept = Duration::from_nanos((NOW - horizon).cast_unsigned());
    acme.set_retention(Some(kept)).unwrap();
    let mut later = all.clone();
    later.retain(|span| span.start >= horizon);
    let mut parts_later: HashMap<u64, BTreeSet<usize>> = HashMap::new();
    for (place, span) in all.iter().enumerate() {
        if span.start >= horizon {
            parts_later
                .entry(span.trace)
                .or_default()
                .insert(place / 500);
        }
    }
    check(
        &acme,
        &requests(&later, |trace| parts_later[&trace].len() > 1),
    )
    .await;
    acme.set_retention(None).unwrap();
    // What is forgotten is gone; merged, a trace lies in one segment.
    for trace in [3, 44] {
        acme.forget_trace(TraceId(trace_id(trace))).unwrap();
    }
    all.retain(|span| ![3, 44].contains(&span.trace));
    store.seal().unwrap();
    store.compact().unwrap();
    let merged = requests(&all, |_| false);
    check(&acme, &merged).await;
    check_times(&acme, &merged).await;
    check_sql(&acme, &merged).await;
    // Nobody sees another team's.
    let count = store.team(&team("none")).requests().count().await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn choices_of_a_facet_do_without_what_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let mut source = StdRng::seed_from_u64(12);
    let all: Vec<Span> = (1..800).map(|id| random(&mut source, id)).collect();
    append(&acme, &all);
    let seen = requests(&all, |_| false);
    let text = "level = 'error' and method = 'method 1' and resource = 'resource 2'";
    let query = acme.requests().filter(text).unwrap();
    let columns = ["level", "method", "resource", "name"];
    let choices = query.facet_choices(columns).await.unwrap();
    for (column, counts) in columns.into_iter().zip(choices) {
        let holds = |request: &&Request| {
            (column == "level" || request.any(|span| span.level() == "error"))
                && (column == "method" || request.text("method") == Some("method 1"))
                && (column == "resource" || request.any(|span| has(span, "resource", "resource 2")))
        };
        let found: Vec<&Request> = seen.iter().filter(holds).collect();
        assert!(!found.is_empty());
        let counts = counts.into_iter().map(|count| (count.value, count.spans));
        assert_eq!(
            counts.collect::<Vec<_>>(),
            facet(&found, column),
            "{column}"
        );
    }
}

#[tokio::test]
async fn spans_have_no_order_of_requests_and_requests_no_columns_of_spans() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for order in [Order::MostSpansFirst, Order::MostErrorsFirst] {
        let refused = acme.query().order(order).collect().await;
        assert!(
            matches!(refused, Err(Error::UnknownColumn { .. })),
            "{refused:?}"
        );
    }
    let refused = acme.requests().spans().await;
    assert!(
        matches!(refused, Err(Error::UnknownColumn { .. })),
        "{refused:?}"
    );
    let refused = acme.requests().columns(["span_id"]);
    assert!(
        matches!(refused, Err(Error::UnknownColumn { .. })),
        "{refused:?}"
    );
    assert!(acme.requests().columns(["spans", "services"]).is_ok());
}
