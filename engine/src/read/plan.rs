//! Which parts of a snapshot a question has to look at.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{max, min};
use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::segment::{Partition, SegmentReader};
use spanstore_format::span::SpanColumn;

use super::condition::{Bounds, Condition, Constraints};
use super::interrupt::Interrupt;
use super::matching::{Matching, part};
use super::scan::{ScanPart, Source, filter, ranges, row_groups, rows_of_group};
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
pub(crate) fn visible_bounds(snapshot: &Snapshot, bounds: Bounds) -> Bounds {
    Bounds {
        since: bounds.since.max(snapshot.horizon),
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
    let bounds = visible_bounds(snapshot, condition.bounds());
    let mut parts = hot_parts(snapshot, team, bounds, interrupt)?;
    for sealed in partitions(snapshot, team, bounds, interrupt)? {
        let matching = Matching::new(sealed, interrupt);
        let found = matching.may(condition, matching.all_rows())?;
        let rows = matching.visible(snapshot, found.rows)?;
        parts.extend(sealed_parts(&matching.sealed, &rows, bounds)?);
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
    let bounds = visible_bounds(snapshot, ids.bounds());
    let mut parts = hot_parts(snapshot, team, bounds, interrupt)?;
    for sealed in partitions(snapshot, team, bounds, interrupt)? {
        let matching = Matching::new(sealed, interrupt);
        let rows = matching.narrowed(ids, matching.all_rows())?;
        let rows = matching.visible(snapshot, rows)?;
        parts.extend(sealed_parts(&matching.sealed, &rows, bounds)?);
    }
    Ok(parts)
}

/// The parts of rows that are not sealed.
pub(crate) fn hot_parts(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Bounds,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<ScanPart>, Error> {
    let mut parts = Vec::new();
    for batch in &snapshot.hot {
        interrupt.check()?;
        let (first_start, last_start) = start_range(&batch.rows);
        if !bounds.overlap(first_start, last_start) {
            continue;
        }
        let rows = match snapshot.horizon {
            Some(horizon) if first_start < horizon => since(&batch.rows, horizon)?,
            _ => batch.rows.clone(),
        };
        parts.push(ScanPart {
            source: Source::Hot(rows),
            team: team.clone(),
            first_start,
            last_start,
        });
    }
    Ok(parts)
}

/// The parts of some rows of a partition.
fn sealed_parts(
    sealed: &SealedPartition,
    rows: &RoaringBitmap,
    bounds: Bounds,
) -> Result<Vec<ScanPart>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let SealedPartition {
        segment, partition, ..
    } = sealed;
    let mut parts = Vec::new();
    let reader = segment.row_reader()?;
    for group in row_groups(rows) {
        let range = reader
            .range(group, SpanColumn::StartTime.place())
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
                first_start,
                last_start,
            });
        }
    }
    Ok(parts)
}

/// The partitions of a team in the segments of a snapshot.
pub(crate) fn partitions(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Bounds,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<SealedPartition>, Error> {
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
            found.push(SealedPartition {
                segment: Arc::clone(segment),
                reader,
                partition,
            });
        }
    }
    Ok(found)
}

/// The rows of a batch that start at or after a time.
fn since(rows: &RecordBatch, horizon: i64) -> Result<RecordBatch, Error> {
    let starts = SpanColumn::StartTime.times(rows);
    let starts = starts.map_err(|error| Error::corrupt("hot rows", error))?;
    filter(rows, |row| starts.value(row) >= horizon)
}

fn start_range(rows: &RecordBatch) -> (i64, i64) {
    let starts = SpanColumn::StartTime.times(rows).ok();
    let range = starts.and_then(|starts| min(starts).zip(max(starts)));
    range.unwrap_or((i64::MIN, i64::MAX))
}
