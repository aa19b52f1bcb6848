//! Runs many seeds, on some threads, and tells the story of one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spanstore::io::Sabotage;

use super::run::{Counts, Run, Story};

/// After so long a seed has failed: something waits for ever.
const PATIENCE: Duration = Duration::from_mins(2);

/// Failures after which no further seed is run.
const MOST_FAILURES: usize = 5;

/// What came of a seed.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) counts: Counts,
    /// Hash of all that was done to the disk.
    pub(crate) trace: u64,
    /// Why it failed, with its story.
    pub(crate) failure: Option<String>,
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// What its steps draw from; none for those of the seed.
    pub(crate) steps: Option<Vec<u64>>,
    pub(crate) has_faults: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Script {
    /// The run of a seed.
    pub(crate) fn of(seed: u64, sabotage: Option<Sabotage>) -> Self {
        Self {
            seed,
            steps: None,
            has_faults: true,
            sabotage,
        }
    }

    fn play(&self, story: Story) -> (Result<(), String>, Counts, u64) {
        let mut run = Run::new(self.seed, story);
        let steps = run.steps();
        run.setting.has_faults &= self.has_faults;
        if let Some(sabotage) = self.sabotage {
            run.disk.sabotage(sabotage);
        }
        let outcome = run.run(self.steps.as_ref().unwrap_or(&steps));
        (outcome, std::mem::take(&mut run.counts), run.disk.trace())
    }

    /// Runs it on a thread of its own.
    pub(crate) fn run(&self) -> Verdict {
        let story = Story::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        let (script, told) = (self.clone(), Arc::clone(&story));
        let thread = std::thread::Builder::new().name("seed".into());
        let spawned = thread.spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| script.play(told)));
            drop(sender.send(done));
        });
        drop(spawned.expect("a thread starts"));
        let failed = |error| (Err(error), Counts::default(), 0);
        let (outcome, counts, trace) = match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => failed(panic_text(&*panic)),
            Err(_) => failed(format!("no end after {PATIENCE:?}")),
        };
        let failure = outcome.err().map(|error| {
            let story = story.lock().unwrap_or_else(PoisonError::into_inner);
            format!("seed {}:\n{}\n{error}", self.seed, story.join("\n"))
        });
        Verdict {
            counts,
            trace,
            failure,
        }
    }

    /// Leaves out the steps that a failure does not need, as far as that goes in
    /// a minute, and tells the story of the rest.
    pub(crate) fn shrunk(&self) -> Option<String> {
        let started = Instant::now();
        let mut run = Run::new(self.seed, Story::default());
        let mut steps = self.steps.clone().unwrap_or_else(|| run.steps());
        let mut failure = None;
        let mut size = steps.len() / 2;
        while size > 0 {
            let mut first = 0;
            while first < steps.len() && started.elapsed() < Duration::from_mins(1) {
                let mut fewer = steps.clone();
                fewer.drain(first..steps.len().min(first + size));
                let script = Self {
                    steps: Some(fewer.clone()),
                    ..self.clone()
                };
                match script.run().failure {
                    Some(story) => {
                        failure = Some(story);
                        steps = fewer;
                    }
                    None => first += size,
                }
            }
            size /= 2;
        }
        failure
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

/// Runs seeds until there are so many failures, or the time is over. With bugs
/// planted, failures are what is wanted: they are not told.
pub(crate) fn run_all(
    seeds: impl Iterator<Item = u64> + Send,
    sabotage: Option<Sabotage>,
    wanted: Option<usize>,
    time: Option<Duration>,
) -> Summary {
    let most = wanted.unwrap_or(MOST_FAILURES);
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
                        || failed.load(Ordering::Relaxed) >= most as u64;
                    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(seed) = (!is_over).then(next).flatten() else {
                        break;
                    };
                    let script = Script::of(seed, sabotage);
                    let verdict = script.run();
                    if let Some(failure) = &verdict.failure {
                        failed.fetch_add(1, Ordering::Relaxed);
                        if wanted.is_none() {
                            let shrunk = script.shrunk();
                            eprintln!("{}\n", shrunk.as_ref().unwrap_or(failure));
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
