//! Crashes and faults at every I/O operation of a mixed workload: what was
//! acknowledged is found exactly once, the quota holds, nothing else appears.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use spanstore::io::{Fault, PowerCut, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{Durability, Error, Month, SpanBatch, Store, StoreOptions, TraceId};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open_on, quiet, sessions, team};

/// Spans a month: fewer than the workload appends.
const LIMIT: u64 = 20;

fn options() -> StoreOptions {
    let mut options = quiet();
    options.plan_limits.hobby = LIMIT;
    options
}

fn open(disk: &SimulatedDisk) -> Result<Store, Error> {
    open_on(Arc::new(disk.clone()), "/store", options())
}

/// Span number `n`, in the month before for some.
fn spread(n: u64) -> Span {
    let mut span = span(n);
    if n % 10 == 9 {
        let earlier = Month::of(NOW).start_nanos().cast_unsigned() - 1_000_000_000 + n;
        span.start_time_unix_nano = earlier;
        span.end_time_unix_nano = earlier + 5;
    }
    span
}

/// What a caller knows: of each team, the spans that were acknowledged, and
/// those of the one batch of which nothing is known.
#[derive(Debug, Default, Clone)]
struct Known {
    acknowledged: BTreeMap<&'static str, Vec<u64>>,
    unknown: Option<(&'static str, Vec<u64>)>,
}

/// Appends, seals and reopens, until something fails.
fn workload(disk: &SimulatedDisk) -> Known {
    let mut known = Known::default();
    // Rounds of batches; a round ends with a seal, with a reopen, or with neither.
    let mut first = 0;
    for round in 0..5u64 {
        let Ok(store) = open(disk) else { return known };
        for name in ["acme", "other"] {
            let spans: Vec<u64> = (first..first + 5 + round).collect();
            let batch = request(spans.iter().map(|n| spread(*n)));
            match store.team(&team(name)).append(SpanBatch::from_otlp(batch)) {
                Ok(receipt) => {
                    let is_refused = |place: usize| {
                        receipt
                            .refused
                            .iter()
                            .any(|refusal| refusal.index as usize == place)
                    };
                    let accepted = spans
                        .iter()
                        .enumerate()
                        .filter(|(place, _)| !is_refused(*place));
                    known
                        .acknowledged
                        .entry(name)
                        .or_default()
                        .extend(accepted.map(|(_, n)| n));
                }
                Err(_) => {
                    known.unknown = Some((name, spans));
                    return known;
                }
            }
        }
        first += 5 + round;
        if round % 2 == 1 && store.seal().is_err() {
            return known;
        }
        if store.close().is_err() {
            return known;
        }
    }
    known
}

/// The numbers of the spans that a team has, by way of an export.
fn exported(store: &Store, name: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for spans in store.team(&team(name)).export().unwrap() {
        for row in spans.unwrap().rows().unwrap() {
            found.push(u64::from_be_bytes(row.span_id.0) - 1);
        }
    }
    found.sort_unstable();
    found
}

/// Checks a reopened store against what is known.
fn verify(store: &Store, known: &Known, context: &str) {
    for name in ["acme", "other"] {
        let handle = store.team(&team(name));
        let acknowledged = known.acknowledged.get(name).cloned().unwrap_or_default();
        let found = exported(store, name);
        // Acknowledged spans are there. The unknown batch is there whole, as far
        // as the quota goes, or not at all.
        let unknown = known.unknown.iter().filter(|(team, _)| *team == name);
        let mut with_unknown = acknowledged.clone();
        for n in unknown.flat_map(|(_, spans)| spans) {
            if in_month(&with_unknown, month_of(*n)) < LIMIT {
                with_unknown.push(*n);
            }
        }
        with_unknown.sort_unstable();
        assert!(
            found == acknowledged || found == with_unknown,
            "{context}: {name} has {found:?}, acknowledged {acknowledged:?}, at most {with_unknown:?}"
        );
        let mut once = found.clone();
        once.dedup();
        assert_eq!(once, found, "{context}: {name} has spans twice");
        for month in [Month::of(NOW), month_of(9)] {
            let count = in_month(&found, month);
            let usage = handle.usage(month).unwrap();
            assert_eq!(usage.used, count, "{context}: {name} in {month}");
            assert!(usage.used <= LIMIT, "{context}: {name} in {month}");
        }
        for n in &found {
            let trace = TraceId(spanstore_test_support::spans::trace_id(n / 10));
            let in_trace = handle.trace(trace).unwrap().rows().unwrap();
            let is_once = in_trace
                .iter()
                .filter(|row| row.span_id.0 == (n + 1).to_be_bytes())
                .count()
                == 1;
            assert!(is_once, "{context}: {name}, span {n} by trace");
        }
        let listed = sessions(&handle).unwrap();
        let by_session: usize = listed.iter().map(|one| one.counts.1 as usize).sum();
        assert_eq!(by_session, found.len(), "{context}: {name} by session");
    }
}

/// What a store has that is opened to be read alone, as it lies there; none where there is no
/// store yet.
fn seen_alone(disk: &SimulatedDisk, context: &str) -> Option<[Vec<u64>; 2]> {
    let before = disk.paths();
    let options = StoreOptions {
        read_only: true,
        ..options()
    };
    let store = match open_on(Arc::new(disk.clone()), "/store", options) {
        Err(Error::NotFound { .. }) => return None,
        opened => opened.unwrap_or_else(|error| panic!("{context}, read alone: {error}")),
    };
    let found = ["acme", "other"].map(|name| exported(&store, name));
    drop(store);
    assert_eq!(disk.paths(), before, "{context}");
    Some(found)
}

fn month_of(n: u64) -> Month {
    Month::of(spread(n).start_time_unix_nano.cast_signed())
}

/// How many of these spans lie in a month.
fn in_month(spans: &[u64], month: Month) -> u64 {
    spans.iter().filter(|n| month_of(**n) == month).count() as u64
}

/// A fault that was planned for an operation has met it.
fn assert_happened(disk: &SimulatedDisk, operation: u64) {
    let operations = disk.operations();
    assert!(
        operations > operation,
        "no fault in {operations} operations"
    );
}

#[test]
fn the_workload_fills_the_quota_when_nothing_fails() {
    let disk = SimulatedDisk::new();
    let known = workload(&disk);
    assert_eq!(known.unknown, None);
    let store = open(&disk).unwrap();
    verify(&store, &known, "no fault");
    assert_eq!(store.check().unwrap().damage, []);
    assert_eq!(
        exported(&store, "acme").len(),
        known.acknowledged["acme"].len()
    );
    // Up to the quota in one month, and below it in the other.
    let acknowledged = &known.acknowledged["acme"];
    assert_eq!(in_month(acknowledged, Month::of(NOW)), LIMIT);
    assert_eq!(in_month(acknowledged, month_of(9)), 3);
}

#[test]
fn a_crash_at_every_operation_loses_and_doubles_nothing() {
    let whole = SimulatedDisk::new();
    workload(&whole);
    let operations = whole.operations();
    assert!(operations > 100, "{operations}");
    for operation in 0..operations {
        let seed = operation * 31 + 7;
        let cuts = [
            PowerCut::KeepAll,
            PowerCut::DropAll,
            PowerCut::Some(seed),
            PowerCut::Some(seed + 1),
            PowerCut::Some(seed + 2),
        ];
        for cut in cuts {
            let context = format!("crash at operation {operation}, {cut:?}");
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, Fault::Crash);
            let known = workload(&disk);
            assert_happened(&disk, operation);
            disk.restart(cut);
            // Files of a process that was killed are what a reader finds beside one that writes.
            let is_killed = matches!(cut, PowerCut::KeepAll);
            let read_alone = is_killed.then(|| seen_alone(&disk, &context)).flatten();
            let store = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            verify(&store, &known, &context);
            let found = ["acme", "other"].map(|name| exported(&store, name));
            if let Some(read_alone) = read_alone {
                assert_eq!(found, read_alone, "{context}");
            }
            assert_eq!(store.check().unwrap().damage, [], "{context}");
            // No stray stays, and writing goes on.
            let unfinished = disk
                .paths()
                .into_iter()
                .filter(|path| path.to_string_lossy().contains("unfinished"));
            assert_eq!(unfinished.count(), 0, "{context}");
            let receipt = store
                .team(&team("third"))
                .append(request([span(0)]))
                .unwrap();
            assert_eq!(receipt.accepted, 1, "{context}");
            store.seal().unwrap();
        }
    }
}

#[test]
fn a_crash_while_recovering_recovers_the_same() {
    let whole = SimulatedDisk::new();
    workload(&whole);
    for operation in (0..whole.operations()).step_by(13) {
        let crashed = || {
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, Fault::Crash);
            let known = workload(&disk);
            assert_happened(&disk, operation);
            disk.restart(PowerCut::Some(operation));
            (disk, known)
        };
        let (disk, _) = crashed();
        let before = disk.operations();
        drop(open(&disk).unwrap());
        let opening = disk.operations() - before;
        for again in (0..opening).step_by(5) {
            let (disk, known) = crashed();
            disk.fail_at(again, Fault::Crash);
            drop(open(&disk));
            assert_happened(&disk, again);
            disk.restart(PowerCut::Some(again));
            let context = format!("crash at {operation}, then at {again} of opening");
            let store = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            verify(&store, &known, &context);
        }
    }
}

#[test]
fn an_error_at_every_operation_is_told_and_loses_nothing() {
    let whole = SimulatedDisk::new();
    workload(&whole);
    for fault in [Fault::Error, Fault::NoSpace] {
        for operation in 0..whole.operations() {
            let context = format!("{fault:?} at operation {operation}");
            let disk = SimulatedDisk::new();
            disk.fail_at(operation, fault);
            let known = workload(&disk);
            assert_happened(&disk, operation);
            disk.restart(PowerCut::Some(operation));
            let store = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            verify(&store, &known, &context);
            assert_eq!(store.check().unwrap().damage, [], "{context}");
        }
    }
}

#[test]
fn a_full_disk_refuses_a_batch_and_takes_it_when_there_is_space() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((0..5).map(span))).unwrap();
    disk.fail_at(disk.operations(), Fault::NoSpace);
    let error = acme.append(request((5..10).map(span))).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, 5);
    // Not a duplicate: nothing of the first try stayed.
    let receipt = acme.append(request((5..10).map(span))).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (5, 0));
    drop((acme, store));
    disk.restart(PowerCut::DropAll);
    assert_eq!(
        exported(&open(&disk).unwrap(), "acme"),
        (0..10).collect::<Vec<_>>()
    );
}

#[test]
fn a_failed_sync_poisons_writes_and_leaves_reads() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((0..5).map(span))).unwrap();
    // The write happens, its sync fails.
    disk.fail_at(disk.operations() + 1, Fault::Error);
    let error = acme.append(request((5..10).map(span))).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    let error = acme.append(request((10..15).map(span))).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert_eq!(exported(&store, "acme"), (0..5).collect::<Vec<_>>());
    assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    drop(acme);
    disk.restart(PowerCut::DropAll);
    assert_eq!(
        exported(&open(&disk).unwrap(), "acme"),
        (0..5).collect::<Vec<_>>()
    );
}

#[test]
fn a_seal_that_fails_is_done_by_the_next() {
    let mut failed = 0;
    for operation in 0..40 {
        let disk = SimulatedDisk::new();
        let store = open(&disk).unwrap();
        let acme = store.team(&team("acme"));
        acme.append(request((0..5).map(span))).unwrap();
        disk.fail_at(disk.operations() + operation, Fault::NoSpace);
        // A catalog that fails poisons the store; that is another test's.
        if !matches!(store.seal(), Err(Error::Io { .. } | Error::NoSpace { .. })) {
            continue;
        }
        failed += 1;
        acme.append(request((5..10).map(span))).unwrap();
        assert_eq!(
            exported(&store, "acme"),
            (0..10).collect::<Vec<_>>(),
            "{operation}"
        );
        let report = store.seal().unwrap();
        assert_eq!(
            report.segments.iter().map(|one| one.rows).sum::<u64>(),
            10,
            "{operation}"
        );
        assert_eq!(
            exported(&store, "acme"),
            (0..10).collect::<Vec<_>>(),
            "{operation}"
        );
        assert_eq!(store.check().unwrap().damage, [], "{operation}");
        drop((acme, store));
        disk.restart(PowerCut::DropAll);
        let store = open(&disk).unwrap();
        assert_eq!(
            exported(&store, "acme"),
            (0..10).collect::<Vec<_>>(),
            "{operation}"
        );
    }
    assert!(failed >= 5, "{failed}");
}

/// Threads append over the quota until the power goes; what was not
/// acknowledged is appended again. Then the team has its limit to the span.
#[test]
fn the_quota_is_exact_after_a_crash_in_the_middle_and_a_retry() {
    const THREADS: u64 = 8;
    const BATCHES: u64 = 12;
    const BATCH: u64 = 10;
    const LIMIT: u64 = 800;
    let mut options = quiet();
    options.plan_limits.hobby = LIMIT;
    let open = |disk: &SimulatedDisk| open_on(Arc::new(disk.clone()), "/store", options.clone());
    let batch = |number: u64| request((number * BATCH..(number + 1) * BATCH).map(span));
    for (crash_after, cut) in [
        (3, PowerCut::KeepAll),
        (7, PowerCut::Some(1)),
        (12, PowerCut::DropAll),
        (17, PowerCut::Some(2)),
        // Eight batches share a write and a sync at most, so there are 24.
        (23, PowerCut::Some(3)),
    ] {
        let disk = SimulatedDisk::new();
        let store = open(&disk).unwrap();
        let crash_at = disk.operations() + crash_after;
        disk.fail_at(crash_at, Fault::Crash);
        let unacknowledged: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let acme = store.team(&team("acme"));
                    scope.spawn(move || {
                        let numbers = (0..BATCHES).map(|n| n * THREADS + thread);
                        numbers
                            .filter(|number| acme.append(batch(*number)).is_err())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        drop(store);
        assert_happened(&disk, crash_at);
        assert!(!unacknowledged.is_empty());
        disk.restart(cut);
        let store = open(&disk).unwrap();
        let acme = store.team(&team("acme"));
        for number in unacknowledged {
            acme.append(batch(number)).unwrap();
        }
        let context = format!("crash after {crash_after}, {cut:?}");
        assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, LIMIT, "{context}");
        let mut found = exported(&store, "acme");
        assert_eq!(found.len() as u64, LIMIT, "{context}");
        found.dedup();
        assert_eq!(
            found.len() as u64,
            LIMIT,
            "{context}: a span is there twice"
        );
        store.seal().unwrap();
        assert_eq!(store.check().unwrap().damage, [], "{context}");
    }
}

#[test]
fn relaxed_modes_lose_at_most_what_they_say() {
    let hour = Duration::from_hours(1);
    for durability in [Durability::Interval(hour), Durability::None] {
        for (cut, flush, expected) in [
            (PowerCut::KeepAll, false, 10),
            (PowerCut::DropAll, false, 0),
            (PowerCut::DropAll, true, 10),
        ] {
            let disk = SimulatedDisk::new();
            let options = StoreOptions {
                durability,
                ..quiet()
            };
            let store = open_on(Arc::new(disk.clone()), "/store", options).unwrap();
            let receipt = store
                .team(&team("acme"))
                .append(request((0..10).map(span)))
                .unwrap();
            assert_eq!((receipt.accepted, receipt.durability), (10, durability));
            if flush {
                store.flush().unwrap();
            }
            // The power goes before the store can be closed.
            disk.restart(cut);
            drop(store);
            let found = exported(&open(&disk).unwrap(), "acme").len();
            assert_eq!(found, expected, "{durability:?}, {cut:?}, flushed: {flush}");
        }
    }
}

/// After a failed sync the system may think that the pages are written. What
/// the next open finds in them must stay found.
#[test]
fn what_a_reopen_finds_after_a_failed_sync_is_durable() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    let acme = store.team(&team("acme"));
    acme.append(request((0..5).map(span))).unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Error);
    assert!(acme.append(request((5..10).map(span))).is_err());
    drop((acme, store));
    let found = exported(&open(&disk).unwrap(), "acme");
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    disk.restart(PowerCut::DropAll);
    assert_eq!(exported(&open(&disk).unwrap(), "acme"), found);
}
