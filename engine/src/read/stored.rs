//! Requests that segments have ready, and the spans of which the others are put together.
//!
//! A stored request is right as long as its segment has all spans of the trace that are to
//! be seen, and no others. So a request is left out, and put together of its spans, when
//!
//! - another segment has its trace too: two segments compare their indexes of traces once;
//! - its trace has spans that are not sealed;
//! - a span of it is hidden, by retention or because it is to be erased;
//! - a span of it came later than those that are asked for.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt32Type;
use roaring::RoaringBitmap;
use spanstore_format::requests::RequestColumn;
use spanstore_format::segment::Column;
use spanstore_format::segment::key_index::{Entries, Side, key_of};
use spanstore_format::segment::postings::Posting;
use spanstore_format::span::SpanColumn;
use spanstore_format::table::IndexedId;
use spanstore_format::{FormatError, SegmentId, TeamId};

use super::bounded::{Bounded, Limits};
use super::condition::Condition;
use super::interrupt::{Held, Interrupt};
use super::mask::rising;
use super::matching::Matching;
use super::plan::{SealedPartition, hot_parts, partitions, sealed_parts, visible_bounds};
use super::scan::ScanPart;
use crate::error::Error;
use crate::segment::{Segment, SharedTraceRows};
use crate::view::Snapshot;

/// The spans of a team in a segment, and the requests that are stored of them.
pub(crate) struct StoredPartition {
    spans: Matching,
    requests: Option<StoredRequests>,
    /// The spans whose requests are put together.
    loose: RoaringBitmap,
}

/// The requests of a partition that are stored.
struct StoredRequests {
    matching: Matching,
    /// Those that are left out.
    left_out: RoaringBitmap,
    /// The row of the first span of each. Read when it is asked for.
    first_spans: Vec<u32>,
    held: Option<Held>,
}

/// What segments have of a team's requests, as they are with the spans below a sequence.
pub(crate) fn stored(
    snapshot: &Snapshot,
    team: &TeamId,
    below_sequence: Option<i64>,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<StoredPartition>, Error> {
    let bounds = visible_bounds(snapshot, Limits::default());
    let mut found = Vec::new();
    for sealed in partitions(snapshot, team, bounds, interrupt)? {
        found.push(StoredPartition::new(sealed, team, interrupt)?);
    }
    let unsealed = unsealed_traces(snapshot, interrupt)?;
    let mut split: Vec<RoaringBitmap> = Vec::new();
    split.resize_with(found.len(), RoaringBitmap::new);
    let indexes: Vec<TraceIndex<'_>> = found.iter().map(TraceIndex::new).collect();
    for (place, one) in indexes.iter().enumerate() {
        let (before, others) = split.split_at_mut(place + 1);
        let Some(of_one) = before.last_mut() else {
            continue;
        };
        let has_requests = one.partition.requests.is_some();
        if has_requests && !unsealed.is_empty() {
            *of_one |= one.rows_of(&unsealed)?;
        }
        for (other, of_other) in indexes.iter().skip(place + 1).zip(others) {
            interrupt.check()?;
            // What is not stored is put together in any case.
            if has_requests || other.partition.requests.is_some() {
                let rows = one.rows_shared_with(other)?;
                *of_one |= &rows.0;
                *of_other |= &rows.1;
            }
        }
    }
    drop(indexes);
    for (one, split) in found.iter_mut().zip(split) {
        interrupt.check()?;
        one.leave_out(snapshot, split, below_sequence)?;
    }
    Ok(found)
}

/// The index of the traces of a partition, as far as it was read.
struct TraceIndex<'a> {
    partition: &'a StoredPartition,
    entries: OnceCell<(Entries, Held)>,
}

/// Traces are looked up one by one where there are this many times as many rows.
const ROWS_A_LOOK_UP: usize = 64;

/// Traces that are compared before it is asked whether the query is to end.
const TRACES_A_CHECK: usize = 65_536;

impl<'a> TraceIndex<'a> {
    fn new(partition: &'a StoredPartition) -> Self {
        Self {
            partition,
            entries: OnceCell::new(),
        }
    }

    fn sealed(&self) -> &SealedPartition {
        &self.partition.spans.sealed
    }

    fn entries(&self) -> Result<&Entries, Error> {
        if let Some((entries, _)) = self.entries.get() {
            return Ok(entries);
        }
        let SealedPartition {
            segment,
            reader,
            partition,
        } = self.sealed();
        let entries = reader.traces(partition);
        let entries = entries.map_err(|error| segment.corrupt(error))?;
        let interrupt = &self.partition.spans.interrupt;
        let held = interrupt.hold_bytes(entries.bytes())?;
        Ok(&self.entries.get_or_init(|| (entries, held)).0)
    }

    /// The rows of some traces.
    fn rows_of(&self, traces: &Entries) -> Result<RoaringBitmap, Error> {
        let SealedPartition {
            segment,
            reader,
            partition,
        } = self.sealed();
        let mut rows = RoaringBitmap::new();
        if traces.len() < partition.rows.len() / ROWS_A_LOOK_UP {
            for key in traces.keys() {
                let found = reader.find_key(partition, IndexedId::Trace, key);
                let found = found.map_err(|error| segment.corrupt(error))?;
                rows |= found.unwrap_or_default();
            }
            return Ok(rows);
        }
        let own = self.entries()?;
        own.common(traces, |side| match side {
            Side::One(posting) => add(&mut rows, self.sealed(), posting),
            Side::Other(_) => Ok(()),
        })?;
        Ok(rows)
    }

    /// The rows, here and in another partition, of traces that both may have.
    fn rows_shared_with(&self, other: &Self) -> Result<Arc<SharedTraceRows>, Error> {
        let (one, two) = (self.sealed(), other.sealed());
        if two.segment.summary().id < one.segment.summary().id {
            let turned = other.rows_shared_with(self)?;
            return Ok(Arc::new((turned.1.clone(), turned.0.clone())));
        }
        let first_row = one.partition.rows.start;
        one.segment.shared_trace_rows(first_row, &two.segment, || {
            let mut rows = SharedTraceRows::default();
            let mut seen = 0_usize;
            self.entries()?.common(other.entries()?, |side| {
                seen += 1;
                if seen.is_multiple_of(TRACES_A_CHECK) {
                    self.partition.spans.interrupt.check()?;
                }
                match side {
                    Side::One(posting) => add(&mut rows.0, one, posting),
                    Side::Other(posting) => add(&mut rows.1, two, posting),
                }
            })?;
            Ok::<_, Error>(rows)
        })
    }
}

/// The traces that have rows which are not sealed.
fn unsealed_traces(snapshot: &Snapshot, interrupt: &Arc<dyn Interrupt>) -> Result<Entries, Error> {
    let mut keys = Vec::new();
    let mut last: Option<[u8; 16]> = None;
    for part in hot_parts(snapshot, Limits::default(), interrupt)? {
        interrupt.check()?;
        let rows = part.visible(&[SpanColumn::TraceId.into()])?;
        let traces = SpanColumn::TraceId.ids(&rows);
        let traces = traces.map_err(|error| Error::corrupt("unsealed rows", error))?;
        for trace in traces.iter().flatten() {
            if last.as_ref().is_none_or(|last| last != trace) {
                keys.push(key_of(trace));
                last = trace.try_into().ok();
            }
        }
    }
    Ok(Entries::of_keys(keys))
}

impl StoredPartition {
    fn new(
        sealed: SealedPartition,
        team: &TeamId,
        interrupt: &Arc<dyn Interrupt>,
    ) -> Result<Self, Error> {
        let mut requests = None;
        if let Some(segment) = sealed.segment.requests()? {
            let reader = segment.reader()?;
            let partition = reader.directory().find(team);
            let partition = partition.map_err(|error| segment.corrupt(error))?;
            requests = partition.map(|partition| StoredRequests {
                matching: Matching::new(
                    SealedPartition {
                        segment,
                        reader,
                        partition,
                    },
                    interrupt,
                ),
                left_out: RoaringBitmap::new(),
                first_spans: Vec::new(),
                held: None,
            });
        }
        Ok(Self {
            spans: Matching::new(sealed, interrupt),
            requests,
            loose: RoaringBitmap::new(),
        })
    }

    /// The segment of the spans.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.spans.sealed.segment
    }

    /// Leaves out the requests with these spans, with spans that are hidden, and with spans
    /// that are not below a sequence.
    fn leave_out(
        &mut self,
        snapshot: &Snapshot,
        split: RoaringBitmap,
        below_sequence: Option<i64>,
    ) -> Result<(), Error> {
        let all = self.spans.all_rows();
        let visible = self.spans.visible(snapshot, all.clone())?;
        let hidden = &all - &visible;
        let Some(requests) = &mut self.requests else {
            self.loose = self.below(below_sequence, visible)?;
            return Ok(());
        };
        if let Some(below) = below_sequence {
            let later = Condition::Within(Bounded::LastSequence, Limits::from(below));
            let stored = requests.matching.all_rows();
            requests.left_out = requests.matching.find(&later, stored)?;
        }
        if split.is_empty() && hidden.is_empty() && requests.left_out.is_empty() {
            return Ok(());
        }
        let rows = self.spans.sealed.partition.rows.clone();
        requests.read_first_spans(&rows)?;
        requests.left_out |= requests.of_spans(&(split | hidden))?;
        let loose = requests.spans_of(&requests.left_out, &rows) & visible;
        self.loose = self.below(below_sequence, loose)?;
        Ok(())
    }

    /// Those of some spans that came before a sequence.
    fn below(&self, sequence: Option<i64>, spans: RoaringBitmap) -> Result<RoaringBitmap, Error> {
        let Some(sequence) = sequence else {
            return Ok(spans);
        };
        let before = Condition::Within(Bounded::Sequence, Limits::below(sequence));
        self.spans.find(&before, spans)
    }

    /// The spans whose requests are put together.
    pub(crate) fn loose(&self) -> &RoaringBitmap {
        &self.loose
    }

    /// The same as parts of a scan.
    pub(crate) fn loose_parts(&self) -> Result<Vec<ScanPart>, Error> {
        sealed_parts(&self.spans, &self.loose, Limits::default())
    }

    /// The requests that have one of some spans, of those that are stored; none where none
    /// is.
    pub(crate) fn requests_of(
        &mut self,
        spans: &RoaringBitmap,
    ) -> Result<Option<(SegmentId, RoaringBitmap)>, Error> {
        let rows = self.spans.sealed.partition.rows.clone();
        let Some(requests) = &mut self.requests else {
            return Ok(None);
        };
        requests.read_first_spans(&rows)?;
        let id = self.spans.sealed.segment.summary().id;
        Ok(Some((id, requests.of_spans(spans)?)))
    }
}

impl StoredRequests {
    /// Reads which spans the requests have, if that was not done: all of a partition, whose
    /// rows these are, one after the other.
    fn read_first_spans(&mut self, rows: &Range<u32>) -> Result<(), Error> {
        if !self.first_spans.is_empty() {
            return Ok(());
        }
        let all = self.matching.all_rows();
        let mut first_spans: Vec<u32> = Vec::new();
        let column = [Column::Stored(RequestColumn::FirstSpan.place())];
        self.matching.each_batch(&all, &column, |_, batch| {
            let column = batch.columns().first();
            let numbers = column.and_then(|column| column.as_primitive_opt::<UInt32Type>());
            first_spans.extend_from_slice(numbers.map_or(&[], |numbers| numbers.values()));
            Ok(())
        })?;
        let are_all = first_spans.len() as u64 == all.len()
            && first_spans.first() == Some(&rows.start)
            && first_spans.is_sorted_by(|one, next| one < next)
            && first_spans.last().is_some_and(|last| *last < rows.end);
        if !are_all {
            let expected = format!("the first spans of {} requests in {rows:?}", all.len());
            let found = format!("{} numbers", first_spans.len());
            let error = FormatError::malformed("table of requests", 0, expected, found);
            return Err(self.matching.corrupt(error));
        }
        let bytes = first_spans.capacity() * size_of::<u32>();
        self.held = Some(self.matching.interrupt.hold_bytes(bytes)?);
        self.first_spans = first_spans;
        Ok(())
    }

    /// The requests that have one of some spans.
    fn of_spans(&self, spans: &RoaringBitmap) -> Result<RoaringBitmap, Error> {
        let rows = self.matching.sealed.partition.rows.clone();
        // Each with where the spans of the next one begin.
        let ends = self.first_spans.iter().skip(1).copied();
        let mut requests = rows.zip(ends.chain([u32::MAX]));
        let mut next = requests.next();
        let mut found = Vec::new();
        for span in spans {
            while next.is_some_and(|(_, end)| end <= span) {
                next = requests.next();
            }
            if let Some((request, _)) = next
                && found.last() != Some(&request)
            {
                found.push(request);
            }
        }
        rising(found)
    }

    /// The spans of some requests of a partition with these rows.
    fn spans_of(&self, requests: &RoaringBitmap, rows: &Range<u32>) -> RoaringBitmap {
        let first = self.matching.sealed.partition.rows.start;
        let mut spans = RoaringBitmap::new();
        for request in requests {
            let place = request.saturating_sub(first) as usize;
            let start = self.first_spans.get(place).copied().unwrap_or(rows.end);
            let end = self.first_spans.get(place + 1).copied();
            spans.insert_range(start..end.unwrap_or(rows.end));
        }
        spans
    }
}

/// Adds the rows of a posting of a partition.
fn add(rows: &mut RoaringBitmap, sealed: &SealedPartition, posting: &Posting) -> Result<(), Error> {
    let SealedPartition {
        segment,
        reader,
        partition,
    } = sealed;
    let read = |range| reader.postings(range);
    let found = posting.rows(&partition.rows, &read);
    *rows |= found.map_err(|error| segment.corrupt(error))?;
    Ok(())
}

/// The segments of requests, and which of their rows are left out.
pub(crate) fn segments(
    stored: Vec<StoredPartition>,
) -> (Vec<Arc<Segment>>, HashMap<SegmentId, RoaringBitmap>) {
    let requests = stored.into_iter().filter_map(|one| one.requests);
    let of_segments = requests.map(|requests| {
        let segment = requests.matching.sealed.segment;
        let id = segment.summary().id;
        (segment, (id, requests.left_out))
    });
    of_segments.unzip()
}
