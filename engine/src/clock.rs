//! Time as a parameter, so that tests choose it.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now, in ns since 1970. The time of the wall may leap, also backwards.
    fn now_nanos(&self) -> i64;

    /// The time that has passed since some moment of this process, in ns. It
    /// never goes backwards and never leaps: what waits is measured by it.
    fn monotonic_nanos(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The wall clock had leapt when the store was opened, too far to remove
/// anything by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockLeap {
    /// The time that the store had kept, ns since 1970.
    pub kept_nanos: i64,
    /// What the wall clock shows, ns since 1970.
    pub clock_nanos: i64,
}

/// The system's time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_nanos(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        })
    }
}

/// A time that stands still until it is set or advanced.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `nanos` since 1970.
    pub fn new(nanos: i64) -> Self {
        Self {
            wall: AtomicI64::new(nanos),
            monotonic: AtomicU64::new(0),
        }
    }

    /// Lets the wall clock leap to `nanos` since 1970. No time passes.
    pub fn set(&self, nanos: i64) {
        self.wall.store(nanos, Ordering::Relaxed);
    }

    /// Lets time pass; time beyond what 64 bits hold does not.
    pub fn advance(&self, time: Duration) {
        let wall = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let monotonic = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // The closures always answer, so neither update can fail.
        self.wall
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_add(wall))
            })
            .ok();
        self.monotonic
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_add(monotonic))
            })
            .ok();
    }
}

impl Clock for ManualClock {
    fn now_nanos(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.monotonic.load(Ordering::Relaxed)
    }
}

/// Time that has passed by a clock since one of its monotonic times.
pub(crate) fn elapsed(clock: &dyn Clock, since: u64) -> Duration {
    Duration::from_nanos(clock.monotonic_nanos().saturating_sub(since))
}

/// A duration in ns; what exceeds 584 years counts as that.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
