use std::sync::Arc;

use datafusion::common::plan_err;
use datafusion::prelude::{cast, col, lit};

use super::*;
use crate::query::condition;

/// What conditions tell together.
pub(in crate::query) fn constraints(conditions: &[Expr]) -> Constraints {
    let compile: condition::Compile<'_> = &|_, _| plan_err!("nothing is evaluated here");
    condition::for_indexes(conditions, spanstore_format::span::table(), compile).constraints()
}

fn id(last: u8) -> TraceId {
    let mut id = [0; 16];
    id[15] = last;
    TraceId(id)
}

fn id_literal(last: u8) -> Expr {
    lit(ScalarValue::FixedSizeBinary(16, Some(id(last).0.to_vec())))
}

fn time(nanos: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(
        Some(nanos),
        Some(Arc::from("UTC")),
    ))
}

fn traces(ids: &[u8]) -> Constraints {
    let trace_ids = Some(ids.iter().map(|last| id(*last)).collect());
    Constraints {
        trace_ids,
        ..Constraints::default()
    }
}

fn sessions(ids: &[&str]) -> Constraints {
    let session_ids = Some(ids.iter().map(|&id| id.to_owned()).collect());
    Constraints {
        session_ids,
        ..Constraints::default()
    }
}

fn times(since: Option<i64>, until: Option<i64>) -> Constraints {
    Constraints::starting(Limits {
        from: since,
        below: until,
    })
}

fn trace_is(last: u8) -> Expr {
    col("trace_id").eq(id_literal(last))
}

#[test]
fn ids() {
    let bytes = |last| id(last).0.to_vec();
    let other_types = [
        ScalarValue::Binary(Some(bytes(1))),
        ScalarValue::BinaryView(Some(bytes(1))),
        ScalarValue::LargeBinary(Some(bytes(1))),
    ];
    for (expr, expected) in [
        (trace_is(1), traces(&[1])),
        (id_literal(1).eq(col("trace_id")), traces(&[1])),
        (
            trace_is(1).or(trace_is(2)).or(trace_is(3)),
            traces(&[1, 2, 3]),
        ),
        (trace_is(1).and(trace_is(2)), traces(&[])),
        (
            col("trace_id")
                .in_list(vec![id_literal(1), id_literal(2)], false)
                .and(col("trace_id").in_list(vec![id_literal(2), id_literal(3)], false)),
            traces(&[2]),
        ),
        (
            trace_is(1).or(trace_is(2).and(col("cold_start"))),
            traces(&[1, 2]),
        ),
        (
            cast(col("trace_id"), DataType::BinaryView).eq(lit(other_types[1].clone())),
            traces(&[1]),
        ),
        (
            col("trace_id").eq(cast(
                lit(other_types[0].clone()),
                DataType::FixedSizeBinary(16),
            )),
            traces(&[1]),
        ),
        (col("session_id").eq(lit("s")), sessions(&["s"])),
        (
            cast(col("session_id"), DataType::Utf8).in_list(
                vec![lit("a"), lit(ScalarValue::Utf8View(Some("b".into())))],
                false,
            ),
            sessions(&["a", "b"]),
        ),
        (
            col("session_id").eq(cast(lit("s"), DataType::Utf8View)),
            sessions(&["s"]),
        ),
    ] {
        assert_eq!(constraints(std::slice::from_ref(&expr)), expected, "{expr}");
    }
    for value in other_types {
        assert_eq!(constraints(&[col("trace_id").eq(lit(value))]), traces(&[1]));
    }
    let both = constraints(&[trace_is(1), col("session_id").eq(lit("s"))]);
    assert_eq!(both.trace_ids, traces(&[1]).trace_ids);
    assert_eq!(both.session_ids, sessions(&["s"]).session_ids);
}

#[test]
fn ranges_of_time() {
    let start = || col("start_time");
    for (expr, expected) in [
        (start().gt_eq(time(5)), times(Some(5), None)),
        (start().gt(time(5)), times(Some(6), None)),
        (start().lt(time(5)), times(None, Some(5))),
        (start().lt_eq(time(5)), times(None, Some(6))),
        (start().eq(time(5)), times(Some(5), Some(6))),
        (time(5).lt(start()), times(Some(6), None)),
        (start().between(time(5), time(9)), times(Some(5), Some(10))),
        (
            start()
                .gt(time(1))
                .and(start().gt(time(7)))
                .and(start().lt(time(9))),
            times(Some(8), Some(9)),
        ),
        (
            start()
                .between(time(5), time(9))
                .or(start().between(time(1), time(3))),
            times(Some(1), Some(10)),
        ),
        (
            start().in_list(vec![time(3), time(5)], false),
            times(Some(3), Some(6)),
        ),
        (
            start().gt_eq(time(5)).or(start().lt(time(2))),
            times(None, None),
        ),
        (start().lt_eq(time(i64::MAX)), times(None, None)),
        (start().gt(time(i64::MAX)), times(None, None)),
        (
            start().gt_eq(cast(
                lit(ScalarValue::TimestampMillisecond(
                    Some(5),
                    Some(Arc::from("UTC")),
                )),
                SpanColumn::StartTime.description().value.data_type(),
            )),
            times(Some(5_000_000), None),
        ),
    ] {
        assert_eq!(constraints(std::slice::from_ref(&expr)), expected, "{expr}");
    }
}

#[test]
fn what_is_unsure_says_nothing() {
    let start = || col("start_time");
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    for expr in [
        trace_is(1).or(col("cold_start")),
        trace_is(1).or(col("session_id").eq(lit("s"))),
        Expr::Not(Box::new(trace_is(1))),
        trace_is(1).is_not_true(),
        col("trace_id").not_eq(id_literal(1)),
        col("trace_id").in_list(vec![id_literal(1)], true),
        col("trace_id").in_list(vec![id_literal(1), col("span_id")], false),
        col("trace_id").in_list(Vec::new(), false),
        col("trace_id").eq(lit(ScalarValue::FixedSizeBinary(16, None))),
        col("trace_id").eq(lit(ScalarValue::Binary(Some(vec![1; 15])))),
        col("trace_id").eq(col("trace_id")),
        col("parent_span_id").eq(id_literal(1)),
        cast(col("trace_id"), DataType::FixedSizeBinary(8)).eq(id_literal(1)),
        cast(col("session_id"), DataType::Int64).eq(lit(5)),
        col("session_id").gt(lit("s")),
        start().not_between(time(5), time(9)),
        start().eq(lit(ScalarValue::TimestampNanosecond(Some(5), None))),
        start().gt(lit(5_i64)),
        cast(start(), micros).eq(time(5_000)),
        col("trace_start").gt(time(5)),
        lit(true),
    ] {
        let found = constraints(std::slice::from_ref(&expr));
        assert_eq!(found, Constraints::default(), "{expr}");
    }
    assert_eq!(constraints(&[]), Constraints::default());
}

#[test]
fn depth_is_no_danger() {
    // A chain as SQL plans it: deep to the left.
    let chain = (2..=255).fold(trace_is(1), |chain, last| chain.or(trace_is(last)));
    let found = constraints(&[chain]);
    assert_eq!(found.trace_ids.unwrap().len(), 255);

    // Alternating as deep as no chain is.
    let nested = (0..200).fold(trace_is(1), |inner, _| {
        trace_is(1).or(col("cold_start").and(inner))
    });
    assert_eq!(constraints(&[nested]), Constraints::default());
}
