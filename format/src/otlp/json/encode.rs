//! OTLP JSON out, by the official mapping: ids in lower-case hexadecimal, enums
//! as numbers, 64-bit integers as texts, bytes in base64. Fields that have their
//! default are left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use crate::id::to_hex;
use crate::otlp::{
    AnyValue, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Link, Resource,
    ResourceSpans, ScopeSpans, Span, Status, Value,
};

/// A request as one line of JSON, without the end of the line.
pub fn encode(request: &ExportTraceServiceRequest) -> String {
    let mut out = Object::default();
    out.put(
        "resourceSpans",
        array(&request.resource_spans, resource_spans),
    );
    Json::Object(out.0).to_string()
}

/// A span as JSON.
pub fn encode_span(span: &Span) -> Json {
    let mut out = Object::default();
    out.put("traceId", Json::from(to_hex(&span.trace_id)));
    out.put("spanId", Json::from(to_hex(&span.span_id)));
    out.text("traceState", &span.trace_state);
    out.id("parentSpanId", &span.parent_span_id);
    out.count("flags", span.flags);
    out.text("name", &span.name);
    if span.kind != 0 {
        out.put("kind", Json::from(span.kind));
    }
    out.put(
        "startTimeUnixNano",
        Json::from(span.start_time_unix_nano.to_string()),
    );
    out.put(
        "endTimeUnixNano",
        Json::from(span.end_time_unix_nano.to_string()),
    );
    out.list("attributes", &span.attributes, key_value);
    out.count("droppedAttributesCount", span.dropped_attributes_count);
    out.list("events", &span.events, event);
    out.count("droppedEventsCount", span.dropped_events_count);
    out.list("links", &span.links, link);
    out.count("droppedLinksCount", span.dropped_links_count);
    if let Some(found) = &span.status {
        out.put("status", status(found));
    }
    Json::Object(out.0)
}

/// Attributes as JSON.
pub fn encode_attributes(attributes: &[KeyValue]) -> Json {
    array(attributes, key_value)
}

/// An object that leaves defaults out.
#[derive(Default)]
struct Object(Map<String, Json>);

impl Object {
    fn put(&mut self, key: &str, value: Json) {
        self.0.insert(key.to_owned(), value);
    }

    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put(key, Json::from(text));
        }
    }

    fn id(&mut self, key: &str, id: &[u8]) {
        if !id.is_empty() {
            self.put(key, Json::from(to_hex(id)));
        }
    }

    fn count(&mut self, key: &str, count: u32) {
        if count != 0 {
            self.put(key, Json::from(count));
        }
    }

    fn list<T>(&mut self, key: &str, items: &[T], encode: impl Fn(&T) -> Json) {
        if !items.is_empty() {
            self.put(key, array(items, encode));
        }
    }
}

fn array<T>(items: &[T], encode: impl Fn(&T) -> Json) -> Json {
    items.iter().map(encode).collect()
}

fn resource_spans(spans: &ResourceSpans) -> Json {
    let mut out = Object::default();
    if let Some(found) = &spans.resource {
        out.put("resource", resource(found));
    }
    out.list("scopeSpans", &spans.scope_spans, scope_spans);
    out.text("schemaUrl", &spans.schema_url);
    Json::Object(out.0)
}

fn resource(resource: &Resource) -> Json {
    let mut out = Object::default();
    out.list("attributes", &resource.attributes, key_value);
    out.count("droppedAttributesCount", resource.dropped_attributes_count);
    out.list("entityRefs", &resource.entity_refs, |entity| {
        let mut out = Object::default();
        out.text("schemaUrl", &entity.schema_url);
        out.text("type", &entity.r#type);
        out.list("idKeys", &entity.id_keys, |key| Json::from(key.as_str()));
        out.list("descriptionKeys", &entity.description_keys, |key| {
            Json::from(key.as_str())
        });
        Json::Object(out.0)
    });
    Json::Object(out.0)
}

fn scope_spans(spans: &ScopeSpans) -> Json {
    let mut out = Object::default();
    if let Some(found) = &spans.scope {
        out.put("scope", scope(found));
    }
    out.list("spans", &spans.spans, encode_span);
    out.text("schemaUrl", &spans.schema_url);
    Json::Object(out.0)
}

fn scope(scope: &InstrumentationScope) -> Json {
    let mut out = Object::default();
    out.text("name", &scope.name);
    out.text("version", &scope.version);
    out.list("attributes", &scope.attributes, key_value);
    out.count("droppedAttributesCount", scope.dropped_attributes_count);
    Json::Object(out.0)
}

fn event(event: &Event) -> Json {
    let mut out = Object::default();
    out.put("timeUnixNano", Json::from(event.time_unix_nano.to_string()));
    out.text("name", &event.name);
    out.list("attributes", &event.attributes, key_value);
    out.count("droppedAttributesCount", event.dropped_attributes_count);
    Json::Object(out.0)
}

fn link(link: &Link) -> Json {
    let mut out = Object::default();
    out.put("traceId", Json::from(to_hex(&link.trace_id)));
    out.put("spanId", Json::from(to_hex(&link.span_id)));
    out.text("traceState", &link.trace_state);
    out.list("attributes", &link.attributes, key_value);
    out.count("droppedAttributesCount", link.dropped_attributes_count);
    out.count("flags", link.flags);
    Json::Object(out.0)
}

fn status(status: &Status) -> Json {
    let mut out = Object::default();
    out.text("message", &status.message);
    if status.code != 0 {
        out.put("code", Json::from(status.code));
    }
    Json::Object(out.0)
}

fn key_value(attribute: &KeyValue) -> Json {
    let mut out = Object::default();
    out.put("key", Json::from(attribute.key.as_str()));
    if let Some(value) = &attribute.value {
        out.put("value", any_value(value));
    }
    Json::Object(out.0)
}

fn any_value(value: &AnyValue) -> Json {
    let mut out = Object::default();
    match &value.value {
        None => {}
        Some(Value::StringValue(text)) => out.put("stringValue", Json::from(text.as_str())),
        Some(Value::BoolValue(truth)) => out.put("boolValue", Json::from(*truth)),
        Some(Value::IntValue(number)) => out.put("intValue", Json::from(number.to_string())),
        Some(Value::DoubleValue(number)) => out.put("doubleValue", double(*number)),
        Some(Value::ArrayValue(values)) => {
            let mut list = Object::default();
            list.list("values", &values.values, any_value);
            out.put("arrayValue", Json::Object(list.0));
        }
        Some(Value::KvlistValue(entries)) => {
            let mut list = Object::default();
            list.list("values", &entries.values, key_value);
            out.put("kvlistValue", Json::Object(list.0));
        }
        Some(Value::BytesValue(bytes)) => {
            out.put("bytesValue", Json::from(STANDARD.encode(bytes)));
        }
        Some(Value::StringValueStrindex(index)) => {
            out.put("stringValueStrindex", Json::from(*index));
        }
    }
    Json::Object(out.0)
}

/// JSON has no words for what is not finite; protobuf's JSON mapping has.
fn double(number: f64) -> Json {
    let text = if number.is_nan() {
        "NaN"
    } else if number.is_infinite() {
        if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
    } else {
        return Json::from(number);
    };
    Json::from(text)
}
