//! When the compactor looks again: at each month that failed after a while, and
//! at what retention has let go every hour.

use std::collections::HashMap;
use std::time::Duration;

use spanstore_format::Month;

use crate::clock::nanos;

/// How often the background looks for what retention has let go.
const PATROL: Duration = Duration::from_hours(1);
/// How soon a month that failed is tried again; each time twice as late.
const RETRY: Duration = Duration::from_secs(5);

/// What is due when, by the monotonic clock, ns.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    patrolled: Option<u64>,
    failed: HashMap<Month, Failed>,
}

/// A month whose merge failed.
#[derive(Debug, Clone, Copy)]
struct Failed {
    /// When it is tried again.
    next: u64,
    pause: Duration,
}

impl Schedule {
    /// How long to wait for a seal before something else is due.
    pub(super) fn patience(&self, now: u64) -> Duration {
        let patrol = self.patrolled.unwrap_or(now).saturating_add(nanos(PATROL));
        let months = self.failed.values().map(|failed| failed.next);
        let next = months.fold(patrol, u64::min);
        Duration::from_nanos(next.saturating_sub(now))
    }

    /// Whether it is time to look for what retention has let go.
    pub(super) fn is_patrol_due(&self, now: u64) -> bool {
        self.patrolled
            .is_none_or(|last| now.saturating_sub(last) >= nanos(PATROL))
    }

    pub(super) fn patrolled(&mut self, now: u64) {
        self.patrolled = Some(now);
    }

    /// Whether a month may be tried.
    pub(super) fn is_due(&self, month: Month, now: u64) -> bool {
        self.failed
            .get(&month)
            .is_none_or(|failed| failed.next <= now)
    }

    pub(super) fn succeeded(&mut self, month: Month) {
        self.failed.remove(&month);
    }

    pub(super) fn failed(&mut self, month: Month, now: u64) {
        let before = self.failed.get(&month);
        let pause = before.map_or(RETRY, |failed| (failed.pause * 2).min(PATROL));
        let next = now.saturating_add(nanos(pause));
        self.failed.insert(month, Failed { next, pause });
    }

    /// Whether some month failed and has not succeeded since.
    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Forgets months that have no segments any more.
    pub(super) fn keep_months(&mut self, months: &[Month]) {
        self.failed.retain(|month, _| months.contains(month));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_ends_with_the_first_that_is_due() {
        let second = 1_000_000_000;
        let mut schedule = Schedule::default();
        assert!(schedule.is_patrol_due(0));
        assert_eq!(schedule.patience(7), PATROL);
        schedule.patrolled(0);
        assert_eq!(schedule.patience(second), Duration::from_secs(3_599));
        assert!(!schedule.is_patrol_due(nanos(PATROL) - 1));
        assert!(schedule.is_patrol_due(nanos(PATROL)));
        let (one, other) = (Month::of(0), Month::of(i64::MAX));
        schedule.failed(one, second);
        assert_eq!(schedule.patience(second), RETRY);
        schedule.failed(one, 6 * second);
        schedule.failed(other, 6 * second);
        assert_eq!(schedule.patience(8 * second), Duration::from_secs(3));
        assert!(schedule.is_due(other, 11 * second) && !schedule.is_due(one, 11 * second));
        schedule.keep_months(&[other]);
        assert!(schedule.is_due(one, 0) && schedule.has_failures());
        schedule.succeeded(other);
        assert!(!schedule.has_failures());
        for _ in 0..20 {
            schedule.failed(one, 0);
        }
        assert!(!schedule.is_due(one, nanos(PATROL) - 1));
        assert!(schedule.is_due(one, nanos(PATROL)));
    }
}
