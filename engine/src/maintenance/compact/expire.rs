//! Removing what retention has let go. Rows go with their month: those of a team
//! when all of the month lies beyond the team's retention.

use std::sync::Arc;
use std::time::Duration;

use spanstore_format::{Month, TeamId};

use super::merge::Merged;
use super::{CompactReport, Compactor, Extent, Tools};
use crate::clock::nanos;
use crate::error::Error;
use crate::options::StoreOptions;
use crate::segment::Segment;

/// What is removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    /// How long the month of a team must lie beyond retention before a segment
    /// is rewritten without it: what expires within that time goes together.
    /// Segments of which nothing is kept go at once.
    grace: Duration,
    /// Rows at which no further segment is rewritten.
    pub(super) rows: u64,
}

impl Expiry {
    /// All that is due.
    pub(super) const DUE: Self = Self {
        grace: Duration::from_hours(24),
        rows: u64::MAX,
    };
    /// All that there is.
    pub(super) const ALL: Self = Self {
        grace: Duration::ZERO,
        rows: u64::MAX,
    };

    /// What the background removes in an hour: about as much as 8 segments hold.
    pub(super) fn patrol(options: &StoreOptions) -> Self {
        Self {
            rows: options.segment_rows.saturating_mul(8),
            ..Self::DUE
        }
    }
}

impl Compactor {
    /// Whether a month of a team lies beyond its retention at a time; never
    /// while nothing is to be removed.
    pub(super) fn is_expired(&self, month: Month, team: &TeamId, cutoff: Option<i64>) -> bool {
        let horizon = cutoff.and_then(|cutoff| self.tools.settings.horizon(team, cutoff));
        horizon.is_some_and(|horizon| month.end_nanos() <= horizon)
    }

    /// Drops the segments of a month of which retention keeps nothing, and
    /// rewrites those with rows that it has let go as long as the budget of rows
    /// lasts.
    pub(super) fn expire_month(
        &self,
        month: Month,
        extent: Extent,
        budget: &mut u64,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let (Some(expiry), Some(cutoff), Some(shortest)) = (
            extent.expiry,
            self.tools.retention.cutoff(),
            self.tools.settings.shortest_retention(),
        ) else {
            return Ok(());
        };
        // What no team has let go is not looked at.
        if month.end_nanos() > cutoff.saturating_sub_unsigned(shortest) {
            return Ok(());
        }
        let (segments, _) = self.tools.view.sealed();
        let of_month = segments.iter().filter(|one| one.summary().month == month);
        // A damaged segment stays; the others need not.
        let mut failure = None;
        for segment in of_month {
            let expired = self.expire(segment, expiry, cutoff, extent.percent, budget, report);
            if let Err(error) = expired {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Removes sessions that were stopped in months that retention has let go.
    pub(super) fn expire_sessions(&self, extent: Extent) -> Result<(), Error> {
        let Tools {
            registry,
            health,
            retention,
            settings,
            segments,
            ..
        } = &self.tools;
        let (Some(_), Some(cutoff), Some(shortest)) = (
            extent.expiry,
            retention.cutoff(),
            settings.shortest_retention(),
        ) else {
            return Ok(());
        };
        health.check()?;
        let before = cutoff.saturating_sub_unsigned(shortest);
        let is_gone = |month, team: &TeamId| self.is_expired(month, team, Some(cutoff));
        loop {
            // No retention changes between the look and the removal.
            let _rewrite = segments.rewrite();
            if !health.committed(registry.expire(before, is_gone))? {
                return Ok(());
            }
        }
    }

    fn expire(
        &self,
        segment: &Arc<Segment>,
        expiry: Expiry,
        cutoff: i64,
        percent: u8,
        budget: &mut u64,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let month = segment.summary().month;
        let inputs = std::slice::from_ref(segment);
        let overdue = cutoff.saturating_sub_unsigned(nanos(expiry.grace));
        let (mut is_kept, mut is_overdue) = (false, false);
        let mut merged = Merged::default();
        let reader = segment.reader()?;
        for partition in reader.directory().partitions() {
            let partition = partition.map_err(|error| segment.corrupt(error))?;
            if !self.is_expired(month, &partition.team, Some(cutoff)) {
                is_kept = true;
                continue;
            }
            is_overdue |= self.is_expired(month, &partition.team, Some(overdue));
            let rows = u64::from(partition.rows.end - partition.rows.start);
            merged.expired.push(partition.team.clone());
            merged.removed.insert(partition.team, rows);
        }
        if !is_kept {
            self.commit(month, inputs, merged, report)?;
        } else if is_overdue && *budget > 0 {
            *budget = budget.saturating_sub(u64::from(segment.summary().rows));
            self.rewrite(month, inputs, percent, report)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::io::SimulatedDisk;
    use crate::runs::MOST_RUNS;
    use crate::{SpanBatchBuilder, SpanBuilder, SpanId, Store, TraceId};

    const DAY: Duration = Duration::from_hours(24);

    /// Of ten segments with rows of an expired team and of another, two are
    /// rewritten an hour.
    #[test]
    fn a_patrol_rewrites_so_many_rows() {
        let clock = Arc::new(ManualClock::new(1_794_700_800_000_000_000));
        let disk = Arc::new(SimulatedDisk::new());
        let options = StoreOptions {
            background: false,
            segment_rows: 1,
            ..StoreOptions::default()
        };
        let store = Store::open_on(disk, "/store", options.clone(), clock.clone()).unwrap();
        let [gone, kept] = ["gone", "kept"].map(|name| store.team(&TeamId::new(name).unwrap()));
        for month in 1..=10u64 {
            for team in [&gone, &kept] {
                let start = month * 31 * 86_400_000_000_000;
                let spans = (1..=3u64).map(|n| {
                    SpanBuilder::new(TraceId([n as u8; 16]), SpanId([n as u8; 8]), "span")
                        .times(start, start + 1)
                });
                let batch = spans.fold(SpanBatchBuilder::new(), SpanBatchBuilder::span);
                team.append(batch.build().any_time()).unwrap();
            }
            store.seal().unwrap();
        }
        gone.set_retention(Some(DAY)).unwrap();
        let compactor = &gone.parts.compactor;
        let patrol = |percent| Extent {
            most_runs: Some(MOST_RUNS),
            expiry: Some(Expiry::patrol(&options)),
            percent,
        };
        for _ in 0..5 {
            let report = compactor.attempt(patrol(100)).unwrap();
            assert_eq!((report.segments_before, report.rows_removed), (2, 6));
        }
        assert_eq!(
            compactor.attempt(patrol(100)).unwrap(),
            CompactReport::default()
        );
        assert_eq!(store.check().unwrap().damage, []);
    }
}
