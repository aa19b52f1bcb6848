//! Generators of requests for property tests.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{
    AnyValue, ArrayValue, EntityRef, Event, ExportTraceServiceRequest, InstrumentationScope,
    KeyValue, KeyValueList, Link, Resource, ResourceSpans, ScopeSpans, Span, Status, Value,
};

/// Text with quotes, backslashes, control characters and letters of all lengths.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z.]{1,8}",
        "\\PC{0,6}",
        "[\\x00-\\x1f\"\\\\/\u{2028}]{1,4}"
    ]
}

/// Doubles without NaN, which is unequal to itself.
fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("a number", |number| !number.is_nan()),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MIN_POSITIVE),
    ]
}

/// Values of all types, empty ones among them, with arrays and lists in each other.
pub(crate) fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        text().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(Value::IntValue),
        double().prop_map(Value::DoubleValue),
        vec(any::<u8>(), 0..6).prop_map(Value::BytesValue),
        any::<i32>().prop_map(Value::StringValueStrindex),
    ];
    let leaf = option::weighted(0.9, leaf).prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 12, 3, |value| {
        let entry = (text(), option::of(value.clone())).prop_map(|(key, value)| KeyValue {
            key,
            value,
            key_strindex: 0,
        });
        prop_oneof![
            vec(value, 0..3).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(entry, 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

/// Attributes, keys more than once among them.
pub(crate) fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let attribute = (
        text(),
        option::weighted(0.9, any_value()),
        prop_oneof![9 => Just(0), 1 => any::<i32>()],
    )
        .prop_map(|(key, value, key_strindex)| KeyValue {
            key,
            value,
            key_strindex,
        });
    vec(attribute, 0..4)
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), length), 1 => vec(any::<u8>(), 0..20)]
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (
        id(16),
        id(8),
        text(),
        attributes(),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(
            |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
                trace_id,
                span_id,
                trace_state,
                attributes,
                dropped_attributes_count,
                flags,
            },
        )
}

/// Spans with every field set at times, to values that OTLP allows and others.
pub(crate) fn span() -> impl Strategy<Value = Span> {
    let status = (text(), prop_oneof![0..3, any::<i32>()])
        .prop_map(|(message, code)| Status { message, code });
    (
        (
            id(16),
            id(8),
            prop_oneof![Just(Vec::new()), id(8)],
            text(),
            text(),
        ),
        (
            any::<u32>(),
            prop_oneof![0..6, any::<i32>()],
            any::<u64>(),
            any::<u64>(),
        ),
        (
            attributes(),
            vec(event(), 0..3),
            vec(link(), 0..3),
            option::of(status),
        ),
        any::<[u32; 3]>(),
    )
        .prop_map(|(texts, numbers, lists, dropped)| Span {
            trace_id: texts.0,
            span_id: texts.1,
            parent_span_id: texts.2,
            trace_state: texts.3,
            name: texts.4,
            flags: numbers.0,
            kind: numbers.1,
            start_time_unix_nano: numbers.2,
            end_time_unix_nano: numbers.3,
            attributes: lists.0,
            events: lists.1,
            links: lists.2,
            status: lists.3,
            dropped_attributes_count: dropped[0],
            dropped_events_count: dropped[1],
            dropped_links_count: dropped[2],
        })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    )
}

/// Absent, empty or full.
fn absent_or<T: Default + Clone + std::fmt::Debug>(
    full: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![1 => Just(None), 1 => Just(Some(T::default())), 3 => full.prop_map(Some)]
}

/// Requests with several resources and scopes.
pub(crate) fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans =
        (absent_or(scope()), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| {
            ScopeSpans {
                scope,
                spans,
                schema_url,
            }
        });
    let resource_spans = (absent_or(resource()), vec(scope_spans, 0..3), text()).prop_map(
        |(resource, scope_spans, schema_url)| ResourceSpans {
            resource,
            scope_spans,
            schema_url,
        },
    );
    vec(resource_spans, 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}
