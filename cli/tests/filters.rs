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
