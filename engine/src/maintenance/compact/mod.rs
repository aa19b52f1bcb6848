//! Rewrites segments: merges them, drops what retention has let go, erases
//! what callers want gone. Appends and reads go on meanwhile.

mod merge;
mod policy;
mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use spanstore_format::catalog::Erased;
use spanstore_format::{Month, SegmentId, TeamId};

use self::merge::{Merge, Merged};
use self::policy::{Run, due};
use super::without_panic;
use crate::catalog::RewriteCommit;
use crate::clock::Clock;
use crate::error::Error;
use crate::health::{Health, Task};
use crate::options::StoreOptions;
use crate::read::interrupt::Never;
use crate::read::visibility::hidden_rows;
use crate::segment::Segment;
use crate::segments::Segments;
use crate::settings::Settings;
use crate::view::{Erasures, View};

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

/// How often the background thread looks for months that retention has let go.
const PATROL: Duration = Duration::from_hours(1);
/// How soon a merge that failed is tried again; each time twice as late.
const RETRY: Duration = Duration::from_secs(5);

/// What the compactor works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) options: Arc<StoreOptions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) view: Arc<View>,
}

/// Rewrites segments, one compaction at a time.
#[derive(Debug)]
pub(crate) struct Compactor {
    tools: Tools,
    /// Held by the compaction at work.
    turn: Mutex<()>,
    stopping: AtomicBool,
    /// Callers that wait for their turn: the background then does not rest.
    waiting: AtomicUsize,
}

/// Which merges are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Those that the schedule asks for.
    Due,
    /// All runs of each month into one.
    Whole,
}

/// What became of a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Its segments took the place of the others.
    Committed,
    /// What is to be erased or kept changed meanwhile; nothing happened.
    Outdated,
}

impl Compactor {
    pub(crate) fn new(tools: Tools) -> Self {
        Self {
            tools,
            turn: Mutex::default(),
            stopping: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Runs in the background until it is told to stop: after each seal, and
    /// every now and then; soon again after a failure.
    pub(crate) fn run(&self, seals: &Receiver<()>) {
        let mut patience = PATROL;
        while let Ok(()) | Err(RecvTimeoutError::Timeout) = seals.recv_timeout(patience) {
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            let percent = self.tools.options.compaction_percent;
            patience = match self.attempt(Extent::Due, percent) {
                Ok(_) | Err(Error::Closed) => PATROL,
                Err(_) if patience == PATROL => RETRY,
                Err(_) => (patience * 2).min(PATROL),
            };
        }
    }

    /// Merges what is due, as fast as it goes.
    pub(crate) fn compact_due(&self) -> Result<CompactReport, Error> {
        self.attempt(Extent::Due, 100)
    }

    /// Merges; a failure, a panic too, is noted.
    fn attempt(&self, extent: Extent, percent: u8) -> Result<CompactReport, Error> {
        let merged = without_panic("the merge", || self.compact(extent, percent));
        let now = self.tools.clock.now_nanos();
        self.tools.health.note(Task::Merge, now, merged)
    }

    /// Ends the compaction at work soon, without its result.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Merges all segments of each month, as fast as it goes.
    pub(crate) fn compact_all(&self) -> Result<CompactReport, Error> {
        self.attempt(Extent::Whole, 100)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    fn compact(&self, extent: Extent, percent: u8) -> Result<CompactReport, Error> {
        let _turn = self.turn();
        let mut report = CompactReport::default();
        // Damage in one month does not keep the others from being merged.
        let mut failure = None;
        let (segments, erasures) = self.tools.view.sealed();
        for segment in segments.iter() {
            if let Err(error) = self.drop_if_expired(segment, &erasures, &mut report) {
                failure.get_or_insert(error);
            }
        }
        let (segments, _) = self.tools.view.sealed();
        let months: HashSet<Month> = segments.iter().map(|one| one.summary().month).collect();
        let mut months: Vec<Month> = months.into_iter().collect();
        months.sort_unstable();
        for month in months {
            match self.compact_month(month, extent, percent, &mut report) {
                Ok(()) => {}
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(report), Err)
    }

    fn compact_month(
        &self,
        month: Month,
        extent: Extent,
        percent: u8,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        // A merge may make another one due.
        loop {
            let (segments, _) = self.tools.view.sealed();
            let of_month = segments.iter().filter(|one| one.summary().month == month);
            let runs = runs(of_month);
            let count = match extent {
                Extent::Whole if runs.len() > 1 => runs.len(),
                Extent::Whole => return Ok(()),
                Extent::Due => match due(&levels(&runs)) {
                    Some(count) => count,
                    None => return Ok(()),
                },
            };
            let chosen = runs.into_iter().rev().take(count).flatten().collect();
            self.rewrite(month, chosen, percent, report)?;
        }
    }

    /// Rewrites segments of a month as one run.
    fn rewrite(
        &self,
        month: Month,
        inputs: Vec<Arc<Segment>>,
        percent: u8,
        report: &mut CompactReport,
    ) -> Result<Outcome, Error> {
        self.tools.health.check()?;
        let (_, erasures) = self.tools.view.sealed();
        let levels = inputs.iter().map(|one| one.summary().level);
        let is_merge = runs(inputs.iter()).len() > 1;
        let level = levels.max().unwrap_or(0) + u32::from(is_merge);
        let now = self.tools.clock.now_nanos();
        let started = Mutex::new(Instant::now());
        let merge = Merge {
            disk: &self.tools.segments.disk,
            root: &self.tools.segments.root,
            month,
            inputs: &inputs,
            erasures: &erasures,
            is_expired: &|team| self.is_expired(month, team, now),
            segment_rows: self.tools.options.segment_rows,
            level,
            run: inputs
                .first()
                .filter(|_| !is_merge)
                .map(|one| one.summary().run),
            next_id: &|| self.tools.segments.next_id(),
            pause: &|| self.pause(&started, percent),
        };
        let merged = merge.run()?;
        self.commit(month, &inputs, merged, &erasures, report)
    }

    /// Makes a rewrite true, unless more is to be erased by now, or more is to be
    /// kept: then the new segments are strays, and the next try does better.
    fn commit(
        &self,
        month: Month,
        inputs: &[Arc<Segment>],
        merged: Merged,
        erasures: &Arc<Erasures>,
        report: &mut CompactReport,
    ) -> Result<Outcome, Error> {
        let new: Vec<Arc<Segment>> = merged
            .segments
            .iter()
            .map(|summary| self.tools.segments.open(summary.clone()))
            .collect();
        {
            let _rewrite = self.tools.segments.rewrite();
            let now = self.tools.clock.now_nanos();
            let mut expired = merged.expired.iter();
            if !Arc::ptr_eq(erasures, &self.tools.view.sealed().1)
                || !expired.all(|team| self.is_expired(month, team, now))
            {
                for stray in new {
                    stray.replaced();
                }
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
            self.tools.segments.replace(inputs, new, &commit)?;
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

    /// Whether a month of a team lies beyond its retention.
    fn is_expired(&self, month: Month, team: &TeamId, now: i64) -> bool {
        let horizon = self.tools.settings.horizon(team, now);
        horizon.is_some_and(|horizon| month.end_nanos() <= horizon)
    }

    /// Drops a segment of which retention keeps nothing.
    fn drop_if_expired(
        &self,
        segment: &Arc<Segment>,
        erasures: &Arc<Erasures>,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let now = self.tools.clock.now_nanos();
        let month = segment.summary().month;
        if month.end_nanos() > now || !self.tools.settings.has_retention() {
            return Ok(());
        }
        let reader = segment.reader()?;
        let mut merged = Merged::default();
        for partition in reader.directory().partitions() {
            let partition = partition.map_err(|error| segment.corrupt(error))?;
            if !self.is_expired(month, &partition.team, now) {
                return Ok(());
            }
            let rows = u64::from(partition.rows.end - partition.rows.start);
            merged.expired.push(partition.team.clone());
            merged.removed.insert(partition.team, rows);
        }
        self.commit(month, &[Arc::clone(segment)], merged, erasures, report)?;
        Ok(())
    }

    /// Rewrites every segment that holds rows to be erased, forgets what was to
    /// be erased, and writes the catalog anew, so that nothing of it stays in
    /// any file. The caller has sealed what was in memory.
    pub(crate) fn erase(&self) -> Result<CompactReport, Error> {
        let _turn = self.turn();
        let mut report = CompactReport::default();
        loop {
            let (segments, erasures) = self.tools.view.sealed();
            // A damaged segment stays; what can be erased is.
            let mut failure = None;
            let mut is_outdated = false;
            for segment in segments.iter() {
                let erased = holds_erased(segment, &erasures).and_then(|holds_erased| {
                    if !holds_erased {
                        return Ok(());
                    }
                    let inputs = vec![Arc::clone(segment)];
                    let month = segment.summary().month;
                    let outcome = self.rewrite(month, inputs, 100, &mut report)?;
                    is_outdated |= outcome == Outcome::Outdated;
                    Ok(())
                });
                match erased {
                    Err(Error::Closed) => return Err(Error::Closed),
                    Err(error) => {
                        failure.get_or_insert(error);
                    }
                    Ok(()) => {}
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
            let _rewrite = self.tools.segments.rewrite();
            // More may have been named meanwhile.
            if !is_outdated && Arc::ptr_eq(&erasures, &self.tools.view.sealed().1) {
                let teams: HashSet<TeamId> = erasures
                    .all()
                    .filter(|one| one.what == Erased::Team)
                    .map(|one| one.team.clone())
                    .collect();
                let teams: Vec<TeamId> = teams.into_iter().collect();
                self.tools.segments.finish_erasures(&teams)?;
                return Ok(report);
            }
        }
    }

    /// Rests for its share of the time; ends the compaction when the store
    /// closes.
    fn pause(&self, started: &Mutex<Instant>, percent: u8) -> Result<(), Error> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let mut started = started.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = u32::from(percent.clamp(1, 100));
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

/// Whether a segment holds rows to be erased.
fn holds_erased(segment: &Segment, erasures: &Erasures) -> Result<bool, Error> {
    let teams: HashSet<&TeamId> = erasures.all().map(|one| &one.team).collect();
    // Damage where none of these teams can be is no reason to stop.
    for team in teams.into_iter().filter(|team| segment.may_hold(team)) {
        let reader = segment.reader()?;
        let partition = reader.directory().find(team);
        let Some(partition) = partition.map_err(|error| segment.corrupt(error))? else {
            continue;
        };
        if !hidden_rows(segment, &reader, &partition, None, erasures, &Never)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Segments by their run, the oldest run first: that of the highest level, and
/// of those of a level the one with the lowest id.
fn runs<'a>(segments: impl Iterator<Item = &'a Arc<Segment>>) -> Vec<Vec<Arc<Segment>>> {
    let mut by_run: HashMap<SegmentId, Vec<Arc<Segment>>> = HashMap::new();
    for segment in segments {
        let run = segment.summary().run;
        by_run.entry(run).or_default().push(Arc::clone(segment));
    }
    let mut runs: Vec<_> = by_run.into_values().collect();
    runs.sort_unstable_by_key(|run| {
        let first = run.first().map(|one| one.summary());
        first.map(|one| (std::cmp::Reverse(one.level), one.run))
    });
    runs
}

fn levels(runs: &[Vec<Arc<Segment>>]) -> Vec<Run> {
    runs.iter()
        .map(|run| Run {
            level: run.iter().map(|one| one.summary().level).max().unwrap_or(0),
            rows: run.iter().map(|one| u64::from(one.summary().rows)).sum(),
        })
        .collect()
}
