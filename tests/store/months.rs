//! A clock that moves: a new month has a new quota, and retention follows.

use std::sync::Arc;
use std::time::Duration;

use spanstore::io::SimulatedDisk;
use spanstore::otlp::Span;
use spanstore::{Clock, ManualClock, Month, RefusalReason, Store, StoreOptions, Team, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, quiet, sessions, team};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

struct World {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: StoreOptions,
}

impl World {
    fn new() -> Self {
        let mut options = quiet();
        options.plan_limits.hobby = 10;
        Self {
            disk: SimulatedDisk::new(),
            clock: Arc::new(ManualClock::new(NOW)),
            options,
        }
    }

    fn open(&self) -> Store {
        let disk = Arc::new(self.disk.clone());
        Store::open_on(disk, "/store", self.options.clone(), self.clock.clone()).unwrap()
    }

    /// Span number `n`, which began a second ago.
    fn recent(&self, n: u64) -> Span {
        Self::started(n, self.clock.now_nanos() - 1_000_000_000)
    }

    fn started(n: u64, start: i64) -> Span {
        Span {
            start_time_unix_nano: start.cast_unsigned(),
            end_time_unix_nano: start.cast_unsigned() + 5,
            ..span(n)
        }
    }
}

fn found(team: &Team) -> usize {
    let chunks = team.export().unwrap();
    chunks.map(|chunk| chunk.unwrap().len()).sum()
}

#[test]
fn a_new_month_has_a_new_quota() {
    let world = World::new();
    let store = world.open();
    let acme = store.team(&team("acme"));
    let november = Month::of(NOW);
    let receipt = acme
        .append(request((0..12).map(|n| world.recent(n))))
        .unwrap();
    assert_eq!((receipt.accepted, receipt.refused.len()), (10, 2));
    let resets_at = receipt.months[0].resets_at_nanos;

    // A nanosecond before, nothing is let in.
    world
        .clock
        .advance(Duration::from_nanos((resets_at - NOW).cast_unsigned() - 1));
    let last = World::started(20, world.clock.now_nanos());
    let receipt = acme.append(request([last])).unwrap();
    assert_eq!(receipt.refused[0].reason, RefusalReason::OverQuota);

    // Then a month has begun. A late span counts where it started.
    world.clock.advance(2 * HOUR);
    let december = Month::of(world.clock.now_nanos());
    assert_eq!(december, Month::of(resets_at));
    let late = World::started(21, resets_at - 1);
    let spans = [late].into_iter().chain((30..42).map(|n| world.recent(n)));
    let receipt = acme.append(request(spans)).unwrap();
    let refused: Vec<u32> = receipt.refused.iter().map(|one| one.index).collect();
    assert_eq!((receipt.accepted, refused), (10, vec![0, 11, 12]));

    // The clock steps back over the border: both months stay as they are.
    world.clock.set(resets_at - 1_000_000_000);
    for state in ["in memory", "sealed"] {
        for month in [november, december] {
            let usage = acme.usage(month).unwrap();
            assert_eq!((usage.used, usage.remaining), (10, 0), "{state}");
        }
        let receipt = acme
            .append(request((50..52).map(|n| world.recent(n))))
            .unwrap();
        assert_eq!(receipt.accepted, 0, "{state}");
        store.seal().unwrap();
    }
    drop((acme, store));
    let store = world.open();
    let acme = store.team(&team("acme"));
    assert_eq!(acme.usage(november).unwrap().used, 10);
    assert_eq!(acme.usage(december).unwrap().used, 10);
    assert_eq!(found(&acme), 20);
    // A span of each month is one trace still.
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn the_window_moves_with_the_clock() {
    let world = World::new();
    let store = world.open();
    let acme = store.team(&team("acme"));
    let limits = &world.options.limits;
    let oldest = limits.oldest.unwrap();
    let reason_of = |start: i64| {
        let receipt = acme.append(request([World::started(1, start)])).unwrap();
        receipt.refused.first().map(|one| one.reason)
    };
    for _ in 0..3 {
        let now = world.clock.now_nanos();
        let first = now - i64::try_from(oldest.as_nanos()).unwrap();
        let ahead = i64::try_from(limits.furthest_ahead.unwrap().as_nanos()).unwrap();
        assert_eq!(reason_of(first), None);
        assert_eq!(reason_of(first - 1), Some(RefusalReason::TooOld));
        assert_eq!(reason_of(now + ahead), None);
        assert_eq!(reason_of(now + ahead + 1), Some(RefusalReason::TooFarAhead));
        world.clock.advance(DAY);
    }
}

#[test]
fn spans_leave_as_the_clock_moves() {
    for is_sealed in [false, true] {
        let mut world = World::new();
        world.options.plan_limits.hobby = 1_000;
        let store = world.open();
        let acme = store.team(&team("acme"));
        store.set_retention(Some(3 * DAY)).unwrap();
        // One trace of ten spans a day.
        for day in 0..3 {
            let spans = (day * 10..day * 10 + 10).map(|n| world.recent(n));
            acme.append(request(spans)).unwrap();
            if is_sealed {
                store.seal().unwrap();
            }
            world.clock.advance(DAY);
        }
        for left in [20, 10, 0] {
            assert_eq!(found(&acme), left, "{is_sealed}");
            let listed = sessions(&acme).unwrap();
            let spans: i64 = listed.iter().map(|one| one.counts.1).sum();
            assert_eq!(spans, left as i64, "{is_sealed}");
            let last = acme.trace(TraceId(trace_id(2))).unwrap().len();
            assert_eq!(last, left.min(10), "{is_sealed}");
            // What is hidden still counts.
            let usage = acme.usage(Month::of(NOW)).unwrap();
            assert_eq!(usage.used, 30);
            world.clock.advance(DAY);
        }
        drop((acme, store));
        let store = world.open();
        assert_eq!(found(&store.team(&team("acme"))), 0);
    }
}
