//! A store on a simulated disk, beside a model, from a seed. See TESTING.md.
//!
//! `SPANSTORE_SEED=17` repeats a seed and tells its story; `SPANSTORE_SEEDS=5000`
//! runs so many; `SPANSTORE_SOAK=3600` runs new seeds for so many seconds.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

mod answers;
mod options;
mod run;
mod seeds;
mod steps;
mod worlds;

use std::time::Duration;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_was_promised_holds_for_every_seed() {
    if let Some(seed) = number("SPANSTORE_SEED") {
        let verdict = seeds::run(seed);
        let failure = verdict.failure.unwrap_or_default();
        assert!(failure.is_empty(), "{failure}");
        return;
    }
    let first = number("SPANSTORE_FIRST").unwrap_or(0);
    let count = number("SPANSTORE_SEEDS").unwrap_or(300);
    let summary = seeds::run_all(first..first + count, 5, None);
    println!("{}", summary.line());
    println!("{:#?}", summary.counts.activations);
    assert!(summary.failures.is_empty(), "{}", summary.line());
}

#[test]
fn soak() {
    let Some(seconds) = number("SPANSTORE_SOAK") else {
        return;
    };
    let first = rand::random::<u32>().into();
    let summary = seeds::run_all(first.., usize::MAX, Some(Duration::from_secs(seconds)));
    println!("{}", summary.line());
    assert!(summary.failures.is_empty(), "{}", summary.line());
}

#[test]
fn a_seed_does_the_same_again() {
    for seed in 0..4 {
        let (one, again) = (seeds::run(seed), seeds::run(seed));
        assert_eq!(one.trace, again.trace, "seed {seed}");
    }
}
