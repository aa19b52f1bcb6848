//! Damage to the log of a store that was closed or idle is found, in every bit
//! and at every length. What a power cut leaves of a busy one is no damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spanstore::io::{Disk, Fault, PowerCut, SimulatedDisk};
use spanstore::{Durability, Error, ManualClock, Store, StoreOptions, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, quiet, team};

/// A store on a simulated disk, with a clock that the test moves.
struct Place {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: StoreOptions,
}

impl Place {
    fn new(durability: Durability) -> Self {
        Self {
            disk: SimulatedDisk::new(),
            clock: Arc::new(ManualClock::new(NOW)),
            options: StoreOptions {
                durability,
                ..quiet()
            },
        }
    }

    fn open(&self) -> Result<Store, Error> {
        let disk = Arc::new(self.disk.clone());
        Store::open_on(disk, "/store", self.options.clone(), self.clock.clone())
    }

    /// The power goes: nothing is written any more.
    fn crash(&self, store: Store, cut: PowerCut) {
        self.disk.fail_at(self.disk.operations(), Fault::Crash);
        drop(store);
        self.disk.restart(cut);
    }

    fn logs(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let logs = self.disk.paths().into_iter();
        logs.filter(|path| path.extension() == Some("log".as_ref()))
            .map(|path| {
                let mut content = Vec::new();
                let read = self.disk.corrupt(&path, |bytes| content.clone_from(bytes));
                read.unwrap();
                (path, content)
            })
            .collect()
    }

    fn write(&self, path: &Path, content: &[u8]) {
        let written = self.disk.corrupt(path, |bytes| *bytes = content.to_vec());
        written.unwrap();
    }
}

fn append(store: &Store, n: u64) {
    let receipt = store.team(&team("acme")).append(request([span(n)]));
    assert_eq!(receipt.unwrap().accepted, 1);
}

fn spans(store: &Store) -> usize {
    let acme = store.team(&team("acme"));
    acme.trace(TraceId(trace_id(0))).unwrap().len()
}

/// Damages each log in every way; each is an error of the open.
fn every_damage_is_found(place: &Place, expected: usize) {
    for (path, content) in place.logs() {
        let mut damaged = Vec::new();
        for at in 0..content.len() {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            damaged.push((flipped, format!("bit {} of byte {at}", at % 8)));
            damaged.push((content[..at].to_vec(), format!("cut at {at}")));
            if at % 10 == 0 {
                let mut zeroed = content.clone();
                zeroed[at..].fill(0);
                damaged.push((zeroed, format!("zeros from {at} on")));
            }
        }
        damaged.retain(|(bytes, _)| *bytes != content);
        for (bytes, how) in damaged {
            place.write(&path, &bytes);
            let opened = place.open();
            let context = format!("{}: {how}", path.display());
            let Err(Error::Corrupt { file, .. }) = opened else {
                panic!("{context}: {opened:?}")
            };
            assert_eq!(file, path.display().to_string(), "{how}");
        }
        place.write(&path, &content);
    }
    let logs = place.logs();
    for (path, content) in &logs {
        place.disk.remove_file(path).unwrap();
        let opened = place.open();
        // A file that nothing was written to yet holds nothing.
        let is_empty = content.len() == 64;
        let is_found = matches!(&opened, Err(Error::Corrupt { .. }));
        assert_eq!(is_found, !is_empty, "{}: {opened:?}", path.display());
        drop(opened);
        let file = place
            .disk
            .open(path, spanstore::io::OpenMode::CreateOrExisting);
        drop(file.unwrap());
        place.write(path, content);
    }
    assert_eq!(spans(&place.open().unwrap()), expected);
}

#[test]
fn damage_to_the_log_of_a_closed_store_is_found() {
    let place = Place::new(Durability::Sync);
    let store = place.open().unwrap();
    append(&store, 0);
    store.close().unwrap();
    every_damage_is_found(&place, 1);
    let store = place.open().unwrap();
    append(&store, 1);
    append(&store, 2);
    store.close().unwrap();
    every_damage_is_found(&place, 3);
}

#[test]
fn damage_to_the_log_of_an_idle_store_is_found() {
    for durability in [Durability::Sync, Durability::None] {
        let place = Place::new(durability);
        let store = place.open().unwrap();
        append(&store, 0);
        place.clock.advance(Duration::from_millis(1_001));
        store.maintain().unwrap();
        place.crash(store, PowerCut::DropAll);
        every_damage_is_found(&place, 1);
    }
}

#[test]
fn what_opening_replayed_is_settled_when_the_store_is_idle() {
    let place = Place::new(Durability::Sync);
    let store = place.open().unwrap();
    append(&store, 0);
    place.crash(store, PowerCut::DropAll);
    let store = place.open().unwrap();
    place.clock.advance(Duration::from_millis(1_001));
    store.maintain().unwrap();
    place.crash(store, PowerCut::DropAll);
    every_damage_is_found(&place, 1);
}

#[test]
fn the_end_of_a_busy_log_is_cut_off() {
    let place = Place::new(Durability::Sync);
    let store = place.open().unwrap();
    append(&store, 0);
    append(&store, 1);
    // Less than a second since the last append.
    place.clock.advance(Duration::from_millis(900));
    append(&store, 2);
    place.clock.advance(Duration::from_millis(900));
    store.maintain().unwrap();
    place.crash(store, PowerCut::DropAll);
    let (path, content) = place.logs().swap_remove(0);
    place.write(&path, &content[..content.len() - 1]);
    let store = place.open().unwrap();
    assert_eq!(spans(&store), 2);
    assert!(store.recovered().torn_bytes > 0);
}

#[test]
fn the_log_settles_once_an_idle_time() {
    let place = Place::new(Durability::Sync);
    let store = place.open().unwrap();
    append(&store, 0);
    place.clock.advance(Duration::from_secs(2));
    store.maintain().unwrap();
    let before = place.disk.operations();
    for _ in 0..10 {
        place.clock.advance(Duration::from_secs(2));
        store.maintain().unwrap();
    }
    assert_eq!(place.disk.operations(), before);
}

#[test]
fn a_log_that_cannot_be_settled_is_told_and_poisons_nothing() {
    for fault in [Fault::NoSpace, Fault::Error] {
        let place = Place::new(Durability::Sync);
        let store = place.open().unwrap();
        append(&store, 0);
        place.clock.advance(Duration::from_secs(2));
        place.disk.fail_at(place.disk.operations(), fault);
        store.maintain().unwrap();
        let report = store.health();
        assert_eq!(report.poisoned, None, "{fault:?}");
        assert_eq!(report.failures.len(), 1, "{fault:?}");
        append(&store, 1);
        assert_eq!(spans(&store), 2);
        place.crash(store, PowerCut::DropAll);
        assert_eq!(spans(&place.open().unwrap()), 2);
    }
}

#[test]
fn a_backup_of_a_settled_store_opens() {
    let place = Place::new(Durability::Sync);
    let store = place.open().unwrap();
    append(&store, 0);
    place.clock.advance(Duration::from_secs(2));
    store.maintain().unwrap();
    store.seal().unwrap();
    append(&store, 1);
    place.clock.advance(Duration::from_secs(2));
    store.maintain().unwrap();
    store.backup("/copy").unwrap();
    let disk = Arc::new(place.disk.clone());
    let copy = Store::open_on(disk, "/copy", quiet(), place.clock.clone()).unwrap();
    assert_eq!(spans(&copy), 2);
    append(&copy, 2);
}

#[test]
fn an_interval_syncs_when_it_has_passed() {
    let interval = Duration::from_millis(200);
    for (passed, expected) in [(199, 0), (200, 1)] {
        let place = Place::new(Durability::Interval(interval));
        let store = place.open().unwrap();
        append(&store, 0);
        place.clock.advance(Duration::from_millis(passed));
        store.maintain().unwrap();
        place.crash(store, PowerCut::DropAll);
        assert_eq!(spans(&place.open().unwrap()), expected, "{passed} ms");
    }
}

#[test]
fn a_power_cut_leaves_a_prefix_in_every_mode() {
    let mut lost = 0;
    for durability in [
        Durability::Sync,
        Durability::Interval(Duration::from_millis(300)),
        Durability::None,
    ] {
        for seed in 0..60 {
            let place = Place::new(durability);
            let store = place.open().unwrap();
            // A seal in the middle makes a second file of the log, and fails.
            for n in 0..9 {
                append(&store, n);
                place.clock.advance(Duration::from_millis(100));
                store.maintain().unwrap();
                if n == 4 {
                    // It has begun another file when its segment finds no space.
                    let fault = place.disk.operations() + 8;
                    place.disk.fail_at(fault, Fault::NoSpace);
                    assert!(store.seal().is_err());
                    assert_eq!(place.logs().len(), 2);
                }
            }
            place.crash(store, PowerCut::Some(seed));
            let store = place.open().unwrap();
            let found = spans(&store);
            let rows = store.team(&team("acme")).trace(TraceId(trace_id(0)));
            let mut ids: Vec<u64> = rows
                .unwrap()
                .rows()
                .unwrap()
                .iter()
                .map(|row| u64::from_be_bytes(row.span_id.0) - 1)
                .collect();
            ids.sort_unstable();
            let context = format!("{durability:?}, seed {seed}");
            assert_eq!(ids, (0..found as u64).collect::<Vec<_>>(), "{context}");
            if durability == Durability::Sync {
                assert_eq!(found, 9, "{context}");
            }
            lost += 9 - found;
        }
    }
    assert!(lost > 20, "{lost}");
}
