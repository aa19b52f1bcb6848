//! The index header: which parts a segment's index has, and where they lie.
//!
//! ```text
//! magic [u8; 8] · version u16 · month u16 · rows u32 · segment u64 ·
//! block bytes u32 · CRC32C of the block checksums u32 · parts u32 · 0 u32 ·
//! part[parts] · CRC32C of all before u32 · 0 u32
//! part: kind u16, version u16, is required u32, start u64, end u64   (24 bytes)
//! ```
//! Parts are found by their kind. A reader leaves out an optional part whose kind
//! or version it does not know, and refuses a segment with a required one.

use std::ops::Range;

use bytes::{Buf, BufMut};

use crate::error::FormatError;
use crate::id::SegmentId;
use crate::month::Month;
use crate::segment::layout::checksum::BLOCK_BYTES;
use crate::table::{IndexedId, SharedKind};
use crate::version::{INDEX_MAGIC, SEGMENT_VERSION};

/// Bytes before the parts.
const FIXED_BYTES: usize = 40;
const PART_BYTES: usize = 24;
/// Bytes after the parts.
const END_BYTES: usize = 8;
/// Parts that a header may have.
const MOST_PARTS: usize = 64;
/// Bytes of an index header, at most.
pub const MOST_HEADER_BYTES: usize = FIXED_BYTES + MOST_PARTS * PART_BYTES + END_BYTES;

/// Key of the pair in the Parquet footer that points to the index header; its
/// value is the header's offset in decimal.
pub const FOOTER_KEY: &str = "spanstore.index";

/// A part of a segment's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The columns of the file, and which attributes they hold.
    Columns,
    /// Which rows are whose.
    Directory,
    /// Trace id to rows.
    Traces,
    /// Session id to rows.
    Sessions,
    /// Request id to rows.
    Requests,
    /// Values of facets, with their counts.
    Facets,
    /// Sets of rows that the other parts point to.
    Postings,
    /// Where the rows come from.
    Origin,
    /// The resources of the rows.
    Resources,
    /// The instrumentation scopes of the rows.
    Scopes,
    /// The requests of the rows: a segment of their own.
    RequestTable,
}

/// What is known of a kind of part.
struct PartKind {
    /// Its number in the header.
    number: u16,
    name: &'static str,
    /// The version that is written. Readers know all versions up to it.
    version: u16,
    /// Whether a reader that does not know it must refuse the segment.
    is_required: bool,
}

const fn required(number: u16, name: &'static str) -> PartKind {
    PartKind {
        number,
        name,
        version: 1,
        is_required: true,
    }
}

const fn optional(number: u16, name: &'static str) -> PartKind {
    PartKind {
        is_required: false,
        ..required(number, name)
    }
}

impl Part {
    const ALL: [Self; 11] = [
        Self::Columns,
        Self::Directory,
        Self::Traces,
        Self::Sessions,
        Self::Requests,
        Self::Facets,
        Self::Postings,
        Self::Origin,
        Self::Resources,
        Self::Scopes,
        Self::RequestTable,
    ];

    const fn kind(self) -> PartKind {
        match self {
            Self::Columns => required(1, "columns"),
            Self::Directory => required(2, "partition directory"),
            Self::Traces => required(3, "trace index"),
            Self::Sessions => required(4, "session index"),
            Self::Requests => required(5, "request index"),
            Self::Facets => optional(6, "facets"),
            Self::Postings => required(7, "postings"),
            Self::Origin => required(8, "origin"),
            Self::Resources => required(9, "resources"),
            Self::Scopes => required(10, "scopes"),
            Self::RequestTable => optional(11, "table of requests"),
        }
    }

    /// The index of an id.
    pub fn of_id(id: IndexedId) -> Self {
        match id {
            IndexedId::Trace => Self::Traces,
            IndexedId::Session => Self::Sessions,
            IndexedId::Request => Self::Requests,
        }
    }

    /// The part of what rows share.
    pub fn of_shared(kind: SharedKind) -> Self {
        match kind {
            SharedKind::Resources => Self::Resources,
            SharedKind::Scopes => Self::Scopes,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.kind().name
    }
}

/// A part of an index, as the header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPlace {
    /// The number of its kind.
    pub kind: u16,
    /// The version of its own layout.
    pub version: u16,
    /// Whether a reader that does not know it must refuse the segment.
    pub is_required: bool,
    /// Where it lies, in bytes from the start of the file.
    pub range: Range<u64>,
}

impl PartPlace {
    /// A part as this version writes it.
    pub fn new(part: Part, range: Range<u64>) -> Self {
        let kind = part.kind();
        Self {
            kind: kind.number,
            version: kind.version,
            is_required: kind.is_required,
            range,
        }
    }

    /// Which part it is; none for one of an unknown kind or version.
    pub fn part(&self) -> Option<Part> {
        let mut parts = Part::ALL.into_iter();
        let part = parts.find(|part| part.kind().number == self.kind)?;
        let known = 1..=part.kind().version;
        known.contains(&self.version).then_some(part)
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match self.part() {
            Some(part) => part.name().to_owned(),
            None => format!("kind {} of version {}", self.kind, self.version),
        }
    }
}

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
    /// The parts, those that are not known among them.
    pub parts: Vec<PartPlace>,
}

const HEADER: &str = "index header";

impl IndexHeader {
    /// Where a part lies; none when the segment does not have it.
    pub fn part(&self, part: Part) -> Option<Range<u64>> {
        let found = self.parts.iter().find(|one| one.part() == Some(part))?;
        Some(found.range.clone())
    }

    /// Where a part lies that the question cannot be answered without.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the segment does not have it.
    pub fn required(&self, part: Part) -> Result<Range<u64>, FormatError> {
        self.part(part)
            .ok_or_else(|| FormatError::malformed(HEADER, 0, part.name(), "no such part"))
    }

    /// Bytes of the header.
    pub fn bytes(&self) -> u64 {
        (FIXED_BYTES + self.parts.len() * PART_BYTES + END_BYTES) as u64
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MOST_HEADER_BYTES);
        out.put_slice(&INDEX_MAGIC);
        out.put_u16_le(SEGMENT_VERSION);
        out.put_u16_le(self.month.number());
        out.put_u32_le(self.rows);
        out.put_u64_le(self.segment.0);
        out.put_u32_le(BLOCK_BYTES as u32);
        out.put_u32_le(self.blocks_crc);
        out.put_u32_le(self.parts.len() as u32);
        out.put_u32_le(0);
        for part in &self.parts {
            out.put_u16_le(part.kind);
            out.put_u16_le(part.version);
            out.put_u32_le(u32::from(part.is_required));
            out.put_u64_le(part.range.start);
            out.put_u64_le(part.range.end);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.put_u32_le(0);
        out
    }

    /// Reads a header that stands at `offset` of its file and at the start of
    /// `bytes`; more bytes may follow.
    ///
    /// # Errors
    /// [`FormatError::NewerVersion`] for one of a newer version,
    /// [`FormatError::UnknownParts`] for one with a required part of an unknown kind
    /// or version, [`FormatError::Checksum`] and [`FormatError::Malformed`] for
    /// damage and for versions that no store was released with.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str, found: String| FormatError::malformed(HEADER, offset, expected, found);
        let mut fields = checked_fields(bytes, offset)?;
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
        fields.advance(8);
        let mut parts: Vec<PartPlace> = Vec::new();
        let mut unknown = Vec::new();
        while fields.has_remaining() {
            let part = PartPlace {
                kind: fields.get_u16_le(),
                version: fields.get_u16_le(),
                is_required: fields.get_u32_le() & 1 != 0,
                range: fields.get_u64_le()..fields.get_u64_le(),
            };
            if parts.last().is_some_and(|last| last.kind >= part.kind) {
                let found = format!("kind {} after others", part.kind);
                return Err(malformed("parts by rising kinds", found));
            }
            if part.range.start > part.range.end || part.range.end > offset {
                let found = format!("{:?}", part.range);
                return Err(malformed("a part before the header", found));
            }
            if part.is_required && part.part().is_none() {
                unknown.push(part.name());
            }
            parts.push(part);
        }
        if !unknown.is_empty() {
            return Err(FormatError::UnknownParts {
                parts: unknown.join(", "),
            });
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

/// The header up to its last part, whose checksum holds.
fn checked_fields(bytes: &[u8], offset: u64) -> Result<&[u8], FormatError> {
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
    let count = bytes.get(32..36).map(|mut count| count.get_u32_le());
    let count = count.map_or(usize::MAX, |count| count as usize);
    if count > MOST_PARTS {
        let expected = format!("at most {MOST_PARTS} parts");
        return Err(malformed(&expected, count.to_string()));
    }
    let length = FIXED_BYTES + count * PART_BYTES;
    let (Some(fields), Some(mut end)) =
        (bytes.get(..length), bytes.get(length..length + END_BYTES))
    else {
        let found = format!("{} bytes", bytes.len());
        return Err(malformed(&format!("{} bytes", length + END_BYTES), found));
    };
    let (found, expected) = (crc32c::crc32c(fields), end.get_u32_le());
    if found != expected || end.get_u32_le() != 0 {
        return Err(FormatError::Checksum {
            part: HEADER,
            offset,
            expected,
            found,
        });
    }
    Ok(fields)
}

/// Makes the checksum of a header of this length hold after changes to it.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn reseal(header: &mut [u8], blocks_crc: u32) -> Option<()> {
    /// Where the checksum of the block checksums stands.
    const BLOCKS_CRC: usize = 28;
    header
        .get_mut(BLOCKS_CRC..BLOCKS_CRC + 4)?
        .copy_from_slice(&blocks_crc.to_le_bytes());
    let length = header.len().checked_sub(END_BYTES)?;
    let (fields, crc) = header.split_at_mut_checked(length)?;
    crc.get_mut(..4)?
        .copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    Some(())
}

/// The length of the header at the start of these bytes, by the number of parts
/// that it says.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn header_bytes(header: &[u8]) -> Option<usize> {
    let count = header.get(32..36)?.get_u32_le() as usize;
    (count <= MOST_PARTS).then_some(FIXED_BYTES + count * PART_BYTES + END_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> IndexHeader {
        let parts = [
            (Part::Columns, 10..20),
            (Part::Directory, 20..40),
            (Part::Traces, 40..50),
            (Part::Facets, 51..60),
            (Part::Postings, 60..65),
            (Part::Origin, 65..70),
        ];
        IndexHeader {
            segment: SegmentId(7),
            month: "2026-11".parse().unwrap(),
            rows: 123,
            blocks_crc: 99,
            parts: parts
                .into_iter()
                .map(|(part, range)| PartPlace::new(part, range))
                .collect(),
        }
    }

    #[test]
    fn each_kind_has_a_number_of_its_own() {
        let numbers = Part::ALL.map(|part| part.kind().number);
        assert!(numbers.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn comes_back_equal() {
        let bytes = header().encode();
        assert_eq!(bytes.len() as u64, header().bytes());
        assert_eq!(IndexHeader::decode(&bytes, 70), Ok(header()));
        assert_eq!(header().part(Part::Facets), Some(51..60));
        assert_eq!(header().part(Part::Sessions), None);
        assert!(header().required(Part::Sessions).is_err());
    }

    #[test]
    fn each_flipped_bit_is_found() {
        let bytes = header().encode();
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(IndexHeader::decode(&damaged, 70).is_err(), "bit {at}");
        }
        assert!(IndexHeader::decode(&bytes[..bytes.len() - 1], 70).is_err());
        assert!(IndexHeader::decode(&bytes, 69).is_err());
    }

    #[test]
    fn a_newer_version_is_refused_as_such() {
        let mut bytes = header().encode();
        bytes[8] = SEGMENT_VERSION as u8 + 1;
        let error = IndexHeader::decode(&bytes, 70).unwrap_err();
        let is_newer = matches!(error, FormatError::NewerVersion { part, .. } if part == "segment");
        assert!(is_newer, "{error}");
    }

    #[test]
    fn unknown_parts_are_left_out_or_refused_by_name() {
        let mut newer = header();
        let facets = newer.parts.iter_mut().find(|part| part.kind == 6).unwrap();
        facets.version = 2;
        newer.parts.push(PartPlace {
            kind: 900,
            version: 1,
            is_required: false,
            range: 3..5,
        });
        let read = IndexHeader::decode(&newer.encode(), 70).unwrap();
        assert_eq!(read, newer);
        assert_eq!(read.part(Part::Facets), None);
        assert_eq!(read.part(Part::Origin), Some(65..70));
        newer.parts.last_mut().unwrap().is_required = true;
        newer.parts[1].version = 3;
        let error = IndexHeader::decode(&newer.encode(), 70).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, FormatError::UnknownParts { .. }), "{text}");
        assert!(
            text.contains("kind 2 of version 3, kind 900 of version 1"),
            "{text}"
        );
    }

    #[test]
    fn parts_in_another_order_and_twice_are_refused() {
        let mut twice = header();
        twice.parts.push(twice.parts[5].clone());
        assert!(IndexHeader::decode(&twice.encode(), 70).is_err());
        let mut turned = header();
        turned.parts.reverse();
        assert!(IndexHeader::decode(&turned.encode(), 70).is_err());
    }

    #[test]
    fn an_older_version_is_refused_clearly() {
        let mut bytes = header().encode();
        bytes[8] = SEGMENT_VERSION as u8 - 1;
        let error = IndexHeader::decode(&bytes, 70).unwrap_err();
        assert!(error.to_string().contains("version 4"), "{error}");
    }
}
