//! Rows that fulfil a condition, one after the other by their start or their duration.
//!
//! What there is to look at lies in a heap, that which may hold the next row on top:
//! partitions, then their row groups, then runs of pages. A row is settled when nothing
//! that was not looked at may hold one before it or equal it. So with a limit little more is
//! looked at than needed, and without one the first rows come before the last ones are
//! found. The ids of rows are read only where rows that equal each other are taken.

mod found;
mod pages;

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use roaring::RoaringBitmap;
use spanstore_format::segment::Column;
use spanstore_format::table::Table;
use spanstore_format::{FormatError, TeamId};

use self::found::Found;
pub(crate) use self::found::FoundRow;
use self::pages::{Run, runs};
use super::bounded::{ANY, Bounded, Limits};
use super::condition::Condition;
use super::constraints::Constraints;
use super::hot::HotPart;
use super::interrupt::Interrupt;
use super::matching::{Matching, part};
use super::meter::Stage;
use super::plan::{hot_parts, partitions, visible_bounds};
use super::scan::{row_groups, rows_of_group};
use crate::error::Error;
use crate::view::Snapshot;

/// Rows that are looked at in one step, about: few at first, since few may be wanted.
const FIRST_STEP_ROWS: u64 = 1_024;
const MOST_STEP_ROWS: u64 = 8_192;

/// Which rows come first. Of rows with one start the ids of trace and span decide; of
/// rows with one duration the start does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction {
    /// What decides first.
    pub(crate) by: Bounded,
    /// Whether the greatest comes first, of ids too.
    pub(crate) is_descending: bool,
}

/// Is the greater the earlier a row comes: by what decides first, then by the start.
pub(crate) type Rank = (i64, i64);

impl Direction {
    /// The number that decides first in rows of a rank.
    #[cfg(feature = "query")]
    pub(crate) fn first_number(self, rank: Rank) -> i64 {
        self.signed(rank.0)
    }

    /// The start of rows of a rank.
    #[cfg(feature = "query")]
    pub(crate) fn start(self, rank: Rank) -> i64 {
        self.signed(rank.1)
    }

    /// The columns of a table whose values make the rank.
    fn columns(self, table: &Table) -> Vec<Column> {
        let places = self.places(table).into_iter();
        places.map(Column::Stored).collect()
    }

    /// Their places.
    pub(crate) fn places(self, table: &Table) -> Vec<usize> {
        let mut places = vec![Bounded::Start.place(table)];
        if self.by != Bounded::Start {
            places.push(self.by.place(table));
        }
        places
    }

    fn signed(self, value: i64) -> i64 {
        if self.is_descending { value } else { !value }
    }

    /// The ranks of rows with these columns.
    pub(crate) fn ranks(self, rows: &RecordBatch) -> Result<Vec<Rank>, FormatError> {
        let signed = |number: &i64| self.signed(*number);
        let starts = Bounded::Start.numbers(rows)?.iter().map(signed);
        let firsts = self.by.numbers(rows)?.iter().map(signed);
        Ok(firsts.zip(starts).collect())
    }

    /// The rank that no row exceeds whose values lie between two.
    fn best(self, firsts: (i64, i64), starts: (i64, i64)) -> Rank {
        let best =
            |(least, greatest)| self.signed(if self.is_descending { greatest } else { least });
        (best(firsts), best(starts))
    }
}

/// Where rows come from.
pub(crate) enum Origin {
    Hot(HotPart),
    Sealed(Box<Matching>),
}

/// Something to look at.
struct Open {
    /// No row in it comes before one with this rank.
    best: Rank,
    origin: u32,
    what: What,
}

enum What {
    /// All rows of the origin.
    Origin,
    /// These rows of a row group, as far as they fulfil the condition.
    RowGroup(u32, RoaringBitmap),
    /// These rows, which may fulfil it.
    Candidates(RoaringBitmap),
    /// These rows, which fulfil it.
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
    /// What ids tell of rows that fulfil it.
    necessary: Constraints,
    direction: Direction,
    bounds: Limits,
    step_rows: u64,
    snapshot: Snapshot,
    interrupt: Arc<dyn Interrupt>,
    origins: Vec<Origin>,
    open: BinaryHeap<Open>,
    found: Found,
    settled: VecDeque<FoundRow>,
    /// How many of these, from the front, are in the order of their ids too.
    sorted: usize,
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
        let bounds = visible_bounds(snapshot, condition.starts());
        let mut origins = Vec::new();
        let mut open = BinaryHeap::new();
        let mut add = |best, origin| {
            open.push(Open {
                best,
                origin: origins.len() as u32,
                what: What::Origin,
            });
            origins.push(origin);
        };
        for part in hot_parts(snapshot, bounds, interrupt)? {
            let starts = part.starts();
            let firsts = match direction.by {
                Bounded::Start => starts,
                other => part.range(other).unwrap_or(ANY),
            };
            add(direction.best(firsts, starts), Origin::Hot(part));
        }
        for sealed in partitions(snapshot, team, bounds, interrupt)? {
            let starts = (sealed.partition.first_start, sealed.partition.last_start);
            let firsts = match direction.by {
                Bounded::Start => starts,
                _ => ANY,
            };
            let matching = Box::new(Matching::new(sealed, interrupt));
            add(direction.best(firsts, starts), Origin::Sealed(matching));
        }
        Ok(Self {
            necessary: condition.constraints(),
            condition,
            direction,
            bounds,
            step_rows: FIRST_STEP_ROWS,
            snapshot: snapshot.clone(),
            interrupt: Arc::clone(interrupt),
            origins,
            open,
            found: Found {
                rows: BinaryHeap::new(),
                from: None,
                wanted: usize::MAX,
                least: i64::MIN,
            },
            settled: VecDeque::new(),
            sorted: 0,
        })
    }

    /// Leaves out what comes before rows of a rank.
    pub(crate) fn begin_at(&mut self, rank: Rank) {
        self.found.from = Some(rank);
    }

    /// Leaves out what comes after so many rows, but for rows that equal the last of them in
    /// what decides first.
    #[cfg(feature = "query")]
    pub(crate) fn end_after(&mut self, rows: usize) {
        self.found.wanted = rows;
    }

    /// Where rows come from.
    pub(crate) fn origin(&self, number: u32) -> Option<&Origin> {
        self.origins.get(number as usize)
    }

    /// Whether so many rows are settled, or all that there are.
    pub(crate) fn has(&mut self, rows: usize) -> bool {
        self.settle(rows);
        self.settled.len() >= rows || self.open.is_empty()
    }

    /// Settles so many rows if that many can be; all rows of a rank at once.
    fn settle(&mut self, rows: usize) {
        let best = self.open.peek().map(|open| open.best);
        while let Some(row) = self.found.rows.peek()
            && best.is_none_or(|best| row.rank > best)
            && (self.settled.len() < rows
                || self
                    .settled
                    .back()
                    .is_some_and(|last| last.rank == row.rank))
        {
            self.settled.extend(self.found.rows.pop());
        }
    }

    /// Memory of the rows that were found, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        (self.found.rows.capacity() + self.settled.capacity()) * size_of::<FoundRow>()
    }

    /// Looks at what may hold the next row.
    pub(crate) fn step(&mut self) -> Result<(), Error> {
        if let Some(next) = self.open.pop() {
            self.look(next)?;
        }
        Ok(())
    }

    /// Takes the next rows that are settled, in the order of their ids too.
    pub(crate) fn take(&mut self, rows: usize) -> Result<Vec<FoundRow>, Error> {
        self.sort_by_ids(rows)?;
        Ok(self.take_unsorted(rows))
    }

    /// Takes the next rows that are settled; those of one rank come in any order.
    pub(crate) fn take_unsorted(&mut self, rows: usize) -> Vec<FoundRow> {
        let rows = rows.min(self.settled.len());
        self.sorted = self.sorted.saturating_sub(rows);
        self.settled.drain(..rows).collect()
    }

    /// Whether all rows were found that are `equal` to one that was taken: nothing that was
    /// not looked at may hold one.
    pub(crate) fn has_all(&self, equal: impl Fn(Rank) -> bool) -> bool {
        self.open.peek().is_none_or(|open| !equal(open.best))
    }

    /// Takes the next rows, so many at most, as far as they are `equal` to one that was
    /// taken.
    pub(crate) fn take_equal(
        &mut self,
        rows: usize,
        equal: impl Fn(Rank) -> bool,
    ) -> Vec<FoundRow> {
        self.settle(rows);
        let next = self.settled.iter().take(rows);
        let count = next.take_while(|row| equal(row.rank)).count();
        self.take_unsorted(count)
    }

    fn look(&mut self, next: Open) -> Result<(), Error> {
        let origin = next.origin;
        match (self.origins.get(origin as usize), next.what) {
            (Some(Origin::Hot(part)), _) => {
                let rows = part.find(&self.condition, &*self.interrupt)?;
                self.interrupt.meter().rows(rows.count_set_bits());
                let ranked = part.some(&self.direction.columns(self.snapshot.table), &rows)?;
                let ranks = self.direction.ranks(&ranked);
                let ranks = ranks.map_err(|error| Error::corrupt("hot rows", error))?;
                let rows = rows.set_indices().map(|row| row as u32);
                self.found.add(origin, ranks.into_iter().zip(rows));
            }
            (Some(Origin::Sealed(matching)), What::Origin) => {
                let narrow = || matching.narrowed(&self.necessary, matching.all_rows());
                let rows = self.interrupt.meter().time(Stage::Indexes, narrow)?;
                for group in row_groups(&rows) {
                    let best = self.best_of_row_group(matching, group)?;
                    self.open.extend(best.map(|best| Open {
                        best,
                        origin,
                        what: What::RowGroup(group, part(&rows, rows_of_group(group))),
                    }));
                }
            }
            (Some(Origin::Sealed(matching)), What::RowGroup(group, rows)) => {
                let may = self.interrupt.meter().time(Stage::Indexes, || {
                    let may = matching.may(&self.condition, rows)?;
                    let rows = matching.visible(&self.snapshot, may.rows)?;
                    Ok::<_, Error>(super::matching::Found { rows, ..may })
                })?;
                let (direction, bounds) = (self.direction, self.bounds);
                for Run {
                    rows: of_run,
                    firsts,
                    starts,
                } in runs(matching, group, &may.rows, direction, self.step_rows)?
                {
                    let rows = part(&may.rows, of_run);
                    let best = direction.best(firsts, starts);
                    if !rows.is_empty() && bounds.overlap(starts.0, starts.1) {
                        self.open.push(Open {
                            best: best.min(next.best),
                            origin,
                            what: if may.is_exact {
                                What::Rows(rows)
                            } else {
                                What::Candidates(rows)
                            },
                        });
                    }
                }
                self.step_rows = (self.step_rows * 2).min(MOST_STEP_ROWS);
            }
            (Some(Origin::Sealed(matching)), What::Candidates(rows)) => {
                let find = || matching.find(&self.condition, rows);
                let rows = self.interrupt.meter().time(Stage::Values, find)?;
                add_ranked(&mut self.found, matching, origin, &rows, self.direction)?;
            }
            (Some(Origin::Sealed(matching)), What::Rows(rows)) => {
                add_ranked(&mut self.found, matching, origin, &rows, self.direction)?;
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// The best rank that a row of a row group may have; none when all lie outside the
    /// bounds.
    fn best_of_row_group(&self, matching: &Matching, group: u32) -> Result<Option<Rank>, Error> {
        let reader = matching.sealed.segment.row_reader()?;
        let table = self.snapshot.table;
        let range = |number: Bounded| reader.range(group, number.place(table)).unwrap_or(ANY);
        let (first, last) = range(Bounded::Start);
        // A row group may be shared with other teams.
        let first = first.max(matching.sealed.partition.first_start);
        let last = last.min(matching.sealed.partition.last_start);
        let firsts = match self.direction.by {
            Bounded::Start => (first, last),
            other => range(other),
        };
        let best = self.direction.best(firsts, (first, last));
        Ok(self.bounds.overlap(first, last).then_some(best))
    }

    /// Sorts the first rows that are settled, so many and those that equal the last, by
    /// their ids where they have one rank. All rows of a rank are settled at once.
    fn sort_by_ids(&mut self, rows: usize) -> Result<(), Error> {
        if rows <= self.sorted {
            return Ok(());
        }
        let settled = self.settled.make_contiguous();
        let unsorted = settled.get(self.sorted..).unwrap_or_default();
        let mut end = self.sorted;
        let mut tied: Vec<(usize, FoundRow)> = Vec::new();
        for equal in unsorted.chunk_by(|one, other| one.rank == other.rank) {
            if end >= rows {
                break;
            }
            if equal.len() > 1 {
                tied.extend((end..).zip(equal.iter().copied()));
            }
            end += equal.len();
        }
        self.sorted = end;
        let mut sorted = self.with_ids(&tied)?;
        let is_descending = self.direction.is_descending;
        sorted.sort_unstable_by(|(ids, row), (other_ids, other)| {
            let by_ids = (ids, row).cmp(&(other_ids, other));
            let by_ids = if is_descending {
                by_ids.reverse()
            } else {
                by_ids
            };
            other.rank.cmp(&row.rank).then(by_ids)
        });
        for ((place, _), (_, row)) in tied.into_iter().zip(sorted) {
            if let Some(settled) = self.settled.get_mut(place) {
                *settled = row;
            }
        }
        Ok(())
    }

    /// Rows with the ids that tell them apart.
    fn with_ids(&self, rows: &[(usize, FoundRow)]) -> Result<Vec<(Vec<u8>, FoundRow)>, Error> {
        let identity = self.snapshot.table.roles().identity.iter();
        let columns: Vec<Column> = identity.copied().map(Column::Stored).collect();
        let mut by_origin: BTreeMap<u32, BTreeMap<u32, Rank>> = BTreeMap::new();
        for (_, row) in rows {
            let of_origin = by_origin.entry(row.origin).or_default();
            of_origin.insert(row.row, row.rank);
        }
        let mut with_ids: Vec<(Vec<u8>, FoundRow)> = Vec::with_capacity(rows.len());
        for (origin, ranks) in by_origin {
            let mut add = |numbers: &[u32], batch: &RecordBatch| {
                let all = identities(batch.columns())?;
                for (of_row, row) in all.into_iter().zip(numbers) {
                    let rank = ranks.get(row).copied();
                    let row = *row;
                    let rank = rank.ok_or_else(|| Error::internal("rows found", &"no rank"))?;
                    with_ids.push((of_row, FoundRow { rank, origin, row }));
                }
                Ok(())
            };
            let numbers = ranks.keys().copied();
            match self.origin(origin) {
                Some(Origin::Sealed(matching)) => {
                    let numbers: RoaringBitmap = numbers.collect();
                    matching.each_batch(&numbers, &columns, |rows, batch| add(rows, batch))?;
                }
                Some(Origin::Hot(part)) => {
                    let numbers: Vec<u32> = numbers.collect();
                    let ids = part.take(&columns, numbers.clone())?;
                    add(&numbers, &ids)?;
                }
                None => {}
            }
        }
        Ok(with_ids)
    }
}

/// Adds rows of a partition with their ranks.
fn add_ranked(
    found: &mut Found,
    matching: &Matching,
    origin: u32,
    rows: &RoaringBitmap,
    direction: Direction,
) -> Result<(), Error> {
    let columns = direction.columns(matching.sealed.reader.table());
    matching.each_batch(rows, &columns, |rows, batch| {
        let ranks = direction.ranks(batch);
        let ranks = ranks.map_err(|error| matching.corrupt(error))?;
        found.add(origin, ranks.into_iter().zip(rows.iter().copied()));
        Ok(())
    })
}

/// For each row what tells it apart, of such columns: bytes in the order of the values.
pub(crate) fn identities<'a>(
    columns: impl IntoIterator<Item = &'a ArrayRef>,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for column in columns {
        all.resize(column.len(), Vec::new());
        let rows = all.iter_mut().enumerate();
        if let Some(ids) = column.as_fixed_size_binary_opt() {
            rows.for_each(|(row, identity)| identity.extend_from_slice(ids.value(row)));
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            let bytes = |row: usize| numbers.value(row).to_be_bytes();
            rows.for_each(|(row, identity)| identity.extend_from_slice(&bytes(row)));
        } else {
            return Err(Error::internal("rows found", &"ids of another type"));
        }
    }
    Ok(all)
}
