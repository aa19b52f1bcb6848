//! The writer thread. It alone admits spans and appends to the log, so what it
//! does happens in one order, and that order is the log's.

mod commit;
mod sessions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::admission::Admission;
use super::message::{Control, Job, SealJob};
use crate::catalog::Catalog;
use crate::clock::{Clock, elapsed};
use crate::error::Error;
use crate::health::{Health, Task};
use crate::log::Log;
use crate::options::{Durability, StoreOptions};
use crate::quota::Quota;
use crate::recent::Recent;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::view::View;

/// Batches that share one sync at most.
const GROUP_BATCHES: usize = 256;
/// Bytes of batches that share one sync, about.
const GROUP_BYTES: usize = 8 << 20;
/// How often the writer looks at the age of rows when nothing comes in.
const IDLE: Duration = Duration::from_secs(1);
/// How long nothing is appended before the end of the log is settled.
const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// How long after a seal could not begin none is asked for.
const RETRY: Duration = Duration::from_secs(5);

/// What the writer works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) options: Arc<StoreOptions>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) health: Arc<Health>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) view: Arc<View>,
    pub(crate) recent: Arc<Recent>,
    pub(crate) registry: Arc<Registry>,
    /// Asks for a seal.
    pub(crate) seals: Sender<()>,
    /// Tells that there are small batches to put together.
    pub(crate) gatherer: Sender<()>,
}

/// The writer's own state.
#[derive(Debug)]
pub(crate) struct Writer {
    tools: Tools,
    log: Log,
    admission: Admission,
    /// Batches whose callers wait until memory is free, or merging has caught up.
    held: VecDeque<Job>,
    /// Until when appends wait for merging to catch up.
    slowed: Option<Instant>,
    /// The sequence that the seal under way reaches up to.
    sealing: Option<u64>,
    is_seal_asked: bool,
    /// When a seal could not begin, by the monotonic clock.
    seal_refused: Option<u64>,
    /// The sequence that the last seal reached up to.
    sealed: u64,
    /// When sealed files of the log could not be removed, by the monotonic clock.
    release_failed: Option<u64>,
    /// When the oldest active row came, by the monotonic clock.
    oldest: Option<u64>,
    /// When something was written that is not synced, by the monotonic clock.
    unsynced: Option<u64>,
    /// When the log last grew beyond what the catalog notes of it, by the
    /// monotonic clock.
    unsettled: Option<u64>,
}

impl Writer {
    pub(crate) fn new(tools: Tools, log: Log, admission: Admission) -> Self {
        let now = tools.clock.monotonic_nanos();
        Self {
            oldest: log.has_records().then_some(now),
            // What was replayed is on disk, and the catalog may not know it.
            unsettled: log.has_records().then_some(now),
            tools,
            log,
            admission,
            held: VecDeque::new(),
            slowed: None,
            sealing: None,
            is_seal_asked: false,
            seal_refused: None,
            sealed: 0,
            release_failed: None,
            unsynced: None,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>, control: &Receiver<Control>) {
        if self.tools.options.background {
            self.ask_for_seal_if_due();
        }
        self.ask_to_gather();
        loop {
            crossbeam_channel::select_biased! {
                recv(control) -> message => match message {
                    Ok(Control::Stop) | Err(_) => break,
                    Ok(message) => self.obey(message),
                },
                recv(jobs) -> job => match job {
                    Ok(job) => self.take(job, jobs),
                    Err(_) => break,
                },
                default(self.patience()) => {}
            }
            self.take_held();
            if self.tools.options.background {
                self.sync_if_due();
                self.settle_if_due();
                self.release_if_due();
                self.tools.recent.expire();
                self.ask_for_seal_if_due();
            }
        }
        // Memory is no reason any more to keep what was queued from the log.
        let held: Vec<Job> = self.held.drain(..).collect();
        self.commit(held);
        while let Ok(job) = jobs.try_recv() {
            let group = Self::group(job, jobs);
            self.commit(group);
        }
        self.sync();
        self.settle();
    }

    /// Commits batches, or keeps them until memory is free.
    fn take(&mut self, first: Job, jobs: &Receiver<Job>) {
        let group = Self::group(first, jobs);
        if self.held.is_empty() && !self.must_wait() {
            self.commit_at_pace(group);
            return;
        }
        for job in group {
            if job.is_patient {
                self.held.push_back(job);
            } else {
                job.refuse(Error::Busy);
            }
        }
    }

    /// Commits what was kept as far as memory allows, and tells callers who
    /// would wait for nothing.
    fn take_held(&mut self) {
        while !self.held.is_empty() && !self.must_wait() {
            let count = self.held.len().min(GROUP_BATCHES);
            let group: Vec<Job> = self.held.drain(..count).collect();
            self.commit_at_pace(group);
        }
        if self.held.is_empty() || !self.is_full() {
            return;
        }
        let answer = if self.tools.options.background {
            let failure = self.tools.health.failure(Task::Seal);
            failure.map(|error| Error::Stalled {
                cause: error.to_string(),
            })
        } else {
            // Nothing is sealed unless somebody asks for it.
            Some(Error::Busy)
        };
        if let Some(error) = answer {
            for job in self.held.drain(..) {
                job.refuse(error.clone());
            }
        }
    }

    /// Commits a group; while merging is far behind, the next one has to wait.
    fn commit_at_pace(&mut self, group: Vec<Job>) {
        let before = self.tools.view.active_size().0;
        self.commit(group);
        let rows = self.tools.view.active_size().0.saturating_sub(before);
        let wait = self.tools.view.merge_debt().wait_after(rows);
        self.slowed = (!wait.is_zero()).then(|| Instant::now() + wait);
    }

    fn must_wait(&self) -> bool {
        self.is_full() || !self.slowed_for().is_zero()
    }

    /// How long appends wait for merging to catch up: not where nothing is merged, or
    /// merges fail.
    fn slowed_for(&self) -> Duration {
        let Tools {
            options, health, ..
        } = &self.tools;
        let can_merge =
            options.background && health.failure(Task::Merge).is_none() && health.check().is_ok();
        let until = self.slowed.filter(|_| can_merge);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Whether rows in memory take all that they may. Then only the end of a
    /// seal helps.
    fn is_full(&self) -> bool {
        // A caller who waits for a seal that cannot be committed is told so.
        if self.tools.health.check().is_err() {
            return false;
        }
        let most = self.tools.options.hot_bytes;
        let most = if self.sealing.is_some() {
            most / 2
        } else {
            most
        };
        self.tools.view.active_size().1 > most
    }

    fn patience(&self) -> Duration {
        if !self.tools.options.background {
            return Duration::MAX;
        }
        let mut patience = IDLE;
        if let (Durability::Interval(interval), Some(since)) =
            (self.tools.options.durability, self.unsynced)
        {
            patience = patience.min(interval.saturating_sub(self.elapsed(since)));
        }
        if !self.held.is_empty() && !self.is_full() {
            patience = patience.min(self.slowed_for());
        }
        if let Some(since) = self.unsettled {
            patience = patience.min(SETTLE_AFTER.saturating_sub(self.elapsed(since)));
        }
        patience
    }

    fn now(&self) -> u64 {
        self.tools.clock.monotonic_nanos()
    }

    fn elapsed(&self, since: u64) -> Duration {
        elapsed(&*self.tools.clock, since)
    }

    /// What waits in the queue, as far as it shall share a sync.
    fn group(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            match jobs.try_recv() {
                Ok(job) => {
                    bytes += job.bytes();
                    group.push(job);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        group
    }

    fn obey(&mut self, message: Control) {
        match message {
            Control::BeginSeal(reply) => {
                let answer = self.begin_seal();
                drop(reply.send(answer));
            }
            Control::EndSeal(first_unsealed) => self.end_seal(first_unsealed),
            Control::Flush(reply) => {
                self.sync();
                drop(reply.send(self.tools.health.check()));
            }
            Control::Release(reply) => drop(reply.send(self.release())),
            Control::Forget(forgotten, reply) => drop(reply.send(self.forget(&forgotten))),
            Control::Tick(reply) => {
                self.tools.recent.expire();
                self.sync_if_due();
                self.settle_if_due();
                self.release_if_due();
                reply.send(self.is_seal_due()).ok();
            }
            // What waits is looked at after each message.
            Control::SealFailed | Control::Stop => {}
        }
    }

    fn sync(&mut self) {
        self.unsynced = None;
        if let Err(error) = self.log.sync() {
            self.failed(error);
        }
    }

    fn sync_if_due(&mut self) {
        if let (Durability::Interval(interval), Some(since)) =
            (self.tools.options.durability, self.unsynced)
            && self.elapsed(since) >= interval
        {
            self.sync();
        }
    }

    /// Notes in the catalog how far the log reaches when nothing was appended
    /// for a while: from then on a damaged end of the log is no torn write.
    fn settle_if_due(&mut self) {
        if let Some(since) = self.unsettled
            && self.elapsed(since) >= SETTLE_AFTER
        {
            self.sync();
            self.settle();
        }
    }

    /// Notes in the catalog how far the log reaches for certain.
    fn settle(&mut self) {
        let Tools {
            catalog,
            clock,
            health,
            ..
        } = &self.tools;
        if self.unsettled.take().is_none() || health.check().is_err() {
            return;
        }
        let settled = self.log.settled();
        let noted = match catalog.log_settled() {
            Ok(noted) if noted >= settled => Ok(()),
            _ => health.committed(catalog.settle_log(settled)),
        };
        // Nothing acknowledged depends on the note: without it, a damaged end
        // of the log is taken for an unfinished write. So it is tried again.
        if health
            .note(Task::SettleLog, clock.now_nanos(), noted)
            .is_err()
        {
            self.unsettled = Some(clock.monotonic_nanos());
        }
    }

    fn ask_for_seal_if_due(&mut self) {
        let must_wait = self
            .seal_refused
            .is_some_and(|time| self.elapsed(time) < RETRY);
        if !self.is_seal_asked && !must_wait && self.is_seal_due() {
            self.is_seal_asked = self.tools.seals.try_send(()).is_ok();
        }
    }

    fn ask_to_gather(&self) {
        if self.tools.view.has_loose() {
            // It may be at work already, or nobody does it in the background.
            self.tools.gatherer.try_send(()).ok();
        }
    }

    fn is_seal_due(&self) -> bool {
        if self.sealing.is_some() || self.tools.health.check().is_err() {
            return false;
        }
        let options = &self.tools.options;
        let (rows, bytes) = self.tools.view.active_size();
        let is_old = options
            .seal_age
            .zip(self.oldest)
            .is_some_and(|(age, oldest)| self.elapsed(oldest) >= age);
        let is_due = rows >= options.seal_rows
            || bytes >= options.hot_bytes / 2
            || self.log.bytes() >= options.log_bytes
            || is_old;
        is_due && self.log.has_records()
    }

    fn begin_seal(&mut self) -> Result<Option<SealJob>, Error> {
        self.is_seal_asked = false;
        self.tools.health.check()?;
        // A log without rows may say what is to be remembered or forgotten.
        if !self.log.has_records() {
            return Ok(None);
        }
        let first_unsealed = match self.log.rotate() {
            Ok(first_unsealed) => first_unsealed,
            Err(error) => {
                self.seal_refused = Some(self.now());
                return Err(self.failed(error));
            }
        };
        self.unsynced = None;
        self.oldest = None;
        self.sealing = Some(first_unsealed);
        self.admission.begin_seal();
        Ok(Some(SealJob {
            rows: self.tools.view.begin_seal(),
            first_unsealed,
            sessions: self.tools.registry.begin_seal(),
            recent_before: self.tools.recent.bound(),
        }))
    }

    fn end_seal(&mut self, first_unsealed: u64) {
        self.sealing = None;
        self.admission.end_seal();
        let Tools { view, quota, .. } = &self.tools;
        quota.retain(|month, team| view.has_hot_rows(month, team));
        self.sealed = first_unsealed;
        // A file that stays is tried again, and removed at the next open at last.
        drop(self.release());
    }

    /// Removes the files of the log that are sealed.
    fn release(&mut self) -> Result<(), Error> {
        let released = self.log.release(self.sealed);
        self.release_failed = released.is_err().then(|| self.now());
        let now = self.tools.clock.now_nanos();
        self.tools.health.note(Task::ReleaseLog, now, released)
    }

    /// Tries again what could not be removed.
    fn release_if_due(&mut self) {
        if self
            .release_failed
            .is_some_and(|time| self.elapsed(time) >= RETRY)
        {
            drop(self.release());
        }
    }
}
