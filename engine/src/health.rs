//! Whether a store can still write, and what goes wrong in the background.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::clock::ClockLeap;
use crate::error::{Error, RemainingFile};
use crate::runs::MergeDebt;

/// Work that a store does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Turning rows in memory into segments.
    Seal,
    /// Merging segments, and dropping rows beyond retention.
    Merge,
    /// Noting in the catalog how far the log reaches.
    SettleLog,
    /// Removing what was forgotten from the files. It is not tried again by
    /// itself: the next [`Store::erase`](crate::Store::erase) does it.
    Erase,
    /// Removing files of the log that were sealed.
    ReleaseLog,
    /// Keeping the time that retention removes by.
    KeepTime,
}

/// Whether a store can do its work.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct HealthReport {
    /// Why writes are refused until the store is opened again; none while they
    /// are not.
    pub poisoned: Option<String>,
    /// Work whose last attempt failed. It is tried again by itself, but for
    /// [`Task::Erase`].
    pub failures: Vec<TaskFailure>,
    /// Files of segments that are to be removed and are still there. It is tried
    /// again by itself.
    pub remaining_files: Vec<RemainingFile>,
    /// Why retention removes nothing until
    /// [`Store::accept_clock`](crate::Store::accept_clock) is called; none while
    /// it does not wait for that.
    pub clock_leap: Option<ClockLeap>,
    /// How far merging is behind. A store with a debt is healthy: it merges more the
    /// more there is, and slows appends down at last
    /// (see [`StoreOptions::compaction_percent`](crate::StoreOptions::compaction_percent)).
    pub merge_debt: MergeDebt,
}

impl HealthReport {
    /// Whether writes are taken, nothing fails in the background, and nothing
    /// waits for somebody.
    pub fn is_healthy(&self) -> bool {
        let Self {
            poisoned,
            failures,
            remaining_files,
            clock_leap,
            merge_debt: _,
        } = self;
        poisoned.is_none()
            && failures.is_empty()
            && remaining_files.is_empty()
            && clock_leap.is_none()
    }
}

/// Work that fails.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskFailure {
    /// The work.
    pub task: Task,
    /// What the last attempt answered.
    pub error: Error,
    /// Attempts that failed, one after the other.
    pub attempts: u64,
    /// When the first of them failed, ns since 1970.
    pub since_nanos: i64,
}

/// The state behind [`HealthReport`].
#[derive(Debug, Default)]
pub(crate) struct Health {
    poison: OnceLock<String>,
    is_closed: AtomicBool,
    is_read_only: bool,
    /// Wakes those who wait for what comes, when nothing can come any more.
    ended: Arc<Notify>,
    failures: Mutex<BTreeMap<Task, TaskFailure>>,
}

impl Health {
    /// That of a store that is read alone, or not.
    pub(crate) fn new(is_read_only: bool) -> Self {
        Self {
            is_read_only,
            ..Self::default()
        }
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<Task, TaskFailure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses writes from now on.
    pub(crate) fn poison(&self, cause: &str) {
        if self.poison.set(cause.to_owned()).is_ok() {
            tracing::error!(cause, "the store refuses writes until it is opened again");
            self.ended.notify_waiters();
        }
    }

    /// What wakes those who wait for what comes, when nothing can come any more. They are to
    /// look at [`Health::check_open`] before they wait.
    #[cfg(feature = "query")]
    pub(crate) fn ended(&self) -> Arc<Notify> {
        Arc::clone(&self.ended)
    }

    /// Refuses writes from now on when a commit of the catalog failed so that
    /// it is not known what is on disk, and hands the result on.
    pub(crate) fn committed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.inspect_err(|error| {
            if matches!(error, Error::Poisoned { .. } | Error::CatalogDamaged { .. }) {
                self.poison(&error.to_string());
            }
        })
    }

    /// Answers the error of a store that takes no writes: it is poisoned, closed or read
    /// alone.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_open()?;
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// Answers the error of a store to which nothing can come any more: it is poisoned or
    /// closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None if self.is_closed.load(Ordering::Acquire) => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Whether writes are refused until the store is opened again.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Refuses writes as the store is closed.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Notes how an attempt at some work ended, and hands the result on.
    pub(crate) fn note<T>(
        &self,
        task: Task,
        now_nanos: i64,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        match &result {
            Ok(_) => drop(self.failures().remove(&task)),
            // The work did not fail: it was ended, or never begun.
            Err(Error::Closed | Error::ReadOnly) => {}
            Err(error) => {
                let mut failures = self.failures();
                let failure = failures.entry(task).or_insert_with(|| TaskFailure {
                    task,
                    error: error.clone(),
                    attempts: 0,
                    since_nanos: now_nanos,
                });
                failure.error = error.clone();
                failure.attempts += 1;
                tracing::error!(?task, %error, attempts = failure.attempts, "background work failed");
            }
        }
        result
    }

    /// What the last attempt at some work answered, if it failed.
    pub(crate) fn failure(&self, task: Task) -> Option<Error> {
        self.failures()
            .get(&task)
            .map(|failure| failure.error.clone())
    }

    /// What a caller may know.
    pub(crate) fn report(&self) -> HealthReport {
        HealthReport {
            poisoned: self.poison.get().cloned(),
            failures: self.failures().values().cloned().collect(),
            ..HealthReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_the_work_succeeds() {
        let health = Health::default();
        assert!(health.report().is_healthy());
        let fail = |now| health.note(Task::Merge, now, Err::<(), _>(Error::Busy));
        assert!(fail(5).is_err() && fail(6).is_err());
        let report = health.report();
        assert!(!report.is_healthy());
        let [failure] = report.failures.as_slice() else {
            panic!("{report:?}")
        };
        assert_eq!(
            (failure.task, failure.attempts, failure.since_nanos),
            (Task::Merge, 2, 5)
        );
        assert!(health.failure(Task::Merge).is_some() && health.failure(Task::Seal).is_none());
        health.note(Task::Merge, 7, Ok(())).unwrap();
        assert!(health.report().is_healthy());
    }

    #[test]
    fn the_first_cause_of_poison_stays() {
        let health = Health::default();
        health.check().unwrap();
        health.poison("one");
        health.poison("two");
        assert!(matches!(health.check(), Err(Error::Poisoned { cause }) if cause == "one"));
        assert_eq!(health.report().poisoned.as_deref(), Some("one"));
    }
}
