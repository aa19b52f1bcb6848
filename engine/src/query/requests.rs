//! Requests as the rows of a query: what filters ask of their spans is looked for first,
//! then the requests are put together of the spans of their traces.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use spanstore_format::requests::{RequestColumn, table};
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;
use spanstore_format::{FormatError, TraceId};

use super::filter::SomeSpan;
use super::job::{Asked, Holding, Job, on_each, on_each_row_group};
use crate::error::Error;
use crate::read::condition::{Condition, Leaf, Predicate};
use crate::read::constraints::Constraints;
use crate::read::interrupt::Interrupt;
use crate::read::meter::Stage;
use crate::read::plan::plan;
use crate::read::requests::{PartFacts, requests};
use crate::read::scan::ScanPart;

/// Traces that are looked for one by one, at most; for more all spans are looked at.
const MOST_LOOKED_UP: usize = 1_000;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// Ids of traces.
type Traces = HashSet<[u8; 16]>;

impl Job {
    /// The job over the requests that may be asked for, and what these must fulfil. Those are
    /// there too that do not fulfil what is asked of some columns.
    pub(super) async fn over_requests(
        &self,
        asked: &Asked,
        columns: &[Column],
    ) -> Result<(Self, Condition), Error> {
        let mut of_spans = Vec::with_capacity(asked.question.filters.len());
        for filter in &asked.question.filters {
            let mut of_filter = Vec::with_capacity(filter.some_spans().len());
            for some_span in filter.some_spans() {
                of_filter.push(self.some_span(asked, some_span).await?);
            }
            of_spans.push(of_filter);
        }
        let condition = asked.condition(&of_spans)?;
        let mut of_others = condition.clone();
        for column in columns {
            of_others = of_others.without(column);
        }
        let below = asked.question.below_sequence;
        let job = self.with_requests(&of_others.constraints(), below).await?;
        Ok((job, condition))
    }

    /// The condition that a request has a span that fulfils one.
    async fn some_span(&self, asked: &Asked, some_span: &SomeSpan) -> Result<Leaf, Error> {
        let condition = asked.of_spans(&some_span.condition)?;
        let text = format!("any({condition})");
        let traces = self.traces(Arc::new(condition)).await?;
        let held = self.held("traces of spans");
        held.set(2 * traces.capacity() * size_of::<[u8; 16]>())?;
        let predicate = HasSpan {
            text,
            traces,
            columns: some_span.columns,
            _held: held,
        };
        let mut necessary = Constraints::default();
        if predicate.traces.len() <= MOST_LOOKED_UP {
            let ids = predicate.traces.iter().copied().map(TraceId);
            necessary.trace_ids = Some(ids.collect());
        }
        Ok(Leaf {
            table: table(),
            columns: vec![trace_id()],
            predicate: Arc::new(predicate),
            necessary,
        })
    }

    /// The traces of all spans that fulfil a condition.
    async fn traces(&self, condition: Arc<Condition>) -> Result<Traces, Error> {
        let interrupt = self.interrupt();
        let hot = on_each(self.hot(&condition, &interrupt)?, |parts| {
            let (condition, interrupt) = (Arc::clone(&condition), Arc::clone(&interrupt));
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
        let mut traces: Traces = hot.await?.into_iter().flatten().collect();
        for matching in self.sealed(&condition, &interrupt)? {
            let rows = self.exactly(&matching, &condition).await?;
            let found = on_each_row_group(&rows, |rows| {
                let matching = Arc::clone(&matching);
                move || {
                    let mut traces = Traces::new();
                    let columns = [SpanColumn::TraceId.into()];
                    matching.each_batch(&rows, &columns, |_, ids| add_traces(ids, &mut traces))?;
                    Ok(traces)
                }
            });
            traces.extend(found.await?.into_iter().flatten());
            self.next_batch().await?;
        }
        Ok(traces)
    }

    /// The job over the requests that may have certain ids and start within limits, as they
    /// were with the spans below a sequence.
    pub(super) async fn with_requests(
        &self,
        ids: &Constraints,
        below_sequence: Option<i64>,
    ) -> Result<Self, Error> {
        let interrupt = self.interrupt();
        let traces = self.traces_with(ids, &interrupt).await?.map(Arc::new);
        let parts = match &traces {
            Some(traces) if traces.len() <= MOST_LOOKED_UP => {
                let ids = traces.iter().copied().map(TraceId);
                self.spans_with(Constraints {
                    trace_ids: Some(ids.collect()),
                    ..Constraints::default()
                })?
            }
            _ => self.spans_with(Constraints::default())?,
        };
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
        let put_together = || requests(&self.snapshot, &self.team, facts, &*interrupt);
        let requests = self.watch.meter().time(Stage::Answer, put_together)?;
        self.with_rows(requests)
    }

    /// The spans that may have certain ids and start within limits.
    fn spans_with(&self, ids: Constraints) -> Result<Vec<ScanPart>, Error> {
        let condition = Condition::Implying(Box::new(Condition::always()), ids);
        plan(&self.snapshot, &self.team, &condition, &self.interrupt())
    }

    /// The traces that may have certain ids and start within limits; none when any may.
    async fn traces_with(
        &self,
        ids: &Constraints,
        interrupt: &Arc<dyn Interrupt>,
    ) -> Result<Option<Traces>, Error> {
        if *ids == Constraints::default() {
            return Ok(None);
        }
        if let Some(traces) = &ids.trace_ids {
            return Ok(Some(traces.iter().map(|trace| trace.0).collect()));
        }
        // One kind of id, or the times: a request may have its session of one span, its id of
        // another, and its start of a third.
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
            Constraints::starting(ids.starts)
        };
        let found = on_each(self.spans_with(alone)?, |part| {
            let interrupt = Arc::clone(interrupt);
            move || {
                let mut traces = Traces::new();
                for ids in part.read(&[SpanColumn::TraceId.into()], BATCH_ROWS)? {
                    interrupt.check()?;
                    add_traces(&ids?, &mut traces)?;
                }
                Ok(traces)
            }
        });
        Ok(Some(found.await?.into_iter().flatten().collect()))
    }
}

/// The column of requests by which traces are told.
fn trace_id() -> Column {
    Column::Stored(RequestColumn::TraceId.place())
}

/// Adds the traces of rows.
fn add_traces(rows: &RecordBatch, traces: &mut Traces) -> Result<(), Error> {
    let ids = rows.columns().first();
    let ids = ids.and_then(|ids| ids.as_fixed_size_binary_opt());
    let wrong = || FormatError::malformed("columns", 0, "ids of traces", "others");
    let ids = ids.ok_or_else(|| Error::corrupt("rows", wrong()))?;
    for id in ids.iter().flatten() {
        let id = <[u8; 16]>::try_from(id);
        traces.insert(id.map_err(|_| Error::corrupt("rows", wrong()))?);
    }
    Ok(())
}

/// Is true of the requests of some traces, false of others.
#[derive(Debug)]
struct HasSpan {
    text: String,
    traces: Traces,
    columns: &'static [RequestColumn],
    _held: Holding,
}

impl Predicate for HasSpan {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let ids = rows.columns().first();
        let ids = ids.and_then(|ids| ids.as_fixed_size_binary_opt());
        let ids = ids.ok_or_else(|| Error::internal("requests", &"no ids of traces"))?;
        let is_one = |id: Option<&[u8]>| id.is_some_and(|id| self.traces.contains(id));
        Ok(ids.iter().map(|id| Some(is_one(id))).collect())
    }

    fn text(&self) -> String {
        self.text.clone()
    }

    fn is_over(&self, _: &[Column], column: &Column) -> bool {
        let columns = self.columns.iter();
        let mut columns = columns.map(|column| Column::Stored(column.place()));
        columns.any(|own| own == *column)
    }
}
