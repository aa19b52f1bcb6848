//! SQL texts over the table `spans`.
//!
//! For the service's own texts. They cannot change anything, nor reach another
//! table, another team or a file; memory and time are limited. But DataFusion's
//! parser needs exponential time for some short inputs, and nothing ends it: the
//! caller has its error in time, but a thread of the store stays busy. So do not
//! pass on what strangers wrote: give them [`Team::query`](crate::Team::query).

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::builder::Source;
use super::engine::context;
use super::job::Job;
use super::rewrite::{LeafPlanner, rewritten};
use super::table::SpanTable;
use super::watched::watched;
use super::watched_window::watched_windows;
use crate::error::Error;

/// Longest SQL text, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Runs an SQL query, as [`Team::sql`](crate::Team::sql) says.
pub(crate) async fn sql(
    source: &dyn Source,
    text: &str,
) -> Result<SendableRecordBatchStream, Error> {
    let (limit, found) = (MAX_BYTES as u64, text.len() as u64);
    if found > limit {
        return Err(Error::TooLarge {
            what: "bytes of SQL",
            limit,
            found,
        });
    }
    let engine = source.engine();
    let execution = engine.begin()?;
    let state = Arc::clone(engine.state());
    let job = Job {
        team: source.team().clone(),
        snapshot: source.snapshot(),
        watch: Arc::clone(&execution.watch),
        memory: Arc::clone(&execution.memory),
    };
    let text = text.to_owned();
    let stream = execution.run(async move {
        let pool: Arc<dyn MemoryPool> = Arc::clone(&job.memory) as _;
        let context = context(&state, pool)?;
        let stream = run(&context, &job, &text).await;
        stream.map_err(|error| job.memory.explain(error).into())
    });
    let stream = stream.await?;
    execution.stream(stream)
}

/// Plans an SQL text and starts it.
async fn run(
    context: &SessionContext,
    job: &Job,
    text: &str,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let Job {
        team,
        snapshot,
        watch,
        ..
    } = job;
    let table = SpanTable::new(snapshot.clone(), team.clone(), watch)?;
    context.register_table("spans", Arc::new(table))?;
    let state = context.state();
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(text, &dialect)?;
    let is_query = matches!(
        &statement,
        Statement::Statement(statement) if matches!(**statement, SqlStatement::Query(_))
    );
    if !is_query {
        let message = "only a SELECT over the table spans is allowed";
        return Err(DataFusionError::Plan(message.into()));
    }
    let plan = state.statement_to_plan(statement).await?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)?;
    let plan = rewritten(state.optimize(&plan)?, job, &state)?;
    let plan = watched_windows(plan, watch)?;
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(LeafPlanner)]);
    let plan = planner.create_physical_plan(&plan, &state).await?;
    execute_stream(watched(plan, watch)?, state.task_ctx())
}
