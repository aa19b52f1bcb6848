//! The catalog: never made beside a store's parts, never older than they are,
//! and usable after a full disk.

use std::path::Path;
use std::sync::Arc;

use spanstore::io::{Disk, Fault, OpenMode, PowerCut, SimulatedDisk};
use spanstore::{Error, Month, Store, StoreOptions};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open_on, quiet, team};

const ROOT: &str = "/store";

fn open(disk: &SimulatedDisk) -> Result<Store, Error> {
    open_on(Arc::new(disk.clone()), ROOT, quiet())
}

fn append(store: &Store, spans: std::ops::Range<u64>) {
    let acme = store.team(&team("acme"));
    acme.append(request(spans.map(span))).unwrap();
}

fn count(store: &Store) -> usize {
    let chunks = store.team(&team("acme")).export().unwrap();
    chunks.map(|chunk| chunk.unwrap().len()).sum()
}

fn bytes(disk: &SimulatedDisk, path: &str) -> Vec<u8> {
    disk.map(Path::new(path)).unwrap().to_vec()
}

fn write(disk: &SimulatedDisk, path: &str, content: &[u8]) {
    let path = Path::new(path);
    if disk.map(path).is_err() {
        drop(disk.open(path, OpenMode::CreateNew).unwrap());
    }
    disk.corrupt(path, |bytes| *bytes = content.to_vec())
        .unwrap();
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let paths = disk.paths().into_iter();
    let names = paths.map(|path| path.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".parquet")).collect()
}

#[test]
fn a_store_without_its_catalog_is_not_emptied() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..50);
    store.seal().unwrap();
    append(&store, 50..60);
    store.close().unwrap();
    disk.remove_file(Path::new("/store/catalog.redb")).unwrap();
    let before = disk.paths();
    for create in [true, false] {
        let options = StoreOptions { create, ..quiet() };
        let error = open_on(Arc::new(disk.clone()), ROOT, options).unwrap_err();
        match &error {
            Error::CatalogMissing { segments, logs, .. } => assert_eq!((*segments, *logs), (1, 1)),
            other => panic!("{other}"),
        }
        assert!(error.to_string().contains("spanstore repair"), "{error}");
    }
    assert_eq!(disk.paths(), before, "nothing was touched");
}

#[test]
fn an_older_catalog_is_refused_and_nothing_is_touched() {
    for with_sums in [false, true] {
        let disk = SimulatedDisk::new();
        let store = open(&disk).unwrap();
        append(&store, 0..50);
        store.seal().unwrap();
        store.close().unwrap();
        let old = bytes(&disk, "/store/catalog.redb");
        let sums = bytes(&disk, "/store/catalog.sums");
        let store = open(&disk).unwrap();
        append(&store, 50..100);
        store.seal().unwrap();
        store.compact().unwrap();
        append(&store, 100..110);
        store.close().unwrap();
        let newest = bytes(&disk, "/store/catalog.redb");
        let newest_sums = bytes(&disk, "/store/catalog.sums");
        write(&disk, "/store/catalog.redb", &old);
        if with_sums {
            write(&disk, "/store/catalog.sums", &sums);
        }
        let before = disk.paths();
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, Error::CatalogOlder { .. }), "{error}");
        assert!(error.to_string().contains("spanstore repair"), "{error}");
        assert_eq!(disk.paths(), before, "nothing was touched");
        write(&disk, "/store/catalog.redb", &newest);
        write(&disk, "/store/catalog.sums", &newest_sums);
        assert_eq!(count(&open(&disk).unwrap()), 110);
    }
}

#[test]
fn a_segment_of_another_store_is_not_taken_for_a_stray() {
    let other = SimulatedDisk::new();
    let store = open(&other).unwrap();
    for n in 0..4 {
        append(&store, n * 10..n * 10 + 10);
        store.seal().unwrap();
    }
    store.close().unwrap();
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..25);
    append(&store, 25..50);
    store.seal().unwrap();
    append(&store, 50..60);
    store.close().unwrap();
    // One of a sequence that this store has sealed, and one of a sequence that its
    // log has not reached.
    for foreign in segments(&other).iter().skip(1).step_by(2) {
        let copied = bytes(&other, foreign);
        write(&disk, foreign, &copied);
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, Error::UnknownSegment { .. }), "{error}");
        assert_eq!(bytes(&disk, foreign), copied, "nothing was touched");
        // One that cannot be read says nothing of its origin.
        write(&disk, foreign, &copied[..copied.len() / 2]);
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, Error::UnknownSegment { .. }), "{error}");
        disk.remove_file(Path::new(foreign)).unwrap();
    }
    assert_eq!(count(&open(&disk).unwrap()), 60);
}

#[test]
fn a_replaced_segment_that_stayed_is_removed() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..30);
    store.seal().unwrap();
    append(&store, 30..60);
    store.seal().unwrap();
    let replaced: Vec<_> = segments(&disk)
        .into_iter()
        .map(|path| (bytes(&disk, &path), path))
        .collect();
    assert_eq!(replaced.len(), 2);
    store.compact().unwrap();
    store.close().unwrap();
    for (content, path) in &replaced {
        assert!(disk.map(Path::new(path)).is_err());
        write(&disk, path, content);
    }
    let store = open(&disk).unwrap();
    assert_eq!(count(&store), 60);
    assert_eq!(segments(&disk).len(), 1);
    store.close().unwrap();
    // It was known once; nobody knows a file that comes back after that.
    write(&disk, &replaced[0].1, &replaced[0].0);
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, Error::UnknownSegment { .. }), "{error}");
}

#[test]
fn a_replaced_segment_that_comes_back_after_the_next_open_is_known() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..30);
    store.seal().unwrap();
    append(&store, 30..60);
    store.seal().unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    drop(open(&disk).unwrap());
    // What was removed and not synced is there again.
    disk.restart(PowerCut::DropAll);
    assert_eq!(count(&open(&disk).unwrap()), 60);
    assert_eq!(segments(&disk).len(), 1);
}

/// Also one whose checksums are those of its time.
#[test]
fn a_catalog_from_before_a_merge_is_refused_and_nothing_is_touched() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    for start in [0, 30] {
        append(&store, start..start + 30);
        store.seal().unwrap();
    }
    store.close().unwrap();
    let parts = ["/store/catalog.redb", "/store/catalog.sums"];
    let older = parts.map(|path| bytes(&disk, path));
    let store = open(&disk).unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    let newer = parts.map(|path| bytes(&disk, path));
    for with_sums in [true, false] {
        write(&disk, parts[0], &older[0]);
        if with_sums {
            write(&disk, parts[1], &older[1]);
        } else {
            disk.remove_file(Path::new(parts[1])).unwrap();
        }
        let before = segments(&disk);
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, Error::CatalogOlder { .. }), "{error}");
        assert_eq!(segments(&disk), before);
    }
    for (path, content) in parts.iter().zip(&newer) {
        write(&disk, path, content);
    }
    assert_eq!(count(&open(&disk).unwrap()), 60);
}

/// Runs a change on a store whose n-th operation finds the disk full, for every
/// n: it answers `NoSpace` or an I/O error and has changed nothing, or it is done.
fn without_space(change: impl Fn(&Store) -> Result<(), Error>, is_done: impl Fn(&Store) -> bool) {
    let (mut refused, mut poisoned) = (0, 0);
    for operation in 0.. {
        let disk = SimulatedDisk::new();
        let store = open(&disk).unwrap();
        append(&store, 0..20);
        store.seal().unwrap();
        append(&store, 20..40);
        store.seal().unwrap();
        append(&store, 40..50);
        store.flush().unwrap();
        let first = disk.operations();
        disk.fail_at(first + operation, Fault::NoSpace);
        let changed = change(&store);
        let context = format!("operation {operation}: {changed:?}");
        if disk.operations() <= first + operation {
            changed.unwrap();
            break;
        }
        match &changed {
            Ok(()) => assert!(is_done(&store), "{context}"),
            // Only a sync that failed leaves it open what is on disk.
            Err(Error::Poisoned { .. }) => {
                poisoned += 1;
                continue;
            }
            Err(Error::NoSpace { .. } | Error::Io { .. }) => {
                refused += 1;
                assert!(!is_done(&store), "{context}");
            }
            Err(other) => panic!("{context}: {other}"),
        }
        assert!(store.health().poisoned.is_none(), "{context}");
        change(&store).unwrap_or_else(|error| panic!("{context}: then {error}"));
        assert!(is_done(&store), "{context}");
        store
            .team(&team("later"))
            .append(request([span(0)]))
            .unwrap();
        store.seal().unwrap();
        assert_eq!(store.check().unwrap().damage, [], "{context}");
        store.close().unwrap();
        disk.restart(PowerCut::DropAll);
        let store = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(is_done(&store), "{context}");
        assert_eq!(store.check().unwrap().damage, [], "{context}");
    }
    assert!(refused >= 2, "{refused} refused, {poisoned} poisoned");
}

#[test]
fn a_full_disk_refuses_a_quota_and_takes_it_later() {
    let limit = |store: &Store| {
        store
            .team(&team("acme"))
            .usage(Month::of(NOW))
            .unwrap()
            .limit
    };
    without_space(
        |store| store.team(&team("acme")).set_quota(Some(77)),
        |store| limit(store) == 77,
    );
}

#[test]
fn a_full_disk_refuses_a_seal_and_takes_it_later() {
    without_space(
        |store| store.seal().map(drop),
        |store| store.segments().iter().map(|one| one.rows).sum::<u32>() >= 50,
    );
}

#[test]
fn a_full_disk_refuses_a_merge_and_takes_it_later() {
    without_space(
        |store| store.compact().map(drop),
        |store| store.segments().iter().filter(|one| one.level > 0).count() == 1,
    );
}

#[test]
fn a_full_disk_refuses_to_forget_and_does_it_later() {
    without_space(
        |store| store.team(&team("acme")).forget_session("session-0"),
        |store| {
            let rows = store
                .team(&team("acme"))
                .session_spans("session-0")
                .unwrap();
            rows.is_empty()
        },
    );
}

#[test]
fn a_damaged_catalog_is_named_while_segments_stay_readable() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..50);
    store.seal().unwrap();
    store.close().unwrap();
    disk.corrupt(Path::new("/store/catalog.redb"), |bytes| {
        for byte in bytes.iter_mut().skip(4_096).filter(|byte| **byte != 0) {
            *byte ^= 1;
        }
    })
    .unwrap();
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, Error::CatalogDamaged { .. }), "{error}");
    assert!(error.to_string().contains("/store/catalog.redb"), "{error}");

    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..50);
    store.seal().unwrap();
    disk.corrupt(Path::new("/store/catalog.redb"), |bytes| {
        for byte in bytes.iter_mut().skip(4_096).filter(|byte| **byte != 0) {
            *byte ^= 1;
        }
    })
    .unwrap();
    let report = store.check().unwrap();
    assert!(
        report.damage.iter().any(|one| one.file == "catalog.redb"),
        "{report:?}"
    );
    assert_eq!(report.segments, 1);
    assert_eq!(count(&store), 50);
}

#[test]
fn a_check_says_what_it_read() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    append(&store, 0..50);
    store.seal().unwrap();
    append(&store, 50..60);
    append(&store, 60..70);
    let report = store.check().unwrap();
    assert_eq!(report.damage, []);
    assert_eq!((report.segments, report.rows, report.hot_rows), (1, 50, 20));
    assert_eq!((report.log_files, report.log_records), (1, 2));
    let log = disk
        .paths()
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(".log"))
        .unwrap();
    assert_eq!(report.log_bytes, disk.map(&log).unwrap().len() as u64);
    let catalog = bytes(&disk, "/store/catalog.redb");
    assert_eq!(report.catalog_bytes, catalog.len() as u64);
    // Damage to the log is damage.
    disk.corrupt(&log, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle - 200] ^= 1;
    })
    .unwrap();
    let report = store.check().unwrap();
    assert!(
        report.damage.iter().any(|one| one.file.contains("/log/")),
        "{report:?}"
    );
}
