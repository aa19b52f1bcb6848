//! Groups, timelines and the most frequent values, and what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};
use futures::TryStreamExt;
use spanstore::otlp::Span;
use spanstore::query::{Aggregate, Key, Query};
use spanstore::{Error, QueryLimits, StoreOptions, Team, TraceId};
use spanstore_test_support::spans::{integer, request, span, text, trace_id};
use spanstore_test_support::{NOW, open, team};

const HOUR: i64 = 3_600_000_000_000;
const MILLI: i64 = 1_000_000;
/// The start of the first span.
const FIRST: i64 = NOW - HOUR;

/// Spans of which some are sealed and some are not.
fn append(team: &Team, spans: u64, seal: impl Fn()) {
    for n in 0..spans {
        team.append(request([span(n)])).unwrap();
        if n == spans / 2 {
            seal();
        }
    }
}

#[tokio::test]
async fn a_timeline_covers_the_time_that_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let empty = acme.query().timeline(3, None).await.unwrap();
    assert!(empty.buckets == 3 && empty.series.is_empty(), "{empty:?}");
    assert!(
        acme.query()
            .timeline(3, Some("kind"))
            .await
            .unwrap()
            .series
            .is_empty()
    );
    append(&acme, 100, || drop(store.seal().unwrap()));
    // Starts lie 1 ms apart: 100 of them take 99 ms and 1 ns.
    let all = acme.query().timeline(4, None).await.unwrap();
    assert_eq!((all.start, all.width), (FIRST, 99 * MILLI / 4 + 1));
    assert_eq!(all.series.len(), 1);
    assert_eq!((&all.series[0].value, all.series[0].total()), (&None, 100));
    assert_eq!(all.series[0].spans, [25, 25, 25, 25]);
    let asked = acme
        .query()
        .since(FIRST - 10 * MILLI)
        .until(FIRST + 30 * MILLI);
    let asked = asked.timeline(4, Some("method")).await.unwrap();
    assert_eq!((asked.start, asked.width), (FIRST - 10 * MILLI, 10 * MILLI));
    let series = asked
        .series
        .iter()
        .map(|one| (one.value.as_deref(), one.spans.clone()));
    let expected = [
        (Some("GET"), vec![0, 5, 5, 5]),
        (Some("POST"), vec![0, 5, 5, 5]),
    ];
    assert!(series.eq(expected), "{asked:?}");
    let refused = acme.query().timeline(10_001, None).await;
    assert!(
        matches!(refused, Err(Error::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(acme.query().timeline(0, None).await.unwrap().buckets, 1);
    let by_trace = acme.query().timeline(1, Some("trace_id")).await.unwrap();
    let first = TraceId(trace_id(0)).to_string();
    let found = by_trace
        .series
        .iter()
        .find(|one| one.value.as_ref() == Some(&first));
    assert_eq!(
        (by_trace.series.len(), &found.unwrap().spans),
        (10, &vec![10])
    );
    // A range without an end that lies behind all spans.
    let later = acme.query().since(NOW).timeline(2, None).await.unwrap();
    assert_eq!((later.start, later.series.len()), (NOW, 0));
    // Centuries before the first span.
    let long = acme
        .query()
        .since(-8_000_000_000_000_000_000)
        .timeline(100, None);
    let long = long.await.unwrap();
    let found = long.series[0]
        .spans
        .iter()
        .position(|spans| *spans > 0)
        .unwrap();
    let start = i128::from(long.start) + i128::from(long.width) * found as i128;
    let within = start..start + i128::from(long.width);
    assert!(within.contains(&i128::from(FIRST)), "{found} of {long:?}");
}

#[tokio::test]
async fn the_most_frequent_values_come_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, 100, || drop(store.seal().unwrap()));
    append(&store.team(&team("other")), 50, || {
        drop(store.seal().unwrap());
    });
    let top = |value: &'static str, k: usize| {
        let query = acme.query();
        async move {
            let top = query.top(value, k).await.unwrap();
            let top = top
                .into_iter()
                .map(|one| (one.value.unwrap_or_default(), one.spans));
            top.collect::<Vec<_>>()
        }
    };
    let systems = [("redis".to_owned(), 66), ("postgresql".to_owned(), 34)];
    assert_eq!(top("attributes['db.system']", 5).await, systems);
    assert_eq!(top("attributes['db.system']", 1).await, systems[..1]);
    assert_eq!(
        top("status_code", 9).await,
        [("200".to_owned(), 98), ("500".to_owned(), 2)]
    );
    assert_eq!(
        top("upper(attributes['none'])", 9).await,
        [(String::new(), 100)]
    );
    let traces = top("trace_id", 100).await;
    let first = TraceId(trace_id(0)).to_string();
    assert!(
        traces.len() == 10 && traces.contains(&(first, 10)),
        "{traces:?}"
    );
    let facet = acme.query().facet("name").await.unwrap();
    assert_eq!(acme.query().top("name", 10).await.unwrap(), facet);
}

#[tokio::test]
async fn groups_are_in_the_order_of_their_keys() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, 100, || drop(store.seal().unwrap()));
    let mut odd = span(100);
    odd.attributes = vec![text("items", "none"), integer("other", 3)];
    acme.append(request([odd])).unwrap();
    let half = Key::Time(Duration::from_millis(50));
    let items = "attributes['items']";
    let values = [
        Aggregate::Count,
        Aggregate::Sum(items),
        Aggregate::Min("start_time"),
        Aggregate::Percentile("duration", 1.0),
    ];
    let groups = acme
        .query()
        .aggregate([half, "method".into()], values)
        .await
        .unwrap();
    let names: Vec<String> = groups
        .schema()
        .fields()
        .iter()
        .map(|one| one.name().clone())
        .collect();
    let expected =
        "time method count sum(attributes['items']) min(start_time) percentile(duration, 1)";
    assert_eq!(names.join(" "), expected);
    let times = groups
        .column(0)
        .as_primitive::<TimestampNanosecondType>()
        .values();
    let starts = [0, 0, 50, 50, 100].map(|after| FIRST + after * MILLI);
    assert_eq!(times.as_ref(), starts);
    let methods: Vec<_> = groups.column(1).as_string_view().iter().collect();
    assert_eq!(
        methods,
        [Some("GET"), Some("POST"), Some("GET"), Some("POST"), None]
    );
    let counts = groups.column(2).as_primitive::<Int64Type>().values();
    assert_eq!(counts.as_ref(), [25, 25, 25, 25, 1]);
    let sums: Vec<_> = groups
        .column(3)
        .as_primitive::<Float64Type>()
        .iter()
        .collect();
    let of = |is_odd: u64, half: u64| {
        let spans = (half * 50..half * 50 + 50).filter(|n| n % 2 == is_odd);
        Some(spans.map(|n| (n % 13) as f64).sum::<f64>())
    };
    // The text "none" is no number.
    assert_eq!(sums, [of(0, 0), of(1, 0), of(0, 1), of(1, 1), None]);
    let firsts = groups.column(4).as_primitive::<TimestampNanosecondType>();
    assert_eq!(firsts.value(1), FIRST + MILLI);
    let longest = groups.column(5).as_primitive::<Float64Type>();
    assert!((longest.value(0) - 480_000.0).abs() < 1e-6);
}

#[tokio::test]
async fn several_filters_hold_together() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, 100, || drop(store.seal().unwrap()));
    let both = acme.query().filter("method = 'GET'").unwrap();
    let both = both
        .filter("start_time < 1794697200050000000 or path = '/none'")
        .unwrap();
    assert_eq!(both.clone().count().await.unwrap(), 25);
    let none = both.filter("method = 'POST'").unwrap();
    assert_eq!(none.count().await.unwrap(), 0);
}

#[tokio::test]
async fn choices_are_counted_without_the_choice() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    append(&acme, 100, || drop(store.seal().unwrap()));
    let chosen = "(method = 'GET' or method = 'PUT') and not status_code = 500 and \
                  session_id = 'session-1' and (kind = 'server' or name = 'operation 1')";
    let columns = ["method", "status_code", "kind", "name"];
    let query = || acme.query().filter(chosen).unwrap();
    let choices = query().facet_choices(columns).await.unwrap();
    let others = [
        "not status_code = 500 and session_id = 'session-1' and (kind = 'server' or name = 'operation 1')",
        "(method = 'GET' or method = 'PUT') and session_id = 'session-1' and \
         (kind = 'server' or name = 'operation 1')",
        chosen,
        chosen,
    ];
    for ((column, choices), others) in columns.into_iter().zip(choices).zip(others) {
        let expected = acme
            .query()
            .filter(others)
            .unwrap()
            .facet(column)
            .await
            .unwrap();
        assert!(
            !expected.is_empty() && choices == expected,
            "{column}: {choices:?}"
        );
    }
    assert_eq!(query().facet_choices(["method"]).await.unwrap()[0].len(), 2);
    assert_eq!(query().facet("method").await.unwrap().len(), 1);
    // A filter that is one choice, and two filters.
    let one = acme.query().filter("method = 'GET'").unwrap();
    assert_eq!(
        one.clone().facet_choices(["method"]).await.unwrap()[0].len(),
        2
    );
    let two = one.filter("method = 'POST' and status_code = 200").unwrap();
    let methods = two.clone().facet_choices(["method"]).await.unwrap();
    assert_eq!(methods[0].iter().map(|count| count.spans).sum::<u64>(), 98);
    assert!(two.facets(["method"]).await.unwrap()[0].is_empty());
    // A choice that nothing can be.
    let below = acme.query().filter("level < 'info'").unwrap();
    let levels = below.facet_choices(["level"]).await.unwrap();
    assert_eq!(levels[0], acme.query().facet("level").await.unwrap());
    let none = acme.query().facet_choices(["duration"]).await;
    assert!(matches!(none, Err(Error::NoFacet { name: "duration" })));
}

#[tokio::test]
async fn what_cannot_be_grouped_or_measured_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let query = || store.team(&team("acme")).query();
    let refused = async |query: Query, key: &str, value: Aggregate<'_>| {
        let refused = query.aggregate([key], [value]).await.unwrap_err();
        assert!(matches!(refused, Error::InvalidFilter(_)), "{refused:?}");
        refused.to_string()
    };
    let error = refused(query(), "name", Aggregate::Sum("path")).await;
    assert!(
        error.contains("sum(path)") && error.contains("a number"),
        "{error}"
    );
    let error = refused(query(), "nam", Aggregate::Count).await;
    assert!(error.contains("name"), "{error}");
    refused(query(), "name = ", Aggregate::Count).await;
    refused(query(), "name = 'a'", Aggregate::Count).await;
    refused(query(), "'a'", Aggregate::Count).await;
    refused(query(), "attributes", Aggregate::Count).await;
    refused(query(), "events", Aggregate::Count).await;
    refused(query(), "", Aggregate::Count).await;
    let too_many = format!("{}name{}", "lower(".repeat(500), ")".repeat(500));
    refused(query(), &too_many, Aggregate::Count).await;
    // The shortest bucket has a nanosecond.
    let each = query().aggregate([Key::Time(Duration::ZERO)], [Aggregate::Count]);
    assert_eq!(each.await.unwrap().num_rows(), 0);
    for share in [-0.1, 1.1, f64::NAN] {
        let percentile = Aggregate::Percentile("duration", share);
        refused(query(), "name", percentile).await;
    }
}

#[tokio::test]
async fn groups_take_no_more_memory_than_a_query_may() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        query_limits: QueryLimits {
            memory_bytes: 2 << 20,
            ..QueryLimits::default()
        },
        ..spanstore_test_support::quiet()
    };
    let store = spanstore::Store::open(directory.path(), options).unwrap();
    let acme = store.team(&team("acme"));
    for start in (0..60_000).step_by(10_000) {
        acme.append(request((start..start + 10_000).map(span)))
            .unwrap();
    }
    store.seal().unwrap();
    let few = acme
        .query()
        .aggregate(["method"], [Aggregate::Distinct("session_id")]);
    assert_eq!(few.await.unwrap().num_rows(), 2);
    let many = acme
        .query()
        .aggregate(["span_id"], [Aggregate::Avg("duration")]);
    assert!(matches!(many.await, Err(Error::QueryMemory { .. })));
    let text = "select span_id, avg(duration) from spans group by span_id order by 2 limit 1";
    let by_sql: Result<Vec<_>, _> = acme.sql(text).await.unwrap().try_collect().await;
    assert!(matches!(
        by_sql.unwrap_err().into(),
        Error::QueryMemory { .. }
    ));
}

async fn by_sql(team: &Team, text: &str) -> String {
    let found: Vec<_> = team.sql(text).await.unwrap().try_collect().await.unwrap();
    let lines = arrow::util::pretty::pretty_format_batches(&found)
        .unwrap()
        .to_string();
    let rows = lines.lines().skip(3).filter(|line| !line.starts_with('+'));
    let cells = rows.map(|row| {
        row.replace('|', " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(",")
    });
    cells.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn sql_that_is_answered_by_groups_is_answered_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    acme.append(request((0..100).map(span))).unwrap();
    for is_sealed in [false, true] {
        for (text, expected) in [
            // A recursion scans what it has found, not the table.
            (
                "with recursive t as (select cast(1 as bigint) as duration union all select \
                 max(duration) + 1 from t where duration < 4 group by duration) \
                 select duration from t order by 1",
                "1 2 3 4",
            ),
            // Constants are keys and values.
            (
                "select sum(1), count(null), count(distinct 7) from spans",
                "100,0,1",
            ),
            (
                "select 'a' as x, method, sum(2) from spans group by 1, 2 order by 2",
                "a,GET,100 a,POST,100",
            ),
            (
                "select not (duration is null) as k, count(*) from spans group by 1",
                "true,100",
            ),
            // Not every number rises with the start.
            (
                "select duration / 500000 as half, count(*) from spans group by 1 order by 1",
                "0,50 1,50",
            ),
            // What other rows have is not evaluated.
            (
                "select 100 / (status_code - 200) as x, count(*) from spans where \
                 status_code <> 200 group by 1",
                "0,2",
            ),
            (
                "select method, count(100 / (status_code - 200)) from spans where \
                 status_code <> 200 group by 1",
                "GET,2",
            ),
            (
                "select percentile_cont(0.5) within group (order by duration) from spans",
                "495000.0",
            ),
            (
                "select arrow_cast(method, 'Dictionary(Int32, Utf8)') as x, count(*) from spans \
                 group by 1 order by 2, 1 limit 1",
                "GET,50",
            ),
        ] {
            // The second time its plan is known.
            for _ in 0..2 {
                assert_eq!(by_sql(&acme, text).await, expected, "{is_sealed}: {text}");
            }
        }
        store.seal().unwrap();
    }
}

#[tokio::test]
async fn a_text_that_comes_again_sees_what_is_there_then() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acme, other) = (store.team(&team("acme")), store.team(&team("other")));
    let texts = [
        "select count(*) from spans",
        "select name from spans order by start_time desc limit 1",
        "select method, max(name) from spans group by method order by 1 limit 1",
    ];
    let answers = async |team: &Team| {
        let mut answers = Vec::new();
        for text in texts {
            answers.push(by_sql(team, text).await);
        }
        answers
    };
    assert_eq!(answers(&acme).await, ["0", "", ""]);
    acme.append(request((0..3).map(span))).unwrap();
    other.append(request((0..2).map(span))).unwrap();
    let of_acme = ["3", "operation,2", "GET,operation,2"];
    assert_eq!(answers(&acme).await, of_acme);
    assert_eq!(
        answers(&other).await,
        ["2", "operation,1", "GET,operation,0"]
    );
    store.seal().unwrap();
    assert_eq!(answers(&acme).await, of_acme);
    acme.append(request([span(3)])).unwrap();
    assert_eq!(
        answers(&acme).await,
        ["4", "operation,3", "GET,operation,2"]
    );
}

/// Keys, and the value that span `n` has of each.
type Named = (&'static str, fn(u64) -> Option<String>);

const NAMED: [Named; 9] = [
    // More than a dictionary holds.
    ("name", |n| Some(format!("{n:0300}"))),
    // In all spans, and one value in one of them alone.
    ("route", |n| {
        Some(if n == 33 {
            "/once".into()
        } else {
            format!("/{}", n % 3)
        })
    }),
    // In some spans, in none, and always the same.
    ("function", |n| {
        n.is_multiple_of(4).then(|| format!("f{}", n % 5))
    }),
    ("host", |_| None),
    ("environment", |_| Some("production".into())),
    ("status_code", |n| {
        Some(if n % 50 == 0 { "500" } else { "200" }.into())
    }),
    ("attributes['tier']", |n| {
        (n % 5 < 2).then(|| format!("t{}", n % 5))
    }),
    // Of another type in one span.
    ("attributes['mixed']", |n| {
        Some(if n == 47 {
            "7".into()
        } else {
            format!("m{}", n % 2)
        })
    }),
    ("resource['service.name']", |_| Some("shop".into())),
];

fn named_span(n: u64) -> Span {
    let mut named = span(n);
    named.name = format!("{n:0300}");
    for (key, column) in [
        ("http.route", "route"),
        ("faas.name", "function"),
        ("deployment.environment.name", "environment"),
        ("tier", "attributes['tier']"),
        ("mixed", "attributes['mixed']"),
    ] {
        let of_span = NAMED.iter().find(|(name, _)| *name == column);
        let value = of_span.and_then(|(_, value)| value(n));
        named
            .attributes
            .extend(value.map(|value| match value.parse() {
                Ok(number) => integer(key, number),
                Err(_) => text(key, &value),
            }));
    }
    named
}

#[tokio::test]
async fn values_are_those_of_spans_that_are_seen() {
    for has_neighbours in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let acme = store.team(&team("acme"));
        acme.append(request((0..500).map(named_span))).unwrap();
        if has_neighbours {
            let mut other = span(1);
            other.attributes.push(text("http.route", "/other"));
            store.team(&team("aaa")).append(request([other])).unwrap();
        }
        let check = async |is_seen: &dyn Fn(u64) -> bool, query: Query| {
            for (name, value) in NAMED {
                let seen = (0..500).filter(|n| is_seen(*n));
                let expected: BTreeSet<Option<String>> = seen.map(value).collect();
                let none: [Aggregate<'_>; 0] = [];
                let found = query.clone().aggregate([name], none).await.unwrap();
                let found = cast(found.column(0), &DataType::Utf8View).unwrap();
                let found: Vec<Option<&str>> = found.as_string_view().iter().collect();
                let mut sorted: Vec<Option<&str>> = expected.iter().map(Option::as_deref).collect();
                sorted.sort_by_key(|value| (value.is_none(), *value));
                assert_eq!(found, sorted, "{name}, {has_neighbours}");
                let no_keys: [Key<'_>; 0] = [];
                let distinct = query
                    .clone()
                    .aggregate(no_keys, [Aggregate::Distinct(name)]);
                let distinct = distinct.await.unwrap();
                let distinct = distinct.column(0).as_primitive::<Int64Type>().value(0);
                assert_eq!(distinct, sorted.iter().flatten().count() as i64, "{name}");
            }
        };
        check(&|_| true, acme.query()).await;
        store.seal().unwrap();
        check(&|_| true, acme.query()).await;
        let posts = acme.query().filter("method = 'POST'").unwrap();
        check(&|n| n % 2 == 1, posts).await;
        acme.forget_trace(TraceId(trace_id(3))).unwrap();
        check(&|n| n / 10 != 3, acme.query()).await;
    }
}
