//! Puts small batches together: first [`ENOUGH`] appends, then batches that have
//! [`StoreOptions::gather_rows`](crate::StoreOptions::gather_rows) rows together. Mostly a row
//! is copied at most twice for it, and few batches stay small. Only batches of a
//! partition that came after each other are put together: rows stay in the order of their
//! appends. Teams whose rows are read come first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use spanstore_format::TeamId;
use spanstore_format::span::columns::memory_of;
use spanstore_format::span::compact;

use super::values::KeptValues;
use super::{HotBatch, HotBuffer, HotMonth, HotRows, HotTeam};

/// Appends that are put together although they have few rows.
const ENOUGH: usize = 64;

/// Bytes from which on a batch is not small, whatever its rows: what each row takes then
/// matters more than what a batch does.
const LARGE_BYTES: usize = 32 << 20;

/// Batches of one partition, one after the other, that are to be one.
#[derive(Debug)]
pub(crate) struct Loose {
    pub(super) team: TeamId,
    pub(super) batches: Vec<Arc<HotBatch>>,
}

impl Loose {
    /// One batch with their rows.
    ///
    /// # Errors
    /// [`ArrowError`] when they have other columns than each other.
    pub(crate) fn gather(&self) -> Result<Arc<HotBatch>, ArrowError> {
        let batches = || self.batches.iter();
        let empty = || ArrowError::SchemaError("no batch to put together".into());
        let first = batches().next().ok_or_else(empty)?;
        let schema = first.rows.schema();
        let mut nulls = HashMap::new();
        let columns = (0..schema.fields().len()).map(|place| {
            let columns = batches().map(|batch| batch.rows.columns().get(place));
            let missing = || ArrowError::SchemaError("a batch without a column".into());
            let columns: Option<Vec<&ArrayRef>> = columns.collect();
            one_column(&columns.ok_or_else(missing)?, &mut nulls)
        });
        let rows = RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?;
        let bytes = memory_of(&rows);
        let room = bytes / 4;
        let starts = batches().map(|batch| batch.starts);
        let starts = starts.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        Ok(Arc::new(HotBatch {
            month: first.month,
            rows,
            bytes: bytes + room,
            starts: starts.unwrap_or(first.starts),
            is_gathered: true,
            kept: KeptValues::within(room),
        }))
    }
}

/// The values of columns, without memory that only the single ones needed. Columns without
/// any value share theirs.
fn one_column(
    columns: &[&ArrayRef],
    nulls: &mut HashMap<DataType, ArrayRef>,
) -> Result<ArrayRef, ArrowError> {
    if let Some(first) = columns.first()
        && columns
            .iter()
            .all(|column| column.null_count() == column.len())
    {
        let none = nulls.entry(first.data_type().clone()).or_insert_with(|| {
            let rows = columns.iter().map(Array::len).sum();
            new_null_array(first.data_type(), rows)
        });
        return Ok(Arc::clone(none));
    }
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    compact(&concat(&columns)?)
}

fn is_small(batch: &HotBatch, gather_rows: usize) -> bool {
    batch.rows.num_rows() < gather_rows && batch.bytes < LARGE_BYTES
}

/// What small batches a partition has, at most.
#[derive(Debug, Default)]
pub(super) struct Small {
    /// How many are of one append.
    appends: usize,
    /// Rows of all.
    rows: usize,
}

impl Small {
    pub(super) fn add(&mut self, batch: &HotBatch, gather_rows: usize) {
        if is_small(batch, gather_rows) {
            self.rows += batch.rows.num_rows();
            self.appends += usize::from(!batch.is_gathered);
        }
    }

    fn remove(&mut self, batch: &HotBatch) {
        self.rows = self.rows.saturating_sub(batch.rows.num_rows());
        let appends = usize::from(!batch.is_gathered);
        self.appends = self.appends.saturating_sub(appends);
    }

    pub(super) fn is_enough(&self, gather_rows: usize) -> bool {
        self.rows >= gather_rows || self.appends >= ENOUGH
    }
}

/// Teams with batches to put together. They take turns, so that a busy one does not keep the
/// others waiting.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Those whose rows are read.
    read: VecDeque<TeamId>,
    /// The others; one may be read since it came here.
    unread: VecDeque<TeamId>,
}

impl Due {
    pub(super) fn add(&mut self, team: TeamId, is_read: bool) {
        let teams = if is_read {
            &mut self.read
        } else {
            &mut self.unread
        };
        teams.push_back(team);
    }

    fn next(&mut self) -> Option<TeamId> {
        self.read.pop_front().or_else(|| self.unread.pop_front())
    }
}

impl HotBuffer {
    /// Whether all rows of a team were asked for; so they were where it has none.
    pub(crate) fn is_read(&self, team: &TeamId) -> bool {
        self.teams.get(team).is_none_or(|hot| hot.is_read)
    }

    /// Notes that all rows of a team were asked for.
    pub(crate) fn set_read(&mut self, team: &TeamId) {
        if let Some(hot) = self.teams.get_mut(team)
            && !std::mem::replace(&mut hot.is_read, true)
            && hot.is_due
        {
            self.due.read.push_back(team.clone());
        }
    }

    /// Whether there are batches to put together.
    pub(crate) fn has_loose(&self) -> bool {
        !self.due.read.is_empty() || !self.due.unread.is_empty()
    }

    /// Whether there are some of a team whose rows are read.
    pub(crate) fn has_read_loose(&self) -> bool {
        !self.due.read.is_empty()
    }

    /// The next batches to put together.
    pub(crate) fn loose(&mut self) -> Option<Loose> {
        while let Some(team) = self.due.next() {
            let Some(hot) = self.teams.get_mut(&team) else {
                continue;
            };
            if let Some(batches) = hot.loose(self.gather_rows) {
                self.due.add(team.clone(), hot.is_read);
                return Some(Loose { team, batches });
            }
            hot.is_due = false;
        }
        None
    }

    /// Puts a batch in the place of those that it was made of, if they are here still: a
    /// seal may have set them apart.
    pub(crate) fn gathered(&mut self, loose: &Loose, batch: &Arc<HotBatch>) {
        let hot = self.teams.get_mut(&loose.team);
        if hot.is_some_and(|hot| hot.replace(&loose.batches, batch, self.gather_rows)) {
            let before: usize = loose.batches.iter().map(|batch| batch.bytes).sum();
            self.bytes = self.bytes.saturating_sub(before) + batch.bytes;
        }
    }
}

impl HotTeam {
    /// The next batches to put together.
    fn loose(&mut self, gather_rows: usize) -> Option<Vec<Arc<HotBatch>>> {
        let Self {
            appends, months, ..
        } = self;
        for month in months.values_mut() {
            if !month.small.is_enough(gather_rows) {
                continue;
            }
            let found = month.run(appends, gather_rows);
            if found.is_some() {
                return found;
            }
            // Large ones lie between them, and some more would not change that.
            month.small = Small::default();
        }
        None
    }

    /// Puts a batch in the place of others; false when these are not here.
    fn replace(
        &mut self,
        others: &[Arc<HotBatch>],
        batch: &Arc<HotBatch>,
        gather_rows: usize,
    ) -> bool {
        let Self {
            appends, months, ..
        } = self;
        let (Some(month), Some(first)) = (months.get_mut(&batch.month), others.first()) else {
            return false;
        };
        let is_at = |place: &u32, other: &Arc<HotBatch>| {
            let append = appends.get(*place as usize);
            append.is_some_and(|append| Arc::ptr_eq(&append.batch, other))
        };
        let mut places = month.firsts.iter();
        let Some(start) = places.position(|place| is_at(place, first)) else {
            return false;
        };
        // Another thread may have put some of them together meanwhile.
        let replaced = start..start + others.len();
        let firsts = month.firsts.get(replaced.clone()).unwrap_or_default();
        let are_here = firsts.len() == others.len();
        if !are_here
            || !firsts
                .iter()
                .zip(others)
                .all(|(place, other)| is_at(place, other))
        {
            return false;
        }
        let place = |number: usize| month.firsts.get(number).map(|place| *place as usize);
        let places = place(start).unwrap_or(0)..place(replaced.end).unwrap_or(appends.len());
        let mut befores = HashMap::with_capacity(others.len());
        let mut before = 0;
        for other in others {
            befores.insert(Arc::as_ptr(other), before);
            before += other.rows.num_rows();
            month.small.remove(other);
        }
        for append in appends.get_mut(places).unwrap_or_default() {
            // Appends of other months lie between them.
            if let Some(before) = befores.get(&Arc::as_ptr(&append.batch)) {
                *append = HotRows {
                    rows: before + append.rows.start..before + append.rows.end,
                    batch: Arc::clone(batch),
                };
            }
        }
        month.firsts.drain(start + 1..replaced.end);
        month.small.add(batch, gather_rows);
        true
    }
}

impl HotMonth {
    /// The first batches, one after the other, that are enough to be put together.
    fn run(&self, appends: &[HotRows], gather_rows: usize) -> Option<Vec<Arc<HotBatch>>> {
        let batches = self.firsts.iter();
        let batches = batches.filter_map(|place| appends.get(*place as usize));
        let are_rows_enough = self.small.rows >= gather_rows;
        let mut found: Vec<Arc<HotBatch>> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        for HotRows { batch, .. } in batches {
            let is_wanted = are_rows_enough || !batch.is_gathered;
            if !is_wanted || !is_small(batch, gather_rows) {
                found.clear();
                (rows, bytes) = (0, 0);
                continue;
            }
            rows += batch.rows.num_rows();
            bytes += batch.bytes;
            found.push(Arc::clone(batch));
            let is_enough = rows >= gather_rows
                || bytes >= LARGE_BYTES
                || !are_rows_enough && found.len() >= ENOUGH;
            if is_enough && found.len() > 1 {
                return Some(found);
            }
        }
        None
    }
}
