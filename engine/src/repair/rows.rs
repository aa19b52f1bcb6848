//! Writes segments anew: of a damaged one what can be read, together with what
//! the log has of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use spanstore_format::segment::layout::order::{CHUNK_ROWS, arrange};
use spanstore_format::segment::promotion::choose::{SAMPLE_ROWS, Sample};
use spanstore_format::segment::{
    Column, NewSegment, Origin, Partition, RowReader, SegmentReader, SegmentSummary,
};
use spanstore_format::span::{SpanColumn, table};
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
    partitions: Vec<(Partition, Vec<Stretch>)>,
}

/// Rows of a damaged segment that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    rows: Range<u32>,
    lacks: Lacks,
}

/// What cannot be read of some rows, which are of use without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lacks {
    /// What they share: resource and scope.
    shared: bool,
    /// The ids of their parents, which lie where the parents do.
    parents: bool,
}

impl Lacks {
    /// From nothing to everything.
    const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(true, true),
    ];

    const fn new(shared: bool, parents: bool) -> Self {
        Self { shared, parents }
    }

    /// Whether it has a column of the table, given by its place.
    fn has(self, place: usize) -> bool {
        let roles = table().roles();
        let is_parent = || roles.parent.is_some_and(|parent| parent.parent == place);
        let is_shared = || roles.shared.iter().any(|shared| shared.has(place));
        (self.parents && is_parent()) || (self.shared && is_shared())
    }
}

impl Stretch {
    fn rows(&self) -> u64 {
        length(&self.rows)
    }
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
            let whole = good.iter().filter(|one| one.lacks == Lacks::default());
            whole.map(Stretch::rows).sum::<u64>() == length(&partition.rows)
        })
    }

    /// The rows that each team had.
    pub(super) fn had(&self) -> impl Iterator<Item = (&TeamId, u64)> {
        self.partitions
            .iter()
            .map(|(partition, _)| (&partition.team, length(&partition.rows)))
    }

    fn good(&self, team: &TeamId) -> &[Stretch] {
        let found = self.partitions.iter().find(|(one, _)| one.team == *team);
        found.map_or(&[], |(_, good)| good)
    }

    fn teams(&self) -> impl Iterator<Item = &TeamId> {
        let has_rows = |one: &&(Partition, Vec<Stretch>)| !one.1.is_empty();
        self.partitions
            .iter()
            .filter(has_rows)
            .map(|(partition, _)| &partition.team)
    }

    fn read(
        &self,
        stretches: &[Stretch],
        mut each: impl FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(reader) = &self.rows else {
            return Ok(());
        };
        stretches
            .iter()
            .try_for_each(|stretch| read(reader, stretch, &mut each))
    }
}

fn length(range: &Range<u32>) -> u64 {
    u64::from(range.end - range.start)
}

/// Reads rows with all columns of the table; what they lack is null.
fn read(
    reader: &RowReader,
    stretch: &Stretch,
    each: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
) -> Result<(), Error> {
    let places = 0..table().columns().len();
    let is_read = |place: &usize| !stretch.lacks.has(*place);
    let columns: Vec<Column> = places.clone().filter(is_read).map(Column::Stored).collect();
    let schema = Column::schema(&Column::all(table()), table())?;
    let rows = std::slice::from_ref(&stretch.rows);
    for batch in reader.read(rows, &columns, CHUNK_ROWS)? {
        let batch = batch.map_err(|error| unreadable(&error))?;
        let mut found = batch.columns().iter();
        let columns = places.clone().zip(schema.fields()).map(|(place, field)| {
            let column = is_read(&place).then(|| found.next().cloned()).flatten();
            column.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
        });
        let whole = RecordBatch::try_new(SchemaRef::clone(&schema), columns.collect());
        each(whole.map_err(|error| unreadable(&error))?)?;
    }
    Ok(())
}

fn unreadable(error: &ArrowError) -> FormatError {
    FormatError::malformed("rows", 0, "readable rows", error.to_string())
}

/// Adds the stretches of a range that can be read; the smallest ones also where they
/// lack something.
fn add_good(reader: &RowReader, rows: Range<u32>, good: &mut Vec<Stretch>) {
    let is_small = length(&rows) <= u64::from(STRETCH_ROWS);
    let tried = if is_small { Lacks::ALL.len() } else { 1 };
    let stretches = Lacks::ALL.into_iter().take(tried).map(|lacks| Stretch {
        rows: rows.clone(),
        lacks,
    });
    let found = stretches.into_iter().find(|one| is_readable(reader, one));
    match found {
        Some(next) if next.lacks.parents => {
            for row in next.rows {
                let rows = row..row + 1;
                let parents = !has_parent(reader, &rows);
                let lacks = Lacks {
                    parents,
                    ..next.lacks
                };
                push(Stretch { rows, lacks }, good);
            }
        }
        Some(next) => push(next, good),
        None if !is_small => {
            let middle = rows.start + (rows.end - rows.start) / 2;
            add_good(reader, rows.start..middle, good);
            add_good(reader, middle..rows.end, good);
        }
        None => {}
    }
}

/// Adds a stretch, which comes behind the others.
fn push(next: Stretch, good: &mut Vec<Stretch>) {
    match good.last_mut() {
        Some(last) if last.lacks == next.lacks && last.rows.end == next.rows.start => {
            last.rows.end = next.rows.end;
        }
        _ => good.push(next),
    }
}

/// Whether the ids of the parents of rows can be read, or they have no parents.
fn has_parent(reader: &RowReader, rows: &Range<u32>) -> bool {
    let parent = SpanColumn::ParentSpanId.into();
    let batches = reader.read(std::slice::from_ref(rows), &[parent], CHUNK_ROWS);
    batches.is_ok_and(|mut batches| batches.all(|batch| batch.is_ok()))
}

fn is_readable(reader: &RowReader, stretch: &Stretch) -> bool {
    let mut found = 0;
    let count = read(reader, stretch, &mut |batch| {
        found += batch.num_rows() as u64;
        Ok(())
    });
    count.is_ok() && found == stretch.rows()
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

/// Rows of a team in a segment that was written anew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) rows: u64,
    /// How many of them are without their resource and scope.
    pub(super) without_resource: u64,
    /// How many of them are without the id of their parent.
    pub(super) without_parent: u64,
}

/// A segment that was written anew, and its rows of each team.
pub(super) type Rebuilt = (SegmentSummary, BTreeMap<TeamId, Written>);

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
            salvage.read(good, |batch| {
                if is_ordered {
                    out.write(&batch)?;
                } else {
                    batches.push(batch);
                }
                Ok(())
            })?;
        }
        batches.extend(from_log);
        arrange([batches], |batch| out.write(batch))?;
        let lacking = |is_lacking: fn(&Lacks) -> bool| {
            let lacking = good.iter().filter(|one| is_lacking(&one.lacks));
            lacking.map(Stretch::rows).sum()
        };
        let written = Written {
            rows: u64::from(out.rows() - before),
            without_resource: lacking(|lacks| lacks.shared),
            without_parent: lacking(|lacks| lacks.parents),
        };
        rows.insert(team.clone(), written);
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
        let mut first = first.clone();
        first.rows.end = first.rows.end.min(first.rows.start + CHUNK_ROWS as u32);
        salvage.read(&[first], |batch| {
            sample.add(&batch, 4);
            Ok(())
        })?;
    }
    for batch in log.get(team).into_iter().flatten() {
        sample.add(
            batch,
            batch.num_rows().div_ceil(SAMPLE_ROWS as usize).max(1),
        );
    }
    Ok(())
}
