//! Every query ends at its time limit, whatever it is busy with, and keeps
//! within the memory that it may take.

use std::sync::mpsc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use spanstore::{Error, QueryLimits, Store, StoreOptions, Team};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_with, quiet, team};

const SPANS: u64 = 3_000;

/// A table of 300,000 rows.
const MANY: &str =
    "(select a.* from spans a cross join (select 1 from spans limit 100) as one_hundred)";

/// 27 × 10⁹ rows, of which a join keeps 3,000 at a time in memory.
const ENDLESS: &str = "(spans b cross join (spans c cross join spans d))";

fn limited(limits: QueryLimits) -> StoreOptions {
    StoreOptions {
        query_limits: limits,
        ..quiet()
    }
}

/// Runs a test on a thread and runtime of its own and fails when it does not
/// end: one that blocks the runtime could not be ended from within.
fn ends(test: impl AsyncFnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    match ended.recv_timeout(Duration::from_mins(2)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it goes on for two minutes"),
        _ => thread.join().unwrap(),
    }
}

/// A store with 3,000 spans, most of them sealed.
fn filled(directory: &std::path::Path, limits: QueryLimits) -> (Store, Team) {
    let store = open_with(directory, limited(limits));
    let acme = store.team(&team("acme"));
    acme.append(request((0..SPANS - 100).map(span))).unwrap();
    store.seal().unwrap();
    for start in (SPANS - 100..SPANS).step_by(5) {
        acme.append(request((start..start + 5).map(span))).unwrap();
    }
    (store, acme)
}

async fn sql(team: &Team, text: &str) -> Result<Vec<RecordBatch>, Error> {
    Ok(team.sql(text).await?.try_collect().await?)
}

/// Which limit an endless query meets first depends on the machine.
fn is_limit(error: &Error) -> bool {
    matches!(error, Error::TimedOut { .. } | Error::QueryMemory { .. })
}

/// Runs an endless query: it is ended, and so is its work, without which the
/// only thread would not get to the next query.
fn is_ended(text: String) {
    ends(async move || {
        let directory = tempfile::tempdir().unwrap();
        let limits = QueryLimits {
            time: Duration::from_millis(500),
            threads: 1,
            ..QueryLimits::default()
        };
        let (_store, acme) = filled(directory.path(), limits);
        let error = sql(&acme, &text).await.unwrap_err();
        assert!(is_limit(&error), "{error:?}: {text}");
        for _ in 0..10 {
            if sql(&acme, "select name from spans limit 1").await.is_ok() {
                return;
            }
        }
        panic!("its work goes on: {text}");
    });
}

#[test]
fn recursion_is_ended() {
    let endless = "with recursive r(n) as (select 1 union all select n + 1 from r)";
    is_ended(format!("{endless} select count(*) from r"));
    is_ended(format!("{endless} select n from r where n < 0"));
    is_ended(format!("{endless} select n from r order by n desc limit 3"));
}

#[test]
fn cross_joins_are_ended() {
    is_ended(format!(
        "select count(a.duration + b.duration) from spans a cross join {ENDLESS}"
    ));
}

#[test]
fn joins_without_a_match_are_ended() {
    is_ended(format!(
        "select count(*) from {MANY} a join {MANY} b on a.duration + b.duration < 0"
    ));
}

#[test]
fn joins_by_equal_values_are_ended() {
    is_ended(format!(
        "select count(*) from {MANY} a join {MANY} b on a.level = b.level
         where a.duration + b.duration < 0"
    ));
    is_ended(format!(
        "select count(*) from {MANY} a
         where not exists (select 1 from {MANY} b where a.level = b.level)"
    ));
}

#[test]
fn window_functions_are_ended() {
    is_ended(format!(
        "select max(m) from (select median(duration) over (order by start_time) m from {MANY})"
    ));
    is_ended(format!(
        "select max(m) from
         (select median(duration) over (order by start_time
          rows between unbounded preceding and 1 following) m from {MANY})"
    ));
}

#[test]
fn parallel_aggregations_are_ended() {
    ends(async || {
        let directory = tempfile::tempdir().unwrap();
        let limits = QueryLimits {
            time: Duration::from_millis(500),
            threads: 4,
            ..QueryLimits::default()
        };
        let (_store, acme) = filled(directory.path(), limits);
        let text = format!(
            "select a.name, max(b.duration + c.duration + d.duration)
             from spans a cross join {ENDLESS} group by a.name"
        );
        let error = sql(&acme, &text).await.unwrap_err();
        assert!(is_limit(&error), "{error:?}");
    });
}

/// Also where the indexes answer alone.
#[tokio::test]
async fn filters_counts_and_facets_are_ended() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QueryLimits {
        time: Duration::ZERO,
        ..QueryLimits::default()
    };
    let (store, acme) = filled(directory.path(), limits);
    for _ in 0..2 {
        for filter in [
            "name = 'absent'",
            "level = 'error'",
            "session_id = 'absent'",
        ] {
            let query = || acme.query().filter(filter).unwrap();
            let errors = [
                query().collect().await.unwrap_err(),
                query().spans().await.unwrap_err(),
                query().count().await.unwrap_err(),
                query().facet("level").await.unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, Error::TimedOut { .. }), "{filter}: {error}");
            }
        }
        let error = sql(&acme, "select name from spans").await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        store.seal().unwrap();
    }
}

/// What its reader does between two batches does not count towards a query's
/// limit.
#[test]
fn the_time_of_the_reader_does_not_count() {
    ends(async || {
        let directory = tempfile::tempdir().unwrap();
        let time = Duration::from_secs(2);
        let limits = QueryLimits {
            time,
            threads: 1,
            ..QueryLimits::default()
        };
        let (_store, acme) = filled(directory.path(), limits);
        // One batch for the sealed rows, one for each of twenty appends.
        let mut batches = acme.sql("select span_id from spans").await.unwrap();
        let mut rows = batches.try_next().await.unwrap().unwrap().num_rows();
        std::thread::sleep(time + time / 4);
        while let Some(batch) = batches.try_next().await.unwrap() {
            rows += batch.num_rows();
        }
        assert_eq!(rows as u64, SPANS);
    });
}

#[test]
fn a_dropped_stream_ends_the_work() {
    ends(async || {
        let directory = tempfile::tempdir().unwrap();
        let limits = QueryLimits {
            time: Duration::from_hours(1),
            threads: 1,
            ..QueryLimits::default()
        };
        let (_store, acme) = filled(directory.path(), limits);
        // Busy with one batch for longer than the test may last.
        let endless =
            format!("select count(*) from {MANY} a join {MANY} b on a.duration + b.duration < 0");
        let mut stream = acme.sql(&endless).await.unwrap();
        let soon = tokio::time::timeout(Duration::from_secs(1), stream.try_next());
        assert!(soon.await.is_err());
        drop(stream);
        assert!(sql(&acme, "select name from spans").await.is_ok());
    });
}

#[test]
fn other_tasks_run_while_a_query_works() {
    ends(async || {
        let directory = tempfile::tempdir().unwrap();
        let limits = QueryLimits {
            time: Duration::from_hours(1),
            ..QueryLimits::default()
        };
        let (_store, acme) = filled(directory.path(), limits);
        let neighbour = async {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
        };
        let endless = "select count(a.duration + b.duration)
                       from spans a, spans b, spans c, spans d";
        tokio::select! {
            biased;
            answer = sql(&acme, endless) => panic!("{answer:?}"),
            () = neighbour => {}
        }
    });
}

#[tokio::test]
async fn one_query_keeps_within_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QueryLimits {
        memory_bytes: 64 << 10,
        ..QueryLimits::default()
    };
    let (_store, acme) = filled(directory.path(), limits);
    let errors = [
        sql(&acme, "select * from spans order by name")
            .await
            .unwrap_err(),
        sql(
            &acme,
            "select span_id, count(*) from spans group by span_id",
        )
        .await
        .unwrap_err(),
        acme.query().collect().await.unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(
                error,
                Error::QueryMemory {
                    pool: "QueryLimits::memory_bytes",
                    limit: 65_536
                }
            ),
            "{error:?}"
        );
    }
    // What little needs is answered all the same.
    assert!(
        acme.query()
            .limit(10)
            .columns(["name"])
            .unwrap()
            .collect()
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn all_queries_share_one_pool() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QueryLimits {
        total_memory_bytes: 1_600_000,
        ..QueryLimits::default()
    };
    let (_store, acme) = filled(directory.path(), limits);
    let narrow = || acme.query().columns(["name"]).unwrap();
    // Each of these keeps the rows that it found while it is read.
    let mut open = Vec::new();
    let error = loop {
        open.push(narrow().stream().await.unwrap());
        if let Err(error) = narrow().collect().await {
            break error;
        }
        assert!(open.len() < 100);
    };
    assert!(
        matches!(
            error,
            Error::QueryMemory {
                pool: "QueryLimits::total_memory_bytes",
                limit: 1_600_000
            }
        ),
        "{error:?}"
    );
    assert!(open.len() > 1);
    open.clear();
    // Threads of the store give back what the streams had.
    let mut tries = 0;
    while let Err(error) = narrow().collect().await {
        tries += 1;
        assert!(tries < 1_000, "{error}");
        tokio::task::yield_now().await;
    }
}
