//! A store on a simulated disk, beside a model, from a seed. See TESTING.md.
//!
//! `SPANSTORE_SEED=17` repeats a seed and tells its story; `SPANSTORE_SEEDS=5000`
//! runs so many; `SPANSTORE_SOAK=3600` runs new seeds for so many seconds.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

mod answers;
mod append;
mod bytes;
mod options;
mod property;
mod recovery;
mod run;
mod seeds;
mod sessions;
mod steps;
mod table;
mod worlds;
mod yardstick;

use std::sync::{Once, RwLock, RwLockReadGuard};
use std::time::Duration;

use self::seeds::Script;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Panics of threads of seeds and of damaged stores are told as failures.
fn without_panic_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if !["seed", "damage"].contains(&name) && !name.starts_with("spanstore-") {
                usual(panic);
            }
        }));
    });
}

/// A bug planted in the store is there for all threads of the process: tests
/// without one wait meanwhile.
static PLANTED: RwLock<()> = RwLock::new(());

fn without_planted_bugs() -> RwLockReadGuard<'static, ()> {
    PLANTED.read().expect("no test panics with a bug planted")
}

#[test]
fn what_was_promised_holds_for_every_seed() {
    let _guard = without_planted_bugs();
    if let Some(seed) = number("SPANSTORE_SEED") {
        let verdict = Script::of(seed, None).run();
        let failure = verdict.failure.unwrap_or_default();
        assert!(failure.is_empty(), "{failure}");
        return;
    }
    let first = number("SPANSTORE_FIRST").unwrap_or(0);
    let count = number("SPANSTORE_SEEDS").unwrap_or(SEEDS);
    let summary = seeds::run_all(first..first + count, None, None, None);
    let (table, missed) = table::table(&summary.counts.activations);
    println!("{}\n\n{table}", summary.line());
    assert!(summary.failures.is_empty(), "{}", summary.line());
    if count >= SEEDS {
        assert!(missed.is_empty(), "never met: {missed:?}");
    }
}

/// Seeds that are run unless the environment says otherwise.
const SEEDS: u64 = 300;

#[test]
fn soak() {
    let Some(seconds) = number("SPANSTORE_SOAK") else {
        return;
    };
    let _guard = without_planted_bugs();
    let first = rand::random::<u32>().into();
    let time = Duration::from_secs(seconds);
    let summary = seeds::run_all(first.., None, None, Some(time));
    let (table, _) = table::table(&summary.counts.activations);
    println!("from seed {first}: {}\n\n{table}", summary.line());
    assert!(summary.failures.is_empty(), "{}", summary.line());
}

#[test]
fn a_seed_does_the_same_again() {
    let _guard = without_planted_bugs();
    for seed in 0..8 {
        let script = Script::of(seed, None);
        let (one, again) = (script.run(), script.run());
        assert_eq!(one.trace, again.trace, "seed {seed}");
        assert_ne!(one.trace, 0, "seed {seed}");
    }
}
