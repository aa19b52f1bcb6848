//! What a run draws from its seed.

use std::time::Duration;

use rand::Rng;
use spanstore::{Durability, ReadBy, StoreOptions};
use spanstore_test_support::quiet;

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Steps.
    pub(crate) steps: u32,
    /// A fault is planned once in so many steps.
    pub(crate) fault_odds: u32,
    /// Whether there are faults.
    pub(crate) has_faults: bool,
    /// Teams.
    pub(crate) teams: usize,
    /// Traces of a team.
    pub(crate) traces: u64,
    /// When batches are acknowledged.
    pub(crate) durability: Durability,
    /// Spans that teams may write, about.
    pub(crate) quota: u64,
}

impl Setting {
    /// Draws a setting.
    pub(crate) fn draw(random: &mut impl Rng) -> Self {
        Self {
            steps: random.random_range(20..70),
            fault_odds: random.random_range(2..8),
            has_faults: random.random_bool(0.85),
            teams: random.random_range(1..=4),
            traces: random.random_range(3..12),
            durability: match random.random_range(0..8) {
                0 => Durability::None,
                1 => Durability::Interval(Duration::from_secs(random.random_range(1..100_000))),
                _ => Durability::Sync,
            },
            quota: random.random_range(10..120),
        }
    }

    /// Draws the options of an open.
    pub(crate) fn options(&self, random: &mut impl Rng) -> StoreOptions {
        let mut options = quiet();
        options.durability = self.durability;
        options.plan_limits.hobby = self.quota;
        options.plan_limits.pro = self.quota * 2;
        options.plan_limits.enterprise = self.quota / 2;
        options.query_limits.threads = 1;
        options.open_files = random.random_range(1..6);
        options.cache_bytes = if random.random_bool(0.5) { 0 } else { 1 << 20 };
        options.segment_rows = random.random_range(1..40);
        options.gather_rows = options.segment_rows as usize;
        // What `maintain` finds due.
        options.seal_rows = random.random_range(1..60);
        options.seal_age = random
            .random_bool(0.5)
            .then(|| Duration::from_secs(random.random_range(1..100_000)));
        options.compaction_percent = 100;
        // Operations of the disk come in one order.
        options.compaction_threads = 1;
        options.read_by = if random.random_bool(0.5) {
            ReadBy::Map
        } else {
            ReadBy::Pread
        };
        options
    }
}
