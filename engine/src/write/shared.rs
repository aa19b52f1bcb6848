//! What threads share about the write side: settings, counts, and whether
//! writing is still allowed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use spanstore_format::catalog::{Erased, Erasure, TeamSettings};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::{Month, SegmentId, TeamId};
use tokio::sync::Notify;

use super::admission::Counters;
use super::receipt::Usage;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::io::Disk;
use crate::options::StoreOptions;
use crate::segment::{Segment, SegmentCache};
use crate::view::{Erasures, View};

/// What threads share about the write side.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) catalog: Catalog,
    pub(crate) view: View,
    pub(crate) cache: Arc<SegmentCache>,
    /// Held while rewritten segments take the place of others, while it is
    /// named what is to be erased or how long spans are kept, and while a backup
    /// is made.
    rewrite: Mutex<()>,
    next_segment: AtomicU64,
    counters: Mutex<Counters>,
    settings: RwLock<HashMap<TeamId, TeamSettings>>,
    /// How long spans are kept where a team has nothing set, ns.
    retention: RwLock<Option<u64>>,
    poison: OnceLock<String>,
    /// Told when the queue has room again.
    pub(crate) space: Notify,
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        catalog: Catalog,
        view: View,
        cache: Arc<SegmentCache>,
        settings: HashMap<TeamId, TeamSettings>,
        retention: Option<u64>,
        next_segment: SegmentId,
    ) -> Self {
        Self {
            options,
            catalog,
            view,
            cache,
            rewrite: Mutex::default(),
            next_segment: AtomicU64::new(next_segment.0),
            counters: Mutex::default(),
            settings: RwLock::new(settings),
            retention: RwLock::new(retention),
            poison: OnceLock::new(),
            space: Notify::new(),
        }
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses writes from now on.
    pub(crate) fn poison(&self, cause: &str) {
        if self.poison.set(cause.to_owned()).is_ok() {
            tracing::error!(cause, "the store refuses writes until it is opened again");
        }
    }

    /// Answers the error of a poisoned store.
    pub(crate) fn check_poison(&self) -> Result<(), Error> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Keeps the set of segments, and of what is to be erased, from changing in
    /// any way but by seals.
    pub(crate) fn rewrite(&self) -> MutexGuard<'_, ()> {
        self.rewrite.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id that no segment has.
    pub(crate) fn next_segment_id(&self) -> SegmentId {
        SegmentId(self.next_segment.fetch_add(1, Ordering::Relaxed))
    }

    /// Hides rows of a team that are sealed by now, until they are erased. With
    /// a whole team goes what is set for it.
    pub(crate) fn forget(&self, team: &TeamId, what: Erased) -> Result<(), Error> {
        let _rewrite = self.rewrite();
        let mut settings = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let erasure = Erasure {
            team: team.clone(),
            what,
            before: SegmentId(self.next_segment.load(Ordering::Relaxed)),
        };
        self.catalog.add_erasure(&erasure)?;
        if erasure.what == Erased::Team {
            settings.remove(team);
        }
        let all = self.catalog.erasures()?;
        self.view.set_erasures(Erasures::new(all));
        Ok(())
    }

    /// Notes that everything that was to be erased is, and leaves no trace of
    /// it, nor of these teams, in the catalog. The caller holds
    /// [`Shared::rewrite`].
    pub(crate) fn finish_erasures(
        &self,
        disk: &Arc<dyn Disk>,
        root: &Path,
        teams: &[TeamId],
    ) -> Result<(), Error> {
        self.catalog.finish_erasures(teams)?;
        self.view.set_erasures(Erasures::default());
        let unsure = |error: &Error| self.poison(&error.to_string());
        self.catalog.rewrite(disk, root, unsure)
    }

    /// A segment of this store.
    pub(crate) fn segment(
        &self,
        disk: &Arc<dyn Disk>,
        root: &Path,
        summary: SegmentSummary,
    ) -> Arc<Segment> {
        Arc::new(Segment::new(disk, root, &self.cache, summary))
    }

    /// The start, ns since 1970, from which on a team's spans are kept at a
    /// time; none when all are.
    pub(crate) fn horizon(&self, team: &TeamId, now: i64) -> Option<i64> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let own = settings.get(team).and_then(|one| one.retention_nanos);
        let kept = own.or(*self
            .retention
            .read()
            .unwrap_or_else(PoisonError::into_inner))?;
        Some(now.saturating_sub_unsigned(kept))
    }

    /// Whether spans of some team are not kept for ever.
    pub(crate) fn has_retention(&self) -> bool {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let retention = self
            .retention
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        retention.is_some() || settings.values().any(|one| one.retention_nanos.is_some())
    }

    /// Sets how long spans are kept where a team has nothing set, durably.
    pub(crate) fn set_retention(&self, nanos: Option<u64>) -> Result<(), Error> {
        let _rewrite = self.rewrite();
        let mut retention = self
            .retention
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.catalog.set_retention(nanos)?;
        *retention = nanos;
        Ok(())
    }

    /// Spans that a team may write in a month.
    pub(super) fn limit(&self, team: &TeamId) -> u64 {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        match settings.get(team) {
            Some(settings) => self.options.plan_limits.of(settings),
            None => self.options.plan_limits.of(&TeamSettings::default()),
        }
    }

    /// A team's quota of a month.
    pub(crate) fn usage(&self, month: Month, team: &TeamId) -> Result<Usage, Error> {
        // The lock is held while the catalog is read: a seal that ends in
        // between would move spans from one count to the other.
        let counters = self.counters();
        let used = match counters.known(month, team) {
            Some(used) => used,
            None => self.catalog.sealed_count(month, team)?,
        };
        Ok(Usage::new(month, used, self.limit(team)))
    }

    /// Changes what is set for a team, durably.
    pub(crate) fn change_settings(
        &self,
        team: &TeamId,
        change: impl FnOnce(&mut TeamSettings),
    ) -> Result<(), Error> {
        let mut all = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut settings = all.get(team).cloned().unwrap_or_default();
        change(&mut settings);
        self.catalog.set_settings(team, &settings)?;
        all.insert(team.clone(), settings);
        Ok(())
    }

    /// Counts rows that the log says were admitted.
    pub(crate) fn replay(&self, month: Month, team: &TeamId, rows: u64) -> Result<(), Error> {
        let mut counters = self.counters();
        *counters.used(month, team, || self.catalog.sealed_count(month, team))? += rows;
        Ok(())
    }
}
