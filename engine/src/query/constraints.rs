//! What conditions say about ids and times.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use spanstore_format::TraceId;
use spanstore_format::span::SpanColumn;

use crate::read::condition::Constraints;

impl Constraints {
    /// The constraints of rows for which all of `conditions` are true.
    ///
    /// Takes any logical expressions, such as those that DataFusion pushes down
    /// to a table: literals of other types of text, bytes and time, literals
    /// under casts, lists, and chains of `or`.
    pub(super) fn of(conditions: &[Expr]) -> Self {
        Self::all(conditions.iter().collect(), 0)
    }

    /// Of conditions that are all true.
    fn all(conditions: Vec<&Expr>, depth: usize) -> Self {
        let mut all = Self::default();
        for condition in operands(conditions, Operator::And) {
            all = all.and(Self::one(condition, depth));
        }
        all
    }

    /// Of a condition that is no `and`.
    fn one(condition: &Expr, depth: usize) -> Self {
        // A statement of SQL can alternate `and` and `or` as deep as it likes.
        const DEEPEST: usize = 32;
        match condition {
            Expr::BinaryExpr(BinaryExpr {
                op: Operator::Or, ..
            }) if depth < DEEPEST => operands(vec![condition], Operator::Or)
                .into_iter()
                .map(|alternative| Self::all(vec![alternative], depth + 1))
                .reduce(Self::or)
                .unwrap_or_default(),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                if let (Some(column), Some(value)) = (column(left), literal(right)) {
                    Self::comparison(column, *op, &value)
                } else if let (Some(column), Some(value)) = (column(right), literal(left)) {
                    op.swap()
                        .map_or_else(Self::default, |op| Self::comparison(column, op, &value))
                } else {
                    Self::default()
                }
            }
            Expr::Between(Between {
                expr,
                negated: false,
                low,
                high,
            }) => {
                let bound = |op, bound| match (column(expr), literal(bound)) {
                    (Some(column), Some(value)) => Self::comparison(column, op, &value),
                    _ => Self::default(),
                };
                bound(Operator::GtEq, low).and(bound(Operator::LtEq, high))
            }
            Expr::InList(list) if !list.negated => {
                let Some(column) = column(&list.expr) else {
                    return Self::default();
                };
                list.list
                    .iter()
                    .map(|value| match literal(value) {
                        Some(value) => Self::comparison(column, Operator::Eq, &value),
                        None => Self::default(),
                    })
                    .reduce(Self::or)
                    .unwrap_or_default()
            }
            _ => Self::default(),
        }
    }

    fn comparison(column: &str, op: Operator, value: &ScalarValue) -> Self {
        let nothing = Self::default();
        match (SpanColumn::of_name(column), op) {
            (Some(SpanColumn::TraceId), Operator::Eq) => {
                let trace_ids = trace_id(value).map(|id| BTreeSet::from([id]));
                Self {
                    trace_ids,
                    ..nothing
                }
            }
            (Some(SpanColumn::SessionId), Operator::Eq) => {
                let session_ids = value
                    .try_as_str()
                    .flatten()
                    .map(|id| BTreeSet::from([id.into()]));
                Self {
                    session_ids,
                    ..nothing
                }
            }
            (Some(SpanColumn::RequestId), Operator::Eq) => {
                let request_ids = value
                    .try_as_str()
                    .flatten()
                    .map(|id| BTreeSet::from([id.into()]));
                Self {
                    request_ids,
                    ..nothing
                }
            }
            (Some(SpanColumn::StartTime), op) => {
                let Some(time) = nanos(value) else {
                    return nothing;
                };
                // Beyond the last nanosecond, a bound says nothing.
                let after = time.checked_add(1);
                match op {
                    Operator::Eq => Self {
                        since: Some(time),
                        until: after,
                        ..nothing
                    },
                    Operator::GtEq => Self {
                        since: Some(time),
                        ..nothing
                    },
                    Operator::Gt => Self {
                        since: after,
                        ..nothing
                    },
                    Operator::Lt => Self {
                        until: Some(time),
                        ..nothing
                    },
                    Operator::LtEq => Self {
                        until: after,
                        ..nothing
                    },
                    _ => nothing,
                }
            }
            _ => nothing,
        }
    }

    /// Of rows that both hold for.
    fn and(self, other: Self) -> Self {
        Self {
            trace_ids: intersection(self.trace_ids, other.trace_ids),
            session_ids: intersection(self.session_ids, other.session_ids),
            request_ids: intersection(self.request_ids, other.request_ids),
            since: self.since.max(other.since),
            until: match (self.until, other.until) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }

    /// Of rows that one of the two holds for.
    fn or(self, other: Self) -> Self {
        Self {
            trace_ids: union(self.trace_ids, other.trace_ids),
            session_ids: union(self.session_ids, other.session_ids),
            request_ids: union(self.request_ids, other.request_ids),
            since: self.since.zip(other.since).map(|(one, two)| one.min(two)),
            until: self.until.zip(other.until).map(|(one, two)| one.max(two)),
        }
    }
}

fn intersection<T: Ord>(one: Option<BTreeSet<T>>, two: Option<BTreeSet<T>>) -> Option<BTreeSet<T>> {
    match (one, two) {
        (Some(one), Some(mut two)) => {
            two.retain(|value| one.contains(value));
            Some(two)
        }
        (one, two) => one.or(two),
    }
}

fn union<T: Ord>(one: Option<BTreeSet<T>>, two: Option<BTreeSet<T>>) -> Option<BTreeSet<T>> {
    let (mut one, two) = (one?, two?);
    one.extend(two);
    Some(one)
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
fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Cast(cast) => {
            let Expr::Column(column) = &*cast.expr else {
                return None;
            };
            let kept = match SpanColumn::of_name(&column.name)? {
                SpanColumn::TraceId => is_bytes(cast.field.data_type()),
                SpanColumn::SessionId | SpanColumn::RequestId => cast.field.data_type().is_string(),
                SpanColumn::StartTime => is_nanos(cast.field.data_type()),
                _ => false,
            };
            kept.then_some(&column.name)
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

fn nanos(value: &ScalarValue) -> Option<i64> {
    match value {
        // Without a zone, it depends on the session which time this is.
        ScalarValue::TimestampNanosecond(Some(time), Some(_)) => Some(*time),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
