//! Which of several files that have the same rows count: segments beside those that they
//! replace, seals beside their log, catalogs beside what came later.

use spanstore::StoreOptions;
use spanstore_format::Month;

use super::*;

/// A file as it was, of what a later operation removes.
pub(super) type Kept = (PathBuf, Vec<u8>);

pub(super) fn kept(disk: &SimulatedDisk, ending: &str) -> Vec<Kept> {
    let paths = disk.paths().into_iter();
    paths
        .filter(|path| path.starts_with(OLD) && path.to_string_lossy().ends_with(ending))
        .map(|path| (path.clone(), disk.bytes_of(&path).unwrap()))
        .collect()
}

/// Puts files back, over what is there.
pub(super) fn put_back(disk: &SimulatedDisk, files: &[Kept]) {
    for (path, bytes) in files {
        let file = disk.open(path, OpenMode::CreateOrExisting).unwrap();
        file.set_len(0).unwrap();
        file.write_at(0, bytes).unwrap();
    }
    disk.restart(PowerCut::KeepAll);
}

/// A byte among the values of a column in the middle of a segment's rows.
fn middle_of(disk: &SimulatedDisk, segment: &Path, column: &str) -> usize {
    let pages = page_locations(&disk.map(segment).unwrap(), column);
    let page = &pages[pages.len() / 2];
    usize::try_from(page.offset).unwrap() + page.compressed_page_size as usize / 2
}

fn lose_catalog(disk: &SimulatedDisk) {
    disk.remove_file(Path::new("/old/catalog.redb")).unwrap();
}

fn expected(
    acme: std::ops::Range<u64>,
    other: std::ops::Range<u64>,
) -> BTreeSet<(&'static str, u64)> {
    let acme = acme.map(|n| ("acme", n));
    acme.chain(other.map(|n| ("other", n))).collect()
}

/// Opens a store that ends a segment behind each team.
fn open_small(disk: &SimulatedDisk) -> Store {
    let options = StoreOptions {
        segment_rows: 1,
        ..quiet()
    };
    open_on(Arc::new(disk.clone()), OLD, options).unwrap()
}

/// What there is of a merge of two segments into one for each team: the inputs, the
/// outputs, and the catalogs before and after. The disk is as after the merge.
struct Merged {
    disk: SimulatedDisk,
    inputs: Vec<Kept>,
    outputs: Vec<Kept>,
    catalog_before: Vec<Kept>,
}

fn merged() -> Merged {
    let disk = SimulatedDisk::new();
    let store = open_small(&disk);
    for first in [0, 40] {
        append(&store, "acme", first..first + 40);
        append(&store, "other", first..first + 40);
        store.seal().unwrap();
    }
    drop(store);
    disk.restart(PowerCut::KeepAll);
    let store = open_small(&disk);
    store.close().unwrap();
    let inputs = kept(&disk, ".parquet");
    let catalog_before = [kept(&disk, ".redb"), kept(&disk, ".sums")].concat();
    let store = open_small(&disk);
    assert_eq!(store.compact().unwrap().segments_after, 2);
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    let outputs = kept(&disk, ".parquet");
    assert_eq!((inputs.len(), outputs.len()), (2, 2));
    Merged {
        disk,
        inputs,
        outputs,
        catalog_before,
    }
}

/// Whatever a crash leaves of a merge, with or without a catalog, each span is there once.
#[test]
fn a_merge_and_what_it_replaced_count_once() {
    let merged = merged();
    for has_catalog in [true, false] {
        // The catalog from after the merge, with inputs that came back.
        for inputs in 0..4 {
            let disk = copy(&merged.disk);
            let back = merged.inputs.iter().enumerate();
            let back = back.filter(|(place, _)| inputs >> place & 1 == 1);
            put_back(
                &disk,
                &back.map(|(_, kept)| kept.clone()).collect::<Vec<_>>(),
            );
            if !has_catalog {
                lose_catalog(&disk);
            }
            let context = format!("after, {has_catalog}, {inputs}");
            let (report, store) = repaired(&disk, &context);
            assert_eq!(found(&store, &context), expected(0..80, 0..80), "{context}");
            assert_eq!(
                (report.damage.len(), report.lost.len()),
                (usize::from(!has_catalog), 0)
            );
            assert_eq!(store.check().unwrap().damage, [], "{context}");
        }
        // That from before it, with some of what it wrote.
        for outputs in 0..4 {
            let disk = copy(&merged.disk);
            for (path, _) in &merged.outputs {
                disk.remove_file(path).unwrap();
            }
            put_back(&disk, &merged.inputs);
            put_back(&disk, &merged.catalog_before);
            let some = merged.outputs.iter().enumerate();
            let some = some.filter(|(place, _)| outputs >> place & 1 == 1);
            put_back(
                &disk,
                &some.map(|(_, kept)| kept.clone()).collect::<Vec<_>>(),
            );
            if !has_catalog {
                lose_catalog(&disk);
            }
            let context = format!("before, {has_catalog}, {outputs}");
            let (report, store) = repaired(&disk, &context);
            assert_eq!(found(&store, &context), expected(0..80, 0..80), "{context}");
            assert_eq!(
                (report.damage.len(), report.lost.len()),
                (usize::from(!has_catalog), 0)
            );
            assert_eq!(store.check().unwrap().damage, [], "{context}");
        }
    }
}

/// What an older catalog misses is not missing: what replaced it is there.
#[test]
fn a_catalog_from_before_a_merge_knows_what_the_merge_replaced() {
    let merged = merged();
    put_back(&merged.disk, &merged.catalog_before);
    let (report, store) = repaired(&merged.disk, "older");
    assert_eq!(found(&store, "older"), expected(0..80, 0..80));
    assert_eq!((report.damage, report.lost), (Vec::new(), Vec::new()));
    let used = |name| store.team(&team(name)).usage(Month::of(NOW)).unwrap().used;
    assert_eq!((used("acme"), used("other")), (80, 80));
}

/// A seal writes a segment for each month; none of them is a copy of another.
#[test]
fn segments_of_one_seal_in_two_months_both_count() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    append(&store, "acme", 190..210);
    store.seal().unwrap();
    assert_eq!(store.segments().len(), 2);
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    lose_catalog(&disk);
    let (report, store) = repaired(&disk, "two months");
    assert_eq!(found(&store, "two months"), expected(190..210, 0..0));
    assert_eq!((report.segments, report.lost), (2, Vec::new()));
}

/// A store whose rows are sealed, and its log as it was before that; three records of
/// `acme` and one of `other`.
fn sealed(rows: u64) -> (SimulatedDisk, PathBuf, Vec<Kept>) {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    let third = rows / 3;
    for first in [0, third, 2 * third] {
        let spans = (first..first + third).map(span);
        store.team(&team("acme")).append(request(spans)).unwrap();
    }
    append(&store, "other", 0..20);
    let log = kept(&disk, ".log");
    store.seal().unwrap();
    let segment = Path::new(OLD).join(segment_path(&store.segments()[0]));
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    (disk, segment, log)
}

/// A log file that came back with a power cut has nothing that the segments have not.
#[test]
fn what_is_in_a_segment_and_in_the_log_counts_once() {
    for has_catalog in [true, false] {
        let (disk, _, log) = sealed(90);
        put_back(&disk, &log);
        if !has_catalog {
            lose_catalog(&disk);
        }
        let context = format!("catalog {has_catalog}");
        let (report, store) = repaired(&disk, &context);
        assert_eq!(found(&store, &context), expected(0..90, 0..20), "{context}");
        assert_eq!((report.segments, report.rebuilt_segments), (1, 0));
        assert_eq!((report.log_records, report.lost), (0, Vec::new()));
    }
}

/// Of a team of which the log has everything, the log counts; of another what can be read.
#[test]
fn the_log_stands_in_for_damaged_rows_only_where_it_has_all() {
    const ROWS: u64 = 9_000;
    let (whole, segment, log) = sealed(ROWS);
    // A block of the rows of `acme`.
    let at = middle_of(&whole, &segment, "span_id");
    whole.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap();
    for has_catalog in [true, false] {
        let strike = |log: &[Kept]| {
            let disk = copy(&whole);
            put_back(&disk, log);
            if !has_catalog {
                lose_catalog(&disk);
            }
            let context = format!("catalog {has_catalog}, {} log files", log.len());
            let (report, store) = repaired(&disk, &context);
            assert_eq!(report.rebuilt_segments, 1, "{context}");
            assert_eq!(store.check().unwrap().damage, [], "{context}");
            let found = found(&store, &context);
            assert_eq!(report.spans as usize, found.len());
            let lost: u64 = report.lost.iter().filter_map(|one| one.spans).sum();
            assert_eq!(report.spans + lost, ROWS + 20, "{context}");
            (found, report)
        };
        // Without the log, some rows cannot be read.
        let (without, report) = strike(&[]);
        assert_eq!((report.lost.len(), report.log_records), (1, 0));
        assert!(without.len() as u64 > ROWS / 3);
        // With all of it, nothing is lost.
        let (with, report) = strike(&log);
        assert!(with == expected(0..ROWS, 0..20));
        assert_eq!((report.lost, report.log_records), (Vec::new(), 3));
        // Where a record of it is damaged, nothing of it counts.
        let mut damaged = log.clone();
        let middle = damaged[0].1.len() / 2;
        damaged[0].1[middle] ^= 1;
        let (part, report) = strike(&damaged);
        assert!(part == without);
        assert_eq!(report.log_records, 0);
        if !has_catalog {
            assert_eq!(report.lost_sequences.len(), 1);
        }
    }
}

/// A team whose part of a merge is lost comes from the log, though another part has the
/// sequences, too.
#[test]
fn a_part_of_a_merge_covers_its_own_teams_alone() {
    let disk = SimulatedDisk::new();
    let store = open_small(&disk);
    append(&store, "acme", 0..40);
    append(&store, "other", 0..40);
    let log = kept(&disk, ".log");
    store.seal().unwrap();
    append(&store, "acme", 40..50);
    store.seal().unwrap();
    store.compact().unwrap();
    let parts = store.segments();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[1].first_team, "other");
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    let lost = Path::new(OLD).join(segment_path(&parts[1]));
    disk.remove_file(&lost).unwrap();
    put_back(&disk, &log);
    let (report, store) = repaired(&disk, "a part");
    assert_eq!(found(&store, "a part"), expected(0..50, 0..40));
    assert_eq!((report.log_records, report.lost), (1, Vec::new()));
}

/// Where only segments tell which sequences were used, those of new appends are higher.
#[test]
fn sequences_go_on_above_those_of_segments() {
    let highest = |store: &Store| {
        let mut highest = 0;
        for chunk in store.team(&team("acme")).export().unwrap() {
            for batch in chunk.unwrap().batches() {
                let sequences = SpanColumn::Sequence.int64s(batch).unwrap();
                highest = sequences.values().iter().copied().fold(highest, i64::max);
            }
        }
        highest
    };
    let disk = damaged_later();
    lose_catalog(&disk);
    let (_, store) = repaired(&disk, "first");
    let before = highest(&store);
    store.close().unwrap();
    // Nothing but segments is left.
    for path in disk.paths() {
        if !path.to_string_lossy().ends_with(".parquet") {
            disk.remove_file(&path).unwrap();
        }
    }
    disk.restart(PowerCut::KeepAll);
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    repair_on(&dyn_disk, NEW, "/newest").unwrap();
    let store = open(&disk, "/newest").unwrap();
    assert_eq!(found(&store, "second"), all());
    assert_eq!(highest(&store), before);
    append(&store, "acme", 150..151);
    assert!(highest(&store) > before);
}

/// What is lost is told also where the counters are, and what was erased is not lost.
#[test]
fn what_is_lost_is_told_with_and_without_counters() {
    const ROWS: u64 = 9_000;
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((0..ROWS).map(span))).unwrap();
    append(&store, "other", 0..20);
    store.seal().unwrap();
    acme.forget_trace(spanstore::TraceId(span(0).trace_id.try_into().unwrap()))
        .unwrap();
    assert_eq!(store.erase().unwrap().rows_removed, 10);
    let segment = Path::new(OLD).join(segment_path(&store.segments()[0]));
    acme.append(request((ROWS..ROWS + 5).map(span))).unwrap();
    drop(acme);
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    let middle = middle_of(&disk, &segment, "span_id");
    for has_catalog in [true, false] {
        // Nothing, some rows, the whole file.
        for blow in [None, Some(middle), Some(usize::MAX)] {
            let disk = copy(&disk);
            match blow {
                None => {}
                Some(usize::MAX) => disk.corrupt(&segment, |bytes| bytes.truncate(9)).unwrap(),
                Some(at) => disk.corrupt(&segment, |bytes| bytes[at] ^= 1).unwrap(),
            }
            if !has_catalog {
                lose_catalog(&disk);
            }
            let context = format!("catalog {has_catalog}, {blow:?}");
            let (report, store) = repaired(&disk, &context);
            let found = found(&store, &context);
            let gone = ROWS - 5 + 20 - found.len() as u64;
            let used = store
                .team(&team("acme"))
                .usage(Month::of(NOW))
                .unwrap()
                .used;
            let acme = found.iter().filter(|(name, _)| *name == "acme").count();
            // Counters know what was sealed, and what was not comes from the log.
            let expected = if has_catalog { ROWS + 5 } else { acme as u64 };
            assert_eq!(used, expected, "{context}");
            if !has_catalog && blow == Some(usize::MAX) {
                let [unknown] = &report.lost[..] else {
                    panic!("{context}: {report:?}")
                };
                assert_eq!((&unknown.team, unknown.spans), (&None, None), "{context}");
                assert_eq!(unknown.month, Month::of(NOW), "{context}");
                continue;
            }
            let lost: u64 = report.lost.iter().map(|one| one.spans.unwrap()).sum();
            assert_eq!(lost, gone, "{context}");
            assert_eq!(blow.is_some(), gone > 0, "{context}");
            assert_eq!(
                report.lost.len(),
                report.lost.iter().flat_map(|one| &one.team).count()
            );
        }
    }
}

/// Rows that lack something lie beside rows that lack nothing, and the merge goes on
/// where it was.
#[test]
fn rows_that_lack_their_resource_lie_beside_those_that_do_not() {
    const ROWS: u64 = 1_000;
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    let acme = store.team(&team("acme"));
    // Resources 0 and 1 fill the first block, the third lies in another. Their rows come
    // one after the other, twice.
    for part in 0..6 {
        let first = part * ROWS;
        let mut spans = request((first..first + ROWS).map(span));
        let resource = spans.resource_spans[0].resource.as_mut().unwrap();
        resource.attributes.push(text("noise", &noise(part % 3)));
        acme.append(spans).unwrap();
    }
    drop(acme);
    store.seal().unwrap();
    append_one(&store);
    store.seal().unwrap();
    store.compact().unwrap();
    let [segment] = &store.segments()[..] else {
        panic!("{:?}", store.segments())
    };
    assert_eq!(segment.level, 1);
    let path = Path::new(OLD).join(segment_path(segment));
    store.close().unwrap();
    let bytes = disk.map(&path).unwrap();
    let reader = SegmentReader::open(bytes.clone(), summarize(&bytes).unwrap()).unwrap();
    let part = reader.header().part(Part::Resources).unwrap();
    let damaged = part.start as usize + (30 << 10);
    disk.corrupt(&path, |bytes| bytes[damaged] ^= 1).unwrap();
    let (report, store) = repaired(&disk, "beside");
    assert_eq!((report.spans, report.lost), (6 * ROWS + 1, Vec::new()));
    assert_eq!(
        (report.without_parent, report.rebuilt_segments),
        (Vec::new(), 1)
    );
    let lacking: u64 = report
        .without_resource
        .iter()
        .filter_map(|one| one.spans)
        .sum();
    let mut without = 0;
    for chunk in store.team(&team("acme")).export().unwrap() {
        for resource in chunk.unwrap().to_otlp().unwrap().resource_spans {
            let spans = resource
                .scope_spans
                .iter()
                .map(|scope| scope.spans.len() as u64);
            without += if resource.resource.is_none() {
                spans.sum()
            } else {
                0
            };
        }
    }
    assert_eq!(lacking, without);
    // Two of three parts, and at their ends what is taken or left with them.
    assert!((4 * ROWS..4 * ROWS + 1_100).contains(&without), "{without}");
    assert_eq!(store.check().unwrap().damage, []);
    // It is merged as often as it was.
    assert_eq!(store.segments()[0].level, 1);
}

fn append_one(store: &Store) {
    let spans = [span(100_000)];
    store.team(&team("acme")).append(request(spans)).unwrap();
}

/// Rows that can be read, but not with their resource, come from the log if it has them.
#[test]
fn the_log_stands_in_for_rows_that_lack_their_resource() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    for (seed, spans) in [(0, 0..300), (1, 300..600)] {
        let mut spans = request(spans.map(span));
        let resource = spans.resource_spans[0].resource.as_mut().unwrap();
        resource.attributes.push(text("noise", &noise(seed)));
        store.team(&team("acme")).append(spans).unwrap();
    }
    let log = kept(&disk, ".log");
    store.seal().unwrap();
    let path = Path::new(OLD).join(segment_path(&store.segments()[0]));
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    let bytes = disk.map(&path).unwrap();
    let reader = SegmentReader::open(bytes.clone(), summarize(&bytes).unwrap()).unwrap();
    let part = reader.header().part(Part::Resources).unwrap();
    let damaged = part.start as usize + (30 << 10);
    disk.corrupt(&path, |bytes| bytes[damaged] ^= 1).unwrap();
    put_back(&disk, &log);
    let (report, store) = repaired(&disk, "resources");
    assert_eq!((report.spans, report.log_records), (600, 2));
    assert_eq!(
        (report.lost, report.without_resource),
        (Vec::new(), Vec::new())
    );
    for chunk in store.team(&team("acme")).export().unwrap() {
        for resource in chunk.unwrap().to_otlp().unwrap().resource_spans {
            assert!(resource.resource.is_some());
        }
    }
}

/// A merge has what each of the records brought that its inputs have, the first and the last.
#[test]
fn what_is_in_a_merge_and_in_the_log_counts_once() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, OLD).unwrap();
    let mut logs = Vec::new();
    for first in [0, 40, 80] {
        append(&store, "acme", first..first + 20);
        append(&store, "acme", first + 20..first + 40);
        logs.extend(kept(&disk, ".log"));
        store.seal().unwrap();
    }
    assert_eq!(store.compact().unwrap().segments_after, 1);
    store.close().unwrap();
    disk.restart(PowerCut::KeepAll);
    lose_catalog(&disk);
    logs.sort_unstable();
    logs.dedup_by(|one, other| one.0 == other.0);
    assert_eq!(logs.len(), 3);
    for back in 0..8 {
        let disk = copy(&disk);
        let some = logs.iter().enumerate().filter(|(n, _)| back >> n & 1 == 1);
        put_back(&disk, &some.map(|(_, log)| log.clone()).collect::<Vec<_>>());
        let context = format!("logs {back:b}");
        let (report, store) = repaired(&disk, &context);
        assert_eq!(found(&store, &context), expected(0..120, 0..0), "{context}");
        assert_eq!((report.log_records, report.rebuilt_segments), (0, 0));
    }
}

/// Nobody knows what of the log a segment without its origin had: the log counts.
#[test]
fn the_log_stands_in_for_a_segment_without_its_origin() {
    let (disk, path, log) = sealed(21_000);
    let bytes = disk.map(&path).unwrap();
    let reader = SegmentReader::open(bytes.clone(), summarize(&bytes).unwrap()).unwrap();
    let origin = reader.header().part(Part::Origin).unwrap();
    disk.corrupt(&path, |bytes| bytes[origin.start as usize] ^= 1)
        .unwrap();
    put_back(&disk, &log);
    for has_catalog in [true, false] {
        let disk = copy(&disk);
        if !has_catalog {
            lose_catalog(&disk);
        }
        let context = format!("catalog {has_catalog}");
        let (report, store) = repaired(&disk, &context);
        let found = found(&store, &context);
        assert!(found == expected(0..21_000, 0..20), "{context}");
        assert_eq!(report.log_records, 4);
        // Without counters nobody knows whether that is all.
        assert!(!has_catalog || report.lost.is_empty(), "{report:?}");
    }
}

/// A catalog that is older than its checksums says what it knows, and that it is older.
#[test]
fn an_older_catalog_is_read_as_far_as_it_goes() {
    let merged = merged();
    let catalog = merged.catalog_before.iter();
    let catalog = catalog.filter(|(path, _)| path.ends_with("catalog.redb"));
    put_back(&merged.disk, &catalog.cloned().collect::<Vec<_>>());
    let (report, store) = repaired(&merged.disk, "older");
    assert_eq!(found(&store, "older"), expected(0..80, 0..80));
    assert_eq!((report.lost_tables, report.lost), (Vec::new(), Vec::new()));
    let damage: Vec<&str> = report.damage.iter().map(|one| one.file.as_str()).collect();
    assert_eq!(damage, ["catalog.redb"]);
}

/// A file with another's name is none of them.
#[test]
fn a_segment_under_another_name_counts_once() {
    for has_catalog in [true, false] {
        let (disk, path, _) = sealed(90);
        let bytes = disk.bytes_of(&path).unwrap();
        let other = path.with_file_name("00000000000000aa.parquet");
        put_back(&disk, &[(other.clone(), bytes)]);
        if !has_catalog {
            lose_catalog(&disk);
        }
        let context = format!("catalog {has_catalog}");
        let (report, store) = repaired(&disk, &context);
        assert_eq!(found(&store, &context), expected(0..90, 0..20), "{context}");
        assert_eq!((report.segments, report.quarantined.len()), (1, 1));
        assert_eq!(report.damage[0].file, other.display().to_string());
    }
}
