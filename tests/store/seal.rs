//! A seal begins by itself: by rows, by memory, by the size of the log, by age.

use std::time::{Duration, Instant};

use spanstore::{Store, StoreOptions};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_with, quiet, team};

/// Waits for the sealing thread, which has been asked by now or never will be.
fn wait_for_segments(store: &Store) -> u64 {
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        let report = store.check().unwrap();
        if report.segments > 0 {
            return report.segments;
        }
        std::thread::yield_now();
    }
    0
}

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
                hot_bytes: 64 << 10,
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
        for start in (0..300).step_by(50) {
            acme.append(request((start..start + 50).map(span))).unwrap();
        }
        assert!(wait_for_segments(&store) > 0, "{reason}");
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
    assert!(store.check().unwrap().segments > 3);
}

#[test]
fn a_full_queue_answers_busy_or_waits() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(
        directory.path(),
        StoreOptions {
            queue_bytes: 1 << 10,
            ..quiet()
        },
    );
    let (mut accepted, mut busy) = (0, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let acme = store.team(&team("acme"));
                scope.spawn(move || {
                    let (mut accepted, mut busy) = (0, 0);
                    for n in (thread * 500)..(thread + 1) * 500 {
                        match acme.try_append(request([span(n)])) {
                            Ok(receipt) => accepted += receipt.accepted,
                            Err(spanstore::Error::Busy) => busy += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    (accepted, busy)
                })
            })
            .collect();
        for thread in threads {
            let (more_accepted, more_busy) = thread.join().unwrap();
            accepted += more_accepted;
            busy += more_busy;
        }
    });
    assert_eq!(accepted + busy, 2_000);
    let acme = store.team(&team("acme"));
    let spans: usize = acme
        .export()
        .unwrap()
        .map(|spans| spans.unwrap().len())
        .sum();
    assert_eq!(spans as u64, accepted);
}
