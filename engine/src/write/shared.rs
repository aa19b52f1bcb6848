//! What threads share about the write side: settings, counts, and whether
//! writing is still allowed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use spanstore_format::catalog::TeamSettings;
use spanstore_format::{Month, TeamId};
use tokio::sync::Notify;

use super::admission::Counters;
use super::receipt::Usage;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::options::StoreOptions;
use crate::view::View;

/// What threads share about the write side.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) catalog: Catalog,
    pub(crate) view: View,
    counters: Mutex<Counters>,
    settings: RwLock<HashMap<TeamId, TeamSettings>>,
    poison: OnceLock<String>,
    /// Told when the queue has room again.
    pub(crate) space: Notify,
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        catalog: Catalog,
        view: View,
        settings: HashMap<TeamId, TeamSettings>,
    ) -> Self {
        Self {
            options,
            catalog,
            view,
            counters: Mutex::default(),
            settings: RwLock::new(settings),
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
