//! Acknowledged rows that are not sealed yet, with their look-up by trace and
//! by session.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use spanstore_format::segment::key_index::Key;
use spanstore_format::{Month, TeamId};

/// Rows of one append in one partition, and what they are found by.
#[derive(Debug)]
pub(crate) struct HotBatch {
    /// The month of the rows.
    pub(crate) month: Month,
    /// The rows, with the columns of the span schema.
    pub(crate) rows: RecordBatch,
    /// Memory that they take, in bytes, about.
    pub(crate) bytes: usize,
    /// Trace ids of the rows, each once. May name one whose rows were left out.
    pub(crate) traces: Vec<[u8; 16]>,
    /// Keys of the session ids of the rows, each once; likewise.
    pub(crate) sessions: Vec<Key>,
}

/// Rows of one team.
#[derive(Debug, Default)]
struct HotTeam {
    batches: Vec<Arc<HotBatch>>,
    /// Trace id to places in `batches`.
    traces: HashMap<[u8; 16], Vec<u32>>,
    /// Session key to places in `batches`.
    sessions: HashMap<Key, Vec<u32>>,
}

/// All rows since a point of the log.
#[derive(Debug, Default)]
pub(crate) struct HotBuffer {
    teams: HashMap<TeamId, HotTeam>,
    rows: u64,
    bytes: usize,
}

impl HotBuffer {
    /// Adds rows of a team.
    pub(crate) fn push(&mut self, team: &TeamId, batch: Arc<HotBatch>) {
        self.rows += batch.rows.num_rows() as u64;
        self.bytes += batch.bytes;
        if !self.teams.contains_key(team) {
            self.teams.insert(team.clone(), HotTeam::default());
        }
        if let Some(hot) = self.teams.get_mut(team) {
            let place = hot.batches.len() as u32;
            for trace in &batch.traces {
                hot.traces.entry(*trace).or_default().push(place);
            }
            for session in &batch.sessions {
                hot.sessions.entry(*session).or_default().push(place);
            }
            hot.batches.push(batch);
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

    /// All batches of a team.
    pub(crate) fn batches(&self, team: &TeamId) -> &[Arc<HotBatch>] {
        self.teams.get(team).map_or(&[], |hot| &hot.batches)
    }

    /// The batches of a team that hold rows of a trace.
    pub(crate) fn trace(&self, team: &TeamId, trace: [u8; 16]) -> Vec<Arc<HotBatch>> {
        self.teams
            .get(team)
            .map_or(Vec::new(), |hot| hot.pick(hot.traces.get(&trace)))
    }

    /// The batches of a team that may hold rows of a session.
    pub(crate) fn session(&self, team: &TeamId, session: Key) -> Vec<Arc<HotBatch>> {
        self.teams
            .get(team)
            .map_or(Vec::new(), |hot| hot.pick(hot.sessions.get(&session)))
    }

    /// The rows of each partition, by month and then by team: what a seal writes.
    pub(crate) fn partitions(&self) -> Vec<((Month, &TeamId), Vec<RecordBatch>)> {
        let mut partitions: HashMap<(Month, &TeamId), Vec<RecordBatch>> = HashMap::new();
        for (team, hot) in &self.teams {
            for batch in &hot.batches {
                partitions
                    .entry((batch.month, team))
                    .or_default()
                    .push(batch.rows.clone());
            }
        }
        let mut partitions: Vec<_> = partitions.into_iter().collect();
        partitions.sort_unstable_by_key(|(one, _)| *one);
        partitions
    }
}

impl HotTeam {
    fn pick(&self, places: Option<&Vec<u32>>) -> Vec<Arc<HotBatch>> {
        let places = places.into_iter().flatten();
        places
            .filter_map(|place| self.batches.get(*place as usize).cloned())
            .collect()
    }
}
