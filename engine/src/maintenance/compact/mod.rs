//! Rewrites segments: merges them, removes what retention has let go, erases
//! what callers want gone. Appends and reads go on meanwhile.

mod crew;
mod erase;
mod expire;
mod merge;
mod rows;
mod schedule;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use spanstore_format::jobs::Workers;
use spanstore_format::{Month, SegmentId, TeamId};

use self::crew::Crew;
use self::expire::Expiry;
use self::merge::{Merge, Merged};
use self::schedule::Schedule;
use super::without_panic;
use crate::catalog::RewriteCommit;
use crate::clock::Clock;
use crate::error::Error;
use crate::health::{Health, Task};
use crate::options::StoreOptions;
use crate::registry::Registry;
use crate::retention::RetentionClock;
use crate::runs::{MOST_RUNS, MOST_RUNS_IN_HASTE, due, of_month};
use crate::segment::Segment;
use crate::segments::Segments;
use crate::settings::Settings;
use crate::view::View;

/// How long no seal must have come for a month to be merged into as few runs as the
/// schedule aims at. While seals come faster, some more are left alone.
const CALM: Duration = Duration::from_secs(10);

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Segments that were rewritten or dropped.
    pub segments_before: u64,
    /// Segments that were written in their place.
    pub segments_after: u64,
    /// Rows that were written.
    pub rows_written: u64,
    /// Rows that are gone: erased, beyond retention, or there twice.
    pub rows_removed: u64,
    /// Bytes of the files written.
    pub bytes_written: u64,
}

/// What the compactor works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) options: Arc<StoreOptions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) retention: Arc<RetentionClock>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) view: Arc<View>,
    pub(crate) registry: Arc<Registry>,
}

/// Rewrites segments, one compaction at a time.
#[derive(Debug)]
pub(crate) struct Compactor {
    tools: Tools,
    /// Held by the compaction at work.
    turn: Mutex<()>,
    schedule: Mutex<Schedule>,
    stopping: AtomicBool,
    /// Callers that wait for their turn: the background then does not rest.
    waiting: AtomicUsize,
}

/// What is wanted of a compaction.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Runs of each month that are left alone; none when all are merged into one.
    most_runs: Option<usize>,
    /// What is removed that retention has let go; nothing when none.
    expiry: Option<Expiry>,
    /// Share of its time, in percent, that it works at least.
    percent: u8,
}

/// What became of a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Its segments took the place of the others.
    Committed,
    /// A team that was left out is to be kept after all; nothing happened.
    Outdated,
}

impl Compactor {
    pub(crate) fn new(tools: Tools) -> Self {
        Self {
            tools,
            turn: Mutex::default(),
            schedule: Mutex::default(),
            stopping: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Runs in the background until it is told to stop: after each seal, and
    /// when the schedule says so.
    pub(crate) fn run(&self, seals: &Receiver<()>) {
        self.keep_time();
        // Whether what was left alone in haste is to be merged in calm.
        let mut is_waiting = false;
        loop {
            let mut patience = self.schedule().patience(self.now());
            if is_waiting {
                patience = patience.min(CALM);
            }
            let is_haste = match seals.recv_timeout(patience) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            self.keep_time();
            let is_patrol = self.schedule().is_patrol_due(self.now());
            let most_runs = if is_haste {
                MOST_RUNS_IN_HASTE
            } else {
                MOST_RUNS
            };
            let extent = Extent {
                most_runs: Some(most_runs),
                expiry: is_patrol.then(|| Expiry::patrol(&self.tools.options)),
                percent: self.tools.options.compaction_percent,
            };
            // What failed is noted and tried again.
            drop(self.attempt(extent));
            is_waiting = is_haste;
            if is_patrol {
                self.schedule().patrolled(self.now());
            }
        }
    }

    /// Does what is due, as fast as it goes.
    pub(crate) fn compact_due(&self) -> Result<CompactReport, Error> {
        self.keep_time();
        self.attempt(Extent {
            most_runs: Some(MOST_RUNS),
            expiry: Some(Expiry::DUE),
            percent: 100,
        })
    }

    /// Merges all segments of each month, as fast as it goes.
    pub(crate) fn compact_all(&self) -> Result<CompactReport, Error> {
        self.attempt(Extent {
            most_runs: None,
            expiry: Some(Expiry::ALL),
            percent: 100,
        })
    }

    /// Keeps the time that removal relies on, if that is due.
    fn keep_time(&self) {
        let kept = without_panic("keeping the time", || self.tools.retention.keep_if_due());
        let now = self.tools.clock.now_nanos();
        // What failed is noted, and tried again when something is due.
        drop(self.tools.health.note(Task::KeepTime, now, kept));
    }

    /// Merges; a failure, a panic too, is noted.
    fn attempt(&self, extent: Extent) -> Result<CompactReport, Error> {
        let merged = without_panic("the merge", || self.compact(extent));
        if merged.is_ok() && self.schedule().has_failures() {
            // A month whose time has not come yet still fails.
            return merged;
        }
        let now = self.tools.clock.now_nanos();
        self.tools.health.note(Task::Merge, now, merged)
    }

    /// Ends the compaction at work soon, without its result.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.tools.clock.monotonic_nanos()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    fn compact(&self, extent: Extent) -> Result<CompactReport, Error> {
        let _turn = self.turn();
        let mut report = CompactReport::default();
        let (segments, _) = self.tools.view.sealed();
        let months: HashSet<Month> = segments.iter().map(|one| one.summary().month).collect();
        // Readers, and this one too, keep the files that they began with.
        drop(segments);
        let mut months: Vec<Month> = months.into_iter().collect();
        months.sort_unstable();
        self.schedule().keep_months(&months);
        let mut budget = extent.expiry.map_or(0, |expiry| expiry.rows);
        // Damage in one month does not keep the others from being merged.
        let mut failure = None;
        for month in months {
            if extent.most_runs.is_some() && !self.schedule().is_due(month, self.now()) {
                continue;
            }
            match self.tend(month, extent, &mut budget, &mut report) {
                Ok(()) => self.schedule().succeeded(month),
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    self.schedule().failed(month, self.now());
                    failure.get_or_insert(error);
                }
            }
        }
        if let Err(error) = self.expire_sessions(extent) {
            failure.get_or_insert(error);
        }
        // What cannot be removed is told by the store's health.
        drop(self.tools.segments.removals.finish());
        failure.map_or(Ok(report), Err)
    }

    /// Does what is wanted of a month, as far as its segments can be read.
    fn tend(
        &self,
        month: Month,
        extent: Extent,
        budget: &mut u64,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let dropped = self.expire_month(month, extent, &mut 0, report);
        // A merge leaves out what retention has let go; the rest is rewritten.
        let merged = self.compact_month(month, extent, report);
        let rewritten = self.expire_month(month, extent, budget, report);
        dropped.and(merged).and(rewritten)
    }

    fn compact_month(
        &self,
        month: Month,
        extent: Extent,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        // A merge may make another one due.
        loop {
            let (segments, _) = self.tools.view.sealed();
            let runs = of_month(&segments, month);
            let count = match extent.most_runs {
                Some(most) => due(&runs, most),
                None => Some(runs.len()).filter(|count| *count > 1),
            };
            let Some(count) = count else {
                return Ok(());
            };
            let chosen: Vec<_> = runs.into_iter().rev().take(count).flatten().collect();
            self.rewrite(month, &chosen, extent.percent, report)?;
        }
    }

    /// Rewrites segments of a month as one run.
    fn rewrite(
        &self,
        month: Month,
        inputs: &[Arc<Segment>],
        percent: u8,
        report: &mut CompactReport,
    ) -> Result<Outcome, Error> {
        self.tools.health.check()?;
        let levels = inputs.iter().map(|one| one.summary().level);
        let is_merge = of_month(inputs, month).len() > 1;
        let level = levels.max().unwrap_or(0) + u32::from(is_merge);
        let cutoff = self.tools.retention.cutoff();
        let started = Mutex::new(Instant::now());
        let crew = Arc::new(Crew::new(1));
        self.set_pace(&crew, percent);
        let merge = Merge {
            segments: &self.tools.segments,
            month,
            inputs,
            is_expired: &|team| self.is_expired(month, team, cutoff),
            segment_rows: self.tools.options.segment_rows,
            level,
            run: inputs
                .first()
                .filter(|_| !is_merge)
                .map(|one| one.summary().run),
            workers: Arc::clone(&crew) as Arc<dyn Workers>,
            pause: &|| self.pause(&started, self.set_pace(&crew, percent)),
        };
        let merged = merge.run()?;
        self.commit(month, inputs, merged, report)
    }

    /// Makes a rewrite true, unless a team that it left out is to be kept by now:
    /// then nothing happens, and the next try does better. What was forgotten
    /// meanwhile is to be erased in the new segments too.
    fn commit(
        &self,
        month: Month,
        inputs: &[Arc<Segment>],
        merged: Merged,
        report: &mut CompactReport,
    ) -> Result<Outcome, Error> {
        let segments = &self.tools.segments;
        {
            let _rewrite = segments.rewrite();
            let cutoff = self.tools.retention.cutoff();
            let mut expired = merged.expired.iter();
            if !expired.all(|team| self.is_expired(month, team, cutoff)) {
                segments.abandon(month, &merged.given);
                return Ok(Outcome::Outdated);
            }
            let removed: HashMap<(Month, TeamId), u64> = merged
                .removed
                .iter()
                .map(|(team, rows)| ((month, team.clone()), *rows))
                .collect();
            let old: Vec<SegmentId> = inputs.iter().map(|one| one.summary().id).collect();
            let commit = RewriteCommit {
                old: &old,
                new: &merged.segments,
                removed: &removed,
            };
            let new = merged.segments.iter().cloned();
            let new = new.map(|summary| segments.open(summary)).collect();
            let replaced = segments.replace(inputs, new, &commit);
            replaced.inspect_err(|_| segments.abandon(month, &merged.given))?;
        }
        for input in inputs {
            input.replaced();
        }
        report.segments_before += inputs.len() as u64;
        report.segments_after += merged.segments.len() as u64;
        report.rows_removed += merged.removed.values().sum::<u64>();
        for summary in &merged.segments {
            report.rows_written += u64::from(summary.rows);
            report.bytes_written += summary.bytes;
        }
        Ok(Outcome::Committed)
    }

    /// The share of its time, in percent, that a merge works now; one that does not
    /// rest works on all threads.
    fn set_pace(&self, crew: &Crew, percent: u8) -> u8 {
        let share = self.tools.view.merge_debt().share(percent);
        crew.set_threads(if share == 100 {
            self.tools.options.compaction_threads
        } else {
            1
        });
        share
    }

    /// Rests for its share of the time; ends the compaction when the store
    /// closes.
    fn pause(&self, started: &Mutex<Instant>, percent: u8) -> Result<(), Error> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let mut started = started.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = u32::from(percent);
        let mut rest = started.elapsed() * (100 - percent) / percent;
        // Who waits for a turn, or closes the store, ends the rest.
        while !rest.is_zero() && self.waiting.load(Ordering::Relaxed) == 0 {
            let nap = rest.min(Duration::from_millis(50));
            std::thread::sleep(nap);
            rest -= nap;
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
        }
        *started = Instant::now();
        Ok(())
    }
}
