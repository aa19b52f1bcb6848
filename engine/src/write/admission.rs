//! Which spans are let in: no duplicates, and never more than the quota.
//!
//! One thread owns this state and asks it batch after batch, in the order of
//! the log; so the count is exact without a lock.

use std::collections::HashSet;

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
    /// Lets `remaining` rows of a part in, in their order. After them, each
    /// further row that is no duplicate is refused and noted.
    pub(crate) fn admit(
        &mut self,
        part: &Part,
        remaining: u64,
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
            let is_within = verdict.accepted < remaining
                || is_planted!(AdmitOneMore) && verdict.accepted == remaining;
            let is_admitted = is_new && is_within;
            if is_admitted {
                self.active.insert(*identity);
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
