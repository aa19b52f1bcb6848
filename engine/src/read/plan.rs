//! Which parts of a snapshot a question has to look at.

use std::sync::Arc;

use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::segment::{Partition, SegmentReader};

use super::bounded::{Bounded, Limits};
use super::condition::Condition;
use super::constraints::Constraints;
use super::hot::HotPart;
use super::interrupt::Interrupt;
use super::matching::{Matching, part};
use super::meter::Stage;
use super::scan::{ScanPart, Source, ranges, row_groups, rows_of_group};
use crate::error::Error;
use crate::segment::Segment;
use crate::view::Snapshot;

/// A partition in a segment.
pub(crate) struct SealedPartition {
    pub(crate) segment: Arc<Segment>,
    pub(crate) reader: Arc<SegmentReader>,
    pub(crate) partition: Partition,
}

/// The bounds of the start of rows to be seen that lie within others.
pub(crate) fn visible_bounds(snapshot: &Snapshot, bounds: Limits) -> Limits {
    Limits {
        from: bounds.from.max(snapshot.horizon),
        ..bounds
    }
}

/// The parts of a team's rows that may fulfil a condition, as far as they are to be seen
/// and the indexes tell. The condition is to be evaluated on what is read.
pub(crate) fn plan(
    snapshot: &Snapshot,
    team: &TeamId,
    condition: &Condition,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<ScanPart>, Error> {
    let bounds = visible_bounds(snapshot, condition.starts());
    let mut parts = hot_scans(snapshot, team, bounds, interrupt)?;
    for sealed in partitions(snapshot, team, bounds, interrupt)? {
        let matching = Matching::new(sealed, interrupt);
        let rows = interrupt.meter().time(Stage::Indexes, || {
            let found = matching.may(condition, matching.all_rows())?;
            matching.visible(snapshot, found.rows)
        });
        parts.extend(sealed_parts(&matching, &rows?, bounds)?);
    }
    Ok(parts)
}

/// The parts of a team's rows that may have certain ids. These are to be compared on what
/// is read.
pub(crate) fn plan_by_ids(
    snapshot: &Snapshot,
    team: &TeamId,
    ids: &Constraints,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<ScanPart>, Error> {
    let bounds = visible_bounds(snapshot, ids.starts);
    let mut parts = hot_scans(snapshot, team, bounds, interrupt)?;
    for sealed in partitions(snapshot, team, bounds, interrupt)? {
        let matching = Matching::new(sealed, interrupt);
        let rows = interrupt.meter().time(Stage::Indexes, || {
            let rows = matching.narrowed(ids, matching.all_rows())?;
            matching.visible(snapshot, rows)
        });
        parts.extend(sealed_parts(&matching, &rows?, bounds)?);
    }
    Ok(parts)
}

/// The rows that are not sealed and may lie within bounds.
pub(crate) fn hot_parts(
    snapshot: &Snapshot,
    bounds: Limits,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<HotPart>, Error> {
    let meter = interrupt.meter();
    meter.time(Stage::Planning, || {
        let mut parts = Vec::with_capacity(snapshot.hot.len());
        for rows in &snapshot.hot {
            interrupt.check()?;
            let part = HotPart::new(rows.clone(), snapshot);
            let (first_start, last_start) = part.starts();
            if bounds.overlap(first_start, last_start) {
                meter.unsealed(part.len());
                parts.push(part);
            }
        }
        Ok(parts)
    })
}

/// The same as parts of a scan.
fn hot_scans(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Limits,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<ScanPart>, Error> {
    let parts = hot_parts(snapshot, bounds, interrupt)?.into_iter();
    let scans = parts.map(|part| ScanPart {
        source: Source::Hot(part),
        team: team.clone(),
        meter: interrupt.meter().clone(),
    });
    Ok(scans.collect())
}

/// The parts of some rows of a partition.
fn sealed_parts(
    matching: &Matching,
    rows: &RoaringBitmap,
    bounds: Limits,
) -> Result<Vec<ScanPart>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let SealedPartition {
        segment, partition, ..
    } = &matching.sealed;
    let mut parts = Vec::new();
    let reader = segment.row_reader()?;
    for group in row_groups(rows) {
        let range = reader
            .range(group, Bounded::Start.place(matching.sealed.reader.table()))
            .unwrap_or((i64::MIN, i64::MAX));
        // A row group may be shared with other teams.
        let first_start = range.0.max(partition.first_start);
        let last_start = range.1.min(partition.last_start);
        if bounds.overlap(first_start, last_start) {
            let rows = part(rows, rows_of_group(group));
            parts.push(ScanPart {
                source: Source::RowGroup {
                    segment: Arc::clone(segment),
                    rows: ranges(&rows).into(),
                },
                team: partition.team.clone(),
                meter: matching.interrupt.meter().clone(),
            });
        }
    }
    Ok(parts)
}

/// The partitions of a team in the segments of a snapshot.
pub(crate) fn partitions(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Limits,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<SealedPartition>, Error> {
    let meter = interrupt.meter();
    meter.time(Stage::Planning, || {
        let mut found = Vec::new();
        for segment in snapshot.segments.iter() {
            interrupt.check()?;
            let summary = segment.summary();
            if !segment.may_hold(team) || !bounds.overlap(summary.first_start, summary.last_start) {
                continue;
            }
            let reader = segment.reader()?;
            let partition = reader.directory().find(team);
            if let Some(partition) = partition.map_err(|error| segment.corrupt(error))?
                && bounds.overlap(partition.first_start, partition.last_start)
            {
                meter.segment();
                found.push(SealedPartition {
                    segment: Arc::clone(segment),
                    reader,
                    partition,
                });
            }
        }
        Ok(found)
    })
}
