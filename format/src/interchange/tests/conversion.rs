//! What becomes of spans, value by value.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::id::to_hex;
use crate::otlp::{
    ArrayValue, Event, InstrumentationScope, KeyValueList, Link, Resource, Status, arbitrary,
};
use crate::span::attribute::{self as stored_attribute, SPAN_FIELD};
use prost::Message;

fn json_at(batch: &RecordBatch, name: &str, row: usize) -> Json {
    serde_json::from_str(text_at(column(batch, name), row).unwrap()).unwrap()
}

fn list(values: Vec<Value>) -> Value {
    let values = values
        .into_iter()
        .map(|value| AnyValue { value: Some(value) });
    Value::ArrayValue(ArrayValue {
        values: values.collect(),
    })
}

#[test]
fn each_type_of_value_has_a_text_and_a_json() {
    let long = i64::MAX - 1;
    let cases = [
        (
            "text",
            Some(Value::StringValue("a \"b\"\n".into())),
            Some("a \"b\"\n"),
            json!("a \"b\"\n"),
        ),
        (
            "empty text",
            Some(Value::StringValue(String::new())),
            Some(""),
            json!(""),
        ),
        (
            "true",
            Some(Value::BoolValue(true)),
            Some("true"),
            json!(true),
        ),
        (
            "integer",
            Some(Value::IntValue(long)),
            Some("9223372036854775806"),
            json!(long),
        ),
        (
            "least",
            Some(Value::IntValue(i64::MIN)),
            Some("-9223372036854775808"),
            json!(i64::MIN),
        ),
        (
            "double",
            Some(Value::DoubleValue(0.1)),
            Some("0.1"),
            json!(0.1),
        ),
        (
            "whole",
            Some(Value::DoubleValue(2.0)),
            Some("2"),
            json!(2.0),
        ),
        (
            "nan",
            Some(Value::DoubleValue(f64::NAN)),
            Some("NaN"),
            json!("NaN"),
        ),
        (
            "infinite",
            Some(Value::DoubleValue(f64::INFINITY)),
            Some("inf"),
            json!("Infinity"),
        ),
        (
            "least of all",
            Some(Value::DoubleValue(f64::NEG_INFINITY)),
            Some("-inf"),
            json!("-Infinity"),
        ),
        (
            "bytes",
            Some(Value::BytesValue(vec![0, 255])),
            Some("AP8="),
            json!("AP8="),
        ),
        (
            "index",
            Some(Value::StringValueStrindex(7)),
            Some("7"),
            json!(7),
        ),
        ("none", None, None, json!(null)),
        (
            "array",
            Some(list(vec![
                Value::IntValue(1),
                Value::StringValue("x".into()),
                list(vec![]),
            ])),
            Some(r#"[1,"x",[]]"#),
            json!([1, "x", []]),
        ),
        (
            "list",
            Some(Value::KvlistValue(KeyValueList {
                values: vec![
                    attribute("n", Some(Value::IntValue(long))),
                    attribute("empty", None),
                    text("n", "second"),
                ],
            })),
            Some(r#"{"n":9223372036854775806,"empty":null}"#),
            json!({"n": long, "empty": null}),
        ),
    ];
    let attributes = cases
        .iter()
        .map(|(key, value, _, _)| attribute(key, value.clone()));
    let batch = converted(Span {
        attributes: attributes.collect(),
        ..span()
    });
    let expected: Vec<_> = cases
        .iter()
        .map(|(key, _, text, _)| (*key, *text))
        .collect();
    assert_eq!(map_at(column(&batch, "attributes"), 0), map(&expected));
    let expected: serde_json::Map<_, _> = cases
        .iter()
        .map(|(key, _, _, json)| ((*key).to_owned(), json.clone()))
        .collect();
    let found = text_at(column(&batch, "attributes_json"), 0).unwrap();
    assert_eq!(found, Json::Object(expected).to_string());
    // All digits are there, and no number is a text.
    assert!(
        found.contains(r#""integer":9223372036854775806,"#),
        "{found}"
    );
}

#[test]
fn of_keys_that_repeat_the_first_counts() {
    let batch = converted(Span {
        attributes: vec![
            text("a", "1"),
            text("b", "2"),
            attribute("", None),
            text("a", "3"),
            text("", "4"),
        ],
        ..span()
    });
    let expected = map(&[("a", Some("1")), ("b", Some("2")), ("", None)]);
    assert_eq!(map_at(column(&batch, "attributes"), 0), expected);
    let expected = r#"{"a":"1","b":"2","":null}"#;
    assert_eq!(
        text_at(column(&batch, "attributes_json"), 0),
        Some(expected)
    );
}

#[test]
fn what_is_absent_is_empty_or_null() {
    let batch = converted(Span {
        end_time_unix_nano: 0,
        ..span()
    });
    for name in ["attributes", "resource_attributes", "scope_attributes"] {
        assert_eq!(map_at(column(&batch, name), 0), map(&[]), "{name}");
        assert!(column(&batch, name).is_valid(0), "{name}");
        let json = column(&batch, &format!("{name}_json"));
        assert_eq!(text_at(json, 0), Some("{}"), "{name}");
    }
    for name in ["events", "links"] {
        let list = column(&batch, name).as_list::<i32>();
        assert!(list.is_valid(0) && list.value(0).is_empty(), "{name}");
    }
    for name in [
        "end_time",
        "parent_span_id",
        "status_message",
        "trace_state",
        "scope_name",
        "scope_version",
        "session_id",
        "route",
        "status_code",
        "cold_start",
        "resource_schema_url",
        "scope_schema_url",
    ] {
        assert!(column(&batch, name).is_null(0), "{name}");
    }
    for name in [
        "dropped_attributes_count",
        "dropped_events_count",
        "dropped_links_count",
    ] {
        assert_eq!(count_at(column(&batch, name), 0), 0);
    }
    let none = convert(
        &RecordBatch::new_empty(crate::span::schema()),
        InterchangeOptions::default(),
    );
    assert_eq!(none.unwrap().num_rows(), 0);
}

#[test]
fn an_end_before_the_start_is_exact() {
    let batch = converted(Span {
        start_time_unix_nano: 1_000_000_007,
        end_time_unix_nano: 3,
        ..span()
    });
    assert_eq!(
        time_at(column(&batch, "start_time"), 0),
        Some(1_000_000_007)
    );
    assert_eq!(time_at(column(&batch, "end_time"), 0), Some(3));
    let duration = column(&batch, "duration").as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(duration.value(0), 0);
}

#[test]
fn events_and_links_are_lists_of_structs() {
    let event = Event {
        time_unix_nano: 5,
        name: "exception".into(),
        attributes: vec![
            text("exception.type", "E"),
            attribute("n", Some(Value::IntValue(1))),
        ],
        dropped_attributes_count: 4,
    };
    let link = Link {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "k=v".into(),
        flags: 257,
        attributes: vec![text("a", "b")],
        dropped_attributes_count: 3,
    };
    let batch = converted(Span {
        events: vec![event, Event::default()],
        links: vec![
            link,
            Link {
                span_id: vec![9; 3],
                ..Link::default()
            },
        ],
        ..span()
    });
    let events = column(&batch, "events").as_list::<i32>().value(0);
    let part = |name| events.as_struct().column_by_name(name).unwrap();
    assert_eq!(time_at(part("time"), 0), Some(5));
    assert_eq!(text_at(part("name"), 0), Some("exception"));
    let expected = map(&[("exception.type", Some("E")), ("n", Some("1"))]);
    assert_eq!(map_at(part("attributes"), 0), expected);
    assert_eq!(
        text_at(part("attributes_json"), 0),
        Some(r#"{"exception.type":"E","n":1}"#)
    );
    assert_eq!(count_at(part("dropped_attributes_count"), 0), 4);
    assert_eq!(
        (time_at(part("time"), 1), text_at(part("name"), 1)),
        (None, Some(""))
    );
    assert_eq!(map_at(part("attributes"), 1), map(&[]));

    let links = column(&batch, "links").as_list::<i32>().value(0);
    let part = |name| links.as_struct().column_by_name(name).unwrap();
    assert_eq!(text_at(part("trace_id"), 0), Some("01".repeat(16).as_str()));
    assert_eq!(text_at(part("span_id"), 0), Some("02".repeat(8).as_str()));
    assert_eq!(text_at(part("trace_state"), 0), Some("k=v"));
    assert_eq!(count_at(part("flags"), 0), 257);
    assert_eq!(map_at(part("attributes"), 0), map(&[("a", Some("b"))]));
    assert_eq!(text_at(part("attributes_json"), 0), Some(r#"{"a":"b"}"#));
    assert_eq!(count_at(part("dropped_attributes_count"), 0), 3);
    assert_eq!(
        (text_at(part("trace_id"), 1), text_at(part("span_id"), 1)),
        (None, Some("090909"))
    );
    assert_eq!(text_at(part("trace_state"), 1), None);
}

#[test]
fn columns_of_the_store_are_there_as_plain_types() {
    let mut request = request(vec![Span {
        parent_span_id: vec![0xef; 8],
        kind: 2,
        flags: 256,
        trace_state: "a=b".into(),
        attributes: vec![
            text("session.id", "s"),
            text("http.route", "/a/{id}"),
            attribute("http.response.status_code", Some(Value::IntValue(503))),
            attribute("faas.coldstart", Some(Value::BoolValue(true))),
        ],
        status: Some(Status {
            message: "no".into(),
            code: 2,
        }),
        dropped_attributes_count: 1,
        dropped_events_count: 2,
        dropped_links_count: u32::MAX,
        ..span()
    }]);
    let resource_spans = &mut request.resource_spans[0];
    resource_spans.schema_url = "https://r.test".into();
    resource_spans.resource = Some(Resource {
        attributes: vec![text("service.name", "shop")],
        ..Resource::default()
    });
    resource_spans.scope_spans[0].schema_url = "https://s.test".into();
    resource_spans.scope_spans[0].scope = Some(InstrumentationScope {
        name: "lib".into(),
        version: "1".into(),
        attributes: vec![text("short", "yes")],
        ..InstrumentationScope::default()
    });
    let batch = convert(&stored(&request), InterchangeOptions::default()).unwrap();
    for (name, expected) in [
        ("team_id", "acme"),
        ("trace_id", "abababababababababababababababab"),
        ("span_id", "cdcdcdcdcdcdcdcd"),
        ("parent_span_id", "efefefefefefefef"),
        ("name", "GET /"),
        ("kind", "server"),
        ("status", "error"),
        ("status_message", "no"),
        ("level", "error"),
        ("session_id", "s"),
        ("service", "shop"),
        ("route", "/a/{id}"),
        ("trace_state", "a=b"),
        ("scope_name", "lib"),
        ("scope_version", "1"),
        ("resource_attributes_json", r#"{"service.name":"shop"}"#),
        ("scope_attributes_json", r#"{"short":"yes"}"#),
        ("resource_schema_url", "https://r.test"),
        ("scope_schema_url", "https://s.test"),
    ] {
        assert_eq!(text_at(column(&batch, name), 0), Some(expected), "{name}");
    }
    let status_code = column(&batch, "status_code").as_primitive::<arrow::datatypes::Int32Type>();
    assert_eq!(status_code.value(0), 503);
    assert!(column(&batch, "cold_start").as_boolean().value(0));
    assert_eq!(count_at(column(&batch, "flags"), 0), 256);
    assert_eq!(count_at(column(&batch, "dropped_attributes_count"), 0), 1);
    assert_eq!(count_at(column(&batch, "dropped_events_count"), 0), 2);
    assert_eq!(count_at(column(&batch, "dropped_links_count"), 0), u32::MAX);
    assert_eq!(
        map_at(column(&batch, "resource_attributes"), 0),
        map(&[("service.name", Some("shop"))])
    );
    assert_eq!(
        map_at(column(&batch, "scope_attributes"), 0),
        map(&[("short", Some("yes"))])
    );
}

/// A value in JSON, said once more.
fn naive(value: Option<&AnyValue>) -> Json {
    match value.and_then(|value| value.value.as_ref()) {
        None => Json::Null,
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::BoolValue(truth)) => json!(truth),
        Some(Value::IntValue(number)) => json!(number),
        Some(Value::StringValueStrindex(number)) => json!(number),
        Some(Value::DoubleValue(number)) if *number == f64::INFINITY => json!("Infinity"),
        Some(Value::DoubleValue(number)) if *number == f64::NEG_INFINITY => json!("-Infinity"),
        Some(Value::DoubleValue(number)) => json!(number),
        Some(Value::BytesValue(bytes)) => {
            use base64::Engine as _;
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Some(Value::ArrayValue(array)) => array
            .values
            .iter()
            .map(|value| naive(Some(value)))
            .collect(),
        Some(Value::KvlistValue(list)) => naive_object(&list.values),
    }
}

fn naive_object(attributes: &[KeyValue]) -> Json {
    let mut object = serde_json::Map::new();
    for attribute in attributes.iter().rev() {
        object.insert(attribute.key.clone(), naive(attribute.value.as_ref()));
    }
    Json::Object(object)
}

/// Attributes as the filter language sees them.
fn filtered(attributes: &[KeyValue]) -> std::collections::BTreeMap<String, Option<String>> {
    let message = Span {
        attributes: attributes.to_vec(),
        ..Span::default()
    }
    .encode_to_vec();
    let text = |key: &str| stored_attribute::find_text(&message, SPAN_FIELD, key).map(Into::into);
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), text(&attribute.key)))
        .collect()
}

fn micros(nanos: u64) -> Option<i64> {
    (nanos != 0).then(|| (nanos / 1_000).cast_signed())
}

proptest! {
    #[test]
    fn arbitrary_spans_are_converted_as_naively(request in arbitrary::request()) {
        let request = crate::span::tests::checked(request);
        let rows = stored(&request);
        let batch = convert(&rows, InterchangeOptions::default()).unwrap();
        let in_micros = convert(&rows, InterchangeOptions {
            times: crate::interchange::TimePrecision::Microseconds,
            ..InterchangeOptions::default()
        }).unwrap();
        let spans = request.resource_spans.iter().flat_map(|resource| {
            resource.scope_spans.iter().flat_map(move |scope| {
                scope.spans.iter().map(move |span| (resource, scope, span))
            })
        });
        for (row, (resource, scope, span)) in spans.enumerate() {
            prop_assert_eq!(text_at(column(&batch, "trace_id"), row).unwrap(), to_hex(&span.trace_id));
            let parent = Some(to_hex(&span.parent_span_id)).filter(|id| !id.is_empty());
            prop_assert_eq!(text_at(column(&batch, "parent_span_id"), row), parent.as_deref());
            prop_assert_eq!(
                time_at(column(&batch, "start_time"), row),
                Some(span.start_time_unix_nano.cast_signed())
            );
            let end = i64::try_from(span.end_time_unix_nano).ok().filter(|end| *end != 0);
            prop_assert_eq!(time_at(column(&batch, "end_time"), row), end);
            prop_assert_eq!(time_at(column(&in_micros, "end_time"), row), micros(span.end_time_unix_nano));
            let resource = resource.resource.clone().unwrap_or_default();
            let scope = scope.scope.clone().unwrap_or_default();
            for (name, attributes) in [
                ("attributes", &span.attributes),
                ("resource_attributes", &resource.attributes),
                ("scope_attributes", &scope.attributes),
            ] {
                let found = map_at(column(&batch, name), row);
                let count = found.len();
                let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
                prop_assert_eq!(found.len(), count, "a key is there once");
                prop_assert_eq!(found, filtered(attributes));
                prop_assert_eq!(json_at(&batch, &format!("{name}_json"), row), naive_object(attributes));
            }
            let events = column(&batch, "events").as_list::<i32>().value(row);
            prop_assert_eq!(events.len(), span.events.len());
            for (place, event) in span.events.iter().enumerate() {
                let json = events.as_struct().column_by_name("attributes_json").unwrap();
                let found: Json = serde_json::from_str(text_at(json, place).unwrap()).unwrap();
                prop_assert_eq!(found, naive_object(&event.attributes));
            }
            let links = column(&batch, "links").as_list::<i32>().value(row);
            prop_assert_eq!(links.len(), span.links.len());
            prop_assert_eq!(count_at(column(&batch, "dropped_links_count"), row), span.dropped_links_count);
        }
    }
}
