//! How many instructions the hot paths take, as callgrind (valgrind) counts them: nearly the
//! same on every run, whatever else the machine does.
//!
//! `cargo bench -p spanstore-benches --bench instructions` compares with
//! `benches/instructions.tsv`, and fails where a path takes 5 % more. `-- --write` writes the
//! file. Counts depend on the compiler and the processor, so a comparison holds where the
//! file was written on the same machine.
//!
//! All paths run in one process in callgrind, which writes down what all threads took
//! whenever [`end_of_path`] is called.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::collections::HashMap;
use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;

use spanstore::{Durability, Store, StoreOptions, Team, TraceId};
use spanstore_benches::questions::{QUESTIONS, constants};
use spanstore_benches::{append, bodies, by_hand, machine, newest_first, open, team};

/// Spans of the stores that are read.
const SPANS: u64 = 20_000;
/// How often a path is counted, after it ran once.
const TIMES: usize = 8;
/// Instructions more than were recorded that are worth a look: in percent, and in all. How
/// work is dealt out among threads differs from run to run.
const TOLERATED: f64 = 5.0;
const TOLERATED_IN_ALL: u64 = 10_000;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.tsv");
/// The name of the process that callgrind watches.
const WATCHED: &str = "--watched";

fn main() {
    let is_asked = |word: &str| std::env::args().any(|argument| argument == word);
    if is_asked(WATCHED) {
        all_paths(&mut |_, run| {
            run();
            end_of_path();
            (0..TIMES).for_each(|_| run());
            end_of_path();
        });
    } else if is_asked("--bench") {
        // `cargo test --benches` runs this too; it is no test.
        let counts = counted();
        if is_asked("--write") {
            write(&counts);
        } else {
            compare(&counts);
        }
    }
}

/// Where callgrind writes down what was taken since it did so last.
#[inline(never)]
fn end_of_path() {
    black_box(());
}

/// Instructions of each path, one time.
fn counted() -> Vec<(String, u64)> {
    let directory = machine::directory();
    let out = directory.path().join("counts");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--dump-before=*end_of_path*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .arg(WATCHED)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "valgrind runs the paths"
    );
    let mut names = Vec::new();
    all_paths(&mut |name, _| names.push(name.to_owned()));
    let count = |(number, name): (usize, String)| {
        // Each path ends twice: once it ran to warm up.
        let dump = format!("{}.{}", out.display(), 2 * number + 2);
        let text = std::fs::read_to_string(dump).unwrap();
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: u64 = total.unwrap().trim().parse().unwrap();
        (name, total / TIMES as u64)
    };
    names.into_iter().enumerate().map(count).collect()
}

fn write(counts: &[(String, u64)]) {
    let mut text = String::new();
    for (name, count) in counts {
        writeln!(text, "{name}\t{count}").unwrap();
    }
    std::fs::write(RECORDED, text).unwrap();
}

fn compare(counts: &[(String, u64)]) {
    let recorded = std::fs::read_to_string(RECORDED).unwrap();
    let recorded = recorded.lines().filter_map(|line| line.split_once('\t'));
    let recorded: HashMap<&str, u64> = recorded
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    let mut more = Vec::new();
    println!("| path | instructions | recorded | change |\n|---|---:|---:|---:|");
    for (name, count) in counts {
        let Some(before) = recorded.get(name.as_str()) else {
            println!("| {name} | {count} | | |");
            continue;
        };
        let change = (*count as f64 / *before as f64 - 1.0) * 100.0;
        println!("| {name} | {count} | {before} | {change:+.1} % |");
        if change > TOLERATED && count - before > TOLERATED_IN_ALL {
            more.push(name);
        }
    }
    assert!(more.is_empty(), "more instructions than recorded: {more:?}");
}

type Take<'a> = &'a mut dyn FnMut(&str, &mut dyn FnMut());

/// Hands out each path with its name.
fn all_paths(take: Take<'_>) {
    writes(take);
    for (state, is_sealed) in [("unsealed", false), ("sealed", true)] {
        let (_directory, store) = new_store();
        let team = store.team(&team());
        append(&team, &bodies(SPANS, 500));
        if is_sealed {
            store.seal().unwrap();
        } else {
            store.maintain().unwrap();
        }
        reads(state, &team, take);
    }
}

fn new_store() -> (tempfile::TempDir, Store) {
    let directory = machine::directory();
    let options = StoreOptions {
        durability: Durability::None,
        ..by_hand()
    };
    let store = open(directory.path(), options);
    (directory, store)
}

fn writes(take: Take<'_>) {
    for spans in [3, 50, 500] {
        let (_directory, store) = new_store();
        let team = store.team(&team());
        let bodies = bodies((TIMES as u64 + 1) * spans as u64, spans);
        let mut bodies = bodies.iter();
        take(&format!("append, {spans} spans"), &mut || {
            append(&team, bodies.next());
        });
    }
    let bodies = bodies(10_000, 500);
    let seal = |store: &Store, part: &[Vec<u8>]| {
        append(&store.team(&team()), part);
        store.seal().unwrap();
    };
    take("append and seal, 10,000 spans", &mut || {
        seal(&new_store().1, &bodies);
    });
    take(
        "append, seal and merge, 8 segments of 1,250 spans",
        &mut || {
            let (_directory, store) = new_store();
            bodies
                .chunks(bodies.len().div_ceil(8))
                .for_each(|part| seal(&store, part));
            store.compact().unwrap();
        },
    );
}

fn reads(state: &str, team: &Team, take: Take<'_>) {
    let rows = newest_first(team);
    let mut traces = rows.iter().map(|row| row.trace_id).step_by(97);
    take(&format!("{state}: trace"), &mut || {
        black_box(team.trace(traces.next().unwrap()).unwrap());
    });
    take(&format!("{state}: absent trace"), &mut || {
        black_box(team.trace(TraceId([7; 16])).unwrap());
    });
    let mut sessions = rows
        .iter()
        .filter_map(|row| row.session_id.as_ref())
        .step_by(97);
    take(&format!("{state}: session"), &mut || {
        black_box(team.session_spans(sessions.next().unwrap()).unwrap());
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let constants = constants(&rows);
    for question in QUESTIONS {
        let mut constants = constants.iter().cycle();
        take(&format!("{state}: {}", question.name), &mut || {
            black_box(question.ask(&runtime, team, constants.next().unwrap()));
        });
    }
}
