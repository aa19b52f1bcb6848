//! What fails in the background is told at once, and nobody waits for nothing.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use spanstore::io::{Fault, SimulatedDisk};
use spanstore::{Error, Month, Plan, StoreOptions, Task};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open_on, open_with, quiet, team};

#[test]
fn a_panic_in_a_seal_poisons_and_callers_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(InterruptedDisk::default());
    let store = open_on(disk.clone(), directory.path(), quiet()).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((0..5).map(span))).unwrap();
    assert!(store.health().is_healthy());
    // The first new file of a seal is the new log's, the next one the segment.
    disk.after_new_files(0, || panic!("broken sealing"));
    let error = store.seal().unwrap_err();
    assert!(error.to_string().contains("broken sealing"), "{error}");
    let health = store.health();
    assert!(
        health
            .poisoned
            .is_some_and(|cause| cause.contains("broken sealing"))
    );
    assert_eq!(health.failures[0].task, Task::Seal);
    let error = acme.append(request((5..10).map(span))).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    // Reads go on, and opening again finds all.
    assert_eq!(
        acme.export()
            .unwrap()
            .map(|spans| spans.unwrap().len())
            .sum::<usize>(),
        5
    );
    drop((acme, store));
    let store = open_on(disk, directory.path(), quiet()).unwrap();
    assert_eq!(store.seal().unwrap().segments[0].rows, 5);
}

#[test]
fn appends_do_not_wait_for_a_seal_that_fails() {
    let disk = SimulatedDisk::new();
    let options = StoreOptions {
        hot_bytes: 100 << 10,
        ..quiet()
    };
    let store = open_on(Arc::new(disk.clone()), "/store", options.clone()).unwrap();
    let acme = store.team(&team("acme"));
    let batch = |n: u64| request((n * 50..(n + 1) * 50).map(span));
    let mut accepted = 0;
    while acme.append(batch(accepted)).is_ok() {
        accepted += 1;
        assert!(accepted < 1_000);
    }
    disk.fail_at(disk.operations() + 5, Fault::NoSpace);
    let error = store.maintain().unwrap_err();
    assert!(!matches!(error, Error::Poisoned { .. }), "{error}");
    let health = store.health();
    assert_eq!(health.poisoned, None);
    assert_eq!(
        (health.failures[0].task, health.failures[0].attempts),
        (Task::Seal, 1)
    );
    assert_eq!(health.failures[0].since_nanos, NOW);
    // There is space again.
    store.seal().unwrap();
    assert!(store.health().is_healthy());
    assert_eq!(acme.append(batch(accepted)).unwrap().accepted, 50);
}

#[test]
fn appends_that_wait_are_told_that_seals_fail() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        hot_bytes: 100 << 10,
        background: true,
        ..quiet()
    };
    let store = open_with(directory.path(), options);
    let acme = store.team(&team("acme"));
    let batch = |n: u64| request((n * 50..(n + 1) * 50).map(span));
    // A file stands where the month's directory is to be made.
    let obstacle = directory.path().join("segments/2026-11");
    std::fs::write(&obstacle, "").unwrap();
    let stalled = (0..1_000).find_map(|n| acme.append(batch(n)).err());
    assert!(
        matches!(stalled, Some(Error::Stalled { .. })),
        "{stalled:?}"
    );
    std::fs::remove_file(&obstacle).unwrap();
    store.seal().unwrap();
    assert_eq!(acme.append(batch(2_000)).unwrap().accepted, 50);
}

#[test]
fn a_setting_that_is_being_written_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(InterruptedDisk::default());
    let store = open_on(disk.clone(), directory.path(), quiet()).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((0..5).map(span))).unwrap();
    let (reached, is_reached) = channel();
    let (go_on, is_over) = channel::<()>();
    disk.before_sync("catalog.redb", move || {
        reached.send(()).ok();
        is_over.recv().ok();
    });
    let (answer, answered) = channel();
    std::thread::scope(|scope| {
        let setting = scope.spawn(|| acme.set_plan(Plan::Pro));
        is_reached.recv().unwrap();
        let reader = acme.clone();
        std::thread::spawn(move || {
            let appended = reader.append(request((5..10).map(span))).is_ok();
            let used = reader.usage(Month::of(NOW)).map(|usage| usage.used);
            answer.send((appended, used.ok())).ok();
        });
        // The wait ends early unless the lock is held.
        let found = answered.recv_timeout(Duration::from_secs(30));
        go_on.send(()).unwrap();
        setting.join().unwrap().unwrap();
        assert_eq!(found, Ok((true, Some(10))));
    });
}

#[test]
fn a_closed_store_takes_no_settings() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), quiet());
    let acme = store.team(&team("acme"));
    store.clone().close().unwrap();
    let answers = [
        acme.set_quota(Some(5)),
        acme.set_plan(Plan::Pro),
        acme.set_retention(None),
        store.set_retention(None),
        acme.forget(),
        store.flush(),
        store.maintain().map(drop),
        acme.append(request([span(0)])).map(drop),
    ];
    for (place, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Err(Error::Closed)), "{place}: {answer:?}");
    }
    drop((acme, store));
    let store = open_with(directory.path(), quiet());
    let usage = store.team(&team("acme")).usage(Month::of(NOW)).unwrap();
    assert_eq!(usage.limit, 1_000_000);
}
