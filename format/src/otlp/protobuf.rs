//! OTLP protobuf.

use prost::Message;

use super::{ExportTraceServiceRequest, OtlpError};

/// Reads a request. Concatenated requests read as one.
///
/// # Errors
/// [`OtlpError::Protobuf`] for bytes that are not one, and for values nested
/// deeper than 100 messages.
pub fn decode(bytes: &[u8]) -> Result<ExportTraceServiceRequest, OtlpError> {
    ExportTraceServiceRequest::decode(bytes).map_err(|error| OtlpError::Protobuf {
        message: error.to_string(),
    })
}

/// Writes a request.
pub fn encode(request: &ExportTraceServiceRequest) -> Vec<u8> {
    request.encode_to_vec()
}
