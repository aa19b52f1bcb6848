//! Bodies and idempotency keys that come again: across seals, after reopening,
//! until their time is over, and what ends that earlier.

mod between;
mod story;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use spanstore::io::{Disk, Fault, PowerCut, SimulatedDisk};
use spanstore::{
    Error, ManualClock, Month, Receipt, Remembered, SpanBatch, Store, StoreOptions, TraceId,
};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, quiet, team};

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
