//! Plans whose every operator looks at the query's time.
//!
//! DataFusion's operators yield where they wait for input. Some work for long on
//! input that they have: a join on rows that do not match, a function over a
//! window. So each operator here is asked before each batch, each condition of
//! a join before each evaluation, and each function over a window before each
//! row (`watched_window`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::expressions::lit;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::Stream;

use super::watch::Watch;
use crate::error::Error;
use crate::read::interrupt::Interrupt;

/// The same plan, ended by the watch.
pub(super) fn watched(
    plan: Arc<dyn ExecutionPlan>,
    watch: &Arc<Watch>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let watched = plan.transform_up(|node| {
        let node = watched_join(node, watch)?;
        Ok(Transformed::yes(
            Arc::new(WatchedExec::new(node, watch)) as Arc<dyn ExecutionPlan>
        ))
    });
    Ok(watched?.data)
}

pub(super) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An operator that is asked before each batch whether the query goes on.
#[derive(Debug)]
struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    watch: Arc<Watch>,
    properties: Arc<PlanProperties>,
}

impl WatchedExec {
    fn new(input: Arc<dyn ExecutionPlan>, watch: &Arc<Watch>) -> Self {
        let properties = PlanProperties::clone(input.properties())
            .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            input,
            watch: Arc::clone(watch),
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for WatchedExec {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl ExecutionPlan for WatchedExec {
    fn name(&self) -> &'static str {
        "WatchedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        let Ok([input]) = <[_; 1]>::try_from(children) else {
            return Err(DataFusionError::Internal("one operator is watched".into()));
        };
        Ok(Arc::new(Self::new(input, &self.watch)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        Ok(make_cooperative(Box::pin(WatchedStream {
            input: self.input.execute(partition, context)?,
            watch: Arc::clone(&self.watch),
        })))
    }
}

struct WatchedStream {
    input: SendableRecordBatchStream,
    watch: Arc<Watch>,
}

impl Stream for WatchedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.watch.poll_check(context)) {
            Ok(()) => self.input.as_mut().poll_next(context),
            Err(error) => Poll::Ready(Some(Err(external(error)))),
        }
    }
}

impl RecordBatchStream for WatchedStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

/// A join compares a batch with all rows of the other side before it answers,
/// and asks its condition on the way.
fn watched_join(
    node: Arc<dyn ExecutionPlan>,
    watch: &Arc<Watch>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let filter = watched_filter(join.filter(), watch);
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter));
        return Ok(Arc::new(join.build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        // These answer nothing on the way.
        let is_silent = matches!(
            join.join_type(),
            JoinType::LeftSemi
                | JoinType::LeftAnti
                | JoinType::LeftMark
                | JoinType::RightSemi
                | JoinType::RightAnti
                | JoinType::RightMark
        );
        if is_silent || join.filter().is_some() {
            let filter = watched_filter(join.filter(), watch);
            return join.builder().with_filter(Some(filter)).build_exec();
        }
    }
    Ok(node)
}

fn watched_filter(filter: Option<&JoinFilter>, watch: &Arc<Watch>) -> JoinFilter {
    let watched = |condition| {
        Arc::new(WatchedCondition {
            condition,
            watch: Arc::clone(watch),
        })
    };
    match filter {
        Some(filter) => JoinFilter::new(
            watched(Arc::clone(filter.expression())),
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        ),
        None => JoinFilter::new(watched(lit(true)), Vec::new(), Arc::new(Schema::empty())),
    }
}

/// A condition that fails when the query is to end.
#[derive(Debug)]
struct WatchedCondition {
    condition: Arc<dyn PhysicalExpr>,
    watch: Arc<Watch>,
}

impl PartialEq for WatchedCondition {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for WatchedCondition {}

impl Hash for WatchedCondition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for WatchedCondition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(out)
    }
}

impl PhysicalExpr for WatchedCondition {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.watch.check().map_err(external)?;
        self.condition.evaluate(batch)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let Ok([condition]) = <[_; 1]>::try_from(children) else {
            let message = "one condition is watched".into();
            return Err(DataFusionError::Internal(message));
        };
        Ok(Arc::new(Self {
            condition,
            watch: Arc::clone(&self.watch),
        }))
    }

    fn fmt_sql(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(out)
    }
}
