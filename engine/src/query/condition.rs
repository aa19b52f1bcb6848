//! Conditions and values of DataFusion as the read path understands them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as Named, DFSchema, ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use spanstore_format::segment::Column;
use spanstore_format::segment::promotion::access::Attribute;
use spanstore_format::table::Table;

use super::constraints::{by_bounds, necessary, operands};
use super::filter::SomeSpan;
use super::functions::AttributeAccess;
use super::patterns;
use super::rising::rises;
use super::search::of_any_attribute;
use crate::error::Error;
use crate::read::condition::{Condition, Leaf, OfAnyAttribute, Predicate};
use crate::read::group::{Expression, Term};

/// Makes an expression over columns of a schema ready to run.
pub(super) type Compile<'a> = &'a dyn Fn(Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>>;

/// Deepest nesting that is followed, above that of filters: a statement of SQL can alternate
/// `and` and `or` as deep as it likes.
const DEEPEST: usize = 160;

/// The condition that an expression over columns of a table is. For what it asks of the
/// spans of requests stand `of_spans`, by their numbers.
///
/// # Errors
/// When it cannot be evaluated on rows.
pub(super) fn of_filter(
    expr: &Expr,
    of_spans: &[Leaf],
    table: &'static Table,
    compile: Compile<'_>,
) -> Result<Condition> {
    let leaf = |leaf: &Expr| {
        if let Expr::Column(column) = leaf
            && let Some(of_spans) = SomeSpan::number(column).and_then(|number| of_spans.get(number))
        {
            return Ok(of_spans.clone());
        }
        evaluated(leaf, table, compile)
    };
    Ok(one(expr, &leaf, 0)?.narrowed())
}

/// What all of some conditions tell indexes. What they do not understand may hold for any
/// row, so the conditions are to be evaluated on what is read.
pub(super) fn for_indexes(
    conditions: &[Expr],
    table: &'static Table,
    compile: Compile<'_>,
) -> Condition {
    let leaf = |leaf: &Expr| {
        let unknown = || Leaf {
            table,
            columns: Vec::new(),
            predicate: Arc::new(Unknown),
            necessary: necessary(leaf),
        };
        Ok(evaluated(leaf, table, compile).unwrap_or_else(|_| unknown()))
    };
    let each = conditions.iter().map(|condition| one(condition, &leaf, 0));
    // No leaf is an error, so nothing is.
    let each = each.filter_map(Result::ok).collect();
    Condition::And(each).narrowed()
}

fn one(condition: &Expr, leaf: &dyn Fn(&Expr) -> Result<Leaf>, depth: usize) -> Result<Condition> {
    if depth > DEEPEST {
        return leaf(condition).map(Condition::Leaf);
    }
    Ok(match condition {
        Expr::BinaryExpr(BinaryExpr { op, .. }) if matches!(op, Operator::And | Operator::Or) => {
            let operands = operands(vec![condition], *op).into_iter();
            let operands = operands.map(|operand| one(operand, leaf, depth + 1));
            let operands: Vec<Condition> = operands.collect::<Result<_>>()?;
            if *op == Operator::And {
                Condition::all(operands)
            } else {
                Condition::Or(operands)
            }
        }
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Condition::always(),
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => Condition::Or(Vec::new()),
        Expr::Not(inner) => Condition::Not(Box::new(one(inner, leaf, depth + 1)?)),
        other => match by_bounds(other) {
            Some(condition) => condition,
            None => Condition::Leaf(leaf(other)?),
        },
    })
}

/// A condition that DataFusion evaluates on columns of spans and single attributes.
fn evaluated(leaf: &Expr, table: &'static Table, compile: Compile<'_>) -> Result<Leaf> {
    let over = OverColumns::of(leaf, table)?;
    let shown = compile(over.expr.clone(), &over.schema)?;
    let compiled = patterns::compiled(over.expr)?;
    let evaluated = if compiled.transformed {
        compile(compiled.data, &over.schema)?
    } else {
        Arc::clone(&shown)
    };
    Ok(Leaf {
        table,
        predicate: Arc::new(Evaluable {
            evaluated,
            shown,
            of_any_attribute: of_any_attribute(leaf),
        }),
        columns: over.columns,
        necessary: necessary(leaf),
    })
}

/// A value that is worked out of columns of spans and single attributes.
///
/// # Errors
/// When it cannot be evaluated on rows.
pub(super) fn term(expr: &Expr, table: &'static Table, compile: Compile<'_>) -> Result<Term> {
    let over = OverColumns::of(expr, table)?;
    let is_column = matches!(over.expr, Expr::Column(_));
    let rises = rises(&over.expr);
    let evaluated = compile(over.expr, &over.schema)?;
    Ok(Term {
        table,
        columns: over.columns,
        data_type: evaluated.data_type(over.schema.as_arrow())?,
        expression: (!is_column).then(|| Arc::new(Evaluated { evaluated, rises }) as _),
    })
}

/// An expression with attributes as columns of their own.
struct OverColumns {
    columns: Vec<Column>,
    schema: DFSchema,
    expr: Expr,
}

impl OverColumns {
    fn of(expr: &Expr, table: &Table) -> Result<Self> {
        if expr.is_volatile() {
            return plan_err!("expected what depends on the row alone, found {expr}");
        }
        let mut columns: Vec<Column> = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let over_columns = expr.clone().transform_down(|expr| {
            let attribute = AttributeAccess::of(&expr).and_then(|access| access.attribute());
            let column = match (attribute, &expr) {
                (Some(attribute), _) => Column::Attribute(attribute),
                (None, Expr::Column(named)) => match table.place_of(&named.name) {
                    Some(place) => Column::Stored(place),
                    None => {
                        let of = table.name();
                        return plan_err!("expected a column of {of}, found {named}");
                    }
                },
                (
                    None,
                    Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::Placeholder(_),
                ) => return plan_err!("expected what one row tells, found {expr}"),
                (None, _) => return Ok(Transformed::no(expr)),
            };
            let field = column.field(table);
            let field = field.map_err(|error| DataFusionError::External(Box::new(error)))?;
            let name = field.name().clone();
            if !columns.contains(&column) {
                columns.push(column);
                // A null stands for the rows without a value wherever values are asked.
                fields.push(field.with_nullable(true));
            }
            let named = Expr::Column(Named::new_unqualified(name));
            Ok(Transformed::new(named, true, TreeNodeRecursion::Jump))
        })?;
        Ok(Self {
            columns,
            schema: DFSchema::try_from(Schema::new(fields))?,
            expr: over_columns.data,
        })
    }
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

/// A condition as DataFusion evaluates it, and as people read it.
#[derive(Debug)]
struct Evaluable {
    evaluated: Arc<dyn PhysicalExpr>,
    shown: Arc<dyn PhysicalExpr>,
    of_any_attribute: Option<OfAnyAttribute>,
}

impl Predicate for Evaluable {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let truth = self.evaluated.evaluate(rows)?.into_array(rows.num_rows())?;
        let truth = truth.as_boolean_opt().cloned();
        truth.ok_or_else(|| {
            let expected = "a filter is a condition that is true or false";
            DataFusionError::Plan(expected.into()).into()
        })
    }

    fn text(&self) -> String {
        fmt_sql(self.shown.as_ref()).to_string()
    }

    fn of_any_attribute(&self) -> Option<&OfAnyAttribute> {
        self.of_any_attribute.as_ref()
    }
}

/// A value as DataFusion evaluates it.
#[derive(Debug)]
struct Evaluated {
    evaluated: Arc<dyn PhysicalExpr>,
    rises: bool,
}

impl Expression for Evaluated {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, Error> {
        Ok(self.evaluated.evaluate(rows)?.into_array(rows.num_rows())?)
    }

    fn rises(&self) -> bool {
        self.rises
    }
}

/// A condition that is evaluated elsewhere.
#[derive(Debug)]
struct Unknown;

impl Predicate for Unknown {
    fn holds(&self, _: &RecordBatch) -> Result<BooleanArray, Error> {
        Err(DataFusionError::Internal("a condition that only a plan evaluates".into()).into())
    }

    fn text(&self) -> String {
        "a condition of the plan".into()
    }
}
