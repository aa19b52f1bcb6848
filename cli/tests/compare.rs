//! `compare` on the command line.
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

/// How many rows a filter and other words of the command line find.
fn count(store: &Path, arguments: &[&str], filters: &[&str]) -> Value {
    let filter = filters.join(" and ");
    let arguments = [&["count", "--filter", &filter], arguments].concat();
    let counted = rows(store, &arguments).remove(0);
    let name = if arguments.contains(&"--requests") {
        "requests"
    } else {
        "spans"
    };
    counted[name].clone()
}

#[test]
fn each_line_counts_what_its_filter_finds() {
    let directory = sample(3_000);
    let store = directory.path();
    run(store, &["seal"]);
    for kind in [&[][..], &["--requests"]] {
        let sets = ["status_code >= 500", "status_code < 400"];
        let arguments = ["compare", "--filter", sets[0], "--with", sets[1]];
        let compared = rows(store, &[&arguments, kind].concat());
        assert_eq!(compared.len(), 20);
        let name = if kind.is_empty() { "spans" } else { "requests" };
        let other_name = format!("other_{name}");
        for line in &compared {
            let filter = line["filter"].as_str().unwrap();
            for (set, part, total) in [
                (sets[0], name, "total"),
                (sets[1], other_name.as_str(), "other_total"),
            ] {
                assert_eq!(line[part], count(store, kind, &[filter, set]), "{line}");
                assert_eq!(line[total], count(store, kind, &[set]), "{line}");
            }
            let number = |column: &str| line[column].as_f64().unwrap();
            let share = number(name) / number("total");
            assert!((number("share") - share).abs() < 1e-9, "{line}");
            let difference = number("share") - number("other_share");
            assert!((number("difference") - difference).abs() < 1e-9, "{line}");
        }
        let by_difference = |line: &Value| -line["difference"].as_f64().unwrap().abs();
        assert!(compared.is_sorted_by_key(by_difference), "{compared:?}");
        let is_error = |line: &Value| line["column"] == "level" && line["value"] == "error";
        assert!(compared.iter().any(is_error), "{compared:?}");
    }
    let of_attribute = ["compare", "--filter", "kind = 'client'", "--with", "true"];
    let compared = rows(store, &[&of_attribute[..], &["--limit", "100"]].concat());
    let is_attribute = |line: &&Value| line["column"] == "attributes['db.system']";
    assert!(
        compared.iter().any(|line| is_attribute(&line)),
        "{compared:?}"
    );
}

#[test]
fn the_other_set_has_what_is_not_said_of_it_from_the_first() {
    let directory = sample(3_000);
    let store = directory.path();
    let starts = rows(store, &["query", "--order", "oldest"]);
    let middle = starts[1_000]["start_time"].as_str().unwrap();
    let total = |arguments: &[&str]| {
        let first = rows(store, &[&["compare", "--limit", "1"], arguments].concat()).remove(0);
        (first["total"].clone(), first["other_total"].clone())
    };
    let since = ["--since", middle];
    let until = ["--until", middle];
    let count = |filter: &str, times: &[&str]| count(store, times, &[filter]);
    let (client, server) = ("kind = 'client'", "kind = 'server'");
    assert_eq!(
        total(&["--since", middle, "--with-until", middle]),
        (count("true", &since), count("true", &until))
    );
    assert_eq!(
        total(&["--filter", client, "--until", middle, "--with", server]),
        (count(client, &until), count(server, &until))
    );
    assert_eq!(
        total(&[
            "--filter",
            client,
            "--until",
            middle,
            "--with-since",
            middle
        ]),
        (count(client, &until), count(client, &since))
    );
}

#[test]
fn a_table_shows_percent_and_the_sizes_stand_beside_it() {
    let directory = sample(1_000);
    let store = directory.path();
    let arguments = [
        "compare",
        "--filter",
        "level = 'error'",
        "--with",
        "true",
        "--limit",
        "3",
    ];
    let shown = output(store, &arguments);
    let table = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(table.lines().count(), 4 + 3, "{table}");
    let errors = count(store, &[], &["level = 'error'"]);
    assert!(
        table.contains("level = 'error'") && table.contains(" 100 "),
        "{table}"
    );
    assert_eq!(
        String::from_utf8(shown.stderr).unwrap(),
        format!("{errors} spans, compared with 1,000\n")
    );
    for (arguments, status) in [
        (&["compare", "--filter", "true"][..], 2),
        (&["compare", "--with", "level ="], 2),
        (
            &[
                "compare", "--with", "true", "--since", "1h", "--until", "2h",
            ],
            2,
        ),
    ] {
        let refused = output(store, arguments);
        assert_eq!(refused.status.code(), Some(status), "{arguments:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty());
    }
}
