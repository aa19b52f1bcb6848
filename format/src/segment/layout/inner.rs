//! A segment within the file of another: rows of a table that is made of the outer one's.
//!
//! ```text
//! segment · rows u32 · partitions u32 · index offset u64 · tail offset u64 · tail crc u32
//! ```
//! Offsets count from the start of the part. What is left out of the summary is that of the
//! outer segment.

use std::ops::Range;

use bytes::{Buf, BufMut};

use crate::error::FormatError;
use crate::segment::SegmentSummary;

const END_BYTES: u64 = 28;

/// Where a segment lies in the file of another, and what is kept of it.
#[derive(Debug)]
pub(crate) struct InnerSegment {
    /// In bytes of the file.
    pub(crate) range: Range<u64>,
    pub(crate) summary: SegmentSummary,
}

impl InnerSegment {
    /// The part for a segment that was written.
    pub(crate) fn encode(mut segment: Vec<u8>, summary: &SegmentSummary) -> Vec<u8> {
        segment.put_u32_le(summary.rows);
        segment.put_u32_le(summary.partitions);
        segment.put_u64_le(summary.index_offset);
        segment.put_u64_le(summary.tail_offset);
        segment.put_u32_le(summary.tail_crc);
        segment
    }

    /// Where the end of a part lies, which [`InnerSegment::decode`] expects.
    pub(crate) fn end_of(part: &Range<u64>) -> Range<u64> {
        part.end.saturating_sub(END_BYTES).max(part.start)..part.end
    }

    /// The segment in a part with this end.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the part is too short, or has more rows than the outer
    /// segment.
    pub(crate) fn decode(
        mut end: &[u8],
        part: &Range<u64>,
        outer: &SegmentSummary,
    ) -> Result<Self, FormatError> {
        if end.len() as u64 != END_BYTES {
            let expected = format!("at least {END_BYTES} bytes");
            let found = format!("{} bytes", end.len());
            let place = "segment within a segment";
            return Err(FormatError::malformed(place, part.start, expected, found));
        }
        let range = part.start..part.end - END_BYTES;
        let (rows, partitions) = (end.get_u32_le(), end.get_u32_le());
        if rows > outer.rows || partitions > outer.partitions {
            let expected = format!("at most {} rows", outer.rows);
            let found = format!("{rows} rows of {partitions} partitions");
            let place = "segment within a segment";
            return Err(FormatError::malformed(place, range.end, expected, found));
        }
        Ok(Self {
            summary: SegmentSummary {
                rows,
                partitions,
                bytes: range.end - range.start,
                index_offset: end.get_u64_le(),
                tail_offset: end.get_u64_le(),
                tail_crc: end.get_u32_le(),
                ..outer.clone()
            },
            range,
        })
    }
}
