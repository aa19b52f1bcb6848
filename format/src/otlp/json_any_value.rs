//! Attribute values in JSON.

use std::cell::Cell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::json_decode::{FromJson, list};
use super::json_scalar::{Double, beginning, bytes, integer};
use super::{AnyValue, ArrayValue, KeyValue, KeyValueList, MAX_VALUE_NESTING, Value};

impl FromJson for AnyValue {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyValueVisitor)
    }

    /// An element of an array keeps its place.
    fn from_null() -> Option<Self> {
        Some(Self::default())
    }
}

/// The key in an attribute value says of which type it is.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    #[serde(alias = "string_value")]
    StringValue,
    #[serde(alias = "bool_value")]
    BoolValue,
    #[serde(alias = "int_value")]
    IntValue,
    #[serde(alias = "double_value")]
    DoubleValue,
    #[serde(alias = "array_value")]
    ArrayValue,
    #[serde(alias = "kvlist_value")]
    KvlistValue,
    #[serde(alias = "bytes_value")]
    BytesValue,
    #[serde(alias = "string_value_strindex")]
    StringValueStrindex,
    #[serde(other)]
    Unknown,
}

struct AnyValueVisitor;

impl<'de> Visitor<'de> for AnyValueVisitor {
    type Value = AnyValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value, an object such as {\"stringValue\":\"…\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key()? {
            let value = match key {
                Key::StringValue => map.next_value::<Option<_>>()?.map(Value::StringValue),
                Key::BoolValue => map.next_value::<Option<_>>()?.map(Value::BoolValue),
                Key::IntValue => map
                    .next_value::<Option<Int<i64>>>()?
                    .map(|int| Value::IntValue(int.0)),
                Key::DoubleValue => map
                    .next_value::<Option<Double>>()?
                    .map(|double| Value::DoubleValue(double.0)),
                Key::ArrayValue => {
                    values(&mut map)?.map(|values| Value::ArrayValue(ArrayValue { values }))
                }
                Key::KvlistValue => {
                    values(&mut map)?.map(|values| Value::KvlistValue(KeyValueList { values }))
                }
                Key::BytesValue => map
                    .next_value::<Option<Bytes>>()?
                    .map(|bytes| Value::BytesValue(bytes.0)),
                Key::StringValueStrindex => map
                    .next_value::<Option<Int<i32>>>()?
                    .map(|index| Value::StringValueStrindex(index.0)),
                Key::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
            };
            if value.is_some() && std::mem::replace(&mut found, value).is_some() {
                return Err(A::Error::custom(
                    "expected one attribute value, found two in one object",
                ));
            }
        }
        Ok(AnyValue { value: found })
    }
}

thread_local! {
    /// Arrays and key-value lists that this thread reads at the moment, each in the
    /// one before.
    static OPEN_CONTAINERS: Cell<usize> = const { Cell::new(0) };
}

/// The values of an array or list; none of those that nest too deep, so that the
/// value is one level deeper than it may be and no more.
fn values<'de, A: MapAccess<'de>, T: FromJson>(map: &mut A) -> Result<Option<Vec<T>>, A::Error> {
    let open = OPEN_CONTAINERS.get();
    if open >= MAX_VALUE_NESTING {
        let skipped = map.next_value::<Option<IgnoredAny>>()?;
        return Ok(skipped.map(|_| Vec::new()));
    }
    OPEN_CONTAINERS.set(open + 1);
    let values = map.next_value::<Option<Values<T>>>();
    OPEN_CONTAINERS.set(open);
    Ok(values?.map(|values| values.values))
}

/// An integer of the model.
#[derive(Deserialize)]
#[serde(transparent, bound = "T: super::json_scalar::Integer")]
struct Int<T>(#[serde(deserialize_with = "integer")] T);

/// What an array and a key-value list are in JSON.
#[derive(Deserialize)]
#[serde(bound = "T: FromJson", expecting = "an object with values")]
struct Values<T> {
    #[serde(default, deserialize_with = "list")]
    values: Vec<T>,
}

/// Bytes in base64.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                bytes(text)
                    .map(Bytes)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(beginning(text)), &self))
            }
        }

        deserializer.deserialize_str(BytesVisitor)
    }
}

/// An attribute value as a person would write it in JSON, for display: text,
/// truth, number, array or object. Bytes are base64, what is not finite is text,
/// an empty value is `null`. Of equal keys in a list the first counts.
pub fn any_value_to_plain_json(value: &AnyValue) -> serde_json::Value {
    use serde_json::Value as Json;
    match &value.value {
        None => Json::Null,
        Some(Value::StringValue(text)) => Json::from(text.as_str()),
        Some(Value::BoolValue(truth)) => Json::from(*truth),
        Some(Value::IntValue(number)) => Json::from(*number),
        Some(Value::DoubleValue(number)) if number.is_finite() => Json::from(*number),
        Some(Value::DoubleValue(number)) => Json::from(not_finite(*number)),
        Some(Value::BytesValue(bytes)) => Json::from(STANDARD.encode(bytes)),
        Some(Value::StringValueStrindex(index)) => Json::from(*index),
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(any_value_to_plain_json).collect()
        }
        Some(Value::KvlistValue(list)) => attributes_to_plain_json(&list.values),
    }
}

/// Attributes as an object of [`any_value_to_plain_json`]; of equal keys the first
/// counts.
pub fn attributes_to_plain_json(attributes: &[KeyValue]) -> serde_json::Value {
    use serde_json::Value as Json;
    let mut object = serde_json::Map::with_capacity(attributes.len());
    for attribute in attributes {
        object.entry(attribute.key.as_str()).or_insert_with(|| {
            let value = attribute.value.as_ref();
            value.map_or(Json::Null, any_value_to_plain_json)
        });
    }
    Json::Object(object)
}

/// What JSON has no number for, in the words of the protobuf mapping.
pub(super) fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}
