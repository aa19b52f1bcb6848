//! OTLP JSON: the official mapping on output, a tolerant one on input.
//!
//! Beside what the specification says, input may have: ids in upper case or in
//! base64, enums by name (`SPAN_KIND_SERVER`, `server`) or as texts of numbers,
//! numbers where texts of numbers belong and the other way round, snake_case
//! keys, `null` for what is absent, unknown fields, and the old names
//! `instrumentationLibrarySpans` and `instrumentationLibrary`. An id that is
//! neither hexadecimal nor base64 reads as an empty one, so that its span alone
//! is refused.

mod decode;
mod encode;
mod scalar;

use super::{AnyValue, ExportTraceServiceRequest, OtlpError, Value};

pub use encode::{encode, encode_attributes, encode_span};

/// What a JSON document holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Traces.
    Traces(ExportTraceServiceRequest),
    /// Something else that the collector exports: `metrics`, `logs` or `profiles`.
    Other(&'static str),
}

/// Reads one document.
///
/// # Errors
/// [`OtlpError::Json`] says where the text is not OTLP JSON.
pub fn decode(text: &[u8]) -> Result<Document, OtlpError> {
    decode::decode(text)
}

/// A value as plain JSON, for display: bytes as base64, an empty value as null,
/// numbers that JSON does not know as texts.
pub fn any_value_to_plain_json(value: &AnyValue) -> serde_json::Value {
    use base64::Engine;
    use serde_json::Value as Json;
    match &value.value {
        None => Json::Null,
        Some(Value::StringValue(text)) => Json::from(text.as_str()),
        Some(Value::BoolValue(truth)) => Json::from(*truth),
        Some(Value::IntValue(number)) => Json::from(*number),
        Some(Value::DoubleValue(number)) => serde_json::Number::from_f64(*number)
            .map_or_else(|| Json::from(number.to_string()), Json::Number),
        Some(Value::BytesValue(bytes)) => {
            Json::from(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Some(Value::ArrayValue(array)) => {
            array.values.iter().map(any_value_to_plain_json).collect()
        }
        Some(Value::KvlistValue(list)) => {
            let entry = |entry: &super::KeyValue| {
                let value = entry
                    .value
                    .as_ref()
                    .map_or(Json::Null, any_value_to_plain_json);
                (entry.key.clone(), value)
            };
            Json::Object(list.values.iter().map(entry).collect())
        }
        Some(Value::StringValueStrindex(index)) => Json::from(*index),
    }
}
