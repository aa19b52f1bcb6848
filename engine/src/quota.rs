//! How many spans each team has written in each month.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spanstore_format::{Month, TeamId};

use crate::catalog::Catalog;
use crate::error::Error;

/// Counts of spans: what the catalog has as sealed, and what came since. Only
/// the writer thread changes them, so admission is exact without a lock; the
/// lock is for those who read.
#[derive(Debug)]
pub(crate) struct Quota {
    catalog: Arc<Catalog>,
    counters: Mutex<Counters>,
}

/// Spans of the partitions that have unsealed rows: what is sealed and what
/// is not. Partitions without unsealed rows take no memory.
#[derive(Debug, Default)]
struct Counters(HashMap<(Month, TeamId), u64>);

impl Quota {
    pub(crate) fn new(catalog: &Arc<Catalog>) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            counters: Mutex::default(),
        }
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spans of a partition that count towards its limit.
    pub(crate) fn used(&self, month: Month, team: &TeamId) -> Result<u64, Error> {
        // The lock is held while the catalog is read: a seal that ends in
        // between would move spans from one count to the other.
        let counters = self.counters();
        match counters.0.get(&(month, team.clone())) {
            Some(used) => Ok(*used),
            None => self.catalog.sealed_count(month, team),
        }
    }

    /// Spans of a partition that count towards its limit; the count is kept in
    /// memory from now on, so that [`Quota::add`] finds it.
    pub(crate) fn load(&self, month: Month, team: &TeamId) -> Result<u64, Error> {
        match self.counters().0.entry((month, team.clone())) {
            Entry::Occupied(used) => Ok(*used.get()),
            Entry::Vacant(entry) => Ok(*entry.insert(self.catalog.sealed_count(month, team)?)),
        }
    }

    /// Counts rows of a loaded partition that are let in.
    pub(crate) fn add(&self, month: Month, team: &TeamId, rows: u64) {
        if let Some(used) = self.counters().0.get_mut(&(month, team.clone())) {
            *used += rows;
        }
    }

    /// Takes back rows that were counted and not written.
    pub(crate) fn take_back(&self, month: Month, team: &TeamId, rows: u64) {
        if let Some(used) = self.counters().0.get_mut(&(month, team.clone())) {
            *used = used.saturating_sub(rows);
        }
    }

    /// Forgets the partitions that `keep` does not name: the catalog has all
    /// of their count.
    pub(crate) fn retain(&self, keep: impl Fn(Month, &TeamId) -> bool) {
        let mut counters = self.counters();
        counters.0.retain(|(month, team), _| keep(*month, team));
        counters.0.shrink_to_fit();
    }
}
