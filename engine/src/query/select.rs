//! Answers a filter query: rows are found in the order of the query
//! ([`Ordered`]), then their columns are read for those rows alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::Stream;
use roaring::RoaringBitmap;
use spanstore_format::segment::Column;

use super::builder::{Order, Query, Question};
use super::job::{Asked, Holding, Job};
use super::watched::external;
use crate::error::Error;
use crate::read::bounded::Bounded;
use crate::read::condition::Condition;
use crate::read::interrupt::Interrupt;
use crate::read::meter::Stage;
use crate::read::ordered::{Direction, FoundRow, Ordered, Origin, Rank};
use crate::read::scan::columns_error;

/// Runs a query.
pub(super) async fn select(query: Query) -> Result<SendableRecordBatchStream, Error> {
    let (execution, job, asked) = query.begin()?;
    let stream = execution
        .run(async move { job.select(&asked).await })
        .await?;
    execution.stream(stream)
}

impl Job {
    async fn select(self, asked: &Asked) -> Result<SendableRecordBatchStream, Error> {
        let question = &asked.question;
        let table = question.rows.table();
        let schema = table.schema().project(&question.columns);
        let schema = Arc::new(schema.map_err(|error| columns_error("schema", &error))?);
        let columns: Vec<Column> = question
            .columns
            .iter()
            .copied()
            .map(Column::Stored)
            .collect();
        let direction = question.direction()?;
        let (job, condition) = match question.limit {
            Some(limit) => self.over_first(asked, limit, None).await?,
            None => self.over(asked).await?,
        };
        let of_batches = Arc::clone(&schema);
        let selection = Selection::new(&job, condition, &columns, direction, of_batches)?;
        let batches = selection.first(question.limit.unwrap_or(usize::MAX), Ties::ByIds);
        let stream = RecordBatchStreamAdapter::new(schema, Box::pin(batches));
        Ok(Box::pin(cooperative(stream)))
    }
}

impl Question {
    /// The direction of its order.
    pub(super) fn direction(&self) -> Result<Direction, Error> {
        let (by, is_descending) = match self.order {
            Order::NewestFirst => (Bounded::Start, true),
            Order::OldestFirst => (Bounded::Start, false),
            Order::SlowestFirst => (Bounded::Duration, true),
            Order::FastestFirst => (Bounded::Duration, false),
            Order::MostSpansFirst => (Bounded::Spans, true),
            Order::MostErrorsFirst => (Bounded::Errors, true),
        };
        if self.rows.table().place_of(by.name()).is_none() {
            let expected = "another order";
            return Err(Error::unknown_column(by.name(), expected));
        }
        Ok(Direction { by, is_descending })
    }
}

/// Rows of a batch of the result, at most.
const MOST_ROWS: usize = 4_096;

/// Rows of the first batch, which tells how large rows are.
const FIRST_ROWS: usize = 128;

/// Bytes that a batch is to take, about.
const BATCH_BYTES: usize = 32 << 20;

/// Rows that are looked for in their order, and then read.
pub(super) struct Selection {
    job: Job,
    rows: Ordered,
    /// Memory of the rows that were found.
    of_rows: Holding,
    of_batch: Holding,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// Rows of the next batch.
    batch_rows: usize,
    /// Rows of a batch, at most.
    most_rows: usize,
}

/// Which of the rows that equal the last one are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ties {
    /// Those that come first by their ids.
    ByIds,
    /// Any of them.
    Any,
    /// All that equal it in what decides first.
    OfFirst,
    /// All that equal it in their rank.
    OfRank,
}

impl Ties {
    /// Whether a row equals the last one, by their ranks.
    fn equal(self, last: Rank, other: Rank) -> bool {
        match self {
            Self::ByIds | Self::Any => false,
            Self::OfFirst => last.0 == other.0,
            Self::OfRank => last == other,
        }
    }
}

/// What is still to come.
#[derive(Debug, Clone, Copy)]
enum Left {
    Rows(usize),
    /// Rows that equal the last one.
    Ties(Rank),
}

impl Selection {
    /// Begins; `schema` names the columns.
    pub(super) fn new(
        job: &Job,
        condition: Condition,
        columns: &[Column],
        direction: Direction,
        schema: SchemaRef,
    ) -> Result<Self, Error> {
        let (team, interrupt) = (&job.team, job.interrupt());
        Ok(Self {
            rows: Ordered::new(&job.snapshot, team, condition, direction, &interrupt)?,
            of_rows: job.held("rows found"),
            of_batch: job.held("a batch of rows"),
            columns: columns.to_vec(),
            schema,
            batch_rows: FIRST_ROWS,
            most_rows: MOST_ROWS,
            job: job.clone(),
        })
    }

    /// Reads the columns of so many rows at a time, at most.
    pub(super) fn in_batches_of(&mut self, rows: usize) {
        self.most_rows = rows.clamp(1, MOST_ROWS);
        self.batch_rows = FIRST_ROWS.min(self.most_rows);
    }

    /// Leaves out what comes before rows of a rank.
    pub(super) fn begin_at(&mut self, rank: Rank) {
        self.rows.begin_at(rank);
    }

    /// The first rows, at most `limit`, and those that equal the last of them where `ties`
    /// asks for them.
    pub(super) fn first(
        mut self,
        limit: usize,
        ties: Ties,
    ) -> impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send {
        self.rows.end_after(limit);
        let state = (self, Left::Rows(limit));
        futures::stream::try_unfold(state, move |(mut selection, mut left)| async move {
            let batch = selection.next_batch(&mut left, ties).await;
            let batch = batch.map_err(external)?;
            Ok(batch.map(|batch| (batch, (selection, left))))
        })
    }

    /// The next rows of the result; none when there are no more.
    async fn next_batch(
        &mut self,
        left: &mut Left,
        ties: Ties,
    ) -> Result<Option<RecordBatch>, Error> {
        let rows = match *left {
            Left::Rows(0) => return Ok(None),
            Left::Rows(left) => {
                let wanted = self.batch_rows.min(left);
                while !self.rows.has(wanted) {
                    self.step().await?;
                }
                match ties {
                    Ties::ByIds => self.rows.take(wanted)?,
                    _ => self.rows.take_unsorted(wanted),
                }
            }
            Left::Ties(last) => {
                let equal = |rank| ties.equal(last, rank);
                while !self.rows.has_all(equal) {
                    self.step().await?;
                }
                self.rows.take_equal(self.batch_rows, equal)
            }
        };
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        if let Left::Rows(count) = left {
            *count -= rows.len();
            if *count == 0 {
                *left = Left::Ties(last.rank);
            }
        }
        let meter = self.job.watch.meter();
        let (batch, bytes) = meter.time(Stage::Answer, || self.fetch(&rows))?;
        self.batch_rows = (BATCH_BYTES / (bytes / rows.len()).max(1)).clamp(1, self.most_rows);
        Ok(Some(batch))
    }

    async fn step(&mut self) -> Result<(), Error> {
        self.rows.step()?;
        self.of_rows.set(self.rows.bytes())?;
        self.job.next_batch().await
    }

    /// The columns of rows, and the bytes of what was read for them.
    fn fetch(&self, rows: &[FoundRow]) -> Result<(RecordBatch, usize), Error> {
        let mut by_origin: BTreeMap<u32, RoaringBitmap> = BTreeMap::new();
        for row in rows {
            by_origin.entry(row.origin).or_default().insert(row.row);
        }
        let mut bytes = 0;
        let mut fetched = Vec::with_capacity(by_origin.len());
        for (origin, numbers) in &by_origin {
            let batches = match self.rows.origin(*origin) {
                Some(Origin::Hot(part)) => {
                    self.job.watch.meter().rows(numbers.len() as usize);
                    vec![part.take(&self.columns, numbers.iter().collect())?]
                }
                Some(Origin::Sealed(matching)) => {
                    let mut batches = Vec::new();
                    matching.each_batch(numbers, &self.columns, |_, batch| {
                        bytes += get_record_batch_memory_size(batch);
                        self.of_batch.set(bytes)?;
                        batches.push(batch.clone());
                        Ok(())
                    })?;
                    batches
                }
                None => return Err(no_part()),
            };
            let rows = concat_batches(&self.schema, &batches);
            fetched.push(rows.map_err(|error| columns_error("rows", &error))?);
        }
        let sources: Vec<&RecordBatch> = fetched.iter().collect();
        let places = rows.iter().map(|row| {
            let mut origins = by_origin.iter().enumerate();
            let (source, (_, numbers)) = origins.find(|(_, (origin, _))| **origin == row.origin)?;
            let before = numbers.rank(row.row).checked_sub(1)?;
            Some((source, usize::try_from(before).ok()?))
        });
        let places: Option<Vec<(usize, usize)>> = places.collect();
        let batch = interleave_record_batch(&sources, &places.ok_or_else(no_part)?);
        let batch = batch.map_err(|error| columns_error("rows", &error))?;
        Ok((batch, bytes))
    }
}

fn no_part() -> Error {
    Error::internal("rows found", &"a row of a part that there is not")
}
