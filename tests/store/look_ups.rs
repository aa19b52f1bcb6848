//! Look-ups by id as queries.

use std::time::Duration;

use spanstore::{Error, QueryLimits, SpanId, StoreOptions, Team, TraceId};
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{open, open_with, quiet, team};

fn ids(spans: &spanstore::Spans) -> Vec<SpanId> {
    let rows = spans.rows().unwrap();
    rows.iter().map(|row| row.span_id).collect()
}

#[tokio::test]
async fn they_find_what_the_others_find() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for numbers in [0..105, 105..200] {
        let spans = numbers.clone().map(|n| {
            let mut span = span(n);
            span.attributes
                .push(text("http.request.id", &format!("request-{}", n / 20)));
            span
        });
        acme.append(request(spans)).unwrap();
        if numbers.start == 0 {
            store.seal().unwrap();
        }
    }
    for n in [0, 10, 19, 500] {
        let trace = TraceId(trace_id(n));
        let found = acme.trace_async(trace).await.unwrap();
        assert_eq!(ids(&found), ids(&acme.trace(trace).unwrap()));
        assert_eq!(found.len(), if n < 20 { 10 } else { 0 });
        let session = format!("session-{}", n / 3);
        let found = acme.session_spans_async(&session).await.unwrap();
        assert_eq!(ids(&found), ids(&acme.session_spans(&session).unwrap()));
        assert_eq!(found.is_empty(), n >= 20);
        let request = format!("request-{}", n / 2);
        let found = acme.request_spans_async(&request).await.unwrap();
        assert_eq!(ids(&found), ids(&acme.request_spans(&request).unwrap()));
    }
}

fn limited(directory: &std::path::Path, query_limits: QueryLimits) -> Team {
    let options = StoreOptions {
        query_limits,
        ..quiet()
    };
    open_with(directory, options).team(&team("acme"))
}

#[tokio::test]
async fn they_have_the_limits_of_queries() {
    let directory = tempfile::tempdir().unwrap();
    let acme = limited(directory.path(), QueryLimits::default());
    acme.append(request((0..300).map(span))).unwrap();
    drop(acme);
    let no_time = QueryLimits {
        time: Duration::ZERO,
        ..QueryLimits::default()
    };
    let acme = limited(directory.path(), no_time);
    let trace = TraceId(trace_id(0));
    let error = acme.trace_async(trace).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(acme.trace(trace).unwrap().len(), 10);
    drop(acme);
    let no_memory = QueryLimits {
        memory_bytes: 1_000,
        ..QueryLimits::default()
    };
    let acme = limited(directory.path(), no_memory);
    let error = acme.session_spans_async("session-1").await.unwrap_err();
    assert!(matches!(error, Error::QueryMemory { .. }), "{error}");
    assert_eq!(acme.session_spans("session-1").unwrap().len(), 30);
}
