//! Requests as protobuf.

use prost::Message;

use super::nesting::{MAX_VALUE_NESTING, check_nesting};
use super::{ExportTraceServiceRequest, Measured, OtlpError};

/// Reads a request.
///
/// Requests one after the other read as one request with the content of all,
/// since that is what concatenation means in protobuf. No bytes are an empty
/// request. What it allocates, [`Measured`] says before.
///
/// # Errors
/// [`OtlpError::Protobuf`] when the bytes are cut off, hold a field of another
/// wire type, or hold text that is not UTF-8; [`OtlpError::TooDeep`] when
/// attribute values nest deeper than [`MAX_VALUE_NESTING`].
pub fn decode(bytes: &[u8]) -> Result<ExportTraceServiceRequest, OtlpError> {
    let too_deep = OtlpError::TooDeep {
        limit: MAX_VALUE_NESTING,
    };
    let request = match ExportTraceServiceRequest::decode(bytes) {
        Ok(request) => request,
        // What is wrong is found again without decoding, and with the field's name.
        Err(_) if Measured::of_protobuf(bytes)?.is_too_deep => return Err(too_deep),
        Err(error) => {
            return Err(OtlpError::Protobuf {
                message: error.to_string(),
            });
        }
    };
    check_nesting(&request)?;
    Ok(request)
}

/// Writes a request.
pub fn encode(request: &ExportTraceServiceRequest) -> Vec<u8> {
    request.encode_to_vec()
}
