//! What is counted before decoding is at least what decoding allocates.

use proptest::prelude::*;

use super::{nested, with_attribute};
use crate::otlp::{
    AnyValue, EntityRef, ExportTraceServiceRequest, KeyValue, Measured, OtlpError, Resource,
    ResourceSpans, Value, arbitrary, json, protobuf,
};

/// Bytes that the lists and texts of a request hold.
#[derive(Default)]
struct Heap {
    bytes: u64,
    spans: u64,
    attributes: u64,
    values: u64,
    events: u64,
    links: u64,
}

impl Heap {
    fn list<T>(&mut self, list: &Vec<T>) {
        self.bytes += (list.capacity() * size_of::<T>()) as u64;
    }

    fn text(&mut self, text: &str) {
        self.bytes += text.len() as u64;
    }

    fn attributes(&mut self, attributes: &Vec<KeyValue>) {
        self.attributes += attributes.len() as u64;
        self.entries(attributes);
    }

    fn entries(&mut self, entries: &Vec<KeyValue>) {
        self.list(entries);
        for entry in entries {
            self.text(&entry.key);
            entry.value.iter().for_each(|value| self.value(value));
        }
    }

    fn value(&mut self, value: &AnyValue) {
        match &value.value {
            Some(Value::StringValue(text)) => self.text(text),
            Some(Value::BytesValue(bytes)) => self.list(bytes),
            Some(Value::ArrayValue(array)) => {
                self.list(&array.values);
                self.values += array.values.len() as u64;
                array.values.iter().for_each(|value| self.value(value));
            }
            Some(Value::KvlistValue(list)) => {
                self.values += list.values.len() as u64;
                self.entries(&list.values);
            }
            _ => {}
        }
    }

    fn of(request: &ExportTraceServiceRequest) -> Self {
        let mut heap = Self::default();
        heap.list(&request.resource_spans);
        for resource_spans in &request.resource_spans {
            heap.list(&resource_spans.scope_spans);
            heap.text(&resource_spans.schema_url);
            if let Some(resource) = &resource_spans.resource {
                heap.attributes(&resource.attributes);
                heap.list(&resource.entity_refs);
                for entity in &resource.entity_refs {
                    heap.text(&entity.r#type);
                    for keys in [&entity.id_keys, &entity.description_keys] {
                        heap.list(keys);
                        for key in keys {
                            heap.text(key);
                        }
                    }
                }
            }
            for scope_spans in &resource_spans.scope_spans {
                heap.list(&scope_spans.spans);
                if let Some(scope) = &scope_spans.scope {
                    heap.attributes(&scope.attributes);
                    heap.text(&scope.name);
                }
                for span in &scope_spans.spans {
                    heap.spans += 1;
                    heap.attributes(&span.attributes);
                    heap.list(&span.events);
                    heap.list(&span.links);
                    heap.events += span.events.len() as u64;
                    heap.links += span.links.len() as u64;
                    for id in [&span.trace_id, &span.span_id, &span.parent_span_id] {
                        heap.list(id);
                    }
                    for text in [&span.name, &span.trace_state] {
                        heap.text(text);
                    }
                    for event in &span.events {
                        heap.attributes(&event.attributes);
                        heap.text(&event.name);
                    }
                    for link in &span.links {
                        heap.attributes(&link.attributes);
                        heap.list(&link.trace_id);
                        heap.list(&link.span_id);
                        heap.text(&link.trace_state);
                    }
                }
            }
        }
        heap
    }
}

fn assert_covers(measured: Measured, request: &ExportTraceServiceRequest) {
    let heap = Heap::of(request);
    let counted = (
        measured.spans,
        measured.attributes,
        measured.values,
        measured.events,
        measured.links,
    );
    let found = (
        heap.spans,
        heap.attributes,
        heap.values,
        heap.events,
        heap.links,
    );
    assert_eq!(counted, found);
    assert!(
        measured.decoded_bytes >= heap.bytes,
        "{measured:?} {}",
        heap.bytes
    );
}

proptest! {
    #[test]
    fn protobuf_is_counted_as_it_decodes(request in arbitrary::request()) {
        let bytes = protobuf::encode(&request);
        let measured = Measured::of_protobuf(&bytes).unwrap();
        assert_covers(measured, &protobuf::decode(&bytes).unwrap());
    }

    #[test]
    fn json_is_counted_as_it_decodes(request in arbitrary::request()) {
        let text = json::encode(&request);
        let pretty: serde_json::Value = serde_json::from_str(&text).unwrap();
        let pretty = serde_json::to_string_pretty(&pretty).unwrap();
        for text in [text, pretty] {
            let Ok(json::Document::Traces(decoded)) = json::decode(text.as_bytes()) else {
                panic!("{text}");
            };
            assert_covers(Measured::of_json(text.as_bytes()).unwrap(), &decoded);
        }
    }

    #[test]
    fn what_is_counted_decodes_and_nothing_else_does(
        request in arbitrary::request(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = protobuf::encode(&request);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let is_counted = Measured::of_protobuf(&bytes).is_ok_and(|measured| !measured.is_too_deep);
        prop_assert_eq!(is_counted, protobuf::decode(&bytes).is_ok());
    }

    #[test]
    fn any_text_is_counted(text in "[\\[\\]{}\",:a0 \\\\]{0,40}|\\PC{0,40}") {
        let _ = Measured::of_json(text.as_bytes());
    }
}

#[test]
fn each_list_of_texts_is_counted_as_one() {
    let entity = EntityRef {
        id_keys: vec![String::new()],
        description_keys: vec![String::new()],
        ..EntityRef::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                entity_refs: vec![entity],
                ..Resource::default()
            }),
            ..ResourceSpans::default()
        }],
    };
    let bytes = protobuf::encode(&request);
    let measured = Measured::of_protobuf(&bytes).unwrap();
    assert_covers(measured, &protobuf::decode(&bytes).unwrap());
}

fn json_spans(elements: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{elements}]}}]}}]}}"#)
}

#[test]
fn keys_are_counted_however_they_are_written() {
    let span = r#"{"attributes":[{"key":"a"},null,{"value":{"arrayValue":{"values":[null,{}]}}}]}"#;
    for text in [
        json_spans(span),
        json_spans(span).replace("resourceSpans", "resource_spans"),
        json_spans(span).replace("attributes", r"\u0061ttribute\u0073"),
        json_spans(span).replace("scopeSpans", "instrumentation_library_spans"),
    ] {
        let measured = Measured::of_json(text.as_bytes()).unwrap();
        // The decoder leaves out what is null; counting does not look.
        assert_eq!(
            (measured.spans, measured.attributes, measured.values),
            (1, 3, 2),
            "{text}"
        );
    }
}

#[test]
fn arrays_in_place_of_messages_are_refused() {
    for text in [
        "[]".to_owned(),
        json_spans(r#"[[{"key":"a"}]]"#),
        json_spans(r#"{"status":["x",1]}"#),
        json_spans(r#"{"attributes":[{"value":{"arrayValue":[[{}]]}}]}"#),
    ] {
        let error = Measured::of_json(text.as_bytes()).unwrap_err();
        assert!(
            matches!(&error, OtlpError::Json { line: 1, message, .. } if message.contains("found an array")),
            "{error}"
        );
    }
}

#[test]
fn what_the_decoder_reads_twice_counts() {
    let long = format!(r#"{{"unknown":"{}\n"}}"#, "a".repeat(1_000));
    assert!(Measured::of_json(long.as_bytes()).unwrap().decoded_bytes >= 2_000);
    let brackets = format!(r#"{{"unknown":{}"#, "[".repeat(1_000));
    assert!(
        Measured::of_json(brackets.as_bytes())
            .unwrap()
            .decoded_bytes
            >= 2_000
    );
    let digits = format!(r#"{{"unknown":{}}}"#, "1".repeat(1_000));
    assert!(Measured::of_json(digits.as_bytes()).unwrap().decoded_bytes >= 2_000);
}

#[test]
fn two_bytes_an_element_are_counted_as_what_they_become() {
    for (tag, size) in [(0x12, 264), (0x0a, 96)] {
        let elements = [tag, 0].repeat(1 << 16);
        let mut bytes = Vec::new();
        // In a scope of a resource, or in a request.
        let mut wrap = |inner: Vec<u8>, tag: u8| {
            bytes = vec![tag];
            prost::encode_length_delimiter(inner.len(), &mut bytes).unwrap();
            bytes.extend(inner);
            bytes.clone()
        };
        let bytes = if tag == 0x12 {
            let scope = wrap(elements, 0x12);
            wrap(scope, 0x0a)
        } else {
            elements
        };
        let measured = Measured::of_protobuf(&bytes).unwrap();
        assert!(measured.elements() >= 1 << 16);
        assert!(measured.decoded_bytes >= (1 << 16) * size, "{measured:?}");
    }
}

#[test]
fn depth_is_seen() {
    for (levels, expected) in [(1, false), (17, false), (18, true), (400, true)] {
        let bytes = protobuf::encode(&with_attribute(nested(levels)));
        let measured = Measured::of_protobuf(&bytes).unwrap();
        assert_eq!(measured.is_too_deep, expected, "{levels}");
    }
}

#[test]
fn many_spans_are_no_large_span() {
    let body = json_spans(&vec![r#"{"name":"a"}"#; 100_000].join(","));
    let measured = Measured::of_json(body.as_bytes()).unwrap();
    assert!(measured.largest_bytes < 1_000, "{measured:?}");
    assert!(measured.decoded_bytes > 100_000 * 264, "{measured:?}");
    let Ok(Some(encoded)) = json::to_protobuf(body.as_bytes(), &measured) else {
        panic!("{measured:?}");
    };
    let measured = Measured::of_protobuf(&encoded).unwrap();
    assert!(measured.largest_bytes < 1_000, "{measured:?}");
}
