//! A backup is a store of its own, taken while the other is written to.

use std::path::Path;
use std::sync::Arc;

use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::{Error, Month, Store, StoreOptions};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open, open_on, open_with, quiet, sessions, team};

#[test]
fn a_backup_opens_with_everything_acknowledged_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path);
    let acme = store.team(&team("acme"));
    acme.append(request((0..100).map(span))).unwrap();
    store.seal().unwrap();
    acme.append(request((100..150).map(span))).unwrap();
    acme.set_quota(Some(170)).unwrap();
    let copy = directory.path().join("deep/copy");
    store.backup(&copy).unwrap();
    let cursor = acme.query().tail().unwrap().cursor();
    // The store goes on; the copy does not change.
    acme.append(request((150..160).map(span))).unwrap();
    store.compact().unwrap();
    acme.forget().unwrap();
    store.erase().unwrap();

    let error = store.backup(&copy).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    let backup = open(&copy);
    let acme = backup.team(&team("acme"));
    let spans: usize = acme
        .export()
        .unwrap()
        .map(|chunk| chunk.unwrap().len())
        .sum();
    assert_eq!(spans, 150);
    let usage = acme.usage(Month::of(NOW)).unwrap();
    assert_eq!((usage.used, usage.limit), (150, 170));
    assert_eq!(backup.check().unwrap().damage, []);
    // Both go on apart: a place in the one is none in the other.
    let refused = acme.query().tail_from(&cursor).unwrap_err();
    assert!(matches!(refused, Error::InvalidCursor { .. }), "{refused}");
    let receipt = acme.append(request((200..250).map(span))).unwrap();
    assert_eq!(receipt.accepted, 20);
    backup.seal().unwrap();
    backup.compact().unwrap();
    assert_eq!(backup.check().unwrap().damage, []);
    drop((acme, backup));
    assert_eq!(sessions(&open(&copy).team(&team("acme"))).unwrap().len(), 7);
}

#[test]
fn a_backup_under_load_is_consistent() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        seal_rows: 500,
        background: true,
        compaction_percent: 100,
        ..quiet()
    };
    let store = open_with(&directory.path().join("store"), options);
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for batch in 0..200u64 {
                let spans = (batch * 50..(batch + 1) * 50).map(span);
                store.team(&team("acme")).append(request(spans)).unwrap();
                acknowledged.store((batch + 1) * 50, std::sync::atomic::Ordering::Release);
            }
        });
        for number in 0.. {
            if writer.is_finished() {
                assert!(number > 0);
                break;
            }
            let before = acknowledged.load(std::sync::atomic::Ordering::Acquire);
            let path = directory.path().join(format!("backup-{number}"));
            store.backup(&path).unwrap();
            let backup = open(&path);
            let acme = backup.team(&team("acme"));
            let found: usize = acme
                .export()
                .unwrap()
                .map(|chunk| chunk.unwrap().len())
                .sum();
            assert!(found as u64 >= before, "{found} of {before}");
            assert_eq!(found % 50, 0, "a batch is there whole or not at all");
            assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, found as u64);
            assert_eq!(backup.check().unwrap().damage, []);
        }
    });
}

#[test]
fn a_merge_removes_no_segment_that_a_backup_is_about_to_copy() {
    use std::time::{Duration, Instant};

    use spanstore_test_support::disk::InterruptedDisk;

    for files in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(InterruptedDisk::default());
        let path = directory.path().join("store");
        let store = open_on(disk.clone(), path, quiet()).unwrap();
        let acme = store.team(&team("acme"));
        for start in [0, 20, 40] {
            acme.append(request((start..start + 20).map(span))).unwrap();
            store.seal().unwrap();
        }
        let merging = store.clone();
        disk.after_new_files(files, move || {
            let merge = std::thread::spawn(move || merging.compact().unwrap());
            // If the merge can end now, it is given the time to.
            let deadline = Instant::now() + Duration::from_millis(200);
            while !merge.is_finished() && Instant::now() < deadline {
                std::thread::yield_now();
            }
        });
        let copy = directory.path().join("copy");
        store.backup(&copy).unwrap();
        assert!(!disk.is_planned(), "{files}");
        assert_eq!(open(&copy).check().unwrap().damage, []);
        let backup = open(&copy).team(&team("acme"));
        assert_eq!(sessions(&backup).unwrap().len(), 2);
    }
}

/// A store on a simulated disk, in a segment and in memory.
fn filled() -> (SimulatedDisk, Store) {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, "/store").unwrap();
    let acme = store.team(&team("acme"));
    acme.set_quota(Some(70)).unwrap();
    acme.append(request((0..40).map(span))).unwrap();
    store.seal().unwrap();
    acme.append(request((40..60).map(span))).unwrap();
    // A seal lets go of the log after it has answered.
    store.flush().unwrap();
    (disk, store)
}

fn open_simulated(disk: &SimulatedDisk, path: &str) -> Result<Store, Error> {
    open_on(Arc::new(disk.clone()), path, quiet())
}

/// Nothing is missing, and nothing is wrong.
fn verify(store: &Store, context: &str) {
    let acme = store.team(&team("acme"));
    let chunks = acme.export().unwrap();
    let spans: usize = chunks.map(|chunk| chunk.unwrap().len()).sum();
    assert_eq!(spans, 60, "{context}");
    let usage = acme.usage(Month::of(NOW)).unwrap();
    assert_eq!((usage.used, usage.limit), (60, 70), "{context}");
    assert_eq!(store.check().unwrap().damage, [], "{context}");
}

#[test]
fn a_fault_at_every_operation_of_a_backup_leaves_a_whole_copy_or_none() {
    let (disk, store) = filled();
    let before = disk.operations();
    store.backup("/copies/first").unwrap();
    store.flush().unwrap();
    let operations = disk.operations() - before;
    drop(store);
    let (mut whole, mut none) = (0, 0);
    for (fault, step) in [(Fault::Crash, 1), (Fault::Error, 3), (Fault::NoSpace, 3)] {
        for operation in (0..operations).step_by(step) {
            // Some of the names are durable, or none that was not synced.
            let cut = if operation % 2 == 0 {
                PowerCut::DropAll
            } else {
                PowerCut::Some(operation)
            };
            let context = format!("{fault:?} at operation {operation}, {cut:?}");
            let (disk, store) = filled();
            let at = disk.operations() + operation;
            disk.fail_at(at, fault);
            let copied = store.backup("/copies/first");
            // The fault may come after the seal of the backup.
            drop(store.flush());
            assert!(disk.operations() > at, "{context}: no fault");
            drop(store);
            disk.restart(cut);
            let store = open_simulated(&disk, "/store").unwrap();
            verify(&store, &context);
            // The catalog makes a directory a store.
            let catalog = Path::new("/copies/first/catalog.redb");
            if disk.paths().iter().any(|path| path == catalog) {
                whole += 1;
                verify(&open_simulated(&disk, "/copies/first").unwrap(), &context);
            } else {
                none += 1;
                assert!(copied.is_err(), "{context}");
            }
            if operation % 6 == 0 {
                store.backup("/copies/second").unwrap();
                verify(&open_simulated(&disk, "/copies/second").unwrap(), &context);
            }
        }
    }
    assert!(whole > 0 && none > 0, "{whole} copies, {none} none");
}
