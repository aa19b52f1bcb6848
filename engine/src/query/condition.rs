//! Conditions of DataFusion as conditions that indexes can answer.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::col;
use spanstore_format::segment::promotion::access::Attribute;
use spanstore_format::span::{SpanColumn, table};

use super::constraints::{Constraints, operands};
use super::functions::AttributeAccess;
use crate::read::condition::{Condition, FacetColumn, Test};

/// Makes an expression over columns of a schema ready to run.
pub(super) type Compile<'a> = &'a dyn Fn(Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>>;

/// Deepest nesting that is followed: a statement of SQL can alternate `and`
/// and `or` as deep as it likes.
const DEEPEST: usize = 32;

/// The condition that all of `conditions` hold.
pub(super) fn all_of(conditions: &[Expr], compile: Compile<'_>) -> Condition {
    let each = conditions
        .iter()
        .map(|condition| one(condition, compile, 0));
    // Ids and times that several of them narrow down together.
    let together = necessary(&Constraints::of(conditions));
    Condition::Implying(Box::new(Condition::And(each.collect())), Box::new(together))
}

fn one(condition: &Expr, compile: Compile<'_>, depth: usize) -> Condition {
    if depth > DEEPEST {
        return Condition::Unknown;
    }
    match condition {
        Expr::BinaryExpr(BinaryExpr { op, .. }) if matches!(op, Operator::And | Operator::Or) => {
            let operands = operands(vec![condition], *op).into_iter();
            let operands = operands.map(|operand| one(operand, compile, depth + 1));
            if *op == Operator::And {
                Condition::And(operands.collect())
            } else {
                Condition::Or(operands.collect())
            }
        }
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Condition::And(Vec::new()),
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => Condition::Or(Vec::new()),
        Expr::Not(inner) => Condition::Not(Box::new(one(inner, compile, depth + 1))),
        leaf => by_time(leaf)
            .or_else(|| facet(leaf, compile))
            .unwrap_or_else(|| necessary(&Constraints::of(std::slice::from_ref(leaf)))),
    }
}

/// What must hold for a row, and may not be enough.
fn necessary(constraints: &Constraints) -> Condition {
    let Constraints {
        trace_ids,
        session_ids,
        request_ids,
        since,
        until,
    } = constraints.clone();
    let all: Vec<Condition> = [
        trace_ids.map(Condition::Traces),
        session_ids.map(Condition::Sessions),
        request_ids.map(Condition::Requests),
        since.map(Condition::Since),
        until.map(Condition::Until),
    ]
    .into_iter()
    .flatten()
    .collect();
    if all.is_empty() {
        Condition::Unknown
    } else {
        Condition::OnlyIf(Box::new(Condition::And(all)))
    }
}

/// A comparison of the start with a time, which bounds say exactly: each span
/// has a start.
fn by_time(leaf: &Expr) -> Option<Condition> {
    let Expr::BinaryExpr(BinaryExpr { op, .. }) = leaf else {
        return None;
    };
    if !matches!(
        op,
        Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq
    ) {
        return None;
    }
    let constraints = Constraints::of(std::slice::from_ref(leaf));
    match (constraints.since, constraints.until) {
        (Some(since), None) => Some(Condition::Since(since)),
        (None, Some(until)) => Some(Condition::Until(until)),
        _ => None,
    }
}

/// A condition on nothing but one column that may be a facet.
fn facet(leaf: &Expr, compile: Compile<'_>) -> Option<Condition> {
    if leaf.is_volatile() {
        return None;
    }
    let mut found: Option<FacetColumn> = None;
    let mut is_fit = true;
    let value = leaf.clone().transform_down(|expr| {
        let column = if let Some(access) = AttributeAccess::of(&expr) {
            access.attribute().map(FacetColumn::Attribute)
        } else {
            match &expr {
                Expr::Column(column) => span_facet(&column.name),
                Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_) => None,
                _ => return Ok(Transformed::no(expr)),
            }
        };
        is_fit &= column.is_some()
            && found
                .as_ref()
                .is_none_or(|one| Some(one) == column.as_ref());
        found = column;
        Ok(Transformed::new(col(VALUE), true, TreeNodeRecursion::Jump))
    });
    let (value, column) = (value.ok()?.data, found.filter(|_| is_fit)?);
    let data_type = match &column {
        FacetColumn::Stored(place) => table().column(*place)?.value.data_type(),
        FacetColumn::Attribute(attribute) => attribute.aspect.data_type(),
    };
    let schema = Arc::new(Schema::new(vec![Field::new(VALUE, data_type, true)]));
    let expr = compile(value, &DFSchema::try_from(schema.as_ref().clone()).ok()?).ok()?;
    let test = ValueTest { expr, schema };
    Some(Condition::Facet(column, Arc::new(test)))
}

/// The name of the one column that a condition on a facet is over.
const VALUE: &str = "value";

fn span_facet(name: &str) -> Option<FacetColumn> {
    let column = SpanColumn::of_name(name)?;
    let is_facet = column.description().is_facet;
    is_facet.then(|| FacetColumn::Stored(column.place()))
}

impl AttributeAccess<'_> {
    /// The attribute, when it is read out of the column of its owner.
    pub(super) fn attribute(&self) -> Option<Attribute> {
        let Expr::Column(column) = self.column else {
            return None;
        };
        (column.name == self.owner.column().name()).then(|| Attribute {
            owner: self.owner,
            key: self.key.to_owned(),
            aspect: self.aspect,
        })
    }
}

/// A condition on values, as DataFusion evaluates it on rows.
#[derive(Debug)]
struct ValueTest {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
}

impl Test for ValueTest {
    fn holds(&self, values: ArrayRef) -> Option<BooleanArray> {
        let rows = values.len();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![values]).ok()?;
        // What fails for a value may not occur in the rows that are read.
        let answers = self.expr.evaluate(&batch).ok()?.into_array(rows).ok()?;
        answers.as_boolean_opt().cloned()
    }
}
