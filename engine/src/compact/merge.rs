//! Merges segments of a month into one run of segments.
//!
//! Teams come one after the other. The rows of a small team are read whole, by
//! cursors that read each input from its beginning to its end. Of a large team
//! only the places of its traces are kept in memory; its rows are read a chunk
//! of traces at a time, so memory does not grow with the team.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampNanosecondType;
use roaring::RoaringBitmap;
use spanstore_format::segment::order::{CHUNK_ROWS, OrderedRow, Place, gather, order};
use spanstore_format::segment::promotion::choose::{SAMPLE_ROWS, Sample};
use spanstore_format::segment::{Column, Partition, Promotion, SegmentReader, SegmentSummary};
use spanstore_format::span::schema::{TRACE_ID, TRACE_START, schema};
use spanstore_format::{FormatError, Month, SegmentId, TeamId};

use crate::error::Error;
use crate::io::Disk;
use crate::read::scan::{columns_error, damaged, ranges};
use crate::read::visibility::hidden_rows;
use crate::segment::{self, Segment};
use crate::segment_file::SegmentFile;
use crate::view::Erasures;

/// Rows of a team from which on it is merged trace by trace.
const LARGE_TEAM_ROWS: u64 = 32_768;
/// Rows of the stretches that a sample is taken from.
const STRETCH_ROWS: u32 = 1_024;

/// What to merge, and how.
pub(super) struct Merge<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) root: &'a Path,
    pub(super) month: Month,
    pub(super) inputs: &'a [Arc<Segment>],
    pub(super) erasures: &'a Erasures,
    /// Whether nothing of a team is kept of this month any more.
    pub(super) is_expired: &'a dyn Fn(&TeamId) -> bool,
    /// Rows at which another segment begins, between two teams.
    pub(super) segment_rows: u64,
    pub(super) level: u32,
    /// The run that the segments belong to; none for one of their own.
    pub(super) run: Option<SegmentId>,
    pub(super) next_id: &'a dyn Fn() -> SegmentId,
    /// Called every few thousand rows; an error ends the merge.
    pub(super) pause: &'a dyn Fn() -> Result<(), Error>,
}

/// What a merge made.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) segments: Vec<SegmentSummary>,
    /// Rows of each team that are gone: erased, expired, or there twice.
    pub(super) removed: HashMap<TeamId, u64>,
}

/// The partitions of one team: input and place in its directory.
type Places = Vec<(usize, u32)>;

impl Merge<'_> {
    /// Writes the segments.
    pub(super) fn run(&self) -> Result<Merged, Error> {
        let mut merged = Merged::default();
        match self.write(&mut merged) {
            Ok(()) => Ok(merged),
            Err(error) => {
                // Nothing names them; what stays is a stray for the next open.
                for summary in &merged.segments {
                    drop(self.disk.remove_file(&segment::path(self.root, summary)));
                }
                Err(error)
            }
        }
    }

    fn write(&self, merged: &mut Merged) -> Result<(), Error> {
        let readers: Vec<Arc<SegmentReader>> = self
            .inputs
            .iter()
            .map(|input| input.reader())
            .collect::<Result<_, _>>()?;
        let mut cursors: Vec<Cursor<'_>> = self.inputs.iter().map(|one| Cursor::new(one)).collect();
        let mut run = self.run;
        for teams in self.plan(&readers)? {
            let promotion = self.promotion(&readers, &teams)?;
            let id = (self.next_id)();
            let mut out = SegmentFile::create(self.disk, self.root, id, self.month, promotion)?;
            let mut waiting = Waiting::default();
            for places in &teams {
                self.merge_team(
                    &readers,
                    places,
                    &mut cursors,
                    &mut waiting,
                    &mut out,
                    merged,
                )?;
            }
            waiting.flush(&mut out)?;
            if out.rows() == 0 {
                continue;
            }
            let mut summary = out.finish()?;
            summary.level = self.level;
            summary.run = *run.get_or_insert(id);
            merged.segments.push(summary);
        }
        Ok(())
    }

    /// The teams of each segment to be written.
    fn plan(&self, readers: &[Arc<SegmentReader>]) -> Result<Vec<Vec<Places>>, Error> {
        let mut next = vec![0u32; readers.len()];
        let mut segments: Vec<Vec<Places>> = Vec::new();
        let mut rows = u64::MAX;
        loop {
            let mut first: Option<TeamId> = None;
            let mut partitions: Vec<Option<Partition>> = Vec::with_capacity(readers.len());
            for (input, place) in next.iter().enumerate() {
                let partition = self.partition(readers, input, *place)?;
                if let Some(partition) = &partition
                    && first.as_ref().is_none_or(|first| partition.team < *first)
                {
                    first = Some(partition.team.clone());
                }
                partitions.push(partition);
            }
            let Some(first) = first else { break };
            if rows >= self.segment_rows {
                segments.push(Vec::new());
                rows = 0;
            }
            let mut places = Vec::new();
            for ((input, place), partition) in next.iter_mut().enumerate().zip(partitions) {
                if let Some(partition) = partition.filter(|one| one.team == first) {
                    places.push((input, *place));
                    *place += 1;
                    rows += u64::from(partition.rows.end - partition.rows.start);
                }
            }
            if let Some(segment) = segments.last_mut() {
                segment.push(places);
            }
        }
        Ok(segments)
    }

    fn partition(
        &self,
        readers: &[Arc<SegmentReader>],
        input: usize,
        place: u32,
    ) -> Result<Option<Partition>, Error> {
        let (Some(reader), Some(segment)) = (readers.get(input), self.inputs.get(input)) else {
            return Ok(None);
        };
        if place as usize >= reader.directory().len() {
            return Ok(None);
        }
        let partition = reader.directory().partition(place as usize);
        partition.map(Some).map_err(|error| segment.corrupt(error))
    }

    /// The keys that a segment of these teams promotes, by a sample of their
    /// rows.
    fn promotion(
        &self,
        readers: &[Arc<SegmentReader>],
        teams: &[Places],
    ) -> Result<Promotion, Error> {
        // Teams are contiguous in each input.
        let mut ranges: Vec<Option<Range<u32>>> = vec![None; readers.len()];
        for (input, place) in teams.iter().flatten() {
            let Some(partition) = self.partition(readers, *input, *place)? else {
                continue;
            };
            if let Some(range) = ranges.get_mut(*input) {
                let start = range
                    .as_ref()
                    .map_or(partition.rows.start, |range| range.start);
                *range = Some(start..partition.rows.end);
            }
        }
        let total: u64 = ranges
            .iter()
            .flatten()
            .map(|range| u64::from(range.end - range.start))
            .sum();
        let step = (total / (SAMPLE_ROWS / u64::from(STRETCH_ROWS))).max(u64::from(STRETCH_ROWS));
        let mut sample = Sample::default();
        for (segment, range) in self.inputs.iter().zip(ranges) {
            let Some(range) = range else { continue };
            let stretches: Vec<Range<u32>> = range
                .clone()
                .step_by(step as usize)
                .map(|start| start..range.end.min(start + STRETCH_ROWS))
                .collect();
            for batch in read(segment, &stretches)? {
                sample.add(&batch?, 1);
                (self.pause)()?;
            }
        }
        Ok(sample.choose())
    }

    fn merge_team(
        &self,
        readers: &[Arc<SegmentReader>],
        places: &Places,
        cursors: &mut [Cursor<'_>],
        waiting: &mut Waiting,
        out: &mut SegmentFile,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        let mut parts: Vec<Part> = Vec::with_capacity(places.len());
        let mut team = None;
        for (input, place) in places {
            let (Some(partition), Some(reader), Some(segment)) = (
                self.partition(readers, *input, *place)?,
                readers.get(*input),
                self.inputs.get(*input),
            ) else {
                continue;
            };
            let hidden = if (self.is_expired)(&partition.team) {
                partition.rows.clone().collect()
            } else {
                hidden_rows(segment, reader, &partition, None, self.erasures)?
            };
            team = Some(partition.team.clone());
            parts.push(Part {
                input: *input,
                rows: partition.rows,
                hidden,
            });
        }
        let Some(team) = team else { return Ok(()) };
        let before: u64 = parts.iter().map(Part::rows).sum();
        let kept = Cell::new(0u64);
        if before < LARGE_TEAM_ROWS {
            let mut pieces = Vec::new();
            for part in &parts {
                if let Some(cursor) = cursors.get_mut(part.input) {
                    cursor.take(part, &mut pieces)?;
                }
            }
            kept.set(waiting.add(pieces, out)?);
        } else {
            waiting.flush(out)?;
            self.merge_traces(&parts, |batches| {
                let pieces = batches.into_iter().map(Piece::whole).collect();
                kept.set(kept.get() + waiting.add(pieces, out)?);
                Ok(())
            })?;
        }
        (self.pause)()?;
        if before > kept.get() {
            *merged.removed.entry(team).or_default() += before - kept.get();
        }
        Ok(())
    }

    /// Hands out the rows of a large team, some whole traces at a time, in the
    /// order of the traces.
    fn merge_traces(
        &self,
        parts: &[Part],
        mut take: impl FnMut(Vec<RecordBatch>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut runs = Vec::new();
        for part in parts {
            if let Some(segment) = self.inputs.get(part.input) {
                trace_runs(segment, part, &mut runs)?;
                (self.pause)()?;
            }
        }
        // A trace begins where the first of its parts does.
        runs.sort_unstable_by_key(|run| (run.trace_id, run.trace_start));
        for trace in runs.chunk_by_mut(|one, next| one.trace_id == next.trace_id) {
            let start = trace.first().map_or(0, |first| first.trace_start);
            for run in trace {
                run.trace_start = start;
            }
        }
        runs.sort_unstable_by_key(|run| (run.trace_start, run.trace_id, run.input, run.rows.start));
        let mut chunk: Vec<&TraceRun> = Vec::new();
        let mut rows = 0;
        for trace in runs.chunk_by(|one, next| one.trace_id == next.trace_id) {
            chunk.extend(trace);
            rows += trace.iter().map(|run| run.rows.len()).sum::<usize>();
            if rows >= 2 * CHUNK_ROWS {
                take(self.read_runs(parts, &chunk)?)?;
                (self.pause)()?;
                chunk.clear();
                rows = 0;
            }
        }
        take(self.read_runs(parts, &chunk)?)
    }

    fn read_runs(&self, parts: &[Part], runs: &[&TraceRun]) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        for part in parts {
            let mut rows = RoaringBitmap::new();
            for run in runs.iter().filter(|run| run.input as usize == part.input) {
                rows.insert_range(run.rows.clone());
            }
            rows -= &part.hidden;
            if let Some(segment) = self.inputs.get(part.input).filter(|_| !rows.is_empty()) {
                for batch in read(segment, &ranges(&rows))? {
                    batches.push(batch?);
                }
            }
        }
        Ok(batches)
    }
}

/// A team's rows in one input.
struct Part {
    input: usize,
    rows: Range<u32>,
    hidden: RoaringBitmap,
}

impl Part {
    fn rows(&self) -> u64 {
        u64::from(self.rows.end - self.rows.start)
    }
}

/// The rows of a trace in one input.
struct TraceRun {
    trace_start: i64,
    trace_id: [u8; 16],
    rows: Range<u32>,
    input: u32,
}

/// Adds the traces of a part.
fn trace_runs(segment: &Segment, part: &Part, runs: &mut Vec<TraceRun>) -> Result<(), Error> {
    let place = |name| {
        let place = schema().index_of(name);
        place
            .map(Column::Span)
            .map_err(|error| columns_error("span schema", &error))
    };
    let columns = [place(TRACE_ID)?, place(TRACE_START)?];
    let reader = segment.row_reader()?;
    let batches = reader
        .read(std::slice::from_ref(&part.rows), &columns, CHUNK_ROWS)
        .map_err(|error| segment.corrupt(error))?;
    let mut row = part.rows.start;
    for batch in batches {
        let batch = batch.map_err(|error| damaged(segment, &error))?;
        let missing = || FormatError::malformed("rows", 0, "ids and starts of traces", "none");
        let (Some(ids), Some(starts)) = (
            batch.column(0).as_fixed_size_binary_opt(),
            batch
                .column(1)
                .as_primitive_opt::<TimestampNanosecondType>(),
        ) else {
            return Err(segment.corrupt(missing()));
        };
        for (place, start) in starts.values().iter().enumerate() {
            let trace_id: [u8; 16] = ids.value(place).try_into().unwrap_or_default();
            match runs.last_mut() {
                Some(run)
                    if run.trace_id == trace_id && run.rows.end == row && row > part.rows.start =>
                {
                    run.rows.end += 1;
                }
                _ => runs.push(TraceRun {
                    trace_start: *start,
                    trace_id,
                    rows: row..row + 1,
                    input: part.input as u32,
                }),
            }
            row += 1;
        }
    }
    Ok(())
}

/// All columns of some rows.
fn read(
    segment: &Segment,
    rows: &[Range<u32>],
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let columns: Vec<Column> = (0..schema().fields().len()).map(Column::Span).collect();
    let reader = segment.row_reader()?;
    let batches = reader
        .read(rows, &columns, CHUNK_ROWS)
        .map_err(|error| segment.corrupt(error))?;
    Ok(batches.map(move |batch| batch.map_err(|error| damaged(segment, &error))))
}

/// Reads an input from its beginning to its end.
struct Cursor<'a> {
    segment: &'a Segment,
    /// Rows that were read and not taken, and the number of their first.
    buffer: Option<(u32, RecordBatch)>,
}

impl<'a> Cursor<'a> {
    fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            buffer: None,
        }
    }

    /// Adds the visible rows of a part.
    fn take(&mut self, part: &Part, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        let mut row = part.rows.start;
        while row < part.rows.end {
            let (first, buffer) = match &self.buffer {
                Some((first, buffer))
                    if *first <= row && row < *first + buffer.num_rows() as u32 =>
                {
                    (*first, buffer.clone())
                }
                _ => {
                    let end = self.segment.summary().rows.min(row + CHUNK_ROWS as u32);
                    let stretch = row..end;
                    let next = read(self.segment, std::slice::from_ref(&stretch))?.next();
                    let Some(batch) = next.transpose()? else {
                        let expected = format!("rows from {row} on");
                        let error = FormatError::malformed("rows", 0, expected, "none");
                        return Err(self.segment.corrupt(error));
                    };
                    self.buffer = Some((row, batch.clone()));
                    (row, batch)
                }
            };
            let offset = (row - first) as usize;
            let count = (buffer.num_rows() - offset).min((part.rows.end - row) as usize);
            let rows = buffer.slice(offset, count);
            pieces.push(if part.hidden.is_empty() {
                Piece {
                    rows,
                    source: Some(((part.input, first), buffer, offset)),
                }
            } else {
                let is_seen = (row..row + count as u32).map(|row| Some(!part.hidden.contains(row)));
                let rows = filter_record_batch(&rows, &is_seen.collect());
                Piece::whole(rows.map_err(|error| columns_error("rows", &error))?)
            });
            row += count as u32;
        }
        Ok(())
    }
}

/// Some rows of one team.
struct Piece {
    rows: RecordBatch,
    /// The larger batch that they are a slice of: its input and first row, the
    /// batch, and where the slice begins.
    source: Option<((usize, u32), RecordBatch, usize)>,
}

impl Piece {
    fn whole(rows: RecordBatch) -> Self {
        Self { rows, source: None }
    }
}

/// Rows in the order of the segment that are too few to be written alone.
#[derive(Default)]
struct Waiting {
    batches: Vec<RecordBatch>,
    /// Places in `batches` of those that many teams have rows in.
    shared: HashMap<(usize, u32), usize>,
    rows: Vec<OrderedRow>,
}

impl Waiting {
    /// Adds whole traces of one team; answers how many rows are kept: spans
    /// that are there twice with the same content are kept once.
    fn add(&mut self, pieces: Vec<Piece>, out: &mut SegmentFile) -> Result<u64, Error> {
        let corrupt = |error| Error::corrupt("rows to merge", error);
        let batches: Vec<RecordBatch> = pieces.iter().map(|piece| piece.rows.clone()).collect();
        let kept = distinct(&batches, order(&batches).map_err(corrupt)?)?;
        let count = kept.len() as u64;
        let places: Vec<(usize, usize)> = pieces
            .into_iter()
            .map(|piece| {
                let next = self.batches.len();
                match piece.source {
                    None => {
                        self.batches.push(piece.rows);
                        (next, 0)
                    }
                    Some((key, batch, offset)) => {
                        let place = *self.shared.entry(key).or_insert(next);
                        if place == next {
                            self.batches.push(batch);
                        }
                        (place, offset)
                    }
                }
            })
            .collect();
        self.rows.extend(kept.into_iter().filter_map(|mut row| {
            let (batch, offset) = *places.get(row.place.batch)?;
            row.place = Place {
                batch,
                row: row.place.row + offset,
            };
            Some(row)
        }));
        if self.rows.len() >= CHUNK_ROWS {
            self.flush(out)?;
        }
        Ok(count)
    }

    fn flush(&mut self, out: &mut SegmentFile) -> Result<(), Error> {
        for chunk in self.rows.chunks(CHUNK_ROWS) {
            let batch = gather(&self.batches, chunk);
            out.write(&batch.map_err(|error| Error::corrupt("rows to merge", error))?)?;
        }
        self.rows.clear();
        self.shared.clear();
        self.batches.clear();
        Ok(())
    }
}

/// Leaves out rows of the same span with the same content. Their order brings
/// the same ids together.
fn distinct(batches: &[RecordBatch], rows: Vec<OrderedRow>) -> Result<Vec<OrderedRow>, Error> {
    let trace_start = schema()
        .index_of(TRACE_START)
        .map_err(|error| columns_error("span schema", &error))?;
    let is_same_span = |one: &OrderedRow, other: &OrderedRow| {
        one.trace_id == other.trace_id && one.start == other.start && one.span_id == other.span_id
    };
    let is_same_row = |one: &OrderedRow, other: &OrderedRow| {
        let (Some(one_batch), Some(other_batch)) =
            (batches.get(one.place.batch), batches.get(other.place.batch))
        else {
            return false;
        };
        let columns = one_batch.columns().iter().zip(other_batch.columns());
        columns
            .enumerate()
            .filter(|(place, _)| *place != trace_start)
            .all(|(_, (one_column, other_column))| {
                one_column.slice(one.place.row, 1).as_ref()
                    == other_column.slice(other.place.row, 1).as_ref()
            })
    };
    let mut kept: Vec<OrderedRow> = Vec::with_capacity(rows.len());
    for row in rows {
        let versions = kept.iter().rev().take_while(|one| is_same_span(one, &row));
        if !versions.into_iter().any(|one| is_same_row(one, &row)) {
            kept.push(row);
        }
    }
    Ok(kept)
}
