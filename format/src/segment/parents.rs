//! Parents as distances: a row whose parent lies in the same trace of the same segment
//! has the distance to it, in rows, in place of its id.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int32Builder,
    RecordBatch,
};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use hashbrown::HashMap;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;

use crate::error::FormatError;
use crate::segment::layout::checksum::VerifiedBytes;
use crate::segment::layout::directory::Directory;
use crate::segment::layout::encoding::ROW_GROUP_ROWS;
use crate::segment::pages::{Pages, damaged, find_page, parquet_error};
use crate::table::ParentColumns;

const PART: &str = "distances of parents";

/// Makes the distances of rows that are written. Rows of a trace follow one another; a
/// parent that comes in a later batch than its child is not found, and the child keeps
/// its id.
#[derive(Debug)]
pub(super) struct DistanceBuilder {
    columns: &'static ParentColumns,
    /// The trace of the last row, and its team.
    team: String,
    trace: Vec<u8>,
    /// The rows of that trace so far, by their ids; of equal ids the first.
    rows: HashMap<Vec<u8>, u32>,
}

impl DistanceBuilder {
    pub(super) fn new(columns: &'static ParentColumns) -> Self {
        Self {
            columns,
            team: String::new(),
            trace: Vec::new(),
            rows: HashMap::new(),
        }
    }

    /// The distances of the rows of a batch, the first of which has a number, and the ids
    /// of the parents that are not among the rows of their trace.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the batch has other columns.
    pub(super) fn split(
        &mut self,
        batch: &RecordBatch,
        team: usize,
        first_row: u32,
    ) -> Result<(ArrayRef, ArrayRef), FormatError> {
        let other = || FormatError::malformed("columns", 0, "ids of spans and traces", "others");
        let column = |place: usize| batch.columns().get(place).ok_or_else(other);
        let ids = |place: usize| column(place)?.as_fixed_size_binary_opt().ok_or_else(other);
        let (spans, parents) = (ids(self.columns.id)?, ids(self.columns.parent)?);
        let traces = ids(self.columns.trace)?;
        let teams = column(team)?.as_string_view_opt().ok_or_else(other)?;
        let mut distances = Int32Builder::with_capacity(batch.num_rows());
        let mut strays =
            FixedSizeBinaryBuilder::with_capacity(batch.num_rows(), parents.value_length());
        let mut start = 0;
        while start < batch.num_rows() {
            let (team, trace) = (teams.value(start), traces.value(start));
            let is_same = |row: &usize| traces.value(*row) == trace && teams.value(*row) == team;
            let count = (start..batch.num_rows()).take_while(is_same).count();
            let run = start..start + count;
            if self.team != team || self.trace != trace {
                self.rows.clear();
                team.clone_into(&mut self.team);
                trace.clone_into(&mut self.trace);
            }
            for row in run.clone() {
                let number = first_row + row as u32;
                self.rows.entry_ref(spans.value(row)).or_insert(number);
            }
            for row in run.clone() {
                let parent = parents.is_valid(row).then(|| parents.value(row));
                let found = parent.and_then(|parent| self.rows.get(parent));
                let distance = found.and_then(|found| {
                    i32::try_from(i64::from(*found) - i64::from(first_row) - row as i64).ok()
                });
                distances.append_option(distance);
                match parent.filter(|_| distance.is_none()) {
                    Some(parent) => strays.append_value(parent).map_err(|_| other())?,
                    None => strays.append_null(),
                }
            }
            start = run.end;
        }
        Ok((Arc::new(distances.finish()), Arc::new(strays.finish())))
    }
}

/// Finds the ids of parents for rows that are read.
#[derive(Debug)]
pub(super) struct Parents {
    pub(super) bytes: VerifiedBytes,
    pub(super) pages: Arc<Pages>,
    pub(super) directory: Directory,
    /// The place of the ids of spans in the file.
    pub(super) ids: usize,
}

impl Parents {
    /// The ids of the parents of rows, of which `strays` and `distances` were read.
    ///
    /// # Errors
    /// [`FormatError`] when a distance leaves the partition, or an id cannot be read.
    pub(super) fn ids(
        &self,
        rows: &[Range<u32>],
        strays: &ArrayRef,
        distances: &ArrayRef,
    ) -> Result<ArrayRef, FormatError> {
        let other = || FormatError::malformed(PART, 0, "ids and distances", "other columns");
        let strays = strays.as_fixed_size_binary_opt().ok_or_else(other)?;
        let distances = distances
            .as_primitive_opt::<Int32Type>()
            .ok_or_else(other)?;
        if distances.null_count() == distances.len() {
            return Ok(Arc::new(strays.clone()));
        }
        let size = strays.value_length();
        let mut parents = FixedSizeBinaryBuilder::with_capacity(strays.len(), size);
        let mut ids = PlainIds {
            parents: self,
            bytes: size.unsigned_abs() as usize,
            rows: 0..0,
            page: Bytes::new(),
        };
        let mut partition = 0..0;
        for (place, row) in rows.iter().cloned().flatten().enumerate() {
            if place == strays.len() {
                break;
            }
            if distances.is_null(place) {
                append(&mut parents, strays, place)?;
                continue;
            }
            if !partition.contains(&row) {
                partition = self.directory.rows_around(row)?;
            }
            let parent = i64::from(row) + i64::from(distances.value(place));
            let parent = u32::try_from(parent)
                .ok()
                .filter(|row| partition.contains(row));
            let parent = parent.ok_or_else(|| {
                let found = format!("row {row} and {}", distances.value(place));
                FormatError::malformed(PART, 0, format!("rows within {partition:?}"), found)
            })?;
            let id = ids
                .get(parent)
                .map_err(|error| parquet_error("segment", 0, &error))?;
            parents.append_value(id).map_err(|_| other())?;
        }
        Ok(Arc::new(parents.finish()))
    }
}

fn append(
    parents: &mut FixedSizeBinaryBuilder,
    strays: &FixedSizeBinaryArray,
    place: usize,
) -> Result<(), FormatError> {
    if strays.is_null(place) {
        parents.append_null();
        return Ok(());
    }
    let id = parents.append_value(strays.value(place));
    id.map_err(|error| FormatError::malformed(PART, 0, "an id", error.to_string()))
}

/// Ids of spans by their rows. They are stored as they are, so that one is found without
/// a decoder.
struct PlainIds<'a> {
    parents: &'a Parents,
    /// Bytes of an id.
    bytes: usize,
    /// The rows of the page that was found last, and its ids.
    rows: Range<u32>,
    page: Bytes,
}

impl PlainIds<'_> {
    fn get(&mut self, row: u32) -> Result<&[u8], ParquetError> {
        if !self.rows.contains(&row) {
            self.find(row)?;
        }
        let start = (row - self.rows.start) as usize * self.bytes;
        let id = self.page.get(start..start + self.bytes);
        id.ok_or_else(|| damaged("an id for each row of a page"))
    }

    fn find(&mut self, row: u32) -> Result<(), ParquetError> {
        let Parents {
            bytes, pages, ids, ..
        } = self.parents;
        let first = row / ROW_GROUP_ROWS * ROW_GROUP_ROWS;
        let row_group = (row / ROW_GROUP_ROWS) as usize;
        let group = pages.row_group(row_group);
        let chunk = group.and_then(|group| group.columns().get(*ids));
        let chunk = chunk.ok_or_else(|| damaged("a column chunk of ids"))?;
        let locations = pages.locations(row_group, *ids)?;
        let location = locations
            .get(locations.page_of(row - first))
            .ok_or_else(|| damaged("a page of ids"))?;
        let (header, page) = find_page(bytes, location.place)?;
        let is_plain = header.encoding == Encoding::PLAIN
            && chunk.compression() == Compression::UNCOMPRESSED
            && chunk.column_descr().max_def_level() == 0;
        let rows = location.rows;
        let rows = first.saturating_add(rows.start)..first.saturating_add(rows.end);
        if !is_plain || !rows.contains(&row) {
            return Err(damaged("ids as they are"));
        }
        (self.rows, self.page) = (rows, page);
        Ok(())
    }
}
