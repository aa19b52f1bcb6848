//! Commands beside a process that has the store open and writes it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use spanstore::{SpanBatch, Store, StoreOptions, Team, TeamId};

use support::{ingest, output, run, sample, spanstore};

/// A service that has the store open, and seals when it is told to.
fn service(directory: &Path) -> (Store, Team) {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    let store = Store::open(directory, options).unwrap();
    let team = store.team(&TeamId::new("default").unwrap());
    (store, team)
}

/// Appends so many spans of a trace of a minute ago; the first is its root.
fn append(team: &Team, trace: u8, session: &str, spans: u8) {
    append_after(team, trace, session, spans, -60_000_000_000);
}

/// The same of a trace that begins so many nanoseconds from now.
fn append_after(team: &Team, trace: u8, session: &str, spans: u8, nanos: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = (now.as_nanos() as u64).saturating_add_signed(nanos);
    let id = |span: u8| format!("{trace:02x}{span:02x}000000000000");
    let spans = (1..=spans).map(|span| {
        json!({
            "traceId": format!("{trace:032x}"),
            "spanId": id(span),
            "parentSpanId": if span == 1 { String::new() } else { id(1) },
            "name": format!("span {trace}.{span}"),
            "startTimeUnixNano": (now + u64::from(span)).to_string(),
            "endTimeUnixNano": (now + 1_000_000).to_string(),
            "attributes": [{ "key": "session.id", "value": { "stringValue": session } }],
        })
    });
    let spans: Vec<Value> = spans.collect();
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] });
    let batch = SpanBatch::from_otlp_json(body.to_string().as_bytes()).unwrap();
    assert_eq!(team.append(batch).unwrap().accepted, spans.len() as u64);
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn commands_that_read_work_and_those_that_write_say_why_not() {
    let directory = sample(500);
    let (store, team) = service(directory.path());
    append(&team, 7, "here", 3);
    let json = |arguments: &[&str]| {
        let text = run(
            directory.path(),
            &[arguments, &["--format", "json"]].concat(),
        );
        lines(&text)
    };
    assert_eq!(json(&["count"])[0]["spans"], 503);
    let found = json(&["query", "--search", "session:here"]);
    assert_eq!(found.len(), 3);
    let trace = format!("{:032x}", 7);
    let session = |of: &Value| of["session_id"] == "here";
    let of_session = |found: &[Value]| found.iter().filter(|one| session(one)).count();
    assert_eq!(of_session(&json(&["requests"])), 1);
    assert_eq!(of_session(&json(&["sessions"])), 1);
    assert_eq!(of_session(&json(&["session", "show", "here"])), 3);
    assert_eq!(
        json(&["trace", &trace])[0]["spans"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let sql = "SELECT count(*) AS spans FROM spans";
    assert_eq!(json(&["sql", sql])[0]["spans"], 503);
    assert_eq!(json(&["usage"])[0]["used"], json(&["teams"])[0]["used"]);
    for arguments in [
        &["facets", "level"][..],
        &["top", "name"],
        &["timeline"],
        &["inspect"],
        &["retain"],
        &["compare", "--with", "level = 'error'"],
    ] {
        run(directory.path(), arguments);
    }
    let exported = run(directory.path(), &["export"]);
    assert!(exported.contains("span 7.3"));
    // What was appended since is there, and people are told of what moment they see.
    append(&team, 8, "here", 1);
    let table = output(directory.path(), &["count"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("504"));
    let told = String::from_utf8_lossy(&table.stderr);
    assert!(told.contains("seen as it was at"), "{told}");

    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join("copy").display().to_string();
    for arguments in [
        &["ingest", "-"][..],
        &[
            "session",
            "start",
            "--user",
            "ada",
            "--environment",
            "preview",
        ],
        &["session", "stop", "here"],
        &["quota", "set", "5"],
        &["seal"],
        &["compact"],
        &["retain", "30d"],
        &["forget", "team", "--yes"],
        &["backup", &copy],
        &["check"],
    ] {
        let refused = output(directory.path(), arguments);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("is open elsewhere"), "{arguments:?}: {told}");
    }
    drop((team, store));
    let table = output(directory.path(), &["count"]);
    assert_eq!(table.stderr, b"", "a store that is closed is seen whole");
}

#[test]
fn a_tail_shows_what_another_process_appends() {
    let directory = tempfile::tempdir().unwrap();
    let (store, team) = service(directory.path());
    append(&team, 1, "one", 2);
    // It begins with what comes, so its cursor is asked for first. A cursor belongs to a filter.
    let cursor = |filter: &[&str]| {
        let begin = ["tail", "--timeout", "0", "--format", "json"];
        let begun = lines(&run(directory.path(), &[&begin, filter].concat()));
        assert_eq!(begun.len(), 1);
        begun[0]["next_cursor"].as_str().unwrap().to_owned()
    };
    let follow = |filter: &[&str], arguments: &[&str]| {
        let mut command = spanstore(directory.path());
        command.args(["tail", "--timeout", "120", "--cursor", &cursor(filter)]);
        command.args(filter).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let all = follow(
        &[],
        &["--format", "json", "--limit", "5", "--columns", "name"],
    );
    let some = follow(&["--search", "session:three"], &["--limit", "1"]);
    append(&team, 2, "two", 2);
    store.seal().unwrap();
    append(&team, 3, "three", 3);
    let all = all.wait_with_output().unwrap();
    let all = lines(std::str::from_utf8(&all.stdout).unwrap());
    let names: Vec<_> = all
        .iter()
        .filter_map(|line| line["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["span 2.1", "span 2.2", "span 3.1", "span 3.2", "span 3.3"]
    );
    let next = all[5]["next_cursor"].as_str().unwrap();
    let some = some.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&some.stderr);
    assert!(told.contains("--cursor"), "{told}");
    let some = String::from_utf8(some.stdout).unwrap();
    let shown: Vec<_> = some.lines().collect();
    assert!(shown[0].starts_with("start_time"), "{some}");
    assert_eq!(shown.len(), 4, "{some}");
    assert!(shown[1].contains("span 3.1"), "{some}");
    assert!(!some.contains("│"), "no table can be drawn before its end");

    // Requests, and what came after the first tail has ended.
    append(&team, 4, "four", 1);
    let rest = run(
        directory.path(),
        &[
            "tail",
            "--cursor",
            next,
            "--limit",
            "1",
            "--format",
            "csv",
            "--columns",
            "name",
        ],
    );
    assert_eq!(rest, "name\nspan 4.1\n");
    let of_requests = ["tail", "--requests", "--timeout", "0"];
    run(directory.path(), &of_requests);
    let wrong = output(directory.path(), &["tail", "--cursor", "00"]);
    assert_eq!(wrong.status.code(), Some(1));
}

#[test]
fn a_tail_that_is_interrupted_says_where_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, team) = service(directory.path());
    append(&team, 1, "one", 1);
    let begun = ["tail", "--timeout", "0", "--format", "json"];
    let begun = lines(&run(directory.path(), &begun));
    let cursor = begun[0]["next_cursor"].as_str().unwrap();
    append(&team, 2, "two", 1);
    for signal in ["-INT", "-TERM"] {
        let mut command = spanstore(directory.path());
        command.args(["tail", "--cursor", cursor, "--format", "json"]);
        let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut shown = BufReader::new(tail.stdout.take().unwrap());
        let mut first = String::new();
        shown.read_line(&mut first).unwrap();
        assert_eq!(lines(&first)[0]["name"], "span 2.1");
        let killed = Command::new("kill")
            .args([signal, &tail.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        let mut rest = String::new();
        shown.read_to_string(&mut rest).unwrap();
        assert!(tail.wait().unwrap().success());
        let rest = lines(&rest);
        assert_eq!(rest.len(), 1, "{rest:?}");
        assert_ne!(rest[0]["next_cursor"], cursor);
        assert!(rest[0]["next_cursor"].is_string());
    }
}

#[test]
fn who_waits_for_a_trace_sees_it_when_it_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (store, team) = service(directory.path());
    let wait = |session: &str| {
        let arguments = ["page-trace", "wait", session, "--timeout", "0"];
        output(directory.path(), &arguments)
    };
    let refused = |session: &str, expected: &str| {
        let refused = wait(session);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    append(&team, 1, "one", 2);
    refused("none", "no span of the session is here after 0 s");
    // Another process cannot know when it came, but when it ended.
    append_after(&team, 9, "nine", 1, 0);
    refused("nine", "still come after 0 s");
    let ready = wait("one");
    let shown = String::from_utf8_lossy(&ready.stdout);
    assert!(
        shown.contains("span 1.1") && shown.contains("2 spans"),
        "{shown}"
    );

    let mut waiting = spanstore(directory.path());
    waiting.args(["session", "wait", "two", "--format", "json"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().unwrap();
    append(&team, 2, "two", 3);
    store.seal().unwrap();
    let waited = waiting.wait_with_output().unwrap();
    let requests = lines(std::str::from_utf8(&waited.stdout).unwrap());
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0]["spans"], 3);
}

#[test]
fn teams_are_listed_with_their_quota() {
    let directory = tempfile::tempdir().unwrap();
    let generated = run(
        directory.path(),
        &["generate", "--spans", "40", "--seed", "1"],
    );
    for team in ["acme", "other"] {
        let arguments = ["ingest", "-", "--team", team, "--format", "json"];
        ingest(directory.path(), &arguments, generated.as_bytes());
    }
    run(directory.path(), &["quota", "set", "50", "--team", "other"]);
    let month = |of: &Value| of["month"].as_str().unwrap().to_owned();
    let usage = |team: &str| {
        let found = run(
            directory.path(),
            &["usage", "--team", team, "--format", "json"],
        );
        lines(&found).remove(0)
    };
    let teams = lines(&run(directory.path(), &["teams", "--format", "json"]));
    assert_eq!(teams.len(), 2);
    for (row, team) in teams.iter().zip(["acme", "other"]) {
        let usage = usage(team);
        assert_eq!(row["team"], team);
        assert_eq!(month(row), month(&usage));
        for name in ["used", "limit", "remaining"] {
            assert_eq!(row[name], usage[name], "{name} of {team}");
        }
    }
    assert_eq!(teams[1]["limit"], 50);

    // A wrong name is told, whatever the answer is.
    for (team, is_told) in [("acme", false), ("acmee", true)] {
        let answer = output(directory.path(), &["count", "--team", team]);
        assert!(answer.status.success());
        let told = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(told.contains("no spans of team acmee"), is_told, "{told}");
    }
}
