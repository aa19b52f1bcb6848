//! Answers a filter query in two passes: narrow columns find the rows that
//! win, then all columns are read for those rows alone.
//!
//! Parts are looked at in the order of the query; with a limit the first pass
//! stops where no later part can hold a winner.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use spanstore_format::segment::Column;
use spanstore_format::span::{SpanColumn, schema, table};

use super::builder::{Order, Query, Question};
use super::job::{Holding, Job, new_bytes};
use super::table::BATCH_ROWS;
use super::watched::external;
use crate::error::Error;
use crate::read::scan::{ScanPart, columns_error, plan};

/// A row that may win. The order of the fields is the order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    start: i64,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    part: usize,
    /// The row's number in the order in which the part hands rows out.
    place: u32,
}

/// Runs a query.
pub(super) async fn select(query: Query) -> Result<SendableRecordBatchStream, Error> {
    let (execution, job) = query.begin()?;
    let stream = execution.run(async move { job.select().await }).await?;
    execution.stream(stream)
}

impl Job {
    async fn select(&self) -> Result<SendableRecordBatchStream, Error> {
        let question = &self.question;
        let mut parts = plan(&self.snapshot, &self.team, &self.condition(), &*self.watch)?;
        match question.order {
            Order::NewestFirst => parts.sort_by_key(|part| std::cmp::Reverse(part.last_start)),
            Order::OldestFirst => parts.sort_by_key(|part| part.first_start),
        }
        let narrow = Narrow::new(question, &self.state)?;
        let (winners, of_winners) = self.find(&parts, &narrow).await?;
        let schema = Arc::new(
            schema()
                .project(&question.columns)
                .map_err(|error| columns_error("span schema", &error))?,
        );
        let mut fetch = Fetch {
            parts,
            winners,
            _of_winners: of_winners,
            of_batch: self.held("a batch of rows"),
            columns: question
                .columns
                .iter()
                .copied()
                .map(Column::Stored)
                .collect(),
            schema: Arc::clone(&schema),
            start: 0,
            rows: FIRST_ROWS,
        };
        let batches = std::iter::from_fn(move || {
            let batch = fetch.next_batch().transpose()?;
            Some(batch.map_err(external))
        });
        let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches));
        Ok(Box::pin(cooperative(stream)))
    }
}

/// Rows of a batch of the result, at most.
const FETCH_ROWS: usize = 4_096;

/// Rows of the first batch, which tells how large rows are.
const FIRST_ROWS: usize = 128;

/// Bytes that a batch is to take, about.
const FETCH_BYTES: usize = 32 << 20;

/// What the first pass reads and evaluates.
pub(super) struct Narrow {
    pub(super) columns: Vec<Column>,
    condition: Option<Arc<dyn PhysicalExpr>>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Narrow {
    /// The columns that rows are ordered by; the first ones that are read.
    const ORDER: [SpanColumn; 3] = [
        SpanColumn::StartTime,
        SpanColumn::TraceId,
        SpanColumn::SpanId,
    ];

    pub(super) fn new(question: &Question, state: &SessionState) -> Result<Self, Error> {
        let mut columns = Self::ORDER.map(Column::from).to_vec();
        let mut condition = None;
        if let Some(filter) = &question.filter {
            let (of_filter, expr) = filter.over_columns()?;
            for column in of_filter {
                if !columns.contains(&column) {
                    columns.push(column);
                }
            }
            condition = Some(expr);
        }
        let narrow =
            Column::schema(&columns, table()).map_err(|error| Error::corrupt("columns", error))?;
        let condition = match condition {
            None => None,
            Some(expr) => {
                let schema = DFSchema::try_from(narrow.as_ref().clone())?;
                Some(state.create_physical_expr(expr, &schema)?)
            }
        };
        Ok(Self {
            columns,
            condition,
            since: question.since,
            until: question.until,
        })
    }

    /// The rows of a batch that fulfil the query, each with its number in the batch.
    pub(super) fn candidates(&self, batch: &RecordBatch) -> Result<Vec<(usize, Candidate)>, Error> {
        let corrupt = |error| Error::corrupt("rows", error);
        let starts = SpanColumn::StartTime.times(batch).map_err(corrupt)?;
        let traces = SpanColumn::TraceId.ids(batch).map_err(corrupt)?;
        let spans = SpanColumn::SpanId.ids(batch).map_err(corrupt)?;
        let holds: Option<BooleanArray> = match &self.condition {
            None => None,
            Some(condition) => {
                let value = condition.evaluate(batch)?.into_array(batch.num_rows())?;
                let truth = value.as_boolean_opt().ok_or_else(|| {
                    DataFusionError::Plan("a filter is a condition that is true or false".into())
                })?;
                Some(truth.clone())
            }
        };
        let is_wanted = |row: usize| {
            let start = starts.value(row);
            holds
                .as_ref()
                .is_none_or(|holds| holds.is_valid(row) && holds.value(row))
                && self.since.is_none_or(|since| start >= since)
                && self.until.is_none_or(|until| start < until)
        };
        let candidates = (0..batch.num_rows())
            .filter(|row| is_wanted(*row))
            .map(|row| {
                let candidate = Candidate {
                    start: starts.value(row),
                    trace_id: traces.value(row).try_into().unwrap_or_default(),
                    span_id: spans.value(row).try_into().unwrap_or_default(),
                    part: 0,
                    place: 0,
                };
                (row, candidate)
            });
        Ok(candidates.collect())
    }
}

impl Job {
    /// The first pass: the rows that win, in their order, and their memory.
    async fn find(
        &self,
        parts: &[ScanPart],
        narrow: &Narrow,
    ) -> Result<(Vec<Candidate>, Holding), Error> {
        let of_winners = self.held("rows found");
        let of_batch = self.held("a batch of rows");
        let mut winners = Winners {
            order: self.question.order,
            limit: self.question.limit.unwrap_or(usize::MAX),
            best: Vec::new(),
        };
        for (number, part) in parts.iter().enumerate() {
            if winners.is_settled_before(part) {
                break;
            }
            let mut place = 0;
            for batch in part.read(&narrow.columns, BATCH_ROWS)? {
                let batch = batch?;
                of_batch.set(new_bytes(part, &batch))?;
                for (row, candidate) in narrow.candidates(&batch)? {
                    winners.add(Candidate {
                        part: number,
                        place: place + row as u32,
                        ..candidate
                    });
                }
                place += batch.num_rows() as u32;
                of_winners.set(winners.best.capacity() * size_of::<Candidate>())?;
                self.next_batch().await?;
            }
        }
        Ok((winners.finish(), of_winners))
    }
}

/// The best rows so far.
struct Winners {
    order: Order,
    limit: usize,
    best: Vec<Candidate>,
}

impl Winners {
    fn compare(order: Order, one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
        match order {
            Order::NewestFirst => other.cmp(one),
            Order::OldestFirst => one.cmp(other),
        }
    }

    fn add(&mut self, candidate: Candidate) {
        self.best.push(candidate);
        // Cut now and then, not at every row.
        if self.best.len() >= self.limit.saturating_mul(2).max(1_024) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let order = self.order;
        if self.limit > 0 && self.best.len() > self.limit {
            self.best
                .select_nth_unstable_by(self.limit - 1, |one, other| {
                    Self::compare(order, one, other)
                });
        }
        self.best.truncate(self.limit);
    }

    /// Whether no row of a part can win any more. Parts come in order.
    fn is_settled_before(&mut self, part: &ScanPart) -> bool {
        self.cut();
        if self.best.len() < self.limit {
            return false;
        }
        let starts = self.best.iter().map(|candidate| candidate.start);
        match self.order {
            // Rows of an equal start may still win by their ids.
            Order::NewestFirst => starts.min().is_none_or(|last| part.last_start < last),
            Order::OldestFirst => starts.max().is_none_or(|last| part.first_start > last),
        }
    }

    fn finish(mut self) -> Vec<Candidate> {
        self.cut();
        let order = self.order;
        self.best
            .sort_unstable_by(|one, other| Self::compare(order, one, other));
        self.best
    }
}

/// The second pass.
struct Fetch {
    parts: Vec<ScanPart>,
    winners: Vec<Candidate>,
    /// Memory of the winners.
    _of_winners: Holding,
    of_batch: Holding,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// The first winner that was not fetched yet.
    start: usize,
    /// Rows of the next batch.
    rows: usize,
}

impl Fetch {
    /// The next winners; none when all were fetched.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        let end = self.winners.len().min(self.start + self.rows);
        if self.start >= end {
            return Ok(None);
        }
        let (batch, bytes) = self.batch(self.start..end)?;
        self.rows = (FETCH_BYTES / (bytes / (end - self.start)).max(1)).clamp(1, FETCH_ROWS);
        self.start = end;
        Ok(Some(batch))
    }

    /// Some of the winners, and the bytes of what was read for them.
    fn batch(&self, range: Range<usize>) -> Result<(RecordBatch, usize), Error> {
        let winners = self.winners.get(range).unwrap_or_default();
        let mut wanted: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for winner in winners {
            wanted.entry(winner.part).or_default().push(winner.place);
        }
        let mut bytes = 0;
        let mut fetched = Vec::with_capacity(wanted.len());
        for (number, places) in &mut wanted {
            places.sort_unstable();
            let Some(part) = self.parts.get(*number) else {
                continue;
            };
            let batches = part.fetch(places, &self.columns)?;
            let rows = concat_batches(&self.schema, &batches);
            let rows = rows.map_err(|error| columns_error("rows", &error))?;
            bytes += new_bytes(part, &rows);
            self.of_batch.set(bytes)?;
            fetched.push(rows);
        }
        let sources: Vec<&RecordBatch> = fetched.iter().collect();
        let numbers: Vec<usize> = wanted.keys().copied().collect();
        let order: Vec<(usize, usize)> = winners
            .iter()
            .map(|winner| {
                let source = numbers.binary_search(&winner.part).unwrap_or_default();
                let places = wanted.get(&winner.part).map_or(&[][..], |places| places);
                (
                    source,
                    places.binary_search(&winner.place).unwrap_or_default(),
                )
            })
            .collect();
        let batch = interleave_record_batch(&sources, &order);
        let batch = batch.map_err(|error| columns_error("rows", &error))?;
        Ok((batch, bytes))
    }
}
