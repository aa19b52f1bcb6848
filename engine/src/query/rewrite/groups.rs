//! SQL's `group by` over the table alone, answered without DataFusion's operators: keys are
//! grouped by their codes ([`crate::read::group`]).
//!
//! An aggregate becomes a leaf where its input is the table, with projections and conditions
//! that the read path evaluates, and where all keys and aggregates are of kinds that it
//! knows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::{Aggregate, Cast, Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::Leaf;
use super::input::Input;
use crate::query::condition;
use crate::query::job::Job;
use crate::query::table::BATCH_ROWS;
use crate::query::watched::external;
use crate::read::condition::Condition;
use crate::read::group::{Grouping, Measure, Term};

/// An aggregate over the table, as a leaf of a logical plan.
#[derive(Debug, Clone)]
pub(super) struct Groups {
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
    pub(super) fn of(aggregate: &Aggregate, job: &Job, state: &SessionState) -> Option<Self> {
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
        let condition = input.condition(&compile)?;
        Some(Self {
            schema: Arc::clone(&aggregate.schema),
            work: Arc::new(Work {
                job: job.clone(),
                condition: Arc::new(condition),
                grouping: Arc::new(grouping),
            }),
        })
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
                [order] => order.asc && without_cast(&order.expr) == without_cast(value),
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
    exact(without_cast(expr), term)
}

/// A value of which a float was made.
fn without_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Float64 => expr,
        _ => expr,
    }
}

/// A value of a type that can be told apart by its bytes. Floats are left to DataFusion,
/// with all that it thinks of NaN and of negative zero, and so are types with others inside.
fn exact(expr: &Expr, term: &dyn Fn(&Expr) -> Option<Term>) -> Option<Term> {
    term(expr).filter(|term| {
        let of = &term.data_type;
        of.is_integer()
            || of.is_string()
            || of.is_binary()
            || of.is_temporal()
            || matches!(of, DataType::Boolean)
    })
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

impl Leaf for Groups {
    fn answer(&self) -> SendableRecordBatchStream {
        let work = Arc::clone(&self.work);
        let schema = Arc::clone(self.schema.inner());
        let of_batches = Arc::clone(&schema);
        let batches = async move {
            let groups = work.job.group(&work.condition, &work.grouping).await;
            let (columns, held) = groups.map_err(external)?;
            let rows = RecordBatch::try_new(of_batches, columns)?;
            let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
            let batches = starts.map(move |start| {
                // The whole answer is in memory until its last batch.
                let _held = &held;
                Ok(rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start)))
            });
            Ok::<_, DataFusionError>(futures::stream::iter(batches))
        };
        let stream = futures::stream::once(batches).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, Box::pin(stream)))
    }
}
