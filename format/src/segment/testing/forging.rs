//! Segments with changes, whose checksums hold again: what a bug of another
//! writer, or malice, would leave.

use bytes::Bytes;
use parquet::file::metadata::RowGroupMetaData;

use super::samples::varied_segment;
use crate::segment::layout::checksum::{self, BLOCK_BYTES};
use crate::segment::layout::header;
use crate::segment::reading;
use crate::segment::{SegmentReader, SegmentSummary, summarize};

/// A change of a few bytes.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where the change begins.
    pub place: Place,
    /// What stands there afterwards.
    pub bytes: Vec<u8>,
}

/// Where a change begins. Numbers that are too large wrap around.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// So many bytes behind the start of a page or of a part of the index.
    Start(u32, u64),
    /// Somewhere in a part of the index.
    Part(u32, u32),
    /// Somewhere in the index header.
    Header(u32),
    /// Somewhere in the tail, from the page index on.
    Tail(u32),
}

/// A segment with something of everything, to be changed.
#[derive(Debug)]
pub struct Forgery {
    file: Bytes,
    summary: SegmentSummary,
    /// Where pages and parts of the index begin.
    starts: Vec<u64>,
    /// Where the parts of the index lie.
    parts: Vec<std::ops::Range<u64>>,
    header_bytes: u64,
}

impl Forgery {
    /// The segment, of a team with facets and one without.
    pub fn new() -> Self {
        let (file, summary) = varied_segment(&[("large", 9_000), ("small", 30)]);
        let reader = SegmentReader::open(file.clone(), summary.clone()).unwrap();
        let rows = reader.row_reader().unwrap();
        let metadata = rows.metadata().unwrap();
        let chunks = metadata
            .row_groups()
            .iter()
            .flat_map(RowGroupMetaData::columns);
        let mut starts: Vec<u64> = chunks
            .flat_map(|chunk| {
                [
                    chunk.dictionary_page_offset(),
                    Some(chunk.data_page_offset()),
                ]
            })
            .flatten()
            .map(i64::cast_unsigned)
            .collect();
        let parts = reader.header().parts.iter();
        let parts: Vec<_> = parts.map(|part| part.range.clone()).collect();
        starts.extend(parts.iter().map(|part| part.start));
        Self {
            file,
            summary,
            starts,
            parts,
            header_bytes: reader.header().bytes(),
        }
    }

    /// The segment as it is.
    pub fn unchanged(&self) -> (Bytes, SegmentSummary) {
        (self.file.clone(), self.summary.clone())
    }

    /// The segment with changes, and with checksums that hold again.
    pub fn with(&self, changes: &[Change]) -> (Bytes, SegmentSummary) {
        let mut summary = self.summary.clone();
        let mut file = self.file.to_vec();
        for change in changes {
            let at = self.offset(change.place);
            for (to, from) in file[at..].iter_mut().zip(&change.bytes) {
                *to = *from;
            }
        }
        reseal(&mut file, &mut summary).unwrap();
        (Bytes::from(file), summary)
    }

    fn offset(&self, place: Place) -> usize {
        let within = |range: std::ops::Range<u64>, at: u32| {
            range.start + u64::from(at) % (range.end - range.start).max(1)
        };
        let at = match place {
            Place::Start(number, by) => {
                self.starts[number as usize % self.starts.len()] + by % BLOCK_BYTES
            }
            Place::Part(part, at) => {
                within(self.parts[part as usize % self.parts.len()].clone(), at)
            }
            Place::Header(at) => {
                let start = self.summary.index_offset;
                within(start..start + self.header_bytes, at)
            }
            Place::Tail(at) => within(self.summary.tail_offset..self.summary.bytes, at),
        };
        (at as usize).min(self.file.len())
    }
}

impl Default for Forgery {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes all checksums of a segment's file hold: those of its blocks, of its
/// index header and of its tail. None when the file is too short for them.
pub fn reseal(file: &mut [u8], summary: &mut SegmentSummary) -> Option<()> {
    // Where the header ends is not what it says, which may have been changed.
    let blocks = summary.index_offset.div_ceil(BLOCK_BYTES) * 4;
    let header_bytes = summary
        .tail_offset
        .checked_sub(summary.index_offset + blocks)?;
    reseal_index(file, summary.index_offset, header_bytes as usize)?;
    checksum::reseal_tail(file.get_mut(summary.tail_offset as usize..)?);
    summary.tail_crc = crc32c::crc32c(file.get(summary.tail_offset as usize..)?);
    Some(())
}

/// Any bytes whose Parquet footer points to an index header, with checksums
/// that hold; and what the catalog would keep of them.
pub fn resealed(file: &[u8]) -> Option<(Bytes, SegmentSummary)> {
    let mut file = file.to_vec();
    let index = reading::find_index(&Bytes::copy_from_slice(&file)).ok()?;
    let header_bytes = header::header_bytes(file.get(usize::try_from(index).ok()?..)?)?;
    let tail = reseal_index(&mut file, index, header_bytes)?;
    checksum::reseal_tail(file.get_mut(tail..)?);
    let file = Bytes::from(file);
    let summary = summarize(&file).ok()?;
    Some((file, summary))
}

/// Answers where the tail begins.
fn reseal_index(file: &mut [u8], index: u64, header_bytes: usize) -> Option<usize> {
    let (content, rest) = file.split_at_mut_checked(usize::try_from(index).ok()?)?;
    let blocks = content.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c);
    let blocks: Vec<u8> = blocks.flat_map(u32::to_le_bytes).collect();
    let (header, rest) = rest.split_at_mut_checked(header_bytes)?;
    rest.get_mut(..blocks.len())?.copy_from_slice(&blocks);
    header::reseal(header, crc32c::crc32c(&blocks))?;
    Some(content.len() + header_bytes + blocks.len())
}
