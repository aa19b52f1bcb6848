//! What a receipt says of spans that are refused, and batches that are refused
//! whole.

use spanstore::otlp::{Event, Link, Span};
use spanstore::{Error, RefusalReason, SpanBatch};
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{NOW, open, open_on, open_with, quiet, sessions, team};

/// A good span with something changed.
fn with(change: impl FnOnce(&mut Span)) -> Span {
    let mut span = span(0);
    change(&mut span);
    span
}

#[test]
fn each_bad_span_is_refused_with_its_reason_and_the_others_are_not() {
    use RefusalReason as Reason;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let day = 86_400_000_000_000;
    let now = NOW.cast_unsigned();
    let deep = |levels: usize| {
        use spanstore::otlp::{AnyValue, ArrayValue, Value};
        let mut value = AnyValue {
            value: Some(Value::IntValue(1)),
        };
        for _ in 0..levels {
            value = AnyValue {
                value: Some(Value::ArrayValue(ArrayValue {
                    values: vec![value],
                })),
            };
        }
        spanstore_test_support::spans::attribute("deep", value.value.unwrap())
    };
    let cases = [
        (
            with(|span| span.trace_id = vec![0; 16]),
            Reason::InvalidTraceId,
        ),
        (
            with(|span| span.trace_id = vec![1; 15]),
            Reason::InvalidTraceId,
        ),
        (
            with(|span| span.trace_id = vec![1; 17]),
            Reason::InvalidTraceId,
        ),
        (
            with(|span| span.span_id = vec![0; 8]),
            Reason::InvalidSpanId,
        ),
        (
            with(|span| span.span_id = Vec::new()),
            Reason::InvalidSpanId,
        ),
        (
            with(|span| span.parent_span_id = vec![1; 7]),
            Reason::InvalidParentSpanId,
        ),
        (
            with(|span| span.start_time_unix_nano = now - 32 * day),
            Reason::TooOld,
        ),
        (with(|span| span.start_time_unix_nano = 0), Reason::TooOld),
        (
            with(|span| span.start_time_unix_nano = now + day),
            Reason::TooFarAhead,
        ),
        (
            with(|span| span.start_time_unix_nano = u64::MAX),
            Reason::StartOutOfRange,
        ),
        (
            with(|span| span.name = "x".repeat(1_025)),
            Reason::NameTooLong,
        ),
        (
            with(|span| span.attributes.push(text(&"k".repeat(257), ""))),
            Reason::AttributeKeyTooLong,
        ),
        (
            with(|span| span.attributes.push(text("k", &"v".repeat(65_537)))),
            Reason::AttributeValueTooLarge,
        ),
        (
            with(|span| span.attributes = vec![text("k", "v"); 513]),
            Reason::TooManyAttributes,
        ),
        (
            with(|span| span.attributes.push(deep(17))),
            Reason::AttributeTooDeep,
        ),
        (
            with(|span| span.events = vec![Event::default(); 513]),
            Reason::TooManyEvents,
        ),
        (
            with(|span| span.links = vec![Link::default(); 513]),
            Reason::TooManyLinks,
        ),
        (
            with(|span| span.attributes = vec![text("k", &"v".repeat(60_000)); 20]),
            Reason::SpanTooLarge,
        ),
        (
            with(|span| span.attributes = vec![text("session.id", &"s".repeat(257))]),
            Reason::IdTooLong,
        ),
        (
            with(|span| span.attributes.push(text("vercel.runtime", "edge"))),
            Reason::EdgeCustomSpan,
        ),
    ];
    let spans = cases.iter().map(|(span, _)| span.clone()).chain([span(1)]);
    let receipt = store.team(&team("acme")).append(request(spans)).unwrap();
    assert_eq!(receipt.accepted, 1);
    let reasons: Vec<_> = receipt
        .refused
        .iter()
        .map(|refusal| (refusal.index, refusal.reason))
        .collect();
    let expected: Vec<_> = (0..).zip(cases.iter().map(|(_, reason)| *reason)).collect();
    assert_eq!(reasons, expected);
}

#[test]
fn an_import_takes_any_time_and_an_end_before_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let old = with(|span| {
        span.start_time_unix_nano = 1_000;
        span.end_time_unix_nano = 7;
    });
    let latest = with(|span| {
        span.span_id = vec![9; 8];
        span.start_time_unix_nano = i64::MAX.cast_unsigned();
        span.end_time_unix_nano = u64::MAX;
    });
    let batch = request([old, latest]);
    let receipt = acme
        .append(SpanBatch::from_otlp(batch.clone()).any_time())
        .unwrap();
    assert_eq!(receipt.accepted, 2);
    for _ in 0..2 {
        let spans = acme.trace(spanstore::TraceId(trace_id(0))).unwrap();
        assert_eq!(spans.to_otlp().unwrap(), batch);
        let durations: Vec<_> = spans
            .rows()
            .unwrap()
            .iter()
            .map(|row| row.duration_nanos)
            .collect();
        assert_eq!(durations, [0, 0]);
        store.seal().unwrap();
    }
}

#[test]
fn too_large_batches_and_closed_stores_are_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = quiet();
    options.limits.batch_spans = 9;
    let store = open_with(directory.path(), options);
    let acme = store.team(&team("acme"));
    let error = acme.append(request((0..10).map(span))).unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                limit: 9,
                found: 10,
                ..
            }
        ),
        "{error}"
    );
    assert!(sessions(&acme).unwrap().is_empty());
    acme.append(request((0..9).map(span))).unwrap();
    store.close().unwrap();
    assert!(matches!(
        acme.append(request([span(0)])),
        Err(Error::Closed)
    ));
    // Reads go on.
    assert_eq!(sessions(&acme).unwrap()[0].counts.1, 9);
}

/// Another process that has the store, or makes it, between two steps of ours.
#[test]
fn a_store_is_open_once_also_while_its_catalog_is_replaced_or_made() {
    use std::sync::Arc;

    use spanstore::Store;
    use spanstore_test_support::disk::InterruptedDisk;

    let open_at =
        |disk: &Arc<InterruptedDisk>, path: &std::path::Path| open_on(disk.clone(), path, quiet());
    let fill = |store: &Store| {
        let acme = store.team(&team("acme"));
        acme.append(request((0..9).map(span))).unwrap();
        acme.forget_trace(spanstore::TraceId(trace_id(0))).unwrap();
    };
    // The other one replaces the file that we have opened, and closes the store.
    let directory = tempfile::tempdir().unwrap();
    let other = open(directory.path());
    fill(&other);
    let disk = Arc::new(InterruptedDisk::default());
    disk.after_open("catalog.redb", move || {
        other.erase().unwrap();
    });
    let opened = open_at(&disk, directory.path());
    assert!(matches!(opened, Err(Error::Locked { .. })), "{opened:?}");
    assert!(!disk.is_planned());
    let store = open_at(&disk, directory.path()).unwrap();
    assert_eq!(store.check().unwrap().damage, []);
    assert!(
        store
            .segments()
            .iter()
            .map(|one| u64::from(one.rows))
            .sum::<u64>()
            < 9
    );

    // The other one makes the store that we have not found.
    for name in ["catalog.redb", "catalog.redb.unfinished"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_path_buf();
        disk.after_open(name, move || fill(&open(&path)));
        let opened = open_at(&disk, directory.path());
        assert!(!disk.is_planned(), "{name}");
        match opened {
            Ok(store) => drop(store),
            Err(error) => assert!(matches!(error, Error::Locked { .. }), "{error}"),
        }
        let store = open_at(&disk, directory.path()).unwrap();
        assert_eq!(store.check().unwrap().damage, []);
        assert_eq!(store.segments().len(), 1, "{name}");
    }
}

#[test]
fn a_store_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let again = spanstore::Store::open(directory.path(), quiet());
    assert!(matches!(again, Err(Error::Locked { .. })), "{again:?}");
    drop(store);
    open(directory.path());
    let options = spanstore::StoreOptions {
        create: false,
        ..quiet()
    };
    let nowhere = spanstore::Store::open(directory.path().join("nowhere"), options);
    assert!(
        matches!(nowhere, Err(Error::NotFound { .. })),
        "{nowhere:?}"
    );
}
