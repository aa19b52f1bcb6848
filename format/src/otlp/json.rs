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
//!   document here. Text that is neither reads as one zero byte, which is refused
//!   as well.
//! - An integer with a point or an exponent is read if it is exact: as text always,
//!   as a number up to 2^53. Beyond, and where it is no integer, it is an error.
//! - Attribute values that nest deeper than [`MAX_VALUE_NESTING`] are read down to
//!   one level more, so that their span is refused later for its depth.
//! - `instrumentationLibrarySpans`, the name of `scopeSpans` until 2022, is read
//!   as these.
//! - An attribute without `value` and one with the empty value `{}` are
//!   different things, in protobuf too, and stay different.

#[cfg(doc)]
use super::MAX_VALUE_NESTING;
pub use super::json_any_value::{any_value_to_plain_json, attributes_to_plain_json};
pub use super::json_encode::{attributes_to_json, encode, span_to_json};
use super::{ExportTraceServiceRequest, Measured, OtlpError, json_decode, json_stream};

/// What a JSON document of OTLP holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Spans; none when the document is `{}`.
    Traces(ExportTraceServiceRequest),
    /// No spans, but `metrics` or `logs`.
    Other(&'static str),
}

/// Reads one document. What it allocates, [`Measured`] says before.
///
/// # Errors
/// [`OtlpError::Json`] when the text is not JSON, not UTF-8, or not of the
/// shape of OTLP.
pub fn decode(text: &[u8]) -> Result<Document, OtlpError> {
    json_decode::document(text).map_err(error)
}

/// Reads one document into protobuf, span by span, so that no more than one is
/// decoded at a time; none when it has no spans but metrics or logs. What was
/// [counted](Measured::of_json) says how much room it needs.
///
/// # Errors
/// As [`decode`].
pub fn to_protobuf(text: &[u8], measured: &Measured) -> Result<Option<Vec<u8>>, OtlpError> {
    let room = usize::try_from(measured.most_encoded_bytes(text.len())).unwrap_or(text.len());
    let (document, mut written) =
        json_stream::written_to(Vec::with_capacity(room), || json_decode::document(text));
    match document.map_err(error)? {
        Document::Traces(_) => {
            written.shrink_to_fit();
            Ok(Some(written))
        }
        Document::Other(_) => Ok(None),
    }
}

fn error(error: serde_json::Error) -> OtlpError {
    let message = error.to_string();
    let message = match message.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => message,
    };
    OtlpError::Json {
        line: error.line() as u64,
        column: error.column() as u64,
        message,
    }
}
