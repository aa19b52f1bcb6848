//! Forgetting a lot, often, and while the store is at work; erasing when
//! something is in the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spanstore::io::{Disk, Fault, PowerCut, SimulatedDisk};
use spanstore::{Erased, Error, Month, Store, StoreOptions, Task, Team, TraceId};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{NOW, open, open_on, quiet, stands_in_a_file, team};

fn count(team: &Team) -> usize {
    team.export()
        .unwrap()
        .map(|chunk| chunk.unwrap().len())
        .sum()
}

/// The files of segments.
fn segment_files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(segment_files(&path));
        } else if path.extension().is_some_and(|one| one == "parquet") {
            found.push(path);
        }
    }
    found
}

fn trace(n: u64) -> TraceId {
    TraceId(trace_id(n))
}

#[test]
fn many_are_forgotten_with_one_seal_and_one_transaction() {
    let operations = |traces: u64| {
        let disk = SimulatedDisk::new();
        let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
        let (acme, other) = (store.team(&team("acme")), store.team(&team("other")));
        for team in [&acme, &other] {
            team.append(request((0..400).map(span))).unwrap();
        }
        other.set_quota(Some(7)).unwrap();
        let before = disk.operations();
        acme.forget_many((0..traces).map(|n| Erased::Trace(trace(n))))
            .unwrap();
        let operations = disk.operations() - before;
        assert_eq!(store.segments().len(), 1);
        assert_eq!(count(&acme), 400 - traces as usize * 10);
        assert_eq!(count(&other), 400);
        // Of several teams, and once more.
        let rows = [
            ("other", Erased::Team),
            ("acme", Erased::Trace(trace(35))),
            ("acme", Erased::Session("session-36".into())),
            ("nobody", Erased::Team),
        ];
        store
            .forget_many(rows.map(|(name, what)| (team(name), what)))
            .unwrap();
        assert_eq!(count(&other), 0);
        assert_ne!(other.usage(Month::of(NOW)).unwrap().limit, 7);
        assert!(acme.trace(trace(35)).unwrap().is_empty());
        drop((acme, other, store));
        disk.restart(PowerCut::DropAll);
        let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
        let acme = store.team(&team("acme"));
        assert_eq!(count(&store.team(&team("other"))), 0);
        assert!(acme.trace(trace(35)).unwrap().is_empty());
        assert!(acme.trace(trace(0)).unwrap().is_empty());
        store.erase().unwrap();
        assert_eq!(store.check().unwrap().damage, []);
        operations
    };
    let (few, many) = (operations(2), operations(30));
    assert!(many < few + 20, "{few} operations for 2, {many} for 30");
    assert!(
        open(tempfile::tempdir().unwrap().path())
            .forget_many([])
            .is_ok()
    );
}

#[test]
fn what_is_not_in_memory_is_forgotten_without_a_seal() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acme, other) = (store.team(&team("acme")), store.team(&team("other")));
    acme.append(request((0..40).map(span))).unwrap();
    store.seal().unwrap();
    let late = (40..60).map(|n| {
        let mut span = span(n);
        span.attributes = vec![text("session.id", "late")];
        span
    });
    acme.append(request(late)).unwrap();
    other.append(request((0..10).map(span))).unwrap();
    acme.forget_trace(trace(1)).unwrap();
    acme.forget_session("elsewhere").unwrap();
    store.team(&team("nobody")).forget().unwrap();
    assert_eq!(store.segments().len(), 1);
    assert_eq!(store.check().unwrap().hot_rows, 30);
    assert_eq!(count(&acme), 50);
    // What is there must be sealed first.
    for (forget, segments, left) in [
        (Erased::Trace(trace(4)), 2, 40),
        (Erased::Session("late".into()), 2, 30),
        (Erased::Team, 2, 0),
    ] {
        acme.forget_many([forget]).unwrap();
        assert_eq!((store.segments().len(), count(&acme)), (segments, left));
    }
    acme.append(request((60..70).map(span))).unwrap();
    acme.forget().unwrap();
    assert_eq!((store.segments().len(), count(&acme)), (3, 0));
}

#[test]
fn a_crash_while_many_are_forgotten_forgets_all_or_none() {
    let forgotten = || {
        (0..3)
            .map(|n| Erased::Trace(trace(n)))
            .chain([Erased::Session("session-1".into())])
    };
    // Seals, and forgets more; answers the operations before and after.
    let run = |disk: &SimulatedDisk, fault: Option<(u64, Fault)>| {
        let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
        let acme = store.team(&team("acme"));
        acme.append(request((0..50).map(span))).unwrap();
        store.seal().unwrap();
        acme.append(request((50..60).map(span))).unwrap();
        let first = disk.operations();
        if let Some((operation, fault)) = fault {
            disk.fail_at(first + operation, fault);
        }
        let hot = Erased::Trace(trace(5));
        let done = acme.forget_many(forgotten().chain([hot]));
        (disk.operations() - first, done)
    };
    let (operations, done) = run(&SimulatedDisk::new(), None);
    done.unwrap();
    assert!(operations > 10, "{operations}");
    for operation in 0..operations {
        let fault = [Fault::Error, Fault::NoSpace][operation as usize % 2];
        for (fault, cut) in [
            (Fault::Crash, PowerCut::Some(operation)),
            (fault, PowerCut::DropAll),
        ] {
            let context = format!("{fault:?} at {operation}, {cut:?}");
            let disk = SimulatedDisk::new();
            let (_, done) = run(&disk, Some((operation, fault)));
            disk.restart(cut);
            let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
            let acme = store.team(&team("acme"));
            let sessions = acme.session_spans("session-1").unwrap().len();
            let traces: Vec<usize> = [0, 1, 2, 5]
                .map(|n| acme.trace(trace(n)).unwrap().len())
                .into();
            let is_gone = traces == [0; 4] && sessions == 0;
            let is_there = traces.iter().all(|found| *found > 0) && sessions > 0;
            assert!(
                is_gone || is_there && done.is_err(),
                "{context}: {traces:?}, {done:?}"
            );
            if is_there {
                assert_eq!(count(&acme), 60, "{context}");
            }
            acme.forget_many(forgotten()).unwrap();
            store.erase().unwrap();
            assert!(acme.trace(trace(0)).unwrap().is_empty(), "{context}");
            assert_eq!(store.check().unwrap().damage, [], "{context}");
        }
    }
}

/// Forgets something of a team each time a file is made, until it did so as
/// often as it may.
fn forget_at_each_file(disk: &Arc<InterruptedDisk>, teams: Vec<Team>, times: Arc<AtomicU64>) {
    let again = Arc::clone(disk);
    disk.after_new_files(0, move || {
        let n = times.fetch_add(1, Ordering::Relaxed);
        assert!(n < 40, "the work is done again and again");
        for team in &teams {
            team.forget_trace(trace(100 + n)).unwrap();
        }
        forget_at_each_file(&again, teams, times);
    });
}

/// Three seals of some teams, with 20 traces each that lie in all seals.
fn fill(store: &Store, names: &[&str]) {
    for round in 0..3 {
        for name in names {
            let spans = (0..200).filter(|n| n % 3 == round).map(span);
            store.team(&team(name)).append(request(spans)).unwrap();
        }
        store.seal().unwrap();
    }
}

#[test]
fn forgets_more_frequent_than_merges_do_not_keep_them_from_ending() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(InterruptedDisk::default());
    let options = StoreOptions {
        segment_rows: 1,
        ..quiet()
    };
    let store = open_on(disk.clone(), directory.path(), options).unwrap();
    fill(&store, &["acme", "other", "third"]);
    let acme = store.team(&team("acme"));
    let other = store.team(&team("other"));
    let times = Arc::new(AtomicU64::new(0));
    forget_at_each_file(&disk, vec![acme.clone(), other.clone()], Arc::clone(&times));
    let report = store.compact().unwrap();
    // One file for each team, and what is forgotten meanwhile is of the inputs.
    assert_eq!((report.segments_before, report.segments_after), (3, 3));
    assert_eq!(times.load(Ordering::Relaxed), 3);
    assert_eq!(store.segments().len(), 3);
    disk.after_new_files(usize::MAX, || ());

    // Also of what was merged: before its segment was begun, and after.
    times.store(0, Ordering::Relaxed);
    store
        .team(&team("acme"))
        .append(request([span(900)]))
        .unwrap();
    store.seal().unwrap();
    let trace_of = |team: &Team, n: u64| team.trace(trace(n)).unwrap().len();
    let forgetting = [acme.clone(), other.clone()];
    for files in 0..3 {
        let forgetting = forgetting.clone();
        disk.after_new_files(files, move || {
            for team in forgetting {
                team.forget_trace(trace(files as u64)).unwrap();
            }
        });
        let report = store.compact().unwrap();
        assert!(report.segments_after >= 3, "{report:?}");
        for team in [&acme, &other] {
            assert_eq!(trace_of(team, files as u64), 0, "{files}");
        }
        acme.append(request([span(901 + files as u64)])).unwrap();
        store.seal().unwrap();
    }
    store.erase().unwrap();
    let left = 200 - 30;
    assert_eq!((count(&acme), count(&other)), (left + 4, left));
    assert_eq!(count(&store.team(&team("third"))), 200);
    assert_eq!(store.check().unwrap().damage, []);
}

/// Only what was named when the erasure began is erased by it.
#[test]
fn an_erasure_ends_although_more_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(InterruptedDisk::default());
    let store = open_on(disk.clone(), directory.path(), quiet()).unwrap();
    let acme = store.team(&team("acme-3f9b"));
    let other = store.team(&team("other"));
    for round in 0..3 {
        for (team, session) in [(&acme, "session-of-acme"), (&other, "session-of-other")] {
            let spans = (round * 50..(round + 1) * 50).map(|n| {
                let mut span = span(n);
                span.attributes = vec![text("session.id", session)];
                span
            });
            team.append(request(spans)).unwrap();
        }
        store.seal().unwrap();
    }
    acme.forget().unwrap();
    other.forget_trace(trace(0)).unwrap();
    let times = Arc::new(AtomicU64::new(0));
    forget_at_each_file(&disk, vec![other.clone()], Arc::clone(&times));
    let report = store.erase().unwrap();
    assert_eq!((report.segments_before, report.rows_removed), (3, 160));
    assert!(times.load(Ordering::Relaxed) >= 3);
    assert!(!stands_in_a_file(directory.path(), b"acme-3f9b"));
    assert!(!stands_in_a_file(directory.path(), b"session-of-acme"));

    // What is forgotten meanwhile stays forgotten, and waits for the next.
    let late = other.clone();
    acme.append(request((0..10).map(span))).unwrap();
    store.seal().unwrap();
    acme.forget().unwrap();
    disk.after_new_files(0, move || late.forget_session("session-of-other").unwrap());
    store.erase().unwrap();
    assert!(!disk.is_planned());
    assert_eq!((count(&other), count(&acme)), (0, 0));
    assert!(stands_in_a_file(directory.path(), b"session-of-other"));
    drop((acme, other, store));
    let store = open_on(disk.clone(), directory.path(), quiet()).unwrap();
    assert_eq!(count(&store.team(&team("other"))), 0);
    assert_eq!(store.erase().unwrap().rows_removed, 140);
    assert!(!stands_in_a_file(directory.path(), b"session-of-other"));
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn an_erasure_names_the_files_that_stay_and_the_next_removes_them() {
    for ending in [".parquet", ".log"] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(InterruptedDisk::default());
        let store = open_on(disk.clone(), directory.path(), quiet()).unwrap();
        let acme = store.team(&team("acme"));
        let session = "7c1f2a90b3e84d56";
        let secret = |n| {
            let mut span = span(n);
            span.attributes = vec![text("session.id", session)];
            span
        };
        acme.append(request((0..10).map(secret))).unwrap();
        store.seal().unwrap();
        acme.append(request((10..20).map(secret).chain([span(20)])))
            .unwrap();
        disk.keep_files(Some(ending));
        acme.forget_session(session).unwrap();
        for _ in 0..2 {
            let error = store.erase().unwrap_err();
            let named = error.to_string();
            match error {
                Error::FilesRemain { files } => {
                    assert_eq!((ending, files.len()), (".parquet", 2));
                    assert!(files.iter().all(|file| file.path.exists()), "{files:?}");
                }
                Error::Io { path, .. } => {
                    assert_eq!(ending, ".log");
                    assert!(Path::new(&path).exists(), "{path}");
                }
                other => panic!("{other}"),
            }
            assert!(named.contains(ending), "{named}");
            assert!(stands_in_a_file(directory.path(), session.as_bytes()));
            assert!(!store.health().is_healthy());
        }
        assert_eq!((count(&acme), store.segments().len()), (1, 1));
        disk.keep_files(None);
        store.erase().unwrap();
        assert!(!stands_in_a_file(directory.path(), session.as_bytes()));
        assert!(store.health().is_healthy(), "{:?}", store.health());
        assert_eq!(segment_files(directory.path()).len(), 1);
        assert_eq!(store.check().unwrap().damage, []);
    }
}

/// A file that a reader held, and that could not be removed when it was done.
#[test]
fn maintenance_removes_files_that_stayed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(InterruptedDisk::default());
    let store = open_on(disk.clone(), directory.path(), quiet()).unwrap();
    fill(&store, &["acme"]);
    let acme = store.team(&team("acme"));
    let export = acme.export().unwrap();
    store.compact().unwrap();
    assert_eq!(segment_files(directory.path()).len(), 4);
    disk.keep_files(Some(".parquet"));
    drop(export);
    let files = store.health().remaining_files;
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| !file.cause.is_empty()));
    store.maintain().unwrap();
    assert!(!store.health().is_healthy());
    disk.keep_files(None);
    store.maintain().unwrap();
    assert!(store.health().is_healthy());
    assert_eq!(segment_files(directory.path()).len(), 1);
}

#[test]
fn a_panic_while_erasing_is_an_error_and_the_next_call_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(InterruptedDisk::default());
    let shared: Arc<dyn Disk> = Arc::<InterruptedDisk>::clone(&disk);
    let store = open_on(shared, directory.path(), quiet()).unwrap();
    fill(&store, &["acme"]);
    let acme = store.team(&team("acme"));
    acme.forget_trace(trace(3)).unwrap();
    disk.after_new_files(1, || panic!("a planned panic"));
    let error = store.erase().unwrap_err();
    assert!(
        matches!(&error, Error::Internal { cause, .. } if cause.contains("a planned panic")),
        "{error}"
    );
    let health = store.health();
    assert!(health.poisoned.is_none());
    assert!(health.failures.iter().any(|one| one.task == Task::Erase));
    assert!(acme.trace(trace(3)).unwrap().is_empty());
    let report = store.erase().unwrap();
    assert!(report.rows_removed > 0);
    assert!(store.health().is_healthy());
    assert_eq!(count(&acme), 190);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn what_is_set_for_a_team_goes_with_it_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let month = Month::of(NOW);
    let usual = acme.usage(month).unwrap().limit;
    // No row comes in between, so the second time there is nothing more to erase.
    for quota in [7, 8] {
        acme.set_quota(Some(quota)).unwrap();
        acme.set_retention(Some(Duration::from_hours(24))).unwrap();
        acme.forget().unwrap();
        assert_eq!(
            (acme.usage(month).unwrap().limit, acme.retention()),
            (usual, None)
        );
    }
    drop((acme, store));
    let acme = open(directory.path()).team(&team("acme"));
    assert_eq!(
        (acme.usage(month).unwrap().limit, acme.retention()),
        (usual, None)
    );
}
