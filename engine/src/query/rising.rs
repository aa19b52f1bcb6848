//! Expressions that rise with the start of a row.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Whether a later start never has a lesser value, where the expression is over the start
/// alone, which is never negative. It is not told of every expression that rises.
pub(super) fn rises(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let Some(by) = positive(right) else {
                return false;
            };
            match op {
                // A number that is not negative less another does not overflow.
                Operator::Minus => is_start(left),
                Operator::Divide => is_start(left) || rises(left),
                // Neither does what was divided by as much before.
                Operator::Multiply => match &**left {
                    Expr::BinaryExpr(BinaryExpr {
                        op: Operator::Divide,
                        right,
                        ..
                    }) => rises(left) && positive(right).is_some_and(|divisor| divisor >= by),
                    _ => false,
                },
                _ => false,
            }
        }
        Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
            ("date_trunc", [unit, time]) => unit.column_refs().is_empty() && is_start(time),
            ("date_bin", [step, time, origin @ ..]) => {
                let mut origin = origin.iter();
                is_length(step)
                    && is_start(time)
                    && origin.all(|origin| origin.column_refs().is_empty())
            }
            _ => false,
        },
        Expr::Cast(cast) => keeps_order(cast.field.data_type()) && rises(&cast.expr),
        _ => false,
    }
}

fn positive(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => (*number > 0).then_some(*number),
        _ => None,
    }
}

/// Whether it is a length of time that is not negative. Months have several lengths.
fn is_length(step: &Expr) -> bool {
    match step {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(step)), _) => {
            step.months == 0 && step.days >= 0 && step.nanoseconds >= 0
        }
        _ => false,
    }
}

/// Whether it is the start itself, maybe as a number.
fn is_start(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(cast) => keeps_order(cast.field.data_type()) && is_start(&cast.expr),
        _ => false,
    }
}

/// Whether times in nanoseconds are in the same order in this type, in which they are
/// nanoseconds too. In other zones the hour repeats where clocks are set back.
fn keeps_order(data_type: &DataType) -> bool {
    match data_type {
        DataType::Int64 => true,
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            zone.as_deref().is_none_or(|zone| zone == "UTC")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::TimestampNanosecondArray;
    use arrow::datatypes::{Field, Schema};
    use arrow::record_batch::RecordBatch;
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Texts, and whether it is told that they rise.
    const TEXTS: [(&str, bool); 18] = [
        ("(cast(start_time as bigint) - 7) / 1000", true),
        ("cast(start_time as bigint) / 1000 * 1000", true),
        ("date_trunc('hour', start_time)", true),
        ("date_bin(interval '7 minutes', start_time)", true),
        (
            "cast(date_bin(interval '90 seconds', start_time, timestamp '2026-01-01') as bigint)",
            true,
        ),
        ("cast(start_time as bigint) - 9223372036854775807", true),
        ("1 - cast(start_time as bigint)", false),
        ("cast(start_time as bigint) / -1000", false),
        ("cast(start_time as bigint) % 1000", false),
        ("cast(start_time as bigint) * 1000", false),
        ("cast(start_time as bigint) / 1000 * 1001", false),
        (
            "(cast(start_time as bigint) - 7) - 9223372036854775807",
            false,
        ),
        ("cast(start_time as bigint) + 7", false),
        ("date_part('hour', start_time)", false),
        (
            "date_trunc('hour', arrow_cast(start_time, 'Timestamp(ns, \"Europe/Berlin\")'))",
            false,
        ),
        (
            "date_bin(interval '1 hour', timestamp '2026-01-01', start_time)",
            false,
        ),
        ("date_bin(interval '-1 month', start_time)", false),
        ("to_char(start_time, '%H')", false),
    ];

    #[test]
    fn what_is_told_to_rise_does() {
        let zone = Some(Arc::from("UTC"));
        let field = Field::new(
            "start_time",
            DataType::Timestamp(TimeUnit::Nanosecond, zone),
            false,
        );
        let schema = Arc::new(Schema::new(vec![field]));
        // Steps of days and of nanoseconds, over a year that clocks are set back in.
        let days = (0..400).map(|day| 1_767_225_600_000_000_000 + day * 86_399_999_999_993);
        let starts = (0..3_000).chain(days).chain([i64::MAX - 1, i64::MAX]);
        let starts = TimestampNanosecondArray::from_iter_values(starts).with_timezone("UTC");
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(starts)]).unwrap();
        let context = SessionContext::new();
        let named = DFSchema::try_from(schema).unwrap();
        for (text, expected) in TEXTS {
            let expr = context.parse_sql_expr(text, &named).unwrap();
            let found = rises(&expr);
            assert_eq!(found, expected, "{text}");
            if found {
                let physical = context.create_physical_expr(expr, &named).unwrap();
                let values = physical
                    .evaluate(&rows)
                    .unwrap()
                    .into_array(rows.num_rows());
                let values = arrow::compute::cast(&values.unwrap(), &DataType::Int64).unwrap();
                let values: &arrow::array::Int64Array = values.as_any().downcast_ref().unwrap();
                assert!(values.values().is_sorted(), "{text}");
            }
        }
    }
}
