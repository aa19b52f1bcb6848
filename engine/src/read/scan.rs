//! Which rows of which parts a query has to look at, and reading them.
//!
//! The team is not a condition here: it is the rows that the scan is made of,
//! and the column `team_id` of what was read is compared again.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, max, min, take_record_batch};
use arrow::datatypes::TimestampNanosecondType;
use roaring::RoaringBitmap;
use spanstore_format::segment::layout::ROW_GROUP_ROWS;
use spanstore_format::segment::{Partition, SegmentReader};
use spanstore_format::span::schema::{START_TIME, TEAM_ID, schema};
use spanstore_format::{FormatError, TeamId, TraceId};

use crate::error::Error;
use crate::hot::HotBatch;
use crate::segment::Segment;
use crate::view::Snapshot;

/// What rows must fulfil, as far as indexes can tell. An index may answer too
/// many rows, so the conditions are evaluated again on what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Constraints {
    /// The trace is one of these.
    pub(crate) trace_ids: Option<BTreeSet<TraceId>>,
    /// The session is one of these.
    pub(crate) session_ids: Option<BTreeSet<String>>,
    /// The start lies at or after this, ns since 1970.
    pub(crate) since: Option<i64>,
    /// The start lies before this, ns since 1970.
    pub(crate) until: Option<i64>,
}

impl Constraints {
    /// Whether a part whose starts lie between these may hold rows.
    fn may_hold(&self, first_start: i64, last_start: i64) -> bool {
        self.since.is_none_or(|since| last_start >= since)
            && self.until.is_none_or(|until| first_start < until)
    }
}

/// A part of a scan: rows of one hot batch, or of one row group.
#[derive(Debug, Clone)]
pub(crate) struct ScanPart {
    source: Source,
    team: TeamId,
    /// Earliest start of a row, ns since 1970.
    pub(crate) first_start: i64,
    /// Latest start of a row, ns since 1970.
    pub(crate) last_start: i64,
}

#[derive(Debug, Clone)]
enum Source {
    Hot(Arc<HotBatch>),
    RowGroup {
        segment: Arc<Segment>,
        /// Row numbers in the segment, in rising, disjoint ranges.
        rows: Arc<[Range<u32>]>,
    },
}

/// The parts of a team's rows that may fulfil the constraints.
pub(crate) fn plan(
    snapshot: &Snapshot,
    team: &TeamId,
    constraints: &Constraints,
) -> Result<Vec<ScanPart>, Error> {
    let mut parts = Vec::new();
    for batch in &snapshot.hot {
        let (first_start, last_start) = start_range(&batch.rows);
        if constraints.may_hold(first_start, last_start) {
            let source = Source::Hot(Arc::clone(batch));
            parts.push(ScanPart {
                source,
                team: team.clone(),
                first_start,
                last_start,
            });
        }
    }
    for segment in snapshot.segments.iter() {
        let summary = segment.summary();
        if !constraints.may_hold(summary.first_start, summary.last_start) {
            continue;
        }
        let reader = segment.reader()?;
        let found = reader.directory().find(team);
        let Some(partition) = found.map_err(|error| segment.corrupt(error))? else {
            continue;
        };
        if !constraints.may_hold(partition.first_start, partition.last_start) {
            continue;
        }
        let rows = candidate_rows(reader, &partition, constraints);
        let rows = rows.map_err(|error| segment.corrupt(error))?;
        for (group, rows) in by_row_group(rows) {
            let range = reader
                .time_range(group, START_TIME)
                .map_err(|error| segment.corrupt(error))?
                .unwrap_or((i64::MIN, i64::MAX));
            // A row group may be shared with other teams.
            let first_start = range.0.max(partition.first_start);
            let last_start = range.1.min(partition.last_start);
            if constraints.may_hold(first_start, last_start) {
                let source = Source::RowGroup {
                    segment: Arc::clone(segment),
                    rows: rows.into(),
                };
                parts.push(ScanPart {
                    source,
                    team: team.clone(),
                    first_start,
                    last_start,
                });
            }
        }
    }
    Ok(parts)
}

/// The rows of a partition that the indexes leave.
fn candidate_rows(
    reader: &SegmentReader,
    partition: &Partition,
    constraints: &Constraints,
) -> Result<Vec<Range<u32>>, FormatError> {
    let mut rows: Option<RoaringBitmap> = None;
    if let Some(traces) = &constraints.trace_ids {
        let mut found = RoaringBitmap::new();
        for trace in traces {
            if let Some(run) = reader.trace(partition, *trace)? {
                found.insert_range(run);
            }
        }
        rows = Some(found);
    }
    if let Some(sessions) = &constraints.session_ids {
        let mut found = RoaringBitmap::new();
        for session in sessions {
            if let Some(posting) = reader.session(partition, session)? {
                found |= posting;
            }
        }
        rows = Some(rows.map_or(found.clone(), |rows| rows & found));
    }
    Ok(rows.map_or_else(|| vec![partition.rows.clone()], |rows| ranges(&rows)))
}

/// The row numbers of a bitmap as ranges.
pub(crate) fn ranges(rows: &RoaringBitmap) -> Vec<Range<u32>> {
    let mut iter = rows.iter();
    std::iter::from_fn(|| iter.next_range())
        .map(|range| *range.start()..range.end().saturating_add(1))
        .collect()
}

/// Cuts ranges at the borders of row groups.
fn by_row_group(ranges: Vec<Range<u32>>) -> Vec<(u32, Vec<Range<u32>>)> {
    let mut groups: Vec<(u32, Vec<Range<u32>>)> = Vec::new();
    for mut range in ranges {
        while range.start < range.end {
            let group = range.start / ROW_GROUP_ROWS;
            let end = range.end.min((group + 1).saturating_mul(ROW_GROUP_ROWS));
            let piece = range.start..end;
            match groups.last_mut() {
                Some((last, pieces)) if *last == group => pieces.push(piece),
                _ => groups.push((group, vec![piece])),
            }
            range.start = end;
        }
    }
    groups
}

fn start_range(rows: &RecordBatch) -> (i64, i64) {
    let starts = rows
        .column_by_name(START_TIME)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    let range = starts.and_then(|starts| min(starts).zip(max(starts)));
    range.unwrap_or((i64::MIN, i64::MAX))
}

/// The batches of a part, read one by one.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

impl ScanPart {
    /// Rows of the part.
    pub(crate) fn rows(&self) -> u64 {
        match &self.source {
            Source::Hot(batch) => batch.rows.num_rows() as u64,
            Source::RowGroup { rows, .. } => rows
                .iter()
                .map(|range| u64::from(range.end - range.start))
                .sum(),
        }
    }

    /// Reads columns, given by their places in the span schema, in batches of
    /// at most `batch_rows` rows. The columns come in the order given.
    pub(crate) fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches, Error> {
        match &self.source {
            Source::Hot(batch) => {
                let projected = project(&batch.rows, columns);
                Ok(Box::new(std::iter::once(projected)))
            }
            Source::RowGroup { segment, rows } => {
                self.read_rows(segment, rows, columns, batch_rows)
            }
        }
    }

    /// Reads some rows of the part, given by their numbers in the order in
    /// which [`ScanPart::read`] hands them out; in that order.
    pub(crate) fn fetch(
        &self,
        places: &[u32],
        columns: &[usize],
    ) -> Result<Vec<RecordBatch>, Error> {
        match &self.source {
            Source::Hot(batch) => {
                let projected = project(&batch.rows, columns)?;
                let places = arrow::array::UInt32Array::from(places.to_vec());
                let rows = take_record_batch(&projected, &places);
                Ok(vec![
                    rows.map_err(|error| columns_error("hot rows", &error))?,
                ])
            }
            Source::RowGroup { segment, rows } => {
                let wanted = ranges(&numbers(rows, places));
                self.read_rows(segment, &wanted, columns, places.len())?
                    .collect()
            }
        }
    }

    fn read_rows(
        &self,
        segment: &Arc<Segment>,
        rows: &[Range<u32>],
        columns: &[usize],
        batch_rows: usize,
    ) -> Result<Batches, Error> {
        let team_column = schema()
            .index_of(TEAM_ID)
            .map_err(|error| columns_error("span schema", &error))?;
        let mut sorted: Vec<usize> = columns.iter().copied().chain([team_column]).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let places: Vec<usize> = columns
            .iter()
            .filter_map(|column| sorted.binary_search(column).ok())
            .collect();
        let team_place = sorted.binary_search(&team_column).unwrap_or_default();
        let reader = segment.reader()?;
        let batches = reader
            .read(rows, &sorted, batch_rows)
            .map_err(|error| segment.corrupt(error))?;
        let (segment, team) = (Arc::clone(segment), self.team.clone());
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch.map_err(|error| damaged(&segment, &error))?;
            check_team(&batch, team_place, &team).map_err(|error| segment.corrupt(error))?;
            batch
                .project(&places)
                .map_err(|error| columns_error("segment", &error))
        })))
    }
}

/// The row numbers at some places of ranges.
fn numbers(rows: &[Range<u32>], places: &[u32]) -> RoaringBitmap {
    let mut numbers = RoaringBitmap::new();
    let mut ranges = rows.iter();
    let mut range = ranges.next();
    let mut before = 0;
    for place in places {
        while let Some(current) = range {
            let length = current.end - current.start;
            if place - before < length {
                numbers.insert(current.start + (place - before));
                break;
            }
            before += length;
            range = ranges.next();
        }
    }
    numbers
}

fn project(rows: &RecordBatch, columns: &[usize]) -> Result<RecordBatch, Error> {
    rows.project(columns)
        .map_err(|error| columns_error("hot rows", &error))
}

/// All rows are the team's, or nothing is served.
fn check_team(batch: &RecordBatch, place: usize, team: &TeamId) -> Result<(), FormatError> {
    let teams = batch
        .columns()
        .get(place)
        .and_then(|column| column.as_string_view_opt());
    let stranger = teams.map(|teams| teams.iter().find(|found| *found != Some(team.as_str())));
    match stranger {
        Some(None) => Ok(()),
        // The other team's name stays out of the message.
        _ => Err(FormatError::malformed(
            "rows",
            0,
            format!("rows of {team}"),
            "another team's",
        )),
    }
}

fn damaged(segment: &Segment, error: &arrow::error::ArrowError) -> Error {
    let source: Option<&FormatError> =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| {
            error.source()
        })
        .find_map(|error| error.downcast_ref());
    segment.corrupt(source.cloned().unwrap_or_else(|| {
        FormatError::malformed("rows", 0, "readable Parquet", error.to_string())
    }))
}

/// Columns that do not form a batch.
pub(crate) fn columns_error(place: &str, error: &arrow::error::ArrowError) -> Error {
    Error::corrupt(
        place,
        FormatError::malformed("columns", 0, "a batch", error.to_string()),
    )
}

/// The rows of a batch that a condition holds for.
pub(crate) fn filter(
    batch: &RecordBatch,
    holds: impl Fn(usize) -> bool,
) -> Result<RecordBatch, Error> {
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(holds(row))).collect();
    filter_record_batch(batch, &mask).map_err(|error| columns_error("rows", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_row_groups() {
        let group = ROW_GROUP_ROWS;
        let cut = by_row_group(vec![5..10, group - 1..2 * group + 1]);
        assert_eq!(
            cut,
            [
                (0, vec![5..10, group - 1..group]),
                (1, vec![group..2 * group]),
                (2, vec![2 * group..2 * group + 1]),
            ]
        );
    }

    #[test]
    fn places_become_row_numbers() {
        let rows = [10..12, 20..23, 40..41];
        let all: Vec<u32> = numbers(&rows, &[0, 1, 2, 3, 4, 5]).iter().collect();
        assert_eq!(all, [10, 11, 20, 21, 22, 40]);
        let some: Vec<u32> = numbers(&rows, &[1, 4, 5]).iter().collect();
        assert_eq!(some, [11, 22, 40]);
    }
}
