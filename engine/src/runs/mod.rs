//! Runs of segments: which there are, which of them are to be merged, and how far
//! merging is behind.

mod policy;
#[cfg(test)]
mod timed;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use spanstore_format::{Month, SegmentId};

use self::policy::Run;
pub(crate) use self::policy::{MOST_RUNS, MOST_RUNS_IN_HASTE};
use crate::segment::Segment;

/// Segments of one partition above which merges work more of the time.
const FEW: u64 = 8;
/// Segments of one partition from which on merges work all the time, and above which
/// appends are slowed down.
const MANY: u64 = 12;
/// What an appended row takes at least while a partition lies in 13, 14, 15, and 16 or
/// more segments, in microseconds.
const ROW_MICROS: [u64; 4] = [5, 20, 100, 1_000];
/// How long appends wait at most after each group of them.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The segments of one run.
pub(crate) type Segments = Vec<Arc<Segment>>;

/// How far merging is behind, by the months as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeDebt {
    /// Segments that one partition may lie in, in the month that has most of them.
    /// With up to 8 merging is not behind.
    pub segments: u64,
    /// Rows that the merges that are due now will write, over all months.
    pub rows: u64,
    /// Bytes of the segments that these merges will replace.
    pub bytes: u64,
}

impl MergeDebt {
    /// The debt of a store with these segments.
    pub(crate) fn of(segments: &[Arc<Segment>]) -> Self {
        let months: BTreeSet<Month> = segments.iter().map(|one| one.summary().month).collect();
        let mut debt = Self::default();
        for month in months {
            let runs = of_month(segments, month);
            debt.segments = debt.segments.max(runs.len() as u64);
            let due = due(&runs, MOST_RUNS).unwrap_or(0);
            for segment in runs.iter().rev().take(due).flatten() {
                debt.rows += u64::from(segment.summary().rows);
                debt.bytes += segment.summary().bytes;
            }
        }
        debt
    }

    /// The share of its time, in percent, that merging works: `percent` while it is
    /// not behind, more the further it is.
    pub(crate) fn share(&self, percent: u8) -> u8 {
        let percent = percent.clamp(1, 100);
        let behind = self.segments.clamp(FEW, MANY) - FEW;
        percent + (u64::from(100 - percent) * behind / (MANY - FEW)) as u8
    }

    /// How long appends wait after a group of so many rows: merging would fall behind
    /// for ever otherwise.
    pub(crate) fn wait_after(&self, rows: u64) -> Duration {
        let Some(above) = self.segments.checked_sub(MANY + 1) else {
            return Duration::ZERO;
        };
        let step = (above as usize).min(ROW_MICROS.len() - 1);
        let micros = ROW_MICROS.get(step).copied().unwrap_or(0);
        Duration::from_micros(rows.saturating_mul(micros)).min(LONGEST_WAIT)
    }
}

/// The runs of a month, the oldest run first: that of the highest level, and of
/// those of a level the one with the lowest id.
pub(crate) fn of_month(segments: &[Arc<Segment>], month: Month) -> Vec<Segments> {
    let of_month = segments.iter().filter(|one| one.summary().month == month);
    let mut by_run: HashMap<SegmentId, Segments> = HashMap::new();
    for segment in of_month {
        let run = segment.summary().run;
        by_run.entry(run).or_default().push(Arc::clone(segment));
    }
    let mut runs: Vec<_> = by_run.into_values().collect();
    runs.sort_unstable_by_key(|run| {
        let first = run.first().map(|one| one.summary());
        first.map(|one| (std::cmp::Reverse(one.level), one.run))
    });
    runs
}

/// How many of the last runs of a month to merge into one; none when there are no more
/// than `most`.
pub(crate) fn due(runs: &[Segments], most: usize) -> Option<usize> {
    let runs = runs.iter().map(|run| Run {
        level: run.iter().map(|one| one.summary().level).max().unwrap_or(0),
        rows: run.iter().map(|one| u64::from(one.summary().rows)).sum(),
    });
    policy::due(&runs.collect::<Vec<_>>(), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(segments: u64) -> MergeDebt {
        MergeDebt {
            segments,
            ..MergeDebt::default()
        }
    }

    #[test]
    fn merges_take_precedence_as_the_debt_grows() {
        let shares = [0, 8, 9, 10, 11, 12, 13, 100].map(|segments| debt(segments).share(50));
        assert_eq!(shares, [50, 50, 62, 75, 87, 100, 100, 100]);
        assert_eq!(debt(8).share(0), 1);
        assert_eq!(debt(12).share(0), 100);
        assert_eq!(debt(0).share(200), 100);
    }

    #[test]
    fn appends_wait_a_little_and_only_above_twelve_segments() {
        let waits = [0, 12, 13, 14, 15, 16, 17, 1_000].map(|n| debt(n).wait_after(500));
        let millis = waits.map(|wait| wait.as_millis());
        assert_eq!(millis, [0, 0, 2, 10, 50, 500, 500, 500]);
        assert_eq!(debt(16).wait_after(u64::MAX), Duration::from_secs(1));
        assert_eq!(debt(16).wait_after(0), Duration::ZERO);
    }
}
