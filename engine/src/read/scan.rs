//! Reads rows of the parts of a snapshot.
//!
//! The team is not a condition here: it is the rows that a scan is made of. That they are
//! its own the statistics of their row group tell; where they do not, the column `team_id`
//! of what was read is compared.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::error::ArrowError;
use roaring::RoaringBitmap;
use spanstore_format::segment::layout::encoding::ROW_GROUP_ROWS;
use spanstore_format::segment::{Column, RowBatches};
use spanstore_format::table::Table;
use spanstore_format::{FormatError, SegmentId, TeamId};

use super::hot::HotPart;
use super::meter::{Meter, Stage};
use crate::error::Error;
use crate::segment::Segment;

/// A part of a scan: rows of one hot batch, or of one row group.
#[derive(Debug, Clone)]
pub(crate) struct ScanPart {
    pub(super) table: &'static Table,
    pub(super) source: Source,
    pub(super) team: TeamId,
    pub(super) meter: Meter,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Hot(HotPart),
    RowGroup {
        segment: Arc<Segment>,
        /// Row numbers in the segment, in rising, disjoint ranges.
        rows: Arc<[Range<u32>]>,
    },
}

/// The row numbers of a bitmap as ranges.
pub(crate) fn ranges(rows: &RoaringBitmap) -> Vec<Range<u32>> {
    let mut iter = rows.iter();
    std::iter::from_fn(|| iter.next_range())
        .map(|range| *range.start()..range.end().saturating_add(1))
        .collect()
}

/// The row groups that hold some of the rows, in rising order.
pub(crate) fn row_groups(rows: &RoaringBitmap) -> impl Iterator<Item = u32> + use<> {
    let groups = rows.min().zip(rows.max());
    let groups = groups.map(|(first, last)| first / ROW_GROUP_ROWS..last / ROW_GROUP_ROWS + 1);
    let rows = rows.clone();
    let holds = move |group: &u32| rows.range_cardinality(rows_of_group(*group)) > 0;
    groups.into_iter().flatten().filter(holds)
}

/// The rows of a row group.
pub(crate) fn rows_of_group(group: u32) -> Range<u32> {
    let start = group.saturating_mul(ROW_GROUP_ROWS);
    start..start.saturating_add(ROW_GROUP_ROWS)
}

/// Bytes that a batch of a part takes, at most, where its rows are about alike.
const BATCH_BYTES: u64 = 16 << 20;

/// So few rows take no more, however large they are: to ask would cost more than it
/// saves.
const FEW_ROWS: usize = 16;

/// Rows that are taken at a time.
const TAKEN_ROWS: usize = 8_192;

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
            Source::Hot(part) => part.len() as u64,
            Source::RowGroup { rows, .. } => rows
                .iter()
                .map(|range| u64::from(range.end - range.start))
                .sum(),
        }
    }

    /// The segment of its rows; none when they are not sealed.
    pub(crate) fn segment(&self) -> Option<SegmentId> {
        match &self.source {
            Source::Hot(_) => None,
            Source::RowGroup { segment, .. } => Some(segment.summary().id),
        }
    }

    /// Columns of some of its rows, by their places among them.
    pub(crate) fn take(
        &self,
        columns: &[Column],
        places: &RoaringBitmap,
    ) -> Result<RecordBatch, Error> {
        let schema = Column::schema(columns, self.table);
        let schema = schema.map_err(|error| Error::corrupt("columns", error))?;
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let rows = match &self.source {
            Source::Hot(part) => {
                let places: UInt32Array = places.iter().map(Some).collect();
                take_record_batch(&part.visible(columns)?, &places)
            }
            Source::RowGroup { segment, rows } => {
                let rows = rows.iter().cloned().flatten().zip(0..);
                let taken = rows.filter(|(_, place)| places.contains(*place));
                let taken: RoaringBitmap = taken.map(|(row, _)| row).collect();
                let rows = Rows {
                    segment,
                    team: &self.team,
                    numbers: &ranges(&taken),
                    meter: &self.meter,
                };
                let batches = rows.batches(columns, TAKEN_ROWS)?;
                let batches: Vec<RecordBatch> = batches.collect::<Result<_, _>>()?;
                concat_batches(&schema, &batches)
            }
        };
        rows.map_err(|error| columns_error("rows", &error))
    }

    /// Reads columns in batches of at most `batch_rows` rows, of fewer where
    /// these would take much memory.
    pub(crate) fn read(&self, columns: &[Column], batch_rows: usize) -> Result<Batches, Error> {
        match &self.source {
            Source::Hot(part) => {
                let read = || part.visible(columns);
                let rows = self.meter.time(Stage::Answer, read)?;
                self.meter.rows(rows.num_rows());
                let starts = (0..rows.num_rows()).step_by(batch_rows.max(1));
                let batch =
                    move |start| Ok(rows.slice(start, batch_rows.min(rows.num_rows() - start)));
                Ok(Box::new(starts.map(batch)))
            }
            Source::RowGroup { segment, rows } => {
                let team = &self.team;
                let rows = Rows {
                    segment,
                    team,
                    numbers: rows,
                    meter: &self.meter,
                };
                let meter = self.meter.clone();
                let read = || rows.batches(columns, batch_rows);
                let mut batches = meter.time(Stage::Answer, read)?;
                Ok(Box::new(std::iter::from_fn(move || {
                    meter.time(Stage::Answer, || batches.next())
                })))
            }
        }
    }
}

/// Rows of a team in one row group.
pub(crate) struct Rows<'a> {
    pub(crate) segment: &'a Arc<Segment>,
    pub(crate) team: &'a TeamId,
    /// Their numbers in the segment, in rising, disjoint ranges.
    pub(crate) numbers: &'a [Range<u32>],
    pub(crate) meter: &'a Meter,
}

impl Rows<'_> {
    /// Reads columns in batches of at most `batch_rows` rows, of fewer where these would
    /// take much memory.
    pub(crate) fn batches(&self, columns: &[Column], batch_rows: usize) -> Result<Batches, Error> {
        let Self {
            segment,
            team,
            numbers: rows,
            meter,
        } = *self;
        let group = rows.first().map_or(0, |rows| rows.start / ROW_GROUP_ROWS);
        let reader = segment.row_reader()?;
        let mut batch_rows = batch_rows;
        let count = rows.iter().map(ExactSizeIterator::len).sum::<usize>();
        if count > FEW_ROWS {
            batch_rows = batch_rows.min(reader.rows_within(BATCH_BYTES, group, columns));
        }
        let mut read = columns.to_vec();
        let team_column = reader.table().roles().team;
        let is_certain = reader.has_only(group, team_column, team.as_str());
        if !is_certain {
            read.push(Column::Stored(team_column));
        }
        let batches = reader.read(rows, &read, batch_rows);
        let batches = batches.map_err(|error| segment.corrupt(error))?;
        let batches = Metered {
            batches,
            meter: meter.clone(),
            pages: (0, 0),
        };
        let (segment, team) = (Arc::clone(segment), team.clone());
        let wanted: Vec<usize> = (0..columns.len()).collect();
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch.map_err(|error| damaged(&segment, &error))?;
            if is_certain {
                return Ok(batch);
            }
            check_team(batch.columns().last(), &team).map_err(|error| segment.corrupt(error))?;
            batch
                .project(&wanted)
                .map_err(|error| columns_error("segment", &error))
        })))
    }
}

/// Batches whose cost is added up.
struct Metered {
    batches: RowBatches,
    meter: Meter,
    /// What was added of pages, and of their bytes.
    pages: (u64, u64),
}

impl Iterator for Metered {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next();
        let (pages, bytes) = self.batches.pages();
        self.meter.pages(pages - self.pages.0, bytes - self.pages.1);
        self.pages = (pages, bytes);
        if let Some(Ok(batch)) = &batch {
            self.meter.rows(batch.num_rows());
        }
        batch
    }
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
pub(crate) fn damaged(segment: &Segment, error: &ArrowError) -> Error {
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
pub(crate) fn columns_error(place: &str, error: &ArrowError) -> Error {
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
    fn row_groups_are_those_that_hold_rows() {
        let group = ROW_GROUP_ROWS;
        let rows: RoaringBitmap = [5, group - 1, group, 3 * group + 7].into_iter().collect();
        assert_eq!(row_groups(&rows).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(row_groups(&RoaringBitmap::new()).count(), 0);
        // The last row that a segment can have.
        let last: RoaringBitmap = [u32::MAX - 1].into_iter().collect();
        assert_eq!(row_groups(&last).collect::<Vec<_>>(), [u32::MAX / group]);
    }
}
