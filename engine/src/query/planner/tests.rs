use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use spanstore_format::span::schema;

use super::*;
use crate::query::functions;

fn session() -> SessionContext {
    // The plans show what was planned, not where it was moved to.
    let config = SessionConfig::new().set_bool(
        "datafusion.optimizer.enable_leaf_expression_pushdown",
        false,
    );
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features();
    if let Some(planners) = builder.expr_planners() {
        planners.insert(0, Arc::new(SpanPlanner));
    }
    let context = SessionContext::new_with_state(builder.build());
    for function in functions::all() {
        context.register_udf(function.as_ref().clone());
    }
    context
        .state_ref()
        .write()
        .register_function_rewrite(Arc::new(SpanPlanner))
        .unwrap();
    let batch = RecordBatch::new_empty(schema());
    let table = MemTable::try_new(schema(), vec![vec![batch]]).unwrap();
    context.register_table("spans", Arc::new(table)).unwrap();
    context
}

/// The optimised plan of an SQL text.
async fn plan(sql: &str) -> Result<String> {
    let frame = session().sql(sql).await?;
    Ok(frame.into_optimized_plan()?.display_indent().to_string())
}

/// Runs on this thread, since planning never waits for another.
fn planned(sql: &str) -> Result<String> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(plan(sql))
}

const ONE: &str = "FixedSizeBinary(16, \"0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1\")";

#[test]
fn ids_are_digits() {
    let one_span = "FixedSizeBinary(8, \"0,0,0,0,0,0,0,1\")";
    for (condition, expected) in [
        ("trace_id = '01'", format!("trace_id = {ONE}")),
        ("'01' != s.trace_id", format!("trace_id != {ONE}")),
        ("trace_id = trace_id('01')", format!("trace_id = {ONE}")),
        ("span_id = '1'", format!("span_id = {one_span}")),
        (
            "parent_span_id = span_id('1')",
            format!("parent_span_id = {one_span}"),
        ),
        (
            "trace_id in ('1', '1', '1', '1')",
            format!("trace_id IN ([{ONE}, "),
        ),
        (
            "name = 'x' and trace_id in ('1')",
            format!("trace_id = {ONE}"),
        ),
        (
            "hex(trace_id) = '1'",
            "hex(spans.trace_id) = Utf8View(\"1\")".into(),
        ),
    ] {
        let plan = planned(&format!("select name from spans s where {condition}")).unwrap();
        assert!(plan.contains(&expected), "{condition}: {plan}");
        // A cast would keep it out of the indexes.
        assert!(!plan.contains("CAST"), "{condition}: {plan}");
    }
    let plan = planned("select trace_id = '1' as mine from spans").unwrap();
    assert!(plan.contains(ONE), "{plan}");
    for bad in ["trace_id = 'xyz'", "span_id in ('1', '')"] {
        let error = planned(&format!("select name from spans where {bad}")).unwrap_err();
        assert!(error.to_string().contains("hexadecimal digits"), "{error}");
    }
}

#[test]
fn subscripts_are_attributes() {
    for (condition, expected) in [
        (
            "attributes['k'] = 'v'",
            "attribute(spans.attributes, Utf8View(\"k\")) = Utf8View(\"v\")",
        ),
        (
            "s.attributes['k'] >= 500",
            "attribute_number(spans.attributes, Utf8View(\"k\")) >= Float64(500)",
        ),
        (
            "-0.5 < s.resource['k']",
            "Float64(-0.5) < resource_attribute_number(spans.resource_attributes, Utf8View(\"k\"))",
        ),
        (
            "attributes['k'] in (1, 2, 3, 4)",
            "attribute_number(spans.attributes, Utf8View(\"k\")) IN ([Float64(1), ",
        ),
        (
            "attributes['k'] between 1 and 2",
            "attribute_number(spans.attributes, Utf8View(\"k\")) >= Float64(1)",
        ),
        (
            "attributes['k'] in ('a', 'b', 'c', 'd')",
            "attribute(spans.attributes, Utf8View(\"k\")) IN ([Utf8View(\"a\"), ",
        ),
        ("resource = 'v'", "spans.resource = Utf8View(\"v\")"),
    ] {
        let plan = planned(&format!("select name from spans s where {condition}")).unwrap();
        assert!(plan.contains(expected), "{condition}: {plan}");
    }
    let plan = planned("select resource['k'] as k, count(*) from spans group by 1").unwrap();
    assert!(
        plan.contains("resource_attribute(spans.resource_attributes"),
        "{plan}"
    );
    // Without the column, or on another, it stays DataFusion's own.
    for other in [
        "select name['k'] from spans",
        "select resource['k'] from (select resource from spans)",
    ] {
        assert!(planned(other).is_err(), "{other}");
    }
}
