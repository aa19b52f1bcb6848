//! SQL texts over the table `spans`.
//!
//! For the service's own texts. They cannot change anything, nor reach another
//! table, another team or a file; memory and time are limited. But DataFusion's
//! parser needs exponential time for some short inputs, so do not pass on what
//! strangers wrote: give them [`Team::query`](crate::Team::query).

use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::deadline::Deadline;
use super::table::SpanTable;
use crate::error::Error;
use crate::team::Team;

/// Longest SQL text, in bytes.
const MAX_BYTES: usize = 16 << 10;

impl Team {
    /// Runs an SQL query over the team's spans, the table `spans`.
    ///
    /// `attributes['key']` and `resource['key']` are the texts of attributes.
    /// The text is for the service to write, not for strangers: see the filter
    /// of [`Team::query`] for those.
    ///
    /// Must be called, and the stream be read, within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Query`] when the text is not one SQL query over `spans`, and as
    /// an item of the stream when it fails; [`Error::TooLarge`] for a text of
    /// more than 16 KiB; [`Error::TimedOut`] as an item of the stream.
    pub async fn sql(&self, text: &str) -> Result<SendableRecordBatchStream, Error> {
        let (limit, found) = (MAX_BYTES as u64, text.len() as u64);
        if found > limit {
            return Err(Error::TooLarge {
                what: "bytes of SQL",
                limit,
                found,
            });
        }
        let deadline = Deadline::after(self.parts.queries.limits.time);
        let context = self.parts.queries.context()?;
        let table = SpanTable::new(self.snapshot_of_all(), self.id.clone())?;
        context.register_table("spans", Arc::new(table))?;
        let state = context.state();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(text, &dialect)?;
        let is_query = matches!(
            &statement,
            Statement::Statement(statement) if matches!(**statement, SqlStatement::Query(_))
        );
        if !is_query {
            return Err(datafusion::error::DataFusionError::Plan(
                "only a SELECT over the table spans is allowed".into(),
            )
            .into());
        }
        let plan = state.statement_to_plan(statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        let stream = context
            .execute_logical_plan(plan)
            .await?
            .execute_stream()
            .await?;
        Ok(deadline.watch(stream))
    }
}
