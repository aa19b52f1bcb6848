//! Each row says which log record brought it, wherever it moves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use spanstore::io::{PowerCut, SimulatedDisk};
use spanstore::{Store, Team};
use spanstore_format::span::SpanColumn;
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_on, team, without_repeats};

fn open(disk: &SimulatedDisk) -> Store {
    open_on(Arc::new(disk.clone()), "/store", without_repeats()).unwrap()
}

/// The sequences of a team's spans, by number; a span may be there more than once.
fn sequences(team: &Team) -> BTreeMap<u64, Vec<i64>> {
    let mut all: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for chunk in team.export().unwrap() {
        for batch in chunk.unwrap().batches() {
            let ids = SpanColumn::SpanId.ids(batch).unwrap();
            let sequences = SpanColumn::Sequence.int64s(batch).unwrap();
            for (row, sequence) in sequences.values().iter().enumerate() {
                let number = u64::from_be_bytes(ids.value(row).try_into().unwrap()) - 1;
                all.entry(number).or_default().push(*sequence);
            }
        }
    }
    for sequences in all.values_mut() {
        sequences.sort_unstable();
    }
    all
}

#[test]
fn rows_keep_the_sequence_of_their_batch() {
    let disk = SimulatedDisk::new();
    let mut store = open(&disk);
    // Some batches share a sync and some spans are left out.
    for start in [0, 30, 40, 95] {
        for name in ["acme", "b"] {
            let handle = store.team(&team(name));
            handle
                .append(request((start..start + 20).map(span)))
                .unwrap();
        }
    }
    let check = |store: &Store| {
        let acme = sequences(&store.team(&team("acme")));
        let other = sequences(&store.team(&team("b")));
        assert_eq!((acme.len(), other.len()), (70, 70));
        assert!(
            acme.values()
                .chain(other.values())
                .all(|one| one.len() == 1)
        );
        // Appends were answered one after the other.
        let batches: Vec<i64> = [0, 30, 50, 95]
            .into_iter()
            .flat_map(|number| [acme[&number][0], other[&number][0]])
            .collect();
        assert!(
            batches.is_sorted_by(|one, next| one + 1 == *next),
            "{batches:?}"
        );
        for (numbers, first) in [(0..20, 0), (30..50, 30), (50..60, 50), (95..115, 95)] {
            for number in numbers {
                assert_eq!(acme[&number], acme[&first], "span {number}");
                assert_eq!(other[&number], other[&first], "span {number}");
            }
        }
        (acme, other)
    };
    let hot = check(&store);
    drop(store);
    disk.restart(PowerCut::DropAll);
    store = open(&disk);
    assert_eq!(check(&store), hot, "replayed");
    store.seal().unwrap();
    assert_eq!(check(&store), hot, "sealed");
    let more = store.team(&team("acme"));
    more.append(request((200..210).map(span))).unwrap();
    store.seal().unwrap();
    assert_eq!(store.compact().unwrap().segments_before, 2);
    let merged = sequences(&more);
    let (new, old): (BTreeMap<_, _>, _) =
        merged.into_iter().partition(|(number, _)| *number >= 200);
    assert_eq!((&old, new.len()), (&hot.0, 10), "merged");
    let latest = hot.1[&95][0];
    assert!(new.values().all(|one| one[0] > latest));
}

#[test]
fn of_copies_that_a_merge_collapses_the_first_stays() {
    let disk = SimulatedDisk::new();
    // What was sealed is not known any more: the spans come again.
    for numbers in [0..30, 10..30, 0..30] {
        let store = open(&disk);
        let acme = store.team(&team("acme"));
        acme.append(request(numbers.map(span))).unwrap();
        store.seal().unwrap();
        drop((acme, store));
        disk.restart(PowerCut::DropAll);
    }
    let store = open(&disk);
    let acme = store.team(&team("acme"));
    let before = sequences(&acme);
    assert_eq!((before[&5].len(), before[&15].len()), (2, 3));
    assert_eq!(store.compact().unwrap().rows_removed, 50);
    let after = sequences(&acme);
    for (number, sequences) in &after {
        assert_eq!(sequences, &before[number][..1], "span {number}");
    }
    assert_eq!(after.len(), 30);
}

/// A store that was repaired goes on above all sequences that its rows have.
#[test]
fn a_repaired_store_gives_out_higher_ones() {
    let directory = tempfile::tempdir().unwrap();
    let (path, repaired) = (directory.path().join("old"), directory.path().join("new"));
    let open = |path: &Path| spanstore_test_support::open_with(path, without_repeats());
    let store = open(&path);
    let acme = store.team(&team("acme"));
    acme.append(request((0..10).map(span))).unwrap();
    store.seal().unwrap();
    acme.append(request((10..20).map(span))).unwrap();
    let before = sequences(&acme);
    drop(acme);
    store.close().unwrap();
    std::fs::remove_file(path.join("catalog.redb")).unwrap();
    spanstore::repair(&path, &repaired).unwrap();
    let store = open(&repaired);
    let acme = store.team(&team("acme"));
    assert_eq!(sequences(&acme), before);
    acme.append(request((20..30).map(span))).unwrap();
    let after = sequences(&acme);
    assert!(after[&20][0] > before[&10][0], "{after:?}");
}

/// Some appends that share a sync write no record; those after them have the sequences
/// of their own records all the same.
#[test]
fn repeated_bodies_in_a_group_take_no_sequence() {
    let disk = SimulatedDisk::new();
    let options = spanstore_test_support::quiet();
    let open = || open_on(Arc::new(disk.clone()), "/store", options.clone()).unwrap();
    let store = open();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let acme = store.team(&team("acme"));
            scope.spawn(move || {
                for n in 0..30 {
                    let own = thread * 1_000 + n * 10;
                    acme.append(request((own..own + 3).map(span))).unwrap();
                    // All threads send these.
                    let common = 90_000 + n * 10;
                    acme.append(request((common..common + 3).map(span)))
                        .unwrap();
                }
            });
        }
    });
    let hot = sequences(&store.team(&team("acme")));
    assert_eq!(hot.len(), 8 * 90 + 90);
    drop(store);
    disk.restart(PowerCut::DropAll);
    assert_eq!(
        sequences(&open().team(&team("acme"))),
        hot,
        "as the log has them"
    );
}
