//! The binary, from the outside.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn spanstore(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanstore"));
    command
        .env("SPANSTORE_DIR", store)
        .env_remove("RUST_BACKTRACE");
    command
}

/// Runs a command that has to end well and gives its output.
fn run(store: &Path, arguments: &[&str]) -> String {
    let output = output(store, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn output(store: &Path, arguments: &[&str]) -> Output {
    spanstore(store).args(arguments).output().unwrap()
}

fn json(store: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(store, arguments)).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A store with the sample application's spans.
fn sample(spans: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let generated = run(
        directory.path(),
        &["generate", "--spans", &spans.to_string(), "--seed", "3"],
    );
    let report = ingest(
        directory.path(),
        &["ingest", "-", "--format", "json"],
        generated.as_bytes(),
    );
    assert_eq!(report["accepted"], spans);
    directory
}

fn ingest(store: &Path, arguments: &[&str], input: &[u8]) -> Value {
    let mut child = spanstore(store)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn spans_go_in_and_come_out_the_same_before_a_seal_and_after() {
    let directory = sample(3_000);
    let store = directory.path();
    let questions = |store: &Path| {
        let query = run(store, &["query", "--format", "json"]);
        let lines = json_lines(&query);
        assert_eq!(lines.len(), 3_000);
        let starts: Vec<_> = lines
            .iter()
            .map(|line| line["start_time"].as_str().unwrap())
            .collect();
        assert!(starts.is_sorted_by(|a, b| a >= b), "newest first");

        let trace_id = lines[7]["trace_id"].as_str().unwrap().to_owned();
        let trace = json(store, &["trace", &trace_id, "--format", "json"]);
        assert_eq!(trace["trace_id"], trace_id.as_str());
        let spans = trace["spans"].as_array().unwrap();
        assert_eq!(
            spans.len(),
            lines
                .iter()
                .filter(|line| line["trace_id"] == *trace_id)
                .count()
        );
        let same = lines
            .iter()
            .find(|line| line["span_id"] == spans[0]["span_id"])
            .unwrap();
        assert_eq!(&spans[0], same, "the fields of a query");
        assert!(same["duration_ns"].is_i64() && same["attributes"].is_object());

        let sessions = json_lines(&run(
            store,
            &["sessions", "--format", "json", "--limit", "5"],
        ));
        assert_eq!(sessions.len(), 5);
        let session_id = sessions[0]["session_id"].as_str().unwrap();
        let session = run(store, &["session", session_id, "--format", "json"]);
        assert_eq!(
            json_lines(&session).len() as u64,
            sessions[0]["spans"].as_u64().unwrap()
        );

        let sql = run(
            store,
            &[
                "sql",
                "--format",
                "csv",
                "SELECT origin, count(*) AS n FROM spans GROUP BY origin ORDER BY origin",
            ],
        );
        assert_eq!(sql.lines().count(), 5, "{sql}");
        (query, trace, session, sql)
    };
    let before = questions(store);
    let sealed = json(store, &["seal", "--format", "json"]);
    assert_eq!(sealed["rows"], 3_000);
    assert_eq!(questions(store), before);
    let checked = json(store, &["check", "--format", "json"]);
    assert_eq!(
        (&checked["ok"], &checked["rows"]),
        (&Value::Bool(true), &Value::from(3_000))
    );
}

#[test]
fn an_export_fills_another_store_with_the_same_spans() {
    let directory = sample(2_000);
    let spans = run(directory.path(), &["query", "--format", "csv"]);
    for format in ["otlp-json", "otlp-protobuf"] {
        let other = tempfile::tempdir().unwrap();
        let file = other.path().join("export");
        let name = file.to_str().unwrap();
        run(
            directory.path(),
            &["export", "--format", format, "--out", name],
        );
        let store = other.path().join("store");
        run(&store, &["ingest", name]);
        assert_eq!(
            run(&store, &["query", "--format", "csv"]),
            spans,
            "{format}"
        );
    }
    let parquet = output(directory.path(), &["export", "--format", "parquet"]).stdout;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
}

#[test]
fn the_quota_is_shown_set_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path();
    let month = "2026-01";
    let generated = run(
        store,
        &[
            "generate", "--spans", "1000", "--seed", "1", "--month", month,
        ],
    );
    let refused = ingest(
        store,
        &["ingest", "-", "--format", "json"],
        generated.as_bytes(),
    );
    assert_eq!(refused["accepted"], 0);
    assert_eq!(refused["refused"], 1_000);
    assert_eq!(
        refused["refused_by_reason"],
        serde_json::json!({ "too_old": 1_000 })
    );

    run(store, &["quota", "set", "600"]);
    let arguments = ["ingest", "--any-time", "-", "--format", "json"];
    let report = ingest(store, &arguments, generated.as_bytes());
    assert_eq!(report["accepted"], 600);
    assert_eq!(
        report["refused_by_reason"],
        serde_json::json!({ "over_quota": 400 })
    );
    let usage = json(store, &["usage", "--month", month, "--format", "json"]);
    let expected = serde_json::json!({
        "team": "default",
        "month": "2026-01",
        "used": 600,
        "limit": 600,
        "remaining": 0,
        "resets_at": "2026-02-01T00:00:00.000000000Z",
    });
    assert_eq!(usage, expected);
    let other = json(
        store,
        &[
            "usage", "--month", month, "--format", "json", "--team", "other",
        ],
    );
    assert_eq!(
        (&other["used"], &other["limit"]),
        (&Value::from(0), &Value::from(1_000_000))
    );
}

#[test]
fn failures_are_one_line_and_an_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["query"], 1, "there is no store"),
        (&["query", "--format", "tree"], 2, "--format tree"),
        (
            &["query", "--since", "1h", "--until", "2h"],
            1,
            "there is no store",
        ),
        (&["ingest", "/nowhere.json"], 1, "/nowhere.json: "),
        (
            &["query", "--since", "1h", "--until", "2h"],
            2,
            "--since must lie before",
        ),
        (&["sql", "DROP TABLE spans"], 1, ""),
    ];
    for (arguments, code, text) in cases {
        let output = output(&store, arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.starts_with("spanstore: ") && errors.contains(text),
            "{errors}"
        );
    }
    assert_eq!(output(&store, &["fly"]).status.code(), Some(2));
}

#[test]
fn damage_is_found_and_told_by_the_exit_code() {
    let directory = sample(500);
    let store = directory.path();
    run(store, &["seal"]);
    let mut segments = Vec::new();
    for month in std::fs::read_dir(store.join("segments")).unwrap() {
        segments.extend(std::fs::read_dir(month.unwrap().path()).unwrap());
    }
    let segment = segments.remove(0).unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x10;
    std::fs::write(&segment, bytes).unwrap();
    let output = output(store, &["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert!(!report["damage"].as_array().unwrap().is_empty());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = spanstore(directory.path())
        .args(["generate", "--spans", "100000", "--seed", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn the_demonstration_shows_a_list_a_tree_and_the_quota() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let text = run(
        directory.path(),
        &["demo", "--store", store.to_str().unwrap()],
    );
    for expected in [
        "2000 spans",
        "spanstore query",
        "start_time",
        "▲ ",
        "█",
        "✗ error",
        "remaining  998,000",
    ] {
        assert!(text.contains(expected), "{expected} is missing:\n{text}");
    }
    assert!(store.exists());
}

#[test]
fn a_table_says_when_it_is_cut() {
    let directory = sample(200);
    let output = output(directory.path(), &["query"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--limit"));
    let rows = String::from_utf8(output.stdout).unwrap();
    // 50 rows, the header, and three lines of the frame.
    assert_eq!(rows.lines().count(), 54, "{rows}");
    let all = run(directory.path(), &["query", "--limit", "60"]);
    assert_eq!(all.lines().count(), 64);
}
