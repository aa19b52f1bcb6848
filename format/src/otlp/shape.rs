//! The messages of OTLP traces and their fields, as a table.
//!
//! Whoever looks at a body before it is decoded reads this table: by number in
//! protobuf, by name in JSON.

use super::{
    AnyValue, EntityRef, Event, InstrumentationScope, KeyValue, Link, Resource, ResourceSpans,
    ScopeSpans, Span, Status,
};

/// A message of OTLP traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    ResourceSpans,
    ScopeSpans,
    Resource,
    EntityRef,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// One message.
    Message(Kind),
    /// A list of messages.
    Messages(Kind),
    /// One text.
    Text,
    /// A list of texts.
    Texts,
    /// Bytes; text in JSON.
    Bytes,
    /// A number of variable length on the wire.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
}

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Its number on the wire; 0 for a name that only JSON knows.
    pub(super) number: u32,
    /// Its name in JSON.
    pub(super) name: &'static str,
    pub(super) holds: Holds,
}

const fn field(number: u32, name: &'static str, holds: Holds) -> Field {
    Field {
        number,
        name,
        holds,
    }
}

const REQUEST: &[Field] = &[field(
    1,
    "resourceSpans",
    Holds::Messages(Kind::ResourceSpans),
)];
const RESOURCE_SPANS: &[Field] = &[
    field(1, "resource", Holds::Message(Kind::Resource)),
    field(2, "scopeSpans", Holds::Messages(Kind::ScopeSpans)),
    field(3, "schemaUrl", Holds::Text),
    field(
        0,
        "instrumentationLibrarySpans",
        Holds::Messages(Kind::ScopeSpans),
    ),
];
const SCOPE_SPANS: &[Field] = &[
    field(2, "spans", Holds::Messages(Kind::Span)),
    field(1, "scope", Holds::Message(Kind::Scope)),
    field(3, "schemaUrl", Holds::Text),
    field(0, "instrumentationLibrary", Holds::Message(Kind::Scope)),
];
const RESOURCE: &[Field] = &[
    field(1, "attributes", Holds::Messages(Kind::KeyValue)),
    field(2, "droppedAttributesCount", Holds::Varint),
    field(3, "entityRefs", Holds::Messages(Kind::EntityRef)),
];
const ENTITY_REF: &[Field] = &[
    field(1, "schemaUrl", Holds::Text),
    field(2, "type", Holds::Text),
    field(3, "idKeys", Holds::Texts),
    field(4, "descriptionKeys", Holds::Texts),
];
const SCOPE: &[Field] = &[
    field(1, "name", Holds::Text),
    field(2, "version", Holds::Text),
    field(3, "attributes", Holds::Messages(Kind::KeyValue)),
    field(4, "droppedAttributesCount", Holds::Varint),
];
const SPAN: &[Field] = &[
    field(9, "attributes", Holds::Messages(Kind::KeyValue)),
    field(1, "traceId", Holds::Bytes),
    field(2, "spanId", Holds::Bytes),
    field(3, "traceState", Holds::Text),
    field(4, "parentSpanId", Holds::Bytes),
    field(5, "name", Holds::Text),
    field(6, "kind", Holds::Varint),
    field(7, "startTimeUnixNano", Holds::Fixed64),
    field(8, "endTimeUnixNano", Holds::Fixed64),
    field(10, "droppedAttributesCount", Holds::Varint),
    field(11, "events", Holds::Messages(Kind::Event)),
    field(12, "droppedEventsCount", Holds::Varint),
    field(13, "links", Holds::Messages(Kind::Link)),
    field(14, "droppedLinksCount", Holds::Varint),
    field(15, "status", Holds::Message(Kind::Status)),
    field(16, "flags", Holds::Fixed32),
];
const EVENT: &[Field] = &[
    field(1, "timeUnixNano", Holds::Fixed64),
    field(2, "name", Holds::Text),
    field(3, "attributes", Holds::Messages(Kind::KeyValue)),
    field(4, "droppedAttributesCount", Holds::Varint),
];
const LINK: &[Field] = &[
    field(1, "traceId", Holds::Bytes),
    field(2, "spanId", Holds::Bytes),
    field(3, "traceState", Holds::Text),
    field(4, "attributes", Holds::Messages(Kind::KeyValue)),
    field(5, "droppedAttributesCount", Holds::Varint),
    field(6, "flags", Holds::Fixed32),
];
const STATUS: &[Field] = &[
    field(2, "message", Holds::Text),
    field(3, "code", Holds::Varint),
];
const KEY_VALUE: &[Field] = &[
    field(1, "key", Holds::Text),
    field(2, "value", Holds::Message(Kind::AnyValue)),
    field(3, "keyStrindex", Holds::Varint),
];
const ANY_VALUE: &[Field] = &[
    field(1, "stringValue", Holds::Text),
    field(2, "boolValue", Holds::Varint),
    field(3, "intValue", Holds::Varint),
    field(4, "doubleValue", Holds::Fixed64),
    field(5, "arrayValue", Holds::Message(Kind::ArrayValue)),
    field(6, "kvlistValue", Holds::Message(Kind::KeyValueList)),
    field(7, "bytesValue", Holds::Bytes),
    field(8, "stringValueStrindex", Holds::Varint),
];
const ARRAY_VALUE: &[Field] = &[field(1, "values", Holds::Messages(Kind::AnyValue))];
const KEY_VALUE_LIST: &[Field] = &[field(1, "values", Holds::Messages(Kind::KeyValue))];

impl Kind {
    fn fields(self) -> &'static [Field] {
        match self {
            Self::Request => REQUEST,
            Self::ResourceSpans => RESOURCE_SPANS,
            Self::ScopeSpans => SCOPE_SPANS,
            Self::Resource => RESOURCE,
            Self::EntityRef => ENTITY_REF,
            Self::Scope => SCOPE,
            Self::Span => SPAN,
            Self::Event => EVENT,
            Self::Link => LINK,
            Self::Status => STATUS,
            Self::KeyValue => KEY_VALUE,
            Self::AnyValue => ANY_VALUE,
            Self::ArrayValue => ARRAY_VALUE,
            Self::KeyValueList => KEY_VALUE_LIST,
        }
    }

    /// The field of a number on the wire; none for one that OTLP does not know.
    pub(super) fn numbered(self, number: u32) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.number == number)
    }

    /// The field of a key in JSON, in either spelling. It may answer for keys
    /// that the decoder does not take, never the other way round.
    pub(super) fn named(self, key: &[u8]) -> Option<&'static Field> {
        self.fields()
            .iter()
            .find(|field| is_spelling(key, field.name))
    }

    /// Whether values lie in the message one level deeper.
    pub(super) fn is_container(self) -> bool {
        matches!(self, Self::ArrayValue | Self::KeyValueList)
    }

    /// Bytes of one element in a list of the decoded model.
    pub(super) fn element_bytes(self) -> usize {
        match self {
            Self::Request | Self::ArrayValue | Self::KeyValueList => 0,
            Self::ResourceSpans => size_of::<ResourceSpans>(),
            Self::ScopeSpans => size_of::<ScopeSpans>(),
            Self::Resource => size_of::<Resource>(),
            Self::EntityRef => size_of::<EntityRef>(),
            Self::Scope => size_of::<InstrumentationScope>(),
            Self::Span => size_of::<Span>(),
            Self::Event => size_of::<Event>(),
            Self::Link => size_of::<Link>(),
            Self::Status => size_of::<Status>(),
            Self::KeyValue => size_of::<KeyValue>(),
            Self::AnyValue => size_of::<AnyValue>(),
        }
    }

    /// The message's name, for errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "ExportTraceServiceRequest",
            Self::ResourceSpans => "ResourceSpans",
            Self::ScopeSpans => "ScopeSpans",
            Self::Resource => "Resource",
            Self::EntityRef => "EntityRef",
            Self::Scope => "InstrumentationScope",
            Self::Span => "Span",
            Self::Event => "Event",
            Self::Link => "Link",
            Self::Status => "Status",
            Self::KeyValue => "KeyValue",
            Self::AnyValue => "AnyValue",
            Self::ArrayValue => "ArrayValue",
            Self::KeyValueList => "KeyValueList",
        }
    }
}

/// Whether a key is a name in lowerCamelCase or in snake_case.
fn is_spelling(key: &[u8], name: &str) -> bool {
    let mut letters = key.iter().filter(|byte| **byte != b'_');
    name.bytes().all(|expected| {
        letters
            .next()
            .is_some_and(|found| found.eq_ignore_ascii_case(&expected))
    }) && letters.next().is_none()
}
