//! Comparisons of values with literals and with each other.

use std::collections::BTreeSet;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::prelude::lit;

use super::FilterError;
use super::columns::Kind;
use super::literal;
use super::syntax::{Comparison, Literal, Node, NodeKind};
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::Aspect;
use spanstore_format::span::attribute::comparable;
use spanstore_format::table::ValueSet;

use crate::query::functions::attribute_expr;

/// A value, and what it can be compared with.
pub(super) struct Value {
    /// The expression that computes it.
    pub(super) expr: Expr,
    /// What it is.
    pub(super) kind: Kind,
    /// The attribute that it is: text, but compared with a number, a number.
    attribute: Option<(Owner, String)>,
}

impl Value {
    /// A value that is no attribute.
    pub(super) fn new(expr: Expr, kind: Kind) -> Self {
        Self {
            expr,
            kind,
            attribute: None,
        }
    }

    /// The same as a number, when it is an attribute.
    pub(super) fn number(&self) -> Option<Expr> {
        let (owner, key) = self.attribute.as_ref()?;
        Some(attribute(*owner, Aspect::Number, key))
    }

    /// An attribute.
    pub(super) fn attribute(owner: Owner, key: &str) -> Self {
        let expr = attribute(owner, Aspect::Text, key);
        Self {
            expr,
            kind: Kind::Text,
            attribute: Some((owner, key.into())),
        }
    }
}

/// The expression for an aspect of an attribute.
pub(super) fn attribute(owner: Owner, aspect: Aspect, key: &str) -> Expr {
    attribute_expr(
        owner,
        aspect,
        Expr::Column(owner.column().name().into()),
        key,
    )
}

/// What a value is compared with.
enum Operand {
    /// The value, perhaps read as a number, and the constant.
    Constant(Expr, ScalarValue),
    /// A range: the first number, and the first beyond it.
    Range(i32, i32),
}

fn operand(value: &Value, literal: &Literal, position: usize) -> Result<Operand, FilterError> {
    let number = match literal {
        Literal::Integer(number) => Some(*number as f64),
        Literal::Decimal(number) => Some(comparable(*number)),
        _ => None,
    };
    match (&value.attribute, value.kind, literal) {
        (Some((owner, key)), _, _) if number.is_some() => {
            let value = attribute(*owner, Aspect::Number, key);
            Ok(Operand::Constant(value, ScalarValue::Float64(number)))
        }
        (Some(_), _, Literal::Boolean(truth)) => {
            let text = if *truth { "true" } else { "false" };
            Ok(Operand::Constant(value.expr.clone(), literal::text(text)))
        }
        (_, Kind::StatusCode, Literal::Text(text)) if literal::status_class(text).is_some() => {
            let (low, high) = literal::status_class(text).unwrap_or_default();
            Ok(Operand::Range(low, high))
        }
        (_, kind, literal) => {
            let constant = literal::constant(kind, literal, position)?;
            Ok(Operand::Constant(value.expr.clone(), constant))
        }
    }
}

/// `value = literal`; the literal stands at `position`.
///
/// # Errors
/// [`FilterError::Unexpected`] when the literal is of another type, or the
/// values have no order that the comparison asks for.
pub(super) fn with_literal(
    value: &Value,
    comparison: Comparison,
    literal: &Literal,
    position: usize,
) -> Result<Expr, FilterError> {
    let operand = operand(value, literal, position)?;
    let is_class = matches!(operand, Operand::Range(..));
    let is_boolean = matches!(literal, Literal::Boolean(_));
    if !comparison.is_equality() && (is_class || is_boolean || !value.kind.is_ordered()) {
        let found = literal.describe();
        return Err(FilterError::unexpected(
            position,
            "`=` or `!=` before it",
            found,
        ));
    }
    if let (Kind::OneOf(values), Literal::Text(text)) = (value.kind, literal)
        && values.is_ordered
        && !comparison.is_equality()
    {
        return Ok(ranked(&value.expr, comparison, values, text));
    }
    Ok(match operand {
        Operand::Constant(expr, constant) => binary(expr, operator(comparison), lit(constant)),
        Operand::Range(low, high) => negate(
            within(&value.expr, low, high),
            comparison == Comparison::NotEqual,
        ),
    })
}

/// `value < text` in the order of the values: that it is one of those for which this holds.
fn ranked(value: &Expr, comparison: Comparison, values: &ValueSet, text: &str) -> Expr {
    let right = values.texts.iter().position(|known| *known == text);
    let known = values.texts.iter().enumerate();
    let found = known.filter(|(left, _)| comparison.holds(Some(*left).cmp(&right)));
    let found: Vec<Expr> = found.map(|(_, known)| lit(literal::text(known))).collect();
    if let (true, Some(first)) = (found.is_empty(), values.texts.first()) {
        // Of no value: still of this column.
        let first = lit(literal::text(first));
        let is_first = value.clone().eq(first.clone());
        return is_first.and(value.clone().not_eq(first));
    }
    value.clone().in_list(found, false)
}

/// `left = right`, of which none is a literal; `right` stands at `position`.
///
/// # Errors
/// [`FilterError::Unexpected`] when they are of different types, or have no
/// order that the comparison asks for.
pub(super) fn with_value(
    left: Value,
    comparison: Comparison,
    right: Value,
    position: usize,
) -> Result<Expr, FilterError> {
    let comparable = match (left.kind, right.kind) {
        (Kind::Encoded, _) | (_, Kind::Encoded) => false,
        (Kind::StatusCode | Kind::Int32, Kind::StatusCode | Kind::Int32) => true,
        (left, right) => left == right || left.is_text() && right.is_text(),
    };
    // The values of two columns are compared as they are, not by what they mean.
    let is_ranked = |kind| matches!(kind, Kind::OneOf(values) if values.is_ordered);
    let is_ordered = left.kind.is_ordered() && !is_ranked(left.kind) && !is_ranked(right.kind);
    if !comparable || !(comparison.is_equality() || is_ordered) {
        let expected = if comparable {
            "`=` or `!=` before it".into()
        } else {
            format!("something to compare with {}", left.kind.describe())
        };
        return Err(FilterError::unexpected(
            position,
            expected,
            right.kind.describe(),
        ));
    }
    Ok(binary(left.expr, operator(comparison), right.expr))
}

/// `value in (…)`. Constants of one type are one list; classes of status codes
/// are ranges beside it.
///
/// # Errors
/// [`FilterError::Unexpected`] for a literal of another type.
pub(super) fn one_of(value: &Value, list: &[Node], negated: bool) -> Result<Expr, FilterError> {
    let mut lists: Vec<(Expr, Vec<Expr>)> = Vec::new();
    let mut ranges = BTreeSet::new();
    for node in list {
        let NodeKind::Literal(literal) = &node.kind else {
            return Err(FilterError::unexpected(
                node.position,
                "a literal",
                node.describe(),
            ));
        };
        match operand(value, literal, node.position)? {
            Operand::Constant(expr, constant) => {
                match lists.iter_mut().find(|(known, _)| *known == expr) {
                    Some((_, constants)) => constants.push(lit(constant)),
                    None => lists.push((expr, vec![lit(constant)])),
                }
            }
            Operand::Range(low, high) => {
                ranges.insert((low, high));
            }
        }
    }
    // The negation goes into the list: DataFusion prunes by `not in`.
    if let (true, [(_, _)]) = (ranges.is_empty(), lists.as_slice()) {
        let list = lists
            .pop()
            .map(|(expr, list)| InList::new(Box::new(expr), list, negated));
        return Ok(list.map_or_else(|| lit(negated), Expr::InList));
    }
    let lists = lists
        .into_iter()
        .map(|(expr, list)| expr.in_list(list, false));
    let ranges = ranges
        .into_iter()
        .map(|(low, high)| within(&value.expr, low, high));
    Ok(negate(
        join(lists.chain(ranges).collect(), Operator::Or),
        negated,
    ))
}

fn within(value: &Expr, low: i32, high: i32) -> Expr {
    value
        .clone()
        .gt_eq(lit(low))
        .and(value.clone().lt(lit(high)))
}

/// `not expr`, or `expr`.
pub(super) fn negate(expr: Expr, negated: bool) -> Expr {
    if negated {
        Expr::Not(Box::new(expr))
    } else {
        expr
    }
}

/// `left operator right`
pub(super) fn binary(left: Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
    }
}

/// The operands joined as a balanced tree, so that nothing that recurses over
/// the expression (dropping it, too) goes deep; of none, what is neutral.
pub(super) fn join(mut operands: Vec<Expr>, operator: Operator) -> Expr {
    while operands.len() > 1 {
        let mut rest = operands.into_iter();
        let mut pairs = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary(left, operator, right),
                None => left,
            });
        }
        operands = pairs;
    }
    operands
        .pop()
        .unwrap_or_else(|| lit(operator == Operator::And))
}
