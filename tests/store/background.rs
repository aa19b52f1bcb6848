//! Seals and merges that nobody asked for, while operations fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::{Error, Store, StoreOptions};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_on, quiet, team};

const BATCHES: u64 = 24;
const BATCH: u64 = 10;

fn open(disk: &SimulatedDisk, background: bool) -> Result<Store, Error> {
    let options = StoreOptions {
        // Seals all the time, and merges after some.
        seal_rows: if background { 2 * BATCH } else { u64::MAX },
        background,
        compaction_percent: 100,
        ..quiet()
    };
    open_on(Arc::new(disk.clone()), "/store", options)
}

/// Appends batch after batch until one fails: those that were acknowledged,
/// and the one of which nothing is known.
fn workload(disk: &SimulatedDisk) -> (Vec<u64>, Option<u64>) {
    let mut acknowledged = Vec::new();
    let Ok(store) = open(disk, true) else {
        return (acknowledged, None);
    };
    for batch in 0..BATCHES {
        let spans = request((batch * BATCH..(batch + 1) * BATCH).map(span));
        match store.team(&team("acme")).append(spans) {
            Ok(receipt) => {
                assert_eq!(receipt.accepted, BATCH);
                acknowledged.push(batch);
            }
            // The disk was full for one write; nothing of the batch is there.
            Err(Error::NoSpace { .. }) => {}
            Err(_) => return (acknowledged, Some(batch)),
        }
    }
    drop(store.close());
    (acknowledged, None)
}

/// The batches that are there, each of them whole and once.
fn found(store: &Store, context: &str) -> Vec<u64> {
    let mut spans = Vec::new();
    for chunk in store.team(&team("acme")).export().unwrap() {
        let rows = chunk.unwrap().rows().unwrap();
        spans.extend(rows.iter().map(|row| u64::from_be_bytes(row.span_id.0) - 1));
    }
    spans.sort_unstable();
    let batches: Vec<u64> = spans
        .iter()
        .step_by(BATCH as usize)
        .map(|n| n / BATCH)
        .collect();
    let whole: Vec<u64> = batches
        .iter()
        .flat_map(|batch| batch * BATCH..(batch + 1) * BATCH)
        .collect();
    assert_eq!(spans, whole, "{context}");
    batches
}

fn verify(disk: &SimulatedDisk, known: &(Vec<u64>, Option<u64>), context: &str) {
    let store = open(disk, false).unwrap_or_else(|error| panic!("{context}: {error}"));
    let (acknowledged, unknown) = known;
    let mut with_unknown = acknowledged.clone();
    with_unknown.extend(unknown);
    let found = found(&store, context);
    assert!(
        found == *acknowledged || found == with_unknown,
        "{context}: {found:?}, acknowledged {acknowledged:?}, unknown {unknown:?}"
    );
    assert_eq!(store.check().unwrap().damage, [], "{context}");
    store.seal().unwrap();
    store.compact().unwrap();
    let damage = store.check().unwrap().damage;
    assert_eq!(damage, [], "{context}");
}

#[test]
fn seals_and_merges_happen_by_themselves() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, true).unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut batch = 0;
    // A merge has written segments of a level.
    while store.segments().iter().all(|one| one.level == 0) {
        assert!(Instant::now() < deadline, "{:?}", store.segments());
        let spans = request((batch * BATCH..(batch + 1) * BATCH).map(span));
        store.team(&team("acme")).append(spans).unwrap();
        batch += 1;
    }
    assert_eq!(found(&store, "merged").len() as u64, batch);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn a_fault_while_seals_and_merges_run_loses_and_doubles_nothing() {
    let whole = SimulatedDisk::new();
    let known = workload(&whole);
    assert_eq!(known, ((0..BATCHES).collect(), None));
    let operations = whole.operations();
    whole.restart(PowerCut::DropAll);
    verify(&whole, &known, "no fault");

    let mut met = 0;
    // What the threads do when differs from run to run; each run is judged by
    // what its caller knows.
    for (fault, step) in [(Fault::Crash, 3), (Fault::Error, 7), (Fault::NoSpace, 7)] {
        for operation in (0..operations).step_by(step) {
            let context = format!("{fault:?} at operation {operation}");
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, fault);
            let known = workload(&disk);
            met += u64::from(disk.operations() > operation);
            let cut = match operation % 3 {
                0 => PowerCut::DropAll,
                1 => PowerCut::KeepAll,
                _ => PowerCut::Some(operation),
            };
            disk.restart(cut);
            verify(&disk, &known, &context);
        }
    }
    assert!(met > operations / 3, "{met} faults");
}
