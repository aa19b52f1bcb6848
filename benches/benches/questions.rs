//! The questions of a dashboard over unsealed spans, one segment and eight. Each answer is
//! compared with one that is worked out span by span before its time is taken.
//!
//! `cargo bench -p spanstore-benches --bench questions -- [part of a name]`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spanstore::query::{Aggregate, AttributeKeys};
use spanstore::{
    NewSession, SpanBatchBuilder, SpanBuilder, SpanId, SpanRow, Store, StoreOptions, TeamId,
    TraceId, TraceStatus,
};
use spanstore_benches::questions::QUESTIONS;
use spanstore_benches::{append, bodies, by_hand, machine, newest_first, open, team};

const SPANS: u64 = 200_000;

fn questions(criterion: &mut Criterion) {
    let directory = machine::directory();
    machine::print(directory.path());
    let bodies = bodies(SPANS, 500);
    let mut stores = Vec::new();
    for (state, seals) in [("unsealed", 0), ("one segment", 1), ("eight segments", 8)] {
        let store = open(&directory.path().join(state), by_hand());
        for part in bodies.chunks(bodies.len().div_ceil(seals.max(1))) {
            assert_eq!(append(&store.team(&team()), part).1, 0);
            if seals > 0 {
                store.seal().unwrap();
            }
        }
        if seals == 0 {
            // As the thread beside the writer does.
            store.maintain().unwrap();
        }
        assert_eq!(store.segments().len(), seals);
        stores.push((state, store));
    }
    let (_, unsealed) = &stores[0];
    let rows = newest_first(&unsealed.team(&team()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for question in QUESTIONS {
        let expected = question.expected(&rows);
        let mut group = criterion.benchmark_group(question.name);
        group.sample_size(20);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_secs(1));
        for (state, store) in &stores {
            let team = store.team(&team());
            question.check(&runtime, &team, &expected);
            let mut constants = expected.iter().map(|(constants, _)| constants).cycle();
            group.bench_function(*state, |bencher| {
                bencher
                    .iter(|| black_box(question.ask(&runtime, &team, constants.next().unwrap())));
            });
        }
        group.finish();
    }
}

/// What it is worth that codes are kept: the most frequent paths of a store that was opened for
/// the question, and of one that was asked before. The dictionary is read before the time is
/// taken.
fn kept_codes(criterion: &mut Criterion) {
    let directory = machine::directory();
    let path = directory.path();
    let store = open(path, by_hand());
    assert_eq!(append(&store.team(&team()), &bodies(SPANS, 500)).1, 0);
    store.seal().unwrap();
    store.close().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ask = |store: &Store| {
        let top = store.team(&team()).query().top("path", 10);
        runtime.block_on(top).unwrap()
    };
    let open_again = || {
        let store = open(path, by_hand());
        let paths = [Aggregate::Distinct("path")];
        let paths = store.team(&team()).query().aggregate([""; 0], paths);
        assert_eq!(runtime.block_on(paths).unwrap().num_rows(), 1);
        store
    };
    let expected = ask(&open_again());
    let mut group = criterion.benchmark_group("top paths");
    group.sample_size(20);
    group.bench_function("codes are read", |bencher| {
        let ask = |store| (ask(&store), store);
        bencher.iter_batched(open_again, ask, BatchSize::PerIteration);
    });
    let store = open_again();
    assert_eq!(ask(&store), expected);
    group.bench_function("codes are kept", |bencher| {
        bencher.iter(|| black_box(ask(&store)));
    });
    group.finish();
    assert_eq!(ask(&store), expected);
}

/// The newest 50 sessions, alone and with the number of all, and those of one user: of a million
/// spans and a thousand sessions that were started.
fn sessions(criterion: &mut Criterion) {
    const STARTED: u64 = 1_000;
    let directory = machine::directory();
    let bodies = bodies(1_000_000, 500);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("sessions of a million spans");
    group.sample_size(20);
    for (state, seals) in [("one segment", 1), ("eight segments", 8)] {
        let store = open(&directory.path().join(state), by_hand());
        let team = store.team(&team());
        for number in 0..STARTED {
            let new = NewSession {
                user: format!("user {}", number % 100),
                environment: "preview".into(),
                ..NewSession::default()
            };
            team.start_session(new).unwrap();
        }
        for part in bodies.chunks(bodies.len().div_ceil(seals)) {
            assert_eq!(append(&team, part).1, 0);
            store.seal().unwrap();
        }
        let rows = newest_first(&team);
        let named: HashSet<&String> = rows
            .iter()
            .filter_map(|row| row.session_id.as_ref())
            .collect();
        let all = named.len() as u64 + STARTED;
        let page = |filter: &str| {
            let query = team.sessions().filter(filter).unwrap().limit(50);
            runtime.block_on(query.page_with_total(None)).unwrap()
        };
        group.bench_function(format!("newest 50, {state}"), |bencher| {
            bencher.iter(|| {
                let page = runtime.block_on(team.sessions().limit(50).page(None));
                assert_eq!(page.unwrap().rows.num_rows(), 50);
            });
        });
        for (name, filter, total) in [
            ("newest 50 and the number of all", "true", all),
            ("newest 50 of a user", "user_id = 'user 7'", STARTED / 100),
        ] {
            group.bench_function(format!("{name}, {state}"), |bencher| {
                bencher.iter(|| assert_eq!(page(filter).total, Some(total)));
            });
        }
    }
    group.finish();
}

/// What a search bar offers of a million spans while somebody types: values and keys that begin
/// with some letters, of all spans and of some.
fn suggestions(criterion: &mut Criterion) {
    let directory = machine::directory();
    let bodies = bodies(1_000_000, 500);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("suggestions of a million spans");
    group.sample_size(20);
    for (state, seals) in [("one segment", 1), ("eight segments", 8)] {
        let store = open(&directory.path().join(state), by_hand());
        let team = store.team(&team());
        for part in bodies.chunks(bodies.len().div_ceil(seals)) {
            assert_eq!(append(&team, part).1, 0);
            store.seal().unwrap();
        }
        let rows = newest_first(&team);
        for (filter, is_found) in [("true", false), ("level = 'error'", true)] {
            let query = || team.query().filter(filter).unwrap();
            for (what, name, prefix) in [
                ("a facet", "route", "/api"),
                ("an attribute with a facet", "attributes['db.system']", "p"),
                (
                    "an attribute of a facet's column",
                    "attributes['http.route']",
                    "/api",
                ),
                ("an attribute of resources", "resource['service.name']", ""),
                ("a column without a facet", "path", "/api/"),
                (
                    "an attribute without a facet",
                    "attributes['db.query.text']",
                    "sel",
                ),
            ] {
                let ask = || {
                    let values = query().suggest_values(name, prefix, 10);
                    runtime.block_on(values).unwrap()
                };
                for one in ask().values {
                    let value = one.value.replace('\'', "''");
                    let with = query().filter(&format!("{name} = '{value}'")).unwrap();
                    assert_eq!(runtime.block_on(with.count()).unwrap(), one.rows);
                }
                group.bench_function(format!("{what} where {filter}, {state}"), |bencher| {
                    bencher.iter(|| black_box(ask()));
                });
            }
            for (what, decoded) in [
                ("keys", AttributeKeys::DECODED_SPANS),
                ("keys, all exact", u64::MAX),
            ] {
                let ask = || {
                    let keys = query().attribute_keys("d", 20, decoded);
                    runtime.block_on(keys).unwrap()
                };
                let found = ask();
                let key = found
                    .keys
                    .iter()
                    .find(|one| one.key == "db.system")
                    .unwrap();
                let is_error = |row: &&SpanRow| !is_found || row.level == "error";
                let has = |row: &&SpanRow| {
                    let mut attributes = row.otlp.attributes.iter();
                    attributes.any(|one| one.key == "db.system")
                };
                let expected = rows.iter().filter(is_error).filter(has).count();
                assert_eq!(key.spans, expected as u64);
                group.bench_function(format!("{what} where {filter}, {state}"), |bencher| {
                    bencher.iter(|| black_box(ask()));
                });
            }
        }
    }
    group.finish();
}

/// How long after its quiet time a trace is told to be ready.
fn waits(criterion: &mut Criterion) {
    const QUIET: Duration = Duration::from_millis(20);
    let directory = machine::directory();
    let options = StoreOptions {
        trace_quiet_time: QUIET,
        ..by_hand()
    };
    // By the clock of the machine.
    let store = Store::open(directory.path(), options).unwrap();
    let team = store.team(&team());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut number = 0u128;
    let mut group = criterion.benchmark_group("wait for a trace");
    group.sample_size(20);
    group.bench_function("beyond its quiet time", |bencher| {
        bencher.iter_custom(|times| {
            let mut beyond = Duration::ZERO;
            for _ in 0..times {
                number += 1;
                let trace = TraceId(number.to_be_bytes());
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                let now = now.as_nanos() as u64;
                let root = SpanBuilder::new(trace, SpanId([1; 8]), "root").times(now, now + 1);
                team.append(SpanBatchBuilder::new().span(root).build())
                    .unwrap();
                let began = Instant::now();
                let wait = team.wait_for_trace(trace, Duration::from_mins(1));
                assert_eq!(runtime.block_on(wait).unwrap(), TraceStatus::Ready);
                beyond += began.elapsed().saturating_sub(QUIET);
            }
            beyond
        });
    });
    group.finish();
}

/// What 1,000 tails cost appends: nobody reads them, each is of a team that nothing comes of, and
/// each is of a team that appends.
fn tails(criterion: &mut Criterion) {
    const TEAMS: usize = 1_000;
    const BATCH: usize = 100;
    let bodies = bodies((TEAMS * BATCH) as u64, BATCH);
    let name = |of: &str, number: usize| TeamId::new(&format!("{of}-{number}")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mut group =
        criterion.benchmark_group("append to 1,000 teams, durable, a batch of 100 each");
    group.sample_size(10);
    group.throughput(Throughput::Elements((TEAMS * BATCH) as u64));
    for (state, tailed, is_read) in [
        ("without tails", None, false),
        ("with tails that nobody reads", Some("busy"), false),
        ("with tails of idle teams", Some("idle"), true),
        ("with tails of all teams", Some("busy"), true),
    ] {
        let begin = || {
            let directory = machine::directory();
            let store = open(directory.path(), StoreOptions::default());
            let mut tails = Vec::new();
            for number in 0..tailed.map_or(0, |_| TEAMS) {
                let team = store.team(&name(tailed.unwrap_or_default(), number));
                tails.push(team.query().tail().unwrap());
            }
            let mut readers = Vec::new();
            if is_read {
                for mut tail in tails.drain(..) {
                    readers.push(runtime.spawn(async move { while tail.next().await.is_ok() {} }));
                }
            }
            (directory, store, tails, readers)
        };
        group.bench_function(state, |bencher| {
            bencher.iter_batched(
                begin,
                |(directory, store, tails, readers)| {
                    for (number, body) in bodies.iter().enumerate() {
                        let team = store.team(&name("busy", number));
                        assert_eq!(append(&team, [body]), (BATCH as u64, 0));
                    }
                    (directory, store, tails, readers)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    questions,
    kept_codes,
    sessions,
    suggestions,
    waits,
    tails
);
criterion_main!(benches);
