//! The partitions of a segment that is written, one after the other.

use arrow::array::{AsArray, RecordBatch};

use crate::error::FormatError;
use crate::id::TeamId;
use crate::segment::layout::columns::{self, FileColumns};
use crate::segment::promotion::Promotion;
use crate::segment::promotion::split::Splitter;
use crate::segment::writing::partition::{Indexes, OpenPartition};
use crate::segment::writing::requests::StoredRequests;
use crate::segment::writing::writer::SegmentWriteError;
use crate::table::Table;

/// The indexes of the partitions so far, and the one at work.
#[derive(Debug)]
pub(crate) struct Partitions {
    table: &'static Table,
    /// The first column of the file that is a promoted key's own.
    first_promoted: usize,
    facet_columns: Vec<usize>,
    indexes: Indexes,
    open: Option<OpenPartition>,
    /// Of spans alone.
    requests: Option<StoredRequests>,
}

impl Partitions {
    pub(crate) fn new(
        table: &'static Table,
        promotion: &Promotion,
        requests: Option<StoredRequests>,
    ) -> Self {
        let no_strays = vec![false; promotion.keys().len()];
        let first_promoted = columns::file_schema(table, &Promotion::default());
        Self {
            table,
            first_promoted: first_promoted.fields().len(),
            facet_columns: FileColumns::written(table, promotion, &no_strays).facets(table),
            indexes: Indexes::of(table),
            open: None,
            requests,
        }
    }

    /// Adds rows with the columns of the table, the same with those of the file, and
    /// the strays among them; the first is the segment's row `first_row`.
    pub(crate) fn add(
        &mut self,
        batch: &RecordBatch,
        file: &RecordBatch,
        splitter: &Splitter,
        first_row: u32,
    ) -> Result<(), SegmentWriteError> {
        let teams = batch.columns().get(self.table.roles().team);
        let teams = teams.and_then(|teams| teams.as_string_view_opt());
        let teams = teams.ok_or_else(|| {
            let found = format!("{} columns", batch.num_columns());
            FormatError::malformed("columns", 0, "the columns of the table", found)
        })?;
        let mut row = 0;
        while row < batch.num_rows() {
            let team = teams.value(row);
            let start = row;
            while row < batch.num_rows() && teams.value(row) == team {
                row += 1;
            }
            let mut partition = self.partition(team, first_row + start as u32)?;
            partition.add(self.table, batch, start..row)?;
            partition.add_strays(splitter.strays(start as u32..row as u32));
            let slice = file.slice(start, row - start);
            partition.add_facets(&slice, &self.facet_columns, self.first_promoted);
            self.open = Some(partition);
            if let Some(requests) = &mut self.requests {
                requests.add(team, batch, start..row, first_row + start as u32)?;
            }
        }
        Ok(())
    }

    /// The partition of a team, which the rows from `row` on belong to.
    fn partition(&mut self, team: &str, row: u32) -> Result<OpenPartition, FormatError> {
        if let Some(open) = self.open.take() {
            if open.team.as_str() == team {
                return Ok(open);
            }
            if open.team.as_str() > team {
                let expected = format!("a team after {}", open.team);
                return Err(FormatError::malformed("segment", 0, expected, team));
            }
            self.indexes.add(open)?;
        }
        let id = TeamId::new(team)
            .map_err(|error| FormatError::malformed("segment", 0, "a team", error.to_string()))?;
        Ok(OpenPartition::new(id, self.table, row))
    }

    /// The indexes of all of them, and the part of their requests.
    pub(crate) fn finish(mut self) -> Result<(Indexes, Option<Vec<u8>>), SegmentWriteError> {
        if let Some(open) = self.open.take() {
            self.indexes.add(open)?;
        }
        let requests = self.requests.map(StoredRequests::finish);
        Ok((self.indexes, requests.transpose()?.flatten()))
    }
}
