//! A store that is read alone, beside the one that is written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::join;
use spanstore::io::{RealDisk, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::query::Tail;
use spanstore::{
    Error, Month, NewSession, ReadBy, Store, StoreOptions, Team, TraceId, TraceStatus,
};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, open, open_on, open_with, quiet, segment_path, team};

fn alone() -> StoreOptions {
    StoreOptions {
        read_only: true,
        trace_quiet_time: Duration::ZERO,
        ..quiet()
    }
}

fn append(store: &Store, spans: impl IntoIterator<Item = Span>) {
    let receipt = store.team(&team("acme")).append(request(spans)).unwrap();
    assert!(receipt.accepted > 0 && receipt.refused.is_empty());
}

/// The numbers of the spans that team acme has.
fn numbers(store: &Store) -> Vec<u64> {
    let spans = block_on(store.team(&team("acme")).query().spans()).unwrap();
    let rows = spans.rows().unwrap();
    let numbers = rows.iter().map(|row| u64::from_be_bytes(row.span_id.0) - 1);
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

/// All files of a directory, with what they hold.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.insert(path.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn it_shows_what_was_acknowledged_while_another_writes() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, (0..5).map(span));
    writing.seal().unwrap();
    append(&writing, (5..9).map(span));
    let before = files(directory.path());
    let reading = open_with(directory.path(), alone());
    assert_eq!(numbers(&reading), (0..9).collect::<Vec<_>>());
    assert_eq!(reading.recovered().log_records, 1);
    assert!(!reading.recovered().is_settled, "the store was not closed");
    let used = |store: &Store| {
        store
            .team(&team("acme"))
            .usage(Month::of(NOW))
            .unwrap()
            .used
    };
    assert_eq!(used(&reading), 9);

    // What comes is seen when it is looked for.
    append(&writing, (9..12).map(span));
    append(&writing, (12..14).map(span));
    assert_eq!(numbers(&reading).len(), 9);
    assert!(reading.refresh().unwrap());
    assert_eq!(numbers(&reading), (0..14).collect::<Vec<_>>());
    assert_eq!(used(&reading), 14);
    assert!(reading.refresh().unwrap());
    assert!(writing.refresh().unwrap(), "it is always up to date");

    // A seal takes files of the log away. What was read stays.
    writing.seal().unwrap();
    append(&writing, [span(14)]);
    assert!(!reading.refresh().unwrap());
    assert_eq!(numbers(&reading), (0..14).collect::<Vec<_>>());
    drop(reading);
    let again = open_with(directory.path(), alone());
    assert_eq!(numbers(&again), (0..15).collect::<Vec<_>>());
    drop((again, writing));
    let closed = files(directory.path());
    let reading = open_with(directory.path(), alone());
    assert_eq!(numbers(&reading).len(), 15);
    assert!(reading.recovered().is_settled);
    drop(reading);
    assert_eq!(files(directory.path()), closed, "nothing is changed");
    assert!(before.keys().all(|name| !name.contains("unfinished")));
}

#[test]
fn nothing_can_be_changed_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, (0..5).map(span));
    let before = files(directory.path());
    let reading = open_with(directory.path(), alone());
    let acme = reading.team(&team("acme"));
    let new = || NewSession {
        environment: "preview".into(),
        ..NewSession::default()
    };
    let copy = tempfile::tempdir().unwrap();
    let attempts: Vec<(&str, Result<(), Error>)> = vec![
        ("append", acme.append(request([span(9)])).map(drop)),
        ("try_append", acme.try_append(request([span(9)])).map(drop)),
        (
            "append_async",
            block_on(acme.append_async(request([span(9)]))).map(drop),
        ),
        ("start_session", acme.start_session(new()).map(drop)),
        ("start_page_trace", acme.start_page_trace(new()).map(drop)),
        ("stop_session", acme.stop_session("any").map(drop)),
        ("restart_session", acme.restart_session("any").map(drop)),
        ("set_quota", acme.set_quota(Some(1))),
        ("set_retention of a team", acme.set_retention(None)),
        ("forget", acme.forget()),
        ("set_plan", acme.set_plan(spanstore::Plan::Pro)),
        ("forget_user", acme.forget_user("ada")),
        ("forget_trace", acme.forget_trace(TraceId(trace_id(0)))),
        ("seal", reading.seal().map(drop)),
        ("compact", reading.compact().map(drop)),
        ("maintain", reading.maintain().map(drop)),
        ("erase", reading.erase().map(drop)),
        ("set_retention", reading.set_retention(None)),
        ("accept_clock", reading.accept_clock()),
        ("backup", reading.backup(copy.path())),
        ("flush", reading.flush()),
        ("check", reading.check().map(drop)),
    ];
    for (what, done) in attempts {
        assert!(matches!(done, Err(Error::ReadOnly)), "{what}: {done:?}");
    }
    assert!(reading.health().is_healthy(), "{:?}", reading.health());
    assert_eq!(numbers(&reading), (0..5).collect::<Vec<_>>());
    drop(acme);
    reading.close().unwrap();
    assert_eq!(files(directory.path()), before);
    append(&writing, [span(5)]);
}

#[test]
fn replaced_segments_stay_readable() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    for part in 0..3 {
        append(&writing, (part * 5..part * 5 + 5).map(span));
        writing.seal().unwrap();
    }
    let old = writing.segments();
    let reading = open_with(directory.path(), alone());
    let by_pread = open_with(
        directory.path(),
        StoreOptions {
            read_by: ReadBy::Pread,
            ..alone()
        },
    );
    assert_eq!(writing.compact().unwrap().segments_after, 1);
    for summary in &old {
        assert!(!directory.path().join(segment_path(summary)).exists());
    }
    assert_eq!(numbers(&reading), (0..15).collect::<Vec<_>>());
    let error = block_on(by_pread.team(&team("acme")).query().spans()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

/// Something is committed at each moment of a copy.
#[test]
fn what_changes_while_it_is_copied_is_copied_again() {
    type Plan = fn(&InterruptedDisk, Box<dyn FnOnce() + Send>);
    let moments: [(&str, Plan); 5] = [
        ("before the catalog", |disk, change| {
            disk.after_open("catalog.sums", change);
        }),
        ("in the catalog", |disk, change| {
            disk.after_open("catalog.redb", change);
        }),
        ("before the log", |disk, change| {
            disk.before_list("log", change);
        }),
        ("in the log", |disk, change| {
            disk.after_open("00000000000000000003.log", change);
        }),
        ("before the segments", |disk, change| {
            disk.before_map(change);
        }),
    ];
    for (moment, plan) in moments {
        for is_sealed in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let writing = Arc::new(open(directory.path()));
            for part in 0..2 {
                append(&writing, (part * 5..part * 5 + 5).map(span));
                writing.seal().unwrap();
            }
            append(&writing, (10..15).map(span));
            let disk = InterruptedDisk::default();
            let changing = Arc::clone(&writing);
            let change = move || {
                if is_sealed {
                    changing.seal().unwrap();
                } else {
                    changing.compact().unwrap();
                }
            };
            plan(&disk, Box::new(change));
            let reading = open_on(Arc::new(disk.clone()), directory.path(), alone());
            let reading = reading.unwrap();
            assert!(!disk.is_planned(), "{moment}");
            assert_eq!(numbers(&reading), (0..15).collect::<Vec<_>>(), "{moment}");
        }
    }
}

/// A file of the log is begun and the one before is gone while a seal goes on.
#[test]
fn a_seal_that_is_followed_is_told_when_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let disk = InterruptedDisk::default();
    let writing = open_on(Arc::new(disk.clone()), directory.path(), quiet()).unwrap();
    append(&writing, [span(0)]);
    let reading = open_with(directory.path(), alone());
    append(&writing, [span(1)]);
    let following = reading.clone();
    disk.after_new_files(0, move || assert!(following.refresh().unwrap()));
    writing.seal().unwrap();
    assert!(!disk.is_planned());
    assert_eq!(numbers(&reading), [0, 1]);
    append(&writing, [span(2)]);
    assert!(!reading.refresh().unwrap(), "rows are sealed by now");
    assert_eq!(numbers(&reading), [0, 1, 2]);
    assert!(!reading.refresh().unwrap());
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Readers open the store all the time while it is written, sealed and merged.
#[test]
fn readers_see_each_acknowledged_span_once_whatever_the_writer_does() {
    const BATCHES: u64 = 150;
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, [span(0)]);
    // Batches that were begun, and that were acknowledged.
    let (begun, acknowledged) = (AtomicU64::new(1), AtomicU64::new(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Readers end also when the writer fails.
            let _end = OnDrop(|| acknowledged.store(u64::MAX, Ordering::SeqCst));
            for batch in 1..=BATCHES {
                begun.store(batch + 1, Ordering::SeqCst);
                append(&writing, [span(batch)]);
                acknowledged.store(batch + 1, Ordering::SeqCst);
                if batch % 4 == 0 {
                    writing.seal().unwrap();
                }
                if batch % 20 == 0 {
                    writing.compact().unwrap();
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let known = acknowledged.load(Ordering::SeqCst);
                    if known > BATCHES {
                        break;
                    }
                    let reading = open_with(directory.path(), alone());
                    let found = numbers(&reading);
                    let most = begun.load(Ordering::SeqCst);
                    let count = found.len() as u64;
                    assert!(
                        (known..=most).contains(&count),
                        "{known} to {most}: {count}"
                    );
                    assert_eq!(found, (0..count).collect::<Vec<_>>());
                    let known = acknowledged.load(Ordering::SeqCst).min(BATCHES + 1);
                    let is_all = reading.refresh().unwrap();
                    let later = numbers(&reading);
                    let least = if is_all { known } else { count };
                    assert!(later.len() as u64 >= least, "{least}: {later:?}");
                    assert_eq!(later, (0..later.len() as u64).collect::<Vec<_>>());
                }
            });
        }
    });
}

fn given(tail: &mut Tail) -> Vec<u64> {
    let arrivals = block_on(tail.next()).unwrap();
    let ids = arrivals.rows.column_by_name("span_id").unwrap();
    let ids = arrow::array::AsArray::as_fixed_size_binary(ids);
    let ids = ids.iter().flatten();
    ids.map(|id| u64::from_be_bytes(id.try_into().unwrap()) - 1)
        .collect()
}

#[test]
fn a_tail_goes_on_over_refreshes_and_opens() {
    let disk = SimulatedDisk::new();
    let writing = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    append(&writing, [span(0)]);
    let open = || open_on(Arc::new(disk.clone()), "/store", alone()).unwrap();
    let reading = open();
    let acme = |store: &Store| store.team(&team("acme"));
    let mut tail = acme(&reading).query().tail().unwrap();
    // It is woken by a refresh.
    let (given_first, ()) = block_on(join(tail.next(), async {
        append(&writing, [span(1), span(2)]);
        assert!(reading.refresh().unwrap());
    }));
    assert_eq!(given_first.unwrap().rows.num_rows(), 2);
    append(&writing, [span(3)]);
    assert!(reading.refresh().unwrap());
    assert_eq!(given(&mut tail), [3]);
    append(&writing, [span(4)]);
    writing.seal().unwrap();
    append(&writing, [span(5)]);
    assert!(!reading.refresh().unwrap());
    let cursor = tail.cursor();
    drop((tail, reading));
    let reading = open();
    let mut tail = acme(&reading).query().tail_from(&cursor).unwrap();
    let mut found = given(&mut tail);
    while found.len() < 2 {
        found.extend(given(&mut tail));
    }
    assert_eq!(found, [4, 5]);
    // One that waits is told when the store is closed.
    let (ended, ()) = block_on(join(tail.next(), async { reading.close().unwrap() }));
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}

#[test]
fn who_waits_for_a_trace_is_woken_by_a_refresh() {
    let disk = SimulatedDisk::new();
    let writing = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    append(&writing, [span(20)]);
    let patient = StoreOptions {
        trace_quiet_time: Duration::from_hours(1),
        ..alone()
    };
    let patient = open_on(Arc::new(disk.clone()), "/store", patient).unwrap();
    let reading = open_on(Arc::new(disk), "/store", alone()).unwrap();
    let acme = reading.team(&team("acme"));
    let wait = |team: Team| async move {
        let trace = TraceId(trace_id(0));
        team.wait_for_trace(trace, Duration::from_mins(10)).await
    };
    let (status, ()) = block_on(join(wait(acme), async {
        append(&writing, [span(0)]);
        assert!(reading.refresh().unwrap());
    }));
    assert_eq!(status.unwrap(), TraceStatus::Ready);
    assert!(patient.refresh().unwrap());
    let status = |n| {
        let seen = patient.team(&team("acme"));
        seen.trace_status(TraceId(trace_id(n))).unwrap()
    };
    assert_eq!(status(2), TraceStatus::Ready, "it was there before");
    assert!(matches!(
        status(0),
        TraceStatus::Partial { has_root: true, .. }
    ));
}

#[test]
fn sessions_settings_and_what_was_forgotten_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, (0..20).map(span));
    let acme = writing.team(&team("acme"));
    let new = || NewSession {
        user: "ada".into(),
        environment: "preview".into(),
        ..NewSession::default()
    };
    let sealed = acme.start_session(new()).unwrap();
    writing.seal().unwrap();
    let unsealed = acme.start_session(new()).unwrap();
    acme.stop_session(&sealed.id).unwrap();
    acme.set_quota(Some(77)).unwrap();
    acme.forget_trace(TraceId(trace_id(1))).unwrap();
    let reading = open_with(directory.path(), alone());
    let seen = reading.team(&team("acme"));
    assert_eq!(reading.teams().unwrap(), writing.teams().unwrap());
    assert_eq!(numbers(&reading), (0..10).collect::<Vec<_>>());
    assert_eq!(seen.usage(Month::of(NOW)).unwrap().limit, 77);
    let active = seen.active_sessions("ada").unwrap();
    assert_eq!(active, [unsealed]);
    let stopped = seen.session(&sealed.id).unwrap().unwrap();
    assert!(!stopped.is_open());
    let later = acme.start_session(new()).unwrap();
    assert!(reading.refresh().unwrap());
    assert_eq!(seen.session(&later.id).unwrap(), Some(later));
}

#[test]
fn a_place_without_a_store_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none");
    let open = |path: &Path| open_on(Arc::new(RealDisk), path, alone()).map(drop);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(!path.exists());
    let writing = open_with(directory.path(), quiet());
    append(&writing, [span(0)]);
    drop(writing);
    std::fs::remove_file(directory.path().join("catalog.redb")).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(error, Error::CatalogMissing { logs: 1, .. }),
        "{error}"
    );
    // What was published of a catalog that is damaged does not make it good.
    std::fs::write(directory.path().join("catalog.redb"), [0; 9_000]).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::CatalogDamaged { .. }), "{error}");
}

/// An append that was cut off, or that another took the place of, is not waited for.
#[test]
fn a_log_that_cannot_be_followed_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, [span(0)]);
    let log = std::fs::read_dir(directory.path().join("log")).unwrap();
    let log = log.last().unwrap().unwrap().path();
    let length = std::fs::metadata(&log).unwrap().len();
    let cut = |length| {
        let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
        file.set_len(length).unwrap();
    };
    let reading = || open_with(directory.path(), alone());
    let [cut_short, replaced, removed] = [reading(), reading(), reading()];
    append(&writing, [span(1)]);
    let whole = std::fs::read(&log).unwrap();
    // A part of a record is one that is being written, when it is seen first.
    cut(length + 9);
    assert!(cut_short.refresh().unwrap() && replaced.refresh().unwrap());
    assert!(!cut_short.refresh().unwrap());
    std::fs::write(&log, &whole).unwrap();
    assert!(replaced.refresh().unwrap());
    assert_eq!(numbers(&replaced), [0, 1]);
    assert!(!cut_short.refresh().unwrap(), "nothing is read after that");
    cut(length);
    assert!(!replaced.refresh().unwrap());
    // One that a killed process has left is nobody's, however often it is looked at.
    cut(length - 9);
    let torn = reading();
    assert_eq!(torn.recovered().torn_bytes, length - 9 - 64);
    for _ in 0..3 {
        assert!(torn.refresh().unwrap());
    }
    std::fs::remove_file(&log).unwrap();
    assert!(!removed.refresh().unwrap());
    assert_eq!(numbers(&removed), [0]);
}

/// Records that are gone are not waited for.
#[test]
fn a_log_with_a_gap_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, [span(0)]);
    let reading = open_with(directory.path(), alone());
    let logs = directory.path().join("log");
    let log = std::fs::read_dir(&logs).unwrap().last().unwrap().unwrap();
    std::fs::copy(log.path(), logs.join("00000000000000000009.log")).unwrap();
    assert!(!reading.refresh().unwrap());
    assert_eq!(numbers(&reading), [0]);
}

/// Who needs a segment that is missing is told; what else there is can be read.
#[test]
fn a_store_without_one_of_its_segments_opens() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    for part in 0..2 {
        append(&writing, (part * 5..part * 5 + 5).map(span));
        writing.seal().unwrap();
    }
    let segments = writing.segments();
    writing.close().unwrap();
    std::fs::remove_file(directory.path().join(segment_path(&segments[0]))).unwrap();
    let reading = open_with(directory.path(), alone());
    assert_eq!(reading.segments(), segments);
    let acme = reading.team(&team("acme"));
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, 10);
    let error = block_on(acme.query().spans()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

/// A commit is at work on the catalog, or a crash has left it, before its checksums are published.
#[test]
fn a_commit_that_is_not_published_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let writing = Arc::new(open(directory.path()));
    append(&writing, (0..5).map(span));
    writing.seal().unwrap();
    append(&writing, (5..9).map(span));
    let disk = InterruptedDisk::default();
    let (changing, sums) = (Arc::clone(&writing), directory.path().join("catalog.sums"));
    disk.before_list("log", move || {
        let before = std::fs::read(&sums).unwrap();
        changing.seal().unwrap();
        std::fs::write(&sums, before).unwrap();
    });
    let reading = open_on(Arc::new(disk.clone()), directory.path(), alone()).unwrap();
    assert!(!disk.is_planned());
    assert_eq!(numbers(&reading), (0..9).collect::<Vec<_>>());
}

#[test]
fn a_store_without_a_log_is_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let writing = open(directory.path());
    append(&writing, [span(0)]);
    let copy = directory.path().join("copy");
    writing.backup(&copy).unwrap();
    let reading = open_with(&copy, alone());
    assert!(reading.refresh().unwrap() && reading.refresh().unwrap());
    assert_eq!(numbers(&reading), [0]);
    let writing = open(&copy);
    append(&writing, [span(1)]);
    assert!(!reading.refresh().unwrap());
}

/// A catalog that was put back is found out by what was published of a newer one.
#[test]
fn an_older_catalog_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = directory.path().join("catalog.redb");
    drop(open(directory.path()));
    let older = std::fs::read(&catalog).unwrap();
    let writing = open(directory.path());
    writing
        .set_retention(Some(Duration::from_hours(24)))
        .unwrap();
    drop(writing);
    std::fs::write(&catalog, older).unwrap();
    let opened = open_on(Arc::new(RealDisk), directory.path(), alone());
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::CatalogOlder { .. }), "{error}");
}
