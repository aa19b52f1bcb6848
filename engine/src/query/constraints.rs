//! What single conditions say about ids, times and durations.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use spanstore_format::TraceId;
use spanstore_format::span::SpanColumn;

use crate::read::bounded::{Bounded, Limits};
use crate::read::condition::Condition;
use crate::read::constraints::Constraints;

/// What must hold where a condition does that is no `and`, `or` or `not`.
///
/// Takes any logical expression, such as those that DataFusion pushes down to a table:
/// literals of other types of text, bytes and time, literals under casts, and lists.
pub(super) fn necessary(condition: &Expr) -> Constraints {
    let found = match condition {
        Expr::BinaryExpr(comparison) => compared(comparison).and_then(|(column, op, value)| {
            let is_equal = op == Operator::Eq;
            is_equal.then(|| equal(column, &value)).flatten()
        }),
        Expr::InList(list) if !list.negated => column(&list.expr).and_then(|column| {
            let each = list.list.iter();
            let each = each.map(|value| equal(column, &literal(value)?));
            let each: Option<Vec<Constraints>> = each.collect();
            each?.into_iter().reduce(Constraints::or)
        }),
        _ => None,
    };
    found.unwrap_or_default()
}

/// What must hold where a column equals a value.
fn equal(column: SpanColumn, value: &ScalarValue) -> Option<Constraints> {
    let text = || Some(BTreeSet::from([value.try_as_str()??.to_owned()]));
    let nothing = Constraints::default();
    Some(match column {
        SpanColumn::TraceId => Constraints {
            trace_ids: Some(BTreeSet::from([trace_id(value)?])),
            ..nothing
        },
        SpanColumn::SessionId => Constraints {
            session_ids: Some(text()?),
            ..nothing
        },
        SpanColumn::RequestId => Constraints {
            request_ids: Some(text()?),
            ..nothing
        },
        SpanColumn::StartTime => {
            let time = number(Bounded::Start, value)?;
            // Beyond the last nanosecond, a bound says nothing.
            Constraints::starting(Limits {
                from: Some(time),
                below: time.checked_add(1),
            })
        }
        _ => return None,
    })
}

/// A comparison of the start or the duration with a constant: each span has both.
pub(super) fn by_bounds(condition: &Expr) -> Option<Condition> {
    match condition {
        Expr::BinaryExpr(comparison) => {
            let (column, op, value) = compared(comparison)?;
            let bounded = Bounded::of(column.name())?;
            bound(bounded, op, number(bounded, &value)?)
        }
        Expr::Between(Between {
            expr,
            negated,
            low,
            high,
        }) => {
            let bounded = Bounded::of(column(expr)?.name())?;
            let limit = |expr| number(bounded, &literal(expr)?);
            let within = Condition::all([
                bound(bounded, Operator::GtEq, limit(low)?)?,
                bound(bounded, Operator::LtEq, limit(high)?)?,
            ]);
            Some(if *negated {
                Condition::Not(Box::new(within))
            } else {
                within
            })
        }
        _ => None,
    }
}

fn bound(bounded: Bounded, op: Operator, limit: i64) -> Option<Condition> {
    let limits = match op {
        Operator::GtEq => Limits::from(limit),
        Operator::Gt => Limits::from(limit.checked_add(1)?),
        Operator::Lt => Limits::below(limit),
        Operator::LtEq => Limits::below(limit.checked_add(1)?),
        Operator::Eq | Operator::NotEq => {
            Limits::from(limit).and(Limits::below(limit.checked_add(1)?))
        }
        _ => return None,
    };
    let within = Condition::Within(bounded, limits);
    Some(if op == Operator::NotEq {
        Condition::Not(Box::new(within))
    } else {
        within
    })
}

/// A comparison of a column with a constant, the column first.
fn compared(comparison: &BinaryExpr) -> Option<(SpanColumn, Operator, ScalarValue)> {
    let BinaryExpr { left, op, right } = comparison;
    if let (Some(column), Some(value)) = (column(left), literal(right)) {
        Some((column, *op, value))
    } else {
        Some((column(right)?, op.swap()?, literal(left)?))
    }
}

/// The operands of chains of `op`, however deep they are, in their order.
pub(super) fn operands(conditions: Vec<&Expr>, op: Operator) -> Vec<&Expr> {
    let mut open = conditions;
    open.reverse();
    let mut operands = Vec::new();
    while let Some(condition) = open.pop() {
        match condition {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: found,
                right,
            }) if *found == op => {
                open.extend([&**right, &**left]);
            }
            other => operands.push(other),
        }
    }
    operands
}

/// The column that `expr` is, also under a cast that keeps different values
/// different and their order.
fn column(expr: &Expr) -> Option<SpanColumn> {
    match expr {
        Expr::Column(column) => SpanColumn::of_name(&column.name),
        Expr::Cast(cast) => {
            let Expr::Column(column) = &*cast.expr else {
                return None;
            };
            let column = SpanColumn::of_name(&column.name)?;
            let is_kept = match column {
                SpanColumn::TraceId => is_bytes(cast.field.data_type()),
                SpanColumn::SessionId | SpanColumn::RequestId => cast.field.data_type().is_string(),
                SpanColumn::StartTime => is_nanos(cast.field.data_type()),
                _ => false,
            };
            is_kept.then_some(column)
        }
        _ => None,
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(
        data_type,
        FixedSizeBinary(16) | Binary | LargeBinary | BinaryView
    )
}

fn is_nanos(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_))
    )
}

/// The constant that `expr` is, casts applied.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => match &*cast.expr {
            Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).ok(),
            _ => None,
        },
        _ => None,
    }
}

fn trace_id(value: &ScalarValue) -> Option<TraceId> {
    match value {
        ScalarValue::FixedSizeBinary(_, Some(bytes))
        | ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes)) => TraceId::from_bytes(bytes).ok(),
        _ => None,
    }
}

/// A start or a duration.
fn number(bounded: Bounded, value: &ScalarValue) -> Option<i64> {
    match (bounded, value) {
        // Without a zone, it depends on the session which time this is.
        (Bounded::Start, ScalarValue::TimestampNanosecond(Some(time), Some(_))) => Some(*time),
        (Bounded::Duration, ScalarValue::Int64(Some(duration))) => Some(*duration),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
