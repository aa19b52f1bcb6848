//! Bodies and idempotency keys that come again: across seals, after reopening,
//! until their time is over, and what ends that earlier.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::io::{Disk, Fault, FileKind, Operation, PlannedFault, PowerCut, SimulatedDisk};
use spanstore::{
    Durability, Error, ManualClock, Month, Receipt, Remembered, SpanBatch, Store, StoreOptions,
    TraceId,
};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, open_on, quiet, team};

const MINUTE: Duration = Duration::from_mins(1);

struct Place {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: StoreOptions,
}

impl Place {
    fn new() -> Self {
        Self::with(quiet())
    }

    fn with(options: StoreOptions) -> Self {
        Self {
            disk: SimulatedDisk::new(),
            clock: Arc::new(ManualClock::new(NOW)),
            options,
        }
    }

    fn open(&self) -> Store {
        self.open_at("/store").unwrap()
    }

    fn open_at(&self, path: &str) -> Result<Store, Error> {
        let disk = Arc::new(self.disk.clone());
        Store::open_on(disk, path, self.options.clone(), self.clock.clone())
    }

    fn recent_files(&self) -> Vec<PathBuf> {
        let paths = self.disk.paths().into_iter();
        paths
            .filter(|path| path.starts_with("/store/recent"))
            .collect()
    }
}

/// Body number `n`: one span, as protobuf.
fn bytes(n: u64) -> Vec<u8> {
    request([span(n)]).encode_to_vec()
}

fn body(n: u64) -> SpanBatch {
    SpanBatch::from_otlp_protobuf(&bytes(n)).unwrap()
}

fn append(store: &Store, batch: SpanBatch) -> Receipt {
    store.team(&team("acme")).append(batch).unwrap()
}

/// What a receipt says, but for how the batch was known.
fn counts(receipt: &Receipt) -> Receipt {
    Receipt {
        repeated: false,
        ..receipt.clone()
    }
}

fn rows(store: &Store) -> usize {
    let acme = store.team(&team("acme"));
    let chunks = acme.export().unwrap();
    chunks.map(|spans| spans.unwrap().len()).sum()
}

/// Makes batch number `n`.
type Make<'a> = Box<dyn Fn(u64) -> SpanBatch + 'a>;

#[test]
fn a_body_that_comes_again_is_not_stored_and_not_charged() {
    let json = |n| spanstore::otlp::json::encode(&request([span(n)]));
    let forms: [(&str, Make<'_>); 3] = [
        ("protobuf", Box::new(body)),
        (
            "JSON",
            Box::new(|n| SpanBatch::from_otlp_json(json(n).as_bytes()).unwrap()),
        ),
        (
            "typed",
            Box::new(|n| SpanBatch::from_otlp(request([span(n)]))),
        ),
    ];
    for (form, batch) in forms {
        let place = Place::new();
        let mut store = place.open();
        let first = append(&store, batch(1));
        assert_eq!((first.accepted, first.repeated), (1, false), "{form}");
        for stage in ["at once", "sealed", "opened again", "opened sealed"] {
            let again = append(&store, batch(1));
            assert!(again.repeated, "{form}, {stage}");
            assert_eq!(counts(&again), first, "{form}, {stage}");
            assert_eq!(rows(&store), 1, "{form}, {stage}");
            let usage = store.team(&team("acme")).usage(Month::of(NOW));
            assert_eq!(usage.unwrap().used, 1, "{form}, {stage}");
            place.clock.advance(MINUTE);
            if stage == "at once" {
                store.seal().unwrap();
            } else {
                drop(store);
                store = place.open();
            }
        }
        // Something else, another team, and without the window of starts.
        assert!(!append(&store, batch(2)).repeated, "{form}");
        let other = store.team(&team("other")).append(batch(1)).unwrap();
        assert!(!other.repeated, "{form}");
        assert!(!append(&store, batch(1).any_time()).repeated, "{form}");
    }
}

#[test]
fn a_compressed_body_is_known_by_what_it_holds() {
    let place = Place::new();
    let store = place.open();
    append(&store, body(1));
    let compressed = zstd::encode_all(bytes(1).as_slice(), 3).unwrap();
    let again = SpanBatch::from_otlp_protobuf(&compressed).unwrap();
    assert!(append(&store, again).repeated);
}

#[test]
fn a_body_is_known_for_ten_minutes_whatever_the_wall_clock_does() {
    let place = Place::new();
    let mut store = place.open();
    append(&store, body(1));
    store.seal().unwrap();
    place.clock.advance(9 * MINUTE);
    place.clock.set(NOW + 40 * 86_400_000_000_000);
    assert!(append(&store, body(1)).repeated);
    place.clock.set(NOW);
    assert!(append(&store, body(1)).repeated);
    // Opened at an earlier time, it is as if it had just come.
    drop(store);
    place.clock.set(NOW - 86_400_000_000_000);
    store = place.open();
    place.clock.advance(9 * MINUTE);
    assert!(append(&store, body(1)).repeated);
    place.clock.advance(MINUTE);
    let late = append(&store, body(1).any_time());
    assert!(!late.repeated);
    // Opened later, its time is over.
    let mut ids = BTreeSet::new();
    for later in [Duration::from_secs(599), Duration::from_mins(10)] {
        let place = Place::new();
        append(&place.open(), body(1));
        place.clock.advance(later);
        ids.insert(append(&place.open(), body(1)).repeated);
    }
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_body_of_which_something_was_refused_for_quota_is_not_known() {
    let place = Place::new();
    let store = place.open();
    let acme = store.team(&team("acme"));
    acme.set_quota(Some(5)).unwrap();
    let batch = || {
        let body = request((0..10).map(span)).encode_to_vec();
        SpanBatch::from_otlp_protobuf(&body).unwrap()
    };
    let first = append(&store, batch());
    assert_eq!((first.accepted, first.refused.len()), (5, 5));
    acme.set_quota(Some(50)).unwrap();
    let second = append(&store, batch());
    assert_eq!(
        (second.accepted, second.duplicates, second.repeated),
        (5, 5, false)
    );
    let third = append(&store, batch());
    assert!(third.repeated);
    assert_eq!(counts(&third), second);
}

#[test]
fn a_body_of_which_a_bad_span_was_refused_is_known() {
    let place = Place::new();
    let store = place.open();
    let mut bad = span(2);
    bad.name = "x".repeat(2_000);
    let first = append(&store, request([span(1), bad.clone()]).into());
    assert_eq!((first.accepted, first.refused.len()), (1, 1));
    let again = append(&store, request([span(1), bad.clone()]).into());
    assert!(again.repeated);
    assert_eq!(counts(&again), first);
    assert!(!append(&store, request([bad.clone(), span(1)]).into()).repeated);
    // Nothing of it was accepted, so there is nothing to repeat.
    for _ in 0..2 {
        assert!(!append(&store, request([bad.clone()]).into()).repeated);
    }
}

#[test]
fn to_forget_ends_what_is_known_also_after_a_reopen() {
    type Forget = fn(&Store) -> Result<(), Error>;
    let forgets: [Forget; 3] = [
        |store| store.team(&team("acme")).forget(),
        |store| {
            let trace = TraceId(trace_id(0));
            store.team(&team("acme")).forget_trace(trace)
        },
        |store| store.team(&team("acme")).forget_session("session-0"),
    ];
    for forget in forgets {
        for is_reopened in [false, true] {
            let place = Place::new();
            let mut store = place.open();
            append(&store, body(1).with_idempotency_key("key"));
            store.team(&team("other")).append(body(1)).unwrap();
            forget(&store).unwrap();
            if is_reopened {
                drop(store);
                store = place.open();
            }
            let again = append(&store, body(1).with_idempotency_key("key"));
            assert_eq!((again.accepted, again.repeated), (1, false));
            let other = store.team(&team("other")).append(body(1)).unwrap();
            assert!(other.repeated);
        }
    }
}

#[test]
fn a_crash_while_forgetting_never_swallows_a_body_that_is_sent_again() {
    let prepare = || {
        let place = Place::new();
        let store = place.open();
        append(&store, body(1));
        (place, store)
    };
    let (place, store) = prepare();
    let before = place.disk.operations();
    store.team(&team("acme")).forget().unwrap();
    let operations = place.disk.operations() - before;
    assert!(operations > 10);
    for operation in 0..operations {
        for cut in [
            PowerCut::KeepAll,
            PowerCut::DropAll,
            PowerCut::Some(operation),
        ] {
            let (place, store) = prepare();
            place.disk.fail_at(before + operation, Fault::Crash);
            let forgotten = store.team(&team("acme")).forget();
            drop(store);
            place.disk.restart(cut);
            let store = place.open();
            append(&store, body(1));
            let context = format!("{operation}, {cut:?}, {forgotten:?}");
            assert!(rows(&store) >= 1, "{context}");
            assert!(forgotten.is_err() || rows(&store) == 1, "{context}");
        }
    }
}

#[test]
fn a_key_is_known_for_a_day_with_its_content() {
    let place = Place::new();
    let mut store = place.open();
    let first = append(&store, body(1).with_idempotency_key("key"));
    for stage in 0..4 {
        // The body alone is known no more, and the key is.
        place.clock.advance(Duration::from_mins(11));
        let again = append(&store, body(1).with_idempotency_key("key"));
        assert!(again.repeated, "{stage}");
        assert_eq!(counts(&again), first, "{stage}");
        let acme = store.team(&team("acme"));
        let error = acme
            .append(body(2).with_idempotency_key("key"))
            .unwrap_err();
        let Error::IdempotencyKeyReused { team, age_seconds } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            (team.as_str(), *age_seconds),
            ("acme", (stage + 1) * 11 * 60)
        );
        let text = error.to_string();
        assert!(text.contains("acme") && text.contains("s ago"), "{text}");
        drop(acme);
        if stage % 2 == 0 {
            store.seal().unwrap();
        } else {
            drop(store);
            store = place.open();
        }
    }
    // Keys are a team's own.
    let other = store.team(&team("other"));
    let other = other.append(body(2).with_idempotency_key("key")).unwrap();
    assert!(!other.repeated);
    place.clock.advance(Duration::from_hours(24));
    let new = append(&store, body(2).with_idempotency_key("key"));
    assert_eq!((new.accepted, new.repeated), (1, false));
}

#[test]
fn a_new_key_of_a_known_body_is_known_from_then_on() {
    let place = Place::new();
    let mut store = place.open();
    let first = append(&store, body(1));
    let keyed = append(&store, body(1).with_idempotency_key("key"));
    assert!(keyed.repeated);
    for is_reopened in [false, true] {
        if is_reopened {
            place.clock.advance(Duration::from_mins(11));
            drop(store);
            store = place.open();
        }
        let acme = store.team(&team("acme"));
        let again = acme.append(body(1).with_idempotency_key("key")).unwrap();
        assert_eq!((counts(&again), again.repeated), (first.clone(), true));
        let other = acme.append(body(2).with_idempotency_key("key"));
        assert!(matches!(other, Err(Error::IdempotencyKeyReused { .. })));
        assert_eq!(rows(&store), 1);
    }
}

#[test]
fn a_key_of_a_refused_batch_answers_the_same() {
    let place = Place::new();
    let store = place.open();
    let acme = store.team(&team("acme"));
    acme.set_quota(Some(0)).unwrap();
    let first = append(&store, body(1).with_idempotency_key("key"));
    assert_eq!((first.accepted, first.refused.len()), (0, 1));
    acme.set_quota(None).unwrap();
    let again = append(&store, body(1).with_idempotency_key("key"));
    assert_eq!((counts(&again), again.repeated), (first, true));
    assert_eq!(append(&store, body(1)).accepted, 1);
}

#[test]
fn a_key_has_at_most_256_bytes() {
    let place = Place::new();
    let store = place.open();
    append(&store, body(1).with_idempotency_key([7; 256]));
    let operations = place.disk.operations();
    let acme = store.team(&team("acme"));
    let error = acme
        .append(body(2).with_idempotency_key([7; 257]))
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                limit: 256,
                found: 257,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(place.disk.operations(), operations);
    // One without bytes is a key as well.
    append(&store, body(3).with_idempotency_key(""));
    assert!(append(&store, body(3).with_idempotency_key("")).repeated);
}

#[test]
fn the_oldest_is_forgotten_at_the_budget_also_after_a_reopen() {
    let mut options = quiet();
    options.repeats.bytes = 16 << 10;
    let place = Place::with(options);
    let mut store = place.open();
    for stage in 0..3 {
        for n in 0..20 {
            let batch = body(100 * stage + n);
            assert!(!append(&store, batch.clone()).repeated);
            assert!(append(&store, batch).repeated);
        }
        // What a sixteenth of the budget holds: a body takes some 400 bytes.
        let known = (0..20).filter(|n| {
            let batch = body(100 * stage + n);
            // Only a look: a body that is not known is stored by it.
            append(&store, batch).repeated
        });
        let known = known.count();
        assert!(known <= 2, "{known}");
        store.seal().unwrap();
        drop(store);
        store = place.open();
    }
}

#[test]
fn nothing_is_known_when_it_is_switched_off() {
    let mut options = quiet();
    let off = Remembered {
        time: Duration::ZERO,
        bytes: 0,
    };
    (options.repeats, options.idempotency) = (off, off);
    let place = Place::with(options);
    let store = place.open();
    for (accepted, duplicates) in [(1, 0), (0, 1)] {
        let receipt = append(&store, body(1).with_idempotency_key("key"));
        assert_eq!(
            (receipt.accepted, receipt.duplicates),
            (accepted, duplicates)
        );
        assert!(!receipt.repeated);
    }
    store.seal().unwrap();
    assert!(place.recent_files().is_empty());
}

#[test]
fn a_damaged_file_is_named_and_costs_no_span() {
    let place = Place::new();
    let store = place.open();
    append(&store, body(1));
    store.seal().unwrap();
    append(&store, body(2));
    drop(store);
    let [file] = <[PathBuf; 1]>::try_from(place.recent_files()).unwrap();
    let mut content = Vec::new();
    let read = place.disk.corrupt(&file, |bytes| content.clone_from(bytes));
    read.unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..content.len())
        .map(|at| {
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            damaged
        })
        .collect();
    damaged.extend((0..content.len()).map(|at| content[..at].to_vec()));
    for (number, damaged) in damaged.into_iter().enumerate() {
        place
            .disk
            .corrupt(&file, |bytes| bytes.clone_from(&damaged))
            .unwrap();
        // A version that may be a newer one is refused.
        let Ok(store) = place.open_at("/store") else {
            panic!("{number}")
        };
        assert!(store.recovered().has_forgotten_appends, "{number}");
        let damage = store.check().unwrap().damage;
        assert_eq!(damage.len(), 1, "{number}: {damage:?}");
        assert_eq!(damage[0].file, file.display().to_string());
        assert_eq!(rows(&store), 2);
        // The log knows what came since the seal.
        assert!(append(&store, body(2)).repeated);
    }
    place.disk.corrupt(&file, Vec::clear).unwrap();
    let store = place.open();
    assert!(!append(&store, body(1)).repeated);
    store.seal().unwrap();
    assert_eq!(store.check().unwrap().damage, []);
    drop(store);
    let store = place.open();
    assert!(!store.recovered().has_forgotten_appends);
    assert!(append(&store, body(1)).repeated && append(&store, body(2)).repeated);
    drop(store);
    let [file] = <[PathBuf; 1]>::try_from(place.recent_files()).unwrap();
    place.disk.remove_file(&file).unwrap();
    let store = place.open();
    assert!(store.recovered().has_forgotten_appends);
    assert_eq!(store.check().unwrap().damage.len(), 1);
}

#[test]
fn a_backup_knows_what_is_in_it_and_no_more() {
    let place = Place::new();
    let store = place.open();
    append(&store, body(1).with_idempotency_key("key"));
    store.backup("/copy").unwrap();
    append(&store, body(2));
    store.seal().unwrap();
    let copy = place.open_at("/copy").unwrap();
    assert_eq!(copy.check().unwrap().damage, []);
    assert!(append(&copy, body(1).with_idempotency_key("key")).repeated);
    let new = append(&copy, body(2));
    assert_eq!((new.accepted, new.repeated), (1, false));
}

/// Appends before a seal, with the seal, and after it.
fn sealed_twice(place: &Place, seal: impl FnOnce(&Store) -> bool) -> bool {
    let store = place.open();
    append(&store, body(1).with_idempotency_key("one"));
    store.seal().unwrap();
    append(&store, body(2).with_idempotency_key("two"));
    seal(&store)
}

fn check_sealed_twice(store: &Store, context: &str) {
    assert!(!store.recovered().has_forgotten_appends, "{context}");
    for (n, key) in [(1, "one"), (2, "two")] {
        assert!(append(store, body(n)).repeated, "{context}");
        let keyed = append(store, body(n).with_idempotency_key(key));
        assert!(keyed.repeated, "{context}");
        let acme = store.team(&team("acme"));
        let other = acme.append(body(9).with_idempotency_key(key));
        let is_refused = matches!(other, Err(Error::IdempotencyKeyReused { .. }));
        assert!(is_refused, "{context}: {other:?}");
    }
    assert_eq!(rows(store), 2, "{context}");
    assert_eq!(store.check().unwrap().damage, [], "{context}");
}

#[test]
fn a_fault_at_every_operation_of_a_seal_loses_nothing_that_is_known() {
    let place = Place::new();
    let mut first = 0;
    sealed_twice(&place, |store| {
        first = place.disk.operations();
        store.seal().is_ok()
    });
    let last = place.disk.operations();
    assert!(last - first > 25, "{}", last - first);
    for operation in first..last {
        for fault in [Fault::Crash, Fault::NoSpace, Fault::Error] {
            for cut in [
                PowerCut::KeepAll,
                PowerCut::DropAll,
                PowerCut::Some(operation),
                PowerCut::Some(operation + 1_000),
            ] {
                let context = format!("{fault:?} at {operation}, {cut:?}");
                let place = Place::new();
                place.disk.fail_at(operation, fault);
                sealed_twice(&place, |store| store.seal().is_ok());
                place.disk.restart(cut);
                let store = place.open();
                check_sealed_twice(&store, &context);
                assert!(place.recent_files().len() <= 1, "{context}");
                store.seal().unwrap();
                drop(store);
                check_sealed_twice(&place.open(), &context);
            }
        }
    }
}

#[test]
fn a_typed_batch_is_known_whatever_its_window_has_become() {
    for key in [false, true] {
        let place = Place::with({
            let mut options = quiet();
            options.limits.oldest = Some(Duration::from_hours(1));
            options
        });
        let store = place.open();
        // Span 0 starts an hour ago, the other nine seconds later.
        let batch = || {
            let batch = SpanBatch::from_otlp(request([span(0), span(9_000)]));
            if key {
                batch.with_idempotency_key("key")
            } else {
                batch
            }
        };
        assert_eq!(append(&store, batch()).accepted, 2);
        store.seal().unwrap();
        place.clock.advance(Duration::from_secs(1));
        assert!(append(&store, batch()).repeated, "{key}");
        assert_eq!(rows(&store), 2, "{key}");
    }
}

/// Appends that come while the writer syncs share a group.
#[test]
fn the_same_key_twice_in_a_group_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let disk = InterruptedDisk::default();
    let store = open_on(
        Arc::new(disk.clone()),
        directory.path().join("store"),
        quiet(),
    )
    .unwrap();
    let acme = store.team(&team("acme"));
    let (release, released) = channel::<()>();
    let (began, begins) = channel();
    disk.before_sync("00000000000000000001.log.unfinished", move || {
        began.send(()).unwrap();
        released.recv().ok();
    });
    let acme = &acme;
    let answers = std::thread::scope(move |scope| {
        let first = scope.spawn(move || acme.append(body(100)));
        begins.recv_timeout(Duration::from_mins(1)).unwrap();
        // Each is in the queue when its future was polled once.
        let mut waiting: Vec<_> = [1, 2, 1]
            .map(|n| Box::pin(acme.append_async(body(n).with_idempotency_key("key"))))
            .into();
        let mut context = Context::from_waker(Waker::noop());
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        release.send(()).unwrap();
        first.join().unwrap().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        let answers = waiting.into_iter().map(|one| runtime.block_on(one));
        answers.collect::<Vec<_>>()
    });
    assert!(
        matches!(&answers[0], Ok(one) if one.accepted == 1 && !one.repeated),
        "{answers:?}"
    );
    assert!(
        matches!(&answers[1], Err(Error::IdempotencyKeyReused { .. })),
        "{answers:?}"
    );
    assert!(
        matches!(&answers[2], Ok(one) if one.repeated),
        "{answers:?}"
    );
    assert_eq!(rows(&store), 2);
}

#[test]
fn to_forget_is_durable_in_relaxed_modes() {
    let place = Place::with(StoreOptions {
        durability: Durability::None,
        ..quiet()
    });
    let store = place.open();
    append(&store, body(1));
    store.seal().unwrap();
    let acme = store.team(&team("acme"));
    acme.forget_trace(TraceId(trace_id(0))).unwrap();
    place.disk.cut_power();
    drop((acme, store));
    place.disk.restart(PowerCut::DropAll);
    let store = place.open();
    assert!(!append(&store, body(1)).repeated);
    assert_eq!(rows(&store), 1);
}

/// What came after a seal began is not in its file, also when the seal is tried
/// again.
#[test]
fn a_seal_that_is_tried_again_knows_what_it_began_with() {
    let prepare = |crash: Option<u64>| {
        let place = Place::with(StoreOptions {
            durability: Durability::None,
            ..quiet()
        });
        let store = place.open();
        append(&store, body(1));
        place.disk.plan(PlannedFault {
            fault: Fault::NoSpace,
            file: Some(FileKind::Segment),
            operation: Some(Operation::Write),
            after: 0,
        });
        assert!(store.seal().is_err());
        append(&store, body(20));
        let first = place.disk.operations();
        if let Some(at) = crash {
            place.disk.fail_at(first + at, Fault::Crash);
        }
        drop(store.seal());
        let count = place.disk.operations() - first;
        drop(store);
        (place, count)
    };
    let (_, operations) = prepare(None);
    for at in 0..operations {
        let (place, _) = prepare(Some(at));
        place.disk.restart(PowerCut::DropAll);
        let store = place.open();
        let again = append(&store, body(20));
        assert_eq!(rows(&store), 2, "{at} of {operations}: {again:?}");
    }
}

/// A file that a crash left has the name of the next one; that it could not be
/// removed when the store was opened does not remove the next one.
#[test]
fn a_file_in_use_is_not_removed_for_one_of_its_name() {
    let prepare = |crash: Option<u64>| {
        let place = Place::new();
        let store = place.open();
        append(&store, body(1));
        store.seal().unwrap();
        append(&store, body(2));
        let first = place.disk.operations();
        if let Some(at) = crash {
            place.disk.fail_at(first + at, Fault::Crash);
        }
        drop(store.seal());
        let count = place.disk.operations() - first;
        drop(store);
        (place, count)
    };
    let (_, operations) = prepare(None);
    let mut met = 0;
    for at in 0..operations {
        let (place, _) = prepare(Some(at));
        place.disk.restart(PowerCut::KeepAll);
        if place.recent_files().len() < 2 {
            continue;
        }
        met += 1;
        for _ in 0..2 {
            place.disk.plan(PlannedFault {
                fault: Fault::Error,
                file: Some(FileKind::Other),
                operation: Some(Operation::Remove),
                after: 0,
            });
        }
        place.open().seal().unwrap();
        assert!(!place.open().recovered().has_forgotten_appends, "{at}");
    }
    assert!(met > 3, "{met}");
}

/// While a backup keeps a forget waiting, what comes is not known and hidden.
#[test]
fn what_comes_while_a_forget_waits_is_found_or_not_known() {
    let directory = tempfile::tempdir().unwrap();
    let disk = InterruptedDisk::default();
    let open = |name: &str| {
        let disk = Arc::new(disk.clone());
        open_on(disk, directory.path().join(name), quiet()).unwrap()
    };
    let store = Arc::new(open("store"));
    let acme = store.team(&team("acme"));
    acme.append(body(2).with_idempotency_key("key")).unwrap();
    store.seal().unwrap();
    acme.append(body(55)).unwrap();
    let forgetting = Arc::new(Mutex::new(None));
    {
        let (store, forgetting) = (Arc::clone(&store), Arc::clone(&forgetting));
        disk.after_new_files(1, move || {
            let acme = store.team(&team("acme"));
            let forgets = acme.clone();
            *forgetting.lock().unwrap() = Some(std::thread::spawn(move || {
                forgets.forget_trace(TraceId(trace_id(0)))
            }));
            acme.append(body(1)).unwrap();
        });
    }
    store.backup(directory.path().join("copy")).unwrap();
    assert!(!disk.is_planned());
    let handle = forgetting.lock().unwrap().take().unwrap();
    handle.join().unwrap().unwrap();
    for store in [&*store, &open("copy")] {
        for body in [body(1), body(2).with_idempotency_key("key")] {
            store.team(&team("acme")).append(body).unwrap();
        }
        let acme = store.team(&team("acme"));
        assert_eq!(acme.trace(TraceId(trace_id(0))).unwrap().len(), 2);
    }
}

/// Without it no span is lost, so the store opens.
#[test]
fn a_file_that_cannot_be_read_forgets_and_costs_no_span() {
    let mut forgotten = 0;
    for (file, after) in [
        (FileKind::Other, 0),
        (FileKind::Other, 1),
        (FileKind::Catalog, 0),
    ] {
        let place = Place::new();
        let store = place.open();
        append(&store, body(1));
        store.seal().unwrap();
        drop(store);
        place.disk.restart(PowerCut::KeepAll);
        place.disk.plan(PlannedFault {
            fault: Fault::Error,
            file: Some(file),
            operation: Some(Operation::Read),
            after,
        });
        let store = place.open();
        forgotten += u32::from(store.recovered().has_forgotten_appends);
        assert_eq!(rows(&store), 1, "{file:?}, {after}");
    }
    assert!(forgotten > 0);
}

/// What a store must know, kept in a list.
struct Model {
    /// Team, body, key, when it was accepted as the store knows, and as the log or
    /// the file says.
    appends: Vec<(&'static str, u64, Option<u64>, i64, i64)>,
    /// Spans that are not sealed.
    hot: BTreeSet<(&'static str, u64)>,
    /// Whether the log has records.
    has_records: bool,
    /// Spans that were accepted, each time.
    accepted: Vec<(&'static str, u64)>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Accepted,
    Duplicate,
    Repeated,
    Refused,
}

const BODY_NANOS: i64 = 600_000_000_000;
const KEY_NANOS: i64 = 144 * BODY_NANOS;

impl Model {
    fn append(&mut self, team: &'static str, body: u64, key: Option<u64>, now: i64) -> Answer {
        let mut of_team = self.appends.iter().rev().filter(|one| one.0 == team);
        let by_key = key.and_then(|key| {
            let mut known = of_team.clone();
            known.find(|one| one.2 == Some(key) && now - one.3 < KEY_NANOS)
        });
        if let Some(known) = by_key {
            return if known.1 == body {
                Answer::Repeated
            } else {
                Answer::Refused
            };
        }
        // An append with a key is noted twice: by its key, and by its body if it
        // was not known by that.
        let is_known =
            of_team.any(|one| one.1 == body && one.2.is_none() && now - one.3 < BODY_NANOS);
        self.has_records |= key.is_some() || !is_known;
        if key.is_some() {
            self.appends.push((team, body, key, now, now));
        }
        if is_known {
            return Answer::Repeated;
        }
        self.appends.push((team, body, None, now, now));
        if self.hot.insert((team, body)) {
            self.accepted.push((team, body));
            Answer::Accepted
        } else {
            Answer::Duplicate
        }
    }

    /// A seal forgets for good what is too old.
    fn seal(&mut self, now: i64) {
        if !std::mem::take(&mut self.has_records) {
            return;
        }
        self.hot.clear();
        self.appends.retain(|one| {
            let time = if one.2.is_some() {
                KEY_NANOS
            } else {
                BODY_NANOS
            };
            now - one.3 < time
        });
        for one in &mut self.appends {
            one.4 = one.3;
        }
    }
}

/// Random bodies, keys, steps of both clocks, seals, crashes and reopens; every
/// answer is the model's.
#[test]
fn a_random_story_is_the_models() {
    let seeds = std::env::var("SPANSTORE_SEED").ok();
    let seeds = seeds.map_or(0..40, |seed| {
        let seed: u64 = seed.parse().unwrap();
        seed..seed + 1
    });
    let mut answers = std::collections::BTreeMap::new();
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let place = Place::new();
        let mut store = place.open();
        let mut model = Model {
            appends: Vec::new(),
            hot: BTreeSet::new(),
            has_records: false,
            accepted: Vec::new(),
        };
        // The time by which appends age.
        let mut now = NOW;
        let mut wall = NOW;
        for step in 0..120 {
            let context = format!("seed {seed}, step {step}");
            match random.random_range(0..20) {
                0..12 => {
                    let name = if random.random() { "acme" } else { "other" };
                    let n = random.random_range(0..5);
                    let key = random.random_bool(0.4).then(|| random.random_range(0..3));
                    let mut batch = body(n).any_time();
                    if let Some(key) = key {
                        batch = batch.with_idempotency_key([key as u8]);
                    }
                    let answer = match store.team(&team(name)).append(batch) {
                        Ok(receipt) if receipt.repeated => Answer::Repeated,
                        Ok(receipt) if receipt.accepted == 1 => Answer::Accepted,
                        Ok(_) => Answer::Duplicate,
                        Err(Error::IdempotencyKeyReused { .. }) => Answer::Refused,
                        Err(error) => panic!("{context}: {error}"),
                    };
                    let expected = model.append(name, n, key, now);
                    assert_eq!(answer, expected, "{context}");
                    *answers.entry(format!("{answer:?}")).or_insert(0) += 1;
                }
                12..15 => {
                    let minutes = [1, 4, 10, 600][random.random_range(0..4)];
                    let passed = minutes * 60_000_000_000;
                    place.clock.advance(Duration::from_nanos(passed as u64));
                    (now, wall) = (now + passed, wall + passed);
                    store.maintain().unwrap();
                }
                15 => {
                    wall += random.random_range(-7_200_000_000_000i64..7_200_000_000_000);
                    place.clock.set(wall);
                }
                16..18 => {
                    store.seal().unwrap();
                    model.seal(now);
                }
                18 => {
                    let teams = [
                        ("acme", store.team(&team("acme"))),
                        ("other", store.team(&team("other"))),
                    ];
                    let (name, handle) = &teams[random.random_range(0..2)];
                    handle.forget_session("nobody").unwrap();
                    model.has_records = true;
                    model.appends.retain(|one| one.0 != *name);
                }
                _ => {
                    let is_crash = random.random();
                    if is_crash {
                        place.disk.fail_at(place.disk.operations(), Fault::Crash);
                    }
                    drop(store);
                    if is_crash {
                        place.disk.restart(PowerCut::Some(seed));
                    }
                    store = place.open();
                    now = wall;
                    for one in &mut model.appends {
                        one.3 = one.4.min(now);
                    }
                }
            }
        }
        let found: usize = ["acme", "other"]
            .iter()
            .map(|name| {
                let handle = store.team(&team(name));
                let chunks = handle.export().unwrap();
                chunks.map(|spans| spans.unwrap().len()).sum::<usize>()
            })
            .sum();
        // Merges make one of equal spans.
        let distinct: BTreeSet<_> = model.accepted.iter().collect();
        assert!(
            (distinct.len()..=model.accepted.len()).contains(&found),
            "seed {seed}: {found}"
        );
        assert_eq!(store.check().unwrap().damage, [], "seed {seed}");
    }
    if answers.len() < 4 {
        assert!(std::env::var("SPANSTORE_SEED").is_ok(), "{answers:?}");
    }
}
