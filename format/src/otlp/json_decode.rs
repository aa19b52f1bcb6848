//! The shapes that JSON documents are read by.
//!
//! Each shape is a serde remote definition: it builds the type of the model
//! itself, and nothing is copied in between.

use prost::Message as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::json::Document;
use super::json_scalar::{id, integer, kind, status_code, text};
use super::json_stream;
use super::{
    AnyValue, EntityRef, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Link,
    Resource, ResourceSpans, ScopeSpans, Span, Status,
};

/// Reads one document, which is kept or written as it is read.
pub(super) fn document(text: &[u8]) -> serde_json::Result<Document> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let shape: DocumentShape = serde_json::from_slice(text)?;
    Ok(match shape {
        DocumentShape {
            spans: None,
            metrics: Some(_),
            ..
        } => Document::Other("metrics"),
        DocumentShape {
            spans: None,
            logs: Some(_),
            ..
        } => Document::Other("logs"),
        DocumentShape { spans, .. } => Document::Traces(ExportTraceServiceRequest {
            resource_spans: spans.map(|list| list.0).unwrap_or_default(),
        }),
    })
}

#[derive(Deserialize)]
#[serde(expecting = "an OTLP document, an object")]
struct DocumentShape {
    #[serde(rename = "resourceSpans", alias = "resource_spans")]
    spans: Option<List<ResourceSpans>>,
    #[serde(rename = "resourceMetrics", alias = "resource_metrics")]
    metrics: Option<IgnoredAny>,
    #[serde(rename = "resourceLogs", alias = "resource_logs")]
    logs: Option<IgnoredAny>,
}

/// A message of the model that can be read from JSON.
pub(super) trait FromJson: Sized {
    /// Reads it.
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// What a `null` in a list stands for; by default for no element.
    fn from_null() -> Option<Self> {
        None
    }

    /// The field of its elements in the message around them, if they are written as
    /// they are read.
    const WRITTEN_FIELD: Option<u32> = None;

    /// Writes what of it is not written yet.
    fn write(&self, _out: &mut Vec<u8>) {}
}

/// Gives a message of the model serde's own trait.
pub(super) struct Message<T>(pub(super) T);

impl<'de, T: FromJson> Deserialize<'de> for Message<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::from_json(deserializer).map(Self)
    }
}

/// Messages of the model in an array.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: FromJson> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: FromJson> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut elements: A,
            ) -> Result<Vec<T>, A::Error> {
                let mut list = Vec::new();
                loop {
                    let begun = T::WRITTEN_FIELD.and_then(json_stream::begin);
                    let next = elements.next_element::<Option<Message<T>>>()?;
                    let is_end = next.is_none();
                    let element = next.and_then(|element| {
                        element.map_or_else(T::from_null, |message| Some(message.0))
                    });
                    match (begun, element) {
                        (Some(at), Some(element)) => {
                            json_stream::end(at, |out| element.write(out));
                        }
                        (Some(at), None) => json_stream::take_back(at),
                        (None, element) => list.extend(element),
                    }
                    if is_end {
                        return Ok(list);
                    }
                }
            }
        }

        deserializer
            .deserialize_seq(Visitor(std::marker::PhantomData))
            .map(Self)
    }
}

/// An array or `null`.
pub(super) fn list<'de, D: Deserializer<'de>, T: FromJson>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::<List<T>>::deserialize(deserializer)?
        .map(|list| list.0)
        .unwrap_or_default())
}

/// An object or `null`.
pub(super) fn message<'de, D: Deserializer<'de>, T: FromJson>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Message<T>>::deserialize(deserializer)?.map(|message| message.0))
}

/// An array of texts, or `null`.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Option::<Vec<Option<String>>>::deserialize(deserializer)?;
    Ok(texts.unwrap_or_default().into_iter().flatten().collect())
}

macro_rules! from_json {
    ($($message:ty => $shape:ident),+ $(,)?) => {$(
        impl FromJson for $message {
            fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $shape::deserialize(deserializer)
            }
        }
    )+};
}

from_json!(
    Resource => ResourceShape,
    EntityRef => EntityRefShape,
    InstrumentationScope => ScopeShape,
    Event => EventShape,
    Link => LinkShape,
    Status => StatusShape,
    KeyValue => KeyValueShape,
);

impl FromJson for Span {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SpanShape::deserialize(deserializer)
    }

    const WRITTEN_FIELD: Option<u32> = Some(2);

    fn write(&self, out: &mut Vec<u8>) {
        self.encode_raw(out);
    }
}

impl FromJson for ScopeSpans {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ScopeSpansShape::deserialize(deserializer)
    }

    const WRITTEN_FIELD: Option<u32> = Some(2);

    fn write(&self, out: &mut Vec<u8>) {
        self.encode_raw(out);
    }
}

impl FromJson for ResourceSpans {
    const WRITTEN_FIELD: Option<u32> = Some(1);

    fn write(&self, out: &mut Vec<u8>) {
        self.encode_raw(out);
    }

    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shape = ResourceSpansShape::deserialize(deserializer)?;
        let mut scope_spans = shape.scope_spans;
        scope_spans.extend(shape.instrumentation_library_spans);
        Ok(Self {
            resource: shape.resource,
            scope_spans,
            schema_url: shape.schema_url,
        })
    }
}

#[derive(Deserialize)]
#[serde(expecting = "resourceSpans, an object")]
struct ResourceSpansShape {
    #[serde(default, deserialize_with = "message")]
    resource: Option<Resource>,
    #[serde(default, alias = "scopeSpans", deserialize_with = "list")]
    scope_spans: Vec<ScopeSpans>,
    #[serde(
        default,
        alias = "instrumentationLibrarySpans",
        deserialize_with = "list"
    )]
    instrumentation_library_spans: Vec<ScopeSpans>,
    #[serde(default, alias = "schemaUrl", deserialize_with = "text")]
    schema_url: String,
}

#[derive(Deserialize)]
#[serde(remote = "ScopeSpans", expecting = "scopeSpans, an object")]
struct ScopeSpansShape {
    #[serde(
        default,
        alias = "instrumentationLibrary",
        alias = "instrumentation_library",
        deserialize_with = "message"
    )]
    scope: Option<InstrumentationScope>,
    #[serde(default, deserialize_with = "list")]
    spans: Vec<Span>,
    #[serde(default, alias = "schemaUrl", deserialize_with = "text")]
    schema_url: String,
}

#[derive(Deserialize)]
#[serde(remote = "Resource", expecting = "a resource, an object")]
struct ResourceShape {
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(
        default,
        alias = "droppedAttributesCount",
        deserialize_with = "integer"
    )]
    dropped_attributes_count: u32,
    #[serde(default, alias = "entityRefs", deserialize_with = "list")]
    entity_refs: Vec<EntityRef>,
}

#[derive(Deserialize)]
#[serde(
    remote = "EntityRef",
    expecting = "a reference to an entity, an object"
)]
struct EntityRefShape {
    #[serde(default, alias = "schemaUrl", deserialize_with = "text")]
    schema_url: String,
    #[serde(default, deserialize_with = "text")]
    r#type: String,
    #[serde(default, alias = "idKeys", deserialize_with = "texts")]
    id_keys: Vec<String>,
    #[serde(default, alias = "descriptionKeys", deserialize_with = "texts")]
    description_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(remote = "InstrumentationScope", expecting = "a scope, an object")]
struct ScopeShape {
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    version: String,
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(
        default,
        alias = "droppedAttributesCount",
        deserialize_with = "integer"
    )]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(remote = "Span", expecting = "a span, an object")]
struct SpanShape {
    #[serde(default, alias = "traceId", deserialize_with = "id")]
    trace_id: Vec<u8>,
    #[serde(default, alias = "spanId", deserialize_with = "id")]
    span_id: Vec<u8>,
    #[serde(default, alias = "traceState", deserialize_with = "text")]
    trace_state: String,
    #[serde(default, alias = "parentSpanId", deserialize_with = "id")]
    parent_span_id: Vec<u8>,
    #[serde(default, deserialize_with = "integer")]
    flags: u32,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "kind")]
    kind: i32,
    #[serde(default, alias = "startTimeUnixNano", deserialize_with = "integer")]
    start_time_unix_nano: u64,
    #[serde(default, alias = "endTimeUnixNano", deserialize_with = "integer")]
    end_time_unix_nano: u64,
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(
        default,
        alias = "droppedAttributesCount",
        deserialize_with = "integer"
    )]
    dropped_attributes_count: u32,
    #[serde(default, deserialize_with = "list")]
    events: Vec<Event>,
    #[serde(default, alias = "droppedEventsCount", deserialize_with = "integer")]
    dropped_events_count: u32,
    #[serde(default, deserialize_with = "list")]
    links: Vec<Link>,
    #[serde(default, alias = "droppedLinksCount", deserialize_with = "integer")]
    dropped_links_count: u32,
    #[serde(default, deserialize_with = "message")]
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(remote = "Event", expecting = "an event, an object")]
struct EventShape {
    #[serde(default, alias = "timeUnixNano", deserialize_with = "integer")]
    time_unix_nano: u64,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(
        default,
        alias = "droppedAttributesCount",
        deserialize_with = "integer"
    )]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(remote = "Link", expecting = "a link, an object")]
struct LinkShape {
    #[serde(default, alias = "traceId", deserialize_with = "id")]
    trace_id: Vec<u8>,
    #[serde(default, alias = "spanId", deserialize_with = "id")]
    span_id: Vec<u8>,
    #[serde(default, alias = "traceState", deserialize_with = "text")]
    trace_state: String,
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(
        default,
        alias = "droppedAttributesCount",
        deserialize_with = "integer"
    )]
    dropped_attributes_count: u32,
    #[serde(default, deserialize_with = "integer")]
    flags: u32,
}

#[derive(Deserialize)]
#[serde(remote = "Status", expecting = "a status, an object")]
struct StatusShape {
    #[serde(default, deserialize_with = "text")]
    message: String,
    #[serde(default, deserialize_with = "status_code")]
    code: i32,
}

#[derive(Deserialize)]
#[serde(remote = "KeyValue", expecting = "an attribute, an object")]
struct KeyValueShape {
    #[serde(default, deserialize_with = "text")]
    key: String,
    #[serde(default, deserialize_with = "message")]
    value: Option<AnyValue>,
    #[serde(default, alias = "keyStrindex", deserialize_with = "integer")]
    key_strindex: i32,
}
