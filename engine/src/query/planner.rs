//! What SQL texts may write as filters do: `attributes['key']`,
//! `resource['key']`, ids as hexadecimal digits, attributes as numbers.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DataFusionError, ExprSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr,
};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, GetFieldAccess, Operator};
use datafusion::prelude::lit;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use spanstore_format::segment::promotion::access::Aspect;
use spanstore_format::span::attribute::comparable;

use super::functions::{AttributeAccess, IdKind, attribute_expr, owner};

/// Plans the store's own forms in SQL texts.
///
/// As an [`ExprPlanner`], which has to stand before DataFusion's own, it plans
/// subscripts and comparisons. Planners do not see `in` and `between`, so it is
/// a [`FunctionRewrite`] as well; register it as both.
#[derive(Debug)]
pub(crate) struct SpanPlanner;

impl ExprPlanner for SpanPlanner {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if let (GetFieldAccess::NamedStructField { name }, Expr::Column(column)) =
            (&access.field_access, &access.expr)
            && let (Some(owner), Some(key)) = (owner(&column.name), name.try_as_str().flatten())
        {
            let column = Column::new(column.relation.clone(), owner.column().name());
            if schema.has_column(&column) {
                let access = attribute_expr(owner, Aspect::Text, Expr::Column(column), key);
                return Ok(PlannerResult::Planned(access));
            }
        }
        Ok(PlannerResult::Original(access))
    }

    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let Some(op) = comparison(&raw.op) else {
            return Ok(PlannerResult::Original(raw));
        };
        let comparison = BinaryExpr::new(Box::new(raw.left), op, Box::new(raw.right));
        let Transformed {
            data, transformed, ..
        } = binary(comparison, schema)?;
        Ok(if transformed {
            PlannerResult::Planned(Expr::BinaryExpr(data))
        } else {
            let (left, right) = (*data.left, *data.right);
            PlannerResult::Original(RawBinaryExpr {
                op: raw.op,
                left,
                right,
            })
        })
    }
}

impl FunctionRewrite for SpanPlanner {
    fn name(&self) -> &'static str {
        "typed_literals"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match expr {
            Expr::BinaryExpr(comparison) if is_comparison(comparison.op) => {
                binary(comparison, schema)?.map_data(|typed| Ok(Expr::BinaryExpr(typed)))
            }
            Expr::InList(InList {
                expr,
                list,
                negated,
            }) => {
                let typed = typed(*expr, list, schema)?;
                typed.map_data(|(expr, list)| Ok(expr.in_list(list, negated)))
            }
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) => {
                let typed = typed(*expr, vec![*low, *high], schema)?;
                typed.map_data(|(expr, bounds)| {
                    let [low, high] = <[Expr; 2]>::try_from(bounds).map_err(|bounds| {
                        DataFusionError::Internal(format!("{} bounds", bounds.len()))
                    })?;
                    let (expr, low, high) = (Box::new(expr), Box::new(low), Box::new(high));
                    Ok(Expr::Between(Between {
                        expr,
                        negated,
                        low,
                        high,
                    }))
                })
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn comparison(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// A comparison, with its literal read by the type of its other side.
fn binary(comparison: BinaryExpr, schema: &DFSchema) -> Result<Transformed<BinaryExpr>> {
    let BinaryExpr { left, op, right } = comparison;
    let literal_first = matches!(*left, Expr::Literal(..));
    let (value, other) = if literal_first {
        (right, left)
    } else {
        (left, right)
    };
    typed(*value, vec![*other], schema)?.map_data(|(value, mut others)| {
        let (value, other) = (Box::new(value), Box::new(others.pop().unwrap_or_default()));
        let (left, right) = if literal_first {
            (other, value)
        } else {
            (value, other)
        };
        Ok(BinaryExpr::new(left, op, right))
    })
}

/// A value and what it is compared with. Texts become ids when the value is a
/// column of ids; an attribute becomes its number when all literals are
/// numbers.
///
/// # Errors
/// When a text is no id.
fn typed(
    value: Expr,
    others: Vec<Expr>,
    schema: &DFSchema,
) -> Result<Transformed<(Expr, Vec<Expr>)>> {
    if let Expr::Column(column) = &value
        && let Ok(field) = schema.field_from_column(column)
        && let Some(kind) = IdKind::of(field.data_type())
    {
        let mut changed = false;
        let others = others
            .into_iter()
            .map(|other| match &other {
                Expr::Literal(text, _) => match text.try_as_str().flatten() {
                    Some(digits) => {
                        changed = true;
                        let id = kind.read(digits);
                        let id = id.map_err(|error| DataFusionError::Plan(error.to_string()))?;
                        Ok(lit(ScalarValue::FixedSizeBinary(kind.bytes(), Some(id))))
                    }
                    None => Ok(other),
                },
                _ => Ok(other),
            })
            .collect::<Result<_>>()?;
        return Ok(Transformed::new_transformed((value, others), changed));
    }
    let are_numbers = others.iter().all(is_number);
    if let Some(AttributeAccess {
        owner,
        aspect: Aspect::Text,
        column,
        key,
    }) = AttributeAccess::of(&value)
        && are_numbers
    {
        let number = attribute_expr(owner, Aspect::Number, column.clone(), key);
        let others = others.into_iter().map(|other| match other {
            Expr::Literal(ScalarValue::Float64(Some(number)), _) => lit(comparable(number)),
            other => other,
        });
        return Ok(Transformed::yes((number, others.collect())));
    }
    Ok(Transformed::no((value, others)))
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.data_type().is_numeric())
}

#[cfg(test)]
mod tests;
