//! Which spans are let in: no duplicates, and never more than the quota.
//!
//! One thread owns this state and asks it batch after batch, in the order of
//! the log; so the count is exact without a lock.

use std::collections::{HashMap, HashSet};

use spanstore_format::{Month, TeamId};

use super::prepare::{Identity, Part};
use super::receipt::{Refusal, RefusalReason};

/// What became of the spans of one part of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Of each row, whether it is let in.
    pub(crate) admitted: Vec<bool>,
    /// Rows let in.
    pub(crate) accepted: u64,
    /// Rows that are there already.
    pub(crate) duplicates: u64,
}

/// The identities of unsealed spans, in the two halves that a seal needs.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    active: HashSet<Identity>,
    sealing: HashSet<Identity>,
}

impl Admission {
    /// Lets the rows of a part in, in their order, as long as `used` stays at
    /// or below `limit`. Over it, each further row that is no duplicate is
    /// refused and noted.
    pub(crate) fn admit(
        &mut self,
        part: &Part,
        used: &mut u64,
        limit: u64,
        refused: &mut Vec<Refusal>,
    ) -> Verdict {
        let mut verdict = Verdict {
            admitted: Vec::new(),
            accepted: 0,
            duplicates: 0,
        };
        verdict.admitted.reserve(part.identities.len());
        for (identity, index) in part.identities.iter().zip(&part.indices) {
            let is_new = !self.active.contains(identity) && !self.sealing.contains(identity);
            let is_admitted = is_new && *used < limit;
            if is_admitted {
                self.active.insert(*identity);
                *used += 1;
                verdict.accepted += 1;
            } else if is_new {
                refused.push(Refusal {
                    index: *index,
                    reason: RefusalReason::OverQuota,
                });
            } else {
                verdict.duplicates += 1;
            }
            verdict.admitted.push(is_admitted);
        }
        verdict
    }

    /// Notes rows that the log says were let in.
    pub(crate) fn replay(&mut self, identities: impl IntoIterator<Item = Identity>) {
        self.active.extend(identities);
    }

    /// Takes back what [`Admission::admit`] noted, as the rows were not written.
    pub(crate) fn take_back(&mut self, part: &Part, verdict: &Verdict) {
        for (identity, admitted) in part.identities.iter().zip(&verdict.admitted) {
            if *admitted {
                self.active.remove(identity);
            }
        }
    }

    /// A seal begins.
    pub(crate) fn begin_seal(&mut self) {
        self.sealing = std::mem::take(&mut self.active);
    }

    /// A seal is done: its spans have left the hot buffer.
    pub(crate) fn end_seal(&mut self) {
        self.sealing = HashSet::new();
    }
}

/// Spans of the partitions that have unsealed rows: what is sealed and what
/// is not. Partitions without unsealed rows take no memory.
#[derive(Debug, Default)]
pub(crate) struct Counters(HashMap<(Month, TeamId), u64>);

impl Counters {
    /// The count of a partition, which `sealed` answers for one that is not
    /// known yet.
    ///
    /// # Errors
    /// What `sealed` answers.
    pub(crate) fn used<E>(
        &mut self,
        month: Month,
        team: &TeamId,
        sealed: impl FnOnce() -> Result<u64, E>,
    ) -> Result<&mut u64, E> {
        let key = (month, team.clone());
        Ok(match self.0.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(sealed()?),
        })
    }

    /// The count of a partition, if it is known.
    pub(crate) fn known(&self, month: Month, team: &TeamId) -> Option<u64> {
        self.0.get(&(month, team.clone())).copied()
    }

    /// Forgets the partitions that `keep` does not name.
    pub(crate) fn retain(&mut self, keep: impl Fn(&(Month, TeamId)) -> bool) {
        self.0.retain(|key, _| keep(key));
        self.0.shrink_to_fit();
    }
}
