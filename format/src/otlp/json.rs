//! Requests as JSON.
//!
//! What is written is the official mapping of OTLP: keys in lowerCamelCase, ids
//! in lower-case hexadecimal, enumerations as integers, 64-bit integers as
//! decimal text, bytes in base64, and fields with their default value left out.
//!
//! What is read is more, since exporters differ:
//!
//! - Keys may be in snake_case. `null` is an absent field. Unknown keys are
//!   ignored. A key that occurs twice is an error.
//! - Numbers may be text and the other way round, for integers of every width.
//! - Enumerations may be names, with or without their prefix, in either case.
//! - Ids are hexadecimal of either case, or base64. Hexadecimal of the wrong
//!   length is kept, so that one wrong span is refused later and not its whole
//!   document here. Text that is neither reads as an empty id, which is refused
//!   as well; for a parent's id, where empty means none, it reads as one zero
//!   byte instead.
//! - `instrumentationLibrarySpans`, the name of `scopeSpans` until 2022, is read
//!   as these.
//! - An attribute without `value` and one with the empty value `{}` are
//!   different things, in protobuf too, and stay different.

pub use super::json_any_value::any_value_to_plain_json;
pub use super::json_encode::{attributes_to_json, encode, span_to_json};
use super::nesting::{MAX_VALUE_NESTING, check_nesting};
use super::{ExportTraceServiceRequest, OtlpError, json_decode};

/// What a JSON document of OTLP holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Spans; none when the document is `{}`.
    Traces(ExportTraceServiceRequest),
    /// No spans, but `metrics` or `logs`.
    Other(&'static str),
}

/// Reads one document.
///
/// # Errors
/// [`OtlpError::Json`] when the text is not JSON, not UTF-8, or not of the
/// shape of OTLP; [`OtlpError::TooDeep`] when attribute values nest deeper than
/// [`MAX_VALUE_NESTING`].
pub fn decode(text: &[u8]) -> Result<Document, OtlpError> {
    let document = json_decode::document(text).map_err(|error| {
        let message = error.to_string();
        // Only attribute values hold themselves; see `protobuf::decode`.
        if message.starts_with("recursion limit exceeded") {
            return OtlpError::TooDeep {
                limit: MAX_VALUE_NESTING,
            };
        }
        let message = match message.rsplit_once(" at line ") {
            Some((message, _)) => message.to_owned(),
            None => message,
        };
        OtlpError::Json {
            line: error.line() as u64,
            column: error.column() as u64,
            message,
        }
    })?;
    if let Document::Traces(request) = &document {
        check_nesting(request)?;
    }
    Ok(document)
}
