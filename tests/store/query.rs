//! Filters and SQL give what a naive reading of the spans gives, hot and
//! sealed; and the traps of reading Parquet under DataFusion are not sprung.

use arrow::array::{AsArray, RecordBatch};
use futures::TryStreamExt;
use spanstore::otlp::{Span, Value};
use spanstore::query::Order;
use spanstore::{Error, QueryLimits, Store, Team};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open, open_with, quiet, team};

const SPANS: u64 = 3_000;

fn text(span: &Span, key: &str) -> String {
    let value = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .unwrap();
    match value.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn ids(batches: &[RecordBatch]) -> Vec<u64> {
    let id = |id: &[u8]| u64::from_be_bytes(id.try_into().unwrap()) - 1;
    let column = |batch: &RecordBatch| batch.column_by_name("span_id").unwrap().clone();
    let columns: Vec<_> = batches.iter().map(column).collect();
    let values = columns
        .iter()
        .flat_map(|column| column.as_fixed_size_binary().iter().flatten());
    values.map(id).collect()
}

async fn filtered(team: &Team, filter: &str) -> Vec<u64> {
    let query = team
        .query()
        .filter(filter)
        .unwrap()
        .columns(["span_id"])
        .unwrap();
    let mut found = ids(&query.collect().await.unwrap());
    found.sort_unstable();
    found
}

async fn by_sql(team: &Team, condition: &str) -> Vec<u64> {
    let text = format!("select span_id from spans where {condition}");
    let stream = team.sql(&text).await.unwrap();
    let mut found = ids(&stream.try_collect::<Vec<_>>().await.unwrap());
    found.sort_unstable();
    found
}

/// The store with its rows hot, sealed, and both; by turns.
async fn in_every_state(check: impl AsyncFn(&Store, &Team)) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let half = SPANS / 2 + 3;
    // Other teams' rows lie around.
    for name in ["aaa", "zzz"] {
        store
            .team(&team(name))
            .append(request((0..500).map(span)))
            .unwrap();
    }
    acme.append(request((0..half).map(span))).unwrap();
    store.seal().unwrap();
    acme.append(request((half..SPANS).map(span))).unwrap();
    check(&store, &acme).await;
    store.seal().unwrap();
    check(&store, &acme).await;
}

#[tokio::test]
async fn filters_and_sql_agree_with_a_naive_reading() {
    type Holds = fn(&Span) -> bool;
    let cases: [(&str, Holds); 12] = [
        ("name = 'operation 3'", |span| span.name == "operation 3"),
        ("status_code >= 500", |span| {
            text(span, "http.response.status_code") == "500"
        }),
        ("path like '/api/1%' and method = 'GET'", |span| {
            text(span, "url.path").starts_with("/api/1")
                && text(span, "http.request.method") == "GET"
        }),
        ("attributes['db.system'] = 'postgresql'", |span| {
            text(span, "db.system") == "postgresql"
        }),
        ("attributes['items'] >= 10", |span| {
            text(span, "items").parse::<i64>().unwrap() >= 10
        }),
        (
            "attributes['db.system'] = 'postgresql' and kind in ('server', 'client')",
            |span| text(span, "db.system") == "postgresql" && matches!(span.kind, 2 | 3),
        ),
        (
            "session_id in ('session-3', 'session-20') and duration > 500000",
            |span| {
                let session = text(span, "session.id");
                let duration = span.end_time_unix_nano - span.start_time_unix_nano;
                (session == "session-3" || session == "session-20") && duration > 500_000
            },
        ),
        (
            "session_id = 'session-3' or session_id = 'session-4'",
            |span| matches!(&*text(span, "session.id"), "session-3" | "session-4"),
        ),
        ("parent_span_id is null", |span| {
            span.parent_span_id.is_empty()
        }),
        (
            "not (level = 'info') and resource['service.name'] = 'shop'",
            |span| text(span, "http.response.status_code") == "500",
        ),
        ("attributes['absent'] is not null", |_| false),
        ("session_id = 'absent'", |_| false),
    ];
    in_every_state(async |_, acme| {
        for (condition, holds) in &cases {
            let expected: Vec<u64> = (0..SPANS).filter(|n| holds(&span(*n))).collect();
            assert_eq!(filtered(acme, condition).await, expected, "{condition}");
            assert_eq!(by_sql(acme, condition).await, expected, "SQL: {condition}");
        }
        let trace = spanstore::TraceId(spanstore_test_support::spans::trace_id(7));
        let expected: Vec<u64> = (70..80).collect();
        assert_eq!(
            filtered(acme, &format!("trace_id = '{trace}'")).await,
            expected
        );
        assert_eq!(
            by_sql(acme, &format!("trace_id = '{trace}'")).await,
            expected
        );
    })
    .await;
}

#[tokio::test]
async fn newest_and_oldest_come_in_order_and_end_at_the_limit() {
    in_every_state(async |_, acme| {
        for limit in [1, 7, 100, SPANS as usize, 2 * SPANS as usize] {
            let count = limit.min(SPANS as usize) as u64;
            let newest = ids(&acme.query().limit(limit).collect().await.unwrap());
            assert_eq!(
                newest,
                (SPANS - count..SPANS).rev().collect::<Vec<_>>(),
                "{limit}"
            );
            let oldest = ids(&acme
                .query()
                .order(Order::OldestFirst)
                .limit(limit)
                .collect()
                .await
                .unwrap());
            assert_eq!(oldest, (0..count).collect::<Vec<_>>(), "{limit}");
        }
        assert_eq!(acme.query().limit(0).collect().await.unwrap().len(), 0);
        let start = |n: u64| span(n).start_time_unix_nano.cast_signed();
        let between = acme
            .query()
            .since(start(10))
            .until(start(20))
            .collect()
            .await
            .unwrap();
        assert_eq!(ids(&between), (10..20).rev().collect::<Vec<_>>());
        let errors = acme
            .query()
            .filter("level = 'error'")
            .unwrap()
            .limit(3)
            .collect()
            .await
            .unwrap();
        assert_eq!(ids(&errors), [2_950, 2_900, 2_850]);
    })
    .await;
}

#[tokio::test]
async fn columns_come_as_they_were_asked_for() {
    in_every_state(async |_, acme| {
        let columns = ["duration", "name", "trace_id"];
        let batches = acme
            .query()
            .columns(columns)
            .unwrap()
            .limit(5)
            .collect()
            .await
            .unwrap();
        let schema = batches[0].schema();
        let names: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(names, columns);
        assert!(acme.query().columns([]).is_err());
        let renamed = acme.query().columns(["Level"]).unwrap().collect();
        assert_eq!(renamed.await.unwrap()[0].schema().field(0).name(), "level");
        for (name, expected) in [
            ("lvel", "expected a column, such as level"),
            ("resource_atributes", "such as resource_attributes"),
            (
                "attributes['db.system']",
                "`attributes`, which gives all of them",
            ),
            ("zzzzzzzz", " columns, such as trace_id, "),
        ] {
            let error = acme.query().columns([name]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for hidden in ["team_id", "trace_start", "absent", ""] {
            let error = acme.query().columns([hidden]).unwrap_err();
            assert!(matches!(error, Error::UnknownColumn { .. }), "{error}");
        }
        assert!(
            acme.query().collect().await.unwrap()[0]
                .column_by_name("team_id")
                .is_none()
        );
        assert!(acme.sql("select trace_start from spans").await.is_err());
    })
    .await;
}

/// Pushing conditions into DataFusion's Parquet source can drop one that it
/// cannot turn into a row filter for a file. Nothing of ours may get lost,
/// whichever way a condition is mixed with ones that the indexes answer.
#[tokio::test]
async fn no_condition_gets_lost_beside_one_that_an_index_answers() {
    in_every_state(async |_, acme| {
        for condition in [
            "session_id = 'session-3' and attributes['items'] = 4",
            "session_id = 'session-3' and lower(attributes['db.system']) = 'redis' and attributes['items'] = 4",
            "start_time >= '1970-01-01' and session_id = 'session-3' and attributes['items'] = 4",
        ] {
            let expected: Vec<u64> = (90..120).filter(|n| n % 13 == 4).collect();
            let expected: Vec<u64> = expected
                .into_iter()
                .filter(|n| !condition.contains("redis") || n % 3 != 0)
                .collect();
            assert!(!expected.is_empty());
            assert_eq!(filtered(acme, condition).await, expected, "{condition}");
            assert_eq!(by_sql(acme, condition).await, expected, "SQL: {condition}");
        }
    })
    .await;
}

/// The number of tasks changes nothing about the answer.
#[tokio::test]
async fn a_query_answers_the_same_on_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    let mut answers = Vec::new();
    for threads in [0, 1, 2, 7] {
        let options = spanstore::StoreOptions {
            query_limits: QueryLimits {
                threads,
                ..QueryLimits::default()
            },
            ..quiet()
        };
        let store = open_with(directory.path(), options);
        let acme = store.team(&team("acme"));
        if answers.is_empty() {
            for start in (0..900).step_by(300) {
                let spans = (start..start + 300).map(span);
                acme.append(request(spans)).unwrap();
                store.seal().unwrap();
            }
        }
        let sql = "select name, count(*) n, min(start_time), max(duration) from spans
                   group by name order by name";
        let stream = acme.sql(sql).await.unwrap();
        let batches: Vec<_> = stream.try_collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap();
        answers.push(text.to_string());
    }
    assert!(answers[0].lines().count() > 5, "{}", answers[0]);
    assert!(answers.iter().all(|one| *one == answers[0]));
}
