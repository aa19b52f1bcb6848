//! What is set for the store and for single teams: plans, quotas, retention.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use spanstore_format::TeamId;
use spanstore_format::catalog::TeamSettings;

use crate::catalog::Catalog;
use crate::error::Error;
use crate::health::Health;
use crate::options::PlanLimits;

/// The settings, in memory and in the catalog.
#[derive(Debug)]
pub(crate) struct Settings {
    catalog: Arc<Catalog>,
    health: Arc<Health>,
    plans: PlanLimits,
    /// Held while the catalog is written: readers do not wait for it.
    change: Mutex<()>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    teams: HashMap<TeamId, TeamSettings>,
    /// How long spans are kept where a team has nothing set, ns.
    retention: Option<u64>,
}

impl Settings {
    /// The settings that the catalog has.
    pub(crate) fn read(
        catalog: &Arc<Catalog>,
        health: &Arc<Health>,
        plans: PlanLimits,
    ) -> Result<Self, Error> {
        let current = Current {
            teams: catalog.settings()?,
            retention: catalog.retention()?,
        };
        Ok(Self {
            catalog: Arc::clone(catalog),
            health: Arc::clone(health),
            plans,
            change: Mutex::default(),
            current: RwLock::new(current),
        })
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other changes away; none is made of a store that takes no writes.
    fn begin_change(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.health.check().map(|()| change)
    }

    fn set(&self, change: impl FnOnce(&mut Current)) {
        change(&mut self.current.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Changes what is set for a team, durably.
    pub(crate) fn change_team(
        &self,
        team: &TeamId,
        change: impl FnOnce(&mut TeamSettings),
    ) -> Result<(), Error> {
        let _change = self.begin_change()?;
        let mut settings = self.current().teams.get(team).cloned().unwrap_or_default();
        change(&mut settings);
        self.health
            .committed(self.catalog.set_settings(team, &settings))?;
        self.set(|current| {
            current.teams.insert(team.clone(), settings);
        });
        Ok(())
    }

    /// Sets how long spans are kept where a team has nothing set, durably.
    pub(crate) fn set_retention(&self, nanos: Option<u64>) -> Result<(), Error> {
        let _change = self.begin_change()?;
        self.health.committed(self.catalog.set_retention(nanos))?;
        self.set(|current| current.retention = nanos);
        Ok(())
    }

    /// Runs `commit`, which removes what is set for some teams from the catalog;
    /// when it succeeds, nothing is set for them any more.
    pub(crate) fn forget_teams(
        &self,
        teams: &HashSet<TeamId>,
        commit: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _change = self.begin_change()?;
        commit()?;
        self.set(|current| current.teams.retain(|team, _| !teams.contains(team)));
        Ok(())
    }

    /// The teams for which something is set.
    pub(crate) fn teams(&self) -> HashSet<TeamId> {
        self.current().teams.keys().cloned().collect()
    }

    /// Spans that a team may write in a month.
    pub(crate) fn limit(&self, team: &TeamId) -> u64 {
        let current = self.current();
        match current.teams.get(team) {
            Some(settings) => self.plans.of(settings),
            None => self.plans.of(&TeamSettings::default()),
        }
    }

    /// The start, ns since 1970, from which on a team's spans are kept at a
    /// time; none when all are.
    pub(crate) fn horizon(&self, team: &TeamId, now: i64) -> Option<i64> {
        let current = self.current();
        let own = current.teams.get(team).and_then(|one| one.retention_nanos);
        let kept = own.or(current.retention)?;
        Some(now.saturating_sub_unsigned(kept))
    }

    /// The shortest time that spans of some team are kept, ns; none when all
    /// are kept for ever.
    pub(crate) fn shortest_retention(&self) -> Option<u64> {
        let current = self.current();
        let teams = current.teams.values();
        let own = teams.filter_map(|one| one.retention_nanos);
        own.chain(current.retention).min()
    }

    /// How long spans are kept, ns; none for ever. Of a team: what it has of
    /// its own, if anything.
    pub(crate) fn retention(&self, team: Option<&TeamId>) -> Option<u64> {
        let current = self.current();
        match team {
            Some(team) => current.teams.get(team)?.retention_nanos,
            None => current.retention,
        }
    }
}
