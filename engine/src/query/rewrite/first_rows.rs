//! SQL's `order by start_time` or `duration` with a limit: only rows that may be among the
//! first are read.
//!
//! The leaf takes the place of the scan, and the sort above it stays: the leaf gives all
//! rows that no other row comes before but those that it gives too.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{
    Expr, LogicalPlan, Sort, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;

use super::Leaf;
use super::input::Input;
use crate::query::job::Job;
use crate::query::select::{Selection, Ties};
use crate::query::watched::external;
use crate::read::condition::Condition;
use crate::read::ordered::{By, Direction};

/// More rows than these, the offset among them, are rather sorted by DataFusion.
const MOST_ROWS: usize = 10_000;

/// The rows that may be among the first, as a leaf of a logical plan.
#[derive(Debug, Clone)]
pub(super) struct FirstRows {
    schema: DFSchemaRef,
    work: Arc<Work>,
}

/// What is to be done.
#[derive(Debug)]
struct Work {
    job: Job,
    condition: Condition,
    columns: Vec<Column>,
    direction: Direction,
    limit: usize,
    ties: Ties,
}

impl FirstRows {
    /// The rows that a sort needs of the table, if that is what it sorts.
    pub(super) fn of(sort: &Sort, job: &Job, state: &SessionState) -> Option<Self> {
        let limit = sort.fetch.filter(|fetch| *fetch <= MOST_ROWS)?;
        let input = Input::of(&sort.input)?;
        let mut keys = sort.expr.iter();
        let first = keys.next()?;
        let by = match column(&input, &first.expr)? {
            SpanColumn::StartTime => By::Start,
            SpanColumn::Duration => By::Duration,
            _ => return None,
        };
        let ties = match (by, keys.next(), keys.next()) {
            (_, None, _) => Ties::Any,
            (By::Duration, Some(second), third)
                if second.asc == first.asc
                    && column(&input, &second.expr) == Some(SpanColumn::StartTime) =>
            {
                third.map_or(Ties::Any, |_| Ties::OfRank)
            }
            // Many spans may have one duration; few have one start.
            (By::Duration, ..) => return None,
            (By::Start, ..) => Ties::OfFirst,
        };
        let compile = |expr, schema: &DFSchema| state.create_physical_expr(expr, schema);
        let condition = input.condition(&compile)?;
        let mut scan = None;
        sort.input
            .apply(|node| {
                if let LogicalPlan::TableScan(table) = node {
                    scan = Some(Arc::clone(&table.projected_schema));
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .ok()?;
        let schema = scan?;
        let names = schema.fields().iter();
        let columns = names.map(|field| SpanColumn::of_name(field.name()).map(Column::from));
        Some(Self {
            work: Arc::new(Work {
                job: job.clone(),
                condition,
                columns: columns.collect::<Option<_>>()?,
                direction: Direction {
                    by,
                    is_descending: !first.asc,
                },
                limit,
                ties,
            }),
            schema,
        })
    }

    /// The sort over these rows in place of the table.
    pub(super) fn below(
        self,
        sort: &Sort,
        leaf: &dyn Fn(Arc<dyn UserDefinedLogicalNode>) -> LogicalPlan,
    ) -> Result<LogicalPlan> {
        let node: Arc<dyn UserDefinedLogicalNode> = Arc::new(self);
        let plan = LogicalPlan::Sort(sort.clone());
        let replaced = plan.transform_down(|node_of_plan| match node_of_plan {
            LogicalPlan::TableScan(_) => Ok(Transformed::yes(leaf(Arc::clone(&node)))),
            other => Ok(Transformed::no(other)),
        });
        Ok(replaced?.data)
    }
}

/// The column of the table that an expression over an input is.
fn column(input: &Input, expr: &Expr) -> Option<SpanColumn> {
    match input.over_table(expr)? {
        Expr::Column(column) => SpanColumn::of_name(&column.name),
        _ => None,
    }
}

impl Leaf for FirstRows {
    fn answer(&self) -> SendableRecordBatchStream {
        let schema = Arc::clone(self.schema.inner());
        let (work, of_batches) = (Arc::clone(&self.work), Arc::clone(&schema));
        let begun = async move {
            let Work {
                job,
                condition,
                columns,
                direction,
                limit,
                ties,
            } = &*work;
            let selection = Selection::new(job, condition.clone(), columns, *direction, of_batches);
            Ok::<_, DataFusionError>(selection.map_err(external)?.first(*limit, *ties))
        };
        let stream = futures::stream::once(begun);
        let stream = Box::pin(stream.try_flatten());
        Box::pin(RecordBatchStreamAdapter::new(schema, stream))
    }
}

impl PartialEq for FirstRows {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.work, &other.work)
    }
}

impl Eq for FirstRows {}

impl PartialOrd for FirstRows {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl Hash for FirstRows {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.work).hash(state);
    }
}

impl UserDefinedLogicalNodeCore for FirstRows {
    fn name(&self) -> &'static str {
        "FirstRows"
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
        let Work {
            direction, limit, ..
        } = &*self.work;
        write!(out, "FirstRows: {direction:?}, limit={limit}")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}
