//! Appends, seals and look-ups of the sample application.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spanstore::{SpanBatch, StoreOptions, TraceId};
use spanstore_benches::{bodies, open, team};

const SPANS: u64 = 100_000;

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for batch in [100, 500, 5_000] {
        let bodies = bodies(10_000, batch);
        group.throughput(Throughput::Elements(10_000));
        group.bench_function(format!("durable, batches of {batch}"), |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir().unwrap(),
                |directory| {
                    let store = open(directory.path(), StoreOptions::default());
                    let team = store.team(&team());
                    for body in &bodies {
                        team.append(SpanBatch::from_otlp_protobuf(body).unwrap())
                            .unwrap();
                    }
                    directory
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn look_ups(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(
        directory.path(),
        StoreOptions {
            seal_rows: u64::MAX,
            ..StoreOptions::default()
        },
    );
    let team = store.team(&team());
    for body in bodies(SPANS, 5_000) {
        team.append(SpanBatch::from_otlp_protobuf(&body).unwrap())
            .unwrap();
    }
    let first = team
        .export()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .rows()
        .unwrap();
    let traces: Vec<TraceId> = first.iter().map(|row| row.trace_id).collect();
    let session = first.iter().find_map(|row| row.session_id.clone()).unwrap();
    for state in ["hot", "sealed"] {
        let mut group = criterion.benchmark_group(format!("look up, {state}"));
        let mut next = traces.iter().cycle();
        group.bench_function("trace", |bencher| {
            bencher.iter(|| black_box(team.trace(*next.next().unwrap()).unwrap().len()));
        });
        group.bench_function("absent trace", |bencher| {
            bencher.iter(|| black_box(team.trace(TraceId([7; 16])).unwrap().len()));
        });
        group.bench_function("session", |bencher| {
            bencher.iter(|| black_box(team.session_spans(&session).unwrap().len()));
        });
        group.finish();
        store.seal().unwrap();
    }
}

criterion_group!(benches, append, look_ups);
criterion_main!(benches);
