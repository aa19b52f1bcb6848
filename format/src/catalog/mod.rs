//! The records of the catalog.
//!
//! Values are protobuf messages
//! (<https://protobuf.dev/programming-guides/encoding/>), so that fields can be
//! added.

use prost::Message;

use crate::error::FormatError;
use crate::id::SegmentId;
use crate::month::Month;
use crate::segment::SegmentSummary;

/// A segment, as table `segments` keeps it.
#[derive(Clone, PartialEq, Message)]
struct SegmentRecord {
    #[prost(uint32, tag = "1")]
    month: u32,
    #[prost(uint32, tag = "2")]
    rows: u32,
    #[prost(uint32, tag = "3")]
    partitions: u32,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(uint64, tag = "5")]
    index_offset: u64,
    #[prost(uint64, tag = "6")]
    tail_offset: u64,
    #[prost(fixed32, tag = "7")]
    tail_crc: u32,
    #[prost(sfixed64, tag = "8")]
    first_start: i64,
    #[prost(sfixed64, tag = "9")]
    last_start: i64,
}

/// The record of a segment.
pub fn encode_segment(summary: &SegmentSummary) -> Vec<u8> {
    SegmentRecord {
        month: u32::from(summary.month.number()),
        rows: summary.rows,
        partitions: summary.partitions,
        bytes: summary.bytes,
        index_offset: summary.index_offset,
        tail_offset: summary.tail_offset,
        tail_crc: summary.tail_crc,
        first_start: summary.first_start,
        last_start: summary.last_start,
    }
    .encode_to_vec()
}

/// Reads the record of the segment `id`.
///
/// # Errors
/// [`FormatError::Malformed`] when the bytes are not one.
pub fn decode_segment(id: SegmentId, bytes: &[u8]) -> Result<SegmentSummary, FormatError> {
    let malformed =
        |found: String| FormatError::malformed("catalog", id.0, "the record of a segment", found);
    let record = SegmentRecord::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    let month = u16::try_from(record.month)
        .ok()
        .and_then(Month::from_number);
    Ok(SegmentSummary {
        id,
        month: month.ok_or_else(|| malformed(format!("month {}", record.month)))?,
        rows: record.rows,
        partitions: record.partitions,
        bytes: record.bytes,
        index_offset: record.index_offset,
        tail_offset: record.tail_offset,
        tail_crc: record.tail_crc,
        first_start: record.first_start,
        last_start: record.last_start,
    })
}

/// What is set for one team, as table `settings` keeps it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TeamSettings {
    /// Number of the plan: 0 hobby, 1 pro, 2 enterprise.
    #[prost(uint32, tag = "1")]
    pub plan: u32,
    /// Spans a month, in place of the plan's.
    #[prost(uint64, optional, tag = "2")]
    pub limit: Option<u64>,
}

impl TeamSettings {
    /// Reads the record of a team's settings.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not one.
    pub fn read(team: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        Self::decode(bytes).map_err(|error| {
            FormatError::malformed(
                "catalog",
                0,
                format!("settings of {team}"),
                error.to_string(),
            )
        })
    }
}
