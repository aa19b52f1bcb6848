//! Filters and texts of a search bar on the command line.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use support::{output, run, sample};

#[test]
fn a_wrong_filter_has_a_caret_under_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    output(&store, &["quota", "set", "10"]);
    for command in ["query", "requests", "count"] {
        let found = output(
            &store,
            &[command, "--filter", "level = 'error' and durration > 1"],
        );
        let errors = String::from_utf8(found.stderr).unwrap();
        let lines: Vec<&str> = errors.lines().collect();
        let [head, filter, caret, why] = lines.as_slice() else {
            panic!("{errors}");
        };
        assert_eq!(*head, "spanstore: wrong filter");
        assert_eq!(*filter, "level = 'error' and durration > 1");
        assert_eq!(*caret, format!("{}^", " ".repeat(20)));
        assert!(why.contains("such as duration"), "{why}");
        assert_eq!(found.status.code(), Some(2));
    }
}

#[test]
fn a_search_bar_s_text_and_a_condition_on_events_are_filters() {
    let directory = sample(3_000);
    let store = directory.path();
    for (search, filter) in [
        ("level:error", "level = 'error'"),
        ("-level:error|warning", "level not in ('error', 'warning')"),
        (
            "status:5xx duration:>1ms",
            "status_code >= 500 and duration > '1ms'",
        ),
        ("checkout", "search('checkout')"),
        ("level:>=warning", "level in ('warning', 'error', 'fatal')"),
    ] {
        let count = |option, text| run(store, &["count", option, text, "--format", "json"]);
        let found = count("--search", search);
        assert_eq!(found, count("--filter", filter), "{search}");
        assert!(!found.contains("{\"spans\":0}"), "{search}: {found}");
    }
    let count = |filter| run(store, &["count", "--filter", filter, "--format", "json"]);
    let found = count("any_event(name = 'exception' and attributes['exception.type'] is not null)");
    assert_eq!(found, count("any_event(name = 'exception')"));
    assert!(!found.contains("{\"spans\":0}"), "{found}");
    let found = output(store, &["count", "--search", "level:error sesion:a"]);
    let errors = String::from_utf8(found.stderr).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.get(2), Some(&"            ^"), "{errors}");
}

#[test]
fn an_unknown_column_is_wrong_usage_and_the_nearest_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    output(&store, &["quota", "set", "10"]);
    for (arguments, expected) in [
        (&["facets", "lvel"][..], "such as level"),
        (&["facets", "lvel", "--requests"], "such as level"),
        (&["facets", "path"], "top"),
        (&["query", "--columns", "name,lvel"], "such as level"),
        (&["requests", "--columns", "lvel"], "such as level"),
        (&["sessions", "--columns", "usr_id"], "such as user_id"),
        (&["tail", "--columns", "lvel"], "such as level"),
        (&["query", "--columns", "attributes['a']"], "gives all"),
        (&["suggest", "values", "levl"], "such as level"),
        (&["top", "levl"], "such as level"),
        (&["timeline", "--by", "levl"], "such as level"),
    ] {
        let found = output(&store, arguments);
        let errors = String::from_utf8(found.stderr).unwrap();
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(found.status.code(), Some(2), "{arguments:?}: {errors}");
    }
    run(&store, &["facets", "Level"]);
    let sample = sample(1_000);
    let found = |name| run(sample.path(), &["facets", name, "--format", "json"]);
    assert_eq!(found("Level"), found("level"));
    assert!(!found("level").is_empty());
}

#[test]
fn the_caret_stands_under_a_wrong_value() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    output(&store, &["quota", "set", "10"]);
    let found = output(&store, &["count", "--search", "level:info duration:>abc"]);
    let errors = String::from_utf8(found.stderr).unwrap();
    let caret = format!("{}^", " ".repeat(21));
    assert_eq!(errors.lines().nth(2), Some(caret.as_str()), "{errors}");
}
