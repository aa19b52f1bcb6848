//! Damage of single parts of a segment, merges that did not end, and what is told of it.

use std::collections::BTreeMap;
use std::ops::Range;

use spanstore::StoreOptions;

use super::choice::{Kept, kept, put_back};
use super::*;

fn open(disk: &SimulatedDisk, root: &str, segment_rows: u64) -> Store {
    let options = StoreOptions {
        segment_rows,
        ..quiet()
    };
    open_on(Arc::new(disk.clone()), root, options).unwrap()
}

fn append(store: &Store, name: &str, spans: Range<u64>) {
    let batch = request(spans.map(span));
    store.team(&team(name)).append(batch).unwrap();
}

fn close(store: Store, disk: &SimulatedDisk) {
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
}

fn lose_catalog(disk: &SimulatedDisk) {
    disk.remove_file(Path::new("/old/catalog.redb")).unwrap();
}

/// Repairs, and counts how many times each span of a team is there.
fn counted(disk: &SimulatedDisk, names: &[&str]) -> (RepairReport, BTreeMap<(String, u64), u32>) {
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = repair_on(&dyn_disk, OLD, NEW).unwrap();
    let store = open(disk, NEW, u64::MAX);
    let mut found = BTreeMap::new();
    for name in names {
        for chunk in store.team(&team(name)).export().unwrap() {
            for row in chunk.unwrap().rows().unwrap() {
                let n = u64::from_be_bytes(row.span_id.0) - 1;
                *found.entry(((*name).to_owned(), n)).or_default() += 1;
            }
        }
    }
    (report, found)
}

/// Where only the origin of a segment is damaged, all its rows can be read. Without the
/// catalog nobody knows whether others have them too.
#[test]
fn rows_of_a_segment_without_its_origin_stay_or_are_told_as_lost() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD, u64::MAX);
    // Enough that the origin lies in another block than the directory.
    append(&store, "acme", 0..20_000);
    store.seal().unwrap();
    let path = Path::new(OLD).join(segment_path(&store.segments()[0]));
    close(store, &disk);
    let bytes = disk.map(&path).unwrap();
    let reader = SegmentReader::open(bytes.clone(), summarize(&bytes).unwrap()).unwrap();
    let origin = reader.header().part(Part::Origin).unwrap();
    disk.corrupt(&path, |bytes| bytes[origin.start as usize] ^= 1)
        .unwrap();
    let without_catalog = disk.fork();
    let (report, found) = counted(&disk, &["acme"]);
    assert_eq!((report.lost, found.len()), (vec![], 20_000));
    // What was written of it is a segment as any other, also when that is repaired.
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.remove_file(Path::new("/new/catalog.redb")).unwrap();
    let report = repair_on(&dyn_disk, NEW, "/newer").unwrap();
    assert_eq!((report.lost, report.spans), (vec![], 20_000));

    lose_catalog(&without_catalog);
    let (report, found) = counted(&without_catalog, &["acme"]);
    assert_eq!(found.len(), 0);
    assert!(
        report.lost.iter().any(|one| one.spans.is_none()),
        "{report:?}"
    );
}

/// Two segments of two teams, and what a merge into one segment for each team wrote. The
/// disk is as before the merge.
fn before_merge() -> (SimulatedDisk, Vec<Kept>, Vec<Kept>) {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD, 1);
    for first in [0, 9_000] {
        append(&store, "acme", first..first + 9_000);
        append(&store, "other", first..first + 40);
        store.seal().unwrap();
    }
    close(store, &disk);
    let after = disk.fork();
    let store = open(&after, OLD, 1);
    store.compact().unwrap();
    close(store, &after);
    (
        disk.clone(),
        kept(&disk, ".parquet"),
        kept(&after, ".parquet"),
    )
}

/// A crash left the first of two parts of a merge; of an input a block is damaged.
#[test]
fn a_part_of_a_merge_that_did_not_end_doubles_nothing() {
    for has_catalog in [true, false] {
        let (disk, inputs, outputs) = before_merge();
        assert_eq!((inputs.len(), outputs.len()), (2, 2));
        put_back(&disk, &outputs[..1]);
        let (path, _) = &inputs[0];
        let pages = page_locations(&disk.map(path).unwrap(), "span_id");
        let at = pages[pages.len() / 2].offset as usize;
        disk.corrupt(path, |bytes| bytes[at] ^= 1).unwrap();
        if !has_catalog {
            lose_catalog(&disk);
        }
        let (_, found) = counted(&disk, &["acme", "other"]);
        let twice = found.values().filter(|count| **count > 1).count();
        assert_eq!(twice, 0, "catalog {has_catalog}: of {}", found.len());
    }
}

/// The last part of a rewrite is empty, so no file stands for it.
#[test]
fn a_rewrite_without_its_last_part_replaces_what_came_back() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD, 1);
    for first in [0, 40] {
        append(&store, "acme", first..first + 40);
        append(&store, "other", first..first + 40);
        store.seal().unwrap();
    }
    let inputs = kept(&disk, ".parquet");
    store.team(&team("other")).forget().unwrap();
    assert_eq!(store.compact().unwrap().segments_after, 1);
    close(store, &disk);
    // One of the files that were removed comes back with a power cut.
    put_back(&disk, &inputs[..1]);
    lose_catalog(&disk);
    let (_, found) = counted(&disk, &["acme"]);
    assert_eq!(found.len(), 80);
    let twice = found.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0);
}

/// A log file that is sealed comes back; those between it and what is not sealed do not.
#[test]
fn what_is_sealed_is_not_told_as_lost_with_the_log() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD, u64::MAX);
    append(&store, "acme", 0..40);
    let first = kept(&disk, ".log");
    store.seal().unwrap();
    append(&store, "acme", 40..80);
    store.seal().unwrap();
    append(&store, "acme", 80..120);
    close(store, &disk);
    put_back(&disk, &first[..1]);
    let (report, found) = counted(&disk, &["acme"]);
    assert_eq!(found.len(), 120);
    assert!(found.values().all(|count| *count == 1));
    assert_eq!(
        (&report.lost[..], &report.lost_sequences[..]),
        (&[][..], &[][..])
    );
    assert_eq!(report.damage, []);
}

/// The name of a file has the highest id that there is.
#[test]
fn a_file_with_the_highest_id_is_no_panic() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD, u64::MAX);
    append(&store, "acme", 0..40);
    store.seal().unwrap();
    append(&store, "acme", 40..50);
    let path = Path::new(OLD).join(segment_path(&store.segments()[0]));
    close(store, &disk);
    let stray = path.with_file_name("ffffffffffffffff.parquet");
    put_back(&disk, &[(stray, b"nothing".to_vec())]);
    let (_, found) = counted(&disk, &["acme"]);
    assert_eq!(found.len(), 50);
}

/// Spans that never had a parent lack none, and an id that stands with its span is read.
#[test]
fn spans_that_had_no_parent_are_not_told_as_without_it() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD, u64::MAX);
    // Long traces; of each all spans but every fifth are children of the second.
    let has_parent = |n: u64| !n.is_multiple_of(5);
    let spans = (0..9_000).map(|n| {
        let first = n / 1_000 * 1_000;
        let mut one = span(n);
        one.trace_id = span(first).trace_id;
        one.parent_span_id = if has_parent(n) {
            span(first + 1).span_id
        } else {
            Vec::new()
        };
        one
    });
    store.team(&team("acme")).append(request(spans)).unwrap();
    store.seal().unwrap();
    let path = Path::new(OLD).join(segment_path(&store.segments()[0]));
    close(store, &disk);
    let pages = page_locations(&disk.map(&path).unwrap(), "span_id");
    let at = pages[pages.len() / 2].offset as usize;
    disk.corrupt(&path, |bytes| bytes[at] ^= 1).unwrap();
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = repair_on(&dyn_disk, OLD, NEW).unwrap();
    let store = open(&disk, NEW, u64::MAX);
    let mut without = 0;
    for chunk in store.team(&team("acme")).export().unwrap() {
        for row in chunk.unwrap().rows().unwrap() {
            let n = u64::from_be_bytes(row.span_id.0) - 1;
            without += u64::from(row.parent_span_id.is_none() && has_parent(n));
        }
    }
    let told: u64 = report
        .without_parent
        .iter()
        .filter_map(|one| one.spans)
        .sum();
    assert_eq!(told, without, "{report:?}");
}
