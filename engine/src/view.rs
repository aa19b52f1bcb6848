//! What readers see: segments, rows being sealed, and rows since. Every
//! acknowledged row is in exactly one of the three in every snapshot.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;
use spanstore_format::catalog::{Erased, Erasure};
use spanstore_format::segment::Partition;
use spanstore_format::segment::key_index::key_of;
use spanstore_format::table::Table;
use spanstore_format::{Month, SegmentId, TeamId, span};

use crate::awaited::Awaited;
#[cfg(feature = "query")]
use crate::awaited::Waiting;
use crate::hot::gather::Loose;
use crate::hot::{Appended, HotBatch, HotBuffer, HotRows};
use crate::runs::MergeDebt;
use crate::segment::Segment;

/// A trace of a team.
pub(crate) type TraceKey = (TeamId, [u8; 16]);

/// The current state. All changes go through one lock, which is held for
/// moments: rows are read outside of it.
#[derive(Debug)]
pub(crate) struct View {
    state: RwLock<State>,
    /// Who waits for spans of a trace.
    awaited_traces: Arc<Awaited<TraceKey>>,
    /// Who waits for spans of a team.
    awaited_teams: Arc<Awaited<TeamId>>,
}

#[derive(Debug)]
struct State {
    segments: Arc<Vec<Arc<Segment>>>,
    /// How far merging of these segments is behind.
    debt: MergeDebt,
    /// Rows that a seal is writing; they do not change any more.
    sealing: Option<Arc<HotBuffer>>,
    active: HotBuffer,
    erasures: Arc<Erasures>,
    /// Above the sequences of all rows.
    next_sequence: u64,
}

impl State {
    fn set_segments(&mut self, segments: Vec<Arc<Segment>>) {
        self.debt = MergeDebt::of(&segments);
        self.segments = Arc::new(segments);
    }
}

/// What is to be erased, and until then not to be seen.
#[derive(Debug, Default)]
pub(crate) struct Erasures(HashMap<TeamId, Vec<Erasure>>);

impl Erasures {
    pub(crate) fn new(erasures: impl IntoIterator<Item = Erasure>) -> Self {
        let mut by_team: HashMap<TeamId, Vec<Erasure>> = HashMap::new();
        for erasure in erasures {
            by_team
                .entry(erasure.team.clone())
                .or_default()
                .push(erasure);
        }
        Self(by_team)
    }

    /// Those of a team.
    pub(crate) fn of(&self, team: &TeamId) -> &[Erasure] {
        self.0.get(team).map_or(&[], Vec::as_slice)
    }

    /// All, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Erasure> {
        self.0.values().flatten()
    }
}

/// One team's part of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Whose rows these are.
    pub(crate) table: &'static Table,
    /// All segments of the store.
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    /// Rows of the team that are not sealed, older ones first.
    pub(crate) hot: Vec<HotRows>,
    /// What is to be erased.
    pub(crate) erasures: Arc<Erasures>,
    /// Spans that start before are not to be seen, ns since 1970.
    pub(crate) horizon: Option<i64>,
    /// Further rows that are not to be seen, of some segments.
    pub(crate) hidden: Arc<HashMap<SegmentId, RoaringBitmap>>,
    /// Above the sequences of all rows; rows that come later have this or a higher one.
    #[cfg_attr(
        not(feature = "query"),
        expect(dead_code, reason = "only pages ask for it")
    )]
    pub(crate) next_sequence: u64,
}

impl Snapshot {
    /// The same moment, of rows of another table: those of some segments that are not
    /// hidden, and some in memory.
    #[cfg(feature = "query")]
    pub(crate) fn derived(
        &self,
        table: &'static Table,
        segments: Vec<Arc<Segment>>,
        hidden: HashMap<SegmentId, RoaringBitmap>,
        rows: Vec<HotRows>,
    ) -> Self {
        Self {
            table,
            segments: Arc::new(segments),
            hot: rows,
            erasures: Arc::default(),
            horizon: None,
            hidden: Arc::new(hidden),
            next_sequence: self.next_sequence,
        }
    }

    /// Memory of the rows that are not sealed, in bytes.
    #[cfg(feature = "query")]
    pub(crate) fn hot_bytes(&self) -> usize {
        self.hot.iter().map(|rows| rows.batch.bytes).sum()
    }

    /// Whether some rows of a partition may be hidden.
    pub(crate) fn may_hide(&self, partition: &Partition) -> bool {
        self.horizon
            .is_some_and(|horizon| partition.first_start < horizon)
            || !self.erasures.of(&partition.team).is_empty()
    }
}

impl View {
    /// A view of sealed rows alone, all with sequences below `next_sequence`; batches that
    /// come and have fewer rows than `gather_rows` are small.
    pub(crate) fn new(
        segments: Vec<Arc<Segment>>,
        erasures: Erasures,
        gather_rows: usize,
        next_sequence: u64,
    ) -> Self {
        Self {
            state: RwLock::new(State {
                debt: MergeDebt::of(&segments),
                segments: Arc::new(segments),
                sealing: None,
                active: HotBuffer::new(gather_rows),
                erasures: Arc::new(erasures),
                next_sequence,
            }),
            awaited_traces: Arc::default(),
            awaited_teams: Arc::default(),
        }
    }

    // A panic elsewhere leaves the state whole: each change is one assignment.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot with the unsealed rows that `pick` chooses.
    pub(crate) fn snapshot(
        &self,
        horizon: Option<i64>,
        pick: impl Fn(&HotBuffer) -> Vec<HotRows>,
    ) -> Snapshot {
        let state = self.read();
        let mut hot = state
            .sealing
            .as_ref()
            .map_or(Vec::new(), |sealing| pick(sealing));
        hot.extend(pick(&state.active));
        Snapshot {
            table: span::table(),
            segments: Arc::clone(&state.segments),
            hot,
            erasures: Arc::clone(&state.erasures),
            horizon,
            hidden: Arc::default(),
            next_sequence: state.next_sequence,
        }
    }

    /// All segments, and what is to be erased in them.
    pub(crate) fn sealed(&self) -> (Arc<Vec<Arc<Segment>>>, Arc<Erasures>) {
        let state = self.read();
        (Arc::clone(&state.segments), Arc::clone(&state.erasures))
    }

    /// Replaces segments by others with the same rows, less those that were
    /// not to be seen.
    pub(crate) fn replace(&self, old: &[Arc<Segment>], new: Vec<Arc<Segment>>) {
        let mut state = self.write();
        let is_old = |one: &Arc<Segment>| old.iter().any(|old| Arc::ptr_eq(old, one));
        let mut all: Vec<_> = state
            .segments
            .iter()
            .filter(|one| !is_old(one))
            .cloned()
            .collect();
        all.extend(new);
        state.set_segments(all);
    }

    /// How far merging is behind.
    pub(crate) fn merge_debt(&self) -> MergeDebt {
        self.read().debt
    }

    /// Sets what is to be erased.
    pub(crate) fn set_erasures(&self, erasures: Erasures) {
        self.write().erasures = Arc::new(erasures);
    }

    /// Makes rows visible, all at once. Their sequences lie below `next_sequence`.
    pub(crate) fn publish(
        &self,
        batches: impl IntoIterator<Item = (TeamId, Appended)>,
        next_sequence: u64,
    ) {
        let mut state = self.write();
        state.next_sequence = next_sequence;
        let mut awaited = Vec::new();
        for (team, batch) in batches {
            let traces = batch.traces.iter().map(|trace| (team.clone(), *trace));
            awaited.extend(self.awaited_traces.of(traces));
            awaited.extend(self.awaited_teams.of([team.clone()]));
            state.active.push(&team, batch);
        }
        drop(state);
        for signal in awaited {
            signal.give();
        }
    }

    /// Notes that all unsealed rows of a team were asked for.
    pub(crate) fn set_read(&self, team: &TeamId) {
        // Mostly it is known, and appends need not wait.
        if !self.read().active.is_read(team) {
            self.write().active.set_read(team);
        }
    }

    /// Whether there are small batches to put together.
    pub(crate) fn has_loose(&self) -> bool {
        self.read().active.has_loose()
    }

    /// Whether there are some of a team whose rows are read.
    pub(crate) fn has_read_loose(&self) -> bool {
        self.read().active.has_read_loose()
    }

    /// The next small batches to put together.
    pub(crate) fn loose(&self) -> Option<Loose> {
        self.write().active.loose()
    }

    /// Puts a batch in the place of those that it was made of.
    pub(crate) fn gathered(&self, loose: &Loose, batch: &Arc<HotBatch>) {
        self.write().active.gathered(loose, batch);
    }

    /// Above the sequences of all rows.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.read().next_sequence
    }

    /// Rows and bytes since the last seal began.
    pub(crate) fn active_size(&self) -> (u64, usize) {
        let state = self.read();
        (state.active.rows(), state.active.bytes())
    }

    /// Rows that are not sealed, those being sealed included.
    pub(crate) fn hot_rows(&self) -> u64 {
        let state = self.read();
        state.active.rows() + state.sealing.as_ref().map_or(0, |sealing| sealing.rows())
    }

    /// The teams that have rows that are not sealed.
    pub(crate) fn unsealed_teams(&self) -> HashSet<TeamId> {
        let state = self.read();
        let sealing = state.sealing.as_deref();
        let buffers = sealing.into_iter().chain([&state.active]);
        buffers.flat_map(HotBuffer::teams).cloned().collect()
    }

    /// Whether rows that are not sealed are among some of a team.
    pub(crate) fn has_unsealed(&self, team: &TeamId, what: &Erased) -> bool {
        let state = self.read();
        let mut buffers = state
            .sealing
            .iter()
            .map(AsRef::as_ref)
            .chain([&state.active]);
        buffers.any(|hot| match what {
            Erased::Team => hot.has_rows_of(team),
            Erased::Trace(id) => !hot.trace(team, id.0).is_empty(),
            Erased::Session(id) => !hot.session(team, key_of(id.as_bytes())).is_empty(),
        })
    }

    /// Whether a partition has rows since the last seal began.
    pub(crate) fn has_hot_rows(&self, month: Month, team: &TeamId) -> bool {
        self.read().active.has(month, team)
    }

    /// Sets the active rows apart for a seal. The caller has seen to it that
    /// no other seal is under way.
    pub(crate) fn begin_seal(&self) -> Arc<HotBuffer> {
        let mut state = self.write();
        let sealing = Arc::new(state.active.take());
        state.sealing = Some(Arc::clone(&sealing));
        sealing
    }

    /// Replaces the rows set apart by the segments that hold them.
    pub(crate) fn end_seal(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        let mut state = self.write();
        let mut all = state.segments.as_ref().clone();
        all.extend(segments);
        state.set_segments(all);
        state.sealing = None;
        drop(state);
        self.awaited_traces.wake_all();
    }

    /// Begins to wait for spans of a trace, or for a seal.
    #[cfg(feature = "query")]
    pub(crate) fn wait_for_trace(&self, team: &TeamId, trace: [u8; 16]) -> Waiting<TraceKey> {
        self.awaited_traces.wait_for((team.clone(), trace))
    }

    /// Begins to wait for spans of a team.
    #[cfg(feature = "query")]
    pub(crate) fn wait_for_team(&self, team: &TeamId) -> Waiting<TeamId> {
        self.awaited_teams.wait_for(team.clone())
    }

    /// When the last of the unsealed spans of a trace came, by the monotonic clock; none when
    /// there is none, or it came before the store was opened.
    pub(crate) fn last_arrival(&self, team: &TeamId, trace: [u8; 16]) -> Option<u64> {
        let state = self.read();
        let sealing = state.sealing.as_deref();
        let buffers = sealing.into_iter().chain([&state.active]);
        buffers
            .filter_map(|hot| hot.last_arrival(team, trace))
            .max()
    }
}
