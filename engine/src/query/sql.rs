//! SQL texts over the tables `spans`, `requests` and `sessions`.
//!
//! For the service's own texts. They cannot change anything, nor reach another
//! table, another team or a file; memory and time are limited. But DataFusion's
//! parser needs exponential time for some short inputs, and nothing ends it: the
//! caller has its error in time, but a thread of the store stays busy. So do not
//! pass on what strangers wrote: give them [`Team::query`](crate::Team::query).

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::any_span;
use super::builder::Source;
use super::engine::{Engine, context, task};
use super::filter::Rows;
use super::job::Job;
use super::rewrite::{LeafPlanner, rewritten};
use super::table::RowTable;
use super::watched::{external, watched};
use super::watched_window::watched_windows;
use super::workers::Execution;
use crate::error::Error;

/// Longest SQL text, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Runs an SQL query, as [`Team::sql`](crate::Team::sql) says.
pub(crate) async fn sql(
    source: &dyn Source,
    text: &str,
) -> Result<SendableRecordBatchStream, Error> {
    let (execution, job) = begin(source, text)?;
    let (text, engine) = (text.to_owned(), source.engine().clone());
    let stream = execution.run(async move {
        let stream = run(&engine, &job, &text).await;
        stream.map_err(|error| job.memory.explain(error).into())
    });
    let stream = stream.await?;
    execution.stream(stream)
}

/// Begins the query of an SQL text.
pub(super) fn begin(source: &dyn Source, text: &str) -> Result<(Execution, Job), Error> {
    let (limit, found) = (MAX_BYTES as u64, text.len() as u64);
    if found > limit {
        return Err(Error::TooLarge {
            what: "bytes of SQL",
            limit,
            found,
        });
    }
    let execution = source.engine().begin(source.meter())?;
    let mut job = Job::new(source, source.snapshot(), &execution);
    // The registry is read only for texts that may name the table.
    if text.to_ascii_lowercase().contains("sessions") {
        job = job.with_registered(source);
    }
    Ok((execution, job))
}

/// Plans an SQL text and starts it.
async fn run(
    engine: &Engine,
    job: &Job,
    text: &str,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let plan = physical_plan(engine, job, text).await?;
    let memory: Arc<dyn MemoryPool> = Arc::clone(&job.memory) as _;
    let task = task(engine.state(), memory).map_err(external)?;
    execute_stream(watched(plan, &job.watch)?, task)
}

/// The plan of an SQL text, ready to run.
pub(super) async fn physical_plan(
    engine: &Engine,
    job: &Job,
    text: &str,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let table: Arc<dyn TableProvider> = Arc::new(RowTable::new(Rows::Spans, job)?);
    let state = engine.state();
    let plan = match engine.plans().get(text, &table)? {
        Some(plan) => plan,
        None => optimized(engine, job, table, text).await?,
    };
    let plan = watched_windows(rewritten(plan, job, state)?, &job.watch)?;
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(LeafPlanner)]);
    planner.create_physical_plan(&plan, &**state).await
}

/// The optimized plan of an SQL text.
async fn optimized(
    engine: &Engine,
    job: &Job,
    table: Arc<dyn TableProvider>,
    text: &str,
) -> Result<LogicalPlan, DataFusionError> {
    let memory: Arc<dyn MemoryPool> = Arc::clone(&job.memory) as _;
    let context = context(engine.state(), memory).map_err(external)?;
    let schema = table.schema();
    context.register_table("spans", table)?;
    let requests = RowTable::new(Rows::Requests, job)?;
    context.register_table("requests", Arc::new(requests))?;
    let sessions = RowTable::new(Rows::Sessions, job)?;
    context.register_table("sessions", Arc::new(sessions))?;
    let state = context.state();
    let dialect = state.config_options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(text, &dialect)?;
    match &mut statement {
        Statement::Statement(query) if matches!(**query, SqlStatement::Query(_)) => {
            any_span::answered(query, job, &context).await?;
        }
        _ => {
            let message = "only a SELECT over the tables spans, requests and sessions is allowed";
            return Err(DataFusionError::Plan(message.into()));
        }
    }
    // With the functions that were added.
    let state = context.state();
    let plan = state.statement_to_plan(statement).await?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)?;
    let optimized = state.optimize(&plan)?;
    engine.plans().keep(text, &plan, &optimized, schema);
    Ok(optimized)
}
