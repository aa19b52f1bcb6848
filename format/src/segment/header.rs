//! The index header: which parts a segment's index has, and where they lie.
//!
//! ```text
//! magic [u8; 8] · version u16 · month u16 · rows u32 · segment u64 ·
//! block bytes u32 · CRC32C of the block checksums u32 · parts u32 · 0 u32 ·
//! part[parts] · CRC32C of all before u32 · 0 u32
//! part: kind u16, version u16, 0 u32, start u64, end u64             (24 bytes)
//! ```

use std::ops::Range;

use bytes::{Buf, BufMut};

use super::checksum::BLOCK_BYTES;
use crate::error::FormatError;
use crate::id::SegmentId;
use crate::month::Month;
use crate::version::{INDEX_MAGIC, SEGMENT_VERSION};

/// Bytes before the parts.
const FIXED_BYTES: usize = 40;
const PART_BYTES: usize = 24;
/// Bytes of an index header.
pub const HEADER_BYTES: usize = FIXED_BYTES + Part::ALL.len() * PART_BYTES + 8;

/// Key of the pair in the Parquet footer that points to the index header; its
/// value is the header's offset in decimal.
pub const FOOTER_KEY: &str = "spanstore.index";

/// A part of a segment's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Which rows are whose.
    Directory,
    /// Trace id to rows.
    Traces,
    /// Session id to rows.
    Sessions,
    /// Request id to rows.
    Requests,
    /// Attribute keys with a column of their own.
    Promotion,
    /// Values of facets, with their counts.
    Facets,
    /// Bitmaps of rows that the other parts point to.
    Postings,
    /// Where the rows come from.
    Origin,
}

impl Part {
    /// All parts in the order in which they lie in the file.
    pub const ALL: [Self; 8] = [
        Self::Directory,
        Self::Traces,
        Self::Sessions,
        Self::Requests,
        Self::Promotion,
        Self::Facets,
        Self::Postings,
        Self::Origin,
    ];

    /// The number of the kind in the header.
    fn number(self) -> u16 {
        self.place() as u16 + 1
    }

    fn place(self) -> usize {
        self as usize
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "partition directory",
            Self::Traces => "trace index",
            Self::Sessions => "session index",
            Self::Requests => "request index",
            Self::Promotion => "promoted keys",
            Self::Facets => "facets",
            Self::Postings => "postings",
            Self::Origin => "origin",
        }
    }
}

/// Version of every part's own layout; all began with the segment's version 3.
const PART_VERSION: u16 = 1;

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
    /// CRC32C of the block checksums.
    pub blocks_crc: u32,
    /// Where the parts lie, in bytes from the start of the file, in the order
    /// of [`Part::ALL`].
    pub parts: [Range<u64>; Part::ALL.len()],
}

const HEADER: &str = "index header";

impl IndexHeader {
    /// Where a part lies.
    pub fn part(&self, part: Part) -> Range<u64> {
        self.parts.get(part.place()).cloned().unwrap_or_default()
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_slice(&INDEX_MAGIC);
        out.put_u16_le(SEGMENT_VERSION);
        out.put_u16_le(self.month.number());
        out.put_u32_le(self.rows);
        out.put_u64_le(self.segment.0);
        out.put_u32_le(BLOCK_BYTES as u32);
        out.put_u32_le(self.blocks_crc);
        out.put_u32_le(self.parts.len() as u32);
        out.put_u32_le(0);
        for (part, range) in Part::ALL.iter().zip(&self.parts) {
            out.put_u16_le(part.number());
            out.put_u16_le(PART_VERSION);
            out.put_u32_le(0);
            out.put_u64_le(range.start);
            out.put_u64_le(range.end);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.put_u32_le(0);
        out
    }

    /// Reads a header that stands at `offset` of its file.
    ///
    /// # Errors
    /// [`FormatError::NewerVersion`] for one of a newer version or with a part
    /// of a newer version, [`FormatError::Checksum`] and
    /// [`FormatError::Malformed`] for damage and for versions that no store
    /// was released with.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str, found: String| FormatError::malformed(HEADER, offset, expected, found);
        if !bytes.starts_with(&INDEX_MAGIC) {
            return Err(malformed(
                "the magic of an index",
                crate::id::to_hex(bytes.get(..8).unwrap_or_default()),
            ));
        }
        let version = bytes.get(8..10).map(|mut version| version.get_u16_le());
        match version {
            Some(SEGMENT_VERSION) => {}
            Some(found) if found > SEGMENT_VERSION => {
                return Err(FormatError::NewerVersion {
                    part: "segment",
                    found,
                    supported: SEGMENT_VERSION,
                });
            }
            found => {
                let expected = format!("a segment of version {SEGMENT_VERSION}");
                return Err(malformed(&expected, format!("{found:?}")));
            }
        }
        let (mut fields, mut crc) = match bytes.split_at_checked(HEADER_BYTES - 8) {
            Some((fields, crc)) if crc.len() == 8 => (fields, crc),
            _ => {
                let found = format!("{} bytes", bytes.len());
                return Err(malformed(&format!("{HEADER_BYTES} bytes"), found));
            }
        };
        let (found, expected) = (crc32c::crc32c(fields), crc.get_u32_le());
        if found != expected || crc.get_u32_le() != 0 {
            return Err(FormatError::Checksum {
                part: HEADER,
                offset,
                expected,
                found,
            });
        }
        fields.advance(10);
        let month = fields.get_u16_le();
        let month = Month::from_number(month)
            .ok_or_else(|| malformed("a month", format!("number {month}")))?;
        let rows = fields.get_u32_le();
        let segment = SegmentId(fields.get_u64_le());
        let block_bytes = fields.get_u32_le();
        if u64::from(block_bytes) != BLOCK_BYTES {
            return Err(malformed(
                &format!("blocks of {BLOCK_BYTES} bytes"),
                block_bytes.to_string(),
            ));
        }
        let blocks_crc = fields.get_u32_le();
        let count = fields.get_u32_le();
        if count as usize != Part::ALL.len() {
            let expected = format!("{} parts", Part::ALL.len());
            return Err(malformed(&expected, count.to_string()));
        }
        fields.advance(4);
        let mut parts: [Range<u64>; Part::ALL.len()] = Default::default();
        for (part, place) in Part::ALL.iter().zip(&mut parts) {
            let (kind, version) = (fields.get_u16_le(), fields.get_u16_le());
            if kind != part.number() {
                return Err(malformed(part.name(), format!("a part of kind {kind}")));
            }
            if version > PART_VERSION {
                return Err(FormatError::NewerVersion {
                    part: part.name(),
                    found: version,
                    supported: PART_VERSION,
                });
            }
            fields.advance(4);
            let range = fields.get_u64_le()..fields.get_u64_le();
            if range.start > range.end || range.end > offset {
                return Err(malformed("a part before the header", format!("{range:?}")));
            }
            *place = range;
        }
        Ok(Self {
            segment,
            month,
            rows,
            blocks_crc,
            parts,
        })
    }
}

/// Makes the checksum of a header hold after changes to it.
#[cfg(any(test, feature = "testing"))]
pub(super) fn reseal(header: &mut [u8], blocks_crc: u32) {
    /// Where the checksum of the block checksums stands.
    const BLOCKS_CRC: usize = 28;
    if let Some(place) = header.get_mut(BLOCKS_CRC..BLOCKS_CRC + 4) {
        place.copy_from_slice(&blocks_crc.to_le_bytes());
    }
    let (fields, crc) = header.split_at_mut(HEADER_BYTES - 8);
    if let Some(place) = crc.get_mut(..4) {
        place.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
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
            blocks_crc: 99,
            parts: [
                10..20,
                20..40,
                40..50,
                50..50,
                50..51,
                51..60,
                60..65,
                65..70,
            ],
        }
    }

    #[test]
    fn comes_back_equal() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(IndexHeader::decode(&bytes, 70), Ok(header()));
        assert_eq!(header().part(Part::Facets), 51..60);
    }

    #[test]
    fn each_flipped_bit_is_found() {
        let bytes = header().encode();
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(IndexHeader::decode(&damaged, 70).is_err(), "bit {at}");
        }
        assert!(IndexHeader::decode(&bytes[..HEADER_BYTES - 1], 70).is_err());
        assert!(IndexHeader::decode(&bytes, 69).is_err());
    }

    #[test]
    fn a_newer_version_is_refused_as_such() {
        let mut bytes = header().encode();
        bytes[8] = SEGMENT_VERSION as u8 + 1;
        let error = IndexHeader::decode(&bytes, 70).unwrap_err();
        assert!(matches!(
            error,
            FormatError::NewerVersion {
                part: "segment",
                ..
            }
        ));
        // The first part's version.
        let mut bytes = header().encode();
        bytes[FIXED_BYTES + 2] = PART_VERSION as u8 + 1;
        reseal(&mut bytes, header().blocks_crc);
        let error = IndexHeader::decode(&bytes, 70).unwrap_err();
        assert!(matches!(
            error,
            FormatError::NewerVersion {
                part: "partition directory",
                ..
            }
        ));
    }

    #[test]
    fn an_older_version_is_refused_clearly() {
        let mut bytes = header().encode();
        bytes[8] = SEGMENT_VERSION as u8 - 1;
        let error = IndexHeader::decode(&bytes, 70).unwrap_err();
        assert!(error.to_string().contains("version 3"), "{error}");
    }
}
