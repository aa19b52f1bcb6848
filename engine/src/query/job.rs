//! A query over spans at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::Expr;
use roaring::{MultiOps, RoaringBitmap};
use spanstore_format::TeamId;
use spanstore_format::segment::Column;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::builder::{Order, Query, Question, Source};
use super::condition;
use super::filter::Rows;
use super::memory::{Held, QueryPool};
use super::sessions::{Needed, Registered};
use super::watch::Watch;
use super::workers::Execution;
use crate::error::Error;
use crate::read::bounded::{Bounded, Limits};
use crate::read::condition::{Condition, Leaf};
use crate::read::group::Term;
use crate::read::hot::HotPart;
use crate::read::interrupt::{self, Interrupt};
use crate::read::matching::{Matching, part};
use crate::read::meter::{Meter, Stage};
use crate::read::plan::{hot_parts, partitions, visible_bounds};
use crate::read::scan::{ScanPart, row_groups, rows_of_group};
use crate::view::Snapshot;

/// Rows in memory that are worked on at a time, about.
const HOT_ROWS: usize = 32_768;

/// Rows that take as long as a part takes whatever its rows, about.
const PART_ROWS: usize = 512;

/// What a query needs where it works. It does not hold the store: the last
/// handle of a store must not be dropped by one of its own threads.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) team: TeamId,
    pub(super) snapshot: Snapshot,
    pub(super) watch: Arc<Watch>,
    pub(super) memory: Arc<QueryPool>,
    /// The sessions of the registry, or why it cannot be read, when these may be asked for.
    registered: Option<Arc<Result<Registered, Error>>>,
    /// Memory of rows that were put together for it.
    rows: Option<Arc<Holding>>,
}

/// What is asked.
pub(super) struct Asked {
    pub(super) question: Question,
    state: Arc<SessionState>,
}

impl Query {
    /// Begins the query: its time runs from now on, and it sees what is there
    /// now.
    pub(super) fn begin(self) -> Result<(Execution, Job, Asked), Error> {
        let engine = self.source.engine();
        let execution = engine.begin(self.source.meter())?;
        let mut job = Job::new(&*self.source, self.source.snapshot(), &execution);
        if self.question.rows == Rows::Sessions {
            job = job.with_registered(&*self.source);
        }
        let asked = Asked {
            state: Arc::clone(engine.state()),
            question: self.question,
        };
        Ok((execution, job, asked))
    }
}

impl Asked {
    /// Another question in place of this one.
    pub(super) fn instead(&self, question: Question) -> Self {
        Self {
            question,
            state: Arc::clone(&self.state),
        }
    }

    /// What rows must fulfil; for what filters ask of the spans of requests stand these
    /// leaves, filter by filter.
    pub(super) fn condition(&self, of_spans: &[Vec<Leaf>]) -> Result<Condition, Error> {
        let question = &self.question;
        let table = question.rows.table();
        let mut all: Vec<Condition> = Vec::new();
        for (number, filter) in question.filters.iter().enumerate() {
            let of_spans = of_spans.get(number).map_or(&[][..], Vec::as_slice);
            let compile = |expr, schema: &DFSchema| self.state.create_physical_expr(expr, schema);
            let condition = condition::of_filter(filter.expr(), of_spans, table, &compile);
            all.push(condition?);
        }
        let starts = Limits {
            from: question.since,
            below: question.until,
        };
        if starts != Limits::default() {
            all.push(Condition::Within(Bounded::Start, starts));
        }
        if question.rows == Rows::Spans {
            all.extend(self.below_sequence());
        }
        Ok(Condition::And(all))
    }

    /// The condition that a span is seen, if not all are.
    fn below_sequence(&self) -> Option<Condition> {
        let below = self.question.below_sequence?;
        Some(Condition::Within(Bounded::Sequence, Limits::below(below)))
    }

    /// A condition on spans.
    pub(super) fn of_spans(&self, condition: &Expr) -> Result<Condition, Error> {
        let compile = |expr, schema: &DFSchema| self.state.create_physical_expr(expr, schema);
        let table = Rows::Spans.table();
        let condition = condition::of_filter(condition, &[], table, &compile)?;
        let seen = std::iter::once(condition).chain(self.below_sequence());
        Ok(Condition::And(seen.collect()).narrowed())
    }

    /// A value of each row.
    pub(super) fn term(&self, expr: &Expr) -> Result<Term, Error> {
        let compile = |expr, schema: &DFSchema| self.state.create_physical_expr(expr, schema);
        Ok(condition::term(expr, self.question.rows.table(), &compile)?)
    }

    /// The start of each row.
    pub(super) fn start(&self) -> Result<Term, Error> {
        let table = self.question.rows.table();
        Term::column(Column::Stored(Bounded::Start.place(table)), table)
    }
}

impl Job {
    /// A job over what a snapshot has of a team.
    pub(super) fn new(source: &dyn Source, snapshot: Snapshot, execution: &Execution) -> Self {
        Self {
            team: source.team().clone(),
            snapshot,
            watch: Arc::clone(&execution.watch),
            memory: Arc::clone(&execution.memory),
            registered: None,
            rows: None,
        }
    }

    /// The job with the sessions of the registry, which are read after the snapshot was taken:
    /// so a session is there when its spans are.
    pub(super) fn with_registered(self, source: &dyn Source) -> Self {
        let registered = Some(Arc::new(source.registered()));
        Self { registered, ..self }
    }

    /// The sessions of the registry.
    pub(super) fn registered(&self) -> Result<Option<&Registered>, Error> {
        match self.registered.as_deref() {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(sessions)) => Ok(Some(sessions)),
            None => Ok(None),
        }
    }

    /// The job over rows in memory that were put together for it.
    pub(super) fn with_rows(&self, snapshot: Snapshot) -> Result<Self, Error> {
        let held = self.held(snapshot.table.name());
        held.set(snapshot.hot_bytes())?;
        Ok(Self {
            snapshot,
            rows: Some(Arc::new(held)),
            ..self.clone()
        })
    }

    /// The memory of those rows.
    pub(super) fn rows(&self) -> Option<Arc<Holding>> {
        self.rows.clone()
    }

    /// The job over the rows that are asked for, and what these must fulfil.
    pub(super) async fn over(&self, asked: &Asked) -> Result<(Self, Condition), Error> {
        self.over_choices(asked, &[]).await
    }

    /// The same, with the rows too that do not fulfil what is asked of some columns.
    pub(super) async fn over_choices(
        &self,
        asked: &Asked,
        columns: &[Column],
    ) -> Result<(Self, Condition), Error> {
        match asked.question.rows {
            Rows::Spans => Ok((self.clone(), asked.condition(&[])?)),
            Rows::Requests => self.over_requests(asked, columns).await,
            Rows::Sessions => self.over_sessions(asked, None).await,
        }
    }

    /// The job over the rows that are asked for, as [`Job::over`] gives it, where only the first
    /// in the order of the question are needed: so many, and those before them from a start on.
    /// It may have others too.
    pub(super) async fn over_first(
        &self,
        asked: &Asked,
        count: usize,
        from: Option<i64>,
    ) -> Result<(Self, Condition), Error> {
        let question = &asked.question;
        let is_newest_first = question.order == Order::NewestFirst;
        let is_by_start = is_newest_first || question.order == Order::OldestFirst;
        let are_all =
            question.filters.is_empty() && (question.since, question.until) == (None, None);
        if question.rows != Rows::Sessions || !is_by_start || !are_all {
            return self.over(asked).await;
        }
        let needed = Needed {
            count,
            from,
            is_newest_first,
        };
        self.over_sessions(asked, Some(needed)).await
    }

    /// What ends the reading of rows, and accounts for them.
    pub(super) fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::new(Reading {
            watch: Arc::clone(&self.watch),
            memory: Arc::clone(&self.memory),
        })
    }

    /// Begins to account for memory.
    pub(super) fn held(&self, what: &'static str) -> Holding {
        Holding::new(&self.memory, what)
    }

    /// Goes on with the next batch, or ends. Other queries get their turn.
    pub(super) async fn next_batch(&self) -> Result<(), Error> {
        self.watch.check()?;
        tokio::task::consume_budget().await;
        Ok(())
    }

    /// Works on parts on all threads of queries. Each thread has a state of its own for those
    /// that it comes to.
    pub(super) async fn by_threads<P, S>(
        &self,
        parts: Vec<P>,
        new: impl Fn() -> S,
        work: impl Fn(&mut S, &P) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<Vec<S>, Error>
    where
        P: Send + Sync + 'static,
        S: Send + 'static,
    {
        let shared = Arc::new((parts, AtomicUsize::new(0), work));
        let threads = Handle::current().metrics().num_workers();
        let mut tasks = JoinSet::new();
        for _ in 0..threads.min(shared.0.len()) {
            let (job, shared, mut state) = (self.clone(), Arc::clone(&shared), new());
            tasks.spawn(async move {
                let (parts, next, work) = &*shared;
                while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(&mut state, part)?;
                    job.next_batch().await?;
                }
                Ok(state)
            });
        }
        joined(tasks).await
    }

    /// The rows in memory that may fulfil the condition, in parts that are worth a task
    /// of its own each.
    pub(super) fn hot(
        &self,
        condition: &Condition,
        interrupt: &Arc<dyn Interrupt>,
    ) -> Result<Vec<Vec<HotPart>>, Error> {
        let bounds = visible_bounds(&self.snapshot, condition.starts());
        let mut works: Vec<Vec<HotPart>> = Vec::new();
        let mut rows = 0;
        for part in hot_parts(&self.snapshot, bounds, interrupt)? {
            let of_part = part.len() + PART_ROWS;
            rows += of_part;
            match works.last_mut() {
                Some(work) if rows <= HOT_ROWS => work.push(part),
                _ => {
                    rows = of_part;
                    works.push(vec![part]);
                }
            }
        }
        Ok(works)
    }

    /// The partitions that may hold rows that fulfil the condition.
    pub(super) fn sealed(
        &self,
        condition: &Condition,
        interrupt: &Arc<dyn Interrupt>,
    ) -> Result<Vec<Arc<Matching>>, Error> {
        let bounds = visible_bounds(&self.snapshot, condition.starts());
        let found = partitions(&self.snapshot, &self.team, bounds, interrupt)?;
        let found = found.into_iter();
        Ok(found
            .map(|sealed| Arc::new(Matching::new(sealed, interrupt)))
            .collect())
    }

    /// The rows of a partition that fulfil the condition and are to be seen.
    pub(super) async fn exactly(
        &self,
        matching: &Arc<Matching>,
        condition: &Arc<Condition>,
    ) -> Result<RoaringBitmap, Error> {
        let meter = self.watch.meter();
        let (rows, is_exact) = meter.time(Stage::Indexes, || {
            let found = matching.may(condition, matching.all_rows())?;
            let rows = matching.visible(&self.snapshot, found.rows)?;
            Ok::<_, Error>((rows, found.is_exact))
        })?;
        self.next_batch().await?;
        if is_exact {
            return Ok(rows);
        }
        let found = on_each_row_group(&rows, |rows| {
            let (matching, condition) = (Arc::clone(matching), Arc::clone(condition));
            let meter = meter.clone();
            move || meter.time(Stage::Values, || matching.find(&condition, rows))
        });
        Ok(found.await?.union())
    }
}

/// Does some work for the rows of each row group, on all threads of queries.
pub(super) async fn on_each_row_group<T: Send + 'static, W>(
    rows: &RoaringBitmap,
    work: impl Fn(RoaringBitmap) -> W,
) -> Result<Vec<T>, Error>
where
    W: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let groups = row_groups(rows).map(|group| part(rows, rows_of_group(group)));
    on_each(groups, work).await
}

/// Does some work for each of some parts, on all threads of queries.
pub(super) async fn on_each<P, T: Send + 'static, W>(
    parts: impl IntoIterator<Item = P>,
    work: impl Fn(P) -> W,
) -> Result<Vec<T>, Error>
where
    W: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for part in parts {
        let work = work(part);
        tasks.spawn(async move { work() });
    }
    joined(tasks).await
}

/// What tasks answer, in any order.
async fn joined<T: 'static>(mut tasks: JoinSet<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let mut all = Vec::with_capacity(tasks.len());
    while let Some(done) = tasks.join_next().await {
        let done = done.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
        all.push(done?);
    }
    Ok(all)
}

/// The reading of rows for a job.
struct Reading {
    watch: Arc<Watch>,
    memory: Arc<QueryPool>,
}

impl Interrupt for Reading {
    fn check(&self) -> Result<(), Error> {
        self.watch.check()
    }

    fn hold(&self, rows: &RecordBatch) -> Result<interrupt::Held, Error> {
        self.hold_bytes(get_record_batch_memory_size(rows))
    }

    fn hold_bytes(&self, bytes: usize) -> Result<interrupt::Held, Error> {
        let held = Holding::new(&self.memory, "rows at work");
        held.set(bytes)?;
        Ok(Box::new(held))
    }

    fn meter(&self) -> &Meter {
        self.watch.meter()
    }
}

/// Memory that a job holds.
#[derive(Debug)]
pub(super) struct Holding {
    held: Held,
    memory: Arc<QueryPool>,
}

impl Holding {
    fn new(memory: &Arc<QueryPool>, what: &'static str) -> Self {
        let pool: Arc<dyn MemoryPool> = Arc::clone(memory) as _;
        Self {
            held: Held::nothing(&pool, what),
            memory: Arc::clone(memory),
        }
    }

    /// Holds so many bytes in place of those before.
    pub(super) fn set(&self, bytes: usize) -> Result<(), Error> {
        let set = self.held.set(bytes);
        set.map_err(|error| self.memory.explain(error).into())
    }
}

/// Bytes that a batch of a part takes beside what was in memory already.
pub(super) fn new_bytes(part: &ScanPart, batch: &RecordBatch) -> usize {
    if part.is_sealed() {
        get_record_batch_memory_size(batch)
    } else {
        0
    }
}
