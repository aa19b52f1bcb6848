//! The quota holds to the span: with many threads at its border, through
//! seals, and across reopens.

use spanstore::{Month, Plan, RefusalReason, StoreOptions};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open, open_with, quiet, team};

fn limited(limit: u64) -> StoreOptions {
    let mut options = quiet();
    options.plan_limits.hobby = limit;
    options
}

#[test]
fn the_batch_at_the_limit_is_accepted_up_to_it_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), limited(25));
    let acme = store.team(&team("acme"));
    assert_eq!(
        acme.append(request((0..20).map(span))).unwrap().months[0].remaining,
        5
    );
    // Two duplicates are neither charged nor refused.
    let receipt = acme.append(request((18..30).map(span))).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (5, 2));
    let refused: Vec<_> = receipt
        .refused
        .iter()
        .map(|refusal| refusal.index)
        .collect();
    assert_eq!(refused, [7, 8, 9, 10, 11]);
    assert!(
        receipt
            .refused
            .iter()
            .all(|refusal| refusal.reason == RefusalReason::OverQuota)
    );
    let usage = receipt.months[0];
    assert_eq!((usage.used, usage.limit, usage.remaining), (25, 25, 0));
    assert_eq!(usage.resets_at_nanos, Month::of(NOW).end_nanos());
    assert_eq!(
        acme.export()
            .unwrap()
            .map(|spans| spans.unwrap().len())
            .sum::<usize>(),
        25
    );
    // Another team has its own.
    assert_eq!(
        store
            .team(&team("other"))
            .append(request((0..20).map(span)))
            .unwrap()
            .accepted,
        20
    );
}

#[test]
fn many_threads_at_the_border_get_exactly_the_limit() {
    const THREADS: u64 = 8;
    const SPANS_A_THREAD: u64 = 15_000;
    const LIMIT: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let mut options = limited(LIMIT);
    options.seal_rows = 30_000;
    let store = open_with(directory.path(), options.clone());
    let (mut accepted, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let acme = store.team(&team("acme"));
                scope.spawn(move || {
                    let (mut accepted, mut refused) = (0, 0);
                    let first = thread * SPANS_A_THREAD;
                    for start in (first..first + SPANS_A_THREAD).step_by(500) {
                        let batch = request((start..start + 500).map(span));
                        let receipt = acme.append(batch).unwrap();
                        assert_eq!(receipt.duplicates, 0);
                        accepted += receipt.accepted;
                        refused += receipt.refused.len() as u64;
                    }
                    (accepted, refused)
                })
            })
            .collect();
        for thread in threads {
            let (more_accepted, more_refused) = thread.join().unwrap();
            accepted += more_accepted;
            refused += more_refused;
        }
    });
    assert_eq!(
        (accepted, refused),
        (LIMIT, THREADS * SPANS_A_THREAD - LIMIT)
    );
    drop(store);

    let store = open_with(directory.path(), options);
    let acme = store.team(&team("acme"));
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, LIMIT);
    assert_eq!(acme.append(request([span(999_999)])).unwrap().accepted, 0);
    assert_eq!(
        acme.export()
            .unwrap()
            .map(|spans| spans.unwrap().len())
            .sum::<usize>(),
        LIMIT as usize
    );
    store.seal().unwrap();
    assert_eq!(acme.usage(Month::of(NOW)).unwrap().used, LIMIT);
    assert_eq!(store.check().unwrap().damage, []);
}

#[test]
fn plans_and_overrides_survive_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let month = Month::of(NOW);
    let acme = store.team(&team("acme"));
    for plan in [Plan::Hobby, Plan::Pro, Plan::Enterprise] {
        acme.set_plan(plan).unwrap();
        assert_eq!(acme.usage(month).unwrap().limit, 1_000_000, "{plan:?}");
    }
    acme.set_quota(Some(5)).unwrap();
    assert_eq!(acme.append(request((0..10).map(span))).unwrap().accepted, 5);
    acme.set_quota(Some(3)).unwrap();
    drop((acme, store));

    let store = open(directory.path());
    let usage = store.team(&team("acme")).usage(month).unwrap();
    assert_eq!((usage.used, usage.limit, usage.remaining), (5, 3, 0));
    store.team(&team("acme")).set_quota(None).unwrap();
    assert_eq!(
        store.team(&team("acme")).usage(month).unwrap().limit,
        1_000_000
    );
}

#[test]
fn each_month_has_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), limited(5));
    let acme = store.team(&team("acme"));
    let mut spans: Vec<_> = (0..10).map(span).collect();
    let earlier = "2026-10".parse::<Month>().unwrap();
    for span in &mut spans[..4] {
        span.start_time_unix_nano = earlier.end_nanos().cast_unsigned() - 1;
        span.end_time_unix_nano = span.start_time_unix_nano;
    }
    let receipt = acme.append(request(spans)).unwrap();
    assert_eq!((receipt.accepted, receipt.refused.len()), (9, 1));
    let used: Vec<_> = receipt
        .months
        .iter()
        .map(|usage| (usage.month, usage.used))
        .collect();
    assert_eq!(used, [(earlier, 4), (Month::of(NOW), 5)]);
    // A trace over the border is found whole, hot and sealed.
    for _ in 0..2 {
        let trace = spanstore::TraceId(spanstore_test_support::spans::trace_id(0));
        assert_eq!(acme.trace(trace).unwrap().len(), 9);
        store.seal().unwrap();
    }
}

#[test]
fn months_that_lie_in_each_other_are_replayed_as_they_were_admitted() {
    let directory = tempfile::tempdir().unwrap();
    let options = limited(5);
    let store = open_with(directory.path(), options.clone());
    // Every other span lies in the month before; of either month five are let in.
    let earlier = Month::of(NOW).start_nanos().cast_unsigned() - 1_000;
    let spans = (0..40).map(|n| {
        let mut span = span(n);
        if n % 2 == 0 {
            span.start_time_unix_nano = earlier + n;
            span.end_time_unix_nano = earlier + n;
        }
        span
    });
    let receipt = store.team(&team("acme")).append(request(spans)).unwrap();
    assert_eq!((receipt.accepted, receipt.refused.len()), (10, 30));
    let of = |store: &spanstore::Store| {
        let rows = store.team(&team("acme")).export().unwrap();
        let rows = rows.flat_map(|spans| spans.unwrap().rows().unwrap());
        let mut ids: Vec<_> = rows
            .map(|row| u64::from_be_bytes(row.span_id.0) - 1)
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(of(&store), (0..10).collect::<Vec<_>>());
    drop(store);
    let store = open_with(directory.path(), options);
    assert_eq!(of(&store), (0..10).collect::<Vec<_>>());
}
