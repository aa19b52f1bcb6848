//! Requests on the command line.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use support::{ingest, output, run, sample};

/// What a command gives as JSON lines.
fn rows(store: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = run(store, &[arguments, &["--format", "json"]].concat());
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap()
}

/// How many rows have each value of a column.
fn numbers(rows: &[Value], column: &str) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for row in rows {
        *numbers.entry(row[column].to_string()).or_insert(0) += 1;
    }
    numbers
}

/// The counts of each value that a command gives.
fn counted(rows: &[Value]) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for row in rows {
        assert_eq!(row["spans"], Value::Null, "requests are counted: {row}");
        let requests = row["requests"].as_u64().unwrap();
        *numbers.entry(row["value"].to_string()).or_insert(0) += requests;
    }
    numbers
}

/// Lines of a table that are no frame and no heading.
fn table_rows(table: &str) -> usize {
    table.lines().count() - 4
}

#[test]
fn a_request_is_what_the_spans_of_its_trace_say() {
    let directory = sample(3_000);
    let store = directory.path();
    let spans = rows(store, &["query"]);
    let mut traces: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for span in &spans {
        traces.entry(text(span, "trace_id")).or_default().push(span);
    }
    let requests = rows(store, &["requests"]);
    assert_eq!(requests.len(), traces.len());
    for request in &requests {
        let spans = &traces[text(request, "trace_id")];
        let of_level = |levels: &[&str]| {
            let found = spans.iter();
            let found = found.filter(|span| levels.contains(&text(span, "level")));
            found.count()
        };
        assert_eq!(request["spans"], spans.len(), "{request}");
        assert_eq!(request["errors"], of_level(&["error", "fatal"]));
        assert_eq!(request["warnings"], of_level(&["warning"]));
        let first = spans.iter().map(|span| text(span, "start_time")).min();
        assert_eq!(first, Some(text(request, "start_time")));
        assert!(text(request, "end_time") >= text(request, "start_time"));
        assert!(request["duration_ns"].is_i64());
        let services: BTreeSet<_> = spans.iter().map(|span| text(span, "service")).collect();
        assert_eq!(request["services"], json!(services));
        assert!(request["resources"].is_array() && request["complete"].is_boolean());
        assert_eq!(request["team_id"], Value::Null, "no other team is named");
    }
    run(store, &["seal"]);
    assert_eq!(rows(store, &["requests"]), requests);
    let csv = run(
        store,
        &["requests", "--columns", "services,spans", "--format", "csv"],
    );
    let first = csv.lines().nth(1).unwrap();
    let services = requests[0]["services"].to_string().replace('"', "\"\"");
    assert_eq!(first, format!("\"{services}\",{}", requests[0]["spans"]));
}

#[test]
fn requests_come_in_the_order_that_was_asked_for() {
    let directory = sample(3_000);
    let store = directory.path();
    let ordered = |order: &str| rows(store, &["requests", "--order", order]);
    let number = |row: &Value, column: &str| row[column].as_i64().unwrap();
    let newest = ordered("newest");
    assert!(newest.is_sorted_by(|a, b| text(a, "start_time") >= text(b, "start_time")));
    assert_eq!(newest, rows(store, &["requests"]));
    assert!(ordered("oldest").is_sorted_by(|a, b| text(a, "start_time") <= text(b, "start_time")));
    let shortest = ordered("fastest");
    assert!(shortest.is_sorted_by_key(|row| number(row, "duration_ns")));
    for (order, column) in [
        ("slowest", "duration_ns"),
        ("spans", "spans"),
        ("errors", "errors"),
    ] {
        let all = ordered(order);
        let key = |row: &Value| (number(row, column), text(row, "start_time").to_owned());
        assert!(all.is_sorted_by(|a, b| key(a) >= key(b)), "{order}");
        assert!(number(&all[0], column) > number(&all[all.len() - 1], column));
        let mut few = rows(store, &["requests", "--order", order, "--limit", "7"]);
        let end = few.pop().unwrap();
        let cursor = text(&end, "next_cursor");
        let next = [
            "requests", "--order", order, "--limit", "5", "--cursor", cursor,
        ];
        let mut next = rows(store, &next);
        assert!(next.pop().unwrap()["next_cursor"].is_string());
        assert_eq!(next, ordered(order)[7..12], "{order}");
        assert_eq!(few, all[..7], "{order}");
    }
    assert_eq!(
        output(store, &["requests", "--order", "worst"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_table_is_cut_and_the_total_is_told_beside_the_rows() {
    let directory = sample(3_000);
    let store = directory.path();
    let all = rows(store, &["requests"]).len();
    assert!(all > 100);
    let cut = output(store, &["requests", "--total"]);
    let table = String::from_utf8(cut.stdout).unwrap();
    assert_eq!(table_rows(&table), 50, "{table}");
    for column in ["start_time", "path", "status_code", "errors", "trace_id"] {
        assert!(table.contains(column), "{column} is missing:\n{table}");
    }
    assert_eq!(
        String::from_utf8(cut.stderr).unwrap(),
        format!("These are the first 50 requests; --limit N shows more.\n50 of {all} requests\n")
    );
    let failed = rows(store, &["requests", "--filter", "errors > 0"]).len();
    assert!((3..50).contains(&failed), "{failed}");
    let arguments = ["requests", "--filter", "errors > 0", "--total", "--limit"];
    let limited = output(
        store,
        &[&arguments[..], &["2", "--format", "json"]].concat(),
    );
    // And the line with the cursor.
    assert_eq!(
        String::from_utf8(limited.stdout).unwrap().lines().count(),
        3
    );
    assert_eq!(
        String::from_utf8(limited.stderr).unwrap(),
        format!("2 of {failed} requests\n")
    );
    let whole = output(store, &["requests", "--limit", "60"]);
    assert_eq!(table_rows(&String::from_utf8(whole.stdout).unwrap()), 60);
    let note = String::from_utf8(whole.stderr).unwrap();
    let cursor = note.trim_end().strip_prefix("The next ones: --cursor ");
    let rest = ["requests", "--limit", "100000", "--cursor", cursor.unwrap()];
    let mut rest = rows(store, &rest);
    assert_eq!(rest.pop().unwrap(), json!({"next_cursor": null}));
    assert_eq!(rest.len(), all - 60);
}

#[test]
fn filters_ask_for_spans_by_any() {
    let directory = sample(3_000);
    let store = directory.path();
    let condition = "attributes['db.system'] = 'postgresql' and duration > '1ms'";
    let spans = rows(store, &["query", "--filter", condition]);
    let of_spans: BTreeSet<_> = spans.iter().map(|span| text(span, "trace_id")).collect();
    let any = format!("any({condition})");
    let requests = rows(store, &["requests", "--filter", &any]);
    let found: BTreeSet<_> = requests.iter().map(|row| text(row, "trace_id")).collect();
    assert!(!found.is_empty());
    assert_eq!(found, of_spans);
    let explained = run(store, &["requests", "--explain", "--filter", &any]);
    assert!(
        explained.contains(" rows read") && !explained.contains("trace_id"),
        "{explained}"
    );

    for (arguments, hint) in [
        (
            ["requests", "--filter", "attributes['a'] = 'b'"],
            "any(attributes['key'] = 'value')",
        ),
        (["requests", "--filter", "span_id = '1'"], "at byte 0"),
        (
            ["requests", "--columns", "parent_span_id"],
            "one of 37 columns, such as trace_id",
        ),
        (["query", "--filter", "any(level = 'error')"], "at byte 0"),
    ] {
        let refused = output(store, &arguments);
        let errors = String::from_utf8(refused.stderr).unwrap();
        // A wrong filter is shown with its text and a caret.
        let is_filter = errors.contains("wrong filter");
        let lines = if is_filter { 4 } else { 1 };
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(
            errors.contains(hint) && errors.lines().count() == lines,
            "{errors}"
        );
        assert!(refused.stdout.is_empty());
    }
}

/// A trace of one span, as OTLP JSON.
fn trace(id: u8, request: &str, start: u64) -> Value {
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": format!("{id:032x}"),
        "spanId": format!("{id:016x}"),
        "name": "GET /",
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": (start + 5).to_string(),
        "attributes": [{"key": "vercel.request_id", "value": {"stringValue": request}}],
    }]}]}]})
}

#[test]
fn a_request_id_gives_all_its_requests_oldest_first() {
    const START: u64 = 1_795_000_000_000_000_000;
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path();
    let id = "it's '' \\ %";
    let lines = [
        trace(1, id, START + 20),
        trace(2, "it", START),
        trace(3, id, START + 10),
    ];
    let lines = lines.map(|line| line.to_string()).join("\n");
    let arguments = ["ingest", "--any-time", "-", "--format", "json"];
    assert_eq!(ingest(store, &arguments, lines.as_bytes())["accepted"], 3);
    let found = rows(store, &["request", id]);
    let ids: Vec<_> = found.iter().map(|row| text(row, "trace_id")).collect();
    assert_eq!(ids, [format!("{:032x}", 3), format!("{:032x}", 1)]);
    assert_eq!(found[0]["request_id"], id);
    assert_eq!(found[0]["duration_ns"], 5);
    assert_eq!(table_rows(&run(store, &["request", id])), 2);
    assert_eq!(
        run(store, &["request", "it", "--format", "csv"])
            .lines()
            .count(),
        2
    );

    for absent in ["none", "it' or 'a' = 'a", ""] {
        let absent_one = output(store, &["request", absent, "--format", "json"]);
        assert_eq!(absent_one.status.code(), Some(0));
        assert!(absent_one.stdout.is_empty());
        assert_eq!(
            String::from_utf8(absent_one.stderr).unwrap(),
            format!("The team has no request of the id {absent}.\n")
        );
    }
}

#[test]
fn counts_over_requests_are_those_of_the_listed_requests() {
    let directory = sample(3_000);
    let store = directory.path();
    let filter = ["--requests", "--filter", "errors > 0 or warnings > 0"];
    let with = |arguments: &[&'static str]| [arguments, &filter[..]].concat();
    let listed = rows(store, &["requests", "--filter", filter[2]]);
    let of_level = numbers(&listed, "level");
    assert!(of_level.len() > 1, "{of_level:?}");

    let count = rows(store, &with(&["count"]));
    assert_eq!(count, [json!({"requests": listed.len()})]);
    let facets = rows(store, &with(&["facets", "level", "services"]));
    let (levels, services): (Vec<_>, Vec<_>) =
        facets.into_iter().partition(|row| row["column"] == "level");
    assert_eq!(counted(&levels), of_level);
    let mut of_service = BTreeMap::new();
    for service in listed
        .iter()
        .flat_map(|row| row["services"].as_array().unwrap())
    {
        *of_service.entry(service.to_string()).or_insert(0) += 1;
    }
    assert_eq!(counted(&services), of_service);
    let top = rows(store, &with(&["top", "path", "--limit", "1000"]));
    assert_eq!(counted(&top), numbers(&listed, "path"));
    let timeline = with(&["timeline", "--by", "level", "--buckets", "5"]);
    assert_eq!(counted(&rows(store, &timeline)), of_level);

    for (arguments, lines) in [
        (with(&["count"]), 1),
        (with(&["facets", "level"]), of_level.len()),
        (with(&["top", "level"]), of_level.len()),
        (timeline, 5),
    ] {
        let table = run(store, &arguments);
        let heading = table.lines().nth(1).unwrap();
        assert!(
            heading.contains("requests") && !heading.contains("spans"),
            "{table}"
        );
        assert_eq!(table_rows(&table), lines, "{table}");
    }
    let chosen = [
        "facets",
        "level",
        "--requests",
        "--filter",
        "level = 'error'",
    ];
    let choices = rows(store, &[&chosen[..], &["--choices"]].concat());
    assert_eq!(
        counted(&choices),
        numbers(&rows(store, &["requests"]), "level")
    );
    let refused = output(store, &with(&["top", "attributes['db.system']"]));
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains("\n^") && told.contains("attributes['db.system']"),
        "{told}"
    );
}
