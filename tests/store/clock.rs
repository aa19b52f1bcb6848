//! Removal relies on a time of the store's own: a clock that leaps drops
//! nothing, and hides nothing for good.

use std::sync::Arc;
use std::time::Duration;

use spanstore::io::{Disk, Fault, PowerCut, SimulatedDisk};
use spanstore::{ManualClock, SpanBatch, Store, Team};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open_at, quiet, team};

const DAY: Duration = Duration::from_hours(24);
const DAY_NANOS: i64 = 86_400_000_000_000;

fn count(team: &Team) -> usize {
    team.export()
        .unwrap()
        .map(|chunk| chunk.unwrap().len())
        .sum()
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Store {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    open_at(disk, "/store", quiet(), clock).unwrap()
}

/// A clock that shows so many days after the time of the tests.
fn days(days: i64) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW + days * DAY_NANOS))
}

/// Ten spans of today, sealed, to be kept for 60 days: until 2027-01-30, as
/// their month ends with November.
fn fill(store: &Store) -> Team {
    let acme = store.team(&team("acme"));
    acme.append(request((0..10).map(span))).unwrap();
    store.seal().unwrap();
    store.set_retention(Some(60 * DAY)).unwrap();
    acme
}

/// Does all that removes something.
fn remove(store: &Store) -> u64 {
    let due = store.maintain().unwrap().compacted.rows_removed;
    due + store.compact().unwrap().rows_removed
}

#[test]
fn a_leap_of_the_clock_removes_nothing_while_the_store_is_open() {
    let (disk, clock) = (SimulatedDisk::new(), days(0));
    let store = open(&disk, &clock);
    let acme = fill(&store);
    clock.set(NOW + 400 * DAY_NANOS);
    assert_eq!(count(&acme), 0, "readers follow the clock");
    assert_eq!(remove(&store), 0);
    clock.set(NOW);
    assert_eq!(count(&acme), 10, "and nothing is gone");
    // Time that passes counts.
    clock.advance(75 * DAY);
    assert_eq!(remove(&store), 0, "the month ended fifteen days after");
    clock.advance(DAY);
    assert_eq!(remove(&store), 10);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn nothing_is_removed_that_the_clock_still_shows() {
    let (disk, clock) = (SimulatedDisk::new(), days(0));
    let store = open(&disk, &clock);
    let acme = fill(&store);
    clock.advance(80 * DAY);
    clock.set(NOW + 10 * DAY_NANOS);
    assert_eq!((remove(&store), count(&acme)), (0, 10));
    // A store that is opened while the clock is behind keeps its time.
    drop((acme, store));
    let clock = days(20);
    let store = open(&disk, &clock);
    let acme = store.team(&team("acme"));
    assert!(store.health().is_healthy());
    assert_eq!((remove(&store), count(&acme)), (0, 10));
    clock.set(NOW + 80 * DAY_NANOS);
    assert_eq!(remove(&store), 10, "80 days had passed before");
}

#[test]
fn after_a_leap_of_more_than_31_days_removal_waits() {
    for (leap, is_removed) in [(31 * DAY_NANOS, true), (31 * DAY_NANOS + 1, false)] {
        let (disk, clock) = (SimulatedDisk::new(), days(0));
        drop(fill(&open(&disk, &clock)));
        // The seal was the last to keep the time; so let this be.
        let clock = days(31);
        drop(open(&disk, &clock).maintain().unwrap());
        clock.advance(20 * DAY);
        let store = open(&disk, &clock);
        assert_eq!(remove(&store), 0);
        drop(store);

        let at = NOW + 51 * DAY_NANOS + leap;
        let store = open(&disk, &Arc::new(ManualClock::new(at)));
        let acme = store.team(&team("acme"));
        assert_eq!(count(&acme), 0);
        let health = store.health();
        assert_eq!(health.clock_leap.is_none(), is_removed);
        assert_eq!(health.is_healthy(), is_removed);
        assert_eq!(remove(&store) > 0, is_removed, "{leap}");
        if is_removed {
            continue;
        }
        let waits = health.clock_leap.unwrap();
        assert_eq!(waits.kept_nanos, NOW + 51 * DAY_NANOS);
        assert_eq!(waits.clock_nanos, at);
        // Neither a seal nor the next open takes the leap over.
        let late = SpanBatch::from_otlp(request((50..60).map(span))).any_time();
        store.set_retention(None).unwrap();
        acme.append(late).unwrap();
        store.seal().unwrap();
        store.set_retention(Some(60 * DAY)).unwrap();
        drop((acme, store));
        let store = open(&disk, &Arc::new(ManualClock::new(at)));
        assert!(store.health().clock_leap.is_some());
        assert_eq!(remove(&store), 0);
        store.accept_clock().unwrap();
        assert!(store.health().is_healthy());
        drop(store);
        let store = open(&disk, &Arc::new(ManualClock::new(at)));
        assert!(store.health().is_healthy(), "the acceptance is kept");
        assert_eq!(remove(&store), 20);
    }
}

#[test]
fn the_time_is_kept_at_seals_and_once_a_day() {
    for is_seal in [false, true] {
        let (disk, clock) = (SimulatedDisk::new(), days(0));
        let store = open(&disk, &clock);
        let acme = fill(&store);
        clock.advance(Duration::from_hours(23));
        store.maintain().unwrap();
        let before = disk.operations();
        store.maintain().unwrap();
        assert_eq!(disk.operations(), before, "not more often than once a day");
        clock.advance(19 * DAY + Duration::from_hours(1));
        if is_seal {
            acme.append(request((0..5).map(|n| {
                let mut span = span(100 + n);
                span.start_time_unix_nano += 20 * DAY_NANOS.cast_unsigned();
                span.end_time_unix_nano = span.start_time_unix_nano + 1;
                span
            })))
            .unwrap();
            store.seal().unwrap();
        } else {
            store.maintain().unwrap();
        }
        drop((acme, store));
        assert!(open(&disk, &days(51)).health().is_healthy(), "{is_seal}");
        let leap = open(&disk, &days(52)).health().clock_leap.unwrap();
        assert_eq!(leap.kept_nanos, NOW + 20 * DAY_NANOS, "{is_seal}");
    }
}

/// Acceptance puts right a time that ran ahead, too.
#[test]
fn a_time_from_the_future_can_be_put_right() {
    let (disk, clock) = (SimulatedDisk::new(), days(900));
    let store = open(&disk, &clock);
    let batch = SpanBatch::from_otlp(request((0..10).map(span))).any_time();
    store.team(&team("acme")).append(batch).unwrap();
    store.seal().unwrap();
    store.set_retention(Some(60 * DAY)).unwrap();
    drop(store);
    let store = open(&disk, &days(0));
    assert_eq!(remove(&store), 0);
    store.accept_clock().unwrap();
    drop(store);
    let store = open(&disk, &days(32));
    assert!(store.health().clock_leap.is_some(), "it counts from there");
    assert_eq!(remove(&store), 0);
}

#[test]
fn a_crash_while_the_time_is_kept_leaves_the_old_or_the_new() {
    for is_accepted in [false, true] {
        // What keeps the time, and the time that it keeps.
        let keep = |store: &Store, clock: &ManualClock| {
            if is_accepted {
                clock.set(NOW + 2 * DAY_NANOS);
                store.accept_clock()
            } else {
                clock.advance(2 * DAY);
                store.maintain().map(drop)
            }
        };
        let kept_by = |disk: &SimulatedDisk| {
            let store = open(disk, &days(100));
            assert_eq!(store.check().unwrap().damage, []);
            assert_eq!(store.segments().len(), 1);
            store.health().clock_leap.unwrap().kept_nanos
        };
        // The operations before and after, and how it ended.
        let run = |disk: &SimulatedDisk, fault: Option<(u64, Fault)>| {
            let clock = days(0);
            let store = open(disk, &clock);
            let acme = fill(&store);
            let first = disk.operations();
            if let Some((operation, fault)) = fault {
                disk.fail_at(first + operation, fault);
            }
            let done = keep(&store, &clock);
            let last = disk.operations();
            // What closing does is not asked for here.
            disk.restart(PowerCut::Some(last));
            drop((acme, store));
            (last - first, done)
        };
        let whole = SimulatedDisk::new();
        let (operations, done) = run(&whole, None);
        done.unwrap();
        assert_eq!(kept_by(&whole), NOW + 2 * DAY_NANOS);
        assert!(operations > 1, "{operations}");
        for operation in 0..operations {
            for fault in [Fault::Crash, Fault::Error] {
                let disk = SimulatedDisk::new();
                let (_, done) = run(&disk, Some((operation, fault)));
                let kept = kept_by(&disk);
                let is_new = kept == NOW + 2 * DAY_NANOS;
                // Background work tells its failures by the store's health alone.
                let may_be_old = kept == NOW && (done.is_err() || !is_accepted);
                assert!(
                    is_new || may_be_old,
                    "{operation}, {fault:?}, {done:?}: {kept}"
                );
            }
        }
    }
}
