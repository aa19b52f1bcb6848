//! Runs many seeds, on some threads, and tells the story of one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spanstore::io::Sabotage;

use super::run::{Counts, Run, Story};

/// After so long a seed has failed: something waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) counts: Counts,
    /// Hash of all that was done to the disk.
    pub(crate) trace: u64,
    /// Why it failed, with its story.
    pub(crate) failure: Option<String>,
}

/// Runs one seed, with something left undone by the store or its disk.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>) -> Verdict {
    let story = Story::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    let told = Arc::clone(&story);
    let thread = std::thread::Builder::new().name("seed".into());
    let spawned = thread.spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut run = Run::new(seed, told);
            if let Some(sabotage) = sabotage {
                run.disk.sabotage(sabotage);
            }
            let outcome = run.run();
            (outcome, std::mem::take(&mut run.counts), run.disk.trace())
        }));
        drop(sender.send(done));
    });
    drop(spawned.expect("a thread starts"));
    let (outcome, counts, trace) = match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => (Err(panic_text(&*panic)), Counts::default(), 0),
        Err(_) => (
            Err(format!("no end after {PATIENCE:?}")),
            Counts::default(),
            0,
        ),
    };
    let failure = outcome.err().map(|error| {
        let story = story.lock().unwrap_or_else(PoisonError::into_inner);
        format!("seed {seed}:\n{}\n{error}", story.join("\n"))
    });
    Verdict {
        counts,
        trace,
        failure,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("?"))
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) counts: Counts,
    pub(crate) failures: Vec<String>,
}

impl Summary {
    fn add(&mut self, verdict: Verdict) {
        self.seeds += 1;
        let (all, one) = (&mut self.counts, verdict.counts);
        all.steps += one.steps;
        all.answers += one.answers;
        all.crashes += one.crashes;
        all.recovery_crashes += one.recovery_crashes;
        all.opens += one.opens;
        all.errors += one.errors;
        for (cell, count) in one.activations {
            *all.activations.entry(cell).or_default() += count;
        }
        self.failures.extend(verdict.failure);
    }

    /// One line.
    pub(crate) fn line(&self) -> String {
        let counts = &self.counts;
        format!(
            "{} seeds, {} steps, {} answers compared, {} crashes, {} of them in recovery, {} opens, {} errors answered, {} seeds failed",
            self.seeds,
            counts.steps,
            counts.answers,
            counts.crashes + counts.recovery_crashes,
            counts.recovery_crashes,
            counts.opens,
            counts.errors,
            self.failures.len()
        )
    }
}

/// Runs seeds until there are so many failures, or the time is over.
pub(crate) fn run_all(
    seeds: impl Iterator<Item = u64> + Send,
    sabotage: Option<Sabotage>,
    most_failures: usize,
    time: Option<Duration>,
) -> Summary {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let seeds = Mutex::new(seeds);
    let summary = Mutex::new(Summary::default());
    let failed = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let is_over = time.is_some_and(|time| started.elapsed() >= time)
                        || failed.load(Ordering::Relaxed) >= most_failures as u64;
                    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(seed) = (!is_over).then(next).flatten() else {
                        break;
                    };
                    let verdict = run(seed, sabotage);
                    if let Some(failure) = &verdict.failure {
                        failed.fetch_add(1, Ordering::Relaxed);
                        if sabotage.is_none() {
                            eprintln!("{failure}\n");
                        }
                    }
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(verdict);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}
