//! Rows that fulfil a condition, one after the other by their start.
//!
//! What there is to look at lies in a heap, that which may hold the next row on top:
//! partitions, then their row groups, then runs of pages. A row is settled when nothing
//! that was not looked at may hold one before it. So with a limit no more is looked at than
//! needed, and without one the first rows come before the last ones are found.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;

use super::condition::{Bounds, Condition};
use super::interrupt::Interrupt;
use super::mask::truth;
use super::matching::{Matching, part};
use super::plan::{hot_parts, partitions, visible_bounds};
use super::scan::{project, row_groups, rows_of_group};
use crate::error::Error;
use crate::view::Snapshot;

/// Rows that are looked at in one step, about.
const STEP_ROWS: u64 = 8_192;

/// Which rows come first. Of rows with one start the ids of trace and span decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    NewestFirst,
    OldestFirst,
}

impl Direction {
    /// A number that is the greater the earlier rows with this start come.
    fn rank(self, start: i64) -> i64 {
        match self {
            Self::NewestFirst => start,
            Self::OldestFirst => !start,
        }
    }

    /// The rank that no row with a start between two exceeds.
    fn best(self, first: i64, last: i64) -> i64 {
        match self {
            Self::NewestFirst => self.rank(last),
            Self::OldestFirst => self.rank(first),
        }
    }
}

/// Where rows come from.
pub(crate) enum Origin {
    Hot(RecordBatch),
    Sealed(Box<Matching>),
}

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoundRow {
    rank: i64,
    /// The number of its origin.
    pub(crate) origin: u32,
    /// Its number there.
    pub(crate) row: u32,
}

/// Something to look at.
struct Open {
    /// No row in it comes before one with this rank.
    best: i64,
    origin: u32,
    what: What,
}

enum What {
    /// All rows of the origin.
    Origin,
    /// These rows of a row group.
    RowGroup(u32, RoaringBitmap),
    /// These rows.
    Rows(RoaringBitmap),
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.best == other.best
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.best.cmp(&other.best)
    }
}

/// The search.
pub(crate) struct Ordered {
    condition: Condition,
    direction: Direction,
    bounds: Bounds,
    snapshot: Snapshot,
    origins: Vec<Origin>,
    open: BinaryHeap<Open>,
    found: BinaryHeap<FoundRow>,
    settled: VecDeque<FoundRow>,
}

impl Ordered {
    /// Begins to look for a team's rows.
    pub(crate) fn new(
        snapshot: &Snapshot,
        team: &TeamId,
        condition: Condition,
        direction: Direction,
        interrupt: &Arc<dyn Interrupt>,
    ) -> Result<Self, Error> {
        let bounds = visible_bounds(snapshot, condition.bounds());
        let mut origins = Vec::new();
        let mut open = BinaryHeap::new();
        let mut add = |first_start, last_start, origin| {
            open.push(Open {
                best: direction.best(first_start, last_start),
                origin: origins.len() as u32,
                what: What::Origin,
            });
            origins.push(origin);
        };
        for part in hot_parts(snapshot, team, bounds, interrupt)? {
            if let Some(rows) = part.hot_rows() {
                add(part.first_start, part.last_start, Origin::Hot(rows.clone()));
            }
        }
        for sealed in partitions(snapshot, team, bounds, interrupt)? {
            let (first, last) = (sealed.partition.first_start, sealed.partition.last_start);
            let matching = Box::new(Matching::new(sealed, interrupt));
            add(first, last, Origin::Sealed(matching));
        }
        Ok(Self {
            condition,
            direction,
            bounds,
            snapshot: snapshot.clone(),
            origins,
            open,
            found: BinaryHeap::new(),
            settled: VecDeque::new(),
        })
    }

    /// Where rows come from.
    pub(crate) fn origin(&self, number: u32) -> Option<&Origin> {
        self.origins.get(number as usize)
    }

    /// Whether so many rows are settled, or all that there are.
    pub(crate) fn has(&self, rows: usize) -> bool {
        self.settled.len() >= rows || self.open.is_empty()
    }

    /// Memory of the rows that were found, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        (self.found.capacity() + self.settled.capacity()) * size_of::<FoundRow>()
    }

    /// Looks at what may hold the next row.
    pub(crate) fn step(&mut self) -> Result<(), Error> {
        if let Some(next) = self.open.pop() {
            self.look(next)?;
        }
        let best = self.open.peek().map(|open| open.best);
        let mut settled = Vec::new();
        while let Some(row) = self.found.peek()
            && best.is_none_or(|best| row.rank > best)
        {
            settled.extend(self.found.pop());
        }
        for rows in settled.chunk_by_mut(|one, other| one.rank == other.rank) {
            if rows.len() > 1 {
                self.sort_by_ids(rows)?;
            }
        }
        self.settled.extend(settled);
        Ok(())
    }

    /// Takes the next rows that are settled.
    pub(crate) fn take(&mut self, rows: usize) -> Vec<FoundRow> {
        let rows = rows.min(self.settled.len());
        self.settled.drain(..rows).collect()
    }

    fn look(&mut self, next: Open) -> Result<(), Error> {
        let origin = next.origin;
        match (self.origins.get(origin as usize), next.what) {
            (Some(Origin::Hot(rows)), _) => {
                let found = of_hot(rows, &self.condition, self.direction, origin)?;
                self.found.extend(found);
            }
            (Some(Origin::Sealed(matching)), What::Origin) => {
                let found = matching.may(&self.condition, matching.all_rows())?;
                let rows = matching.visible(&self.snapshot, found.rows)?;
                let reader = matching.sealed.segment.row_reader()?;
                for group in row_groups(&rows) {
                    let times = reader.time_range(group, SpanColumn::StartTime.place());
                    let (first, last) = times.unwrap_or((i64::MIN, i64::MAX));
                    // A row group may be shared with other teams.
                    let first = first.max(matching.sealed.partition.first_start);
                    let last = last.min(matching.sealed.partition.last_start);
                    if self.bounds.overlap(first, last) {
                        self.open.push(Open {
                            best: self.direction.best(first, last),
                            origin,
                            what: What::RowGroup(group, part(&rows, rows_of_group(group))),
                        });
                    }
                }
            }
            (Some(Origin::Sealed(matching)), What::RowGroup(group, rows)) => {
                for (pages, first, last) in runs(matching, group, &rows)? {
                    let rows = part(&rows, pages);
                    if !rows.is_empty() && self.bounds.overlap(first, last) {
                        self.open.push(Open {
                            best: self.direction.best(first, last).min(next.best),
                            origin,
                            what: What::Rows(rows),
                        });
                    }
                }
            }
            (Some(Origin::Sealed(matching)), What::Rows(rows)) => {
                let rows = matching.find(&self.condition, rows)?;
                let (direction, found) = (self.direction, &mut self.found);
                matching.each_batch(&rows, &[SpanColumn::StartTime.into()], |rows, batch| {
                    let starts = SpanColumn::StartTime.times(batch);
                    let starts = starts.map_err(|error| matching.corrupt(error))?;
                    let starts = starts.values().iter().zip(rows);
                    found.extend(starts.map(|(start, row)| FoundRow {
                        rank: direction.rank(*start),
                        origin,
                        row: *row,
                    }));
                    Ok(())
                })?;
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// Sorts rows with one start.
    fn sort_by_ids(&self, rows: &mut [FoundRow]) -> Result<(), Error> {
        const IDS: [SpanColumn; 2] = [SpanColumn::TraceId, SpanColumn::SpanId];
        let mut by_origin: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
        for row in rows.iter() {
            by_origin.entry(row.origin).or_default().insert(row.row);
        }
        let mut sorted: Vec<([u8; 24], FoundRow)> = Vec::with_capacity(rows.len());
        let rank = rows.first().map_or(0, |row| row.rank);
        for (origin, numbers) in by_origin {
            let mut add = |numbers: &[u32], batch: &RecordBatch| {
                let corrupt = |error| Error::corrupt("rows", error);
                let traces = SpanColumn::TraceId.ids(batch).map_err(corrupt)?;
                let spans = SpanColumn::SpanId.ids(batch).map_err(corrupt)?;
                for (at, row) in numbers.iter().enumerate() {
                    let mut ids = [0; 24];
                    let of_row = traces.value(at).iter().chain(spans.value(at));
                    ids.iter_mut()
                        .zip(of_row)
                        .for_each(|(id, byte)| *id = *byte);
                    sorted.push((
                        ids,
                        FoundRow {
                            rank,
                            origin,
                            row: *row,
                        },
                    ));
                }
                Ok(())
            };
            let columns = IDS.map(Column::from);
            match self.origin(origin) {
                Some(Origin::Sealed(matching)) => {
                    matching.each_batch(&numbers, &columns, |rows, batch| add(rows, batch))?;
                }
                Some(Origin::Hot(all)) => {
                    let numbers: Vec<u32> = numbers.iter().collect();
                    let ids = take_rows(all, &numbers, &columns)?;
                    add(&numbers, &ids)?;
                }
                None => {}
            }
        }
        sorted.sort_unstable();
        if self.direction == Direction::NewestFirst {
            sorted.reverse();
        }
        for (place, (_, row)) in rows.iter_mut().zip(sorted) {
            *place = row;
        }
        Ok(())
    }
}

/// Columns of some rows of a batch in memory.
pub(crate) fn take_rows(
    rows: &RecordBatch,
    numbers: &[u32],
    columns: &[Column],
) -> Result<RecordBatch, Error> {
    let projected = project(rows, columns)?;
    let numbers = arrow::array::UInt32Array::from(numbers.to_vec());
    let taken = arrow::compute::take_record_batch(&projected, &numbers);
    taken.map_err(|error| super::scan::columns_error("hot rows", &error))
}

/// The rows of a batch in memory that fulfil a condition.
fn of_hot(
    rows: &RecordBatch,
    condition: &Condition,
    direction: Direction,
    origin: u32,
) -> Result<Vec<FoundRow>, Error> {
    let truth = truth(condition, rows)?;
    let starts = SpanColumn::StartTime.times(rows);
    let starts = starts.map_err(|error| Error::corrupt("hot rows", error))?;
    let found = starts.values().iter().enumerate();
    let found = found.filter(|(row, _)| truth.is_valid(*row) && truth.value(*row));
    let found = found.map(|(row, start)| FoundRow {
        rank: direction.rank(*start),
        origin,
        row: row as u32,
    });
    Ok(found.collect())
}

/// Runs of pages of a row group that hold about as many of some rows as are looked at in
/// one step, with their earliest and latest start.
fn runs(
    matching: &Matching,
    group: u32,
    rows: &RoaringBitmap,
) -> Result<Vec<(Range<u32>, i64, i64)>, Error> {
    let reader = matching.sealed.segment.row_reader()?;
    let pages = reader.page_times(group, SpanColumn::StartTime.place());
    let pages = pages.map_err(|error| matching.corrupt(error))?;
    if pages.is_empty() {
        return Ok(vec![(rows_of_group(group), i64::MIN, i64::MAX)]);
    }
    let mut runs: Vec<(Range<u32>, i64, i64)> = Vec::new();
    for (page, first, last) in pages {
        match runs.last_mut() {
            Some((run, first_of_run, last_of_run))
                if rows.range_cardinality(run.start..page.end) <= STEP_ROWS =>
            {
                run.end = page.end;
                *first_of_run = first.min(*first_of_run);
                *last_of_run = last.max(*last_of_run);
            }
            _ => runs.push((page, first, last)),
        }
    }
    Ok(runs)
}
