//! Makes spans.

use spanstore::otlp::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans,
    ScopeSpans, Span, Value,
};

use crate::NOW;

/// An attribute with a text.
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// An attribute with an integer.
pub fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

/// An attribute.
pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The id of trace number `n`.
pub fn trace_id(n: u64) -> [u8; 16] {
    (u128::from(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n + 1))
        .to_be_bytes()
}

/// Span number `n`: ten spans make a trace, three traces a session; they
/// start a millisecond apart, an hour before the time of the tests.
pub fn span(n: u64) -> Span {
    let trace = n / 10;
    let parent = if n.is_multiple_of(10) {
        Vec::new()
    } else {
        (trace * 10 + 1).to_be_bytes().to_vec()
    };
    let start = NOW.cast_unsigned() - 3_600_000_000_000 + n * 1_000_000;
    Span {
        trace_id: trace_id(trace).to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        parent_span_id: parent,
        name: format!("operation {}", n % 7),
        kind: (n % 6) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + (n % 100) * 10_000,
        attributes: vec![
            text("session.id", &format!("session-{}", trace / 3)),
            text(
                "http.request.method",
                if n.is_multiple_of(2) { "GET" } else { "POST" },
            ),
            text("url.path", &format!("/api/{}", n % 20)),
            integer(
                "http.response.status_code",
                if n.is_multiple_of(50) { 500 } else { 200 },
            ),
            text(
                "db.system",
                if n.is_multiple_of(3) {
                    "postgresql"
                } else {
                    "redis"
                },
            ),
            integer("items", (n % 13) as i64),
        ],
        ..Span::default()
    }
}

/// A request with these spans, of one service and one scope.
pub fn request(spans: impl IntoIterator<Item = Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![text("service.name", "shop")],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "tests".into(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.into_iter().collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}
