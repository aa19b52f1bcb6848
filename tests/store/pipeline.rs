//! Counts, facets, groups and rows in order are what a naive look at every span gives: over
//! several row groups, segments and rows in memory, beside small teams, with traces that
//! were forgotten, a horizon of retention, equal starts and values of mixed types.

mod conditions;
mod groups;
mod spans;

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use futures::TryStreamExt;
use spanstore::query::{Order, Query};
use spanstore::{Erased, Store, StoreOptions, Team, TraceId};
use spanstore_test_support::spans::trace_id;
use spanstore_test_support::{NOW, open_with, quiet, team};

use self::conditions::{Filter, filters};
use self::groups::Naive;
use self::spans::{FIRST, MILLI, Row, SHARED, append, row};

const FACETS: [&str; 8] = [
    "method",
    "status_code",
    "host",
    "region",
    "route",
    "kind",
    "service",
    "name",
];
const COLUMNS: [&str; 4] = ["path", "span_id", "status_code", "start_time"];

/// Path, id, status code and start of a row.
type Found = (Option<String>, u64, Option<i64>, i64);

async fn found(query: Query) -> Vec<Found> {
    rows_of(&query.collect().await.unwrap())
}

fn rows_of(batches: &[RecordBatch]) -> Vec<Found> {
    let mut all = Vec::new();
    for batch in batches {
        let paths = batch.column(0).as_string_view();
        let ids = batch.column(1).as_fixed_size_binary();
        let codes = batch.column(2).as_primitive::<Int32Type>();
        let starts = batch.column(3).as_primitive::<TimestampNanosecondType>();
        for row in 0..batch.num_rows() {
            let path = paths.is_valid(row).then(|| paths.value(row).to_owned());
            let id = u64::from_be_bytes(ids.value(row).try_into().unwrap());
            let code = codes.is_valid(row).then(|| codes.value(row).into());
            all.push((path, id, code, starts.value(row)));
        }
    }
    all
}

/// All rows that were appended, the oldest first, and what is asked of them.
struct Model {
    rows: Vec<Row>,
    found: Vec<Found>,
    facets: Vec<Vec<Option<String>>>,
    filters: Vec<Filter>,
    naive: Naive,
}

impl Model {
    fn new(rows: Vec<Row>) -> Self {
        let found = |row: &Row| (row.column("path"), row.id(), row.code(), row.start());
        let facet = |column: &&str| rows.iter().map(|row| row.column(column)).collect();
        Self {
            found: rows.iter().map(found).collect(),
            facets: FACETS.iter().map(facet).collect(),
            filters: filters(&rows),
            naive: Naive::new(&rows),
            rows,
        }
    }

    /// The values of a facet in some rows, the most frequent first.
    fn facet(&self, number: usize, rows: &[usize]) -> Vec<(Option<String>, u64)> {
        let mut counts: HashMap<&Option<String>, u64> = HashMap::new();
        for row in rows {
            *counts.entry(&self.facets[number][*row]).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(value, spans)| (u64::MAX - spans, value.is_none(), *value));
        let owned = |(value, spans): (&Option<String>, u64)| (value.clone(), spans);
        counts.into_iter().map(owned).collect()
    }

    /// Asks a team one filter in `step`, when some of the rows are to be seen.
    async fn check(&self, acme: &Team, is_seen: impl Fn(&Row) -> bool, step: usize) {
        let is_seen: Vec<bool> = self.rows.iter().map(is_seen).collect();
        for (turn, filter) in self.filters.iter().skip(step / 2).step_by(step).enumerate() {
            let Filter { text, truth } = filter;
            let holds = |row: &usize| truth[*row] == Some(true) && is_seen[*row];
            let mut rows: Vec<usize> = (0..self.rows.len()).filter(holds).collect();
            let mut query = acme.query().filter(text).unwrap().columns(COLUMNS).unwrap();
            let count = query.clone().count().await.unwrap();
            assert_eq!(count, rows.len() as u64, "{text}");
            if turn % 4 == 1 {
                let since = FIRST + 3_000 * MILLI + turn as i64;
                let until = SHARED + turn as i64 / 4 % 2;
                query = query.since(since).until(until);
                rows.retain(|row| (since..until).contains(&self.rows[*row].start()));
            }
            if turn % 14 == 1 {
                self.naive
                    .check(query.clone(), &rows, turn / 14, text)
                    .await;
            }
            let limit = [1, 7, 50, 300, 7, 1, usize::MAX][turn % 23 % 7].min(rows.len() + 1);
            match turn % 3 {
                0 => {
                    let asked = [turn % 8, (turn + 3) % 8, turn % 8];
                    let names = asked.map(|number| FACETS[number]);
                    let facets = query.facets(names).await.unwrap();
                    for (number, found) in asked.into_iter().zip(facets) {
                        let found = found.into_iter().map(|one| (one.value, one.spans));
                        let is_equal = found.eq(self.facet(number, &rows));
                        assert!(is_equal, "{} of {text}", FACETS[number]);
                    }
                    continue;
                }
                1 if turn % 2 == 0 => {
                    rows.sort_by_key(|row| self.rows[*row].duration());
                    rows.reverse();
                    query = query.order(Order::SlowestFirst);
                }
                1 => rows.reverse(),
                _ if turn % 2 == 0 => {
                    rows.sort_by_key(|row| self.rows[*row].duration());
                    query = query.order(Order::FastestFirst);
                }
                _ => query = query.order(Order::OldestFirst),
            }
            let expected = rows.iter().take(limit).map(|row| &self.found[*row]);
            let is_equal = found(query.limit(limit)).await.iter().eq(expected);
            assert!(is_equal, "the first {limit} of {text}");
        }
    }
}

impl Model {
    /// Asks by SQL for the first rows in an order, of which equal durations are many.
    async fn check_first(&self, acme: &Team, condition: &str, mut rows: Vec<usize>) {
        let turn = rows.len();
        let limit = [1, 9, 300][turn % 3];
        let (direction, is_descending) = [("desc", true), ("asc", false)][turn / 3 % 2];
        let mut order = vec!["start_time", "trace_id", "span_id"];
        match turn % 5 {
            0 => {}
            1 => {
                // The second key is no column.
                order[0] = "start_time + interval '0 seconds'";
                order.insert(0, "duration");
                rows.sort_by_key(|row| self.rows[*row].duration());
            }
            _ => {
                order.insert(0, "duration");
                rows.sort_by_key(|row| self.rows[*row].duration());
            }
        }
        if is_descending {
            rows.reverse();
        }
        let order = order.join(&format!(" {direction}, "));
        let text = format!(
            "select path, span_id, status_code, start_time from spans where {condition} \
             order by {order} {direction} limit {limit}"
        );
        let found: Vec<RecordBatch> = acme.sql(&text).await.unwrap().try_collect().await.unwrap();
        let expected = rows.iter().take(limit).map(|row| &self.found[*row]);
        assert!(rows_of(&found).iter().eq(expected), "{text}");
    }
}

async fn by_sql(team: &Team, condition: &str) -> i64 {
    let text = format!("select count(*) from spans where {condition}");
    let batches: Vec<RecordBatch> = team.sql(&text).await.unwrap().try_collect().await.unwrap();
    let counts = batches[0].column(0);
    counts
        .as_primitive::<arrow::datatypes::Int64Type>()
        .value(0)
}

/// Appends rows and seals them, with small teams beside that have some of them too.
fn seal(store: &Store, rows: &[Row]) {
    append(&store.team(&team("mmm")), rows);
    append(&store.team(&team("aaa")), &rows[..700]);
    append(&store.team(&team("nnn")), &rows[..900]);
    store.seal().unwrap();
}

#[tokio::test]
async fn every_answer_is_that_of_a_naive_look_at_every_span() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        gather_rows: 1_000,
        ..quiet()
    };
    let store = open_with(directory.path(), options);
    let acme = store.team(&team("mmm"));
    let of = |is_in: fn(u64) -> bool| -> Vec<Row> {
        let numbers = (0..84_000).filter(|n| is_in(n / 10));
        numbers.map(|n| row(n, n / 10)).collect()
    };
    // The segments lie over each other in time, but for one.
    let mut parts = vec![
        of(|trace| trace % 40 < 32),
        of(|trace| (32..37).contains(&(trace % 40))),
        of(|trace| trace % 40 == 37),
        (100_000..101_000)
            .map(|n| row(n, 20_000 + n % 100))
            .collect(),
    ];
    for rows in &parts {
        seal(&store, rows);
    }
    let traces = (0..21_000).filter(|trace| trace % 97 == 5);
    acme.forget_many(traces.map(|trace| Erased::Trace(TraceId(trace_id(trace)))))
        .unwrap();
    let sessions = (0..8_000).filter(|session| session % 50 == 33);
    acme.forget_many(sessions.map(|n| Erased::Session(format!("session-{n}"))))
        .unwrap();
    for rows in &mut parts {
        let is_forgotten = |row: &Row| {
            row.trace % 97 == 5 || !row.trace.is_multiple_of(5) && row.trace / 3 % 50 == 33
        };
        rows.retain(|row| !is_forgotten(row));
    }
    // These are hot, and some of traces that were forgotten before. Most come in small
    // appends that are put together.
    parts.push(of(|trace| trace % 40 > 37));
    parts[4].extend((200_000..200_500).map(|n| row(n, [5, 99, 4_100][n as usize % 3])));
    let (gathered, loose) = parts[4].split_at(3_900);
    for rows in gathered.chunks(13) {
        append(&acme, rows);
    }
    store.maintain().unwrap();
    for rows in loose.chunks(40) {
        append(&acme, rows);
    }
    let mut rows: Vec<Row> = parts.into_iter().flatten().collect();
    rows.sort_by_cached_key(|row| (row.start(), row.span.trace_id.clone(), row.id()));
    let model = Model::new(rows);
    model.check(&acme, |_| true, 1).await;
    // SQL says the same by a text without times, ids and attributes.
    for Filter { text, truth } in model.filters.iter().step_by(16) {
        let others = [
            "[", "has(", "start_", "duration", "span_id", "trace_id", "'2xx'", "cold",
        ];
        if !others.iter().any(|other| text.contains(other)) {
            let expected = truth.iter().filter(|truth| **truth == Some(true)).count();
            assert_eq!(by_sql(&acme, text).await, expected as i64, "{text}");
            let rows = (0..truth.len()).filter(|row| truth[*row] == Some(true));
            let rows: Vec<usize> = rows.collect();
            model.naive.check_sql(&acme, text, &rows, rows.len()).await;
            model.check_first(&acme, text, rows).await;
        }
    }
    // A horizon hides what starts before it.
    let horizon = FIRST + 7_340 * MILLI;
    let kept = Duration::from_nanos((NOW - horizon).cast_unsigned());
    acme.set_retention(Some(kept)).unwrap();
    model.check(&acme, |row| row.start() >= horizon, 11).await;
    acme.set_retention(None).unwrap();
    store.seal().unwrap();
    store.compact().unwrap();
    model.check(&acme, |_| true, 11).await;
    // Other teams have what they appended.
    let small = store.team(&team("aaa"));
    assert_eq!(small.query().count().await.unwrap(), 2_800);
    let of_small = "method = 'GET' or not (method = 'GET') or method is null";
    assert_eq!(
        small
            .query()
            .filter(of_small)
            .unwrap()
            .count()
            .await
            .unwrap(),
        2_800
    );
}
