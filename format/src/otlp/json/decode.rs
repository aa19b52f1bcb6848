//! OTLP JSON in.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Document;
use super::scalar::{Base64, Codes, Double, Enum, Id, Integer, Kinds};
use crate::otlp::{
    AnyValue, ArrayValue, EntityRef, Event, ExportTraceServiceRequest, InstrumentationScope,
    KeyValue, KeyValueList, Link, OtlpError, Resource, ResourceSpans, ScopeSpans, Span, Status,
    Value,
};

pub(super) fn decode(text: &[u8]) -> Result<Document, OtlpError> {
    let document: DocumentJson = serde_json::from_slice(text)?;
    if document.resource_spans.is_none() {
        if document.resource_metrics.is_some() {
            return Ok(Document::Other("metrics"));
        }
        if document.resource_logs.is_some() {
            return Ok(Document::Other("logs"));
        }
        if document.resource_profiles.is_some() {
            return Ok(Document::Other("profiles"));
        }
    }
    let resource_spans = list(document.resource_spans);
    Ok(Document::Traces(ExportTraceServiceRequest {
        resource_spans,
    }))
}

/// Elements of a list that may be absent or null.
fn list<J: Into<M>, M>(list: Option<Vec<J>>) -> Vec<M> {
    list.unwrap_or_default()
        .into_iter()
        .map(Into::into)
        .collect()
}

fn number<T: Default>(number: Option<Integer<T>>) -> T {
    number.map(|number| number.0).unwrap_or_default()
}

fn id(id: Option<Id>) -> Vec<u8> {
    id.unwrap_or_default().0
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentJson {
    #[serde(alias = "resource_spans")]
    resource_spans: Option<Vec<ResourceSpansJson>>,
    #[serde(alias = "resource_metrics")]
    resource_metrics: Option<IgnoredAny>,
    #[serde(alias = "resource_logs")]
    resource_logs: Option<IgnoredAny>,
    #[serde(alias = "resource_profiles")]
    resource_profiles: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpansJson {
    resource: Option<ResourceJson>,
    #[serde(
        alias = "scope_spans",
        alias = "instrumentationLibrarySpans",
        alias = "instrumentation_library_spans"
    )]
    scope_spans: Option<Vec<ScopeSpansJson>>,
    #[serde(alias = "schema_url")]
    schema_url: Option<String>,
}

impl From<ResourceSpansJson> for ResourceSpans {
    fn from(json: ResourceSpansJson) -> Self {
        Self {
            resource: json.resource.map(Into::into),
            scope_spans: list(json.scope_spans),
            schema_url: json.schema_url.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceJson {
    attributes: Option<Vec<KeyValueJson>>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Option<Integer<u32>>,
    #[serde(alias = "entity_refs")]
    entity_refs: Option<Vec<EntityRefJson>>,
}

impl From<ResourceJson> for Resource {
    fn from(json: ResourceJson) -> Self {
        Self {
            attributes: list(json.attributes),
            dropped_attributes_count: number(json.dropped_attributes_count),
            entity_refs: list(json.entity_refs),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntityRefJson {
    #[serde(alias = "schema_url")]
    schema_url: Option<String>,
    r#type: Option<String>,
    #[serde(alias = "id_keys")]
    id_keys: Option<Vec<String>>,
    #[serde(alias = "description_keys")]
    description_keys: Option<Vec<String>>,
}

impl From<EntityRefJson> for EntityRef {
    fn from(json: EntityRefJson) -> Self {
        Self {
            schema_url: json.schema_url.unwrap_or_default(),
            r#type: json.r#type.unwrap_or_default(),
            id_keys: json.id_keys.unwrap_or_default(),
            description_keys: json.description_keys.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeSpansJson {
    #[serde(alias = "instrumentationLibrary", alias = "instrumentation_library")]
    scope: Option<ScopeJson>,
    spans: Option<Vec<SpanJson>>,
    #[serde(alias = "schema_url")]
    schema_url: Option<String>,
}

impl From<ScopeSpansJson> for ScopeSpans {
    fn from(json: ScopeSpansJson) -> Self {
        Self {
            scope: json.scope.map(Into::into),
            spans: list(json.spans),
            schema_url: json.schema_url.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeJson {
    name: Option<String>,
    version: Option<String>,
    attributes: Option<Vec<KeyValueJson>>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Option<Integer<u32>>,
}

impl From<ScopeJson> for InstrumentationScope {
    fn from(json: ScopeJson) -> Self {
        Self {
            name: json.name.unwrap_or_default(),
            version: json.version.unwrap_or_default(),
            attributes: list(json.attributes),
            dropped_attributes_count: number(json.dropped_attributes_count),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson {
    #[serde(alias = "trace_id")]
    trace_id: Option<Id>,
    #[serde(alias = "span_id")]
    span_id: Option<Id>,
    #[serde(alias = "trace_state")]
    trace_state: Option<String>,
    #[serde(alias = "parent_span_id")]
    parent_span_id: Option<Id>,
    flags: Option<Integer<u32>>,
    name: Option<String>,
    kind: Option<Enum<Kinds>>,
    #[serde(alias = "start_time_unix_nano")]
    start_time_unix_nano: Option<Integer<u64>>,
    #[serde(alias = "end_time_unix_nano")]
    end_time_unix_nano: Option<Integer<u64>>,
    attributes: Option<Vec<KeyValueJson>>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Option<Integer<u32>>,
    events: Option<Vec<EventJson>>,
    #[serde(alias = "dropped_events_count")]
    dropped_events_count: Option<Integer<u32>>,
    links: Option<Vec<LinkJson>>,
    #[serde(alias = "dropped_links_count")]
    dropped_links_count: Option<Integer<u32>>,
    status: Option<StatusJson>,
}

impl From<SpanJson> for Span {
    fn from(json: SpanJson) -> Self {
        Self {
            trace_id: id(json.trace_id),
            span_id: id(json.span_id),
            trace_state: json.trace_state.unwrap_or_default(),
            parent_span_id: id(json.parent_span_id),
            flags: number(json.flags),
            name: json.name.unwrap_or_default(),
            kind: json.kind.unwrap_or_default().0,
            start_time_unix_nano: number(json.start_time_unix_nano),
            end_time_unix_nano: number(json.end_time_unix_nano),
            attributes: list(json.attributes),
            dropped_attributes_count: number(json.dropped_attributes_count),
            events: list(json.events),
            dropped_events_count: number(json.dropped_events_count),
            links: list(json.links),
            dropped_links_count: number(json.dropped_links_count),
            status: json.status.map(Into::into),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventJson {
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Option<Integer<u64>>,
    name: Option<String>,
    attributes: Option<Vec<KeyValueJson>>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Option<Integer<u32>>,
}

impl From<EventJson> for Event {
    fn from(json: EventJson) -> Self {
        Self {
            time_unix_nano: number(json.time_unix_nano),
            name: json.name.unwrap_or_default(),
            attributes: list(json.attributes),
            dropped_attributes_count: number(json.dropped_attributes_count),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkJson {
    #[serde(alias = "trace_id")]
    trace_id: Option<Id>,
    #[serde(alias = "span_id")]
    span_id: Option<Id>,
    #[serde(alias = "trace_state")]
    trace_state: Option<String>,
    attributes: Option<Vec<KeyValueJson>>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Option<Integer<u32>>,
    flags: Option<Integer<u32>>,
}

impl From<LinkJson> for Link {
    fn from(json: LinkJson) -> Self {
        Self {
            trace_id: id(json.trace_id),
            span_id: id(json.span_id),
            trace_state: json.trace_state.unwrap_or_default(),
            attributes: list(json.attributes),
            dropped_attributes_count: number(json.dropped_attributes_count),
            flags: number(json.flags),
        }
    }
}

#[derive(Deserialize)]
struct StatusJson {
    message: Option<String>,
    code: Option<Enum<Codes>>,
}

impl From<StatusJson> for Status {
    fn from(json: StatusJson) -> Self {
        Self {
            message: json.message.unwrap_or_default(),
            code: json.code.unwrap_or_default().0,
        }
    }
}

#[derive(Deserialize)]
struct KeyValueJson {
    key: Option<String>,
    value: Option<AnyValueJson>,
}

impl From<KeyValueJson> for KeyValue {
    fn from(json: KeyValueJson) -> Self {
        Self {
            key: json.key.unwrap_or_default(),
            value: json.value.map(Into::into),
            ..Self::default()
        }
    }
}

/// A value; the first kind that is there counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValueJson {
    #[serde(alias = "string_value")]
    string_value: Option<String>,
    #[serde(alias = "bool_value")]
    bool_value: Option<bool>,
    #[serde(alias = "int_value")]
    int_value: Option<Integer<i64>>,
    #[serde(alias = "double_value")]
    double_value: Option<Double>,
    #[serde(alias = "array_value")]
    array_value: Option<ValuesJson<AnyValueJson>>,
    #[serde(alias = "kvlist_value")]
    kvlist_value: Option<ValuesJson<KeyValueJson>>,
    #[serde(alias = "bytes_value")]
    bytes_value: Option<Base64>,
}

#[derive(Deserialize)]
struct ValuesJson<T> {
    values: Option<Vec<T>>,
}

impl From<AnyValueJson> for AnyValue {
    fn from(json: AnyValueJson) -> Self {
        let value = if let Some(text) = json.string_value {
            Some(Value::StringValue(text))
        } else if let Some(truth) = json.bool_value {
            Some(Value::BoolValue(truth))
        } else if let Some(number) = json.int_value {
            Some(Value::IntValue(number.0))
        } else if let Some(number) = json.double_value {
            Some(Value::DoubleValue(number.0))
        } else if let Some(array) = json.array_value {
            Some(Value::ArrayValue(ArrayValue {
                values: list(array.values),
            }))
        } else if let Some(entries) = json.kvlist_value {
            Some(Value::KvlistValue(KeyValueList {
                values: list(entries.values),
            }))
        } else {
            json.bytes_value.map(|bytes| Value::BytesValue(bytes.0))
        };
        Self { value }
    }
}
