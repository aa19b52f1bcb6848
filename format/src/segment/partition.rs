//! What a segment's index says of one partition, gathered while its rows are
//! written.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewArray};
use hashbrown::HashMap;

use super::directory::Partition;
use super::facets::{self, build::FacetsBuilder};
use super::key_index::{self, Key, RowSet};
use crate::error::FormatError;
use crate::id::TeamId;

/// A partition whose rows are being written.
#[derive(Debug)]
pub(super) struct OpenPartition {
    pub(super) team: TeamId,
    pub(super) rows: Range<u32>,
    pub(super) first_start: i64,
    pub(super) last_start: i64,
    traces: Vec<(Key, Range<u32>)>,
    last_trace: Option<[u8; 16]>,
    sessions: HashMap<Key, RowSet>,
    requests: HashMap<Key, RowSet>,
    /// Rows that wait until it is known whether the partition has facets.
    waiting: Vec<(u32, Vec<ArrayRef>)>,
    facets: Option<FacetsBuilder>,
    /// Numbers of promoted keys that have strays in the partition.
    strays: BTreeSet<u32>,
}

/// The indexes of a segment on their way.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    pub(super) partitions: Vec<Partition>,
    pub(super) traces: IdIndex,
    pub(super) sessions: IdIndex,
    pub(super) requests: IdIndex,
    pub(super) facets: Vec<u8>,
    pub(super) postings: Vec<u8>,
}

/// An index of ids on its way.
#[derive(Debug, Default)]
pub(super) struct IdIndex {
    pub(super) entries: Vec<u8>,
    count: u32,
}

impl IdIndex {
    /// Adds the entries of a partition; answers their places.
    fn add(
        &mut self,
        mut rows: Vec<(Key, RowSet)>,
        postings: &mut Vec<u8>,
    ) -> Result<Range<u32>, FormatError> {
        rows.sort_unstable_by_key(|(key, _)| *key);
        let start = self.count;
        self.count += rows.len() as u32;
        for (key, rows) in rows {
            key_index::put_rows(key, rows, &mut self.entries, postings)?;
        }
        Ok(start..self.count)
    }
}

impl Indexes {
    /// Adds a partition that is complete.
    pub(super) fn add(&mut self, partition: OpenPartition) -> Result<(), FormatError> {
        let postings = &mut self.postings;
        let start = self.facets.len();
        if let Some(facets) = partition.facets {
            let block = facets.finish(&partition.rows, &partition.strays, postings)?;
            self.facets.extend_from_slice(&block);
        }
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(self.facets.len())) else {
            let found = format!("{} bytes", self.facets.len());
            return Err(FormatError::malformed("facets", 0, "at most 4 GiB", found));
        };
        self.partitions.push(Partition {
            team: partition.team,
            rows: partition.rows,
            traces: self.traces.add(by_key(partition.traces), postings)?,
            sessions: self
                .sessions
                .add(partition.sessions.into_iter().collect(), postings)?,
            requests: self
                .requests
                .add(partition.requests.into_iter().collect(), postings)?,
            facets: start..end,
            first_start: partition.first_start,
            last_start: partition.last_start,
        });
        Ok(())
    }
}

/// The rows of each key of traces, which nearly always have one run: only
/// another id of the same hash makes a second.
fn by_key(mut runs: Vec<(Key, Range<u32>)>) -> Vec<(Key, RowSet)> {
    runs.sort_unstable_by_key(|(key, run)| (*key, run.start));
    let mut sets: Vec<(Key, RowSet)> = Vec::with_capacity(runs.len());
    for (key, run) in runs {
        match sets.last_mut() {
            Some((last, rows)) if *last == key => rows.add(run),
            _ => sets.push((key, RowSet::Run(run))),
        }
    }
    sets
}

impl OpenPartition {
    pub(super) fn new(team: TeamId, first_row: u32) -> Self {
        Self {
            team,
            rows: first_row..first_row,
            first_start: i64::MAX,
            last_start: i64::MIN,
            traces: Vec::new(),
            last_trace: None,
            sessions: HashMap::new(),
            requests: HashMap::new(),
            waiting: Vec::new(),
            facets: None,
            strays: BTreeSet::new(),
        }
    }

    /// Adds the next row.
    pub(super) fn add_row(&mut self, trace: [u8; 16], start: i64) {
        let row = self.rows.end;
        self.rows.end += 1;
        self.first_start = self.first_start.min(start);
        self.last_start = self.last_start.max(start);
        match self.traces.last_mut() {
            Some((_, run)) if self.last_trace == Some(trace) => run.end = self.rows.end,
            _ => {
                let run = row..self.rows.end;
                self.traces.push((key_index::key_of(&trace), run));
                self.last_trace = Some(trace);
            }
        }
    }

    /// Adds the session and request ids of rows of a batch whose first row is
    /// the segment's row `first_row`.
    pub(super) fn add_ids(
        &mut self,
        sessions: &StringViewArray,
        requests: &StringViewArray,
        rows: Range<usize>,
        first_row: u32,
    ) {
        for (ids, index) in [
            (sessions, &mut self.sessions),
            (requests, &mut self.requests),
        ] {
            let mut start = rows.start;
            while start < rows.end {
                let id = ids.is_valid(start).then(|| ids.value(start));
                let mut end = start + 1;
                while end < rows.end && ids.is_valid(end).then(|| ids.value(end)) == id {
                    end += 1;
                }
                if let Some(id) = id {
                    let run = first_row + start as u32..first_row + end as u32;
                    index
                        .entry(key_index::key_of(id.as_bytes()))
                        .and_modify(|rows| rows.add(run.clone()))
                        .or_insert(RowSet::Run(run));
                }
                start = end;
            }
        }
    }

    /// Notes that some of its rows have strays of promoted keys.
    pub(super) fn add_strays(&mut self, keys: impl Iterator<Item = u32>) {
        self.strays.extend(keys);
    }

    /// Adds rows, given by the columns of the file, to the facets.
    pub(super) fn add_facets(&mut self, batch: &RecordBatch, first_row: u32, columns: &[usize]) {
        if let Some(facets) = &mut self.facets {
            facets.add(batch.columns(), first_row);
            return;
        }
        self.waiting.push((first_row, batch.columns().to_vec()));
        if self.rows.end - self.rows.start >= facets::LEAST_ROWS {
            let mut facets = FacetsBuilder::new(columns);
            for (first_row, batch) in std::mem::take(&mut self.waiting) {
                facets.add(&batch, first_row);
            }
            self.facets = Some(facets);
        }
    }
}
