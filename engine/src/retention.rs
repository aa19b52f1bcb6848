//! The time that removal relies on.
//!
//! Readers and appends follow the wall clock: nothing is removed by it, and a
//! clock that is put right shows everything again. Rows are removed from files
//! by a time of the store's own, so that one wrong reading of a clock drops
//! nothing. It is kept in the catalog. While the store is open it advances with
//! the monotonic clock. At open it follows the wall clock when that has gone
//! forwards by at most [`MOST_LEAP`]; when the wall clock has gone backwards, it
//! stays. After a longer leap nothing is removed until a caller accepts the
//! wall clock. In no case is anything removed that readers would still see.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::clock::{Clock, ClockLeap, nanos};
use crate::error::Error;
use crate::health::Health;

/// How far the wall clock may be ahead at open of the time that was kept.
const MOST_LEAP: Duration = Duration::from_hours(31 * 24);
/// How far the time advances before it is kept again, seals aside.
const KEEP_EVERY: Duration = Duration::from_hours(24);

/// The time that removal relies on.
#[derive(Debug)]
pub(crate) struct RetentionClock {
    clock: Arc<dyn Clock>,
    catalog: Arc<Catalog>,
    health: Arc<Health>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The time, ns since 1970, at a moment of the monotonic clock.
    time: i64,
    at: u64,
    /// Whether nothing is removed until the wall clock is accepted.
    is_waiting: bool,
    /// What the catalog has.
    kept: Option<i64>,
}

impl RetentionClock {
    /// The time that the catalog has kept, brought forward by the wall clock. A
    /// store that has kept none begins with the wall clock.
    pub(crate) fn open(
        catalog: &Arc<Catalog>,
        health: &Arc<Health>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let kept = catalog.retention_clock()?;
        let wall = clock.now_nanos();
        let leap = kept.map_or(0, |kept| wall.saturating_sub(kept).max(0));
        let is_waiting = leap.unsigned_abs() > nanos(MOST_LEAP);
        let time = match kept {
            Some(kept) if is_waiting || wall < kept => kept,
            _ => wall,
        };
        if is_waiting {
            tracing::warn!(kept, wall, "retention removes nothing: the clock has leapt");
        }
        Ok(Self {
            clock: Arc::clone(clock),
            catalog: Arc::clone(catalog),
            health: Arc::clone(health),
            state: Mutex::new(State {
                time,
                at: clock.monotonic_nanos(),
                is_waiting,
                kept,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self, state: &State) -> i64 {
        let passed = self.clock.monotonic_nanos().saturating_sub(state.at);
        state.time.saturating_add_unsigned(passed)
    }

    /// The time to remove by, ns since 1970; none while nothing is to be.
    pub(crate) fn cutoff(&self) -> Option<i64> {
        let state = self.state();
        // Readers see what lies within retention by the wall clock.
        let time = self.time(&state).min(self.clock.now_nanos());
        (!state.is_waiting).then_some(time)
    }

    /// The time to keep with a commit that is made anyway; none when what is
    /// kept is to stay.
    pub(crate) fn to_keep(&self) -> Option<i64> {
        let state = self.state();
        (!state.is_waiting).then(|| self.time(&state))
    }

    /// Notes that the catalog has kept a time.
    pub(crate) fn was_kept(&self, time: i64) {
        self.state().kept = Some(time);
    }

    /// Keeps the time when it has advanced a lot since it was.
    pub(crate) fn keep_if_due(&self) -> Result<(), Error> {
        let Some(time) = self.to_keep() else {
            return Ok(());
        };
        // The first seal keeps the first: before there is nothing to remove.
        let kept = self.state().kept.unwrap_or(time);
        if time.saturating_sub(kept) >= nanos(KEEP_EVERY).cast_signed() {
            self.health.check()?;
            self.health
                .committed(self.catalog.set_retention_clock(time))?;
            self.was_kept(time);
        }
        Ok(())
    }

    /// Takes over what the wall clock shows, durably.
    pub(crate) fn accept(&self) -> Result<(), Error> {
        self.health.check()?;
        let mut state = self.state();
        let (time, at) = (self.clock.now_nanos(), self.clock.monotonic_nanos());
        self.health
            .committed(self.catalog.set_retention_clock(time))?;
        *state = State {
            time,
            at,
            is_waiting: false,
            kept: Some(time),
        };
        Ok(())
    }

    /// The leap that waits to be accepted.
    pub(crate) fn leap(&self) -> Option<ClockLeap> {
        let state = self.state();
        state.is_waiting.then(|| ClockLeap {
            kept_nanos: state.time,
            clock_nanos: self.clock.now_nanos(),
        })
    }
}
