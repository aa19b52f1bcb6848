//! Damage in a segment: it is named, and the rest stays readable.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spanstore::io::{Disk, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{Error, Store, TeamId};
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::layout::checksum::BLOCK_BYTES;
use spanstore_format::segment::summarize;
use spanstore_test_support::spans::{request, span, text};
use spanstore_test_support::{open_on, page_locations, quiet, team};

fn open(disk: &SimulatedDisk) -> Store {
    open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap()
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let paths = disk.paths().into_iter();
    paths
        .filter(|path| path.extension() == Some("parquet".as_ref()))
        .collect()
}

fn exported(store: &Store, name: &str) -> Result<usize, Error> {
    let chunks = store.team(&team(name)).export()?;
    chunks.map(|chunk| chunk.map(|spans| spans.len())).sum()
}

#[test]
fn a_damaged_segment_is_named_and_the_rest_stays_readable() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    store
        .team(&team("acme"))
        .append(request((0..5).map(span)))
        .unwrap();
    store.seal().unwrap();
    store
        .team(&team("other"))
        .append(request((0..5).map(span)))
        .unwrap();
    store.seal().unwrap();
    drop(store);
    let segments = segments(&disk);
    disk.corrupt(&segments[0], |bytes| bytes[100] ^= 1).unwrap();
    let store = open(&disk);
    let report = store.check().unwrap();
    assert!(!report.damage.is_empty());
    assert!(
        report.damage[0]
            .file
            .contains(&*segments[0].to_string_lossy()),
        "{report:?}"
    );
    let acme = store.team(&team("acme"));
    let error = acme.export().unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(exported(&store, "other").unwrap(), 5);
    let receipt = store
        .team(&team("acme"))
        .append(request((5..9).map(span)))
        .unwrap();
    assert_eq!(receipt.accepted, 4);
}

/// The middle of the first block whose pages have rows of this team alone, in a column
/// that takes many blocks.
fn within_a_page(file: &Bytes, team: &TeamId) -> usize {
    let reader = SegmentReader::open(file.clone(), summarize(file).unwrap()).unwrap();
    let first_row = reader.directory().find(team).unwrap().unwrap().rows.start;
    let pages = page_locations(file, "attributes");
    let mut pages = pages.iter();
    let page = pages.find(|page| page.first_row_index >= i64::from(first_row));
    let page = page.unwrap();
    let block = i64::try_from(BLOCK_BYTES).unwrap();
    let middle = (page.offset / block + 1) * block + block / 2;
    usize::try_from(middle).unwrap()
}

/// A segment with 4,000 large spans of each of two teams.
fn two_teams() -> (SimulatedDisk, PathBuf) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut large = |n: u64| {
        let noise = (0..16).map(|_| format!("{:016x}", random.random::<u64>()));
        let mut span: Span = span(n);
        let key = format!("noise.{}", n % 500);
        span.attributes.push(text(&key, &noise.collect::<String>()));
        span
    };
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for name in ["acme", "other"] {
        let spans: Vec<Span> = (0..SPANS).map(&mut large).collect();
        store.team(&team(name)).append(request(spans)).unwrap();
    }
    store.seal().unwrap();
    let segment = segments(&disk).remove(0);
    (disk, segment)
}

const SPANS: u64 = 4_000;

#[test]
fn damage_to_one_team_s_rows_leaves_the_other_s_in_the_same_segment() {
    let (disk, segment) = two_teams();
    let file = disk.map(&segment).unwrap();
    for (damaged, whole) in [("acme", "other"), ("other", "acme")] {
        let at = within_a_page(&file, &team(damaged));
        disk.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap();
        let store = open(&disk);
        assert_eq!(exported(&store, whole).unwrap() as u64, SPANS);
        let error = exported(&store, damaged).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        // Rows of the damaged team in other pages are readable too.
        let late = store.team(&team(damaged)).session_spans("session-130");
        assert_eq!(late.unwrap().len(), 30);
        let report = store.check().unwrap();
        let name = segment.to_string_lossy().into_owned();
        let is_named = report.damage.iter().any(|one| one.file.contains(&name));
        assert!(is_named, "{report:?}");
        drop(store);
        disk.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap();
        assert_eq!(open(&disk).check().unwrap().damage, []);
    }
}

#[test]
fn a_merge_of_a_damaged_segment_fails_and_loses_nothing() {
    let (disk, segment) = two_teams();
    let at = within_a_page(&disk.map(&segment).unwrap(), &team("acme"));
    disk.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap();
    let store = open(&disk);
    for name in ["acme", "other"] {
        let more = request([span(SPANS)]);
        store.team(&team(name)).append(more).unwrap();
    }
    store.seal().unwrap();
    let error = store.compact().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(exported(&store, "other").unwrap() as u64, SPANS + 1);
    drop(store);
    // Nothing of it was removed: undamaged, all is there.
    disk.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap();
    let store = open(&disk);
    assert_eq!(store.check().unwrap().damage, []);
    assert_eq!(exported(&store, "acme").unwrap() as u64, SPANS + 1);
    store.compact().unwrap();
    assert_eq!(exported(&store, "acme").unwrap() as u64, SPANS + 1);
}

/// What is to be erased need not be read.
#[test]
fn a_forgotten_team_is_erased_though_its_rows_are_damaged() {
    for rows in [20_000, 40_000] {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        for (name, rows) in [("acme", rows), ("other", 40)] {
            let batch = request((0..rows).map(span));
            store.team(&team(name)).append(batch).unwrap();
        }
        store.seal().unwrap();
        let path = &segments(&disk)[0];
        store.close().unwrap();
        let pages = page_locations(&disk.map(path).unwrap(), "span_id");
        let at = pages[pages.len() / 2].offset as usize;
        disk.corrupt(path, |bytes| bytes[at] ^= 1).unwrap();
        let store = open(&disk);
        store.team(&team("acme")).forget().unwrap();
        let report = store
            .erase()
            .unwrap_or_else(|error| panic!("{rows}: {error}"));
        assert_eq!((report.rows_written, report.rows_removed), (40, rows));
        assert_eq!(store.check().unwrap().damage, []);
    }
}

#[tokio::test]
async fn damage_to_codes_of_one_team_leaves_the_other_s_in_the_same_row_group() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let names = |n: u64| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 8_000);
    for name in ["acme", "other"] {
        let spans = (0..SPANS * 5).map(|n| Span {
            name: names(n),
            ..span(n)
        });
        store.team(&team(name)).append(request(spans)).unwrap();
    }
    store.seal().unwrap();
    let segment = segments(&disk).remove(0);
    let file = disk.map(&segment).unwrap();
    let last = page_locations(&file, "name").pop().unwrap();
    let at = usize::try_from(last.offset + i64::from(last.compressed_page_size) / 2).unwrap();
    drop(store);
    disk.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap();
    let store = open(&disk);
    for _ in 0..2 {
        let top = |name: &str| store.team(&team(name)).query().top("name", 10_000);
        let found = top("acme").await.unwrap();
        assert_eq!(found.iter().map(|one| one.spans).sum::<u64>(), SPANS * 5);
        let error = top("other").await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}
