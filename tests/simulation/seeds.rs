//! Runs many seeds, on some threads, and tells the story of one that fails.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::run::{Counts, Run, Story};

/// After so long a seed has failed: something waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a seed.
#[derive(Debug)]
pub struct Verdict {
    pub seed: u64,
    pub counts: Counts,
    /// Hash of all that was done to the disk.
    pub trace: u64,
    /// Why it failed, with its story.
    pub failure: Option<String>,
}

/// Runs one seed.
pub fn run(seed: u64) -> Verdict {
    let story = Story::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    let told = Arc::clone(&story);
    std::thread::spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut run = Run::new(seed, told);
            let outcome = run.run();
            (outcome, std::mem::take(&mut run.counts), run.disk.trace())
        }));
        drop(sender.send(done));
    });
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
        seed,
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
pub struct Summary {
    pub seeds: u64,
    pub counts: Counts,
    pub failures: Vec<String>,
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
    pub fn line(&self) -> String {
        let counts = &self.counts;
        let mut line = String::new();
        drop(write!(
            line,
            "{} seeds, {} steps, {} answers compared, {} crashes, {} of them in recovery, {} opens, {} errors answered, {} seeds failed",
            self.seeds,
            counts.steps,
            counts.answers,
            counts.crashes + counts.recovery_crashes,
            counts.recovery_crashes,
            counts.opens,
            counts.errors,
            self.failures.len()
        ));
        line
    }
}

/// Runs seeds until there are so many failures, or the time is over.
pub fn run_all(
    seeds: impl Iterator<Item = u64> + Send,
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
                    let verdict = run(seed);
                    if let Some(failure) = &verdict.failure {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{failure}\n");
                    }
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(verdict);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}
