//! What a store remembers of recent appends, as a file that each seal writes.
//!
//! All numbers are little-endian. The file begins with 24 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | [`RECENT_MAGIC`] |
//! | 8 | 2 | [`RECENT_VERSION`] |
//! | 10 | 2 | zero |
//! | 12 | 4 | CRC32C of the other 20 bytes |
//! | 16 | 8 | the first sequence of the log whose records are not in the file |
//!
//! Blocks follow. A block is the length of its payload (u32), a CRC32C (u32) of
//! that length, the sequence of the file, the block's number from 0 on (u64) and
//! the payload, and the payload: a [`RecentBlock`]. The last block has no payload;
//! the file ends with it.

use bytes::Bytes;
use prost::Message;

use crate::error::FormatError;
use crate::log::record::ReceiptRecord;
use crate::version::{RECENT_MAGIC, RECENT_VERSION};

#[cfg(test)]
mod tests;

const PART: &str = "recent appends";
const HEADER_BYTES: usize = 24;
const BLOCK_HEADER_BYTES: usize = 8;

/// Appends of a block.
#[derive(Clone, PartialEq, Message)]
pub struct RecentBlock {
    /// The appends, oldest first.
    #[prost(message, repeated, tag = "1")]
    pub appends: Vec<RecentAppend>,
}

/// An append that is remembered: by its body, or by the key that it came with.
#[derive(Clone, PartialEq, Message)]
pub struct RecentAppend {
    /// The team.
    #[prost(string, tag = "1")]
    pub team: String,
    /// When it was accepted, ns since 1970.
    #[prost(sfixed64, tag = "2")]
    pub noted_at: i64,
    /// Hash of its content, see [`content_bytes`].
    #[prost(bytes = "bytes", tag = "3")]
    pub content: Bytes,
    /// Its idempotency key; none when it is remembered by its body.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub key: Option<Bytes>,
    /// What the caller was told.
    #[prost(message, optional, tag = "5")]
    pub receipt: Option<ReceiptRecord>,
}

/// A hash of content as it stands in records.
pub fn content_bytes(content: u128) -> Bytes {
    Bytes::copy_from_slice(&content.to_le_bytes())
}

/// The hash of content that stands in a record.
pub fn content_of(bytes: &[u8]) -> Option<u128> {
    bytes.try_into().ok().map(u128::from_le_bytes)
}

/// The first bytes of the file of a sequence.
pub fn encode_header(sequence: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&RECENT_MAGIC);
    out.extend_from_slice(&RECENT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out), &sequence.to_le_bytes());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out
}

/// A block of the file of a sequence; one without appends is the last.
///
/// # Errors
/// [`FormatError::Malformed`] for a block of 4 GiB or more.
pub fn encode_block(
    sequence: u64,
    number: u64,
    block: &RecentBlock,
) -> Result<Vec<u8>, FormatError> {
    let payload = block.encode_to_vec();
    let length = u32::try_from(payload.len()).map_err(|_| {
        let found = format!("{} bytes", payload.len());
        FormatError::malformed(PART, 0, "a block of less than 4 GiB", found)
    })?;
    let mut out = Vec::with_capacity(BLOCK_HEADER_BYTES + payload.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&block_checksum(length, sequence, number, &payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(out)
}

/// Reads the file of a sequence, and hands each append to `each`, oldest first.
///
/// # Errors
/// [`FormatError::Malformed`] and [`FormatError::Checksum`] when the file is
/// damaged: `each` may have been called by then. [`FormatError::NewerVersion`].
pub fn read(
    bytes: &[u8],
    sequence: u64,
    each: &mut dyn FnMut(RecentAppend),
) -> Result<(), FormatError> {
    read_header(bytes, sequence)?;
    let mut place = HEADER_BYTES;
    for number in 0.. {
        let at = place as u64;
        let cut = || FormatError::malformed(PART, at, "a block", "the end of the file");
        let rest = bytes.get(place..).unwrap_or_default();
        let (header, rest) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let (length, expected) = halves(*header);
        let payload = rest.get(..length as usize).ok_or_else(cut)?;
        let found = block_checksum(length, sequence, number, payload);
        if expected != found {
            return Err(FormatError::Checksum {
                part: PART,
                offset: at,
                expected,
                found,
            });
        }
        place += BLOCK_HEADER_BYTES + payload.len();
        if payload.is_empty() {
            break;
        }
        let block = RecentBlock::decode(payload).map_err(|error| {
            FormatError::malformed(PART, at, "a block of appends", error.to_string())
        })?;
        block.appends.into_iter().for_each(&mut *each);
    }
    if place == bytes.len() {
        return Ok(());
    }
    let found = format!("{} more bytes", bytes.len() - place);
    Err(FormatError::malformed(
        PART,
        place as u64,
        "the end of the file",
        found,
    ))
}

fn read_header(bytes: &[u8], sequence: u64) -> Result<(), FormatError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(FormatError::malformed(PART, 0, "24 bytes", found));
    };
    if !header.starts_with(&RECENT_MAGIC) {
        let found = format!("{:02x?}", header.first_chunk::<8>());
        let expected = "the magic number of recent appends";
        return Err(FormatError::malformed(PART, 0, expected, found));
    }
    let number = |at: usize| header.get(at..).and_then(|bytes| bytes.first_chunk::<8>());
    let own = number(16).copied().map_or(0, u64::from_le_bytes);
    let (start, rest) = (header.get(..12), header.get(16..));
    let found = crc32c::crc32c_append(
        crc32c::crc32c(start.unwrap_or_default()),
        rest.unwrap_or_default(),
    );
    let (version, expected) = number(8).copied().map_or((0, 0), halves);
    if expected != found {
        return Err(FormatError::Checksum {
            part: PART,
            offset: 0,
            expected,
            found,
        });
    }
    match u16::try_from(version) {
        Ok(RECENT_VERSION) if own == sequence => Ok(()),
        Ok(RECENT_VERSION) => {
            let found = format!("that of sequence {own}");
            let expected = format!("the file of sequence {sequence}");
            Err(FormatError::malformed(PART, 16, expected, found))
        }
        Ok(found) if found > RECENT_VERSION => Err(FormatError::NewerVersion {
            part: PART,
            found,
            supported: RECENT_VERSION,
        }),
        _ => {
            let expected = format!("version {RECENT_VERSION}");
            let found = format!("version {version}");
            Err(FormatError::malformed(PART, 8, expected, found))
        }
    }
}

/// Two numbers that stand one after the other.
fn halves(bytes: [u8; 8]) -> (u32, u32) {
    let both = u64::from_le_bytes(bytes);
    (both as u32, (both >> 32) as u32)
}

fn block_checksum(length: u32, sequence: u64, number: u64, payload: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &sequence.to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &number.to_le_bytes());
    crc32c::crc32c_append(checksum, payload)
}
