//! The index header: where the parts of a segment's index lie.

use std::ops::Range;

use bytes::{Buf, BufMut};

use super::checksum::BLOCK_BYTES;
use crate::error::FormatError;
use crate::id::SegmentId;
use crate::month::Month;
use crate::version::{INDEX_MAGIC, SEGMENT_VERSION};

/// Bytes of an index header.
pub const HEADER_BYTES: usize = 112;

/// Key of the pair in the Parquet footer that points to the index header; its
/// value is the header's offset in decimal.
pub const FOOTER_KEY: &str = "spanstore.index";

/// The index header. It stands right before the block checksums, and the
/// blocks cover everything before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHeader {
    /// The segment's own id; a copy of the header in another file is found out by it.
    pub segment: SegmentId,
    /// The month of all rows.
    pub month: Month,
    /// Rows of the segment.
    pub rows: u32,
    /// Where the partition directory lies, in bytes from the start of the file.
    pub directory: Range<u64>,
    /// Where the trace index lies.
    pub traces: Range<u64>,
    /// Where the session index lies.
    pub sessions: Range<u64>,
    /// Where the postings lie.
    pub postings: Range<u64>,
    /// CRC32C of the block checksums.
    pub blocks_crc: u32,
}

const PART: &str = "index header";

impl IndexHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_slice(&INDEX_MAGIC);
        out.put_u16_le(SEGMENT_VERSION);
        out.put_u16_le(self.month.number());
        out.put_u32_le(self.rows);
        out.put_u64_le(self.segment.0);
        for part in [
            &self.directory,
            &self.traces,
            &self.sessions,
            &self.postings,
        ] {
            out.put_u64_le(part.start);
            out.put_u64_le(part.end);
        }
        out.put_u64_le(BLOCK_BYTES);
        out.put_u32_le(self.blocks_crc);
        out.put_u32_le(0);
        let crc = crc32c::crc32c(&out);
        out.put_u64_le(u64::from(crc));
        out
    }

    /// Reads a header that stands at `offset` of its file.
    ///
    /// # Errors
    /// [`FormatError::NewerVersion`] for one of a newer version,
    /// [`FormatError::Checksum`] and [`FormatError::Malformed`] for damage.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str, found: String| FormatError::malformed(PART, offset, expected, found);
        let (mut fields, mut crc) = match bytes.split_at_checked(HEADER_BYTES - 8) {
            Some((fields, crc)) if crc.len() == 8 => (fields, crc),
            _ => {
                let found = format!("{} bytes", bytes.len());
                return Err(malformed(&format!("{HEADER_BYTES} bytes"), found));
            }
        };
        if !bytes.starts_with(&INDEX_MAGIC) {
            return Err(malformed(
                "the magic of an index",
                crate::id::to_hex(bytes.get(..8).unwrap_or_default()),
            ));
        }
        let found = crc32c::crc32c(fields);
        let expected = crc.get_u64_le();
        fields.advance(8);
        let version = fields.get_u16_le();
        if version > SEGMENT_VERSION {
            return Err(FormatError::NewerVersion {
                part: "segment",
                found: version,
                supported: SEGMENT_VERSION,
            });
        }
        if u64::from(found) != expected {
            let expected = expected as u32;
            return Err(FormatError::Checksum {
                part: PART,
                offset,
                expected,
                found,
            });
        }
        let month = fields.get_u16_le();
        let month = Month::from_number(month)
            .ok_or_else(|| malformed("a month", format!("number {month}")))?;
        let rows = fields.get_u32_le();
        let segment = SegmentId(fields.get_u64_le());
        let mut part = || {
            let range = fields.get_u64_le()..fields.get_u64_le();
            if range.start <= range.end && range.end <= offset {
                Ok(range)
            } else {
                Err(malformed("a part before the header", format!("{range:?}")))
            }
        };
        let (directory, traces, sessions, postings) = (part()?, part()?, part()?, part()?);
        let block_bytes = fields.get_u64_le();
        if block_bytes != BLOCK_BYTES {
            return Err(malformed(
                &format!("blocks of {BLOCK_BYTES} bytes"),
                block_bytes.to_string(),
            ));
        }
        let blocks_crc = fields.get_u32_le();
        Ok(Self {
            segment,
            month,
            rows,
            directory,
            traces,
            sessions,
            postings,
            blocks_crc,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> IndexHeader {
        IndexHeader {
            segment: SegmentId(7),
            month: "2026-11".parse().unwrap(),
            rows: 123,
            directory: 10..20,
            traces: 20..40,
            sessions: 40..50,
            postings: 50..50,
            blocks_crc: 99,
        }
    }

    #[test]
    fn comes_back_equal() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(IndexHeader::decode(&bytes, 50), Ok(header()));
    }

    #[test]
    fn each_flipped_bit_is_found() {
        let bytes = header().encode();
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(IndexHeader::decode(&damaged, 50).is_err(), "bit {at}");
        }
        assert!(IndexHeader::decode(&bytes[..HEADER_BYTES - 1], 50).is_err());
        assert!(IndexHeader::decode(&bytes, 49).is_err());
    }

    #[test]
    fn a_newer_version_is_refused_as_such() {
        let mut bytes = header().encode();
        bytes[8] = SEGMENT_VERSION as u8 + 1;
        let error = IndexHeader::decode(&bytes, 50).unwrap_err();
        assert!(matches!(
            error,
            FormatError::NewerVersion {
                found: 2,
                supported: 1,
                ..
            }
        ));
    }
}
