//! A real process is killed while it appends and seals; every span that it
//! had acknowledged is found once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use spanstore::{Store, StoreOptions};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_with, quiet, team};

const ROUNDS: u64 = 50;
const BATCH: u64 = 20;
const DIRECTORY: &str = "SPANSTORE_TEST_CHILD_DIRECTORY";
const FIRST: &str = "SPANSTORE_TEST_CHILD_FIRST";

fn options() -> StoreOptions {
    // Small enough that kills meet seals.
    StoreOptions {
        seal_rows: 700,
        ..quiet()
    }
}

/// Not a test of its own: what the child process runs until it is killed. Two
/// threads append batches and say which were acknowledged.
#[test]
fn child() {
    let (Ok(directory), Ok(first)) = (std::env::var(DIRECTORY), std::env::var(FIRST)) else {
        return;
    };
    let first: u64 = first.parse().unwrap();
    let store = open_with(Path::new(&directory), options());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let acme = store.team(&team("acme"));
            scope.spawn(move || {
                for number in (first + thread..).step_by(2) {
                    let spans = (number * BATCH..(number + 1) * BATCH).map(span);
                    let receipt = acme.append(request(spans)).unwrap();
                    let mut out = std::io::stdout().lock();
                    // A batch that the parent saw no word of may be there already.
                    let known = receipt.accepted + receipt.duplicates;
                    writeln!(out, "\nacknowledged {number} {known}").unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

/// Runs a child, kills it after some acknowledgements, and answers all that
/// it gave.
fn run_and_kill(directory: &Path, first: u64, after: usize) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        if let Some(rest) = line.strip_prefix("acknowledged ") {
            let (number, known) = rest.split_once(' ').unwrap();
            assert_eq!(known, BATCH.to_string());
            acknowledged.push(number.parse().unwrap());
        }
        if acknowledged.len() >= after && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(!child.wait().unwrap().success());
    acknowledged
}

fn spans_of(store: &Store) -> Vec<u64> {
    let mut found = Vec::new();
    for spans in store.team(&team("acme")).export().unwrap() {
        for batch in spans.unwrap().batches() {
            use arrow::array::AsArray;
            let ids = batch
                .column_by_name("span_id")
                .unwrap()
                .as_fixed_size_binary()
                .clone();
            found.extend(
                ids.iter()
                    .flatten()
                    .map(|id| u64::from_be_bytes(id.try_into().unwrap()) - 1),
            );
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn every_acknowledged_span_is_found_once_after_each_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut next = 0;
    for round in 0..ROUNDS {
        let after = 1 + (round * 7 % 23) as usize;
        let new = run_and_kill(directory.path(), next, after);
        assert!(
            new.len() >= after,
            "round {round}: the child died by itself"
        );
        // Numbers that were under way are not used again: what a seal has taken
        // in is no duplicate any more.
        next = new.iter().max().unwrap() + 10;
        acknowledged.extend(new);

        let store = open_with(directory.path(), options());
        let found = spans_of(&store);
        let mut once = found.clone();
        once.dedup();
        assert_eq!(
            once.len(),
            found.len(),
            "round {round}: a span is there twice"
        );
        for batch in &acknowledged {
            for n in batch * BATCH..(batch + 1) * BATCH {
                assert!(
                    found.binary_search(&n).is_ok(),
                    "round {round}: span {n} is lost"
                );
            }
        }
        // What was not acknowledged is there as a whole batch or not at all.
        for batch in found.chunk_by(|one, next| one / BATCH == next / BATCH) {
            assert_eq!(batch.len() as u64, BATCH, "round {round}");
        }
        if round % 10 == 9 {
            assert_eq!(store.check().unwrap().damage, [], "round {round}");
        }
    }
}
