//! `suggest` on the command line.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{output, run, sample};

/// What a command gives as JSON lines.
fn rows(store: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = run(store, &[arguments, &["--format", "json"]].concat());
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// How many rows there are that fulfil a filter.
fn count(store: &Path, filter: &str, of: &[&str]) -> Value {
    let arguments = [&["count", "--filter", filter], of].concat();
    let name = if of.is_empty() { "spans" } else { "requests" };
    rows(store, &arguments)[0][name].clone()
}

#[test]
fn each_value_has_as_many_rows_as_a_filter_finds() {
    let directory = sample(3_000);
    let store = directory.path();
    for _ in 0..2 {
        for (name, prefix, of) in [
            ("method", "", &[][..]),
            ("route", "/API", &[]),
            ("attributes['db.system']", "P", &[]),
            ("resource['service.name']", "", &[]),
            ("service", "", &["--requests"]),
        ] {
            let selected = [&["--filter", "status_code >= 400"], of].concat();
            let arguments = [&["suggest", "values", name, prefix][..], &selected].concat();
            let values = rows(store, &arguments);
            let rows_name = if of.is_empty() { "spans" } else { "requests" };
            for line in &values {
                let value = line["value"].as_str().unwrap();
                assert!(value.to_lowercase().starts_with(&prefix.to_lowercase()));
                let filter = format!("status_code >= 400 and {name} = '{value}'");
                assert_eq!(line[rows_name], count(store, &filter, of), "{filter}");
            }
            let order = |line: &Value| -line[rows_name].as_i64().unwrap();
            assert!(values.is_sorted_by_key(order), "{values:?}");
        }
        assert!(!rows(store, &["suggest", "values", "route", "/api"]).is_empty());
        run(store, &["seal"]);
    }
    let limited = [
        "suggest", "values", "path", "--limit", "2", "--since", "48h",
    ];
    assert_eq!(rows(store, &limited).len(), 2);
    let of_requests = ["suggest", "values", "attributes['db.system']", "--requests"];
    for line in rows(store, &of_requests) {
        let value = line["value"].as_str().unwrap();
        let filter = format!("any(attributes['db.system'] = '{value}')");
        let found = count(store, &filter, &["--requests"]);
        assert_eq!(line["requests"], found, "{filter}");
    }
}

#[test]
fn names_are_columns_and_keys_with_their_types() {
    let directory = sample(1_000);
    let store = directory.path();
    for exact in [&[][..], &["--exact"]] {
        let names = rows(store, &[&["suggest", "names", "S"][..], exact].concat());
        assert_eq!(names[0]["name"], "span_id");
        assert!(names[0]["spans"].is_null() && names[0]["exact"].is_null());
        let service = names
            .iter()
            .find(|line| line["name"] == "resource['service.name']");
        let service = service.unwrap();
        assert_eq!(service["spans"], count(store, "service is not null", &[]));
        assert_eq!(
            (&service["holds"], &service["exact"]),
            (&"text".into(), &true.into())
        );
        let session = names
            .iter()
            .find(|line| line["name"] == "attributes['session.id']");
        let with = count(store, "has('session.id')", &[]);
        assert_eq!(session.unwrap()["spans"], with);
    }
    let of_requests = [
        "suggest",
        "names",
        "db.",
        "--requests",
        "--search",
        "status:5xx",
    ];
    let table = run(store, &of_requests);
    assert!(table.contains("attributes['db.system']"), "{table}");
    assert!(rows(store, &["suggest", "names", "db", "--sessions"]).is_empty());
    let table = run(store, &["suggest", "values", "metho", "--help"]);
    assert!(table.contains("Examples:"), "{table}");
    for arguments in [
        &["suggest", "values", "metho"][..],
        &["suggest", "values"],
        &["suggest", "names", "--filter", "level ="],
    ] {
        let refused = output(store, arguments);
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(refused.stdout.is_empty() && !errors.is_empty());
    }
}
