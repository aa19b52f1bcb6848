//! Which parts of a snapshot a question has to look at.

use std::sync::Arc;

use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::segment::{Id, Partition, SegmentReader};

use super::bounded::{Bounded, Limits};
use super::condition::Condition;
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

/// The parts of a team's rows that may have an id, which is to be compared on what is
/// read.
pub(crate) fn plan_by_id(
    snapshot: &Snapshot,
    team: &TeamId,
    id: Id<'_>,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<ScanPart>, Error> {
    let bounds = visible_bounds(snapshot, Limits::default());
    let mut parts = Vec::new();
    if !snapshot.hot.is_empty() {
        parts = hot_scans(snapshot, team, bounds, interrupt)?;
    }
    // An absent id takes about as long as reading the clock a few times: the search in
    // all segments is timed as one.
    let meter = interrupt.meter();
    let found = meter.time(Stage::Indexes, || {
        let mut found = Vec::new();
        for segment in snapshot.segments.iter() {
            if let Some(sealed) = partition_in(segment, team, bounds, &**interrupt)? {
                let rows = sealed.reader.find(&sealed.partition, id);
                let rows = rows.map_err(|error| segment.corrupt(error))?;
                found.extend(rows.map(|rows| (sealed, rows)));
            }
        }
        Ok::<_, Error>(found)
    });
    for (sealed, rows) in found? {
        let matching = Matching::new(sealed, interrupt);
        let rows = meter.time(Stage::Indexes, || matching.visible(snapshot, rows));
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
pub(crate) fn hot_scans(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Limits,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<ScanPart>, Error> {
    let parts = hot_parts(snapshot, bounds, interrupt)?.into_iter();
    let scans = parts.map(|part| ScanPart {
        table: snapshot.table,
        source: Source::Hot(part),
        team: team.clone(),
        meter: interrupt.meter().clone(),
    });
    Ok(scans.collect())
}

/// The parts of some rows of a partition.
pub(super) fn sealed_parts(
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
                table: matching.sealed.reader.table(),
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
    interrupt.meter().time(Stage::Planning, || {
        let segments = snapshot.segments.iter();
        let found = segments.map(|segment| partition_in(segment, team, bounds, &**interrupt));
        found.filter_map(Result::transpose).collect()
    })
}

/// The partition of a team in a segment, if it may have rows within bounds.
fn partition_in(
    segment: &Arc<Segment>,
    team: &TeamId,
    bounds: Limits,
    interrupt: &dyn Interrupt,
) -> Result<Option<SealedPartition>, Error> {
    interrupt.check()?;
    let summary = segment.summary();
    if !segment.may_hold(team) || !bounds.overlap(summary.first_start, summary.last_start) {
        return Ok(None);
    }
    let reader = segment.reader()?;
    let partition = reader.directory().find(team);
    let partition = partition.map_err(|error| segment.corrupt(error))?;
    let partition = partition.filter(|one| bounds.overlap(one.first_start, one.last_start));
    Ok(partition.map(|partition| {
        interrupt.meter().segment();
        SealedPartition {
            segment: Arc::clone(segment),
            reader,
            partition,
        }
    }))
}
