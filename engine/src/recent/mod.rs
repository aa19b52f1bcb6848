//! What the store remembers of recent appends, so that one that is sent again is
//! known: bodies for minutes, idempotency keys for a day. The log holds what came
//! since the last seal, one file what came before.
//!
//! **Time.** While a store is open, an append ages by the monotonic clock: steps
//! of the wall clock change nothing. When a store is opened, the wall clock tells
//! how old an append is; one that lies ahead of it is as if it had just come.

mod file;
mod memory;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use spanstore_format::TeamId;
use spanstore_format::log::record::ReceiptRecord;

pub(crate) use self::file::RecentFiles;
use self::memory::{Memory, Noted};
use crate::clock::{Clock, elapsed, nanos};
use crate::error::Error;
use crate::options::StoreOptions;

/// What the store remembers of recent appends.
#[derive(Debug)]
pub(crate) struct Recent {
    clock: Arc<dyn Clock>,
    /// The wall clock and the monotonic clock when the store was opened.
    opened: (i64, u64),
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bodies: Memory<u128>,
    keys: Memory<Bytes>,
    next_number: u64,
}

/// An append that is to be remembered.
#[derive(Debug, Clone)]
pub(crate) struct Remember {
    /// When it was accepted, see [`Recent::now`].
    pub(crate) at: i64,
    /// Hash of its content.
    pub(crate) content: u128,
    /// Whether the same content is a repeat from now on.
    pub(crate) is_body: bool,
    /// Its idempotency key.
    pub(crate) key: Option<Bytes>,
    /// What the caller was told.
    pub(crate) receipt: ReceiptRecord,
}

/// What is known of an append that comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// Nothing.
    New,
    /// It came before, with this receipt.
    Repeated {
        receipt: ReceiptRecord,
        /// Whether it came with a key that is not known.
        is_key_new: bool,
    },
}

impl Recent {
    pub(crate) fn new(options: &StoreOptions, clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            opened: (clock.now_nanos(), clock.monotonic_nanos()),
            state: Mutex::new(State {
                bodies: Memory::new(options.repeats),
                keys: Memory::new(options.idempotency),
                next_number: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by which appends age: the wall clock's at open, and the monotonic
    /// clock's since, ns since 1970.
    pub(crate) fn now(&self) -> i64 {
        let (wall, monotonic) = self.opened;
        wall.saturating_add_unsigned(nanos(elapsed(&*self.clock, monotonic)))
    }

    /// Whether bodies are remembered, and keys.
    pub(crate) fn keeps(&self) -> (bool, bool) {
        let state = self.state();
        (state.bodies.is_on(), state.keys.is_on())
    }

    /// What is known of an append with some content, and with a key.
    ///
    /// # Errors
    /// [`Error::IdempotencyKeyReused`] when the key came with other content.
    pub(crate) fn find(
        &self,
        team: &TeamId,
        content: u128,
        key: Option<&Bytes>,
    ) -> Result<Known, Error> {
        let now = self.now();
        let state = self.state();
        let repeated = |noted: &Noted, is_key_new| {
            let receipt = ReceiptRecord::decode(&*noted.receipt);
            let receipt = receipt.map_err(|error| Error::internal("a receipt", &error))?;
            Ok(Known::Repeated {
                receipt,
                is_key_new,
            })
        };
        if let Some(noted) = key.and_then(|key| state.keys.get(team, key, now)) {
            if noted.content == content {
                return repeated(noted, false);
            }
            let age = now.saturating_sub(noted.at).max(0);
            return Err(Error::IdempotencyKeyReused {
                team: team.to_string(),
                age_seconds: age.cast_unsigned() / 1_000_000_000,
            });
        }
        match state.bodies.get(team, &content, now) {
            Some(noted) => repeated(noted, key.is_some() && state.keys.is_on()),
            None => Ok(Known::New),
        }
    }

    /// Remembers an append. To be called in the order of the log.
    pub(crate) fn remember(&self, team: &TeamId, append: Remember) {
        let Remember {
            at,
            content,
            is_body,
            key,
            receipt,
        } = append;
        let noted = Noted {
            // What lies ahead has just come.
            at: at.min(self.now()),
            content,
            receipt: receipt.encode_to_vec().into(),
        };
        let mut state = self.state();
        let state = &mut *state;
        if let Some(key) = key {
            // The caller's may be a part of something larger.
            let key = Bytes::copy_from_slice(&key);
            let number = state.next_number;
            state.next_number += 1;
            let bytes = key.len();
            state.keys.insert(number, team, key, bytes, noted.clone());
        }
        if is_body {
            let number = state.next_number;
            state.next_number += 1;
            state.bodies.insert(number, team, content, 0, noted);
        }
    }

    /// Forgets the appends of a team.
    pub(crate) fn forget(&self, team: &TeamId) {
        let mut state = self.state();
        state.bodies.forget(team);
        state.keys.forget(team);
    }

    /// Lets go of what is too old.
    pub(crate) fn expire(&self) {
        let now = self.now();
        let mut state = self.state();
        state.bodies.expire(now);
        state.keys.expire(now);
    }

    /// The number that the next append gets: all that are remembered have lower
    /// ones.
    pub(crate) fn bound(&self) -> u64 {
        self.state().next_number
    }
}
