//! Merges change where spans are, and nothing else; except that a span that is
//! there twice with the same content becomes one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{Error, ManualClock, Month, Store, StoreOptions, Task, Team, TraceId};
use spanstore_format::segment::SegmentReader;
use spanstore_format::span::SpanColumn;
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{
    NOW, open, open_at, open_on, open_with, quiet, segment_path, sessions, team, without_repeats,
};

fn files(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The spans of a team by trace and id, as OTLP.
fn spans(team: &Team) -> BTreeMap<(Vec<u8>, Vec<u8>), Vec<Span>> {
    let mut all: BTreeMap<_, Vec<Span>> = BTreeMap::new();
    for chunk in team.export().unwrap() {
        for resource in chunk.unwrap().to_otlp().unwrap().resource_spans {
            for scope in resource.scope_spans {
                for span in scope.spans {
                    let key = (span.trace_id.clone(), span.span_id.clone());
                    all.entry(key).or_default().push(span);
                }
            }
        }
    }
    all
}

#[test]
fn many_segments_become_one_with_the_same_answers() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let names = ["acme", "b", "zeta"];
    // Traces lie across seals; one team is large enough to be merged by trace.
    for round in 0..9u64 {
        for (place, name) in names.iter().enumerate() {
            let count = if *name == "b" { 5_000 } else { 70 };
            let first = round * count + place as u64;
            store
                .team(&team(name))
                .append(request((first..first + count).map(span)))
                .unwrap();
        }
        store.seal().unwrap();
    }
    let before: Vec<_> = names.map(|name| spans(&store.team(&team(name)))).into();
    let listed = sessions(&store.team(&team("b"))).unwrap();
    assert_eq!(store.segments().len(), 9);
    let report = store.compact().unwrap();
    assert_eq!((report.segments_before, report.segments_after), (9, 1));
    assert_eq!(report.rows_removed, 0);
    assert_eq!(store.segments().len(), 1);
    for (name, before) in names.iter().zip(&before) {
        let handle = store.team(&team(name));
        assert_eq!(&spans(&handle), before, "{name}");
        for n in [0, 15, 300] {
            let trace = TraceId(trace_id(n / 10));
            let expected = before.keys().filter(|(id, _)| *id == trace.0).count();
            assert_eq!(handle.trace(trace).unwrap().len(), expected, "{name}, {n}");
        }
    }
    assert_eq!(sessions(&store.team(&team("b"))).unwrap(), listed);
    assert_eq!(store.check().unwrap().damage, []);
    // A trace is one run again.
    let parquet = |path: &Path| path.extension().is_some_and(|one| one == "parquet");
    let left = files(directory.path())
        .into_iter()
        .filter(|path| parquet(path));
    assert_eq!(left.count(), 1, "the merged files are gone");
    drop(store);
    let store = open(directory.path());
    assert_eq!(spans(&store.team(&team("b"))), before[1]);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn equal_spans_collapse_and_versions_stay() {
    for count in [100, 40_000] {
        let directory = tempfile::tempdir().unwrap();
        let store = open_with(directory.path(), without_repeats());
        let acme = store.team(&team("acme"));
        for version in 0..3 {
            let batch = (0..count).map(|n| {
                let mut span = span(n);
                // Of every tenth span the second version differs.
                if n % 10 == 3 && version == 1 {
                    span.end_time_unix_nano += 1;
                }
                span
            });
            acme.append(request(batch)).unwrap();
            store.seal().unwrap();
        }
        let used = acme.usage(Month::of(NOW)).unwrap().used;
        assert_eq!(used, 3 * count);
        let report = store.compact().unwrap();
        assert_eq!(report.rows_written, count + count / 10);
        assert_eq!(report.rows_removed, 2 * count - count / 10);
        for ((_, id), versions) in spans(&acme) {
            let n = u64::from_be_bytes(id.try_into().unwrap()) - 1;
            assert_eq!(versions.len(), if n % 10 == 3 { 2 } else { 1 }, "{n}");
        }
        // What was accepted counts, not what remains.
        assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, used);
        assert_eq!(store.check().unwrap().damage, []);
    }
}

/// A service that gives all its spans one id does not keep merges busy for ever.
#[test]
fn a_span_may_have_any_number_of_versions() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for round in 0..2u64 {
        for chunk in 0..10 {
            let versions = (chunk * 4_000..(chunk + 1) * 4_000).map(|n| {
                let mut version = span(5);
                // A third of them comes in both rounds.
                let number = if n % 3 == 0 { n } else { n + round * 40_000 };
                version.name = format!("version {number}");
                version
            });
            acme.append(request(versions)).unwrap();
        }
        store.seal().unwrap();
    }
    let report = store.compact().unwrap();
    assert_eq!(report.rows_removed, 13_334);
    let versions = spans(&acme);
    assert_eq!(versions.len(), 1);
    let names: std::collections::BTreeSet<String> = versions
        .into_values()
        .flatten()
        .map(|version| version.name)
        .collect();
    assert_eq!(names.len(), 80_000 - 13_334);
    assert_eq!(report.rows_written, 80_000 - 13_334);
}

#[test]
fn runs_are_cut_between_teams() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        segment_rows: 1_000,
        ..without_repeats()
    };
    let store = open_with(directory.path(), options);
    for _ in 0..3 {
        for name in 0..40 {
            let name = format!("team-{name:02}");
            store
                .team(&team(&name))
                .append(request((0..60).map(|n| {
                    let mut span = span(n);
                    span.flags = 7;
                    span
                })))
                .unwrap();
        }
        store.seal().unwrap();
    }
    store.compact().unwrap();
    let segments = store.segments();
    // Equal spans of three seals are one: 40 teams of 60.
    assert_eq!(
        segments.iter().map(|one| u64::from(one.rows)).sum::<u64>(),
        2_400
    );
    assert!(segments.len() > 2, "{segments:?}");
    assert!(
        segments
            .iter()
            .all(|one| one.run == segments[0].run && one.level == 1)
    );
    for pair in segments.windows(2) {
        assert!(pair[0].last_team < pair[1].first_team);
    }
    for name in 0..40 {
        let team = store.team(&team(&format!("team-{name:02}")));
        assert_eq!(spans(&team).len(), 60);
    }
    // One run is as good as it gets.
    assert_eq!(store.compact().unwrap().rows_written, 0);
}

#[test]
fn the_background_keeps_the_segments_few() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        background: true,
        compaction_percent: 100,
        ..quiet()
    };
    let store = open_with(directory.path(), options);
    let acme = store.team(&team("acme"));
    for round in 0..30 {
        acme.append(request((round * 20..(round + 1) * 20).map(span)))
            .unwrap();
        store.seal().unwrap();
        // The thread was told of the seal; it has as long as it takes. Seals come
        // fast, so some more are left alone.
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while store.segments().len() > 11 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(store.segments().len() <= 11, "round {round}");
    }
    assert_eq!(spans(&acme).len(), 600);
    store.maintain().unwrap();
    assert!(store.segments().len() <= 7);
    assert_eq!(store.check().unwrap().damage, []);
}

/// Threads and the merge of rows as they are stored change nothing in what is written.
#[test]
fn the_number_of_threads_changes_no_byte() {
    let written = [1, 3].map(|compaction_threads| {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            compaction_threads,
            ..quiet()
        };
        let store = open_with(directory.path(), options);
        for round in 0..3u64 {
            for name in ["acme", "b"] {
                let count = if name == "b" { 30_000 } else { 70 };
                let first = round * count;
                let batch = request((first..first + count).map(span));
                store.team(&team(name)).append(batch).unwrap();
            }
            store.seal().unwrap();
        }
        store.compact().unwrap();
        let segment = store.segments().remove(0);
        assert_eq!(segment.rows, 90_210);
        (segment.bytes, segment.tail_crc)
    });
    assert_eq!(written[0], written[1]);
}

#[test]
fn a_reader_keeps_the_files_that_it_began_with() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for round in 0..3 {
        acme.append(request((round * 50..(round + 1) * 50).map(span)))
            .unwrap();
        store.seal().unwrap();
    }
    let mut export = acme.export().unwrap();
    let first = export.next().unwrap().unwrap().len();
    store.compact().unwrap();
    let rest: usize = export.map(|chunk| chunk.unwrap().len()).sum();
    assert_eq!(first + rest, 150);
    let segments = files(&directory.path().join("segments"));
    assert_eq!(
        segments.len(),
        1,
        "the last reader has let go: {segments:?}"
    );
}

/// A store on a simulated disk: three seals of two teams, then a merge and
/// then an erasure.
fn rewrite(disk: &SimulatedDisk, faults: impl FnOnce()) -> Result<(), Error> {
    let store = open_simulated(disk)?;
    for round in 0..3u64 {
        for name in ["acme", "other"] {
            let first = round * 7;
            // One span is appended twice.
            let spans = (first.saturating_sub(1)..first + 7).map(span);
            store.team(&team(name)).append(request(spans))?;
        }
        store.seal()?;
    }
    store
        .team(&team("other"))
        .forget_trace(TraceId(trace_id(0)))?;
    faults();
    store.compact()?;
    store.erase()?;
    Ok(())
}

fn open_simulated(disk: &SimulatedDisk) -> Result<Store, Error> {
    open_on(Arc::new(disk.clone()), "/store", quiet())
}

#[test]
fn a_crash_at_every_operation_of_a_rewrite_loses_and_doubles_nothing() {
    let whole = SimulatedDisk::new();
    let mut first = 0;
    rewrite(&whole, || first = whole.operations()).unwrap();
    let last = whole.operations();
    assert!(last - first > 30, "{first}..{last}");
    let verify = |disk: &SimulatedDisk, context: &str| {
        let store = open_simulated(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        for (name, expected) in [("acme", 0..21u64), ("other", 10..21)] {
            let found = spans(&store.team(&team(name)));
            let ids: Vec<u64> = found
                .keys()
                .map(|(_, id)| u64::from_be_bytes(id.clone().try_into().unwrap()) - 1)
                .collect();
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, expected.collect::<Vec<_>>(), "{context}: {name}");
            let used = store.team(&team(name)).usage(Month::of(NOW)).unwrap().used;
            assert_eq!(used, 23, "{context}: {name}");
        }
        assert_eq!(store.check().unwrap().damage, [], "{context}");
        let unfinished = disk
            .paths()
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("unfinished"));
        assert_eq!(unfinished.count(), 0, "{context}");
        // Both are done again from wherever the crash left them.
        store.compact().unwrap();
        store.erase().unwrap();
        assert_eq!(spans(&store.team(&team("acme"))).len(), 21, "{context}");
        assert_eq!(store.segments().len(), 1, "{context}");
        assert_eq!(store.check().unwrap().damage, [], "{context}");
    };
    verify(&whole, "no fault");
    for operation in first..last {
        for cut in [
            PowerCut::KeepAll,
            PowerCut::DropAll,
            PowerCut::Some(operation),
            PowerCut::Some(operation * 31 + 7),
        ] {
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, Fault::Crash);
            // What fails when all is done, such as removing a file, is no error.
            drop(rewrite(&disk, || ()));
            disk.restart(cut);
            verify(&disk, &format!("crash at operation {operation}, {cut:?}"));
        }
        for fault in [Fault::Error, Fault::NoSpace] {
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, fault);
            drop(rewrite(&disk, || ()));
            disk.restart(PowerCut::Some(operation));
            verify(&disk, &format!("{fault:?} at operation {operation}"));
        }
    }
}

#[test]
fn the_smallest_budgets_slow_down_and_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        open_files: 1,
        cache_bytes: 1,
        ..quiet()
    };
    let store = open_with(directory.path(), options);
    let acme = store.team(&team("acme"));
    for round in 0..5 {
        let spans = (round * 100..(round + 1) * 100).map(span);
        acme.append(request(spans)).unwrap();
        store.seal().unwrap();
    }
    assert_eq!(spans(&acme).len(), 500);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in (0..500).step_by(7) {
                    let found = acme.trace(TraceId(trace_id(n / 10))).unwrap();
                    assert_eq!(found.len(), 10);
                }
            });
        }
    });
    store.compact().unwrap();
    assert_eq!(spans(&acme).len(), 500);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn a_damaged_segment_stops_the_merge_of_its_month_alone() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk).unwrap();
    let acme = store.team(&team("acme"));
    let month_before = |n: u64| {
        let mut span = span(n);
        span.start_time_unix_nano -= 15 * 86_400_000_000_000;
        span.end_time_unix_nano = span.start_time_unix_nano + 1;
        span
    };
    for round in 0..3 {
        let first = round * 20;
        let spans = (first..first + 10)
            .map(span)
            .chain((first + 10..first + 20).map(month_before));
        acme.append(request(spans)).unwrap();
        store.seal().unwrap();
    }
    let months: Vec<Month> = store.segments().iter().map(|one| one.month).collect();
    assert_eq!(months.len(), 6);
    let damaged = store.segments().remove(0);
    assert_eq!(damaged.month, months[0]);
    drop((acme, store));
    let path = disk
        .paths()
        .into_iter()
        .find(|path| path.to_string_lossy().contains(&damaged.id.to_string()))
        .unwrap();
    disk.corrupt(&path, |bytes| bytes[100] ^= 1).unwrap();
    let store = open_simulated(&disk).unwrap();
    let error = store.compact().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let left = |month: Month| {
        store
            .segments()
            .iter()
            .filter(|one| one.month == month)
            .count()
    };
    assert_eq!((left(months[0]), left(months[5])), (3, 1));

    // Nor does it keep others from being rid of what is forgotten.
    let acme = store.team(&team("acme"));
    for n in [1, 0] {
        acme.forget_trace(TraceId(trace_id(n))).unwrap();
    }
    let error = store.erase().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let of_last = store.segments().pop().unwrap();
    assert_eq!((of_last.month, of_last.rows), (months[5], 20));
    assert!(
        disk.paths()
            .iter()
            .all(|path| !path.ends_with("unfinished"))
    );
}

/// What cannot be read now may be read later; until then not everything waits.
#[test]
fn a_month_that_fails_is_tried_again_ever_later_and_health_says_so() {
    let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(NOW)));
    let open = || open_at(Arc::new(disk.clone()), "/store", quiet(), &clock).unwrap();
    let store = open();
    let seal = |store: &Store, first: u64| {
        let spans = (first..first + 4).flat_map(|n| {
            let mut before = span(n + 10_000);
            before.start_time_unix_nano -= 20 * 86_400_000_000_000;
            before.end_time_unix_nano = before.start_time_unix_nano;
            [span(n), before]
        });
        store.team(&team("acme")).append(request(spans)).unwrap();
        store.seal().unwrap();
    };
    (0..8).for_each(|round| seal(&store, round * 4));
    let damaged = store.segments().remove(3);
    drop(store);
    let paths = disk.paths();
    let is_damaged =
        |path: &&std::path::PathBuf| path.to_string_lossy().contains(&damaged.id.to_string());
    let path = paths.iter().find(is_damaged).unwrap();
    disk.corrupt(path, |bytes| bytes[100] ^= 1).unwrap();
    let store = open();
    let attempts = || {
        let health = store.health();
        let [failure] = health.failures.as_slice() else {
            panic!("{health:?}")
        };
        assert_eq!(failure.task, Task::Merge);
        assert!(matches!(failure.error, Error::Corrupt { .. }));
        failure.attempts
    };
    let runs = |is_damaged: bool| {
        let of_month = |month| (month == damaged.month) == is_damaged;
        let all = store.segments();
        all.iter().filter(|one| of_month(one.month)).count()
    };
    assert!(store.maintain().is_err());
    assert_eq!((runs(true), runs(false), attempts()), (8, 1, 1));
    let second = std::time::Duration::from_secs(1);
    let mut failed = 1;
    // Seconds that pass, and whether it is tried then.
    for (seconds, is_tried) in [
        (4, false),
        (1, true),
        (9, false),
        (1, true),
        (19, false),
        (1, true),
    ] {
        clock.advance(second * seconds);
        seal(&store, 100 + failed * 4);
        assert_eq!(store.maintain().is_err(), is_tried, "{failed}");
        failed += u64::from(is_tried);
        assert_eq!(attempts(), failed);
    }
    // At last every hour.
    clock.advance(second * 100_000);
    assert!((0..10).all(|_| {
        let is_tried = store.maintain().is_err();
        clock.advance(second * 3_600);
        is_tried
    }));
    // The others are merged meanwhile; whoever asks is told at once.
    seal(&store, 200);
    assert!(store.compact().is_err());
    assert_eq!(runs(false), 1);
    disk.corrupt(path, |bytes| bytes[100] ^= 1).unwrap();
    drop(store);
    let store = open();
    store.maintain().unwrap();
    assert!(store.health().is_healthy());
    assert!(store.segments().len() < 8);
}

#[test]
fn closing_ends_a_merge_at_work_and_keeps_every_row() {
    let directory = tempfile::tempdir().unwrap();
    // A background that works the hundredth part of its time rests for long.
    let options = || StoreOptions {
        background: true,
        compaction_percent: 1,
        ..quiet()
    };
    for round in 0..6u64 {
        let store = open_with(directory.path(), options());
        let acme = store.team(&team("acme"));
        for part in 0..3 {
            let first = (round * 3 + part) * 2_000;
            acme.append(request((first..first + 2_000).map(span)))
                .unwrap();
            store.seal().unwrap();
        }
        let other = store.clone();
        let (begun, begins) = std::sync::mpsc::channel();
        let merging = std::thread::spawn(move || {
            begun.send(()).unwrap();
            other.compact()
        });
        begins.recv().unwrap();
        store.close().unwrap();
        let merged = merging.join().unwrap();
        assert!(matches!(merged, Ok(_) | Err(Error::Closed)), "{merged:?}");
        drop(acme);

        let store = open(directory.path());
        let found = spans(&store.team(&team("acme")));
        assert_eq!(found.len() as u64, (round + 1) * 6_000);
        assert!(found.values().all(|versions| versions.len() == 1));
        let report = store.check().unwrap();
        assert_eq!(report.damage, []);
        let parquet = files(&directory.path().join("segments")).len();
        assert_eq!(parquet, store.segments().len(), "no file is left over");
    }
}

/// What is forgotten of a trace may be its first span: the traces of a large team still lie
/// in the order that the file names.
#[test]
fn traces_that_lose_their_first_span_lie_in_their_order() {
    const TRACES: u64 = 20_000;
    let disk = Arc::new(SimulatedDisk::new());
    let store = open_on(disk.clone(), "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    // Two spans a trace; the first of every tenth trace is of a session of its own, and the
    // second comes long after.
    let spans = (0..2 * TRACES).map(|n| {
        let (trace, is_second) = (n / 2, n % 2 == 1);
        let mut span = span(n);
        span.trace_id = trace_id(trace).to_vec();
        span.parent_span_id.clear();
        let is_rare = trace.is_multiple_of(10);
        let name = if is_rare && !is_second {
            "gone"
        } else {
            "stays"
        };
        span.attributes = vec![text("session.id", name)];
        let late = if is_rare && is_second { 10_000 } else { 0 };
        span.start_time_unix_nano = NOW.cast_unsigned() - 3_600_000_000_000 + (n + late) * 1_000;
        span.end_time_unix_nano = span.start_time_unix_nano;
        span
    });
    acme.append(request(spans)).unwrap();
    store.seal().unwrap();
    acme.forget_session("gone").unwrap();
    assert_eq!(store.erase().unwrap().rows_removed, TRACES / 10);
    let segment = store.segments().remove(0);
    let path = Path::new("/store").join(segment_path(&segment));
    let bytes = spanstore::io::Disk::map(&*disk, &path).unwrap();
    let reader = SegmentReader::open(bytes, segment.clone()).unwrap();
    let columns = [SpanColumn::TraceStart.into()];
    let rows = reader.row_reader().unwrap();
    let rows = rows.read(&[0..segment.rows], &columns, 8_192).unwrap();
    let mut starts: Vec<i64> = Vec::new();
    for batch in rows {
        let batch = batch.unwrap();
        let column: &arrow::array::TimestampNanosecondArray = batch.column(0).as_primitive();
        starts.extend(column.values());
    }
    assert_eq!(starts.len() as u64, 2 * TRACES - TRACES / 10);
    assert!(starts.is_sorted());
}
