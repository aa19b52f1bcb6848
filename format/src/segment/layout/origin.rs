//! Where the rows of a segment come from.
//!
//! ```text
//! first u64 · end u64 · part u32 · end part u32 · parts u32 ·
//! replaced u32 · segment u64[replaced]
//! ```

use std::ops::Range;

use bytes::{Buf, BufMut};

use crate::error::FormatError;
use crate::id::SegmentId;

const PART: &str = "origin";
const FIXED_BYTES: usize = 32;

/// Where the rows of a segment come from: the log, by a seal, or other segments,
/// by a rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The sequences of the log in which all its rows were appended. A seal
    /// writes all rows of a month that these sequences have; a rewrite has the
    /// union of the ranges of what it replaces.
    pub log: Range<u64>,
    /// The segments that it replaces, in full or together with the other parts
    /// of its rewrite; none for what a seal wrote.
    pub replaced: Vec<SegmentId>,
    /// Which parts of its rewrite it is, of so many: a rewrite may write several
    /// segments, and leaves out those that would be empty.
    pub parts: Range<u32>,
    /// Parts of the rewrite in all.
    pub all_parts: u32,
}

impl Origin {
    /// The origin of a segment that a seal writes.
    pub fn sealed(log: Range<u64>) -> Self {
        Self {
            log,
            replaced: Vec::new(),
            parts: 0..1,
            all_parts: 1,
        }
    }

    /// The bytes of the part.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.replaced.len() * 8);
        out.put_u64_le(self.log.start);
        out.put_u64_le(self.log.end);
        out.put_u32_le(self.parts.start);
        out.put_u32_le(self.parts.end);
        out.put_u32_le(self.all_parts);
        out.put_u32_le(self.replaced.len() as u32);
        for id in &self.replaced {
            out.put_u64_le(id.0);
        }
        out
    }

    /// Reads the part, which begins at `offset` of its file.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not one.
    pub fn decode(mut bytes: &[u8], offset: u64) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str, found: String| FormatError::malformed(PART, offset, expected, found);
        if bytes.len() < FIXED_BYTES {
            let found = format!("{} bytes", bytes.len());
            return Err(malformed("at least 32 bytes", found));
        }
        let log = bytes.get_u64_le()..bytes.get_u64_le();
        let parts = bytes.get_u32_le()..bytes.get_u32_le();
        let (all_parts, replaced) = (bytes.get_u32_le(), bytes.get_u32_le());
        if log.start == 0 || log.start > log.end {
            return Err(malformed("a range of sequences", format!("{log:?}")));
        }
        if parts.start >= parts.end || parts.end > all_parts {
            return Err(malformed(
                &format!("parts of {all_parts}"),
                format!("{parts:?}"),
            ));
        }
        if bytes.len() as u64 != u64::from(replaced) * 8 {
            let found = format!("{} bytes", bytes.len());
            return Err(malformed(&format!("{replaced} segments"), found));
        }
        Ok(Self {
            log,
            replaced: bytes
                .chunks_exact(8)
                .map(|mut id| SegmentId(id.get_u64_le()))
                .collect(),
            parts,
            all_parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten() -> Origin {
        Origin {
            log: 5..90,
            replaced: vec![SegmentId(3), SegmentId(8)],
            parts: 1..3,
            all_parts: 4,
        }
    }

    #[test]
    fn comes_back_equal() {
        for origin in [Origin::sealed(1..7), Origin::sealed(4..4), rewritten()] {
            assert_eq!(Origin::decode(&origin.encode(), 0), Ok(origin));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bytes = rewritten().encode();
        for length in 0..bytes.len() {
            assert!(Origin::decode(&bytes[..length], 0).is_err(), "{length}");
        }
        for (at, value) in [(0, 91), (0, 0), (16, 3), (20, 5), (24, 2), (28, 3)] {
            let mut changed = bytes.clone();
            changed[at] = value;
            assert!(Origin::decode(&changed, 0).is_err(), "byte {at}");
        }
    }
}
