//! Appends that a store remembers, so that one that is sent again is known.

use std::time::Duration;

use super::append::{Answer, Batch};
use super::facts::Facts;

/// How long a body is known.
const BODY_TIME: Duration = Duration::from_mins(10);
/// How long a key is known.
const KEY_TIME: Duration = Duration::from_hours(24);

/// In what form a batch comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Made in the process.
    Typed,
    /// A body in protobuf.
    Protobuf,
    /// A body in JSON.
    Json,
}

/// What tells that two batches are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    form: Form,
    is_any_time: bool,
    spans: Vec<Facts>,
}

impl Content {
    /// The content of a batch.
    pub(super) fn new(batch: &Batch) -> Self {
        Self {
            // A body without spans has no bytes, whatever it was.
            form: match batch.form {
                Form::Json if batch.spans.is_empty() => Form::Protobuf,
                form => form,
            },
            is_any_time: batch.is_any_time,
            spans: batch.spans.clone(),
        }
    }
}

/// An append that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    content: Content,
    /// None when its content makes it known.
    key: Option<Vec<u8>>,
    answer: Answer,
    /// When it was accepted, ns. Its record says the one; one that lay ahead of
    /// the clock when the store was opened may count from then on, the other.
    accepted: i64,
    earliest: i64,
    /// Whether the store may have forgotten it, or never knew it.
    is_doubtful: bool,
}

/// What is known of an append that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    New,
    Repeated { answer: Answer, is_key_new: bool },
    KeyReused,
}

/// What a store remembers of a team's appends, with their numbers.
#[derive(Debug, Clone, Default)]
pub struct Recent(Vec<(u64, Remembered)>);

impl Recent {
    /// What is known of an append; `trusts` says what to make of doubtful ones.
    pub(super) fn find(
        &self,
        content: &Content,
        key: Option<&Vec<u8>>,
        now: i64,
        trusts: bool,
    ) -> Known {
        let all = self.0.iter().rev().map(|(_, one)| one);
        let mut known = all.filter(|one| one.is_known(now, trusts));
        let of_key = key.and_then(|key| known.clone().find(|one| one.key.as_ref() == Some(key)));
        if let Some(one) = of_key {
            if one.content != *content {
                return Known::KeyReused;
            }
            return Known::Repeated {
                answer: one.answer.clone(),
                is_key_new: false,
            };
        }
        match known.find(|one| one.key.is_none() && one.content == *content) {
            Some(one) => Known::Repeated {
                answer: one.answer.clone(),
                is_key_new: key.is_some(),
            },
            None => Known::New,
        }
    }

    /// Remembers the append of a number.
    pub(super) fn remember(&mut self, number: u64, append: &Remembered) {
        self.0.push((number, append.clone()));
    }

    /// Takes in what another may know instead.
    pub(super) fn merge(&mut self, other: &Self) {
        let is_in = |all: &Self, wanted: &Remembered| {
            let mut sure = all.0.iter().filter(|(_, one)| !one.is_doubtful);
            sure.any(|(_, one)| one == wanted)
        };
        let own = self.clone();
        for (_, one) in &mut self.0 {
            one.is_doubtful |= !is_in(other, one);
        }
        let others = other.0.iter().filter(|(_, one)| !is_in(&own, one));
        let doubtful = others.map(|(number, one)| (*number, one.clone().doubtful()));
        self.0.extend(doubtful);
    }

    /// Appends were lost, from a number on.
    pub(super) fn lose_from(&mut self, number: u64) {
        self.0.retain(|(own, _)| *own < number);
    }

    /// Whether each is known is not known any more.
    pub fn doubt(&mut self) {
        for (_, one) in &mut self.0 {
            one.is_doubtful = true;
        }
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The store was opened at some time, and was last open at another.
    pub(super) fn reopened(&mut self, before: i64, now: i64) {
        for (_, one) in &mut self.0 {
            // It may be gone, also where the clock makes it young again.
            one.is_doubtful |= one.is_over(one.earliest, before);
            one.earliest = one.earliest.min(now);
        }
    }
}

impl Remembered {
    /// An append that is remembered from now on.
    pub(super) fn new(content: &Content, key: Option<&Vec<u8>>, answer: &Answer, now: i64) -> Self {
        Self {
            content: content.clone(),
            key: key.cloned(),
            answer: answer.clone(),
            accepted: now,
            earliest: now,
            is_doubtful: false,
        }
    }

    /// The same, of an append that may not have been.
    #[must_use]
    pub fn doubtful(mut self) -> Self {
        self.is_doubtful = true;
        self
    }

    fn is_over(&self, accepted: i64, now: i64) -> bool {
        let time = if self.key.is_some() {
            KEY_TIME
        } else {
            BODY_TIME
        };
        now.saturating_sub(accepted) >= super::nanos(time)
    }

    fn is_known(&self, now: i64, trusts: bool) -> bool {
        let is_certain = !self.is_doubtful && !self.is_over(self.earliest, now);
        is_certain || (trusts && !self.is_over(self.accepted, now))
    }
}
