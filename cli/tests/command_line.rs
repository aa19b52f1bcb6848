//! The binary, from the outside.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use support::{ingest, output, run, sample, spanstore};

fn json(store: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(store, arguments)).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
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

        let sessions = json_lines(&run(store, &["sessions", "--format", "json"]));
        assert!(sessions.len() > 5);
        let session_id = sessions[0]["session_id"].as_str().unwrap();
        let session = run(store, &["session", "show", session_id, "--format", "json"]);
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
fn counts_and_facets_are_those_of_the_listed_spans() {
    let directory = sample(3_000);
    let store = directory.path();
    let filter = "kind = 'server' and duration >= 1000";
    let listed = run(store, &["query", "--filter", filter, "--format", "json"]);
    let mut of_level = std::collections::BTreeMap::new();
    for line in listed.lines() {
        let span: Value = serde_json::from_str(line).unwrap();
        *of_level.entry(span["level"].to_string()).or_insert(0) += 1;
    }
    let count = run(store, &["count", "--filter", filter, "--format", "json"]);
    let count: Value = serde_json::from_str(&count).unwrap();
    assert_eq!(count["spans"], listed.lines().count());
    let arguments = ["facets", "level", "service", "--format", "json", "--filter"];
    let facets = run(store, &[&arguments[..], &[filter]].concat());
    let facets = facets
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let facets: Vec<Value> = facets.collect();
    let levels = facets.iter().filter(|row| row["column"] == "level");
    let levels = levels.map(|row| (row["value"].to_string(), row["spans"].as_i64().unwrap()));
    assert_eq!(
        levels.collect::<std::collections::BTreeMap<_, _>>(),
        of_level
    );
    assert!(facets.iter().any(|row| row["column"] == "service"));
    let most = run(store, &[&arguments[..], &[filter, "--limit", "1"]].concat());
    assert_eq!(most.lines().count(), 2);
    let chosen = [
        "facets",
        "level",
        "--filter",
        "level = 'error'",
        "--format",
        "json",
    ];
    assert_eq!(run(store, &chosen).lines().count(), 1);
    let choices = run(store, &[&chosen[..], &["--choices"]].concat());
    let all = run(store, &["facets", "level", "--format", "json"]);
    assert!(all.lines().count() > 1 && choices == all, "{choices}");
    let top = run(
        store,
        &["top", "level", "--filter", filter, "--format", "json"],
    );
    let top = top.lines().map(|line| serde_json::from_str(line).unwrap());
    let top: Vec<Value> = top.collect();
    let by_value = top
        .iter()
        .map(|row| (row["value"].to_string(), row["spans"].as_i64().unwrap()));
    assert_eq!(
        by_value.collect::<std::collections::BTreeMap<_, _>>(),
        of_level
    );
    assert!(top.is_sorted_by_key(|row| -row["spans"].as_i64().unwrap()));
    let arguments = [
        "timeline",
        "--by",
        "level",
        "--buckets",
        "7",
        "--filter",
        filter,
    ];
    let timeline = run(store, &[&arguments[..], &["--format", "json"]].concat());
    let mut by_value = std::collections::BTreeMap::new();
    for line in timeline.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        *by_value.entry(row["value"].to_string()).or_insert(0) += row["spans"].as_i64().unwrap();
    }
    assert_eq!(by_value, of_level);
    let chart = run(store, &arguments);
    let longest = chart.lines().map(|line| line.matches('█').count()).max();
    assert_eq!(
        (chart.lines().count(), longest),
        (4 + 7, Some(40)),
        "{chart}"
    );
    let explained = run(store, &[&arguments[..], &["--explain"]].concat());
    let (how, cost) = explained.split_once("planning ").unwrap();
    assert!(
        how.contains(" spans looked at; ") && !how.contains('█'),
        "{explained}"
    );
    assert!(cost.contains("answer "), "{explained}");
    let sql = "select level, count(*) from spans group by level";
    let explained = run(store, &["sql", "--explain", sql]);
    assert!(explained.contains("Groups: keys=1") && explained.contains("planning "));
    run(store, &["seal"]);
    let explained = run(store, &["query", "--explain", "--filter", filter]);
    assert!(explained.contains("kind = server: "), "{explained}");
    let wrong = output(store, &["facets", "no_such_column"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no_such_column"));
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
fn an_export_leaves_the_file_as_it_was_until_all_is_written() {
    let directory = sample(3_000);
    let store = directory.path();
    let beside = tempfile::tempdir().unwrap();
    let out = beside.path().join("spans.jsonl");
    let path = out.to_str().unwrap();
    let mode = || std::fs::metadata(&out).unwrap().permissions().mode() & 0o777;
    let files = || std::fs::read_dir(beside.path()).unwrap().count();
    run(store, &["export", "--out", path]);
    assert_ne!(mode() & 0o044, 0, "as the umask says: {:o}", mode());
    // What was there keeps its permissions.
    std::fs::write(&out, "before").unwrap();
    std::fs::set_permissions(&out, Permissions::from_mode(0o600)).unwrap();
    run(store, &["export", "--out", path]);
    let exported = std::fs::read_to_string(&out).unwrap();
    let lines = json_lines(&exported);
    assert!(lines.iter().all(|line| line["resourceSpans"].is_array()));
    assert_eq!((mode(), files()), (0o600, 1));
    // A link stays one, and what is no file is written to.
    let link = beside.path().join("link");
    std::os::unix::fs::symlink(&out, &link).unwrap();
    std::fs::write(&out, "before").unwrap();
    run(store, &["export", "--out", link.to_str().unwrap()]);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(&out).unwrap(), exported);
    run(store, &["export", "--out", "/dev/null"]);
    // One that fails on the way leaves what was there, and nothing beside it.
    run(store, &["seal"]);
    damage_a_segment(store, 4_096);
    let failed = output(store, &["export", "--out", path]);
    assert!(!failed.status.success());
    assert_eq!(std::fs::read_to_string(&out).unwrap(), exported);
    assert_eq!(files(), 2);
}

#[test]
fn many_spans_are_sealed_and_a_few_stay_free() {
    let directory = sample(100);
    let store = directory.path();
    let segments = |store: &Path| json_lines(&run(store, &["inspect", "--format", "json"])).len();
    assert_eq!(segments(store), 0);
    let many = sample(50_000);
    assert_eq!(segments(many.path()), 1);
    // What was accepted before a mistake is free when the whole is sent again.
    let generated = run(store, &["generate", "--spans", "2000", "--seed", "9"]);
    let broken = &generated[..generated.len() * 2 / 3];
    let file = many.path().join("broken");
    std::fs::write(&file, broken).unwrap();
    let refused = output(store, &["ingest", file.to_str().unwrap()]);
    assert!(!refused.status.success());
    let again = ingest(
        store,
        &["ingest", "-", "--format", "json"],
        generated.as_bytes(),
    );
    let duplicates = again["duplicates"].as_u64().unwrap();
    assert!(duplicates > 0, "{again}");
    assert_eq!(again["accepted"].as_u64().unwrap() + duplicates, 2_000);
    let used = json(store, &["usage", "--format", "json"]);
    assert_eq!(used["used"], 2_100);
}

#[test]
fn spans_of_other_times_have_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path();
    let old = [
        "generate",
        "--spans",
        "10",
        "--seed",
        "1",
        "--start",
        "2020-01-01",
    ];
    let old = run(store, &old);
    let file = store.join("old");
    std::fs::write(&file, old).unwrap();
    let path = file.to_str().unwrap();
    let store = store.join("store");
    let hint = output(&store, &["ingest", path]);
    let hint = String::from_utf8(hint.stderr).unwrap();
    assert!(
        hint.contains("10 spans") && hint.contains("--any-time"),
        "{hint}"
    );
    let taken = output(&store, &["ingest", "--any-time", path]);
    assert!(taken.stderr.is_empty(), "{taken:?}");
}

#[test]
fn columns_are_listed_without_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let columns = |arguments: &[&str]| {
        let found = output(
            directory.path(),
            &[&["columns", "--format", "json"], arguments].concat(),
        );
        assert!(found.status.success());
        let lines = json_lines(&String::from_utf8(found.stdout).unwrap());
        let of = |line: &Value| {
            (
                line["column"].clone(),
                line["holds"].clone(),
                line["facet"].clone(),
            )
        };
        lines.iter().map(of).collect::<Vec<_>>()
    };
    let spans = columns(&[]);
    let row = |name: &str, holds: &str, facet: bool| (name.into(), holds.into(), facet.into());
    assert!(
        spans.contains(&row("duration", "a duration", false)),
        "{spans:?}"
    );
    assert!(spans.contains(&row("level", "a text", true)));
    assert!(
        !spans
            .iter()
            .any(|(name, ..)| name == "team_id" || name == "errors")
    );
    let requests = columns(&["--requests"]);
    assert!(
        requests.contains(&row("errors", "an integer", false)),
        "{requests:?}"
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
        (
            &["export", "--ids", "bytes"],
            2,
            "--ids needs --format parquet",
        ),
        (
            &["export", "--format", "otlp-protobuf", "--time-unit", "us"],
            2,
            "--time-unit needs --format parquet",
        ),
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

/// Turns bits over in the middle of a segment.
fn damage_a_segment(store: &Path, bytes: usize) {
    let mut segments = Vec::new();
    for month in std::fs::read_dir(store.join("segments")).unwrap() {
        segments.extend(std::fs::read_dir(month.unwrap().path()).unwrap());
    }
    let segment = segments.remove(0).unwrap().path();
    let mut content = std::fs::read(&segment).unwrap();
    let middle = content.len() / 3;
    content[middle..middle + bytes]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x10);
    std::fs::write(&segment, content).unwrap();
}

#[test]
fn damage_is_found_and_told_by_the_exit_code() {
    let directory = sample(500);
    let store = directory.path();
    run(store, &["seal"]);
    damage_a_segment(store, 1);
    let output = output(store, &["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert!(!report["damage"].as_array().unwrap().is_empty());
}

#[test]
fn a_store_that_lost_its_catalog_is_refused_and_repaired() {
    let directory = sample(1_000);
    let store = directory.path();
    run(store, &["seal"]);
    let spans = run(store, &["query", "--format", "csv"]);
    std::fs::remove_file(store.join("catalog.redb")).unwrap();
    let refused = output(store, &["ingest", "-"]);
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(errors.contains("spanstore repair"), "{errors}");
    let other = tempfile::tempdir().unwrap();
    let new = other.path().join("new");
    let (old, out) = (store.to_str().unwrap(), new.to_str().unwrap());
    let report = json(store, &["repair", old, "--out", out, "--format", "json"]);
    assert_eq!(report["spans"], 1_000);
    assert_eq!(report["lost"], serde_json::json!([]));
    assert_eq!(report["lost_tables"].as_array().unwrap().len(), 6);
    assert_eq!(run(&new, &["query", "--format", "csv"]), spans);
    let checked = json(&new, &["check", "--format", "json"]);
    assert_eq!(checked["ok"], true);
    assert!(checked["catalog_bytes"].as_u64().unwrap() > 0);
    assert_eq!(checked["log_files"], 1);
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
fn the_demonstration_goes_from_a_session_to_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("a store");
    let name = store.to_str().unwrap();
    let text = run(directory.path(), &["demo", "--store", name]);
    for expected in [
        "2000 spans",
        "session   open ",
        "│ start_time",
        "▲ ",
        "█",
        "✗ error",
        "remaining  998,000",
    ] {
        assert!(text.contains(expected), "{expected} is missing:\n{text}");
    }
    // It writes into no store that is there.
    let again = output(directory.path(), &["demo", "--store", name]);
    assert_eq!(again.status.code(), Some(2));
    let told = String::from_utf8_lossy(&again.stderr);
    assert!(told.contains("is not empty"), "{told}");
    // What is shown can be typed again, in the store that is kept.
    let commands: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    assert_eq!(commands.len(), 7, "{text}");
    for command in commands {
        let store = format!("--store '{name}'");
        let words = command.strip_suffix(&store).unwrap();
        let words: Vec<&str> = words.split_whitespace().skip(1).collect();
        assert!(
            !run(&directory.path().join("a store"), &words).is_empty(),
            "{command}"
        );
    }
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

#[test]
fn segments_are_listed_taken_apart_and_merged() {
    let directory = sample(12_000);
    let store = directory.path();
    run(store, &["seal"]);
    let more = run(store, &["generate", "--spans", "9000", "--seed", "4"]);
    ingest(store, &["ingest", "-", "--format", "json"], more.as_bytes());
    run(store, &["seal"]);
    let before = run(store, &["query", "--format", "json"]);
    let segments = json_lines(&run(store, &["inspect", "--format", "json"]));
    let months: std::collections::BTreeSet<_> = segments
        .iter()
        .map(|one| one["month"].to_string())
        .collect();
    assert!(segments.len() > months.len());
    let id = segments[0]["segment"].as_str().unwrap();
    let parts = json_lines(&run(store, &["inspect", id, "--format", "json"]));
    let find = |part: &str, name: &str| {
        let mut found = parts
            .iter()
            .filter(|line| line["part"] == part && line["name"] == name);
        found
            .next()
            .cloned()
            .unwrap_or_else(|| panic!("{part} {name}"))
    };
    assert!(find("column", "trace_id")["bytes"].as_u64().unwrap() > 0);
    assert!(find("index", "trace index")["bytes"].as_u64().unwrap() > 0);
    assert!(find("facet", "method")["count"].as_u64().unwrap() > 1);
    let promoted = find("promoted key", "http.route");
    assert!(promoted["detail"].as_str().unwrap().contains("in route"));
    assert!(run(store, &["inspect", id]).contains("row group"));
    assert_eq!(
        output(store, &["inspect", "00000000000000ff"])
            .status
            .code(),
        Some(2)
    );

    let debt = json(store, &["inspect", "--debt", "--format", "json"]);
    assert!(debt["segments"].as_u64().unwrap() >= 2, "{debt}");
    assert_eq!((&debt["rows"], &debt["bytes"]), (&0.into(), &0.into()));

    let report = json(store, &["compact", "--format", "json"]);
    assert_eq!(report["rows_written"], 21_000);
    assert_eq!(report["rows_removed"], 0);
    let merged = json_lines(&run(store, &["inspect", "--format", "json"]));
    assert_eq!(merged.len(), months.len());
    let debt = json(store, &["inspect", "--debt", "--format", "json"]);
    assert_eq!(debt["segments"], 1);
    assert_eq!(run(store, &["query", "--format", "json"]), before);
    assert_eq!(json(store, &["check", "--format", "json"])["ok"], true);
}

#[test]
fn spans_are_kept_forgotten_and_backed_up() {
    let directory = sample(2_000);
    let store = directory.path();
    let count = |store: &Path| json_lines(&run(store, &["query", "--format", "json"])).len();
    let copy = tempfile::tempdir().unwrap();
    let backup = copy.path().join("copy");
    run(store, &["backup", backup.to_str().unwrap()]);
    assert_eq!(count(&backup), 2_000);
    assert_eq!(
        output(store, &["backup", backup.to_str().unwrap()])
            .status
            .code(),
        Some(1)
    );

    let session = [
        "session",
        "start",
        "--user",
        "ada",
        "--environment",
        "preview",
    ];
    let session = json(store, &[&session[..], &["--format", "json"]].concat());
    run(
        store,
        &["session", "stop", session["session_id"].as_str().unwrap()],
    );
    // The sample lies in yesterday's 24 hours.
    let refused = output(store, &["retain", "0s"]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    let hidden = "hide 2000 spans that started and a session that was stopped before";
    assert!(told.contains(hidden), "{told}");
    assert_eq!(count(store), 2_000);
    run(store, &["retain", "0s", "--yes"]);
    assert_eq!(count(store), 0);
    run(store, &["retain", "default"]);
    let every_team = output(store, &["retain", "0s", "--every-team"]);
    let told = String::from_utf8_lossy(&every_team.stderr);
    assert!(told.contains("hide 2000 spans that started"), "{told}");
    // No span is older, so nothing is asked.
    run(store, &["retain", "8w", "--every-team"]);
    let shown = json(store, &["retain", "--accept-clock", "--format", "json"]);
    assert_eq!(shown["kept"], "4838400 s");
    assert_eq!(shown["set_for"], "every team");
    assert_eq!(shown["removal"], Value::Null, "nothing waits");
    assert_eq!(count(store), 2_000);
    assert_eq!(
        output(store, &["retain", "default", "--every-team"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(output(store, &["retain", "soon"]).status.code(), Some(2));

    let sessions = json_lines(&run(store, &["sessions", "--format", "json"]));
    let session = sessions[0]["session_id"].as_str().unwrap().to_owned();
    let of_session = sessions[0]["spans"].as_u64().unwrap() as usize;
    let forgotten = [
        "forget",
        "session",
        &session,
        "elsewhere",
        "--format",
        "json",
    ];
    let refused = output(store, &forgotten);
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(
        errors.contains(&format!("forget {of_session} spans")),
        "{errors}"
    );
    assert!(
        errors.contains("--yes") && refused.status.code() == Some(2),
        "{errors}"
    );
    assert_eq!(count(store), 2_000, "nobody said yes");
    let done = json(store, &[&forgotten[..], &["--yes", "elsewhere"]].concat());
    assert_eq!(done["forgotten"].as_array().unwrap().len(), 2);
    assert_eq!(done["spans"], of_session);
    assert_eq!(count(store), 2_000 - of_session);
    let report = json(store, &["compact", "--erase", "--format", "json"]);
    assert_eq!(report["rows_removed"], of_session);
    let first = run(store, &["query", "--format", "json", "--limit", "1"]);
    let trace = json_lines(&first)[0]["trace_id"]
        .as_str()
        .unwrap()
        .to_owned();
    run(store, &["forget", "trace", &trace, "--yes"]);
    assert!(count(store) < 2_000 - of_session);
    run(store, &["forget", "--yes", "team"]);
    assert_eq!(count(store), 0);
    run(store, &["compact", "--erase"]);
    let used = json(store, &["usage", "--format", "json"]);
    assert_eq!(used["used"], 2_000, "what was accepted counts");
    assert_eq!(json(store, &["check", "--format", "json"])["ok"], true);
    assert_eq!(count(&backup), 2_000);
}
