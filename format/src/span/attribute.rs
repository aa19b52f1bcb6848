//! Attribute values: their text, and finding one in an encoded message.
//!
//! Attributes are stored as they were encoded: a message whose field
//! [`SPAN_FIELD`] (of a `Span`) or [`RESOURCE_FIELD`] (of a `Resource`) repeats
//! an OTLP `KeyValue`. The functions here walk such bytes without decoding the
//! values that are not asked for. Of keys that repeat, the first counts.
//! Protobuf's wire format: <https://protobuf.dev/programming-guides/encoding/>.

use std::borrow::Cow;

use prost::Message;

use crate::otlp::{AnyValue, Value};
use crate::wire::{Fields, Payload};

/// The field of `Span` that holds its attributes.
pub const SPAN_FIELD: u32 = 9;
/// The field of `Resource` that holds its attributes.
pub const RESOURCE_FIELD: u32 = 1;

/// What a value of an attribute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// A string.
    Text,
    /// An integer of 64 bits.
    Integer,
    /// A double.
    Double,
    /// A boolean.
    Boolean,
    /// An array of values.
    List,
    /// Keys with values.
    Map,
    /// Bytes.
    Bytes,
    /// No value.
    Empty,
}

impl ValueType {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::List => "list",
            Self::Map => "map",
            Self::Bytes => "bytes",
            Self::Empty => "empty",
        }
    }

    /// That of an encoded value.
    fn of(value: &[u8]) -> Self {
        match Fields(value).next() {
            Some((2, _)) => Self::Boolean,
            Some((3, _)) => Self::Integer,
            Some((4, _)) => Self::Double,
            Some((5, _)) => Self::List,
            Some((6, _)) => Self::Map,
            Some((7, _)) => Self::Bytes,
            Some(_) => Self::Text,
            None => Self::Empty,
        }
    }
}

/// The keys of the attributes in an encoded message in their order, and what their values
/// are. A key may come twice.
pub fn keys(message: &[u8], field: u32) -> impl Iterator<Item = (&str, ValueType)> {
    entries(message, field).filter_map(|entry| {
        // Protobuf leaves out an empty text, and an empty message.
        let key = std::str::from_utf8(key_of(entry).unwrap_or_default()).ok()?;
        Some((key, ValueType::of(value_of(entry).unwrap_or_default())))
    })
}

/// The text of a value: a string as it is, numbers in decimal, bytes in
/// base64, arrays and key-value lists as JSON; nothing for an empty value.
pub fn text(value: &AnyValue) -> Option<Cow<'_, str>> {
    Some(match value.value.as_ref()? {
        Value::StringValue(text) => Cow::Borrowed(text),
        Value::BoolValue(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        Value::IntValue(number) => Cow::Owned(number.to_string()),
        Value::DoubleValue(number) => Cow::Owned(number.to_string()),
        Value::StringValueStrindex(index) => Cow::Owned(index.to_string()),
        Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_) => {
            match crate::otlp::json::any_value_to_plain_json(value) {
                serde_json::Value::String(text) => Cow::Owned(text),
                other => Cow::Owned(other.to_string()),
            }
        }
    })
}

/// The number of a value: of an integer, of a double, and of a text that reads
/// as one.
pub fn number(value: &AnyValue) -> Option<f64> {
    match value.value.as_ref()? {
        Value::IntValue(number) => Some(*number as f64),
        Value::DoubleValue(number) => Some(comparable(*number)),
        Value::StringValue(text) => number_of_text(text),
        _ => None,
    }
}

/// The number of a text that reads as one.
pub fn number_of_text(text: &str) -> Option<f64> {
    text.trim().parse().ok().map(comparable)
}

/// The number so that equal ones have equal bits, as comparisons of columns want it: a zero is
/// positive, and so is what is no number.
pub fn comparable(number: f64) -> f64 {
    if number.is_nan() {
        f64::NAN
    } else {
        number + 0.0
    }
}

/// The text of the attribute `key` in an encoded message.
pub fn find_text<'a>(message: &'a [u8], field: u32, key: &str) -> Option<Cow<'a, str>> {
    let value = find(message, field, key)?;
    // The common case, a string, is borrowed from the message.
    if let Some((1, Payload::Bytes(text))) = Fields(value).next() {
        return std::str::from_utf8(text).ok().map(Cow::Borrowed);
    }
    let value = AnyValue::decode(value).ok()?;
    text(&value).map(|text| Cow::Owned(text.into_owned()))
}

/// The number of the attribute `key` in an encoded message.
pub fn find_number(message: &[u8], field: u32, key: &str) -> Option<f64> {
    number(&AnyValue::decode(find(message, field, key)?).ok()?)
}

/// Whether an encoded message has the attribute `key`, with a value or without.
pub fn has(message: &[u8], field: u32, key: &str) -> bool {
    entries(message, field).any(|entry| is_key(entry, key))
}

/// Whether a text among the values of attributes in an encoded message is wanted: of strings
/// within lists too, and of numbers and booleans as [`text`] has it.
pub fn any_text(message: &[u8], field: u32, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    entries(message, field).any(|entry| {
        value_of(entry).is_some_and(|value| match Fields(value).next() {
            // The common case, a string, is not copied.
            Some((1, Payload::Bytes(text))) => std::str::from_utf8(text).is_ok_and(is_wanted),
            _ => AnyValue::decode(value).is_ok_and(|value| any_text_of(&value, is_wanted)),
        })
    })
}

/// Messages nest no deeper than protobuf's decoder allows.
fn any_text_of(value: &AnyValue, is_wanted: &dyn Fn(&str) -> bool) -> bool {
    match &value.value {
        None | Some(Value::BytesValue(_)) => false,
        Some(Value::ArrayValue(list)) => {
            let mut values = list.values.iter();
            values.any(|value| any_text_of(value, is_wanted))
        }
        Some(Value::KvlistValue(list)) => {
            let mut values = list.values.iter().filter_map(|one| one.value.as_ref());
            values.any(|value| any_text_of(value, is_wanted))
        }
        Some(_) => text(value).is_some_and(|text| is_wanted(&text)),
    }
}

/// The encoded value of the attribute `key`.
fn find<'a>(message: &'a [u8], field: u32, key: &str) -> Option<&'a [u8]> {
    value_of(entries(message, field).find(|entry| is_key(entry, key))?)
}

/// The encoded value of an encoded attribute.
fn value_of(entry: &[u8]) -> Option<&[u8]> {
    Fields(entry).find_map(|(number, payload)| match payload {
        Payload::Bytes(value) if number == 2 => Some(value),
        _ => None,
    })
}

/// The fields of this number in a message, such as its attributes.
pub(super) fn entries(message: &[u8], field: u32) -> impl Iterator<Item = &[u8]> {
    Fields(message).filter_map(move |(number, payload)| match payload {
        Payload::Bytes(entry) if number == field => Some(entry),
        _ => None,
    })
}

/// The encoded attributes of a message: the attribute itself, and the same with
/// its tag and length before it.
pub(crate) fn entries_with_tags(
    message: &[u8],
    field: u32,
) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut fields = Fields(message);
    std::iter::from_fn(move || {
        loop {
            let before = fields.0;
            let (number, payload) = fields.next()?;
            if let (Payload::Bytes(entry), true) = (payload, number == field) {
                let whole = before.get(..before.len() - fields.0.len())?;
                return Some((entry, whole));
            }
        }
    })
}

fn is_key(entry: &[u8], key: &str) -> bool {
    // Protobuf leaves out an empty text.
    key_of(entry).unwrap_or_default() == key.as_bytes()
}

/// The key of an encoded attribute.
pub(crate) fn key_of(entry: &[u8]) -> Option<&[u8]> {
    Fields(entry).find_map(|(number, payload)| match payload {
        Payload::Bytes(found) if number == 1 => Some(found),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{ArrayValue, KeyValue, KeyValueList, Resource, Span};

    fn attributes() -> Vec<KeyValue> {
        let attribute = |key: &str, value| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value }),
            ..KeyValue::default()
        };
        vec![
            attribute("a", Some(Value::StringValue("x".into()))),
            attribute("n", Some(Value::IntValue(-7))),
            attribute("d", Some(Value::DoubleValue(1.5))),
            attribute("t", Some(Value::BoolValue(true))),
            attribute("s", Some(Value::StringValue("200".into()))),
            attribute("", Some(Value::StringValue("no key".into()))),
            attribute("empty", None),
            attribute("a", Some(Value::StringValue("second".into()))),
            attribute(
                "list",
                Some(Value::ArrayValue(ArrayValue {
                    values: vec![AnyValue {
                        value: Some(Value::IntValue(1)),
                    }],
                })),
            ),
        ]
    }

    #[test]
    fn finds_values_in_spans_and_resources() {
        let span = Span {
            name: "n".into(),
            flags: 7,
            attributes: attributes(),
            ..Span::default()
        };
        let resource = Resource {
            attributes: attributes(),
            ..Resource::default()
        };
        for (bytes, field) in [
            (span.encode_to_vec(), SPAN_FIELD),
            (resource.encode_to_vec(), RESOURCE_FIELD),
        ] {
            let text = |key| find_text(&bytes, field, key).map(Cow::into_owned);
            assert_eq!(text("a").as_deref(), Some("x"));
            assert_eq!(text("n").as_deref(), Some("-7"));
            assert_eq!(text("t").as_deref(), Some("true"));
            assert_eq!(text("").as_deref(), Some("no key"));
            assert_eq!(text("list").as_deref(), Some("[1]"));
            assert_eq!(text("empty"), None);
            assert_eq!(text("absent"), None);
            assert!(has(&bytes, field, "empty") && !has(&bytes, field, "absent"));
            assert_eq!(find_number(&bytes, field, "n"), Some(-7.0));
            assert_eq!(find_number(&bytes, field, "s"), Some(200.0));
            assert_eq!(find_number(&bytes, field, "a"), None);
            assert_eq!(find_number(&bytes, field, "t"), None);
        }
    }

    #[test]
    fn numbers_that_are_equal_have_equal_bits() {
        for (text, expected) in [
            (" 2.5e2\n", Some(250.0)),
            ("-0", Some(0.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("-NaN", Some(f64::NAN)),
            ("+7", Some(7.0)),
            ("7 s", None),
            ("0x7", None),
            ("", None),
        ] {
            let found = number_of_text(text);
            assert_eq!(
                found.map(f64::to_bits),
                expected.map(f64::to_bits),
                "{text}"
            );
        }
        let double = |number| AnyValue {
            value: Some(Value::DoubleValue(number)),
        };
        let bits = |value| number(&value).map(f64::to_bits);
        assert_eq!(bits(double(-0.0)), Some(0));
        assert_eq!(bits(double(-f64::NAN)), Some(f64::NAN.to_bits()));
    }

    #[test]
    fn keys_come_with_the_types_of_their_values() {
        let span = Span {
            name: "n".into(),
            attributes: attributes(),
            ..Span::default()
        };
        let bytes = span.encode_to_vec();
        let found: Vec<(&str, ValueType)> = keys(&bytes, SPAN_FIELD).collect();
        let expected = [
            ("a", ValueType::Text),
            ("n", ValueType::Integer),
            ("d", ValueType::Double),
            ("t", ValueType::Boolean),
            ("s", ValueType::Text),
            ("", ValueType::Text),
            ("empty", ValueType::Empty),
            ("a", ValueType::Text),
            ("list", ValueType::List),
        ];
        assert_eq!(found, expected);
        for (value, expected) in [
            (Value::KvlistValue(KeyValueList::default()), ValueType::Map),
            (Value::BytesValue(vec![1]), ValueType::Bytes),
            (Value::StringValue(String::new()), ValueType::Text),
            (Value::IntValue(0), ValueType::Integer),
        ] {
            let value = AnyValue { value: Some(value) };
            assert_eq!(ValueType::of(&value.encode_to_vec()), expected);
        }
    }

    #[test]
    fn garbage_finds_nothing() {
        for bytes in [&[0x4a, 0xff, 0xff][..], &[0x4b], &[0xff; 12], &[0x4a, 5, 1]] {
            assert_eq!(find_text(bytes, SPAN_FIELD, "a"), None);
            assert!(keys(bytes, SPAN_FIELD).all(|(key, _)| key.is_empty()));
            assert!(!has(bytes, SPAN_FIELD, "a"));
        }
    }
}
