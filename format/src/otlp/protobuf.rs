//! Requests as protobuf.

use prost::Message;

use super::nesting::{MAX_VALUE_NESTING, check_nesting};
use super::{ExportTraceServiceRequest, OtlpError};

/// Reads a request.
///
/// Requests one after the other read as one request with the content of all,
/// since that is what concatenation means in protobuf. No bytes are an empty
/// request.
///
/// # Errors
/// [`OtlpError::Protobuf`] when the bytes are cut off, hold a field of another
/// wire type, or hold text that is not UTF-8; [`OtlpError::TooDeep`] when
/// attribute values nest deeper than [`MAX_VALUE_NESTING`].
pub fn decode(bytes: &[u8]) -> Result<ExportTraceServiceRequest, OtlpError> {
    let request = ExportTraceServiceRequest::decode(bytes).map_err(|error| {
        let message = error.to_string();
        // Of the messages of OTLP only attribute values hold themselves, so
        // they, or groups in unknown fields, are what reached prost's own limit.
        if message.ends_with("recursion limit reached") {
            return OtlpError::TooDeep {
                limit: MAX_VALUE_NESTING,
            };
        }
        let detail = message.strip_prefix("failed to decode Protobuf message: ");
        OtlpError::Protobuf {
            message: detail.unwrap_or(&message).to_owned(),
        }
    })?;
    check_nesting(&request)?;
    Ok(request)
}

/// Writes a request.
pub fn encode(request: &ExportTraceServiceRequest) -> Vec<u8> {
    request.encode_to_vec()
}
