//! Events of spans in their OTLP encoding, read without decoding the values of their attributes.

use super::attribute::{SPAN_FIELD, any_text, entries};
use crate::wire::{Fields, Payload, put_varint};

/// The field of `Span` that holds its events.
const EVENT_FIELD: u32 = 11;
/// The fields of `Event`.
const TIME_FIELD: u32 = 1;
const NAME_FIELD: u32 = 2;
const ATTRIBUTES_FIELD: u32 = 3;

/// An encoded event.
#[derive(Debug, Clone, Copy)]
pub struct EncodedEvent<'a>(&'a [u8]);

/// The events in the encoded events of a span, in their order.
pub fn events(message: &[u8]) -> impl Iterator<Item = EncodedEvent<'_>> {
    entries(message, EVENT_FIELD).map(EncodedEvent)
}

impl<'a> EncodedEvent<'a> {
    /// Its name; an event without one has an empty text.
    pub fn name(self) -> &'a str {
        let name = Fields(self.0).find_map(|(number, payload)| match payload {
            Payload::Bytes(name) if number == NAME_FIELD => std::str::from_utf8(name).ok(),
            _ => None,
        });
        name.unwrap_or_default()
    }

    /// When it was, ns since 1970; none when it does not say so, or beyond 2262.
    pub fn time(self) -> Option<i64> {
        let mut fields = Fields(self.0);
        loop {
            let before = fields.0;
            let (number, _) = fields.next()?;
            if number != TIME_FIELD {
                continue;
            }
            // The bytes of a fixed number are the last ones of its field.
            let (field, _) = before.split_at_checked(before.len() - fields.0.len())?;
            let nanos = u64::from_le_bytes(*field.last_chunk()?);
            return i64::try_from(nanos).ok().filter(|nanos| *nanos > 0);
        }
    }

    /// Adds its attributes to a message, as a span has them.
    pub fn put_attributes(self, message: &mut Vec<u8>) {
        for entry in entries(self.0, ATTRIBUTES_FIELD) {
            put_varint(u64::from(SPAN_FIELD << 3 | 2), message);
            put_varint(entry.len() as u64, message);
            message.extend_from_slice(entry);
        }
    }
}

/// Whether the name or a text among the attributes of an event in the encoded events of a span
/// is wanted, as by [`any_text`].
pub fn any_text_of_events(message: &[u8], is_wanted: &dyn Fn(&str) -> bool) -> bool {
    events(message).any(|event| {
        let name = event.name();
        !name.is_empty() && is_wanted(name) || any_text(event.0, ATTRIBUTES_FIELD, is_wanted)
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::{AnyValue, Event, KeyValue, Span, Value};
    use crate::span::attribute;

    #[test]
    fn events_are_read_as_they_were_encoded() {
        let code = |code| KeyValue {
            key: "code".into(),
            value: Some(AnyValue {
                value: Some(Value::IntValue(code)),
            }),
            ..KeyValue::default()
        };
        let event = |nanos, name: &str, attributes| Event {
            time_unix_nano: nanos,
            name: name.into(),
            attributes,
            dropped_attributes_count: 7,
        };
        let span = Span {
            name: "not an event's".into(),
            attributes: vec![code(1)],
            events: vec![
                event(5, "exception", vec![code(2), code(3)]),
                event(0, "", Vec::new()),
                event(u64::MAX, "late", vec![code(4)]),
            ],
            ..Span::default()
        };
        let message = span.encode_to_vec();
        let found: Vec<_> = events(&message)
            .map(|event| {
                let mut attributes = Vec::new();
                event.put_attributes(&mut attributes);
                let code = attribute::find_number(&attributes, SPAN_FIELD, "code");
                (event.name(), event.time(), code)
            })
            .collect();
        let expected = [
            ("exception", Some(5), Some(2.0)),
            ("", None, None),
            ("late", None, Some(4.0)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn garbage_has_no_events() {
        for bytes in [&[0x5a, 0xff, 0xff][..], &[0x5b], &[0xff; 12], &[0x5a, 5, 1]] {
            assert_eq!(events(bytes).count(), 0);
        }
        // A time that is no fixed number, and one that is cut off.
        for event in [&[0x08, 5][..], &[0x09, 1, 2], &[0x0a, 1, 5]] {
            let mut message = vec![0x5a, event.len() as u8];
            message.extend_from_slice(event);
            assert!(events(&message).all(|event| event.name().is_empty()));
            assert!(events(&message).all(|event| event.time().is_none()));
        }
    }
}
