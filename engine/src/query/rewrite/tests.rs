//! Which SQL texts the read path answers by itself.

use std::sync::Arc;

use super::rewritten;
use crate::query::engine::context;
use crate::query::filter::Rows;
use crate::query::job::Job;
use crate::query::table::RowTable;
use crate::{Store, StoreOptions, TeamId};

/// The plan that answers an SQL text, a node a line.
async fn plan(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    let team = store.team(&TeamId::new("acme").unwrap());
    let engine = &team.parts.queries;
    let execution = engine.begin(crate::Meter::default()).unwrap();
    let job = Job::new(&team, team.snapshot_of_all(), &execution);
    let table = RowTable::new(Rows::Spans, &job).unwrap();
    let context = context(engine.state(), execution.memory.clone()).unwrap();
    context.register_table("spans", Arc::new(table)).unwrap();
    let optimized = context.sql(text).await.unwrap().into_optimized_plan();
    let rewritten = rewritten(optimized.unwrap(), &job, engine.state()).unwrap();
    rewritten.display_indent().to_string()
}

#[tokio::test]
async fn aggregates_over_the_table_become_groups() {
    for text in [
        "select count(*) from spans",
        "select count(*) from spans where level = 'error' and name like '%a%'",
        "select route, count(*), avg(duration) from spans group by route order by 2 limit 5",
        "select distinct level from spans",
        "select attributes['k'], resource['k'], max(start_time) from spans group by 1, 2",
        "select (cast(start_time as bigint) - 5) / 60 as b, count(*) from spans group by b",
        "select percentile_cont(duration, 0.99) from spans where route = '/'",
        "select percentile_cont(0.5) within group (order by duration) from spans group by name",
        "select count(distinct session_id), count(session_id), sum(status_code) from spans",
        "select r, sum(d) from (select upper(route) as r, duration as d from spans where \
         duration > 5) as s where r like 'A%' group by r having sum(d) > 3",
        "select route, cast(start_time as bigint) / 70 * 70, count(*), avg(duration), \
         count(distinct path), sum(duration), percentile_cont(duration, 0.9), count(route) \
         from spans where (path = '/p/777') is not true group by 1, 2",
    ] {
        let plan = plan(text).await;
        assert!(plan.contains("Groups"), "{text}\n{plan}");
        assert!(!plan.contains("TableScan"), "{text}\n{plan}");
    }
}

#[tokio::test]
async fn what_is_not_known_stays_with_datafusion() {
    for text in [
        "select route, max(name) from spans group by route",
        "select count(*) filter (where level = 'error') from spans",
        "select approx_distinct(session_id) from spans",
        "select sum(cast(duration as double)) from spans",
        "select cast(duration as double), count(*) from spans group by 1",
        "select route, level, count(*) from spans group by rollup (route, level)",
        "select count(*) from (select name from spans limit 5)",
        "select count(*) from spans as a join spans as b on a.span_id = b.parent_span_id",
        "select random(), count(*) from spans group by 1",
    ] {
        let plan = plan(text).await;
        assert!(
            plan.contains("Aggregate") && !plan.contains("Groups"),
            "{text}\n{plan}"
        );
    }
}

#[tokio::test]
async fn the_first_rows_by_start_or_duration_are_looked_for() {
    for text in [
        "select * from spans order by start_time desc limit 50",
        "select name from spans order by duration desc, start_time desc limit 20",
        "select upper(name) as n, start_time as d from spans where level = 'error' order by d, n \
         limit 5 offset 3",
        "select s from (select start_time as s, route from spans) as t where route = '/' \
         order by s limit 1",
    ] {
        let plan = plan(text).await;
        assert!(plan.contains("FirstRows"), "{text}\n{plan}");
        assert!(!plan.contains("TableScan"), "{text}\n{plan}");
    }
    for text in [
        "select * from spans order by start_time desc",
        "select name from spans order by name limit 3",
        "select name from spans order by duration + 1 limit 3",
        "select name, duration as d from spans order by d, name limit 3",
        "select name from spans order by start_time limit 9999 offset 2",
        "select duration from (select duration from spans limit 5) order by duration limit 3",
        "select route as duration, start_time from spans order by 1 limit 3",
    ] {
        let plan = plan(text).await;
        assert!(!plan.contains("FirstRows"), "{text}\n{plan}");
    }
}
