//! Merges segments of a month into one run of segments.
//!
//! Teams come one after the other. The rows of a small team are read whole, by
//! cursors that read each input from its beginning to its end. Of a large team
//! only the places of its traces are kept in memory; its rows are read a chunk
//! of traces at a time, so memory does not grow with the team.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use roaring::RoaringBitmap;
use spanstore_format::jobs::{Job, Workers};
use spanstore_format::segment::layout::order::CHUNK_ROWS;
use spanstore_format::segment::promotion::choose::{SAMPLE_ROWS, Sample};
use spanstore_format::segment::promotion::moving::SplitRows;
use spanstore_format::segment::{
    NewSegment, Origin, Partition, Promotion, SegmentReader, SegmentSummary,
};
use spanstore_format::span::table;
use spanstore_format::{Month, SegmentId, TeamId};

use super::rows::{Cursor, Part, Piece, TraceRun, Waiting, read, read_split, trace_runs};
use crate::error::Error;
use crate::read::interrupt::Never;
use crate::read::scan::ranges;
use crate::read::visibility::erased_rows;
use crate::segment::Segment;
use crate::segment_file::SegmentFile;
use crate::segments::Segments;
use crate::view::Erasures;

/// Rows of a team from which on it is merged trace by trace.
const LARGE_TEAM_ROWS: u64 = 32_768;
/// Rows of the stretches that a sample is taken from.
const STRETCH_ROWS: u32 = 1_024;

/// What to merge, and how.
pub(super) struct Merge<'a> {
    pub(super) segments: &'a Segments,
    pub(super) month: Month,
    pub(super) inputs: &'a [Arc<Segment>],
    /// Whether nothing of a team is kept of this month any more.
    pub(super) is_expired: &'a dyn Fn(&TeamId) -> bool,
    /// Rows at which another segment begins, between two teams.
    pub(super) segment_rows: u64,
    pub(super) level: u32,
    /// The run that the segments belong to; none for one of their own.
    pub(super) run: Option<SegmentId>,
    /// Who shares the work of reading and encoding.
    pub(super) workers: Arc<dyn Workers>,
    /// Called every few thousand rows; an error ends the merge.
    pub(super) pause: &'a dyn Fn() -> Result<(), Error>,
}

/// What a merge made.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) segments: Vec<SegmentSummary>,
    /// The ids that were taken for them, also those that came to nothing.
    pub(super) given: Vec<SegmentId>,
    /// Rows of each team that are gone: erased, expired, or there twice.
    pub(super) removed: HashMap<TeamId, u64>,
    /// Teams of which nothing is kept any more.
    pub(super) expired: Vec<TeamId>,
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
                self.segments.abandon(self.month, &merged.given);
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
        let mut run = self.run;
        let mut origin = self.origin(&readers)?;
        let plan = self.plan(&readers)?;
        // What is to be erased is known before there are rows to look at, and the
        // ids are taken: what is named later is to be erased in the new segments.
        let (first, erasures) = self.segments.reserve(plan.len() as u64);
        let ids = (first.0..).map(SegmentId);
        merged.given = ids.take(plan.len()).collect();
        // The next part stands for an empty one; behind the last there is none.
        for (before, teams) in plan.iter().enumerate().rev() {
            if self.has_rows(&readers, teams, &erasures)? {
                origin.all_parts = before as u32 + 1;
                break;
            }
        }
        let Segments {
            disk,
            removals,
            root,
            ..
        } = self.segments;
        for ((teams, id), part) in plan.into_iter().zip(merged.given.clone()).zip(1..) {
            let split = Arc::new(self.split(&readers, &teams)?);
            let cursors = self.inputs.iter().map(|one| Cursor::new(one, &split));
            let mut cursors: Vec<Cursor<'_>> = cursors.collect();
            origin.parts.end = part;
            origin.all_parts = origin.all_parts.max(part);
            let segment = NewSegment {
                id,
                month: self.month,
                origin: origin.clone(),
                promotion: split.promotion().clone(),
            };
            let out = SegmentFile::create(disk, removals, root, segment)?;
            let mut out = out.with_workers(&self.workers);
            let mut waiting = Waiting::new(&split, &*self.workers);
            for places in &teams {
                self.merge_team(
                    &readers,
                    places,
                    &erasures,
                    &split,
                    &mut cursors,
                    &mut waiting,
                    &mut out,
                    merged,
                )?;
            }
            waiting.flush(&mut out)?;
            if out.rows() == 0 {
                // The next part stands for this one too.
                continue;
            }
            origin.parts.start = part;
            let mut summary = out.finish()?;
            summary.level = self.level;
            summary.run = *run.get_or_insert(id);
            merged.segments.push(summary);
        }
        Ok(())
    }

    /// Whether any row of some teams stays.
    fn has_rows(
        &self,
        readers: &[Arc<SegmentReader>],
        teams: &[Places],
        erasures: &Erasures,
    ) -> Result<bool, Error> {
        for (input, place) in teams.iter().flatten() {
            if let (Some(partition), Some(reader), Some(segment)) = (
                self.partition(readers, *input, *place)?,
                readers.get(*input),
                self.inputs.get(*input),
            ) && !(self.is_expired)(&partition.team)
                && erased_rows(segment, reader, &partition, erasures, &Never::default())?.len()
                    < u64::from(partition.rows.end - partition.rows.start)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the segments to be written replace, and the log that it came from.
    fn origin(&self, readers: &[Arc<SegmentReader>]) -> Result<Origin, Error> {
        let (mut first, mut end) = (u64::MAX, 0);
        for (reader, input) in readers.iter().zip(self.inputs) {
            let origin = reader.origin().map_err(|error| input.corrupt(error))?;
            first = first.min(origin.log.start);
            end = end.max(origin.log.end);
        }
        Ok(Origin {
            log: first..end,
            replaced: self.inputs.iter().map(|one| one.summary().id).collect(),
            parts: 0..0,
            all_parts: 0,
        })
    }

    /// The teams of each segment to be written.
    fn plan(&self, readers: &[Arc<SegmentReader>]) -> Result<Vec<Vec<Places>>, Error> {
        let mut next = vec![0u32; readers.len()];
        let mut segments: Vec<Vec<Places>> = Vec::new();
        let mut rows = 0;
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
            if segments.is_empty() || rows >= self.segment_rows {
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

    /// What rows look like on their way into a segment of these teams.
    fn split(&self, readers: &[Arc<SegmentReader>], teams: &[Places]) -> Result<SplitRows, Error> {
        let promotion = match self.common_promotion()? {
            Some(promotion) => promotion,
            None => self.sampled_promotion(readers, teams)?,
        };
        let split = SplitRows::new(table(), promotion);
        split.ok_or_else(|| Error::internal("the merge", &"spans without attributes"))
    }

    /// The promotion that most rows of the inputs have, where they differ little: then
    /// attributes need not be put together, nor taken apart again.
    fn common_promotion(&self) -> Result<Option<Promotion>, Error> {
        let mut promotions = Vec::with_capacity(self.inputs.len());
        for segment in self.inputs {
            let Some(promotion) = segment.row_reader()?.columns().promotion(table()) else {
                return Ok(None);
            };
            promotions.push((promotion, u64::from(segment.summary().rows)));
        }
        Ok(Promotion::of_most(&promotions))
    }

    /// The keys that a segment of these teams promotes, by a sample of their
    /// rows.
    fn sampled_promotion(
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

    #[expect(clippy::too_many_arguments, reason = "they change from team to team")]
    fn merge_team(
        &self,
        readers: &[Arc<SegmentReader>],
        places: &Places,
        erasures: &Erasures,
        split: &Arc<SplitRows>,
        cursors: &mut [Cursor<'_>],
        waiting: &mut Waiting<'_>,
        out: &mut SegmentFile,
        merged: &mut Merged,
    ) -> Result<(), Error> {
        let mut parts: Vec<Part> = Vec::with_capacity(places.len());
        let mut team = None;
        let mut is_expired = false;
        for (input, place) in places {
            let (Some(partition), Some(reader), Some(segment)) = (
                self.partition(readers, *input, *place)?,
                readers.get(*input),
                self.inputs.get(*input),
            ) else {
                continue;
            };
            is_expired = is_expired || (self.is_expired)(&partition.team);
            let hidden = if is_expired {
                partition.rows.clone().collect()
            } else {
                erased_rows(segment, reader, &partition, erasures, &Never::default())?
            };
            team = Some(partition.team.clone());
            parts.push(Part {
                input: *input,
                rows: partition.rows,
                hidden,
            });
        }
        let Some(team) = team else { return Ok(()) };
        if is_expired {
            merged.expired.push(team.clone());
        }
        let before: u64 = parts.iter().map(Part::rows).sum();
        // What is wholly left out need not be read: it may be damaged.
        parts.retain(|part| part.hidden.len() < part.rows());
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
            self.merge_traces(&parts, split, |batches| {
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
        split: &Arc<SplitRows>,
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
                take(self.read_runs(parts, split, &chunk)?)?;
                (self.pause)()?;
                chunk.clear();
                rows = 0;
            }
        }
        take(self.read_runs(parts, split, &chunk)?)
    }

    fn read_runs(
        &self,
        parts: &[Part],
        split: &Arc<SplitRows>,
        runs: &[&TraceRun],
    ) -> Result<Vec<RecordBatch>, Error> {
        let read = |part: &Part| {
            let mut rows = RoaringBitmap::new();
            for run in runs.iter().filter(|run| run.input as usize == part.input) {
                rows.insert_range(run.rows.clone());
            }
            rows -= &part.hidden;
            match self.inputs.get(part.input).filter(|_| !rows.is_empty()) {
                Some(segment) => read_split(segment, &ranges(&rows), split)?.collect(),
                None => Ok(Vec::new()),
            }
        };
        let mut batches: Vec<Result<Vec<RecordBatch>, Error>> = Vec::new();
        batches.resize_with(parts.len(), || Ok(Vec::new()));
        let jobs = parts.iter().zip(&mut batches);
        let jobs = jobs.map(|(part, batches)| -> Job<'_> { Box::new(|| *batches = read(part)) });
        self.workers.work(jobs.collect());
        let batches: Result<Vec<Vec<RecordBatch>>, Error> = batches.into_iter().collect();
        Ok(batches?.into_iter().flatten().collect())
    }
}
