//! Acknowledged rows that are not sealed yet, with their look-up by trace and
//! by session.
//!
//! An append makes a batch, and most are small. What a read costs depends on how many
//! batches there are, so small ones are put together ([`gather`]), beside the writer. What
//! the columns of such a batch hold is kept in codes once it was asked for ([`values`]).

pub(crate) mod gather;
pub(crate) mod values;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{max, min};
use spanstore_format::segment::key_index::Key;
use spanstore_format::span::SpanColumn;
#[cfg(feature = "query")]
use spanstore_format::span::columns::memory_of;
use spanstore_format::{Month, TeamId};

use self::values::KeptValues;

/// Rows of appends in one partition that came after each other.
#[derive(Debug)]
pub(crate) struct HotBatch {
    /// The month of the rows.
    pub(crate) month: Month,
    /// The rows, with the columns of the span schema.
    pub(crate) rows: RecordBatch,
    /// Memory that they take and may come to take, in bytes, about.
    pub(crate) bytes: usize,
    /// The earliest and the latest start, ns since 1970.
    pub(crate) starts: (i64, i64),
    /// Whether it has the rows of several appends.
    is_gathered: bool,
    /// Values of columns that were asked for.
    kept: KeptValues,
}

impl HotBatch {
    /// Rows that were worked out of others; they are in no buffer, so their month does not
    /// matter.
    #[cfg(feature = "query")]
    pub(crate) fn derived(rows: RecordBatch) -> Self {
        let bytes = memory_of(&rows);
        let room = bytes / 4;
        Self::with_room(Month::of(0), rows, bytes, room)
    }

    /// Rows of one append that take so much memory, in bytes.
    pub(crate) fn appended(month: Month, rows: RecordBatch, bytes: usize) -> Self {
        // Small ones are to be put together with others.
        let is_large = rows.num_rows() >= ROWS_WITH_CODES;
        let room = if is_large { bytes / 4 } else { 0 };
        Self::with_room(month, rows, bytes, room)
    }

    /// Rows that take so much memory, and room for values that are kept, in bytes.
    fn with_room(month: Month, rows: RecordBatch, bytes: usize, room: usize) -> Self {
        let starts = SpanColumn::StartTime.times(&rows).ok();
        let starts = starts.and_then(|starts| min(starts).zip(max(starts)));
        Self {
            month,
            rows,
            bytes: bytes + room,
            starts: starts.unwrap_or((i64::MIN, i64::MAX)),
            is_gathered: false,
            kept: KeptValues::within(room),
        }
    }
}

/// Rows of one append, at least, whose values are kept in codes.
const ROWS_WITH_CODES: usize = 4_096;

/// A batch of one append, and what its rows are found by.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) batch: Arc<HotBatch>,
    /// Trace ids of the rows, each once.
    pub(crate) traces: Vec<[u8; 16]>,
    /// Keys of the session ids of the rows, each once. May have one whose rows were left out.
    pub(crate) sessions: Vec<Key>,
    /// When it came, by the monotonic clock; none for one that came before the store was
    /// opened.
    pub(crate) arrived: Option<u64>,
}

/// Some rows of a batch.
#[derive(Debug, Clone)]
pub(crate) struct HotRows {
    pub(crate) batch: Arc<HotBatch>,
    /// Their numbers in the batch.
    pub(crate) rows: Range<usize>,
}

impl HotRows {
    /// All rows of a batch.
    pub(crate) fn all(batch: &Arc<HotBatch>) -> Self {
        Self {
            rows: 0..batch.rows.num_rows(),
            batch: Arc::clone(batch),
        }
    }
}

/// Rows of one team.
#[derive(Debug, Default)]
struct HotTeam {
    /// The rows of each append, in a partition.
    appends: Vec<HotRows>,
    /// When each append came.
    arrivals: Vec<Option<u64>>,
    months: BTreeMap<Month, HotMonth>,
    /// Whether all its rows were asked for.
    is_read: bool,
    /// Whether it is among the teams with batches to put together.
    is_due: bool,
    /// Trace id to places in `appends`.
    traces: HashMap<[u8; 16], Vec<u32>>,
    /// Session key to places in `appends`.
    sessions: HashMap<Key, Vec<u32>>,
}

/// Rows of one partition.
#[derive(Debug, Default)]
struct HotMonth {
    /// For each batch the place of its first append, in the order of appends.
    firsts: Vec<u32>,
    small: gather::Small,
}

/// All rows since a point of the log.
#[derive(Debug)]
pub(crate) struct HotBuffer {
    teams: HashMap<TeamId, HotTeam>,
    rows: u64,
    bytes: usize,
    /// Rows from which on a batch is not small.
    gather_rows: usize,
    /// Teams with batches to put together.
    due: gather::Due,
}

impl HotBuffer {
    /// No rows; batches of fewer rows than these are small.
    pub(crate) fn new(gather_rows: usize) -> Self {
        Self {
            teams: HashMap::new(),
            rows: 0,
            bytes: 0,
            gather_rows,
            due: gather::Due::default(),
        }
    }

    /// Sets all rows apart, and goes on with none.
    pub(crate) fn take(&mut self) -> Self {
        let none = Self::new(self.gather_rows);
        std::mem::replace(self, none)
    }

    /// Adds rows of a team.
    pub(crate) fn push(&mut self, team: &TeamId, appended: Appended) {
        let Appended {
            batch,
            traces,
            sessions,
            arrived,
        } = appended;
        self.rows += batch.rows.num_rows() as u64;
        self.bytes += batch.bytes;
        if !self.teams.contains_key(team) {
            self.teams.insert(team.clone(), HotTeam::default());
        }
        if let Some(hot) = self.teams.get_mut(team) {
            let place = hot.appends.len() as u32;
            for trace in traces {
                hot.traces.entry(trace).or_default().push(place);
            }
            for session in sessions {
                hot.sessions.entry(session).or_default().push(place);
            }
            hot.appends.push(HotRows::all(&batch));
            hot.arrivals.push(arrived);
            let month = hot.months.entry(batch.month).or_default();
            month.firsts.push(place);
            month.small.add(&batch, self.gather_rows);
            if !hot.is_due && month.small.is_enough(self.gather_rows) {
                hot.is_due = true;
                self.due.add(team.clone(), hot.is_read);
            }
        }
    }

    /// Rows of all teams.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Memory that the rows take, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a team has rows of a month.
    pub(crate) fn has(&self, month: Month, team: &TeamId) -> bool {
        let hot = self.teams.get(team);
        hot.is_some_and(|hot| hot.months.contains_key(&month))
    }

    /// The teams that have rows.
    pub(crate) fn teams(&self) -> impl Iterator<Item = &TeamId> {
        self.teams.keys()
    }

    /// Whether a team has rows.
    pub(crate) fn has_rows_of(&self, team: &TeamId) -> bool {
        self.teams.contains_key(team)
    }

    /// All rows of a team.
    pub(crate) fn all(&self, team: &TeamId) -> Vec<HotRows> {
        let batches = self.teams.get(team).into_iter().flat_map(HotTeam::batches);
        batches.map(HotRows::all).collect()
    }

    /// The appends of a team that hold rows of a trace.
    pub(crate) fn trace(&self, team: &TeamId, trace: [u8; 16]) -> Vec<HotRows> {
        self.teams
            .get(team)
            .map_or(Vec::new(), |hot| hot.pick(hot.traces.get(&trace)))
    }

    /// When the last append came that holds rows of a trace, by the monotonic clock; none when
    /// there is none, or it came before the store was opened.
    pub(crate) fn last_arrival(&self, team: &TeamId, trace: [u8; 16]) -> Option<u64> {
        let hot = self.teams.get(team)?;
        let places = hot.traces.get(&trace)?.iter();
        let arrivals = places.filter_map(|place| *hot.arrivals.get(*place as usize)?);
        arrivals.max()
    }

    /// The appends of a team that may hold rows of a session.
    pub(crate) fn session(&self, team: &TeamId, session: Key) -> Vec<HotRows> {
        self.teams
            .get(team)
            .map_or(Vec::new(), |hot| hot.pick(hot.sessions.get(&session)))
    }

    /// The rows of each partition, by month and then by team: what a seal writes.
    pub(crate) fn partitions(&self) -> Vec<((Month, &TeamId), Vec<RecordBatch>)> {
        let mut partitions = Vec::new();
        for (team, hot) in &self.teams {
            for (month, of_month) in &hot.months {
                let batches = hot.batches_of(of_month);
                let rows = batches.map(|batch| batch.rows.clone()).collect();
                partitions.push(((*month, team), rows));
            }
        }
        partitions.sort_unstable_by_key(|(one, _)| *one);
        partitions
    }
}

impl HotTeam {
    fn batches(&self) -> impl Iterator<Item = &Arc<HotBatch>> {
        let months = self.months.values();
        months.flat_map(|month| self.batches_of(month))
    }

    fn batches_of(&self, month: &HotMonth) -> impl Iterator<Item = &Arc<HotBatch>> {
        let firsts = month.firsts.iter();
        let appends = firsts.filter_map(|place| self.appends.get(*place as usize));
        appends.map(|append| &append.batch)
    }

    fn pick(&self, places: Option<&Vec<u32>>) -> Vec<HotRows> {
        let places = places.into_iter().flatten();
        places
            .filter_map(|place| self.appends.get(*place as usize).cloned())
            .collect()
    }
}
