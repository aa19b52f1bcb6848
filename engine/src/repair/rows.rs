//! Writes segments anew: of a damaged one what can be read, together with what
//! the log has of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use spanstore_format::segment::order::{CHUNK_ROWS, arrange};
use spanstore_format::segment::promotion::choose::{SAMPLE_ROWS, Sample};
use spanstore_format::segment::{
    Column, NewSegment, Origin, Partition, RowReader, SegmentReader, SegmentSummary,
};
use spanstore_format::span::table;
use spanstore_format::{FormatError, Month, SegmentId, TeamId};

use crate::error::Error;
use crate::io::Disk;
use crate::removal::Removals;
use crate::segment_file::SegmentFile;

/// Rows of the smallest stretch that is taken or left: below a page.
const STRETCH_ROWS: u32 = 256;

/// Rows that the log has, by team.
pub(super) type LogRows = BTreeMap<TeamId, Vec<RecordBatch>>;

/// What can be read of a damaged segment.
#[derive(Debug)]
pub(super) struct Salvage {
    rows: Option<RowReader>,
    partitions: Vec<(Partition, Vec<Range<u32>>)>,
}

impl Salvage {
    /// Reads all rows of a segment to see which can be.
    pub(super) fn of(reader: &SegmentReader) -> Self {
        let rows = reader.row_reader().ok();
        let partitions = reader.directory().partitions().filter_map(Result::ok);
        let partitions = partitions.map(|partition| {
            let mut good = Vec::new();
            if let Some(rows) = &rows {
                let range = partition.rows.clone();
                for start in range.clone().step_by(CHUNK_ROWS) {
                    let end = range.end.min(start + CHUNK_ROWS as u32);
                    add_good(rows, start..end, &mut good);
                }
            }
            (partition, good)
        });
        Self {
            partitions: partitions.collect(),
            rows,
        }
    }

    /// Whether every row of a team can be read.
    pub(super) fn has_whole(&self, team: &TeamId) -> bool {
        let found = self.partitions.iter().find(|(one, _)| one.team == *team);
        found.is_some_and(|(partition, good)| {
            good.iter().map(length).sum::<u64>() == length(&partition.rows)
        })
    }

    /// The rows that each team had.
    pub(super) fn had(&self) -> impl Iterator<Item = (&TeamId, u64)> {
        self.partitions
            .iter()
            .map(|(partition, _)| (&partition.team, length(&partition.rows)))
    }

    fn good(&self, team: &TeamId) -> &[Range<u32>] {
        let found = self.partitions.iter().find(|(one, _)| one.team == *team);
        found.map_or(&[], |(_, good)| good)
    }

    fn teams(&self) -> impl Iterator<Item = &TeamId> {
        let has_rows = |one: &&(Partition, Vec<Range<u32>>)| !one.1.is_empty();
        self.partitions
            .iter()
            .filter(has_rows)
            .map(|(partition, _)| &partition.team)
    }

    fn read(
        &self,
        rows: &[Range<u32>],
    ) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
        let reader = self.rows.as_ref().filter(|_| !rows.is_empty());
        let batches = reader
            .map(|reader| reader.read(rows, &all_columns(), CHUNK_ROWS))
            .transpose()?;
        let read = |batch: Result<RecordBatch, arrow::error::ArrowError>| {
            batch.map_err(|error| unreadable(&error).into())
        };
        Ok(batches.into_iter().flatten().map(read))
    }
}

fn length(range: &Range<u32>) -> u64 {
    u64::from(range.end - range.start)
}

fn all_columns() -> Vec<Column> {
    Column::all(table())
}

fn unreadable(error: &arrow::error::ArrowError) -> FormatError {
    FormatError::malformed("rows", 0, "readable rows", error.to_string())
}

/// Adds the stretches of a range that can be read.
fn add_good(rows: &RowReader, range: Range<u32>, good: &mut Vec<Range<u32>>) {
    let is_good = || {
        let mut found = 0;
        for batch in rows.read(std::slice::from_ref(&range), &all_columns(), CHUNK_ROWS)? {
            found += batch.map_err(|error| unreadable(&error))?.num_rows() as u64;
        }
        Ok::<bool, FormatError>(found == length(&range))
    };
    if is_good().unwrap_or(false) {
        match good.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => good.push(range),
        }
    } else if length(&range) > u64::from(STRETCH_ROWS) {
        let middle = range.start + (range.end - range.start) / 2;
        add_good(rows, range.start..middle, good);
        add_good(rows, middle..range.end, good);
    }
}

/// What a segment that is written anew is called.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) removals: &'a Arc<Removals>,
    pub(super) root: &'a Path,
    pub(super) id: SegmentId,
    pub(super) month: Month,
    pub(super) origin: Origin,
}

/// A segment that was written anew, and its rows of each team.
pub(super) type Rebuilt = (SegmentSummary, BTreeMap<TeamId, u64>);

/// Writes a segment of what was salvaged and of what the log has. None when that
/// is nothing.
pub(super) fn rebuild(
    place: Place<'_>,
    salvage: Option<&Salvage>,
    log: &LogRows,
) -> Result<Option<Rebuilt>, Error> {
    let salvaged = salvage.into_iter().flat_map(Salvage::teams);
    let teams: BTreeSet<&TeamId> = salvaged.chain(log.keys()).collect();
    if teams.is_empty() {
        return Ok(None);
    }
    let mut sample = Sample::default();
    for team in &teams {
        add_to_sample(&mut sample, team, salvage, log)?;
    }
    let Place {
        disk,
        removals,
        root,
        id,
        month,
        origin,
    } = place;
    let segment = NewSegment {
        id,
        month,
        origin,
        promotion: sample.choose(),
    };
    let mut out = SegmentFile::create(disk, removals, root, segment)?;
    let mut rows = BTreeMap::new();
    for team in teams {
        let before = out.rows();
        // What the log has of a team is all of it.
        let from_log = log.get(team).cloned().unwrap_or_default();
        let good = salvage.filter(|_| from_log.is_empty());
        let good = good.map_or(&[][..], |salvage| salvage.good(team));
        let mut batches = Vec::new();
        // In the order of the segment already, if nothing is missing or added.
        let is_ordered = good.len() == 1;
        if let Some(salvage) = salvage {
            for batch in salvage.read(good)? {
                let batch = batch?;
                if is_ordered {
                    out.write(&batch)?;
                } else {
                    batches.push(batch);
                }
            }
        }
        batches.extend(from_log);
        arrange([batches], |batch| out.write(batch))?;
        rows.insert(team.clone(), u64::from(out.rows() - before));
    }
    Ok(Some((out.finish()?, rows)))
}

fn add_to_sample(
    sample: &mut Sample,
    team: &TeamId,
    salvage: Option<&Salvage>,
    log: &LogRows,
) -> Result<(), Error> {
    if let Some(salvage) = salvage
        && let Some(first) = salvage.good(team).first()
    {
        let end = first.end.min(first.start + CHUNK_ROWS as u32);
        let first = first.start..end;
        for batch in salvage.read(std::slice::from_ref(&first))? {
            sample.add(&batch?, 4);
        }
    }
    for batch in log.get(team).into_iter().flatten() {
        sample.add(
            batch,
            batch.num_rows().div_ceil(SAMPLE_ROWS as usize).max(1),
        );
    }
    Ok(())
}
