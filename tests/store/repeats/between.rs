//! What comes between: other batches of a group, forgets, seals, backups, crashes.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use spanstore::io::{Fault, FileKind, Operation, PlannedFault, PowerCut};
use spanstore::{Durability, Error, SpanBatch, StoreOptions, TraceId};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{open_on, quiet, team};

use super::{Place, append, body, rows};

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
