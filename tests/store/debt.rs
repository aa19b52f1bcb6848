//! How far merging is behind: it is told, merges pay it, and appends wait for that a
//! little.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use spanstore::io::SimulatedDisk;
use spanstore::{Error, MergeDebt, Store, StoreOptions, Task};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open, open_on, quiet, segment_path, team, without_repeats};

/// Appends and seals so many times, 20 spans each.
fn seal_often(store: &Store, rounds: u64) {
    let acme = store.team(&team("acme"));
    for round in 0..rounds {
        acme.append(request((round * 20..(round + 1) * 20).map(span)))
            .unwrap();
        store.seal().unwrap();
    }
}

#[test]
fn the_debt_of_merging_is_told_and_paid() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let debt = || store.health().merge_debt;
    assert_eq!(debt(), MergeDebt::default());
    for round in 0..14 {
        acme.append(request((round * 20..(round + 1) * 20).map(span)))
            .unwrap();
        store.seal().unwrap();
        let segments = store.segments();
        let bytes: u64 = segments.iter().map(|one| one.bytes).sum();
        // Up to 7 are left alone; of more all are of the lowest level.
        let due = if round < 7 { 0 } else { round + 1 };
        let debt = debt();
        assert_eq!((debt.segments, debt.rows), (round + 1, due * 20));
        assert_eq!(debt.bytes, if due == 0 { 0 } else { bytes });
    }
    // The debt alone is no fault.
    assert!(store.health().is_healthy());
    store.maintain().unwrap();
    assert_eq!((debt().segments, debt().rows), (1, 0));
    drop((acme, store));
    assert_eq!(open(directory.path()).health().merge_debt.segments, 1);
}

/// However many segments there are.
#[test]
fn appends_do_not_wait_for_merges_that_fail() {
    let disk = SimulatedDisk::new();
    let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    seal_often(&store, 20);
    let damaged = store.segments().remove(0);
    drop(store);
    let path = Path::new("/store").join(segment_path(&damaged));
    disk.corrupt(&path, |bytes| bytes[100] ^= 1).unwrap();
    let options = StoreOptions {
        background: true,
        ..quiet()
    };
    let store = open_on(Arc::new(disk.clone()), "/store", options).unwrap();
    let acme = store.team(&team("acme"));
    // The merge that this seal asks for meets the damage.
    acme.append(request((1_000..1_001).map(span))).unwrap();
    store.seal().unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while store.health().is_healthy() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(store.health().failures[0].task, Task::Merge);
    assert!(store.health().merge_debt.segments > 16);
    // At 1 ms a row and a second a batch at most these would wait for 20 seconds; an
    // impatient one is not told to come again, as it is while appends wait.
    for round in 0..20 {
        let first = 10_000 + round * 2_000;
        acme.try_append(request((first..first + 2_000).map(span)))
            .unwrap();
    }
}

/// A merge is at work that does not come to its end: appends wait, and each comes
/// through.
#[test]
fn appends_wait_a_little_while_merging_is_far_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    seal_often(&store, 20);
    drop(store);
    let disk = Arc::new(InterruptedDisk::default());
    let options = StoreOptions {
        background: true,
        ..without_repeats()
    };
    let store = open_on(disk.clone(), directory.path(), options).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((1_000..1_001).map(span))).unwrap();
    let (reached, is_reached) = channel();
    let (go_on, is_over) = channel::<()>();
    // The first new file is the seal's.
    disk.after_new_files(1, move || {
        reached.send(()).ok();
        is_over.recv().ok();
    });
    store.seal().unwrap();
    is_reached.recv().unwrap();
    assert_eq!(store.health().merge_debt.segments, 21);
    let batch = |n: u64| request((n * 1_000..(n + 1) * 1_000).map(span));
    // One that does not wait is told so while the batch before has not had its time, a
    // second.
    let refused = (10..100).find_map(|n| acme.try_append(batch(n)).err());
    assert!(matches!(refused, Some(Error::Busy)), "{refused:?}");
    // Others come through although nothing is merged meanwhile.
    let begun = Instant::now();
    for n in 100..103 {
        assert_eq!(acme.append(batch(n)).unwrap().accepted, 1_000);
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "nobody waited");
    go_on.send(()).unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while store.health().merge_debt.segments > 12 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(store.health().merge_debt.segments <= 12);
    // Nobody waits any more, once the last wait is over.
    assert_eq!(acme.append(batch(103)).unwrap().accepted, 1_000);
    for n in 104..124 {
        assert_eq!(acme.try_append(batch(n)).unwrap().accepted, 1_000);
    }
    assert!(store.health().is_healthy());
}
