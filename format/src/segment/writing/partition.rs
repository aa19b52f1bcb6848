//! What a segment's index says of one partition, gathered while its rows are
//! written.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;

use crate::error::FormatError;
use crate::id::TeamId;
use crate::segment::facets::{self, build::FacetsBuilder};
use crate::segment::key_index::{self, Key};
use crate::segment::layout::directory::Partition;
use crate::segment::postings::PostingsBuilder;
use crate::table::{IndexedId, Table};

/// A partition whose rows are being written.
#[derive(Debug)]
pub(crate) struct OpenPartition {
    pub(crate) team: TeamId,
    rows: Range<u32>,
    first_start: i64,
    last_start: i64,
    /// For each indexed id of the table, the runs of rows of its keys.
    ids: Vec<Vec<(Key, Range<u32>)>>,
    /// Rows that wait until it is known whether the partition has facets.
    waiting: Vec<Vec<ArrayRef>>,
    facets: Option<FacetsBuilder>,
    /// Numbers of promoted keys that have strays in the partition.
    strays: BTreeSet<u32>,
}

/// The indexes of a segment on their way.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    pub(crate) partitions: Vec<Partition>,
    /// In the order of the table's indexed ids.
    pub(crate) ids: Vec<IdIndex>,
    pub(crate) facets: Vec<u8>,
    pub(crate) postings: PostingsBuilder,
}

/// An index of ids on its way.
#[derive(Debug)]
pub(crate) struct IdIndex {
    pub(crate) id: IndexedId,
    pub(crate) entries: Vec<u8>,
}

impl IdIndex {
    /// Adds the block of a partition with these rows; answers where it lies.
    fn add(
        &mut self,
        runs: Vec<(Key, Range<u32>)>,
        rows: &Range<u32>,
        postings: &mut PostingsBuilder,
    ) -> Result<Range<u32>, FormatError> {
        let block = key_index::build::encode(runs, rows, postings)?;
        add_block(&mut self.entries, &block)
    }
}

/// Adds the block of a partition to a part; answers where it lies.
fn add_block(part: &mut Vec<u8>, block: &[u8]) -> Result<Range<u32>, FormatError> {
    let start = part.len();
    part.extend_from_slice(block);
    match (u32::try_from(start), u32::try_from(part.len())) {
        (Ok(start), Ok(end)) => Ok(start..end),
        _ => {
            let found = format!("{} bytes", part.len());
            Err(FormatError::malformed(
                "index",
                0,
                "parts of at most 4 GiB",
                found,
            ))
        }
    }
}

impl Indexes {
    /// The indexes of a segment of a table, empty.
    pub(crate) fn of(table: &Table) -> Self {
        let ids = table.roles().ids.iter().map(|(id, _)| IdIndex {
            id: *id,
            entries: Vec::new(),
        });
        Self {
            ids: ids.collect(),
            ..Self::default()
        }
    }

    /// Adds a partition that is complete.
    pub(crate) fn add(&mut self, partition: OpenPartition) -> Result<(), FormatError> {
        let postings = &mut self.postings;
        let mut facets = Vec::new();
        if let Some(builder) = partition.facets {
            facets = builder.finish(&partition.rows, &partition.strays, postings)?;
        }
        let mut entry = Partition {
            team: partition.team,
            rows: partition.rows,
            traces: 0..0,
            sessions: 0..0,
            requests: 0..0,
            facets: add_block(&mut self.facets, &facets)?,
            first_start: partition.first_start,
            last_start: partition.last_start,
        };
        for (index, runs) in self.ids.iter_mut().zip(partition.ids) {
            *entry.block_mut(index.id) = index.add(runs, &entry.rows, postings)?;
        }
        self.partitions.push(entry);
        Ok(())
    }
}

impl OpenPartition {
    /// A partition of a table whose first row is the segment's row `first_row`.
    pub(crate) fn new(team: TeamId, table: &Table, first_row: u32) -> Self {
        Self {
            team,
            rows: first_row..first_row,
            first_start: i64::MAX,
            last_start: i64::MIN,
            ids: vec![Vec::new(); table.roles().ids.len()],
            waiting: Vec::new(),
            facets: None,
            strays: BTreeSet::new(),
        }
    }

    /// Adds rows of a batch with the columns of the table, as the partition's next
    /// ones.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the batch has other columns.
    pub(crate) fn add(
        &mut self,
        table: &Table,
        batch: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<(), FormatError> {
        let roles = table.roles();
        let missing = |place: usize| {
            let name = table.column(place).map_or("", |column| column.name);
            FormatError::malformed("columns", 0, format!("the column {name}"), "another")
        };
        let starts = batch.columns().get(roles.start);
        let starts = starts
            .and_then(|starts| starts.as_primitive_opt::<TimestampNanosecondType>())
            .ok_or_else(|| missing(roles.start))?;
        for start in starts.values().get(rows.clone()).unwrap_or_default() {
            self.first_start = self.first_start.min(*start);
            self.last_start = self.last_start.max(*start);
        }
        let first_row = self.rows.end;
        for ((_, place), runs) in roles.ids.iter().zip(&mut self.ids) {
            let column = batch.columns().get(*place).ok_or_else(|| missing(*place))?;
            if let Some(texts) = column.as_string_view_opt() {
                let id = |row| texts.is_valid(row).then(|| texts.value(row).as_bytes());
                add_runs(runs, id, rows.clone(), first_row);
            } else if let Some(ids) = column.as_fixed_size_binary_opt() {
                let id = |row| ids.is_valid(row).then(|| ids.value(row));
                add_runs(runs, id, rows.clone(), first_row);
            } else {
                return Err(missing(*place));
            }
        }
        self.rows.end += rows.len() as u32;
        Ok(())
    }

    /// Notes that some of its rows have strays of promoted keys.
    pub(crate) fn add_strays(&mut self, keys: impl Iterator<Item = u32>) {
        self.strays.extend(keys);
    }

    /// Adds rows, given by the columns of the file, to the facets of these columns,
    /// of which those before `first_promoted` are the table's.
    pub(crate) fn add_facets(
        &mut self,
        batch: &RecordBatch,
        columns: &[usize],
        first_promoted: usize,
    ) {
        if let Some(facets) = &mut self.facets {
            facets.add(batch.columns());
            return;
        }
        self.waiting.push(batch.columns().to_vec());
        if self.rows.end - self.rows.start >= facets::LEAST_PARTITION_ROWS {
            let mut facets = FacetsBuilder::new(columns, first_promoted, self.rows.start);
            for batch in std::mem::take(&mut self.waiting) {
                facets.add(&batch);
            }
            self.facets = Some(facets);
        }
    }
}

/// Adds the runs of rows with the same id; the first of `rows` is the segment's row
/// `first_row`.
fn add_runs<'a>(
    runs: &mut Vec<(Key, Range<u32>)>,
    id: impl Fn(usize) -> Option<&'a [u8]>,
    rows: Range<usize>,
    first_row: u32,
) {
    let mut start = rows.start;
    while start < rows.end {
        let current = id(start);
        let mut end = start + 1;
        while end < rows.end && id(end) == current {
            end += 1;
        }
        if let Some(id) = current {
            let row = |row: usize| first_row + (row - rows.start) as u32;
            let (key, run) = (key_index::key_of(id), row(start)..row(end));
            match runs.last_mut() {
                Some((last, rows)) if *last == key && rows.end == run.start => rows.end = run.end,
                _ => runs.push((key, run)),
            }
        }
        start = end;
    }
}
