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

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, Sort, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt;
use futures::stream::{self, BoxStream};

use self::first_rows::FirstRows;
use self::groups::Groups;
use super::job::Job;

pub(super) use self::input::is_spans;

/// The plan with leaves in place of what the job answers.
pub(super) fn rewritten(plan: LogicalPlan, job: &Job, state: &SessionState) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|node| {
        let found = match &node {
            LogicalPlan::Aggregate(aggregate) => {
                let groups = Groups::of(aggregate, job, state);
                groups.map(|groups| leaf(&aggregate.schema, groups))
            }
            LogicalPlan::Sort(sort) => match FirstRows::of(sort, job, state) {
                Some((rows, schema)) => Some(over(sort, &leaf(&schema, rows))?),
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

fn leaf(schema: &DFSchemaRef, work: impl Work + 'static) -> LogicalPlan {
    let node = Arc::new(Leaf {
        schema: Arc::clone(schema),
        work: Arc::new(work),
    });
    LogicalPlan::Extension(Extension { node })
}

/// A sort over a leaf in place of the table.
fn over(sort: &Sort, leaf: &LogicalPlan) -> Result<LogicalPlan> {
    let plan = LogicalPlan::Sort(sort.clone());
    let over = plan.transform_down(|node| match node {
        LogicalPlan::TableScan(_) => Ok(Transformed::yes(leaf.clone())),
        other => Ok(Transformed::no(other)),
    });
    Ok(over?.data)
}

/// The batches of an answer.
type Batches = BoxStream<'static, Result<RecordBatch>>;

/// What the read path does in place of a part of a plan.
#[async_trait]
trait Work: fmt::Debug + Send + Sync {
    /// What `explain` shows.
    fn describe(&self) -> String;

    /// Begins to answer, in batches of a schema.
    async fn begin(&self, schema: SchemaRef) -> Result<Batches>;
}

/// A leaf of a logical plan.
#[derive(Debug, Clone)]
struct Leaf {
    schema: DFSchemaRef,
    work: Arc<dyn Work>,
}

impl Leaf {
    /// Tells it from other leaves.
    fn key(&self) -> usize {
        Arc::as_ptr(&self.work).cast::<()>().addr()
    }
}

impl PartialEq for Leaf {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Leaf {}

impl PartialOrd for Leaf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl Hash for Leaf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Leaf {
    fn name(&self) -> &'static str {
        "Leaf"
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
        out.write_str(&self.work.describe())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
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
        let leaf = node.as_any().downcast_ref::<Leaf>();
        Ok(leaf.map(|leaf| Arc::new(LeafExec::new(leaf)) as _))
    }
}

/// A leaf of a physical plan.
#[derive(Debug)]
struct LeafExec {
    leaf: Leaf,
    properties: Arc<PlanProperties>,
}

impl LeafExec {
    fn new(leaf: &Leaf) -> Self {
        let schema = Arc::clone(leaf.schema.inner());
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

impl DisplayAs for LeafExec {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.leaf.work.describe())
    }
}

impl ExecutionPlan for LeafExec {
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
        let (work, schema) = (Arc::clone(&self.leaf.work), self.schema());
        let of_batches = Arc::clone(&schema);
        let begun = async move { work.begin(of_batches).await };
        let batches = Box::pin(stream::once(begun).try_flatten());
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(
            schema, batches,
        ))))
    }
}
