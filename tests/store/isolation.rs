//! Two teams with equal ids never see each other's rows, whatever is asked.

use futures::TryStreamExt;
use spanstore::{Error, Store, Team, TraceId};
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{open, team};

/// Teams with the same spans, told apart by an attribute.
fn store_of_two(directory: &std::path::Path) -> Store {
    let store = open(directory);
    for name in ["mine", "theirs"] {
        let spans = (0..40).map(|n| {
            let mut span = span(n);
            span.attributes.push(text("owner", name));
            span
        });
        store.team(&team(name)).append(request(spans)).unwrap();
    }
    store
}

fn all_mine(rows: &spanstore::Spans) -> bool {
    rows.rows()
        .unwrap()
        .iter()
        .all(|row| row.otlp.attributes.contains(&text("owner", "mine")))
}

#[test]
fn look_ups_give_the_own_rows_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of_two(directory.path());
    for _ in 0..2 {
        let mine = store.team(&team("mine"));
        let trace = mine.trace(TraceId(trace_id(1))).unwrap();
        assert!(trace.len() == 10 && all_mine(&trace));
        let session = mine.session_spans("session-0").unwrap();
        assert!(session.len() == 30 && all_mine(&session));
        for chunk in mine.export().unwrap() {
            assert!(all_mine(&chunk.unwrap()));
        }
        store.seal().unwrap();
    }
}

async fn filtered(team: &Team, filter: &str) -> Result<usize, Error> {
    let batches = team.query().filter(filter)?.collect().await?;
    Ok(batches
        .iter()
        .map(arrow::array::RecordBatch::num_rows)
        .sum())
}

async fn sql(team: &Team, text: &str) -> Result<Vec<arrow::array::RecordBatch>, Error> {
    Ok(team.sql(text).await?.try_collect().await?)
}

#[tokio::test]
async fn filters_cannot_reach_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of_two(directory.path());
    let mine = store.team(&team("mine"));
    for _ in 0..2 {
        assert_eq!(filtered(&mine, "true").await.unwrap(), 40);
        assert_eq!(
            filtered(&mine, "attributes['owner'] = 'mine'")
                .await
                .unwrap(),
            40
        );
        assert_eq!(
            filtered(&mine, "attributes['owner'] = 'theirs'")
                .await
                .unwrap(),
            0
        );
        for hostile in [
            "1=1 or team_id='theirs'",
            "team_id = 'theirs'",
            "\"team_id\" is not null",
            "name in (select name from spans)",
            "exists (select 1)",
            "true; drop table spans",
            "true -- comment",
            "true /* comment */",
            "read_parquet('/etc/passwd') is null",
            "version() = ''",
            "now() > start_time",
            "random() < 1",
            "$1 = name",
            "name = repeat('a', 2000000000)",
        ] {
            let error = filtered(&mine, hostile).await.unwrap_err();
            assert!(
                matches!(error, Error::InvalidFilter(_)),
                "{hostile}: {error}"
            );
        }
        store.seal().unwrap();
    }
}

#[tokio::test]
async fn sql_cannot_reach_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_of_two(directory.path());
    let mine = store.team(&team("mine"));
    let file = directory.path().join("catalog.redb").display().to_string();
    for hostile in [
        "select team_id from spans".to_owned(),
        "select * from theirs".into(),
        "select * from information_schema.tables".into(),
        format!("select * from '{file}'"),
        format!("select * from read_parquet('{file}')"),
        format!("copy (select 1) to '{file}'"),
        format!("create external table t stored as parquet location '{file}'"),
        "create table t as select * from spans".into(),
        "create view v as select 1".into(),
        "drop table spans".into(),
        "insert into spans select * from spans".into(),
        "delete from spans".into(),
        "set datafusion.catalog.information_schema = true".into(),
        "explain analyze select * from spans".into(),
        "prepare p as select 1".into(),
        "select 1; select 2".into(),
        "show tables".into(),
        "select * from generate_series(1, 1000000000)".into(),
        "select repeat('a', 2000000000)".into(),
    ] {
        let answer = sql(&mine, &hostile).await;
        assert!(
            matches!(answer, Err(Error::Query(_))),
            "{hostile}: {answer:?}"
        );
    }
    let long = format!("select '{}'", "x".repeat(20_000));
    assert!(matches!(
        sql(&mine, &long).await,
        Err(Error::TooLarge { .. })
    ));
    let count =
        "select count(*), count(distinct attributes['owner']), min(attributes['owner']) from spans";
    for _ in 0..2 {
        let batch = &sql(&mine, count).await.unwrap()[0];
        let cell = |place: usize| {
            arrow::util::display::array_value_to_string(batch.column(place), 0).unwrap()
        };
        assert_eq!(
            (cell(0), cell(1), cell(2)),
            ("40".into(), "1".into(), "mine".into())
        );
        store.seal().unwrap();
    }
}

/// Each team takes about half of a row group, so that the first question keeps codes of rows
/// of both.
#[tokio::test]
async fn codes_that_are_kept_for_one_team_are_not_another_ones_rows() {
    const TEAMS: [(&str, u64); 3] = [("aaa", 6_000), ("bbb", 9_000), ("ccc", 7_000)];
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for (name, spans) in TEAMS {
        let spans = (0..spans).map(|n| {
            let mut span = span(n);
            let owner = format!("{name} {}", n * n % 5);
            span.attributes.push(text("owner", &owner));
            span
        });
        store.team(&team(name)).append(request(spans)).unwrap();
    }
    store.seal().unwrap();
    for erased in [false, true] {
        for _ in 0..2 {
            for (name, spans) in TEAMS {
                let acme = store.team(&team(name));
                let is_there = |n: &u64| !(erased && name == "bbb" && n / 10 == 7);
                for value in ["kind", "attributes['owner']"] {
                    let mut expected = std::collections::HashMap::new();
                    for n in (0..spans).filter(is_there) {
                        let value = match value {
                            "kind" => (n % 6).to_string(),
                            _ => format!("{name} {}", n * n % 5),
                        };
                        *expected.entry(value).or_insert(0) += 1;
                    }
                    let found = acme.query().top(value, 10).await.unwrap();
                    let mut found: Vec<u64> = found.into_iter().map(|one| one.spans).collect();
                    let mut expected: Vec<u64> = expected.into_values().collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(found, expected, "{value} of {name}");
                }
                for of in 0..5 {
                    let owner = format!("attributes['owner'] = '{name} {of}'");
                    let expected = (0..spans).filter(is_there).filter(|n| n * n % 5 == of);
                    let found = filtered(&acme, &owner).await.unwrap();
                    assert_eq!(found, expected.count(), "{owner}");
                }
                let others = TEAMS.iter().filter(|(other, _)| *other != name);
                for (other, _) in others {
                    let owner = format!("attributes['owner'] = '{other} 1'");
                    assert_eq!(filtered(&acme, &owner).await.unwrap(), 0, "{owner}");
                }
            }
        }
        store
            .team(&team("bbb"))
            .forget_many([spanstore::Erased::Trace(TraceId(trace_id(7)))])
            .unwrap();
        store.erase().unwrap();
    }
}
