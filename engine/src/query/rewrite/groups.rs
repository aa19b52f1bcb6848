//! SQL's `group by` over the table alone, answered without DataFusion's operators: keys are
//! grouped by their codes ([`crate::read::group`]).
//!
//! An aggregate becomes a leaf where its input is the table, with projections and conditions
//! that the read path evaluates, and where all keys and aggregates are of kinds that it
//! knows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::{Aggregate, Cast, Expr};
use futures::stream::{self, StreamExt};

use super::input::Input;
use super::{Batches, Work};
use crate::query::condition;
use crate::query::job::Job;
use crate::query::table::BATCH_ROWS;
use crate::query::watched::external;
use crate::read::condition::Condition;
use crate::read::group::{Grouping, Measure, Term};

/// An aggregate over the table.
#[derive(Debug)]
pub(super) struct Groups {
    job: Job,
    condition: Arc<Condition>,
    grouping: Arc<Grouping>,
}

impl Groups {
    pub(super) fn of(aggregate: &Aggregate, job: &Job, state: &SessionState) -> Option<Self> {
        let compile = |expr, schema: &DFSchema| state.create_physical_expr(expr, schema);
        let input = Input::of(&aggregate.input)?;
        let term = |expr: &Expr| condition::term(expr, job.snapshot.table, &compile).ok();
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
            job: job.clone(),
            condition: Arc::new(condition),
            grouping: Arc::new(grouping),
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

#[async_trait]
impl Work for Groups {
    fn describe(&self) -> String {
        let Grouping { keys, measures } = &*self.grouping;
        let (keys, measures) = (keys.len(), measures.len());
        format!(
            "Groups: keys={keys}, measures={measures}, of {}",
            self.condition
        )
    }

    async fn begin(&self, schema: SchemaRef) -> Result<Batches> {
        let groups = self.job.group(&self.condition, &self.grouping).await;
        let (columns, held) = groups.map_err(external)?;
        let rows = RecordBatch::try_new(schema, columns)?;
        let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
        let batches = starts.map(move |start| {
            // The whole answer is in memory until its last batch.
            let _held = &held;
            Ok(rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start)))
        });
        Ok(stream::iter(batches).boxed())
    }
}
