//! Optimized plans of SQL texts, kept so that a text that comes again is planned once.
//!
//! A plan knows the schema of the table, which all teams share, and nothing of what the
//! table holds: each query puts its own table in.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use quick_cache::sync::Cache;

use super::rewrite::is_spans;

/// Plans that are kept.
const MOST_PLANS: usize = 64;
/// The longest text whose plan is kept, in bytes.
const LONGEST: usize = 2 << 10;
/// Bytes of the literals of a plan that is kept, at most: functions of literals are worked
/// out when a text is planned, and may make long texts of short ones.
const MOST_LITERAL_BYTES: usize = 16 << 10;

/// Plans by their texts.
pub(super) struct Plans(Cache<String, Arc<LogicalPlan>>);

impl Plans {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST_PLANS))
    }

    /// The plan of a text over a table, if it is known.
    pub(super) fn get(
        &self,
        text: &str,
        table: &Arc<dyn TableProvider>,
    ) -> Result<Option<LogicalPlan>> {
        let Some(plan) = self.0.get(text) else {
            return Ok(None);
        };
        over(&plan, table).map(Some)
    }

    /// Keeps the optimized form of a plan, if it is the same at any time, and small.
    pub(super) fn keep(
        &self,
        text: &str,
        plan: &LogicalPlan,
        optimized: &LogicalPlan,
        schema: SchemaRef,
    ) {
        // What is kept must not hold what a query sees.
        let nothing: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(schema));
        // A plan that cannot be looked at is not kept.
        let is_kept = text.len() <= LONGEST
            && is_constant(plan).unwrap_or(false)
            && literal_bytes(optimized).is_ok_and(|bytes| bytes <= MOST_LITERAL_BYTES);
        if is_kept && let Ok(kept) = over(optimized, &nothing) {
            self.0.insert(text.to_owned(), Arc::new(kept));
        }
    }
}

impl fmt::Debug for Plans {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Plans")
            .field("plans", &self.0.len())
            .finish()
    }
}

/// The plan over a table.
fn over(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let source = provider_as_source(Arc::clone(table));
    let over = plan.clone().transform_down_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::TableScan(scan) => {
                let source = Arc::clone(&source);
                Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan }))
            }
            other => Transformed::no(other),
        })
    });
    Ok(over?.data)
}

/// Whether a plan scans the table alone, and no function of it depends on the time of its
/// planning, as `now()` does.
fn is_constant(plan: &LogicalPlan) -> Result<bool> {
    let mut is_constant = true;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            is_constant &= is_spans(scan);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let is_fixed = match expr {
                    Expr::ScalarFunction(call) => {
                        call.func.signature().volatility == Volatility::Immutable
                    }
                    Expr::ScalarVariable(..) | Expr::Placeholder(_) => false,
                    _ => true,
                };
                is_constant &= is_fixed;
                Ok(if is_fixed {
                    TreeNodeRecursion::Continue
                } else {
                    TreeNodeRecursion::Stop
                })
            })
        })
    })?;
    Ok(is_constant)
}

/// Bytes of the literals of a plan.
fn literal_bytes(plan: &LogicalPlan) -> Result<usize> {
    let mut bytes = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Literal(value, _) = expr {
                    bytes += value.size();
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::engine::context;
    use super::super::filter::Rows;
    use super::super::job::Job;
    use super::super::table::RowTable;
    use super::*;
    use crate::{Store, StoreOptions, TeamId};

    #[tokio::test]
    async fn plans_that_depend_on_the_time_or_on_other_tables_are_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let team = store.team(&TeamId::new("acme").unwrap());
        let engine = &team.parts.queries;
        let execution = engine.begin(crate::Meter::default()).unwrap();
        let job = Job::new(&team, team.snapshot_of_all(), &execution);
        let table = |rows| Arc::new(RowTable::new(rows, &job).unwrap());
        let (table, requests) = (table(Rows::Spans), table(Rows::Requests));
        let table: Arc<dyn TableProvider> = table;
        let context = context(engine.state(), execution.memory.clone()).unwrap();
        context.register_table("spans", Arc::clone(&table)).unwrap();
        context.register_table("requests", requests).unwrap();
        for (text, is_kept) in [
            ("select count(*) from spans where name like '%a%'", true),
            (
                "select upper(name) from spans order by duration limit 3",
                true,
            ),
            ("select count(*) from spans where start_time > now()", false),
            ("select name, random() from spans", false),
            (
                "select name from spans where duration > (select avg(duration) from spans \
                 where start_time < now())",
                false,
            ),
            ("select current_date", false),
            ("select count(*) from requests", false),
            (
                "select name from spans where trace_id in (select trace_id from requests)",
                false,
            ),
            (
                "select regexp_replace(regexp_replace('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', \
                 '.', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'g'), '.', 'cccccccccccccccccc', 'g') \
                 = name from spans",
                false,
            ),
            (
                "with recursive t as (select 1 as n union all select n + 1 from t where n < 3) \
                 select * from t",
                false,
            ),
        ] {
            let plans = Plans::new();
            let plan = context.sql(text).await.unwrap().into_unoptimized_plan();
            let optimized = context.state().optimize(&plan).unwrap();
            plans.keep(text, &plan, &optimized, table.schema());
            let known = plans.get(text, &table).unwrap();
            assert_eq!(known.is_some(), is_kept, "{text}");
            assert!(plans.get("select 1", &table).unwrap().is_none());
        }
    }
}
