//! Repair: whatever is deleted, flipped or cut, the new store holds each span
//! that could be read, once, and says what is lost.

mod choice;
mod parts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spanstore::io::{Disk, Fault, OpenMode, PowerCut, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{
    CatalogTable, Error, LostSpans, Month, NewSession, RepairReport, Store, repair_on,
};
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::layout::header::Part;
use spanstore_format::segment::summarize;
use spanstore_format::span::SpanColumn;
use spanstore_test_support::spans::{request, span, text};
use spanstore_test_support::{NOW, open_on, page_locations, quiet, segment_path, team};

const OLD: &str = "/old";
const NEW: &str = "/new";
const TEAMS: [&str; 2] = ["acme", "other"];

fn open(disk: &SimulatedDisk, root: &str) -> Result<Store, Error> {
    open_on(Arc::new(disk.clone()), root, quiet())
}

/// Span number `n`; those from 200 on lie in the month before.
fn spread(n: u64) -> Span {
    let mut span = span(n);
    if n >= 200 {
        let earlier = Month::of(NOW).start_nanos().cast_unsigned() - 1_000_000_000 + n;
        span.start_time_unix_nano = earlier;
        span.end_time_unix_nano = earlier + 5;
    }
    span
}

fn append(store: &Store, name: &str, spans: std::ops::Range<u64>) {
    let receipt = store
        .team(&team(name))
        .append(request(spans.clone().map(spread)))
        .unwrap();
    assert_eq!(receipt.accepted, spans.end - spans.start);
}

/// A store with merged and sealed segments of two months, and with rows that
/// only the log has; closed.
fn damaged_later() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    append(&store, "acme", 0..40);
    append(&store, "other", 0..20);
    store.seal().unwrap();
    append(&store, "acme", 40..80);
    store.seal().unwrap();
    store.compact().unwrap();
    append(&store, "acme", 80..120);
    store.seal().unwrap();
    append(&store, "other", 200..215);
    store.seal().unwrap();
    append(&store, "acme", 120..140);
    store.team(&team("acme")).set_quota(Some(5_000)).unwrap();
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    disk
}

/// The spans of each file of [`damaged_later`].
fn spans_of(store: &Store, path: &Path) -> BTreeSet<(&'static str, u64)> {
    let name = path.to_string_lossy().into_owned();
    let of = |team, spans: std::ops::Range<u64>| spans.map(move |n| (team, n));
    if name.contains("/log/") {
        return of("acme", 120..140).collect();
    }
    let segments = store.segments();
    let Some(segment) = segments
        .iter()
        .find(|one| name.contains(&one.id.to_string()))
    else {
        return BTreeSet::new();
    };
    match segment.rows {
        100 => of("acme", 0..80).chain(of("other", 0..20)).collect(),
        40 => of("acme", 80..120).collect(),
        15 => of("other", 200..215).collect(),
        other => panic!("a segment of {other} rows"),
    }
}

fn copy(disk: &SimulatedDisk) -> SimulatedDisk {
    let to = SimulatedDisk::new();
    for path in disk.paths() {
        let bytes = disk.map(&path).unwrap();
        to.create_dir_all(path.parent().unwrap()).unwrap();
        let file = to.open(&path, OpenMode::CreateNew).unwrap();
        file.write_at(0, &bytes).unwrap();
    }
    to.restart(PowerCut::KeepAll);
    to
}

fn all() -> BTreeSet<(&'static str, u64)> {
    let acme = (0..140).map(|n| ("acme", n));
    let other = (0..20).chain(200..215).map(|n| ("other", n));
    acme.chain(other).collect()
}

/// The spans of a store, each once.
fn found(store: &Store, context: &str) -> BTreeSet<(&'static str, u64)> {
    let mut found = BTreeSet::new();
    for name in TEAMS {
        for chunk in store.team(&team(name)).export().unwrap() {
            for row in chunk.unwrap().rows().unwrap() {
                let n = u64::from_be_bytes(row.span_id.0) - 1;
                assert!(found.insert((name, n)), "{context}: {name} has {n} twice");
            }
        }
    }
    found
}

/// What befalls a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Delete,
    Flip,
    Cut,
}

impl Blow {
    fn strike(self, disk: &SimulatedDisk, path: &Path, seed: usize) {
        match self {
            Self::Delete => disk.remove_file(path).unwrap(),
            Self::Flip => disk
                .corrupt(path, |bytes| {
                    let at = seed % bytes.len();
                    bytes[at] ^= 0x10;
                })
                .unwrap(),
            Self::Cut => disk
                .corrupt(path, |bytes| bytes.truncate(bytes.len() / 2))
                .unwrap(),
        }
    }
}

/// The files whose damage takes spans away, and the catalog.
fn files(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let files = disk.paths().into_iter();
    files
        .filter(|path| !path.to_string_lossy().ends_with(".sums"))
        .collect()
}

fn repaired(disk: &SimulatedDisk, context: &str) -> (RepairReport, Store) {
    let before: Vec<_> = files(disk)
        .into_iter()
        .map(|path| (disk.map(&path).unwrap(), path))
        .collect();
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report =
        repair_on(&dyn_disk, OLD, NEW).unwrap_or_else(|error| panic!("{context}: {error}"));
    for (bytes, path) in before {
        assert_eq!(
            disk.map(&path).unwrap(),
            bytes,
            "{context}: {} is changed",
            path.display()
        );
    }
    let store = open(disk, NEW).unwrap_or_else(|error| panic!("{context}: {error}"));
    (report, store)
}

/// Repairs a store of which some files were struck.
fn verify(disk: &SimulatedDisk, struck: &[(Blow, &PathBuf)], lost: &BTreeSet<(&str, u64)>) {
    let context = format!("{struck:?}");
    let (report, store) = repaired(disk, &context);
    let found = found(&store, &context);
    assert_eq!(report.spans as usize, found.len(), "{context}");
    assert!(found.is_subset(&all()), "{context}");
    let expected: BTreeSet<_> = all().difference(lost).copied().collect();
    assert!(
        found.is_superset(&expected),
        "{context}: {:?}",
        expected.difference(&found)
    );
    assert_eq!(store.check().unwrap().damage, [], "{context}");
    let has_catalog = !struck
        .iter()
        .any(|(_, path)| path.ends_with("catalog.redb"));
    let acme = store.team(&team("acme"));
    if has_catalog {
        assert_eq!(report.lost_tables, [], "{context}");
        assert_eq!(
            acme.usage(Month::of(NOW)).unwrap().limit,
            5_000,
            "{context}"
        );
        // Sealed spans are counted, those of the log are lost by sequence.
        let sealed: u64 = report.lost.iter().filter_map(|lost| lost.spans).sum();
        let gone = (all().len() - found.len()) as u64;
        assert!(
            sealed == gone || (!report.lost_sequences.is_empty() && sealed + 20 == gone),
            "{context}: {sealed} of {gone}, {report:?}"
        );
    }
    // It goes on as any store, and counts at least what there is.
    let there = found.iter().filter(|(name, _)| *name == "acme").count() as u64;
    let used = acme.usage(Month::of(NOW)).unwrap().used;
    assert!(
        (there..=140).contains(&used),
        "{context}: {used} of {there}"
    );
    append(&store, "acme", 150..160);
    store.seal().unwrap();
    store.compact().unwrap();
    assert_eq!(store.check().unwrap().damage, [], "{context}");
}

#[test]
fn what_is_whole_stays_whole() {
    let disk = damaged_later();
    let (report, store) = repaired(&disk, "whole");
    assert_eq!(found(&store, "whole"), all());
    assert_eq!(report.spans, 175);
    assert_eq!((report.segments, report.rebuilt_segments), (3, 1));
    assert!(report.lost.is_empty() && report.damage.is_empty() && report.lost_sequences.is_empty());
    assert_eq!(store.check().unwrap().damage, []);
    let usage = store.team(&team("acme")).usage(Month::of(NOW)).unwrap();
    assert_eq!((usage.used, usage.limit), (140, 5_000));
}

#[test]
fn each_file_may_be_deleted_flipped_or_cut() {
    let whole = damaged_later();
    let store = open(&copy(&whole), OLD).unwrap();
    for blow in [Blow::Delete, Blow::Flip, Blow::Cut] {
        for path in files(&whole) {
            for seed in [70, 4_000, 16_500, 22_000] {
                let disk = copy(&whole);
                blow.strike(&disk, &path, seed);
                verify(&disk, &[(blow, &path)], &spans_of(&store, &path));
                if blow != Blow::Flip {
                    break;
                }
            }
        }
    }
}

#[test]
fn two_files_may_be_deleted_flipped_or_cut() {
    let whole = damaged_later();
    let store = open(&copy(&whole), OLD).unwrap();
    let files = files(&whole);
    let blows = [Blow::Delete, Blow::Flip, Blow::Cut];
    for (number, one) in files.iter().enumerate() {
        for (place, other) in files.iter().enumerate().skip(number + 1) {
            let (first, second) = (blows[(number + place) % 3], blows[place % 3]);
            let disk = copy(&whole);
            first.strike(&disk, one, 16_400 + number);
            second.strike(&disk, other, 5_000 + place);
            let lost = spans_of(&store, one)
                .union(&spans_of(&store, other))
                .copied()
                .collect();
            verify(&disk, &[(first, one), (second, other)], &lost);
        }
    }
}

#[test]
fn a_lost_catalog_is_made_of_what_the_segments_and_the_log_say() {
    let disk = damaged_later();
    disk.remove_file(Path::new("/old/catalog.redb")).unwrap();
    let error = open(&disk, OLD).unwrap_err();
    let Error::CatalogMissing { segments, logs, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((segments, logs), (3, 1));
    let (report, store) = repaired(&disk, "no catalog");
    assert_eq!(found(&store, "no catalog"), all());
    let tables = [
        CatalogTable::Segments,
        CatalogTable::Counters,
        CatalogTable::Settings,
        CatalogTable::Store,
        CatalogTable::Erasures,
        CatalogTable::Sessions,
    ];
    assert_eq!(report.lost_tables, tables);
    let usage = store.team(&team("acme")).usage(Month::of(NOW)).unwrap();
    assert_eq!((usage.used, usage.limit), (140, 1_000_000));
}

/// Where a block of the catalog is damaged that its tables can do without, all of them are
/// there; else those that cannot be read are named.
#[test]
fn tables_of_a_damaged_catalog_that_can_be_read_are_kept() {
    let disk = damaged_later();
    let store = open(&disk, OLD).unwrap();
    let acme = store.team(&team("acme"));
    let session = acme
        .start_session(NewSession {
            user: "ada".into(),
            environment: "preview".into(),
            ..NewSession::default()
        })
        .unwrap();
    acme.set_quota(Some(77)).unwrap();
    store.seal().unwrap();
    drop((acme, store));
    let path = PathBuf::from(format!("{OLD}/catalog.redb"));
    let bytes = disk.open(&path, OpenMode::Existing).unwrap().len().unwrap();
    let (mut whole, mut lost) = (0, 0);
    for place in (1_000..bytes).step_by(4_096) {
        let disk = disk.fork();
        let file = disk.open(&path, OpenMode::Existing).unwrap();
        let mut byte = [0];
        file.read_at(place, &mut byte).unwrap();
        file.write_at(place, &[byte[0] ^ 8]).unwrap();
        file.sync_data().unwrap();
        drop(file);
        let (report, store) = repaired(&disk, &format!("byte {place}"));
        let acme = store.team(&team("acme"));
        let limit = acme.usage(Month::of(NOW)).unwrap().limit;
        let sessions = acme.active_sessions("ada").unwrap();
        let is_lost = |table| report.lost_tables.contains(&table);
        assert_eq!(limit == 77, !is_lost(CatalogTable::Settings), "{place}");
        let expected = if is_lost(CatalogTable::Sessions) {
            Vec::new()
        } else {
            vec![session.clone()]
        };
        assert_eq!(sessions, expected, "{place}");
        assert_eq!(report.sessions, expected.len() as u64);
        if !report.damage.is_empty() {
            match report.lost_tables.as_slice() {
                [] => whole += 1,
                _ => lost += 1,
            }
        }
    }
    assert!(whole > 0 && lost > 0, "{whole} whole, {lost} not");
}

#[test]
fn rows_of_a_damaged_segment_that_can_be_read_are_kept() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    append(&store, "acme", 0..140);
    for team in 0..40 {
        append(&store, &format!("team-{team:02}"), 0..140);
    }
    store.seal().unwrap();
    store.close().unwrap();
    let segment = files(&disk)
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(".parquet"))
        .unwrap();
    // A block of the rows.
    disk.corrupt(&segment, |bytes| bytes[20_000] ^= 1).unwrap();
    let (report, store) = repaired(&disk, "one block");
    assert_eq!(report.rebuilt_segments, 1);
    assert_eq!(report.quarantined.len(), 1);
    let lost: u64 = report.lost.iter().filter_map(|lost| lost.spans).sum();
    assert_eq!(report.spans + lost, 41 * 140);
    assert!(store.check().unwrap().damage.is_empty());
    // What is in quarantine goes with an erasure.
    let quarantined = Path::new(&report.quarantined[0]);
    assert!(disk.map(quarantined).is_ok());
    store.erase().unwrap();
    assert!(disk.map(quarantined).is_ok(), "nothing was to be erased");
    store.team(&team("team-07")).forget().unwrap();
    store.erase().unwrap();
    assert!(disk.map(quarantined).is_err());
    assert!(store.check().unwrap().damage.is_empty());
}

/// A text of 60 KiB that compression makes no smaller than half.
fn noise(seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let digits = (0..60 << 10).map(|_| char::from_digit(random.random_range(0..16), 16).unwrap());
    digits.collect()
}

#[tokio::test]
async fn rows_stay_where_their_resource_is_damaged() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    // Two resources fill the first block, the third lies in another.
    for (seed, name, spans) in [
        (0, "acme", 0..600),
        (1, "acme", 600..900),
        (2, "other", 0..50),
    ] {
        let mut spans = request(spans.map(span));
        let resource = spans.resource_spans[0].resource.as_mut().unwrap();
        resource.attributes.push(text("noise", &noise(seed)));
        store.team(&team(name)).append(spans).unwrap();
    }
    store.seal().unwrap();
    let path = Path::new(OLD).join(segment_path(&store.segments()[0]));
    store.close().unwrap();
    let bytes = disk.map(&path).unwrap();
    let reader = SegmentReader::open(bytes.clone(), summarize(&bytes).unwrap()).unwrap();
    let part = reader.header().part(Part::Resources).unwrap();
    assert!(part.end - part.start > 80 << 10, "{part:?}");
    let damaged = part.start as usize + (30 << 10);
    disk.corrupt(&path, |bytes| bytes[damaged] ^= 1).unwrap();
    let store = open(&disk, OLD).unwrap();
    let acme = store.team(&team("acme"));
    let is_damage = |error: &Error| matches!(error, Error::Corrupt { .. });
    // What asks for no resource finds the rows, what does is told.
    let count = acme.query().filter("duration >= 0").unwrap().count();
    assert_eq!(count.await.unwrap(), 900);
    let count = acme
        .query()
        .filter("resource['noise'] = ''")
        .unwrap()
        .count();
    assert!(is_damage(&count.await.unwrap_err()));
    let error = acme.export().unwrap().find_map(Result::err).unwrap();
    assert!(is_damage(&error), "{error}");
    drop(acme);
    store.close().unwrap();
    let (report, store) = repaired(&disk, "resources");
    assert_eq!((report.spans, report.lost), (950, Vec::new()));
    assert_eq!(report.without_parent, []);
    let lacking = report.without_resource.iter();
    let lacking = lacking.map(|one| (one.team.clone(), one.month, one.spans));
    let expected = (Some(team("acme")), Month::of(NOW), Some(900));
    assert_eq!(lacking.collect::<Vec<_>>(), [expected]);
    for (name, spans, is_there) in [("acme", 900, false), ("other", 50, true)] {
        let mut found = 0;
        for chunk in store.team(&team(name)).export().unwrap() {
            for resource in chunk.unwrap().to_otlp().unwrap().resource_spans {
                let spans = resource.scope_spans.iter().map(|scope| scope.spans.len());
                found += spans.sum::<usize>();
                assert_eq!(resource.resource.is_some(), is_there, "{name}");
            }
        }
        assert_eq!(found, spans, "{name}");
    }
    assert_eq!(store.check().unwrap().damage, []);
}

/// One trace whose spans have one parent, in a block that has nothing but ids.
#[test]
fn rows_stay_where_the_id_of_their_parent_is_damaged() {
    const SPANS: u64 = 6_000;
    const PARENT: u64 = 3_000;
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    let spans = (0..SPANS).map(|n| Span {
        trace_id: span(0).trace_id,
        parent_span_id: if n == PARENT {
            Vec::new()
        } else {
            span(PARENT).span_id
        },
        ..span(n)
    });
    store.team(&team("acme")).append(request(spans)).unwrap();
    store.seal().unwrap();
    let path = Path::new(OLD).join(segment_path(&store.segments()[0]));
    store.close().unwrap();
    let bytes = disk.map(&path).unwrap();
    let pages = page_locations(&bytes, SpanColumn::SpanId.name());
    let page = pages.partition_point(|page| page.first_row_index <= PARENT as i64) - 1;
    let page = pages[page].offset + i64::from(pages[page].compressed_page_size) / 2;
    disk.corrupt(&path, |bytes| bytes[page as usize] ^= 1)
        .unwrap();
    let (report, store) = repaired(&disk, "parents");
    let lost = report.lost[0].spans.unwrap();
    assert!((1..5_000).contains(&lost), "{lost}");
    assert_eq!(report.spans, SPANS - lost);
    let counts = |lost: &[LostSpans]| lost.iter().map(|one| one.spans).collect::<Vec<_>>();
    assert_eq!(counts(&report.without_parent), [Some(report.spans)]);
    assert_eq!(report.without_resource, []);
    for chunk in store.team(&team("acme")).export().unwrap() {
        for row in chunk.unwrap().rows().unwrap() {
            assert_eq!(row.parent_span_id, None);
        }
    }
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn a_crash_at_any_operation_of_a_repair_harms_nothing() {
    let whole = damaged_later();
    whole.remove_file(Path::new("/old/catalog.redb")).unwrap();
    whole.restart(PowerCut::KeepAll);
    let disk = copy(&whole);
    drop(repair_on(&(Arc::new(disk.clone()) as Arc<dyn Disk>), OLD, NEW).unwrap());
    let operations = disk.operations();
    assert!(operations > 50, "{operations}");
    for operation in (0..operations).step_by(3) {
        let context = format!("crash at operation {operation}");
        let disk = copy(&whole);
        disk.fail_at(operation, Fault::Crash);
        let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
        assert!(repair_on(&dyn_disk, OLD, NEW).is_err(), "{context}");
        disk.restart(PowerCut::Some(operation));
        // What was begun is no store, or a whole one; the old one is as it was.
        match open(&disk, NEW) {
            Ok(store) if !store.segments().is_empty() => {
                assert_eq!(found(&store, &context), all(), "{context}");
            }
            Ok(_) | Err(Error::CatalogMissing { .. }) => {}
            Err(other) => panic!("{context}: {other}"),
        }
        repair_on(&dyn_disk, OLD, "/again").unwrap_or_else(|error| panic!("{context}: {error}"));
        let again = open(&disk, "/again").unwrap();
        assert_eq!(found(&again, &context), all(), "{context}");
    }
}

#[test]
fn what_is_no_store_and_what_is_in_use_is_not_repaired() {
    let disk = SimulatedDisk::new();
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let error = repair_on(&dyn_disk, "/nothing", NEW).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let disk = damaged_later();
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = open(&disk, OLD).unwrap();
    let error = repair_on(&dyn_disk, OLD, NEW).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(store);
    let error = repair_on(&dyn_disk, OLD, OLD).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
}
