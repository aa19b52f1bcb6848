//! Writes a segment: rows in their order in, a Parquet file with its indexes out.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;

use crate::error::FormatError;
use crate::id::SegmentId;
use crate::jobs::{Caller, Workers};
use crate::month::Month;
use crate::segment::layout::checksum::{BLOCK_BYTES, ChecksummingWriter};
use crate::segment::layout::columns::{self, FileColumns};
use crate::segment::layout::directory;
use crate::segment::layout::encoding;
use crate::segment::layout::header::{FOOTER_KEY, IndexHeader, Part, PartPlace};
use crate::segment::layout::origin::Origin;
use crate::segment::parents::DistanceBuilder;
use crate::segment::promotion::Promotion;
use crate::segment::promotion::split::{Split, Splitter};
use crate::segment::shared::SharedBuilder;
use crate::segment::writing::partitions::Partitions;
use crate::segment::writing::requests::StoredRequests;
use crate::segment::writing::row_groups::RowGroups;
use crate::span;
use crate::table::Table;

/// Key of the pair in the Parquet footer that tells other readers, as JSON, which
/// column holds which attribute.
pub const PROMOTED_KEY: &str = "spanstore.promoted";

/// A segment could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentWriteError {
    /// Parquet, or the writer below it, failed.
    #[error("write a segment: {0}")]
    Parquet(#[from] ParquetError),
    /// The writer below failed.
    #[error("write a segment: {0}")]
    Io(#[from] std::io::Error),
    /// The rows are not those of the table, or not in order.
    #[error("write a segment: {0}")]
    Rows(#[from] FormatError),
}

/// What the catalog keeps of a segment, so that opening it needs no Parquet
/// footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The segment.
    pub id: SegmentId,
    /// The month of its rows.
    pub month: Month,
    /// Its rows.
    pub rows: u32,
    /// Its partitions: teams with rows in it.
    pub partitions: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Where the index header stands.
    pub index_offset: u64,
    /// Where the tail begins: page index and Parquet footer.
    pub tail_offset: u64,
    /// CRC32C of the tail.
    pub tail_crc: u32,
    /// Earliest start of a span, ns since 1970.
    pub first_start: i64,
    /// Latest start of a span, ns since 1970.
    pub last_start: i64,
    /// The first of its teams in the order of their bytes; empty when it has
    /// no rows.
    pub first_team: String,
    /// The last of its teams, likewise.
    pub last_team: String,
    /// How many times its rows were merged: 0 for what a seal wrote.
    pub level: u32,
    /// The run that it is part of, named by its first segment: the segments of
    /// a run share no team.
    pub run: SegmentId,
}

/// Which segment it is that is written.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// Its id.
    pub id: SegmentId,
    /// The month of its rows.
    pub month: Month,
    /// Where its rows come from.
    pub origin: Origin,
    /// The attributes that get columns.
    pub promotion: Promotion,
}

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter<W: Write + Send> {
    table: &'static Table,
    parquet: RowGroups<ChecksummingWriter<W>>,
    workers: Arc<dyn Workers>,
    schema: SchemaRef,
    id: SegmentId,
    month: Month,
    origin: Origin,
    rows: u32,
    splitter: Splitter,
    shared: Vec<SharedBuilder>,
    distances: Option<DistanceBuilder>,
    partitions: Partitions,
    /// Parts that only a test knows.
    #[cfg(any(test, feature = "testing"))]
    more_parts: Vec<(PartPlace, Vec<u8>)>,
}

impl<W: Write + Send> SegmentWriter<W> {
    /// Begins a segment of rows of `table` that goes to `out`.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn new(
        out: W,
        table: &'static Table,
        segment: NewSegment,
    ) -> Result<Self, SegmentWriteError> {
        let NewSegment {
            id,
            month,
            origin,
            promotion,
        } = segment;
        let options = ArrowWriterOptions::new()
            .with_properties(encoding::writer_properties(table, &promotion))
            // View types are ours; other readers shall see plain texts.
            .with_skip_arrow_metadata(true);
        let out = ChecksummingWriter::new(out);
        let schema = columns::file_schema(table, &promotion);
        let are_spans = std::ptr::eq(table, span::table());
        let requests = are_spans.then(|| StoredRequests::new(id, month, origin.clone()));
        Ok(Self {
            table,
            parquet: RowGroups::new(out, &schema, options)?,
            workers: Arc::new(Caller),
            schema,
            id,
            month,
            origin,
            rows: 0,
            partitions: Partitions::new(table, &promotion, requests),
            splitter: Splitter::new(promotion),
            shared: table
                .roles()
                .shared
                .iter()
                .map(SharedBuilder::new)
                .collect(),
            distances: table.roles().parent.as_ref().map(DistanceBuilder::new),
            #[cfg(any(test, feature = "testing"))]
            more_parts: Vec::new(),
        })
    }

    /// Shares the work of encoding among `workers`; it is done by the caller's thread
    /// otherwise.
    pub fn with_workers(self, workers: Arc<dyn Workers>) -> Self {
        Self { workers, ..self }
    }

    /// Adds a part that this version does not know, of a kind above all that it does.
    #[cfg(any(test, feature = "testing"))]
    pub fn add_part(&mut self, kind: u16, is_required: bool, bytes: Vec<u8>) {
        let place = PartPlace {
            kind,
            version: 1,
            is_required,
            range: 0..0,
        };
        self.more_parts.push((place, bytes));
    }

    /// Rows so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes of the file so far, those of the row group at work included, about.
    pub fn bytes(&self) -> usize {
        self.parquet.bytes()
    }

    /// Adds rows with the columns of the table, in its order ([`Roles::order`]; of
    /// spans see [`order`](crate::segment::layout::order)).
    ///
    /// # Errors
    /// When the rows are not those of the table, a team comes out of order, the
    /// segment would exceed 2^32 - 1 rows, or the writer below fails.
    ///
    /// [`Roles::order`]: crate::table::Roles::order
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), SegmentWriteError> {
        let roles = self.table.roles();
        let split = roles
            .attributes
            .map(|place| self.splitter.split(batch, place));
        let split = split.transpose()?;
        self.add(batch, split)
    }

    /// Adds rows that are split already, in the order of the table.
    ///
    /// # Errors
    /// As [`SegmentWriter::write`].
    pub fn write_split(&mut self, rows: &RecordBatch) -> Result<(), SegmentWriteError> {
        let count = self.table.columns().len();
        let columns = rows.columns();
        let residual = self.table.roles().attributes;
        let residual = residual.and_then(|place| columns.get(place));
        let (Some(residual), Some((order, own))) =
            (residual, columns.get(count..).and_then(<[_]>::split_first))
        else {
            return Err(other_columns(rows).into());
        };
        self.splitter.note_strays(residual)?;
        let split = Split {
            residual: Arc::clone(residual),
            order: Arc::clone(order),
            own: own.to_vec(),
        };
        self.add(rows, Some(split))
    }

    fn add(&mut self, batch: &RecordBatch, split: Option<Split>) -> Result<(), SegmentWriteError> {
        let total = u32::try_from(batch.num_rows()).ok();
        let Some(total) = total.and_then(|rows| self.rows.checked_add(rows)) else {
            let found = format!("{} and {} more", self.rows, batch.num_rows());
            return Err(FormatError::malformed("segment", 0, "fewer than 2^32 rows", found).into());
        };
        let file = self.columns_of_file(batch, split)?;
        let mut indexed = Ok(());
        let index = || indexed = self.partitions.add(batch, &file, &self.splitter, self.rows);
        self.parquet.write(&file, &*self.workers, Box::new(index))?;
        indexed?;
        self.rows = total;
        Ok(())
    }

    /// The rows of the file for rows of the table.
    fn columns_of_file(
        &mut self,
        batch: &RecordBatch,
        split: Option<Split>,
    ) -> Result<RecordBatch, FormatError> {
        let roles = self.table.roles();
        let parents = self.distances.as_mut();
        let parents = parents.map(|one| one.split(batch, roles.team, self.rows));
        let (distances, strays) = parents.transpose()?.unzip();
        let parent = roles.parent.as_ref().map(|parent| parent.parent);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        let of_table = batch.columns().iter().take(self.table.columns().len());
        for (place, column) in of_table.enumerate() {
            if roles.shared.iter().any(|shared| shared.has(place)) {
                continue;
            }
            columns.push(match (&split, &strays) {
                (Some(split), _) if roles.attributes == Some(place) => Arc::clone(&split.residual),
                (_, Some(strays)) if parent == Some(place) => Arc::clone(strays),
                _ => Arc::clone(column),
            });
        }
        for shared in &mut self.shared {
            columns.push(shared.numbers(batch)?);
        }
        columns.extend(distances);
        if let Some(split) = split {
            columns.push(split.order);
            columns.extend(split.own);
        }
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns).map_err(|error| {
            FormatError::malformed("columns", 0, "the columns of the table", error.to_string())
        })
    }

    /// Completes the segment: indexes, block checksums, Parquet footer.
    /// Gives the writer below back, flushed but not synced.
    ///
    /// # Errors
    /// When the writer below fails.
    pub fn finish(mut self) -> Result<(W, SegmentSummary), SegmentWriteError> {
        let (indexes, requests) = self.partitions.finish()?;
        self.parquet.flush()?;
        let mut parquet = self.parquet.file;
        // Damage in the last rows shall not reach the directory's block.
        let used = parquet.bytes_written() as u64 % BLOCK_BYTES;
        let padding = vec![0; ((BLOCK_BYTES - used) % BLOCK_BYTES) as usize];
        parquet.write_all(&padding)?;
        let mut offset = parquet.bytes_written() as u64;
        let mut put = |bytes: &[u8], parquet: &mut SerializedFileWriter<_>| {
            let start = offset;
            offset += bytes.len() as u64;
            parquet.write_all(bytes).map(|()| start..offset)
        };
        let splitter = &self.splitter;
        let columns = FileColumns::written(self.table, splitter.promotion(), splitter.has_strays());
        let directory = directory::encode(&indexes.partitions);
        let mut parts = Vec::new();
        let mut part = |part, bytes: &[u8], parquet: &mut SerializedFileWriter<_>| {
            let range = put(bytes, parquet)?;
            parts.push(PartPlace::new(part, range));
            std::io::Result::Ok(())
        };
        part(Part::Columns, &columns.encode(self.table), &mut parquet)?;
        part(Part::Directory, &directory, &mut parquet)?;
        for index in &indexes.ids {
            part(Part::of_id(index.id), &index.entries, &mut parquet)?;
        }
        part(Part::Facets, &indexes.facets, &mut parquet)?;
        part(Part::Postings, &indexes.postings.bytes, &mut parquet)?;
        part(Part::Origin, &self.origin.encode(), &mut parquet)?;
        for shared in std::mem::take(&mut self.shared) {
            let kind = Part::of_shared(shared.columns.kind);
            part(kind, &shared.finish()?, &mut parquet)?;
        }
        if let Some(requests) = requests {
            part(Part::RequestTable, &requests, &mut parquet)?;
        }
        #[cfg(any(test, feature = "testing"))]
        for (place, bytes) in &self.more_parts {
            let range = put(bytes, &mut parquet)?;
            parts.push(PartPlace {
                range,
                ..place.clone()
            });
        }
        parquet.flush()?;
        let blocks: Vec<u8> = parquet
            .inner()
            .blocks()
            .iter()
            .flat_map(|block| block.to_le_bytes())
            .collect();
        let header = IndexHeader {
            segment: self.id,
            month: self.month,
            rows: self.rows,
            blocks_crc: crc32c::crc32c(&blocks),
            parts,
        };
        let index_offset = put(&header.encode(), &mut parquet)?.start;
        let tail_offset = put(&blocks, &mut parquet)?.end;
        parquet.flush()?;
        parquet.inner_mut().start_tail();
        parquet
            .append_key_value_metadata(KeyValue::new(FOOTER_KEY.into(), index_offset.to_string()));
        let promoted = columns::promotion_as_json(self.table, &columns);
        parquet.append_key_value_metadata(KeyValue::new(PROMOTED_KEY.into(), promoted));
        let partitions = indexes.partitions;
        let (out, bytes, tail_crc) = parquet.into_inner()?.finish()?;
        let team = |partition: Option<&directory::Partition>| {
            partition.map_or(String::new(), |one| one.team.as_str().to_owned())
        };
        let starts = |one: &directory::Partition| (one.first_start, one.last_start);
        let (first, last) = partitions
            .iter()
            .map(starts)
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
            .unwrap_or((i64::MAX, i64::MIN));
        let summary = SegmentSummary {
            id: self.id,
            month: self.month,
            rows: self.rows,
            partitions: partitions.len() as u32,
            bytes,
            index_offset,
            tail_offset,
            tail_crc,
            first_start: first,
            last_start: last,
            first_team: team(partitions.first()),
            last_team: team(partitions.last()),
            level: 0,
            run: self.id,
        };
        Ok((out, summary))
    }
}

fn other_columns(batch: &RecordBatch) -> FormatError {
    let found = format!("{} columns", batch.num_columns());
    FormatError::malformed("columns", 0, "the columns of the table", found)
}
