//! The stored OTLP messages of a row as plain JSON.

use prost::Message;
use serde_json::{Value, json};
use spanstore_format::id::to_hex;
use spanstore_format::month::rfc3339;
use spanstore_format::otlp::json::attributes_to_plain_json as object;
use spanstore_format::otlp::{Event, InstrumentationScope, Link, Resource, Span};
use spanstore_format::span::SpanColumn;

/// Which message a column of bytes holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Span`, of which only the attributes are set: an object.
    Attributes,
    /// `Resource`: an object.
    Resource,
    /// `Span`, events only: an array of `name`, `time`, `attributes`.
    Events,
    /// `Span`, links only: an array of `trace_id`, `span_id`, `trace_state`, `attributes`.
    Links,
    /// `InstrumentationScope`: an object of `name`, `version`, `attributes`.
    Scope,
}

impl Kind {
    /// The message in the column of this name.
    pub(crate) fn of_column(name: &str) -> Option<Self> {
        match SpanColumn::of_name(name)? {
            SpanColumn::Attributes => Some(Self::Attributes),
            SpanColumn::ResourceAttributes => Some(Self::Resource),
            SpanColumn::Events => Some(Self::Events),
            SpanColumn::Links => Some(Self::Links),
            SpanColumn::Scope => Some(Self::Scope),
            _ => None,
        }
    }

    /// What the message says; nothing when the bytes are no such message.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Self::Attributes => object(&Span::decode(bytes).ok()?.attributes),
            Self::Resource => object(&Resource::decode(bytes).ok()?.attributes),
            Self::Events => {
                let events = Span::decode(bytes).ok()?.events;
                let event = |event: &Event| {
                    json!({
                        "name": event.name,
                        "time": rfc3339(event.time_unix_nano.cast_signed()),
                        "attributes": object(&event.attributes),
                    })
                };
                events.iter().map(event).collect()
            }
            Self::Links => {
                let links = Span::decode(bytes).ok()?.links;
                let link = |link: &Link| {
                    json!({
                        "trace_id": to_hex(&link.trace_id),
                        "span_id": to_hex(&link.span_id),
                        "trace_state": link.trace_state,
                        "attributes": object(&link.attributes),
                    })
                };
                links.iter().map(link).collect()
            }
            Self::Scope => {
                let scope = InstrumentationScope::decode(bytes).ok()?;
                json!({
                    "name": scope.name,
                    "version": scope.version,
                    "attributes": object(&scope.attributes),
                })
            }
        })
    }
}
