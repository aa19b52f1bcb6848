//! The questions of a dashboard over unsealed spans, one segment and eight. Each answer is
//! compared with one that is worked out span by span before its time is taken.
//!
//! `cargo bench -p spanstore-benches --bench questions -- [part of a name]`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
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

criterion_group!(benches, questions);
criterion_main!(benches);
