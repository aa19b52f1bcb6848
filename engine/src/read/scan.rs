//! Which rows of which parts a query has to look at, and reading them.
//!
//! The team is not a condition here: it is the rows that the scan is made of,
//! and the column `team_id` of what was read is compared again.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, max, min, take_record_batch};
use roaring::RoaringBitmap;
use spanstore_format::segment::layout::encoding::ROW_GROUP_ROWS;
use spanstore_format::segment::{Column, Partition, SegmentReader};
use spanstore_format::span::{SpanColumn, table};
use spanstore_format::{FormatError, TeamId};

use super::condition::{Bounds, Condition, Indexes, Stop};
use super::interrupt::Interrupt;
use super::visibility::hidden_rows;
use crate::error::Error;
use crate::segment::Segment;
use crate::view::Snapshot;

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
    Hot(RecordBatch),
    RowGroup {
        segment: Arc<Segment>,
        /// Row numbers in the segment, in rising, disjoint ranges.
        rows: Arc<[Range<u32>]>,
    },
}

/// Whether a part whose starts lie between these may hold rows that start
/// within the bounds.
fn overlaps((since, until): Bounds, first: i64, last: i64) -> bool {
    since.is_none_or(|since| last >= since) && until.is_none_or(|until| first < until)
}

/// The bounds of the start of rows that fulfil a condition and are to be seen.
pub(crate) fn bounds(snapshot: &Snapshot, condition: &Condition) -> Bounds {
    let (since, until) = condition.bounds();
    (since.max(snapshot.horizon), until)
}

/// The parts of a team's rows that may fulfil a condition, as far as they are
/// to be seen. The condition is to be evaluated again on what is read.
pub(crate) fn plan(
    snapshot: &Snapshot,
    team: &TeamId,
    condition: &Condition,
    interrupt: &dyn Interrupt,
) -> Result<Vec<ScanPart>, Error> {
    let bounds = bounds(snapshot, condition);
    let mut parts = hot_parts(snapshot, team, bounds, interrupt)?;
    for place in partitions(snapshot, team, bounds, interrupt)? {
        let matching = matching_rows(snapshot, &place, condition, interrupt)?;
        parts.extend(sealed_parts(&place, &matching.rows, bounds)?);
    }
    Ok(parts)
}

/// The parts of rows that are not sealed.
pub(crate) fn hot_parts(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Bounds,
    interrupt: &dyn Interrupt,
) -> Result<Vec<ScanPart>, Error> {
    let mut parts = Vec::new();
    for batch in &snapshot.hot {
        interrupt.check()?;
        let (first_start, last_start) = start_range(&batch.rows);
        if !overlaps(bounds, first_start, last_start) {
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
pub(crate) fn sealed_parts(
    place: &Place,
    rows: &RoaringBitmap,
    bounds: Bounds,
) -> Result<Vec<ScanPart>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let Place {
        segment, partition, ..
    } = place;
    let mut parts = Vec::new();
    let reader = segment.row_reader()?;
    for (group, ranges) in by_row_group(ranges(rows)) {
        let range = reader
            .time_range(group, SpanColumn::StartTime.place())
            .unwrap_or((i64::MIN, i64::MAX));
        // A row group may be shared with other teams.
        let first_start = range.0.max(partition.first_start);
        let last_start = range.1.min(partition.last_start);
        if overlaps(bounds, first_start, last_start) {
            parts.push(ScanPart {
                source: Source::RowGroup {
                    segment: Arc::clone(segment),
                    rows: ranges.into(),
                },
                team: partition.team.clone(),
                first_start,
                last_start,
            });
        }
    }
    Ok(parts)
}

/// A partition in a segment.
pub(crate) struct Place {
    pub(crate) segment: Arc<Segment>,
    pub(crate) reader: Arc<SegmentReader>,
    pub(crate) partition: Partition,
}

/// The partitions of a team in the segments of a snapshot.
pub(crate) fn partitions(
    snapshot: &Snapshot,
    team: &TeamId,
    bounds: Bounds,
    interrupt: &dyn Interrupt,
) -> Result<Vec<Place>, Error> {
    let mut found = Vec::new();
    for segment in snapshot.segments.iter() {
        interrupt.check()?;
        let summary = segment.summary();
        if !segment.may_hold(team) || !overlaps(bounds, summary.first_start, summary.last_start) {
            continue;
        }
        let reader = segment.reader()?;
        let partition = reader.directory().find(team);
        if let Some(partition) = partition.map_err(|error| segment.corrupt(error))?
            && overlaps(bounds, partition.first_start, partition.last_start)
        {
            found.push(Place {
                segment: Arc::clone(segment),
                reader,
                partition,
            });
        }
    }
    Ok(found)
}

/// The rows of a partition that may fulfil a condition and are to be seen.
pub(crate) struct Matching {
    pub(crate) rows: RoaringBitmap,
    /// Whether they all fulfil it.
    pub(crate) is_exact: bool,
}

/// Evaluates a condition on the indexes of a partition.
pub(crate) fn matching_rows(
    snapshot: &Snapshot,
    place: &Place,
    condition: &Condition,
    interrupt: &dyn Interrupt,
) -> Result<Matching, Error> {
    interrupt.check()?;
    let Place {
        segment,
        reader,
        partition,
    } = place;
    let corrupt = |error: FormatError| segment.corrupt(error);
    let truth = match condition {
        // Look-ups by id need no facets.
        Condition::Traces(_) | Condition::Sessions(_) | Condition::Requests(_) => {
            let indexes = Indexes {
                reader,
                partition,
                facets: None,
                interrupt,
            };
            indexes.evaluate(condition)
        }
        _ => {
            let facets = reader.facets(partition).map_err(corrupt)?;
            let indexes = Indexes {
                reader,
                partition,
                facets: facets.as_ref(),
                interrupt,
            };
            indexes.evaluate(condition)
        }
    };
    let truth = truth.map_err(|stop| match stop {
        Stop::Damaged(error) => corrupt(error),
        Stop::Interrupted(error) => error,
    })?;
    let mut rows = truth.may_hold.within(&partition.rows);
    if !rows.is_empty() && snapshot.may_hide(partition) {
        let (horizon, erasures) = (snapshot.horizon, &snapshot.erasures);
        rows -= hidden_rows(segment, reader, partition, horizon, erasures, interrupt)?;
    }
    Ok(Matching {
        rows,
        is_exact: truth.is_exact,
    })
}

/// The rows of a batch that start at or after a time.
fn since(rows: &RecordBatch, horizon: i64) -> Result<RecordBatch, Error> {
    let starts = SpanColumn::StartTime.times(rows);
    let starts = starts.map_err(|error| Error::corrupt("hot rows", error))?;
    filter(rows, |row| starts.value(row) >= horizon)
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
    let starts = SpanColumn::StartTime.times(rows).ok();
    let range = starts.and_then(|starts| min(starts).zip(max(starts)));
    range.unwrap_or((i64::MIN, i64::MAX))
}

/// Bytes that a batch of a part takes, at most, where its rows are about alike.
const BATCH_BYTES: u64 = 16 << 20;

/// So few rows take no more, however large they are: to ask would cost more than it
/// saves.
const FEW_ROWS: u64 = 16;

/// The batches of a part, read one by one.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

impl ScanPart {
    /// Whether its rows are read from a file; others are in memory already.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.source, Source::RowGroup { .. })
    }

    /// Rows of the part.
    pub(crate) fn rows(&self) -> u64 {
        match &self.source {
            Source::Hot(rows) => rows.num_rows() as u64,
            Source::RowGroup { rows, .. } => rows
                .iter()
                .map(|range| u64::from(range.end - range.start))
                .sum(),
        }
    }

    /// Reads columns in batches of at most `batch_rows` rows, of fewer where
    /// these would take much memory.
    pub(crate) fn read(&self, columns: &[Column], batch_rows: usize) -> Result<Batches, Error> {
        match &self.source {
            Source::Hot(rows) => {
                let projected = project(rows, columns);
                Ok(Box::new(std::iter::once(projected)))
            }
            Source::RowGroup { segment, rows } => {
                let mut batch_rows = batch_rows;
                if self.rows() > FEW_ROWS {
                    let group = rows.first().map_or(0, |rows| rows.start / ROW_GROUP_ROWS);
                    let reader = segment.row_reader()?;
                    batch_rows = batch_rows.min(reader.rows_within(BATCH_BYTES, group, columns));
                }
                self.read_rows(segment, rows, columns, batch_rows)
            }
        }
    }

    /// Reads some rows of the part, given by their numbers in the order in
    /// which [`ScanPart::read`] hands them out; in that order.
    pub(crate) fn fetch(
        &self,
        places: &[u32],
        columns: &[Column],
    ) -> Result<Vec<RecordBatch>, Error> {
        match &self.source {
            Source::Hot(rows) => {
                let projected = project(rows, columns)?;
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
        columns: &[Column],
        batch_rows: usize,
    ) -> Result<Batches, Error> {
        let mut with_team = columns.to_vec();
        with_team.push(SpanColumn::TeamId.into());
        let reader = segment.row_reader()?;
        let batches = reader
            .read(rows, &with_team, batch_rows)
            .map_err(|error| segment.corrupt(error))?;
        let (segment, team) = (Arc::clone(segment), self.team.clone());
        let wanted: Vec<usize> = (0..columns.len()).collect();
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch.map_err(|error| damaged(&segment, &error))?;
            check_team(batch.columns().last(), &team).map_err(|error| segment.corrupt(error))?;
            batch
                .project(&wanted)
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

fn project(rows: &RecordBatch, columns: &[Column]) -> Result<RecordBatch, Error> {
    let missing = |column: &Column| {
        let expected = format!("{column:?}");
        Error::corrupt(
            "hot rows",
            FormatError::malformed("columns", 0, expected, "none"),
        )
    };
    let arrays: Result<Vec<ArrayRef>, Error> = columns
        .iter()
        .map(|column| match column {
            Column::Stored(place) => {
                let array = rows.columns().get(*place);
                array.cloned().ok_or_else(|| missing(column))
            }
            Column::Attribute(attribute) => {
                let messages = attribute.owner.column().bytes(rows);
                Ok(attribute.read(messages.map_err(|_| missing(column))?))
            }
        })
        .collect();
    let schema =
        Column::schema(columns, table()).map_err(|error| Error::corrupt("columns", error))?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, arrays?, &options)
        .map_err(|error| columns_error("hot rows", &error))
}

/// All rows are the team's, or nothing is served.
fn check_team(teams: Option<&ArrayRef>, team: &TeamId) -> Result<(), FormatError> {
    let teams = teams.and_then(|column| column.as_string_view_opt());
    let are_ours =
        teams.is_some_and(|teams| (0..teams.len()).all(|row| teams.value(row) == team.as_str()));
    if are_ours {
        return Ok(());
    }
    // The other team's name stays out of the message.
    let expected = format!("rows of {team}");
    Err(FormatError::malformed(
        "rows",
        0,
        expected,
        "another team's",
    ))
}

/// Damage that came up while rows were decoded.
pub(crate) fn damaged(segment: &Segment, error: &arrow::error::ArrowError) -> Error {
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
