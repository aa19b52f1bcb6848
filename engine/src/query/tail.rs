//! What comes in, as it is acknowledged.
//!
//! A tail keeps nothing of what comes. It knows a sequence, is woken by appends of its team,
//! and reads what has come since from the store itself. So a tail that nobody reads costs
//! nothing, what it gives is what a query finds, and history and what comes later are one list:
//! a seal or a merge between moves rows, but not their sequences.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::common::utils::memory::get_record_batch_memory_size;
use futures::TryStreamExt;
use futures::future::select;
use spanstore_format::TeamId;
use spanstore_format::requests::RequestColumn;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;
use spanstore_format::table::Table;

use super::builder::Query;
use super::cursor::{Cursor, Signer};
use super::filter::{Filter, FilterLimits, Rows};
use super::job::{Asked, Job};
use super::select::{Selection, Ties};
use crate::awaited::Waiting;
use crate::error::Error;
use crate::read::bounded::{Bounded, Limits};
use crate::read::condition::Condition;
use crate::read::group::{Grouping, Measure, Term};
use crate::read::ordered::Direction;
use crate::read::scan::columns_error;

/// Rows that are given at a time when no limit was given.
const ROWS: usize = 1_000;
/// Rows that are given at a time, at most, but for more of one append.
const MOST_ROWS: usize = 10_000;

/// Spans that are looked at for each request that is to be given, by a tail that is behind.
const SPANS_A_REQUEST: usize = 32;

/// How long a tail of spans rests between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A request is told at most so often.
const PAUSE_OF_REQUESTS: Duration = Duration::from_secs(1);

/// Spans or requests as they come in ([`Query::tail`]).
#[derive(Debug)]
pub struct Tail {
    query: Query,
    signer: Signer,
    waiting: Waiting<TeamId>,
    limit: usize,
    skips: bool,
    /// What has a lower sequence was given.
    next: i64,
    /// Rows that were left out since something was given.
    missed: u64,
    /// How often appends had come when all that had come was given; none where there is more.
    up_to_date: Option<u64>,
    last_look: Option<Instant>,
}

/// What came in.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// The rows, those that came first first, and of one append those that started first.
    pub rows: RecordBatch,
    /// For each the sequence of the append that brought it; of a request, its last span.
    pub sequences: Vec<u64>,
    /// How many rows came before these and are left out ([`Tail::skipping`]): spans that
    /// fulfil the filter, or requests whether they do or not.
    pub missed: u64,
    /// Where a tail goes on after these rows ([`Query::tail_from`]).
    pub cursor: String,
}

/// What a look found.
struct Found {
    rows: RecordBatch,
    sequences: Vec<i64>,
    missed: u64,
    /// What has a lower sequence was looked at.
    next: i64,
}

impl Query {
    /// Follows what comes in from now on: the spans that the query finds as soon as they are
    /// acknowledged, or its requests when they are first seen and whenever they have changed. A
    /// request is given at most once a second, unless the tail is behind. Columns and times are
    /// those of the query, and the order is that of the appends. The limit is how many rows are
    /// given at a time; without one it is 1,000.
    ///
    /// What a tail gives is what queries find then: a span that was forgotten before the tail
    /// came to it is not there. In modes of [`Durability`](crate::Durability) other than `Sync`
    /// a crash may lose spans that were given. Later appends may then take their sequences, and a
    /// tail from an older cursor leaves those out.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a limit of more than 10,000; [`Error::UnknownColumn`] of a query
    /// over sessions.
    pub fn tail(self) -> Result<Tail, Error> {
        Tail::new(self, None)
    }

    /// The same, of what came after a cursor ([`Arrivals::cursor`], [`Tail::cursor`]) too: the
    /// tail goes on there, without gap and without giving anything twice, whatever was sealed
    /// or merged meanwhile. Filters are to be those of the tail that gave the cursor.
    ///
    /// # Errors
    /// As [`Query::tail`]; [`Error::InvalidCursor`] for a cursor that is forged, or of another
    /// store, team or filter, or of a time that this copy of the store has not seen.
    pub fn tail_from(self, cursor: &str) -> Result<Tail, Error> {
        Tail::new(self, Some(cursor))
    }
}

impl Tail {
    fn new(query: Query, cursor: Option<&str>) -> Result<Self, Error> {
        let question = &query.question;
        if question.rows == Rows::Sessions {
            let expected = "a tail over spans or requests";
            return Err(Error::unknown_column(Bounded::Sequence.name(), expected));
        }
        let limit = question.limit.unwrap_or(ROWS).max(1);
        if limit > MOST_ROWS {
            return Err(Error::TooLarge {
                what: "rows of a tail at a time",
                limit: MOST_ROWS as u64,
                found: limit as u64,
            });
        }
        let signer = Signer::new(&*query.source, question, "tail");
        let waiting = query.source.wait_for_spans();
        let times = waiting.signal.times();
        let end = i64::try_from(query.source.snapshot().next_sequence).unwrap_or(i64::MAX);
        let next = match cursor {
            Some(cursor) => signer.read(cursor)?.below_sequence,
            None => end,
        };
        if next > end {
            let cause = "it knows spans that this store does not have";
            return Err(Error::InvalidCursor { cause });
        }
        Ok(Self {
            query,
            signer,
            waiting,
            limit,
            skips: false,
            next,
            missed: 0,
            up_to_date: (next == end).then_some(times),
            last_look: None,
        })
    }

    /// The tail, which leaves rows out when more have come than its limit: then it gives the
    /// last of them and says how many it left out ([`Arrivals::missed`]). A tail from the cursor
    /// before has them all.
    #[must_use]
    pub fn skipping(mut self) -> Self {
        self.skips = true;
        self
    }

    /// The columns of what is given.
    pub fn schema(&self) -> SchemaRef {
        let question = &self.query.question;
        let all = question.rows.table().schema();
        let asked = question.columns.iter();
        let asked = asked.filter_map(|place| all.fields().get(*place).cloned());
        Arc::new(Schema::new(asked.collect::<Vec<_>>()))
    }

    /// Where a tail goes on after what was given ([`Query::tail_from`]).
    pub fn cursor(&self) -> String {
        self.signer.write(&Cursor {
            below_sequence: self.next,
            since: None,
            until: None,
            rank: (0, 0),
            ids: Vec::new(),
            versions: 0,
        })
    }

    /// Waits until something has come, and gives it: as many rows as the limit says, and all
    /// that one append brought. Works in any async runtime. When the future is dropped, nothing
    /// is lost: the next call gives it.
    ///
    /// # Errors
    /// [`Error::Closed`] and [`Error::Poisoned`] when all was given and nothing can come any
    /// more, but for an append that was acknowledged while the store was poisoned, which another
    /// call gives; and as [`Query::stream`].
    pub async fn next(&mut self) -> Result<Arrivals, Error> {
        let engine = self.query.source.engine().clone();
        let rest = match self.query.question.rows {
            Rows::Requests => PAUSE_OF_REQUESTS,
            Rows::Spans | Rows::Sessions => PAUSE,
        };
        loop {
            let signal = Arc::clone(&self.waiting.signal);
            if let Some(times) = self.up_to_date {
                let ended = self.query.source.health().ended();
                // What comes from here on wakes it, and so does the end.
                let (came, ended) = (pin!(signal.notify.notified()), pin!(ended.notified()));
                if signal.times() == times {
                    self.query.source.health().check_open()?;
                    select(came, ended).await;
                    continue;
                }
                let passed = self.last_look.map(|look| look.elapsed());
                let rest = passed.map_or(Duration::ZERO, |passed| rest.saturating_sub(passed));
                if !rest.is_zero() {
                    engine.within(rest, pending()).await?;
                }
            }
            let times = signal.times();
            let (found, is_end) = self.look().await?;
            self.next = found.next;
            self.missed += found.missed;
            self.up_to_date = is_end.then_some(times);
            self.last_look = Some(Instant::now());
            if !found.sequences.is_empty() {
                let sequences = found.sequences.iter();
                return Ok(Arrivals {
                    rows: found.rows,
                    sequences: sequences.map(|one| one.cast_unsigned()).collect(),
                    missed: std::mem::take(&mut self.missed),
                    cursor: self.cursor(),
                });
            }
        }
    }

    /// Looks at what has come, and whether that is all.
    async fn look(&self) -> Result<(Found, bool), Error> {
        let (execution, job, asked) = self.query.clone().begin()?;
        let end = i64::try_from(job.snapshot.next_sequence).unwrap_or(i64::MAX);
        let (from, limit, skips) = (self.next, self.limit, self.skips);
        let came = Came {
            within: Limits {
                from: Some(from),
                below: Some(end),
            },
            end,
            limit,
            skips,
        };
        let look = async move {
            match asked.question.rows {
                Rows::Requests => job.arrived_requests(asked, &came).await,
                Rows::Spans | Rows::Sessions => job.arrived_spans(&asked, &came).await,
            }
        };
        let found = execution.run(look).await?;
        let is_end = found.next == end;
        Ok((found, is_end))
    }
}

/// What has come and how much of it is to be given.
#[derive(Clone, Copy)]
struct Came {
    within: Limits,
    /// Above all sequences.
    end: i64,
    limit: usize,
    skips: bool,
}

impl Came {
    /// The sequence that a tail goes on with, where rows were given up to one and there may be
    /// more after it.
    fn next(&self, last: Option<&i64>) -> i64 {
        match last {
            Some(last) if !self.skips => last + 1,
            _ => self.end,
        }
    }

    fn condition(&self) -> Condition {
        Condition::Within(Bounded::Sequence, self.within)
    }
}

impl Job {
    async fn arrived_spans(&self, asked: &Asked, came: &Came) -> Result<Found, Error> {
        let condition = Condition::And(vec![came.condition(), asked.condition(&[])?]);
        let direction = Direction {
            by: Bounded::Sequence,
            is_descending: came.skips,
        };
        let columns = Columns::new(asked, SpanColumn::Sequence.place());
        let table = asked.question.rows.table();
        let rows = columns
            .first(self, condition.clone(), direction, came.limit, table)
            .await?;
        let is_full = rows.num_rows() >= came.limit;
        let (rows, sequences) = columns.in_order(&rows, came)?;
        let mut missed = 0;
        if is_full && came.skips {
            missed = self.count(condition).await? - rows.num_rows() as u64;
        }
        let next = came.next(sequences.last().filter(|_| is_full));
        Ok(Found {
            rows,
            sequences,
            missed,
            next,
        })
    }

    async fn arrived_requests(&self, asked: Asked, came: &Came) -> Result<Found, Error> {
        let came = &self.near(came).await?;
        let held = self.held("requests that came in");
        let mut order = self.changed_traces(came).await?;
        held.set(order.capacity() * size_of::<(i64, [u8; 16])>())?;
        order.sort_unstable();
        let all = order.len();
        let (first, limit) = (all.saturating_sub(came.limit), came.limit.min(all));
        let chosen = if came.skips {
            // With all that one append changed.
            let least = order.get(first).map_or(i64::MIN, |(last, _)| *last);
            let first = order.partition_point(|(last, _)| *last < least);
            order.get(first..)
        } else {
            let most = limit.checked_sub(1).and_then(|place| order.get(place));
            let most = most.map_or(i64::MAX, |(last, _)| *last);
            let end = order.partition_point(|(last, _)| *last <= most);
            order.get(..end)
        };
        let chosen = chosen.unwrap_or_default();
        let left_out = all - chosen.len();
        let last = chosen.last().map(|(last, _)| last);
        let next = came.next(last.filter(|_| left_out > 0));
        let missed = if came.skips { left_out as u64 } else { 0 };
        let columns = Columns::new(&asked, RequestColumn::LastSequence.place());
        let table = Rows::Requests.table();
        let rows = if chosen.is_empty() {
            RecordBatch::new_empty(columns.schema(table)?)
        } else {
            let asked = asked.of_traces(chosen.iter().map(|(_, id)| id))?;
            let (job, condition) = self.over(&asked).await?;
            // One that changed again beyond what was looked at is given then.
            let is_near = Condition::Within(Bounded::LastSequence, Limits::below(came.end));
            let condition = Condition::And(vec![condition, is_near]);
            let direction = Direction {
                by: Bounded::Start,
                is_descending: came.skips,
            };
            let rows = columns.first(&job, condition, direction, usize::MAX, table);
            rows.await?
        };
        let (rows, sequences) = columns.in_order(&rows, came)?;
        Ok(Found {
            rows,
            sequences,
            missed,
            next,
        })
    }

    /// The nearest of what has come: not much more than is to be given, so that a tail that is
    /// far behind does not look at all of it each time.
    async fn near(&self, came: &Came) -> Result<Came, Error> {
        if came.skips {
            return Ok(*came);
        }
        let most = came.limit.saturating_mul(SPANS_A_REQUEST);
        let columns = Columns {
            asked: 1,
            places: vec![SpanColumn::Sequence.place()],
            own: 0,
        };
        let direction = Direction {
            by: Bounded::Sequence,
            is_descending: false,
        };
        let table = Rows::Spans.table();
        let spans = columns.first(self, came.condition(), direction, most, table);
        let spans = spans.await?;
        Ok(match columns.sequences(&spans)?.iter().max() {
            Some(last) if spans.num_rows() >= most => {
                let end = last + 1;
                Came {
                    within: Limits {
                        below: Some(end),
                        ..came.within
                    },
                    end,
                    ..*came
                }
            }
            _ => *came,
        })
    }

    /// The traces of the spans that have come, each behind the sequence of the last of them.
    async fn changed_traces(&self, came: &Came) -> Result<Vec<(i64, [u8; 16])>, Error> {
        let table = Rows::Spans.table();
        let term = |column: SpanColumn| Term::column(column.into(), table);
        let grouping = Grouping {
            keys: vec![term(SpanColumn::TraceId)?],
            measures: vec![Measure::Greatest(term(SpanColumn::Sequence)?)],
        };
        let condition = Arc::new(came.condition());
        let (groups, _held) = self.group(&condition, &Arc::new(grouping)).await?;
        let [ids, last] = groups.as_slice() else {
            return Err(Error::internal("groups", &"other columns than asked for"));
        };
        let (ids, last) = (ids.as_fixed_size_binary(), last.as_primitive::<Int64Type>());
        let last = last.values().iter();
        let traces = ids.iter().zip(last).filter_map(|(id, last)| {
            let id = <[u8; 16]>::try_from(id?).ok()?;
            Some((*last, id))
        });
        Ok(traces.collect())
    }
}

impl Asked {
    /// The question for requests of some traces alone.
    fn of_traces<'a>(&self, traces: impl Iterator<Item = &'a [u8; 16]>) -> Result<Self, Error> {
        let ids = traces.map(|id| format!("'{}'", spanstore_format::id::to_hex(id)));
        let ids: Vec<String> = ids.collect();
        let filter = format!("trace_id in ({})", ids.join(", "));
        let limits = FilterLimits {
            bytes: filter.len(),
            list: ids.len(),
            ..FilterLimits::default()
        };
        let mut question = self.question.clone();
        let filter = Filter::over(question.rows, &filter, &limits)?;
        question.filters.push(filter);
        Ok(self.instead(question))
    }
}

/// The columns that are read: those that are asked for, and one that tells the sequence.
struct Columns {
    asked: usize,
    places: Vec<usize>,
    own: usize,
}

impl Columns {
    fn new(asked: &Asked, own: usize) -> Self {
        let mut places = asked.question.columns.clone();
        let asked = places.len();
        let known = places.iter().position(|place| *place == own);
        let own = known.unwrap_or_else(|| {
            places.push(own);
            asked
        });
        Self { asked, places, own }
    }

    fn schema(&self, table: &Table) -> Result<SchemaRef, Error> {
        let schema = table.schema().project(&self.places);
        Ok(Arc::new(
            schema.map_err(|error| columns_error("schema", &error))?,
        ))
    }

    /// The first rows in a direction, and those that equal the last of them in what decides
    /// first.
    async fn first(
        &self,
        job: &Job,
        condition: Condition,
        direction: Direction,
        limit: usize,
        table: &Table,
    ) -> Result<RecordBatch, Error> {
        let schema = self.schema(table)?;
        let columns: Vec<Column> = self.places.iter().copied().map(Column::Stored).collect();
        let selection = Selection::new(job, condition, &columns, direction, Arc::clone(&schema))?;
        let mut found = pin!(selection.first(limit, Ties::OfFirst));
        let held = job.held("rows that came in");
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = found.try_next().await? {
            bytes += get_record_batch_memory_size(&batch);
            // They are put together, and then in their order.
            held.set(2 * bytes)?;
            batches.push(batch);
        }
        let rows = concat_batches(&schema, &batches);
        rows.map_err(|error| columns_error("rows", &error))
    }

    /// The sequences of rows.
    fn sequences<'a>(&self, rows: &'a RecordBatch) -> Result<&'a [i64], Error> {
        let own = rows.columns().get(self.own);
        let own = own.and_then(|own| own.as_primitive_opt::<Int64Type>());
        let others = || Error::internal("a tail", &"columns of other types");
        Ok(own.ok_or_else(others)?.values())
    }

    /// The columns that are asked for, of rows in the order of their sequences, and these.
    fn in_order(&self, rows: &RecordBatch, came: &Came) -> Result<(RecordBatch, Vec<i64>), Error> {
        let sequences = self.sequences(rows)?.iter().copied();
        let mut order: Vec<(i64, u32)> = sequences.zip(0..).collect();
        if came.skips {
            // They were read from the last to the first.
            order.reverse();
        }
        order.sort_by_key(|(sequence, _)| *sequence);
        let (sequences, order): (Vec<i64>, Vec<u32>) = order.into_iter().unzip();
        let asked: Vec<usize> = (0..self.asked).collect();
        let asked = rows.project(&asked);
        let rows = asked.and_then(|rows| take_record_batch(&rows, &UInt32Array::from(order)));
        let rows = rows.map_err(|error| columns_error("rows", &error))?;
        Ok((rows, sequences))
    }
}
