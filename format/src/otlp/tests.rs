//! Tests of OTLP in and out.

mod body;
mod captures;
mod compression;
mod documents;
mod json;
mod measure;
mod nesting;
mod protobuf;

use super::{
    AnyValue, ArrayValue, ExportTraceServiceRequest, KeyValue, KeyValueList, ResourceSpans,
    ScopeSpans, Span, Value,
};

/// A request of one span.
fn request_of(span: Span) -> ExportTraceServiceRequest {
    let scope_spans = ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
}

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        key_strindex: 0,
    }
}

/// A value at level `levels`, in arrays and lists by turns.
fn nested(levels: usize) -> AnyValue {
    (1..levels).fold(value(Value::BoolValue(true)), |inner, level| {
        value(if level % 2 == 0 {
            Value::ArrayValue(ArrayValue {
                values: vec![inner],
            })
        } else {
            Value::KvlistValue(KeyValueList {
                values: vec![attribute("k", inner)],
            })
        })
    })
}

fn with_attribute(value: AnyValue) -> ExportTraceServiceRequest {
    request_of(Span {
        attributes: vec![attribute("key", value)],
        ..Span::default()
    })
}
