//! Messages that are written before their length is known.

use prost::encoding::{WireType, encode_key};

/// Bytes of a length that is written after what it counts: a varint of full groups,
/// so that its size does not depend on its value.
const LENGTH_BYTES: usize = 5;

/// Bytes of the tag and the length of a message in a field below 16.
pub(crate) const HEADER_BYTES: usize = 1 + LENGTH_BYTES;

/// Begins a message as a field, and answers where its length will stand.
pub(crate) fn begin(field: u32, out: &mut Vec<u8>) -> usize {
    encode_key(field, WireType::LengthDelimited, out);
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    at
}

/// Writes the length of the message that began there and ends here.
pub(crate) fn end(at: usize, out: &mut [u8]) {
    let length = out.len().saturating_sub(at + LENGTH_BYTES);
    let bytes = out.get_mut(at..).into_iter().flatten().take(LENGTH_BYTES);
    for (group, byte) in bytes.enumerate() {
        let more = u8::from(group + 1 < LENGTH_BYTES) << 7;
        *byte = (length >> (7 * group)) as u8 & 0x7f | more;
    }
}
