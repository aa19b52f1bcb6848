//! Requests as the rows of a query: what filters ask of their spans is looked for first,
//! then those requests are put together that are not stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use roaring::RoaringBitmap;
use spanstore_format::requests::{RequestColumn, table};
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;
use spanstore_format::{FormatError, SegmentId, TraceId};

use super::filter::{Rows, SomeSpan};
use super::job::{Asked, Holding, Job, on_each, on_each_row_group};
use crate::error::Error;
use crate::read::bounded::{Bounded, Limits};
use crate::read::condition::{Condition, Leaf, Predicate};
use crate::read::constraints::Constraints;
use crate::read::group::{Grouping, Term};
use crate::read::interrupt::Interrupt;
use crate::read::matching::Matching;
use crate::read::meter::Stage;
use crate::read::plan::{hot_scans, plan, visible_bounds};
use crate::read::requests::{PartFacts, requests};
use crate::read::scan::{ScanPart, filter};
use crate::read::stored::{StoredPartition, segments, stored};

/// Traces that are looked for one by one, at most; for more all spans are looked at.
const MOST_LOOKED_UP: usize = 1_000;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// Ids of traces.
pub(super) type Traces = HashSet<[u8; 16]>;

/// Where the requests that may be asked for are.
struct Candidates {
    /// Their traces, as far as ids tell: all have one of these.
    traces: Option<Traces>,
    /// What segments have of the requests; none where few traces are looked up one by one.
    stored: Option<Vec<StoredPartition>>,
}

impl Job {
    /// The job over the requests that may be asked for, and what these must fulfil. Those are
    /// there too that do not fulfil what is asked of some columns.
    pub(super) async fn over_requests(
        &self,
        asked: &Asked,
        columns: &[Column],
    ) -> Result<(Self, Condition), Error> {
        let below = asked.question.below_sequence;
        let necessary = |condition: &Condition| {
            let columns = columns.iter();
            let others = columns.fold(condition.clone(), |others, column| others.without(column));
            others.constraints()
        };
        let filters = || asked.question.filters.iter();
        let mut of_spans: Vec<Vec<Leaf>> = Vec::new();
        for filter in filters() {
            let unknown = filter.some_spans().iter();
            let unknown = unknown.map(|some_span| HasSpan::unknown(self, some_span).leaf());
            of_spans.push(unknown.collect());
        }
        let by_ids = necessary(&asked.condition(&of_spans)?);
        let mut candidates = self.candidates(&by_ids, below).await?;
        for (filter, leaves) in filters().zip(&mut of_spans) {
            for (some_span, leaf) in filter.some_spans().iter().zip(leaves) {
                *leaf = self.some_span(asked, some_span, &mut candidates).await?;
            }
        }
        let condition = asked.condition(&of_spans)?;
        let by_spans = necessary(&condition);
        let job = self.put_together(candidates, &by_spans, below).await?;
        Ok((job, condition))
    }

    /// The job over the requests that may have certain ids and start within limits, as they
    /// were with the spans below a sequence.
    pub(super) async fn with_requests(
        &self,
        necessary: &Constraints,
        below_sequence: Option<i64>,
    ) -> Result<Self, Error> {
        let candidates = self.candidates(necessary, below_sequence).await?;
        self.put_together(candidates, necessary, below_sequence)
            .await
    }

    /// Where the requests are that may have certain ids, as they were with the spans below a
    /// sequence.
    async fn candidates(
        &self,
        ids: &Constraints,
        below_sequence: Option<i64>,
    ) -> Result<Candidates, Error> {
        let interrupt = self.interrupt();
        let traces = self.traces_with(ids).await?;
        let are_few = |traces: &Traces| traces.len() <= MOST_LOOKED_UP;
        let stored = if traces.as_ref().is_some_and(are_few) {
            None
        } else {
            let stored = || stored(&self.snapshot, &self.team, below_sequence, &interrupt);
            Some(self.watch.meter().time(Stage::Indexes, stored)?)
        };
        Ok(Candidates { traces, stored })
    }

    /// The condition that a request has a span that fulfils one.
    async fn some_span(
        &self,
        asked: &Asked,
        some_span: &SomeSpan,
        candidates: &mut Candidates,
    ) -> Result<Leaf, Error> {
        let mut condition = asked.of_spans(&some_span.condition)?;
        let mut has_span = HasSpan {
            text: format!("any({condition})"),
            is_known: true,
            ..HasSpan::unknown(self, some_span)
        };
        if let (None, Some(traces)) = (&candidates.stored, &candidates.traces) {
            condition = Condition::Implying(Box::new(condition), of_traces(traces));
        }
        let condition = Arc::new(condition);
        let interrupt = self.interrupt();
        has_span.traces = self.unsealed_traces(&condition, &interrupt).await?;
        let mut stored = candidates.stored.as_mut();
        for one in stored.iter_mut().flat_map(|stored| stored.iter_mut()) {
            let none = one.requests_of(&RoaringBitmap::new())?;
            has_span.rows.extend(none);
        }
        for matching in self.sealed(&condition, &interrupt)? {
            let mut rows = self.exactly(&matching, &condition).await?;
            let id = matching.sealed.segment.summary().id;
            let mut stored = stored.iter_mut().flat_map(|stored| stored.iter_mut());
            if let Some(one) = stored.find(|one| one.segment().summary().id == id) {
                has_span.rows.extend(one.requests_of(&rows)?);
                rows &= one.loose();
            }
            has_span
                .traces
                .extend(self.traces_of(&matching, &rows).await?);
            self.next_batch().await?;
        }
        let bytes = has_span.rows.values().map(RoaringBitmap::serialized_size);
        let of_traces = 2 * has_span.traces.capacity() * size_of::<[u8; 16]>();
        has_span.held.set(of_traces + bytes.sum::<usize>())?;
        Ok(has_span.leaf())
    }

    /// The traces of all spans that fulfil a condition, and their memory.
    pub(super) async fn traces_with_span(
        &self,
        condition: Arc<Condition>,
    ) -> Result<(Traces, Holding), Error> {
        let interrupt = self.interrupt();
        let held = self.held("traces of spans");
        let mut traces = self.unsealed_traces(&condition, &interrupt).await?;
        held.set(2 * traces.capacity() * size_of::<[u8; 16]>())?;
        for matching in self.sealed(&condition, &interrupt)? {
            let rows = self.exactly(&matching, &condition).await?;
            traces.extend(self.traces_of(&matching, &rows).await?);
            held.set(2 * traces.capacity() * size_of::<[u8; 16]>())?;
            self.next_batch().await?;
        }
        Ok((traces, held))
    }

    /// The condition that a span is of a request that is asked for.
    pub(super) async fn spans_of_requests(&self, asked: &Asked) -> Result<Condition, Error> {
        let question = &asked.question;
        if question.filters.is_empty() && (question.since, question.until) == (None, None) {
            return Ok(Condition::always());
        }
        let (requests, condition) = self.over_requests(asked, &[]).await?;
        let id = Column::Stored(RequestColumn::TraceId.place());
        let grouping = Arc::new(Grouping {
            keys: vec![Term::column(id, table())?],
            measures: Vec::new(),
        });
        let (ids, _held) = requests.group(&Arc::new(condition), &grouping).await?;
        let ids = ids.first().and_then(|ids| ids.as_fixed_size_binary_opt());
        let ids = ids.ok_or_else(|| Error::internal("requests", &"no ids of traces"))?;
        let mut traces = Traces::new();
        add_ids(ids, &mut traces)?;
        let held = self.held("traces of requests");
        held.set(2 * traces.capacity() * size_of::<[u8; 16]>())?;
        let are_few = traces.len() <= MOST_LOOKED_UP;
        let of_span = Leaf {
            table: Rows::Spans.table(),
            columns: vec![SpanColumn::TraceId.into()],
            necessary: if are_few {
                of_traces(&traces)
            } else {
                Constraints::default()
            },
            predicate: Arc::new(IsOfTraces {
                traces,
                _held: held,
            }),
        };
        Ok(Condition::Leaf(of_span).narrowed())
    }

    /// The traces of spans that are not sealed and fulfil a condition.
    async fn unsealed_traces(
        &self,
        condition: &Arc<Condition>,
        interrupt: &Arc<dyn Interrupt>,
    ) -> Result<Traces, Error> {
        let found = on_each(self.hot(condition, interrupt)?, |parts| {
            let (condition, interrupt) = (Arc::clone(condition), Arc::clone(interrupt));
            move || {
                let mut traces = Traces::new();
                for part in parts {
                    let rows = part.find(&condition, &*interrupt)?;
                    let ids = part.some(&[SpanColumn::TraceId.into()], &rows)?;
                    add_traces(&ids, &mut traces)?;
                }
                Ok(traces)
            }
        });
        Ok(found.await?.into_iter().flatten().collect())
    }

    /// The traces of some rows of a partition.
    async fn traces_of(
        &self,
        matching: &Arc<Matching>,
        rows: &RoaringBitmap,
    ) -> Result<Traces, Error> {
        let found = on_each_row_group(rows, |rows| {
            let matching = Arc::clone(matching);
            move || {
                let mut traces = Traces::new();
                let columns = [SpanColumn::TraceId.into()];
                matching.each_batch(&rows, &columns, |_, ids| add_traces(ids, &mut traces))?;
                Ok(traces)
            }
        });
        Ok(found.await?.into_iter().flatten().collect())
    }

    /// The job over candidates: those that are stored, and those that are put together of
    /// their spans as far as they may have certain ids and start within limits.
    async fn put_together(
        &self,
        candidates: Candidates,
        necessary: &Constraints,
        below_sequence: Option<i64>,
    ) -> Result<Self, Error> {
        let Candidates { mut traces, stored } = candidates;
        let parts = match (&stored, &traces) {
            (None, Some(traces)) => self.spans_with(of_traces(traces))?,
            (None, None) => self.spans_with(Constraints::default())?,
            (Some(stored), _) => {
                let mut parts = self.unsealed_parts()?;
                for one in stored {
                    parts.extend(one.loose_parts()?);
                }
                parts
            }
        };
        if let Some(ids) = &necessary.trace_ids {
            let of_ids = ids.iter().map(|trace| trace.0);
            let is_known = |id: &[u8; 16]| traces.as_ref().is_none_or(|all| all.contains(id));
            traces = Some(of_ids.filter(is_known).collect());
        }
        if traces.is_none() && necessary.starts != Limits::default() {
            traces = Some(self.starting(&parts, necessary.starts).await?);
        }
        let interrupt = self.interrupt();
        let traces = traces.map(Arc::new);
        let facts = on_each(parts.into_iter().enumerate(), |(number, part)| {
            let (traces, interrupt) = (traces.clone(), Arc::clone(&interrupt));
            let held = self.held("spans of requests");
            move || {
                let facts = PartFacts::read(part, traces.as_deref(), below_sequence, &*interrupt)?;
                held.set(facts.bytes())?;
                Ok((number, facts, held))
            }
        });
        // The first part comes first, whichever thread was done first.
        let mut facts = facts.await?;
        facts.sort_by_key(|(number, ..)| *number);
        let facts = facts.into_iter().map(|(_, facts, held)| (facts, held));
        let (facts, _held): (Vec<_>, Vec<_>) = facts.unzip();
        let requests = || requests(&self.team, facts, &*interrupt);
        let rows = self.watch.meter().time(Stage::Answer, requests)?;
        let (segments, left_out) = segments(stored.unwrap_or_default());
        self.with_rows(self.snapshot.derived(table(), segments, left_out, rows))
    }

    /// The spans that may have certain ids.
    fn spans_with(&self, ids: Constraints) -> Result<Vec<ScanPart>, Error> {
        let condition = Condition::Implying(Box::new(Condition::always()), ids);
        plan(&self.snapshot, &self.team, &condition, &self.interrupt())
    }

    /// The spans that are not sealed.
    fn unsealed_parts(&self) -> Result<Vec<ScanPart>, Error> {
        let bounds = visible_bounds(&self.snapshot, Limits::default());
        hot_scans(&self.snapshot, &self.team, bounds, &self.interrupt())
    }

    /// The traces of spans, among some, that start within limits.
    async fn starting(&self, parts: &[ScanPart], starts: Limits) -> Result<Traces, Error> {
        let interrupt = self.interrupt();
        let found = on_each(parts.iter().cloned(), |part| {
            let interrupt = Arc::clone(&interrupt);
            move || {
                let mut traces = Traces::new();
                let columns = [SpanColumn::TraceId.into(), SpanColumn::StartTime.into()];
                for rows in part.read(&columns, BATCH_ROWS)? {
                    interrupt.check()?;
                    let rows = rows?;
                    let times = Bounded::Start.numbers(&rows);
                    let times = times.map_err(|error| Error::corrupt("rows", error))?;
                    let is_within = |row: usize| times.get(row).is_some_and(|at| starts.hold(*at));
                    add_traces(&filter(&rows, is_within)?, &mut traces)?;
                }
                Ok(traces)
            }
        });
        Ok(found.await?.into_iter().flatten().collect())
    }

    /// The traces that may have certain ids; none when any may.
    async fn traces_with(&self, ids: &Constraints) -> Result<Option<Traces>, Error> {
        if let Some(traces) = &ids.trace_ids {
            return Ok(Some(traces.iter().map(|trace| trace.0).collect()));
        }
        // One kind of id: a request may have its session of one span, and its id of another.
        let nothing = Constraints::default();
        let alone = if ids.session_ids.is_some() {
            Constraints {
                session_ids: ids.session_ids.clone(),
                ..nothing
            }
        } else if ids.request_ids.is_some() {
            Constraints {
                request_ids: ids.request_ids.clone(),
                ..nothing
            }
        } else {
            return Ok(None);
        };
        let parts = self.spans_with(alone)?;
        Ok(Some(self.starting(&parts, Limits::default()).await?))
    }
}

/// What is known of spans of some traces.
fn of_traces(traces: &Traces) -> Constraints {
    Constraints {
        trace_ids: Some(traces.iter().copied().map(TraceId).collect()),
        ..Constraints::default()
    }
}

/// Adds the traces of rows.
fn add_traces(rows: &RecordBatch, traces: &mut Traces) -> Result<(), Error> {
    let ids = rows.columns().first();
    let ids = ids.and_then(|ids| ids.as_fixed_size_binary_opt());
    let wrong = || FormatError::malformed("columns", 0, "ids of traces", "others");
    add_ids(ids.ok_or_else(|| Error::corrupt("rows", wrong()))?, traces)
}

/// Adds traces by their ids.
fn add_ids(ids: &FixedSizeBinaryArray, traces: &mut Traces) -> Result<(), Error> {
    for id in ids.iter().flatten() {
        let id = <[u8; 16]>::try_from(id);
        let wrong = |_| FormatError::malformed("columns", 0, "ids of traces", "others");
        traces.insert(id.map_err(|error| Error::corrupt("rows", wrong(error)))?);
    }
    Ok(())
}

/// Is true of the spans of some traces.
#[derive(Debug)]
struct IsOfTraces {
    traces: Traces,
    _held: Holding,
}

impl Predicate for IsOfTraces {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        is_of(&self.traces, rows)
    }

    fn text(&self) -> String {
        "a span of a request that is asked for".into()
    }
}

/// For each row whether the id in its first column is that of one of some traces.
fn is_of(traces: &Traces, rows: &RecordBatch) -> Result<BooleanArray, Error> {
    let ids = rows.columns().first();
    let ids = ids.and_then(|ids| ids.as_fixed_size_binary_opt());
    let ids = ids.ok_or_else(|| Error::internal("requests", &"no ids of traces"))?;
    let is_one = |id: Option<&[u8]>| id.is_some_and(|id| traces.contains(id));
    Ok(ids.iter().map(|id| Some(is_one(id))).collect())
}

/// Is true of the requests with some spans, false of others.
#[derive(Debug)]
struct HasSpan {
    text: String,
    /// The traces of those that are put together.
    traces: Traces,
    /// The rows of those that are stored, by their segments.
    rows: HashMap<SegmentId, RoaringBitmap>,
    /// Whether the spans were looked for.
    is_known: bool,
    columns: &'static [RequestColumn],
    held: Holding,
}

impl HasSpan {
    /// As long as no span was looked for.
    fn unknown(job: &Job, some_span: &SomeSpan) -> Self {
        Self {
            text: String::new(),
            traces: Traces::new(),
            rows: HashMap::new(),
            is_known: false,
            columns: some_span.columns,
            held: job.held("requests of spans"),
        }
    }

    /// The condition that requests have such a span.
    fn leaf(self) -> Leaf {
        let mut necessary = Constraints::default();
        // It holds of those that are put together. Stored ones are told by their rows.
        if self.is_known && self.traces.len() <= MOST_LOOKED_UP {
            necessary = of_traces(&self.traces);
        }
        Leaf {
            table: table(),
            columns: vec![Column::Stored(RequestColumn::TraceId.place())],
            predicate: Arc::new(self),
            necessary,
        }
    }
}

impl Predicate for HasSpan {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        is_of(&self.traces, rows)
    }

    fn text(&self) -> String {
        self.text.clone()
    }

    fn rows_in(&self, segment: SegmentId) -> Option<&RoaringBitmap> {
        self.rows.get(&segment)
    }

    fn is_over(&self, _: &[Column], column: &Column) -> bool {
        let columns = self.columns.iter();
        let mut columns = columns.map(|column| Column::Stored(column.place()));
        columns.any(|own| own == *column)
    }
}
