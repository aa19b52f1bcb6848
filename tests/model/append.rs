//! What a store answers to an append, and does.

use std::collections::BTreeMap;

use spanstore::{Month, Receipt, RefusalReason, Usage};

use super::facts::Facts;
use super::recent::{Content, Form, Known, Remembered};
use super::{Model, nanos};

/// A batch to append.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its spans.
    pub spans: Vec<Facts>,
    /// In what form it comes.
    pub form: Form,
    /// Whether the window of accepted starts is off.
    pub is_any_time: bool,
    /// Its idempotency key.
    pub key: Option<Vec<u8>>,
}

/// A receipt, as far as the model tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Spans that were stored.
    pub accepted: u64,
    /// Spans that were there.
    pub duplicates: u64,
    /// Spans that were refused, and why.
    pub refused: Vec<(u32, RefusalReason)>,
    /// Month, spans used, limit.
    pub months: Vec<(Month, u64, u64)>,
    /// Whether all this was answered before.
    pub repeated: bool,
}

/// The times at which an append comes, ns since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// What the wall clock shows.
    pub wall: i64,
    /// What the wall clock showed when the store was opened, and the time that
    /// passed since.
    pub open: i64,
}

/// What an append answers and does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer; none when the key came with other content.
    pub answer: Option<Answer>,
    /// The rows that are added.
    pub rows: Vec<Facts>,
    /// What is remembered from then on.
    pub remembered: Vec<Remembered>,
}

impl From<&Receipt> for Answer {
    fn from(receipt: &Receipt) -> Self {
        let month = |usage: &Usage| (usage.month, usage.used, usage.limit);
        Self {
            accepted: receipt.accepted,
            duplicates: receipt.duplicates,
            refused: receipt
                .refused
                .iter()
                .map(|one| (one.index, one.reason))
                .collect(),
            months: receipt.months.iter().map(month).collect(),
            repeated: receipt.repeated,
        }
    }
}

impl Model {
    /// Why a span fails the checks, if it does.
    fn refusal(
        &self,
        team: &str,
        facts: &Facts,
        is_any_time: bool,
        now: i64,
    ) -> Option<RefusalReason> {
        let own = self.teams.get(team).and_then(|team| team.retention);
        let kept = own.or(self.retention);
        if kept.is_some_and(|kept| facts.start < now.saturating_sub(nanos(kept))) {
            return Some(RefusalReason::BeyondRetention);
        }
        if is_any_time {
            return None;
        }
        let limits = &self.rules.limits;
        let first = limits.oldest.map_or(0, |oldest| now - nanos(oldest));
        let ahead = limits.furthest_ahead;
        let last = ahead.map_or(i64::MAX, |ahead| now + nanos(ahead));
        if facts.start < first {
            return Some(RefusalReason::TooOld);
        }
        (facts.start > last).then_some(RefusalReason::TooFarAhead)
    }

    /// What an append would answer and do. What may be known or not is taken
    /// for known if `trusts` says so.
    pub fn decide(&self, team: &str, batch: &Batch, now: Times, trusts: bool) -> Decision {
        let refusal = |facts: &Facts| self.refusal(team, facts, batch.is_any_time, now.wall);
        let refused: Vec<(u32, RefusalReason)> = (0..)
            .zip(&batch.spans)
            .filter_map(|(index, facts)| Some((index, refusal(facts)?)))
            .collect();
        let content = Content::new(batch);
        let key = batch.key.as_ref();
        let recent = self.teams.get(team).map(|team| &team.recent);
        let known = recent.map_or(Known::New, |recent| {
            recent.find(&content, key, now.open, trusts)
        });
        match known {
            Known::New => {
                let (answer, rows) = self.admit(team, batch, refused);
                let is_full = answer
                    .refused
                    .iter()
                    .any(|(_, reason)| *reason == RefusalReason::OverQuota);
                let is_body = answer.accepted + answer.duplicates > 0 && !is_full;
                let names = [is_body.then_some(None), key.map(Some)];
                let remember = |name| Remembered::new(&content, name, &answer, now.open);
                Decision {
                    rows,
                    remembered: names.into_iter().flatten().map(remember).collect(),
                    answer: Some(answer),
                }
            }
            Known::Repeated { answer, is_key_new } => {
                let answer = Answer {
                    repeated: true,
                    ..answer
                };
                let remembered = key
                    .filter(|_| is_key_new)
                    .map(|key| Remembered::new(&content, Some(key), &answer, now.open));
                Decision {
                    rows: Vec::new(),
                    remembered: remembered.into_iter().collect(),
                    answer: Some(answer),
                }
            }
            Known::KeyReused => Decision {
                answer: None,
                rows: Vec::new(),
                remembered: Vec::new(),
            },
        }
    }

    /// What becomes of a batch that is not known, of which some spans fail the
    /// checks.
    fn admit(
        &self,
        team: &str,
        batch: &Batch,
        refused: Vec<(u32, RefusalReason)>,
    ) -> (Answer, Vec<Facts>) {
        let mut answer = Answer {
            accepted: 0,
            duplicates: 0,
            refused,
            months: Vec::new(),
            repeated: false,
        };
        let state = self.teams.get(team);
        let limit = self.limit(team);
        let mut unsealed: Vec<&Facts> = state
            .into_iter()
            .flat_map(|state| &state.rows)
            .filter(|row| !row.is_sealed)
            .map(|row| &row.facts)
            .collect();
        let mut months: BTreeMap<Month, u64> = BTreeMap::new();
        let mut rows = Vec::new();
        for (index, facts) in (0..).zip(&batch.spans) {
            if answer.refused.iter().any(|(refused, _)| *refused == index) {
                continue;
            }
            let month = Month::of(facts.start);
            let used = months
                .entry(month)
                .or_insert_with(|| self.used(team, month));
            if unsealed.contains(&facts) {
                answer.duplicates += 1;
            } else if *used < limit {
                *used += 1;
                answer.accepted += 1;
                unsealed.push(facts);
                rows.push(facts.clone());
            } else {
                answer.refused.push((index, RefusalReason::OverQuota));
            }
        }
        answer.refused.sort_unstable_by_key(|(index, _)| *index);
        answer.months = months
            .into_iter()
            .map(|(month, used)| (month, used, limit))
            .collect();
        (answer, rows)
    }
}
