//! The sessions that were started: what the log says of them, over what the catalog has.
//!
//! A change is a log record that says all of the sessions that it changes. It is kept in
//! memory until a seal writes it to the catalog. No append asks the registry: spans may carry
//! ids of sessions that it does not know.

pub(crate) mod changes;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use spanstore_format::catalog::SessionRecord;
use spanstore_format::log::record::{AppendRecord, SessionChange};
use spanstore_format::{Month, TeamId};

pub(crate) use self::session::is_kept;
pub use self::session::{NewSession, Session, SessionKind};
use crate::catalog::{Catalog, SessionChanges, TeamChanges};
use crate::error::Error;

/// Sessions that a team may have, open and stopped ones together.
pub(crate) const MOST_SESSIONS: u64 = 100_000;

/// Sessions that are removed in one transaction.
const MOST_EXPIRED: usize = 1_000;

/// Teams whose sessions stay counted.
const MOST_COUNTS: usize = 10_000;

/// The sessions of all teams.
#[derive(Debug)]
pub(crate) struct Registry {
    catalog: Arc<Catalog>,
    unsealed: RwLock<Unsealed>,
    /// How many sessions teams have: of those that started one.
    counts: Mutex<HashMap<TeamId, u64>>,
}

/// What the catalog does not have yet.
#[derive(Debug, Default)]
struct Unsealed {
    /// What a seal is writing; it does not change any more.
    sealing: Arc<SessionChanges>,
    active: SessionChanges,
    /// Seals that have begun.
    seals: u64,
}

impl Registry {
    /// The sessions that the catalog has.
    pub(crate) fn new(catalog: &Arc<Catalog>) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            unsealed: RwLock::default(),
            counts: Mutex::default(),
        }
    }

    // Nothing panics while it is changed.
    fn read(&self) -> RwLockReadGuard<'_, Unsealed> {
        self.unsealed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Unsealed> {
        self.unsealed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a log record says.
    pub(crate) fn apply(&self, team: &TeamId, record: &AppendRecord) {
        if !record.removes_sessions && record.sessions.is_empty() {
            return;
        }
        changes::add(&mut self.write().active, team, record);
        let mut counts = self.counts();
        let is_removal = |change: &SessionChange| change.session.is_none();
        if record.removes_sessions || record.sessions.iter().any(is_removal) {
            // Counted anew when the next one is started.
            counts.remove(team);
        } else if let Some(count) = counts.get_mut(team) {
            // An open one was started by this record.
            let sessions = record.sessions.iter().flat_map(|change| &change.session);
            let started = sessions.filter(|session| session.stopped_at.is_none());
            *count += started.count() as u64;
        }
    }

    /// Sets the changes so far apart for a seal.
    pub(crate) fn begin_seal(&self) -> Arc<SessionChanges> {
        let mut unsealed = self.write();
        unsealed.seals += 1;
        unsealed.sealing = Arc::new(std::mem::take(&mut unsealed.active));
        Arc::clone(&unsealed.sealing)
    }

    /// The catalog has the changes that were set apart.
    pub(crate) fn end_seal(&self) {
        self.write().sealing = Arc::default();
    }

    /// What is not sealed of a team, the newest for each session: of those that `is_wanted`
    /// asks for, and of those that were removed. Also how many seals have begun.
    fn unsealed(
        &self,
        team: &TeamId,
        is_wanted: impl Fn(&SessionRecord) -> bool,
    ) -> (TeamChanges, u64) {
        let unsealed = self.read();
        let mut all = TeamChanges::default();
        for changes in [&*unsealed.sealing, &unsealed.active] {
            if let Some(newer) = changes.get(team) {
                all.add(newer, &is_wanted);
            }
        }
        (all, unsealed.seals)
    }

    /// What the catalog answers of a team, with what is not sealed, at one time.
    fn with_unsealed<T>(
        &self,
        team: &TeamId,
        is_wanted: impl Fn(&SessionRecord) -> bool,
        read: impl Fn(TeamChanges) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let (newer, seals) = self.unsealed(team, &is_wanted);
            let answer = read(newer)?;
            // Until a seal begins the catalog has nothing that is newer than these changes.
            if self.read().seals == seals {
                return Ok(answer);
            }
        }
    }

    /// A session; none when there is none with this id.
    pub(crate) fn session(&self, team: &TeamId, id: &str) -> Result<Option<SessionRecord>, Error> {
        let known = {
            let unsealed = self.read();
            let mut newest_first = [&unsealed.active, &*unsealed.sealing].into_iter();
            let known = newest_first.find_map(|changes| changes.get(team)?.find(id));
            known.cloned()
        };
        match known {
            Some(known) => Ok(known),
            None => self.catalog.session(team, id),
        }
    }

    /// The sessions that a user has started, by id.
    pub(crate) fn of_user(
        &self,
        team: &TeamId,
        user: &str,
    ) -> Result<BTreeMap<String, SessionRecord>, Error> {
        let is_wanted = |session: &SessionRecord| session.user == user;
        self.with_unsealed(team, is_wanted, |newer| {
            Ok(newer.over(self.catalog.sessions_of_user(team, user)?))
        })
    }

    /// All sessions of a team, by id.
    #[cfg(feature = "query")]
    pub(crate) fn of_team(&self, team: &TeamId) -> Result<BTreeMap<String, SessionRecord>, Error> {
        self.with_unsealed(
            team,
            |_| true,
            |newer| Ok(newer.over(self.catalog.sessions_of_team(team)?)),
        )
    }

    /// How many sessions a team has. They are counted when this is asked first, and after some
    /// were removed.
    pub(crate) fn count(&self, team: &TeamId) -> Result<u64, Error> {
        // Held meanwhile, so that what is removed is not counted.
        let mut counts = self.counts();
        if let Some(count) = counts.get(team) {
            return Ok(*count);
        }
        let count = |newer| self.catalog.count_sessions(team, &newer);
        let count = self.with_unsealed(team, |_| true, count)?;
        if counts.len() == MOST_COUNTS {
            counts.clear();
        }
        counts.insert(team.clone(), count);
        Ok(count)
    }

    /// Removes sessions from the catalog that were stopped in months that end before a time,
    /// ns since 1970, and of which `is_gone` says so for their team: some of them, at most.
    /// Answers whether there may be more.
    pub(crate) fn expire(
        &self,
        before: i64,
        is_gone: impl Fn(Month, &TeamId) -> bool,
    ) -> Result<bool, Error> {
        let gone = self
            .catalog
            .stopped_sessions(before, MOST_EXPIRED, is_gone)?;
        if !gone.is_empty() {
            self.catalog.remove_sessions(&gone)?;
        }
        let mut counts = self.counts();
        for (team, _) in &gone {
            counts.remove(team);
        }
        Ok(gone.len() == MOST_EXPIRED)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<TeamId, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
