mod evaluation;
mod events;
mod property;
mod refusal;
mod shorthand;

use datafusion::common::ScalarValue;
use datafusion::prelude::{col, lit};

use super::*;
use crate::query::constraints::tests::constraints;
use crate::read::constraints::Constraints;

fn parse(text: &str) -> Result<Filter, FilterError> {
    Filter::parse(text, &FilterLimits::default())
}

/// The condition as DataFusion writes it, with every pair in parentheses that
/// has them by precedence.
fn shown(text: &str) -> String {
    match parse(text) {
        Ok(filter) => filter.expr().to_string(),
        Err(error) => panic!("{}", error.render(text)),
    }
}

/// Both texts are the same condition.
fn same(one: &str, two: &str) {
    assert_eq!(
        parse(one).unwrap().expr(),
        parse(two).unwrap().expr(),
        "{one} | {two}"
    );
}

#[test]
fn precedence() {
    same(
        "name = 'a' or name = 'b' and kind = 'client'",
        "name = 'a' or ((name = 'b') and (kind = 'client'))",
    );
    same(
        "not name = 'a' and not cold_start is null",
        "(not (name = 'a')) and (not (cold_start is null))",
    );
    same("name = 'a' is true", "(name = 'a') is true");
    same("not name = 'a' is true", "not ((name = 'a') is true)");
    same(
        "duration between 1 and 2 and name = 'a'",
        "(duration between 1 and 2) and (name = 'a')",
    );
    assert_ne!(
        parse("name = 'a' or name = 'b' and kind = 'client'")
            .unwrap()
            .expr(),
        parse("(name = 'a' or name = 'b') and kind = 'client'")
            .unwrap()
            .expr(),
    );
}

#[test]
fn spelling_does_not_matter() {
    same(
        "name='a'AND kind='client'",
        " name == 'a'\n and\tKind = 'client' ",
    );
    same("status_code != 5", "STATUS_CODE <> 5");
    same("NAME NOT LIKE 'a%'", "\"name\" not like 'a%'");
    same("status_code < 5", "5 > status_code");
    same("5 <= status_code", "status_code >= 5");
    same("cold_start is not TRUE", "cold_start IS NOT true");
    same("Attributes['k'] = 'v'", "attributes [ 'k' ] = 'v'");
    same("HAS(attributes, 'k')", "has(\"attributes\",'k')");
    assert_eq!(shown("name = 'it''s'"), "name = Utf8View(\"it's\")");
    assert_eq!(shown("name = '--;/*'"), "name = Utf8View(\"--;/*\")");
}

#[test]
fn literals_take_the_type_of_their_column() {
    for (text, expected) in [
        ("name = 'a'", "name = Utf8View(\"a\")"),
        ("duration >= '250ms'", "duration >= Int64(250000000)"),
        ("duration = 250", "duration = Int64(250)"),
        ("duration > -1", "duration > Int64(-1)"),
        ("flags = 1", "flags = UInt32(1)"),
        ("status_code = 500", "status_code = Int32(500)"),
        ("status_code > '499'", "status_code > Int32(499)"),
        (
            "status_code = '5xx'",
            "status_code >= Int32(500) AND status_code < Int32(600)",
        ),
        (
            "status_code != '4XX'",
            "NOT status_code >= Int32(400) AND status_code < Int32(500)",
        ),
        ("cold_start = true", "cold_start = Boolean(true)"),
        ("cold_start", "cold_start"),
        ("not cold_start", "NOT cold_start"),
        ("true", "Boolean(true)"),
        ("length(name) > 3", "character_length(name) > Int32(3)"),
        ("lower(name) = 'a'", "lower(name) = Utf8View(\"a\")"),
        ("contains(name, '%')", "contains(name, Utf8View(\"%\"))"),
        ("name ~ '^a'", "name ~ Utf8View(\"^a\")"),
        ("name !~ '^a'", "name !~ Utf8View(\"^a\")"),
        ("name ilike '%a%%'", "name ILIKE Utf8View(\"%a%\")"),
        (
            "status_code not in (1, '2')",
            "status_code NOT IN ([Int32(1), Int32(2)])",
        ),
        ("resource = 'λ'", "resource = Utf8View(\"λ\")"),
        ("start_time = start_time", "start_time = start_time"),
        ("parent_span_id = span_id", "parent_span_id = span_id"),
        (
            "attributes['k'] = 'v'",
            "attribute(attributes, Utf8View(\"k\")) = Utf8View(\"v\")",
        ),
        (
            "attributes['k'] >= 500",
            "attribute_number(attributes, Utf8View(\"k\")) >= Float64(500)",
        ),
        (
            "-0.5 < resource['k']",
            "resource_attribute_number(resource_attributes, Utf8View(\"k\")) > Float64(-0.5)",
        ),
        (
            "attributes['k'] = true",
            "attribute(attributes, Utf8View(\"k\")) = Utf8View(\"true\")",
        ),
        (
            "attributes['k'] in ('a', 1, false, 2)",
            "attribute(attributes, Utf8View(\"k\")) IN ([Utf8View(\"a\"), Utf8View(\"false\")]) OR \
             attribute_number(attributes, Utf8View(\"k\")) IN ([Float64(1), Float64(2)])",
        ),
        (
            "attributes['k'] = name",
            "attribute(attributes, Utf8View(\"k\")) = name",
        ),
        (
            "has(resource, 'k')",
            "has_resource_attribute(resource_attributes, Utf8View(\"k\"))",
        ),
        (
            "attributes['a]''b'] is null",
            "attribute(attributes, Utf8View(\"a]'b\")) IS NULL",
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
    for (text, levels) in [
        ("level > 'info'", "'warning', 'error', 'fatal'"),
        ("level >= 'warning'", "'warning', 'error', 'fatal'"),
        ("'warning' <= level", "'warning', 'error', 'fatal'"),
        ("level < 'error'", "'info', 'warning'"),
        ("level <= 'info'", "'info'"),
        ("level >= 'info'", "'info', 'warning', 'error', 'fatal'"),
    ] {
        same(text, &format!("level in ({levels})"));
    }
    same(
        "level > 'fatal' or level < 'info'",
        "(level = 'info' and level != 'info') or (level = 'info' and level != 'info')",
    );
    same(
        "level not between 'warning' and 'error'",
        "not (level >= 'warning' and level <= 'error')",
    );
    assert_eq!(shown("level = name"), "level = name");
    assert_eq!(shown("kind = '7'"), "kind = Utf8View(\"7\")");
    same(
        "duration between '1ms' and '2ms'",
        "duration >= 1000000 and duration <= 2000000",
    );
    same(
        "status_code in ('5xx', 404, 429)",
        "status_code in (404, 429) or status_code = '5xx'",
    );
}

#[test]
fn ids_are_bytes() {
    let id = |bytes: i32, last: u8| {
        let mut id = vec![0; bytes as usize];
        id[bytes as usize - 1] = last;
        lit(ScalarValue::FixedSizeBinary(bytes, Some(id)))
    };
    let expr = |text| parse(text).unwrap().expr;
    assert_eq!(expr("trace_id = '1F'"), col("trace_id").eq(id(16, 0x1f)));
    assert_eq!(
        expr("trace_id != '1f'"),
        col("trace_id").not_eq(id(16, 0x1f))
    );
    assert_eq!(
        expr("span_id = '000000000000001f'"),
        col("span_id").eq(id(8, 0x1f))
    );
    assert_eq!(
        expr("parent_span_id in ('1', '2')"),
        col("parent_span_id").in_list(vec![id(8, 1), id(8, 2)], false)
    );
}

#[test]
fn times_are_nanoseconds() {
    let time = |nanos| {
        lit(ScalarValue::TimestampNanosecond(
            Some(nanos),
            Some("UTC".into()),
        ))
    };
    let expr = |text| parse(text).unwrap().expr;
    assert_eq!(
        expr("start_time < '1970-01-02'"),
        col("start_time").lt(time(86_400_000_000_000))
    );
    assert_eq!(
        expr("start_time = '1970-01-01T00:00:01Z'"),
        col("start_time").eq(time(1_000_000_000))
    );
    assert_eq!(expr("start_time = 7"), col("start_time").eq(time(7)));
}

#[test]
fn columns_are_the_physical_ones() {
    let filter = parse("attributes['a'] = 'b' and has(resource, 'c') and name = kind").unwrap();
    let columns: Vec<_> = filter.columns().into_iter().collect();
    assert_eq!(
        columns,
        ["attributes", "kind", "name", "resource_attributes"]
    );
}

fn depth(expr: &Expr) -> usize {
    match expr {
        Expr::BinaryExpr(pair) => 1 + depth(&pair.left).max(depth(&pair.right)),
        _ => 0,
    }
}

#[test]
fn long_chains_are_shallow() {
    let limits = FilterLimits {
        bytes: 1 << 20,
        ..FilterLimits::default()
    };
    for word in ["or", "and"] {
        let text = vec!["cold_start"; 2000].join(&format!(" {word} "));
        let filter = Filter::parse(&text, &limits).unwrap();
        assert_eq!(depth(filter.expr()), 11);
    }
}

#[test]
fn constraints_of_a_filter() {
    let filter = parse(
        "trace_id in ('1', '2') and (trace_id = '2' or trace_id = '3') and session_id = 's' \
         and start_time >= 10 and 20 > start_time and name = 'n'",
    );
    let found = constraints(std::slice::from_ref(filter.unwrap().expr()));
    assert_eq!(found.trace_ids, Some(["2".parse().unwrap()].into()));
    assert_eq!(found.session_ids, Some(["s".to_owned()].into()));
    assert_eq!(
        (found.starts.from, found.starts.below),
        (Some(10), Some(20))
    );
    assert_eq!(
        constraints(std::slice::from_ref(
            parse("not (trace_id = '1')").unwrap().expr()
        )),
        Constraints::default()
    );
}
