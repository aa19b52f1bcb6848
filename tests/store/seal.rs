//! A seal is due by rows, by memory, by the size of the log, by age.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use spanstore::{Error, StoreOptions};
use spanstore_test_support::disk::InterruptedDisk;
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_on, open_with, quiet, team};

#[test]
fn each_reason_seals() {
    for (reason, options) in [
        (
            "rows",
            StoreOptions {
                seal_rows: 100,
                ..quiet()
            },
        ),
        (
            "memory",
            StoreOptions {
                hot_bytes: 400 << 10,
                ..quiet()
            },
        ),
        (
            "log",
            StoreOptions {
                log_bytes: 16 << 10,
                ..quiet()
            },
        ),
        (
            "age",
            StoreOptions {
                seal_age: Some(Duration::ZERO),
                ..quiet()
            },
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = open_with(directory.path(), options);
        let acme = store.team(&team("acme"));
        assert_eq!(store.maintain().unwrap().sealed.segments, [], "{reason}");
        for start in (0..300).step_by(50) {
            acme.append(request((start..start + 50).map(span))).unwrap();
        }
        let sealed = store.maintain().unwrap().sealed;
        assert_eq!(sealed.segments.len(), 1, "{reason}");
        assert_eq!(sealed.segments[0].rows, 300, "{reason}");
        assert_eq!(store.maintain().unwrap().sealed.segments, [], "{reason}");
        let spans: usize = acme
            .export()
            .unwrap()
            .map(|spans| spans.unwrap().len())
            .sum();
        assert_eq!(spans, 300, "{reason}");
    }
}

#[test]
fn appends_wait_for_memory_and_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        hot_bytes: 200 << 10,
        queue_bytes: 64 << 10,
        background: true,
        ..quiet()
    };
    let store = open_with(directory.path(), options);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let acme = store.team(&team("acme"));
            scope.spawn(move || {
                for start in (thread * 2_000..(thread + 1) * 2_000).step_by(100) {
                    acme.append(request((start..start + 100).map(span)))
                        .unwrap();
                }
            });
        }
    });
    let acme = store.team(&team("acme"));
    let spans: usize = acme
        .export()
        .unwrap()
        .map(|spans| spans.unwrap().len())
        .sum();
    assert_eq!(spans, 8_000);
    // Segments may be merged by now; their ids tell how many were written.
    let written = store.segments().iter().map(|one| one.id.0).max();
    assert!(written > Some(3), "{:?}", store.segments());
}

#[test]
fn a_full_memory_answers_busy_until_something_is_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        hot_bytes: 100 << 10,
        ..quiet()
    };
    let store = open_with(directory.path(), options);
    let acme = store.team(&team("acme"));
    let batch = |n: u64| request((n * 50..(n + 1) * 50).map(span));
    let mut accepted = 0;
    // Nothing is sealed unless it is asked for, so that waiting would not end.
    while acme.try_append(batch(accepted)).is_ok() {
        accepted += 1;
        assert!(accepted < 1_000);
    }
    assert!(accepted > 0);
    for answer in [
        acme.try_append(batch(accepted)),
        acme.append(batch(accepted)),
    ] {
        assert!(matches!(answer, Err(Error::Busy)), "{answer:?}");
    }
    assert_eq!(
        store.maintain().unwrap().sealed.segments[0].rows,
        accepted * 50
    );
    assert_eq!(acme.append(batch(accepted)).unwrap().accepted, 50);
}

/// While the writer waits for the disk, a batch that finds no room is refused
/// or waits, as its caller chose.
#[test]
fn a_full_queue_answers_busy_or_waits() {
    let directory = tempfile::tempdir().unwrap();
    let disk = InterruptedDisk::default();
    let options = StoreOptions {
        // One batch at a time.
        queue_bytes: 1,
        ..quiet()
    };
    let store = open_on(Arc::new(disk.clone()), directory.path(), options).unwrap();
    let acme = store.team(&team("acme"));
    let (began, begins) = channel();
    let (release, released) = channel::<()>();
    disk.before_sync("00000000000000000001.log.unfinished", move || {
        began.send(()).unwrap();
        released.recv().ok();
    });
    let acme = &acme;
    // A failure drops `release`, so that nobody waits for ever.
    std::thread::scope(move |scope| {
        let append = move |n: u64| acme.append(request([span(n)])).unwrap().accepted;
        let first = scope.spawn(move || append(0));
        begins.recv_timeout(Duration::from_mins(1)).unwrap();
        let waiting = scope.spawn(move || append(1));
        let (answer, answers) = channel();
        for _ in 0..3 {
            let answer = answer.clone();
            scope.spawn(move || drop(answer.send(acme.try_append(request([span(2)])))));
            let refused = answers.recv_timeout(Duration::from_mins(1)).unwrap();
            assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        }
        assert!(!first.is_finished() && !waiting.is_finished());
        release.send(()).unwrap();
        assert_eq!(first.join().unwrap() + waiting.join().unwrap(), 2);
    });
    // There is room again, and what was refused was not stored.
    let receipt = acme.try_append(request([span(2)])).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (1, 0));
    let chunks = acme.export().unwrap();
    let spans: usize = chunks.map(|chunk| chunk.unwrap().len()).sum();
    assert_eq!(spans, 3);
}
