//! Sessions on the command line.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::path::Path;

use serde_json::Value;

use support::{output, run, sample};

fn lines(store: &Path, arguments: &[&str]) -> Vec<Value> {
    let lines = run(store, &[arguments, &["--format", "json"]].concat());
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

fn one(store: &Path, arguments: &[&str]) -> Value {
    let mut lines = lines(store, arguments);
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn sessions_are_started_listed_restarted_and_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path();
    let start = ["session", "start", "--user", "ada", "--environment"];
    let host = ["preview", "--host", "shop.example.com"];
    let first = one(store, &[&start[..], &host].concat());
    let first_id = first["session_id"].as_str().unwrap();
    assert_eq!(first["kind"], "session");
    assert_eq!(first["host"], "shop.example.com");
    assert_eq!(first["browser"], Value::Null);
    assert_eq!(first["stopped_time"], Value::Null);
    assert_eq!(first["state"], "open");
    let open = ["sessions", "--search", "user:ada state:open"];
    assert_eq!(lines(store, &open), std::slice::from_ref(&first));

    let second = one(store, &["session", "restart", first_id]);
    assert_eq!(second["predecessor"], first_id);
    assert_eq!(second["host"], "shop.example.com");
    assert_eq!(lines(store, &open), std::slice::from_ref(&second));
    let stopped = one(
        store,
        &["session", "stop", second["session_id"].as_str().unwrap()],
    );
    assert!(stopped["stopped_time"].is_string());
    assert!(lines(store, &open).is_empty());
    let page = one(
        store,
        &[
            "page-trace",
            "start",
            "--user",
            "ada",
            "--environment",
            "production",
        ],
    );
    assert_eq!(page["kind"], "page_trace");
    let all = lines(store, &["sessions"]);
    assert_eq!(all.len(), 3);
    assert_eq!((&all[0], &all[1]), (&page, &stopped));

    let unknown = output(store, &["session", "stop", "unknown"]);
    assert_eq!(unknown.status.code(), Some(1));
    let errors = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        errors.contains("no session \"unknown\" was started here"),
        "{errors}"
    );
    let local = output(store, &[&start[..], &["development"]].concat());
    assert_eq!(local.status.code(), Some(2));
}

#[test]
fn a_user_is_forgotten_with_what_was_started_and_traced() {
    let sample = sample(500);
    let store = sample.path();
    let with_user = ["query", "--filter", "user_id is not null", "--limit", "1"];
    let user = lines(store, &with_user)[0]["user_id"].clone();
    let user = user.as_str().unwrap();
    one(
        store,
        &[
            "session",
            "start",
            "--user",
            user,
            "--environment",
            "preview",
        ],
    );
    let count = || one(store, &["count"])["spans"].as_u64().unwrap();
    let forget = ["forget", "user", user, "--format", "json"];
    let refused = output(store, &forget);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(count(), 500, "nobody said yes");
    let report = one(store, &["forget", "user", user, "--yes"]);
    let gone = report["spans"].as_u64().unwrap();
    assert!(gone > 0 && gone < 500, "{report}");
    assert_eq!(count(), 500 - gone);
    let filter = format!("user_id = '{user}'");
    assert!(lines(store, &["sessions", "--filter", &filter]).is_empty());
    assert!(lines(store, &["query", "--filter", &filter]).is_empty());
}

#[test]
fn the_spans_of_a_session_are_shown() {
    let sample = sample(500);
    let store = sample.path();
    let sessions = lines(store, &["sessions", "--limit", "1", "--order", "spans"]);
    let [session, cursor] = sessions.as_slice() else {
        panic!("{sessions:?}")
    };
    assert!(cursor["next_cursor"].is_string(), "{cursor}");
    let id = session["session_id"].as_str().unwrap();
    let spans = lines(store, &["session", "show", id]);
    assert_eq!(spans.len() as u64, session["spans"].as_u64().unwrap());
    assert!(lines(store, &["session", "show", "unknown"]).is_empty());
}
