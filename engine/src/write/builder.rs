//! Spans made in Rust, without OTLP bytes.

use spanstore_format::otlp::{
    AnyValue, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Link, Resource,
    ResourceSpans, ScopeSpans, Span, Status, Value,
};
use spanstore_format::{SpanId, TraceId};

use super::batch::SpanBatch;

/// Makes a batch of spans that share a resource and a scope.
///
/// ```
/// use spanstore::{SpanBuilder, SpanBatchBuilder, SpanId, SpanKind, TraceId};
///
/// let span = SpanBuilder::new(TraceId([1; 16]), SpanId([2; 8]), "charge card")
///     .kind(SpanKind::Internal)
///     .times(1_794_700_800_000_000_000, 1_794_700_800_250_000_000)
///     .attribute("order.items", 3)
///     .attribute("session.id", "s-1");
/// let batch = SpanBatchBuilder::new().resource_attribute("service.name", "shop").span(span).build();
/// assert_eq!(batch.len(), 1);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct SpanBatchBuilder {
    resource: Resource,
    scope: InstrumentationScope,
    spans: Vec<Span>,
}

impl SpanBatchBuilder {
    /// A batch without spans.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute of the resource, such as `service.name`.
    pub fn resource_attribute(
        mut self,
        key: impl Into<String>,
        value: impl Into<AttributeValue>,
    ) -> Self {
        self.resource.attributes.push(key_value(key, value));
        self
    }

    /// Names the instrumentation scope.
    pub fn scope(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.scope.name = name.into();
        self.scope.version = version.into();
        self
    }

    /// Adds a span.
    pub fn span(mut self, span: SpanBuilder) -> Self {
        self.spans.push(span.0);
        self
    }

    /// The batch.
    pub fn build(self) -> SpanBatch {
        let has_scope = self.scope != InstrumentationScope::default();
        SpanBatch::from_otlp(ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource),
                scope_spans: vec![ScopeSpans {
                    scope: has_scope.then_some(self.scope),
                    spans: self.spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        })
    }
}

/// Where a span stands between services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Within a service.
    Internal,
    /// Answers a request from outside.
    Server,
    /// Asks another service.
    Client,
    /// Puts a message into a queue.
    Producer,
    /// Takes a message from a queue.
    Consumer,
}

/// Makes a span.
#[derive(Debug, Clone)]
#[must_use]
pub struct SpanBuilder(Span);

impl SpanBuilder {
    /// A span without a parent, of no duration, at the beginning of 1970.
    pub fn new(trace_id: TraceId, span_id: SpanId, name: impl Into<String>) -> Self {
        Self(Span {
            trace_id: trace_id.0.to_vec(),
            span_id: span_id.0.to_vec(),
            name: name.into(),
            ..Span::default()
        })
    }

    /// Sets the parent.
    pub fn parent(mut self, parent: SpanId) -> Self {
        self.0.parent_span_id = parent.0.to_vec();
        self
    }

    /// Sets the kind.
    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.0.kind = match kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        };
        self
    }

    /// Sets start and end, ns since 1970.
    pub fn times(mut self, start_nanos: u64, end_nanos: u64) -> Self {
        self.0.start_time_unix_nano = start_nanos;
        self.0.end_time_unix_nano = end_nanos;
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.0.attributes.push(key_value(key, value));
        self
    }

    /// Marks the span as done well.
    pub fn ok(mut self) -> Self {
        self.0.status = Some(Status {
            code: 1,
            message: String::new(),
        });
        self
    }

    /// Marks the span as failed.
    pub fn error(mut self, message: impl Into<String>) -> Self {
        self.0.status = Some(Status {
            code: 2,
            message: message.into(),
        });
        self
    }

    /// Adds an event at a time, ns since 1970.
    pub fn event(mut self, name: impl Into<String>, time_nanos: u64) -> Self {
        let name = name.into();
        self.0.events.push(Event {
            name,
            time_unix_nano: time_nanos,
            ..Event::default()
        });
        self
    }

    /// Adds a link to another span.
    pub fn link(mut self, trace_id: TraceId, span_id: SpanId) -> Self {
        self.0.links.push(Link {
            trace_id: trace_id.0.to_vec(),
            span_id: span_id.0.to_vec(),
            ..Link::default()
        });
        self
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeValue(AnyValue);

fn key_value(key: impl Into<String>, value: impl Into<AttributeValue>) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value.into().0),
        ..KeyValue::default()
    }
}

macro_rules! from_value {
    ($($kind:ty => $variant:ident),* $(,)?) => {
        $(impl From<$kind> for AttributeValue {
            fn from(value: $kind) -> Self {
                Self(AnyValue { value: Some(Value::$variant(value.into())) })
            }
        })*
    };
}

from_value! {
    &str => StringValue,
    String => StringValue,
    bool => BoolValue,
    i32 => IntValue,
    i64 => IntValue,
    f64 => DoubleValue,
    Vec<u8> => BytesValue,
}

impl From<AnyValue> for AttributeValue {
    fn from(value: AnyValue) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Content;
    use super::*;

    #[test]
    fn everything_that_was_said_stands_in_the_span() {
        let span = SpanBuilder::new(TraceId([1; 16]), SpanId([2; 8]), "name")
            .parent(SpanId([3; 8]))
            .kind(SpanKind::Consumer)
            .times(5, 9)
            .attribute("n", 7)
            .attribute("f", 0.5)
            .attribute("b", true)
            .event("tick", 6)
            .link(TraceId([4; 16]), SpanId([5; 8]))
            .error("broken");
        let batch = SpanBatchBuilder::new()
            .resource_attribute("service.name", "shop")
            .scope("tests", "1")
            .span(span.clone())
            .span(span.ok())
            .build();
        let Content::Request(request) = batch.content else {
            panic!("a request")
        };
        let resource = &request.resource_spans[0];
        assert_eq!(
            resource.resource.as_ref().unwrap().attributes[0].key,
            "service.name"
        );
        let scope = &resource.scope_spans[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "tests");
        let [first, second] = scope.spans.as_slice() else {
            panic!("{scope:?}")
        };
        assert_eq!(
            (
                first.kind,
                first.start_time_unix_nano,
                first.end_time_unix_nano
            ),
            (5, 5, 9)
        );
        assert_eq!(
            first.attributes[0].value.as_ref().unwrap().value,
            Some(Value::IntValue(7))
        );
        assert_eq!((first.events.len(), first.links.len()), (1, 1));
        assert_eq!(
            first.status,
            Some(Status {
                code: 2,
                message: "broken".into()
            })
        );
        assert_eq!(second.status.as_ref().unwrap().code, 1);
    }
}
