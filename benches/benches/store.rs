//! Appends, seals, merges, opening and look-ups of the sample application.
//!
//! `cargo bench -p spanstore-benches --no-default-features --bench store`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spanstore::{NewSession, Store, StoreOptions, TeamId, TraceId};
use spanstore_benches::{append, bodies, by_hand, machine, open, rows, team};

const SPANS: u64 = 100_000;
const TEAMS: usize = 1_000;

fn machine(_: &mut Criterion) {
    machine::print(machine::directory().path());
}

/// Each batch is on disk before the next.
fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append, durable");
    group.sample_size(20);
    for batch in [10, 500, 5_000] {
        let spans = 10_000;
        let bodies = bodies(spans, batch);
        group.throughput(Throughput::Elements(spans));
        group.bench_function(format!("batches of {batch}"), |bencher| {
            bencher.iter_batched(
                || {
                    let directory = machine::directory();
                    (open(directory.path(), StoreOptions::default()), directory)
                },
                |(store, directory)| {
                    assert_eq!(append(&store.team(&team()), &bodies), (spans, 0));
                    (store, directory)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A store with so many segments, and spans that are not sealed where that is asked for.
fn filled(bodies: &[Vec<u8>], segments: usize, is_sealed: bool) -> (Store, tempfile::TempDir) {
    let directory = machine::directory();
    let store = open(directory.path(), by_hand());
    for part in bodies.chunks(bodies.len().div_ceil(segments)) {
        assert_eq!(append(&store.team(&team()), part).1, 0);
        if is_sealed {
            store.seal().unwrap();
        }
    }
    (store, directory)
}

fn maintenance(criterion: &mut Criterion) {
    let bodies = bodies(SPANS, 500);
    let mut group = criterion.benchmark_group("maintenance");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SPANS));
    group.bench_function("seal", |bencher| {
        bencher.iter_batched(
            || filled(&bodies, 1, false),
            |(store, directory)| {
                let report = store.seal().unwrap();
                assert_eq!(
                    report.segments.iter().map(|one| one.rows).sum::<u64>(),
                    SPANS
                );
                (store, directory)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("merge of 8 segments", |bencher| {
        bencher.iter_batched(
            || filled(&bodies, 8, true),
            |(store, directory)| {
                assert_eq!(store.compact().unwrap().rows_written, SPANS);
                (store, directory)
            },
            BatchSize::PerIteration,
        );
    });
    for (state, is_sealed) in [("open, sealed", true), ("open, unsealed", false)] {
        let (store, directory) = filled(&bodies, 1, is_sealed);
        drop(store);
        group.bench_function(state, |bencher| {
            bencher.iter(|| black_box(open(directory.path(), by_hand())));
        });
    }
    group.finish();
}

fn look_ups(criterion: &mut Criterion) {
    let bodies = bodies(SPANS, 500);
    for (state, segments, is_sealed) in [
        ("unsealed", 1, false),
        ("one segment", 1, true),
        ("eight segments", 8, true),
    ] {
        let (store, _directory) = filled(&bodies, segments, is_sealed);
        let team = store.team(&team());
        let (mut of_traces, mut of_sessions) = (HashMap::new(), HashMap::new());
        for row in rows(&team) {
            *of_traces.entry(row.trace_id).or_insert(0) += 1;
            if let Some(session) = row.session_id {
                *of_sessions.entry(session).or_insert(0) += 1;
            }
        }
        let mut group = criterion.benchmark_group(format!("look up, {state}"));
        let mut traces = of_traces.iter().cycle();
        group.bench_function("trace", |bencher| {
            bencher.iter(|| {
                let (trace, spans) = traces.next().unwrap();
                assert_eq!(team.trace(*trace).unwrap().len(), *spans);
            });
        });
        let mut absent = 0_u128;
        group.bench_function("absent trace", |bencher| {
            bencher.iter(|| {
                absent = absent.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                assert!(
                    team.trace(TraceId(absent.to_be_bytes()))
                        .unwrap()
                        .is_empty()
                );
            });
        });
        let mut sessions = of_sessions.iter().cycle();
        group.bench_function("session", |bencher| {
            bencher.iter(|| {
                let (session, spans) = sessions.next().unwrap();
                assert_eq!(team.session_spans(session).unwrap().len(), *spans);
            });
        });
        group.finish();
    }
}

/// Sessions of a team that has 20,000, of 2,000 users.
fn sessions(criterion: &mut Criterion) {
    let directory = machine::directory();
    let store = open(directory.path(), StoreOptions::default());
    let team = store.team(&team());
    let by = |user: usize| NewSession {
        user: format!("user {user}"),
        environment: "preview".into(),
        ..NewSession::default()
    };
    for number in 0..20_000 {
        let session = team.start_session(by(number % 2_000)).unwrap();
        if number < 18_000 {
            team.stop_session(&session.id).unwrap();
        }
        if number == 19_000 {
            store.seal().unwrap();
        }
    }
    let mut group = criterion.benchmark_group("sessions");
    group.sample_size(20);
    group.bench_function("start and stop, durable", |bencher| {
        bencher.iter(|| {
            let session = team.start_session(by(0)).unwrap();
            assert!(!team.stop_session(&session.id).unwrap().is_open());
        });
    });
    group.bench_function("active ones of a user", |bencher| {
        bencher.iter(|| assert_eq!(black_box(team.active_sessions("user 7").unwrap()).len(), 1));
    });
    group.finish();
}

/// Ten spans each of many teams.
fn many_teams(criterion: &mut Criterion) {
    let bodies = bodies(TEAMS as u64 * 10, 10);
    let name = |number: usize| TeamId::new(&format!("team-{number:06}")).unwrap();
    let append_all = |store: &Store| {
        for (number, body) in bodies.iter().enumerate() {
            assert_eq!(append(&store.team(&name(number)), [body]), (10, 0));
        }
    };
    let mut group = criterion.benchmark_group("1,000 teams");
    group.sample_size(10);
    group.bench_function("append, durable, a batch of 10 each", |bencher| {
        bencher.iter_batched(
            || {
                let directory = machine::directory();
                (open(directory.path(), StoreOptions::default()), directory)
            },
            |(store, directory)| {
                append_all(&store);
                (store, directory)
            },
            BatchSize::PerIteration,
        );
    });
    let directory = machine::directory();
    let store = open(directory.path(), by_hand());
    append_all(&store);
    store.seal().unwrap();
    let traces = (0..TEAMS).map(|number| {
        let team = store.team(&name(number));
        let trace = rows(&team)[0].trace_id;
        (team, trace)
    });
    let traces: Vec<_> = traces.collect();
    let mut traces = traces.iter().cycle();
    group.bench_function("trace of one of them", |bencher| {
        bencher.iter(|| {
            let (team, trace) = traces.next().unwrap();
            assert!(!team.trace(*trace).unwrap().is_empty());
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    machine,
    appends,
    maintenance,
    look_ups,
    sessions,
    many_teams
);
criterion_main!(benches);
