//! Parts of SQL plans that the read path answers by itself, where DataFusion's operators
//! would read every row: aggregates over the table ([`groups`]), and the first rows by start
//! or duration ([`first_rows`]).
//!
//! A part of an optimized plan becomes a leaf. What is not known stays as it is, and what
//! lies above is DataFusion's.

mod first_rows;
mod groups;
mod input;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use self::first_rows::FirstRows;
use self::groups::Groups;
use super::job::Job;

pub(super) use self::input::is_spans;

/// The plan with leaves in place of what the job answers.
pub(super) fn rewritten(plan: LogicalPlan, job: &Job, state: &SessionState) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|node| {
        let leaf = |node| LogicalPlan::Extension(Extension { node });
        let found = match &node {
            LogicalPlan::Aggregate(aggregate) => {
                let groups = Groups::of(aggregate, job, state);
                groups.map(|groups| leaf(Arc::new(groups)))
            }
            LogicalPlan::Sort(sort) => match FirstRows::of(sort, job, state) {
                Some(rows) => Some(rows.below(sort, &leaf)?),
                None => None,
            },
            _ => None,
        };
        Ok(match found {
            Some(found) => Transformed::new(found, true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    Ok(rewritten?.data)
}

/// A leaf of a logical plan, and how it is answered.
trait Leaf: UserDefinedLogicalNodeCore + Clone {
    /// Begins to answer; the batches have its schema.
    fn answer(&self) -> SendableRecordBatchStream;
}

/// Plans the leaves.
#[derive(Debug)]
pub(super) struct LeafPlanner;

#[async_trait]
impl ExtensionPlanner for LeafPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let node = node.as_any();
        if let Some(groups) = node.downcast_ref::<Groups>() {
            return Ok(Some(Arc::new(LeafExec::new(groups))));
        }
        let rows = node.downcast_ref::<FirstRows>();
        Ok(rows.map(|rows| Arc::new(LeafExec::new(rows)) as _))
    }
}

/// A leaf of a physical plan.
#[derive(Debug)]
struct LeafExec<L> {
    leaf: L,
    properties: Arc<PlanProperties>,
}

impl<L: Leaf> LeafExec<L> {
    fn new(leaf: &L) -> Self {
        let schema = Arc::clone(leaf.schema().inner());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            leaf: leaf.clone(),
            properties: Arc::new(properties),
        }
    }
}

impl<L: Leaf> DisplayAs for LeafExec<L> {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leaf.fmt_for_explain(out)
    }
}

impl<L: Leaf> ExecutionPlan for LeafExec<L> {
    fn name(&self) -> &'static str {
        "LeafExec"
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
            Err(DataFusionError::Internal("a leaf has no children".into()))
        }
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(make_cooperative(self.leaf.answer()))
    }
}
