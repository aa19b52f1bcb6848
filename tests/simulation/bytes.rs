//! Damage to every byte of every file of a small store: it is found, or does no
//! harm. `SPANSTORE_BYTES=all` tries all of it, a number so many samples.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spanstore::io::{FileKind, SimulatedDisk};
use spanstore::{Error, Month, Store, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, open_on, quiet, sessions, team};

const ROOT: &str = "/store";
const TEAMS: [&str; 3] = ["acme", "beta", "zebra"];

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// Bits of the byte at an offset are flipped.
    Flip(usize, u8),
    /// The file ends here.
    Cut(usize),
    /// The sector at an offset is zeros.
    Zero(usize),
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip(offset, bits) => bytes[offset] ^= bits,
            Self::Cut(length) => bytes.truncate(length),
            Self::Zero(offset) => {
                let end = bytes.len().min(offset + 512);
                bytes[offset..end].fill(0);
            }
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Found,
    Harmless,
    Silent(String),
    Panicked,
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A closed store with something in every kind of file.
fn small_store() -> Files {
    let disk = SimulatedDisk::seeded(7);
    let store = open_on(Arc::new(disk.clone()), ROOT, quiet()).unwrap();
    let append = |name: &str, spans: std::ops::Range<u64>| {
        let batch = request(spans.map(|n| {
            let mut span = span(n);
            if n % 4 == 3 {
                span.start_time_unix_nano -= 16 * 86_400_000_000_000;
                span.end_time_unix_nano = span.start_time_unix_nano + 7;
            }
            span
        }));
        store.team(&team(name)).append(batch).unwrap();
    };
    append("acme", 0..30);
    append("beta", 0..10);
    store.seal().unwrap();
    store.flush().unwrap();
    store.team(&team("acme")).set_quota(Some(500)).unwrap();
    let beta = store.team(&team("beta"));
    beta.forget_trace(TraceId(trace_id(0))).unwrap();
    append("acme", 30..45);
    append("zebra", 0..8);
    drop(beta);
    store.close().unwrap();
    let paths = disk.paths();
    let file = |path: PathBuf| disk.bytes_of(&path).map(|bytes| (path, bytes));
    paths.into_iter().filter_map(file).collect()
}

/// All that the store answers.
fn answers(files: &Files) -> Result<String, Error> {
    let files = files.iter();
    let disk =
        SimulatedDisk::with_files(files.map(|(path, bytes)| (path.as_path(), bytes.as_slice())));
    let mut options = quiet();
    options.create = false;
    let store: Store = open_on(Arc::new(disk), ROOT, options)?;
    let mut text = String::new();
    let mut add = |what: &dyn std::fmt::Debug| writeln!(text, "{what:?}").unwrap();
    for name in TEAMS {
        let handle = store.team(&team(name));
        let mut rows = Vec::new();
        for chunk in handle.export()? {
            rows.extend(chunk?.rows()?);
        }
        rows.sort_by_key(|row| (row.start_nanos, row.span_id.0));
        add(&rows);
        for month in [Month::of(NOW), Month::of(NOW - 16 * 86_400_000_000_000)] {
            let usage = handle.usage(month)?;
            add(&(usage.used, usage.limit));
        }
        add(&sessions(&handle)?);
        add(&handle.trace(TraceId(trace_id(1)))?.rows()?);
        add(&handle.session_spans("session-0")?.rows()?);
    }
    let report = store.check()?;
    if let Some(damage) = report.damage.first() {
        return Err(Error::NotFound {
            path: format!("{damage:?}"),
        });
    }
    add(&(report.rows, report.hot_rows));
    store.close()?;
    Ok(text)
}

fn try_damage(files: &Files, path: &Path, damage: Damage, expected: &str) -> Outcome {
    let mut files = files.clone();
    if let Some(bytes) = files.get_mut(path) {
        damage.apply(bytes);
    }
    match catch_unwind(AssertUnwindSafe(|| answers(&files))) {
        Err(_) => Outcome::Panicked,
        Ok(Err(_)) => Outcome::Found,
        Ok(Ok(found)) if found == expected => Outcome::Harmless,
        Ok(Ok(found)) => {
            let lines = found.lines().zip(expected.lines());
            let first = { lines }.find(|(one, other)| one != other);
            let first = first.map(|(one, _)| one.chars().take(200).collect());
            Outcome::Silent(first.unwrap_or_default())
        }
    }
}

/// Every damage to a file, or some by seed.
fn damages(random: &mut ChaCha8Rng, files: &Files) -> Vec<(PathBuf, Damage)> {
    let wanted = std::env::var("SPANSTORE_BYTES").unwrap_or_default();
    if wanted == "all" {
        let mut all = Vec::new();
        for (path, bytes) in files {
            for offset in 0..bytes.len() {
                let bits = 1 << random.random_range(0..8);
                all.push((path.clone(), Damage::Flip(offset, bits)));
                all.push((path.clone(), Damage::Cut(offset)));
            }
            let sectors = (0..bytes.len()).step_by(512);
            all.extend(sectors.map(|offset| (path.clone(), Damage::Zero(offset))));
        }
        return all;
    }
    let samples = wanted.parse().unwrap_or(10_000);
    let paths: Vec<&PathBuf> = files.keys().collect();
    let mut some = Vec::with_capacity(samples);
    for _ in 0..samples {
        let path = *paths.choose(random).unwrap();
        let length = files[path].len();
        let offset = random.random_range(0..length);
        let damage = match random.random_range(0..10) {
            0..6 => Damage::Flip(offset, random.random_range(1..=255)),
            6..8 => Damage::Cut(offset),
            _ => Damage::Zero(offset / 512 * 512),
        };
        some.push((path.clone(), damage));
    }
    some
}

#[test]
fn damage_is_found_or_does_no_harm() {
    super::without_panic_messages();
    let wrong = silent_damages();
    assert!(
        wrong.is_empty(),
        "{} of them, such as {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(10)]
    );
}

/// Damages that nothing notices and that change answers, and panics.
pub(crate) fn silent_damages() -> Vec<String> {
    let files = small_store();
    let expected = answers(&files).unwrap();
    let seed = super::number("SPANSTORE_SEED").unwrap_or(0);
    let all = damages(&mut ChaCha8Rng::seed_from_u64(seed), &files);
    let next = AtomicUsize::new(0);
    let outcomes = std::sync::Mutex::new(BTreeMap::<_, u64>::new());
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            std::thread::Builder::new()
                .name("damage".into())
                .spawn_scoped(scope, || {
                    while let Some((path, damage)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = try_damage(&files, path, *damage, &expected);
                        let kind = FileKind::of(path);
                        let is_wrong = matches!(outcome, Outcome::Silent(_) | Outcome::Panicked);
                        if is_wrong {
                            let mut wrong = wrong.lock().unwrap();
                            wrong.push(format!("{}: {damage:?}: {outcome:?}", path.display()));
                        }
                        let outcome = match outcome {
                            Outcome::Silent(_) => Outcome::Silent(String::new()),
                            other => other,
                        };
                        *outcomes.lock().unwrap().entry((kind, outcome)).or_default() += 1;
                    }
                })
                .unwrap();
        }
    });
    println!(
        "{} damages to files of {:?} bytes",
        all.len(),
        files.values().map(Vec::len).collect::<Vec<_>>()
    );
    println!("{:#?}", outcomes.lock().unwrap());
    wrong.into_inner().unwrap()
}
