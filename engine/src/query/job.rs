//! A query over spans at work.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use spanstore_format::TeamId;

use super::builder::{Query, Question};
use super::condition;
use super::memory::{Held, QueryPool};
use super::watch::Watch;
use super::workers::Execution;
use crate::error::Error;
use crate::read::condition::Condition;
use crate::read::interrupt::{self, Interrupt};
use crate::read::scan::ScanPart;
use crate::view::Snapshot;

/// What a query needs where it works. It does not hold the store: the last
/// handle of a store must not be dropped by one of its own threads.
pub(super) struct Job {
    pub(super) question: Question,
    pub(super) team: TeamId,
    pub(super) snapshot: Snapshot,
    pub(super) state: Arc<SessionState>,
    pub(super) watch: Arc<Watch>,
    memory: Arc<QueryPool>,
}

impl Query {
    /// Begins the query: its time runs from now on, and it sees what is there
    /// now.
    pub(super) fn begin(self) -> Result<(Execution, Job), Error> {
        let engine = self.source.engine();
        let execution = engine.begin()?;
        let job = Job {
            state: Arc::clone(engine.state()),
            watch: Arc::clone(&execution.watch),
            memory: Arc::clone(&execution.memory),
            snapshot: self.source.snapshot(),
            team: self.source.team().clone(),
            question: self.question,
        };
        Ok((execution, job))
    }
}

impl Job {
    /// What rows must fulfil.
    pub(super) fn condition(&self) -> Result<Condition, Error> {
        let compile = |expr, schema: &DFSchema| self.state.create_physical_expr(expr, schema);
        let question = &self.question;
        let mut all: Vec<Condition> = Vec::new();
        if let Some(filter) = &question.filter {
            all.push(condition::of_filter(filter.expr(), &compile)?);
        }
        all.extend(question.since.map(Condition::Since));
        all.extend(question.until.map(Condition::Until));
        Ok(Condition::And(all))
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
        let held = Holding::new(&self.memory, "a batch of rows");
        held.set(get_record_batch_memory_size(rows))?;
        Ok(Box::new(held))
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
