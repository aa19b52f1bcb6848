//! SQL's `group by` over the table alone, answered without DataFusion's operators: keys are
//! grouped by their codes ([`crate::read::group`]).
//!
//! An aggregate of an optimized plan becomes a leaf where its input is the table, with
//! projections and conditions that the read path evaluates, and where all keys and
//! aggregates are of kinds that it knows. Everything else stays as it is. What lies above
//! (order, limit, joins) is DataFusion's.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, Extension, LogicalPlan, UserDefinedLogicalNode,
    UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt;

use super::condition;
use super::job::Job;
use super::table::BATCH_ROWS;
use super::watched::external;
use crate::read::condition::Condition;
use crate::read::group::{Grouping, Measure, Term};

/// The plan with its aggregates over the table answered by the job where that can be.
pub(super) fn grouped(plan: LogicalPlan, job: &Job, state: &SessionState) -> Result<LogicalPlan> {
    let grouped = plan.transform_down(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else {
            return Ok(Transformed::no(node));
        };
        Ok(match Groups::of(aggregate, job, state) {
            Some(groups) => {
                let node = Arc::new(groups);
                let leaf = LogicalPlan::Extension(Extension { node });
                Transformed::new(leaf, true, TreeNodeRecursion::Jump)
            }
            None => Transformed::no(node),
        })
    });
    Ok(grouped?.data)
}

/// An aggregate over the table, as a leaf of a logical plan.
#[derive(Debug, Clone)]
struct Groups {
    schema: DFSchemaRef,
    work: Arc<Work>,
}

/// What is to be done.
#[derive(Debug)]
struct Work {
    job: Job,
    condition: Arc<Condition>,
    grouping: Arc<Grouping>,
}

impl Groups {
    fn of(aggregate: &Aggregate, job: &Job, state: &SessionState) -> Option<Self> {
        let compile = |expr, schema: &DFSchema| state.create_physical_expr(expr, schema);
        let input = Input::of(&aggregate.input)?;
        let term = |expr: &Expr| condition::term(expr, &compile).ok();
        let keys = aggregate.group_expr.iter();
        let keys = keys.map(|expr| exact(&input.over_table(expr)?, &term));
        let keys: Option<Vec<Term>> = keys.collect();
        let measures = aggregate.aggr_expr.iter();
        let measures = measures.map(|expr| measure(&input.over_table(expr)?, &term));
        let measures: Option<Vec<Measure>> = measures.collect();
        let grouping = Grouping {
            keys: keys?,
            measures: measures?,
        };
        let types = aggregate
            .schema
            .fields()
            .iter()
            .map(|field| field.data_type());
        let fits =
            grouping.measures.iter().all(Measure::fits) && grouping.types().eq(types.cloned());
        if !fits {
            return None;
        }
        let conditions = input
            .conditions
            .iter()
            .map(|one| condition::of_filter(one, &compile));
        let conditions: Vec<Condition> = conditions.collect::<Result<_>>().ok()?;
        Some(Self {
            schema: Arc::clone(&aggregate.schema),
            work: Arc::new(Work {
                job: job.clone(),
                condition: Arc::new(Condition::And(conditions)),
                grouping: Arc::new(grouping),
            }),
        })
    }
}

/// What lies between an aggregate and the table.
struct Input {
    /// Conditions over columns of the table.
    conditions: Vec<Expr>,
    /// What the columns of the input are, when they are not those of the table.
    columns: Option<HashMap<String, Expr>>,
}

impl Input {
    fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            // There is one table. Its conditions are repeated above it.
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => Some(Self {
                conditions: Vec::new(),
                columns: None,
            }),
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => {
                let mut input = Self::of(&filter.input)?;
                let condition = input.over_table(&filter.predicate)?;
                input.conditions.push(condition);
                Some(input)
            }
            LogicalPlan::Projection(projection) => {
                let input = Self::of(&projection.input)?;
                let names = projection.schema.fields().iter().map(|field| field.name());
                let columns = names.zip(&projection.expr).map(|(name, expr)| {
                    let expr = input.over_table(expr)?;
                    Some((name.clone(), expr))
                });
                Some(Self {
                    columns: Some(columns.collect::<Option<_>>()?),
                    conditions: input.conditions,
                })
            }
            _ => None,
        }
    }

    /// An expression over columns of the input as one over those of the table.
    fn over_table(&self, expr: &Expr) -> Option<Expr> {
        let expr = expr.clone().unalias_nested().data;
        let Some(columns) = &self.columns else {
            return Some(expr);
        };
        let replaced = expr.transform_down(|expr| match &expr {
            Expr::Column(column) => match columns.get(&column.name) {
                Some(of_table) => Ok(Transformed::new(
                    of_table.clone(),
                    true,
                    TreeNodeRecursion::Jump,
                )),
                None => {
                    let message = format!("a projection without {column}");
                    Err(DataFusionError::Internal(message))
                }
            },
            _ => Ok(Transformed::no(expr)),
        });
        Some(replaced.ok()?.data)
    }
}

/// The measure that an aggregate is, if it is one.
fn measure(expr: &Expr, term: &dyn Fn(&Expr) -> Option<Term>) -> Option<Measure> {
    let Expr::AggregateFunction(function) = expr else {
        return None;
    };
    let AggregateFunctionParams {
        args,
        distinct,
        filter: None,
        order_by,
        null_treatment: None,
    } = &function.params
    else {
        return None;
    };
    let name = function.func.name();
    match (name, *distinct, args.as_slice(), order_by.as_slice()) {
        ("count", false, [Expr::Literal(one, _)], []) if !one.is_null() => Some(Measure::Rows),
        ("count", false, [value], []) => Some(Measure::Values(term(value)?)),
        ("count", true, [value], []) => Some(Measure::Distinct(exact(value, term)?)),
        ("sum", false, [value], []) => Some(Measure::Sum(exact(value, term)?)),
        ("avg", false, [value], []) => Some(Measure::Mean(number(value, term)?)),
        ("min", false, [value], []) => Some(Measure::Least(exact(value, term)?)),
        ("max", false, [value], []) => Some(Measure::Greatest(exact(value, term)?)),
        ("percentile_cont", false, [value, Expr::Literal(share, _)], order_by) => {
            let ScalarValue::Float64(Some(share)) = share else {
                return None;
            };
            // `within group (order by x)` has x as argument too.
            let is_plain = match order_by {
                [] => true,
                [order] => order.asc && order.expr == *value,
                _ => false,
            };
            let is_share = (0.0..=1.0).contains(share) && is_plain;
            is_share.then_some(Measure::Percentile(number(value, term)?, *share))
        }
        _ => None,
    }
}

/// A number, of which the aggregate makes a float by itself.
fn number(expr: &Expr, term: &dyn Fn(&Expr) -> Option<Term>) -> Option<Term> {
    match expr {
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Float64 => {
            exact(expr, term)
        }
        _ => exact(expr, term),
    }
}

/// A value of which there is one form. Floats are left to DataFusion, with all that it
/// thinks of NaN and of negative zero.
fn exact(expr: &Expr, term: &dyn Fn(&Expr) -> Option<Term>) -> Option<Term> {
    term(expr).filter(|term| !term.data_type.is_floating())
}

impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.work, &other.work)
    }
}

impl Eq for Groups {}

impl PartialOrd for Groups {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl Hash for Groups {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.work).hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Groups {
    fn name(&self) -> &'static str {
        "Groups"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grouping { keys, measures } = &*self.work.grouping;
        write!(
            out,
            "Groups: keys={}, measures={}",
            keys.len(),
            measures.len()
        )
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// Plans [`Groups`].
#[derive(Debug)]
pub(super) struct GroupsPlanner;

#[async_trait]
impl ExtensionPlanner for GroupsPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(groups) = node.as_any().downcast_ref::<Groups>() else {
            return Ok(None);
        };
        Ok(Some(Arc::new(GroupsExec::new(groups))))
    }
}

/// Works out groups.
#[derive(Debug)]
struct GroupsExec {
    work: Arc<Work>,
    properties: Arc<PlanProperties>,
}

impl GroupsExec {
    fn new(groups: &Groups) -> Self {
        let schema = Arc::clone(groups.schema.inner());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            work: Arc::clone(&groups.work),
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for GroupsExec {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl ExecutionPlan for GroupsExec {
    fn name(&self) -> &'static str {
        "GroupsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            Err(DataFusionError::Internal("groups have no children".into()))
        }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let work = Arc::clone(&self.work);
        let schema = self.schema();
        let of_batches = Arc::clone(&schema);
        let batches = async move {
            let groups = work.job.group(&work.condition, &work.grouping).await;
            let rows = RecordBatch::try_new(of_batches, groups.map_err(external)?)?;
            let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
            let batches = starts
                .map(move |start| Ok(rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start))));
            Ok::<_, DataFusionError>(futures::stream::iter(batches))
        };
        let stream = futures::stream::once(batches).try_flatten();
        let stream = RecordBatchStreamAdapter::new(schema, Box::pin(stream));
        Ok(Box::pin(cooperative(stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::context;
    use super::super::table::SpanTable;
    use super::*;
    use crate::{Store, StoreOptions, TeamId};

    /// The plan that answers an SQL text, a node a line.
    async fn plan(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let team = store.team(&TeamId::new("acme").unwrap());
        let engine = &team.parts.queries;
        let execution = engine.begin().unwrap();
        let job = Job {
            team: team.id.clone(),
            snapshot: team.snapshot_of_all(),
            watch: Arc::clone(&execution.watch),
            memory: Arc::clone(&execution.memory),
        };
        let table = SpanTable::new(job.snapshot.clone(), job.team.clone(), &job.watch).unwrap();
        let context = context(engine.state(), execution.memory.clone()).unwrap();
        context.register_table("spans", Arc::new(table)).unwrap();
        let optimized = context.sql(text).await.unwrap().into_optimized_plan();
        let grouped = grouped(optimized.unwrap(), &job, engine.state()).unwrap();
        grouped.display_indent().to_string()
    }

    #[tokio::test]
    async fn aggregates_over_the_table_become_groups() {
        for text in [
            "select count(*) from spans",
            "select count(*) from spans where level = 'error' and name like '%a%'",
            "select route, count(*), avg(duration) from spans group by route order by 2 limit 5",
            "select distinct level from spans",
            "select attributes['k'], resource['k'], max(start_time) from spans group by 1, 2",
            "select (cast(start_time as bigint) - 5) / 60 as b, count(*) from spans group by b",
            "select percentile_cont(duration, 0.99) from spans where route = '/'",
            "select count(distinct session_id), count(session_id), sum(status_code) from spans",
            "select r, sum(d) from (select upper(route) as r, duration as d from spans where \
             duration > 5) as s where r like 'A%' group by r having sum(d) > 3",
            "select route, cast(start_time as bigint) / 70 * 70, count(*), avg(duration), \
             count(distinct path), sum(duration), percentile_cont(duration, 0.9), count(route) \
             from spans where (path = '/p/777') is not true group by 1, 2",
        ] {
            let plan = plan(text).await;
            assert!(plan.contains("Groups"), "{text}\n{plan}");
            assert!(!plan.contains("TableScan"), "{text}\n{plan}");
        }
    }

    #[tokio::test]
    async fn what_is_not_known_stays_with_datafusion() {
        for text in [
            "select route, max(name) from spans group by route",
            "select count(*) filter (where level = 'error') from spans",
            "select approx_distinct(session_id) from spans",
            "select sum(cast(duration as double)) from spans",
            "select cast(duration as double), count(*) from spans group by 1",
            "select route, level, count(*) from spans group by rollup (route, level)",
            "select count(*) from (select name from spans limit 5)",
            "select count(*) from spans as a join spans as b on a.span_id = b.parent_span_id",
            "select random(), count(*) from spans group by 1",
        ] {
            let plan = plan(text).await;
            assert!(
                plan.contains("Aggregate") && !plan.contains("Groups"),
                "{text}\n{plan}"
            );
        }
    }
}
