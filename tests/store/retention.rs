//! Retention hides spans at once and can be widened again; rows go with their
//! month.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use spanstore::io::RealDisk;
use spanstore::otlp::Span;
use spanstore::{
    CompactReport, ManualClock, Month, RefusalReason, SpanBatch, Store, StoreOptions, Team, TraceId,
};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{NOW, open, open_at, open_on, quiet, sessions, team};

const DAY: Duration = Duration::from_hours(24);

/// Span number `n`, started so many days before the time of the tests.
fn days_ago(n: u64, days: u64) -> Span {
    let mut span = span(n);
    span.start_time_unix_nano -= days * 86_400_000_000_000;
    span.end_time_unix_nano = span.start_time_unix_nano + 5;
    span
}

fn count(team: &Team) -> usize {
    team.export()
        .unwrap()
        .map(|chunk| chunk.unwrap().len())
        .sum()
}

/// Ten traces, ten days apart, the first today.
fn fill(team: &Team) {
    let spans = (0..100).map(|n| days_ago(n, n / 10 * 10));
    let batch = SpanBatch::from_otlp(request(spans)).any_time();
    assert_eq!(team.append(batch).unwrap().accepted, 100);
}

/// Two segments, 80 days old, with ten spans of each team.
fn fill_an_old_month(store: &Store, teams: [&Team; 2]) {
    for round in 0..2 {
        for team in teams {
            let spans = (round * 10..round * 10 + 10).map(|n| days_ago(n, 80));
            let batch = SpanBatch::from_otlp(request(spans)).any_time();
            team.append(batch).unwrap();
        }
        store.seal().unwrap();
    }
}

#[test]
fn a_horizon_hides_and_shows_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    fill(&acme);
    for state in ["hot", "sealed"] {
        assert_eq!(count(&acme), 100, "{state}");
        store.set_retention(Some(35 * DAY)).unwrap();
        assert_eq!(count(&acme), 40, "{state}");
        assert_eq!(
            acme.trace(TraceId(trace_id(3))).unwrap().len(),
            10,
            "{state}"
        );
        assert!(
            acme.trace(TraceId(trace_id(4))).unwrap().is_empty(),
            "{state}"
        );
        let listed = sessions(&acme).unwrap();
        let spans: i64 = listed.iter().map(|one| one.counts.1).sum();
        assert_eq!(spans, 40, "{state}");
        // A team's own comes first.
        acme.set_retention(Some(15 * DAY)).unwrap();
        assert_eq!(count(&acme), 20, "{state}");
        acme.set_retention(None).unwrap();
        store.set_retention(None).unwrap();
        store.seal().unwrap();
    }
    assert_eq!(count(&acme), 100);
}

#[test]
fn the_horizon_is_exact_to_the_nanosecond() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let spans = (0..10).map(|n| {
        let mut span = span(n);
        span.start_time_unix_nano = NOW.cast_unsigned() - 86_400_000_000_000 + n - 5;
        span.end_time_unix_nano = span.start_time_unix_nano;
        span
    });
    acme.append(request(spans)).unwrap();
    store.set_retention(Some(DAY)).unwrap();
    assert_eq!(count(&acme), 5);
    store.seal().unwrap();
    assert_eq!(count(&acme), 5);
    assert_eq!(acme.trace(TraceId(trace_id(0))).unwrap().len(), 5);
}

#[tokio::test]
async fn every_kind_of_query_keeps_to_the_horizon() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    fill(&acme);
    acme.set_retention(Some(35 * DAY)).unwrap();
    for _ in 0..2 {
        let batches = acme.query().collect().await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 40);
        assert_eq!(acme.query().count().await.unwrap(), 40);
        let facet = acme.query().facet("kind").await.unwrap();
        assert_eq!(facet.iter().map(|one| one.spans).sum::<u64>(), 40);
        let mut stream = acme.sql("select count(*) from spans").await.unwrap();
        let batch = futures::TryStreamExt::try_next(&mut stream).await.unwrap();
        let batch = batch.unwrap();
        let value = arrow::util::display::array_value_to_string(batch.column(0), 0);
        assert_eq!(value.unwrap(), "40");
        store.seal().unwrap();
    }
}

#[test]
fn months_beyond_retention_go_at_the_next_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acme, keeper) = (store.team(&team("acme")), store.team(&team("keeper")));
    fill(&acme);
    fill(&keeper);
    store.seal().unwrap();
    store.set_retention(Some(35 * DAY)).unwrap();
    keeper.set_retention(Some(365 * DAY)).unwrap();
    assert_eq!((count(&acme), count(&keeper)), (40, 100));

    keeper.set_retention(None).unwrap();
    let report = store.compact().unwrap();
    // What starts before October 11 is hidden; all of August and September goes.
    assert!(report.rows_removed > 0 && report.rows_written == 0);
    let months: Vec<Month> = store.segments().iter().map(|one| one.month).collect();
    assert_eq!(
        months,
        [Month::of(NOW - 31 * 86_400_000_000_000), Month::of(NOW)]
    );
    // Widening brings back what is still there, no more.
    store.set_retention(None).unwrap();
    let left = count(&acme);
    assert!((40..100).contains(&left), "{left}");
    assert_eq!(count(&keeper), left);
    // What was accepted counts, not what remains.
    assert_eq!(
        acme.usage(Month::of(NOW - 80 * 86_400_000_000_000))
            .unwrap()
            .used,
        20
    );
    assert_eq!(store.check().unwrap().damage, []);
    drop((acme, keeper, store));
    let store = open(directory.path());
    assert_eq!(count(&store.team(&team("acme"))), left);
}

/// Of one team in the only segment of a month.
#[test]
fn rows_of_one_team_go_once_their_month_has_lain_beyond_for_a_day() {
    for is_asked in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let store = open_at(Arc::new(RealDisk), directory.path(), quiet(), &clock).unwrap();
        let (acme, keeper) = (store.team(&team("acme")), store.team(&team("keeper")));
        for team in [&acme, &keeper] {
            let spans = (0..20).map(|n| days_ago(n, n));
            team.append(request(spans)).unwrap();
        }
        store.seal().unwrap();
        // Of each team 6 spans of October and 14 of November.
        let october = store.segments().remove(0);
        assert_eq!((october.rows, store.segments().len()), (12, 2));
        acme.set_retention(Some(35 * DAY)).unwrap();
        // October 31 + 35 days are over with December 5.
        clock.advance((21 * DAY).saturating_sub(Duration::from_nanos(1)));
        assert_eq!(store.compact().unwrap(), CompactReport::default());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(count(&acme), 14, "hidden they are at once");
        if is_asked {
            assert_eq!(store.compact().unwrap().rows_removed, 6);
        } else {
            clock.advance(DAY.saturating_sub(Duration::from_nanos(1)));
            let report = store.maintain().unwrap().compacted;
            assert_eq!(report, CompactReport::default());
            clock.advance(Duration::from_nanos(1));
            let report = store.maintain().unwrap().compacted;
            assert_eq!((report.rows_removed, report.rows_written), (6, 6));
        }
        let report = store.maintain().unwrap().compacted;
        assert_eq!(report, CompactReport::default(), "once is enough");
        acme.set_retention(None).unwrap();
        assert_eq!((count(&acme), count(&keeper)), (14, 20));
        let left = store.segments();
        assert_eq!(left.len(), 2);
        // The same run, so that the schedule of merges sees no change.
        assert!(
            left.iter()
                .any(|one| (one.run, one.rows) == (october.run, 6))
        );
        assert_eq!(store.check().unwrap().damage, []);
    }
}

#[test]
fn what_nobody_could_find_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let append = |spans: &[Span], is_any_time: bool| {
        let batch = SpanBatch::from_otlp(request(spans.iter().cloned()));
        let batch = if is_any_time { batch.any_time() } else { batch };
        acme.append(batch).unwrap()
    };
    let mut just_too_old = span(0);
    just_too_old.start_time_unix_nano = NOW.cast_unsigned() - 10 * 86_400_000_000_000 - 1;
    let mut just_kept = just_too_old.clone();
    just_kept.start_time_unix_nano += 1;
    let spans = [just_too_old, just_kept, days_ago(2, 15), days_ago(3, 40)];
    acme.set_retention(Some(10 * DAY)).unwrap();
    for is_any_time in [false, true] {
        let receipt = append(&spans, is_any_time);
        let refused: Vec<_> = receipt
            .refused
            .iter()
            .map(|one| (one.index, one.reason))
            .collect();
        let beyond = |index| (index, RefusalReason::BeyondRetention);
        assert_eq!(refused, [beyond(0), beyond(2), beyond(3)], "{is_any_time}");
    }
    assert_eq!(RefusalReason::BeyondRetention.code(), "beyond_retention");
    // Nothing is charged for it, and what is accepted can be found.
    let used: u64 = (0..3)
        .map(|months| Month::of(NOW - months * 31 * 86_400_000_000_000))
        .map(|month| acme.usage(month).unwrap().used)
        .sum();
    assert_eq!((used, count(&acme)), (1, 1));
    // What is set for the store counts too, and the window where nothing is.
    acme.set_retention(None).unwrap();
    store.set_retention(Some(20 * DAY)).unwrap();
    let receipt = append(&spans[2..], true);
    assert_eq!((receipt.accepted, receipt.refused.len()), (1, 1));
    store.set_retention(None).unwrap();
    let receipt = append(&spans[3..], false);
    assert_eq!(receipt.refused[0].reason, RefusalReason::TooOld);
    assert_eq!(append(&spans[3..], true).accepted, 1);
}

#[test]
fn a_merge_leaves_out_a_team_beyond_its_retention() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acme, keeper) = (store.team(&team("acme")), store.team(&team("keeper")));
    fill_an_old_month(&store, [&acme, &keeper]);
    acme.set_retention(Some(35 * DAY)).unwrap();
    let report = store.compact().unwrap();
    assert_eq!((report.rows_written, report.rows_removed), (20, 20));
    acme.set_retention(None).unwrap();
    assert_eq!((count(&acme), count(&keeper)), (0, 20));
    assert_eq!(store.check().unwrap().damage, []);
}

/// A month that is about to be dropped stays when it is to be kept after all.
#[test]
fn what_is_kept_again_while_segments_are_rewritten_stays() {
    use spanstore_test_support::disk::InterruptedDisk;

    for is_erasure in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(InterruptedDisk::default());
        // Each team has a segment of its own, the keeper the second one.
        let options = StoreOptions {
            segment_rows: 1,
            ..quiet()
        };
        let store = open_on(disk.clone(), directory.path(), options).unwrap();
        let (acme, keeper) = (store.team(&team("acme")), store.team(&team("keeper")));
        fill_an_old_month(&store, [&acme, &keeper]);
        acme.set_retention(Some(35 * DAY)).unwrap();
        if is_erasure {
            keeper.forget_trace(TraceId(trace_id(0))).unwrap();
        }
        assert_eq!(count(&acme), 0);
        let widened = acme.clone();
        disk.after_new_files(1, move || widened.set_retention(None).unwrap());
        let report = if is_erasure {
            store.erase().unwrap()
        } else {
            store.compact().unwrap()
        };
        assert!(!disk.is_planned());
        assert_eq!(count(&acme), 20, "{is_erasure}");
        assert_eq!(count(&keeper), if is_erasure { 10 } else { 20 });
        assert_eq!(report.rows_removed, if is_erasure { 10 } else { 0 });
        store.compact().unwrap();
        assert_eq!(count(&acme), 20);
        assert_eq!(store.check().unwrap().damage, []);
    }
}
