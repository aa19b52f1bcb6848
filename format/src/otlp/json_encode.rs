//! The official mapping of OTLP to JSON, outwards.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::json_any_value::not_finite;
use super::{
    AnyValue, EntityRef, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Link,
    Resource, ResourceSpans, ScopeSpans, Span, Status, Value,
};
use crate::id::to_hex;

/// Writes a request as one line without a line break.
#[expect(
    clippy::expect_used,
    reason = "memory takes every write, and all keys are text"
)]
pub fn encode(request: &ExportTraceServiceRequest) -> String {
    serde_json::to_string(&Message(request)).expect("JSON into memory")
}

/// A span in the form of OTLP.
pub fn span_to_json(span: &Span) -> serde_json::Value {
    to_value(&Message(span))
}

/// Attributes in the form of OTLP, an array of keys and values.
pub fn attributes_to_json(attributes: &[KeyValue]) -> serde_json::Value {
    to_value(&List(attributes))
}

#[expect(
    clippy::expect_used,
    reason = "memory takes every write, and all keys are text"
)]
fn to_value(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("JSON into memory")
}

/// A message of the model that can be written as JSON.
trait ToJson {
    /// Writes it.
    fn to_json<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// Gives a message of the model serde's own trait.
struct Message<'a, T>(&'a T);

impl<T: ToJson> Serialize for Message<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_json(serializer)
    }
}

/// Messages of the model in an array.
struct List<'a, T>(&'a [T]);

impl<T: ToJson> Serialize for List<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Message))
    }
}

/// An object that leaves out what has its default value.
struct Object<S: Serializer>(S::SerializeMap);

impl<S: Serializer> Object<S> {
    fn new(serializer: S) -> Result<Self, S::Error> {
        serializer.serialize_map(None).map(Self)
    }

    fn text(&mut self, key: &str, text: &str) -> Result<(), S::Error> {
        if text.is_empty() {
            Ok(())
        } else {
            self.0.serialize_entry(key, text)
        }
    }

    fn texts(&mut self, key: &str, texts: &[String]) -> Result<(), S::Error> {
        if texts.is_empty() {
            Ok(())
        } else {
            self.0.serialize_entry(key, texts)
        }
    }

    fn id(&mut self, key: &str, id: &[u8]) -> Result<(), S::Error> {
        self.text(key, &to_hex(id))
    }

    fn integer<T: Serialize + Default + PartialEq>(
        &mut self,
        key: &str,
        number: T,
    ) -> Result<(), S::Error> {
        if number == T::default() {
            Ok(())
        } else {
            self.0.serialize_entry(key, &number)
        }
    }

    fn time(&mut self, key: &str, time_ns: u64) -> Result<(), S::Error> {
        if time_ns == 0 {
            Ok(())
        } else {
            self.0.serialize_entry(key, &time_ns.to_string())
        }
    }

    fn list<T: ToJson>(&mut self, key: &str, list: &[T]) -> Result<(), S::Error> {
        if list.is_empty() {
            Ok(())
        } else {
            self.0.serialize_entry(key, &List(list))
        }
    }

    fn message<T: ToJson>(&mut self, key: &str, message: Option<&T>) -> Result<(), S::Error> {
        message.map_or(Ok(()), |message| {
            self.0.serialize_entry(key, &Message(message))
        })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

/// Implements [`ToJson`] for messages; each field is written by the named
/// method of [`Object`].
macro_rules! to_json {
    ($($message:ty { $($method:ident $key:literal $field:ident,)+ })+) => {$(
        impl ToJson for $message {
            fn to_json<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut object = Object::<S>::new(serializer)?;
                $(to_json!(object $method $key (self.$field));)+
                object.end()
            }
        }
    )+};
    ($object:ident integer $key:literal ($value:expr)) => { $object.integer($key, $value)? };
    ($object:ident time $key:literal ($value:expr)) => { $object.time($key, $value)? };
    ($object:ident message $key:literal ($value:expr)) => { $object.message($key, $value.as_ref())? };
    ($object:ident $method:ident $key:literal ($value:expr)) => { $object.$method($key, &$value)? };
}

to_json! {
    ExportTraceServiceRequest {
        list "resourceSpans" resource_spans,
    }
    ResourceSpans {
        message "resource" resource,
        list "scopeSpans" scope_spans,
        text "schemaUrl" schema_url,
    }
    ScopeSpans {
        message "scope" scope,
        list "spans" spans,
        text "schemaUrl" schema_url,
    }
    Resource {
        list "attributes" attributes,
        integer "droppedAttributesCount" dropped_attributes_count,
        list "entityRefs" entity_refs,
    }
    EntityRef {
        text "schemaUrl" schema_url,
        text "type" r#type,
        texts "idKeys" id_keys,
        texts "descriptionKeys" description_keys,
    }
    InstrumentationScope {
        text "name" name,
        text "version" version,
        list "attributes" attributes,
        integer "droppedAttributesCount" dropped_attributes_count,
    }
    Span {
        id "traceId" trace_id,
        id "spanId" span_id,
        text "traceState" trace_state,
        id "parentSpanId" parent_span_id,
        integer "flags" flags,
        text "name" name,
        integer "kind" kind,
        time "startTimeUnixNano" start_time_unix_nano,
        time "endTimeUnixNano" end_time_unix_nano,
        list "attributes" attributes,
        integer "droppedAttributesCount" dropped_attributes_count,
        list "events" events,
        integer "droppedEventsCount" dropped_events_count,
        list "links" links,
        integer "droppedLinksCount" dropped_links_count,
        message "status" status,
    }
    Event {
        time "timeUnixNano" time_unix_nano,
        text "name" name,
        list "attributes" attributes,
        integer "droppedAttributesCount" dropped_attributes_count,
    }
    Link {
        id "traceId" trace_id,
        id "spanId" span_id,
        text "traceState" trace_state,
        list "attributes" attributes,
        integer "droppedAttributesCount" dropped_attributes_count,
        integer "flags" flags,
    }
    Status {
        text "message" message,
        integer "code" code,
    }
    KeyValue {
        text "key" key,
        message "value" value,
        integer "keyStrindex" key_strindex,
    }
}

impl ToJson for AnyValue {
    fn to_json<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.value {
            None => {}
            Some(Value::StringValue(text)) => map.serialize_entry("stringValue", text)?,
            Some(Value::BoolValue(truth)) => map.serialize_entry("boolValue", truth)?,
            Some(Value::IntValue(number)) => {
                map.serialize_entry("intValue", &number.to_string())?;
            }
            Some(Value::DoubleValue(number)) if number.is_finite() => {
                map.serialize_entry("doubleValue", number)?;
            }
            Some(Value::DoubleValue(number)) => {
                map.serialize_entry("doubleValue", not_finite(*number))?;
            }
            Some(Value::ArrayValue(array)) => {
                map.serialize_entry("arrayValue", &Values(&array.values))?;
            }
            Some(Value::KvlistValue(list)) => {
                map.serialize_entry("kvlistValue", &Values(&list.values))?;
            }
            Some(Value::BytesValue(bytes)) => {
                map.serialize_entry("bytesValue", &STANDARD.encode(bytes))?;
            }
            Some(Value::StringValueStrindex(index)) => {
                map.serialize_entry("stringValueStrindex", index)?;
            }
        }
        map.end()
    }
}

/// The values of an array or of a key-value list.
struct Values<'a, T>(&'a [T]);

impl<T: ToJson> Serialize for Values<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = Object::<S>::new(serializer)?;
        object.list("values", self.0)?;
        object.end()
    }
}
