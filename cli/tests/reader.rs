//! The reader in Python, which shares no code with the store, finds what the store finds.
//! Runs where `python3` has pyarrow.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{run, sample};

const SPANS: u64 = 20_000;
const TEAM: &str = "default";

/// Whether `python3` can run the reader; says so when it cannot.
fn has_pyarrow() -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", "import pyarrow"]).stderr(Stdio::null());
    let has = command.status().is_ok_and(|status| status.success());
    if !has {
        eprintln!("skipped: there is no python3 with pyarrow");
    }
    has
}

fn reader(command: &str, place: &Path, rest: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/reader.py");
    let mut python = Command::new("python3");
    python.arg(program).arg(command).arg(place).args(rest);
    python.output().unwrap()
}

/// The lines that the reader prints.
fn lines(command: &str, place: &Path, rest: &[&str]) -> Vec<Value> {
    let output = reader(command, place, rest);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {rest:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn segments(store: &Path) -> Vec<PathBuf> {
    let months = std::fs::read_dir(store.join("segments")).unwrap();
    let files = months.flat_map(|month| std::fs::read_dir(month.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

fn queried(store: &Path) -> Vec<Value> {
    let text = run(store, &["query", "--format", "json"]);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_trace_and_facets_are_read_from_the_format_alone() {
    if !has_pyarrow() {
        return;
    }
    let directory = sample(SPANS);
    let store = directory.path();
    run(store, &["seal"]);
    let segments = segments(store);
    let rows = queried(store);
    let ids: BTreeSet<&str> = rows
        .iter()
        .map(|row| row["trace_id"].as_str().unwrap())
        .collect();
    for id in ids.iter().step_by(ids.len() / 12) {
        let of_store = run(store, &["trace", "--format", "json", id]);
        let of_store: Value = serde_json::from_str(&of_store).unwrap();
        let of_store = of_store["spans"].as_array().unwrap();
        let mut of_reader = Vec::new();
        for segment in &segments {
            of_reader.extend(lines("trace", segment, &[TEAM, id]));
        }
        assert_eq!(of_reader.len(), of_store.len(), "{id}");
        for mut row in of_reader {
            row.as_object_mut().unwrap().remove("row").unwrap();
            assert!(of_store.contains(&row), "{row}");
        }
    }
    for column in ["level", "service", "status_code", "attributes.db.system"] {
        let mut of_store: BTreeMap<String, u64> = BTreeMap::new();
        for row in &rows {
            let value = match column.strip_prefix("attributes.") {
                Some(key) => row["attributes"].get(key).unwrap_or(&Value::Null),
                None => &row[column],
            };
            *of_store.entry(value.to_string()).or_default() += 1;
        }
        let mut of_reader: BTreeMap<String, u64> = BTreeMap::new();
        for segment in &segments {
            for line in lines("facets", segment, &[TEAM, column]) {
                let count = line["count"].as_u64().unwrap();
                if count > 0 {
                    *of_reader.entry(line["value"].to_string()).or_default() += count;
                }
            }
        }
        assert!(of_store.len() > 1, "{column}");
        assert_eq!(of_reader, of_store, "{column}");
    }
}

#[test]
fn the_log_is_read_from_the_format_alone() {
    if !has_pyarrow() {
        return;
    }
    let directory = sample(SPANS);
    let records = lines("log", &directory.path().join("log"), &[]);
    let mut accepted = 0;
    for (record, sequence) in records.iter().zip(1..) {
        assert_eq!(record["sequence"], sequence);
        assert_eq!(record["kind"], "spans");
        assert_eq!(record["team"], TEAM);
        let left_out = record["left_out"].as_array().unwrap().len() as u64;
        accepted += record["spans"].as_u64().unwrap() - left_out;
    }
    assert_eq!(accepted, SPANS);
}

#[test]
fn damage_is_told() {
    if !has_pyarrow() {
        return;
    }
    let directory = sample(1_000);
    let store = directory.path();
    let log = store.join("log");
    let file = std::fs::read_dir(&log)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&file).unwrap();
    // The file's header: without the catalog, damage at the end looks like a torn write.
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let output = reader("log", &log, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("damage: "));

    let directory = sample(1_000);
    let store = directory.path();
    run(store, &["seal"]);
    let segment = segments(store).remove(0);
    let id = queried(store)[0]["trace_id"].as_str().unwrap().to_owned();
    let mut bytes = std::fs::read(&segment).unwrap();
    let tail = bytes.len() - 100;
    bytes[tail] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = reader("trace", &segment, &[TEAM, &id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("damage: "));
}
