//! Says how a query is answered, for people.

use std::fmt::Write;

use datafusion::physical_plan::displayable;

use super::builder::{Query, Source};
use super::filter::Rows;
use super::job::Job;
use super::sql::{begin, physical_plan};
use crate::error::Error;
use crate::read::condition::Condition;

impl Query {
    /// How the spans of the query are found: which rows in memory and which segments are
    /// looked at, and for each segment what of the filter its indexes tell and what is asked
    /// of values; of requests, how many were put together. It is a text for people, whose form may change. What it costs a
    /// [`Meter`](crate::Meter) tells.
    ///
    /// # Errors
    /// As [`Query::stream`].
    pub async fn explain(self) -> Result<String, Error> {
        let (execution, job, asked) = self.begin()?;
        let explained = async move {
            let (job, condition) = job.over(&asked).await?;
            job.explain(&condition)
        };
        execution.run(explained).await
    }
}

impl Job {
    fn explain(&self, condition: &Condition) -> Result<String, Error> {
        let interrupt = self.interrupt();
        let hot = self.hot(condition, &interrupt)?.into_iter().flatten();
        let (batches, spans) = hot.fold((0, 0), |(batches, spans), part| {
            (batches + 1, spans + part.len())
        });
        let what = self.snapshot.table.name();
        let by = "by values or codes";
        let mut out = if what == Rows::Spans.table().name() {
            format!("unsealed: {spans} spans, batches: {batches}, {by}\n")
        } else if what == Rows::Requests.table().name() {
            format!("requests: {spans} put together of their spans, {by}\n")
        } else {
            format!("sessions: {spans} put together of the registry and their requests, {by}\n")
        };
        for matching in self.sealed(condition, &interrupt)? {
            let found = matching.may(condition, matching.all_rows())?;
            let rows = matching.visible(&self.snapshot, found.rows)?.len();
            let partition = &matching.sealed.partition;
            let id = matching.sealed.segment.summary().id;
            let (all, left) = (partition.rows.len(), if found.is_exact { 0 } else { rows });
            // A string takes everything.
            writeln!(
                out,
                "segment {id}: {all} {what}, {rows} after indexes, {left} of these to be looked at"
            )
            .ok();
            out.push_str(&matching.explain(condition)?);
        }
        Ok(out)
    }
}

/// How an SQL text is answered, as [`Team::explain_sql`](crate::Team::explain_sql) says.
pub(crate) async fn explain_sql(source: &dyn Source, text: &str) -> Result<String, Error> {
    let (execution, job) = begin(source, text)?;
    let (text, engine) = (text.to_owned(), source.engine().clone());
    let explained = async move {
        let plan = physical_plan(&engine, &job, &text).await;
        let plan = plan.map_err(|error| job.memory.explain(error))?;
        Ok(displayable(plan.as_ref()).indent(false).to_string())
    };
    execution.run(explained).await
}
