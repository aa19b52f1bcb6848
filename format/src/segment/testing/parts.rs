//! Encoders and decoders of parts that are private otherwise.

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::error::FormatError;
use crate::segment::key_index::{self, Key};
use crate::segment::layout::columns::FileColumns;
use crate::segment::layout::directory::{self, Partition};
use crate::segment::pages::delta;
use crate::segment::pages::header::PageHeader;
use crate::segment::pages::hybrid::Hybrid;
use crate::segment::postings::PostingsBuilder;
use crate::span::table;

/// A key of a key index and its rows.
pub type KeyRows = (Key, RoaringBitmap);

/// The encoded directory of partitions that are sorted by team.
pub fn encode_directory(partitions: &[Partition]) -> Vec<u8> {
    directory::encode(partitions)
}

/// The encoded columns of a file of spans.
pub fn encode_columns(columns: &FileColumns) -> Vec<u8> {
    columns.encode(table())
}

/// The block of a key index of a partition with these rows, and its postings.
///
/// # Errors
/// When the postings exceed 4 GiB.
pub fn key_index(
    entries: &[KeyRows],
    rows: &Range<u32>,
) -> Result<(Vec<u8>, Vec<u8>), FormatError> {
    let mut runs = Vec::new();
    for (key, rows) in entries {
        let mut ranges = rows.iter();
        let ranges = std::iter::from_fn(|| ranges.next_range());
        runs.extend(ranges.map(|range| (*key, *range.start()..range.end() + 1)));
    }
    let mut postings = PostingsBuilder::default();
    let block = key_index::build::encode(runs, rows, &mut postings)?;
    Ok((block, postings.bytes))
}

/// Bytes of the page header at the start of these bytes, and of its page as it
/// is stored and as it is decompressed; none when there is no page header.
pub fn page_header_bytes(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let (header, length) = PageHeader::read(bytes)?;
    Some((length, header.compressed_bytes, header.uncompressed_bytes))
}

/// The values of a range of Parquet's hybrid of run lengths and packed bits;
/// none when the bytes make no sense.
pub fn hybrid_values(bytes: &[u8], bit_width: u32, wanted: Range<usize>) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    Hybrid::new(bytes, bit_width).read(wanted, &mut values)?;
    Some(values)
}

/// How many values of one bit are 1, before a range and in it; none when the bytes make no
/// sense.
pub fn ones(bytes: &[u8], range: Range<usize>) -> Option<(usize, usize)> {
    Hybrid::new(bytes, 1).ones(range)
}

/// The values of ranges of Parquet's packed differences; none when the bytes make no sense.
pub fn delta_values(bytes: &[u8], wanted: &[Range<usize>]) -> Option<Vec<i64>> {
    let mut values = Vec::new();
    delta::read(bytes, wanted, &mut values)?;
    Some(values)
}
