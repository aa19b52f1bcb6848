//! What reads cost, and how they are answered.

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use spanstore::{Meter, QueryStats, Store, Team};
use spanstore_test_support::spans::{integer, request, span, text, trace_id};
use spanstore_test_support::{open, team};

/// 20,000 sealed spans in two segments, and 40 that are not.
fn filled(store: &Store) -> Team {
    let acme = store.team(&team("acme"));
    for numbers in [0..10_000, 10_000..20_000, 20_000..20_040] {
        acme.append(request(numbers.clone().map(span))).unwrap();
        if numbers.end <= 20_000 {
            store.seal().unwrap();
        }
    }
    acme
}

/// What one read of a handle of its own costs.
async fn cost<T>(acme: &Team, read: impl AsyncFnOnce(Team) -> T) -> QueryStats {
    let meter = Meter::default();
    read(acme.metered(&meter)).await;
    meter.stats()
}

#[tokio::test]
async fn a_meter_tells_what_reads_cost() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store);
    let count = async |filter: &str| {
        let ask = async |acme: Team| {
            let query = acme.query().filter(filter).unwrap();
            query.count().await.unwrap();
        };
        cost(&acme, ask).await
    };
    // Indexes tell all of what is sealed; what is not is looked at.
    let by_index = count("level = 'error'").await;
    assert_eq!((by_index.segments, by_index.unsealed), (2, 40));
    assert_eq!((by_index.pages, by_index.rows), (0, 40));
    assert!(by_index.bytes > 0);
    // A column is read, of all rows.
    let by_value = count("sequence >= 0").await;
    assert_eq!((by_value.segments, by_value.rows), (2, 20_040));
    assert!(by_value.pages >= 2 && by_value.bytes > 500, "{by_value:?}");
    assert!(by_value.values > std::time::Duration::ZERO);
    // Durations are read where the bounds of a page lie on both sides alone.
    let by_bounds = count("duration >= 0").await;
    assert_eq!((by_bounds.pages, by_bounds.rows), (0, 0));
    // A look-up reads the rows of one trace.
    let look_up = cost(&acme, async |acme| {
        let spans = acme.trace(spanstore::TraceId(trace_id(3))).unwrap();
        assert!(!spans.is_empty());
        spans.len()
    })
    .await;
    assert!((1..100).contains(&look_up.rows), "{look_up:?}");
    // So does SQL, and another handle of the team counts nothing.
    let meter = Meter::default();
    let metered = acme.metered(&meter);
    let stream = acme.sql("select name from spans where duration >= 0");
    let rows: Vec<_> = stream.await.unwrap().try_collect().await.unwrap();
    assert_eq!(meter.stats(), QueryStats::default());
    assert_eq!(
        rows.iter().map(RecordBatch::num_rows).sum::<usize>(),
        20_040
    );
    for times in 1..3 {
        let stream = metered.sql("select name from spans where duration >= 0");
        stream.await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let stats = meter.stats();
        assert_eq!((stats.segments, stats.rows), (2 * times, 20_040 * times));
    }
    // A read that fails has cost something too.
    let failed = cost(&acme, async |acme| {
        let stream = acme
            .sql("select 1 / (duration - duration) from spans")
            .await;
        stream.unwrap().try_collect::<Vec<_>>().await.unwrap_err()
    })
    .await;
    assert!(failed.rows > 0);
    let text = by_value.to_string();
    assert!(
        text.starts_with("2 segments and 40 unsealed spans looked at; "),
        "{text}"
    );
}

/// Values of one type and of another under one key are for the team alone that has both.
#[tokio::test]
async fn mistyped_values_cost_their_own_team_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let append = |name: &str, mistyped: u64| {
        let spans = (0..10_000).map(|n| {
            let mut span = span(n);
            let number = if n % 100 < mistyped {
                text("number", "many")
            } else {
                integer("number", (n % 100).cast_signed())
            };
            span.attributes.push(number);
            span
        });
        let team = store.team(&team(name));
        team.append(request(spans)).unwrap();
        team
    };
    let (clean, mixed) = (append("clean", 0), append("mixed", 1));
    store.seal().unwrap();
    assert_eq!(store.segments().len(), 1);
    for (team, way) in [(clean, "different values"), (mixed, "values")] {
        let query = team.query().filter("attributes['number'] = 7").unwrap();
        let text = query.clone().explain().await.unwrap();
        assert!(text.trim_end().ends_with(&format!(": {way}")), "{text}");
        assert_eq!(query.count().await.unwrap(), 100);
    }
}

#[tokio::test]
async fn an_explanation_tells_what_indexes_answer() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store);
    let filter = "level = 'error' and not (name like '%a%' or attributes['it''s'] > 5)";
    let query = acme.query().filter(filter).unwrap();
    let text = query.clone().explain().await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "unsealed: 40 spans, batches: 1, by values or codes"
    );
    let segments = lines.iter().filter(|line| line.starts_with("segment "));
    assert_eq!(segments.count(), 2, "{text}");
    let of_first = &lines[1..lines.len().div_ceil(2)];
    assert!(of_first[0].contains(": 10000 spans, "), "{text}");
    let way = |part: &str| {
        let line = of_first.iter().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("{part} in {text}"))
            .rsplit(": ")
            .next()
            .unwrap()
    };
    assert_eq!(way("level = error"), "index");
    assert_eq!(way("number(attributes['it''s']) > 5"), "values");
    assert!(of_first.iter().any(|line| line.trim() == "not"), "{text}");
    // All segments begin before that.
    let none = query.until(0).explain().await.unwrap();
    assert_eq!(none, "unsealed: 0 spans, batches: 0, by values or codes\n");
    let sql = acme.explain_sql("select route, count(*) from spans group by route");
    assert!(sql.await.unwrap().contains("Groups: keys=1, measures=1"));
    let sql = acme.explain_sql("select name from spans order by start_time limit 3");
    assert!(sql.await.unwrap().contains("FirstRows: "));
    let sql = acme.explain_sql("select distinct on (name) name, path from spans");
    assert!(sql.await.unwrap().contains("ScanExec: "));
    acme.explain_sql("drop table spans").await.unwrap_err();
}
