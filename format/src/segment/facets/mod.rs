//! Facets: for columns of few values, the rows of each value and their count.
//!
//! ```text
//! block of a partition: facets u32 · strays u32 · facet[facets] · key u32[strays] ·
//!                       values · value bytes
//! facet (28 bytes): column u32 · values u32 · offset of its values u32 ·
//!                   rows with null u32 · rows u32 · start u32 · length u32
//! value (20 bytes): bytes offset u32 · bytes u32 · rows u32 · start u32 · length u32
//! ```
//! A `key` is the number of a promoted key that has strays in the partition
//! ([`PromotedKey::has_strays`](super::promotion::PromotedKey)): postings then do
//! not tell all. Offsets count from the start of the block. `start` and `length` stand for
//! rows as in the key index, bitmaps lying in the postings; a length of
//! 2^32 - 1 stands for the rows of the partition that no other value of the
//! facet, nor null, has: the largest posting of each facet is left out.
//!
//! A partition has a block when it has [`LEAST_ROWS`] rows; a facet is left out
//! of it where it has too many values. Values are sorted by their bytes: texts
//! as they are, integers as `i64` in big-endian with the sign bit turned over, so
//! that they are in the order of numbers, booleans as one byte.

pub(super) mod build;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::{Buf, Bytes};
use roaring::RoaringBitmap;

use super::key_index::Posting;
use crate::error::FormatError;

/// Rows from which on a partition has facets. Below, reading a column costs
/// less than the postings would take.
pub const LEAST_ROWS: u32 = 8_192;
/// Values that a facet of the table may have in a partition.
const MOST_VALUES: usize = 4_096;
/// Values that a facet of a promoted key may have in a partition.
const MOST_PROMOTED_VALUES: usize = 32;

const HEAD_BYTES: usize = 8;
const FACET_BYTES: usize = 28;
const VALUE_BYTES: usize = 20;
/// The length of a posting that is left out.
const ALL_OTHERS: u32 = u32::MAX;
const PART: &str = "facets";

/// The bytes of an integer in a facet: bytes in their order are numbers in theirs.
pub fn integer_bytes(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ SIGN).to_be_bytes()
}

/// The integer of its bytes in a facet.
pub fn integer_of(bytes: &[u8]) -> Option<i64> {
    let bytes = bytes.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ SIGN).cast_signed())
}

const SIGN: u64 = 1 << 63;

/// The facets of one partition, searched in place.
#[derive(Debug, Clone)]
pub struct Facets {
    block: Bytes,
    rows: Range<u32>,
    /// Where the block stands in its file, for errors.
    offset: u64,
}

/// One facet of a partition.
#[derive(Debug, Clone)]
pub struct Facet<'a> {
    facets: &'a Facets,
    values: u32,
    first_value: usize,
    null_rows: u32,
    nulls: (u32, u32),
}

/// A value of a facet, and how many rows have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetValue {
    /// A text; an integer as in [`integer_of`]; a boolean as one byte.
    pub bytes: Bytes,
    /// Rows of the partition.
    pub rows: u32,
    posting: (u32, u32),
}

/// Hands out a range of the postings.
pub type ReadPostings<'a> = &'a dyn Fn(Range<u64>) -> Result<Bytes, FormatError>;

impl Facets {
    /// Takes the block of a partition with these rows, which stands at `offset`
    /// of its file.
    pub fn new(block: Bytes, rows: Range<u32>, offset: u64) -> Self {
        Self {
            block,
            rows,
            offset,
        }
    }

    fn malformed(&self, expected: &str) -> FormatError {
        let found = format!("{} bytes", self.block.len());
        FormatError::malformed(PART, self.offset, expected, found)
    }

    fn words<const N: usize>(&self, at: usize) -> Result<[u32; N], FormatError> {
        let mut bytes = self
            .block
            .get(at..at.saturating_add(N * 4))
            .ok_or_else(|| self.malformed("a facet within its block"))?;
        Ok(std::array::from_fn(|_| bytes.get_u32_le()))
    }

    /// The facet of a column, given by its place in the file; none when the
    /// partition has none of it.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn facet(&self, column: usize) -> Result<Option<Facet<'_>>, FormatError> {
        let [count] = self.words(0)?;
        for place in 0..count as usize {
            let [found, values, first_value, null_rows, _, start, length] =
                self.words(HEAD_BYTES + place * FACET_BYTES)?;
            if found as usize == column {
                if values as usize > MOST_VALUES {
                    return Err(self.malformed("at most 4,096 values"));
                }
                return Ok(Some(Facet {
                    facets: self,
                    values,
                    first_value: first_value as usize,
                    null_rows,
                    nulls: (start, length),
                }));
            }
        }
        Ok(None)
    }

    /// Whether a promoted key, given by its number, has strays in the partition.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn has_strays(&self, key: usize) -> Result<bool, FormatError> {
        let [facets, strays] = self.words(0)?;
        let keys = HEAD_BYTES.saturating_add((facets as usize).saturating_mul(FACET_BYTES));
        for place in 0..strays as usize {
            let [number] = self.words(keys.saturating_add(place * 4))?;
            if number as usize == key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The places of the columns that have a facet.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn columns(&self) -> Result<Vec<usize>, FormatError> {
        let [count] = self.words(0)?;
        (0..count as usize)
            .map(|place| {
                let [column] = self.words(HEAD_BYTES + place * FACET_BYTES)?;
                Ok(column as usize)
            })
            .collect()
    }
}

impl Facet<'_> {
    /// Rows without a value.
    pub fn null_rows(&self) -> u32 {
        self.null_rows
    }

    /// Values that there are.
    pub fn len(&self) -> usize {
        self.values as usize
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// A value by its place in the order of their bytes.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when there is none or the block makes no sense.
    pub fn value(&self, place: usize) -> Result<FacetValue, FormatError> {
        let facets = self.facets;
        if place >= self.values as usize {
            return Err(facets.malformed("a value of the facet"));
        }
        let at = self
            .first_value
            .saturating_add(place.saturating_mul(VALUE_BYTES));
        let [offset, length, rows, start, posting] = facets.words(at)?;
        let end = (offset as usize).saturating_add(length as usize);
        if end > facets.block.len() {
            return Err(facets.malformed("a value within its block"));
        }
        Ok(FacetValue {
            bytes: facets.block.slice(offset as usize..end),
            rows,
            posting: (start, posting),
        })
    }

    /// Finds a value by its bytes.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn find(&self, bytes: &[u8]) -> Result<Option<FacetValue>, FormatError> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let value = self.value(middle)?;
            match value.bytes.as_ref().cmp(bytes) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(value)),
            }
        }
        Ok(None)
    }

    /// The rows of a value.
    ///
    /// # Errors
    /// What `read` answers, and [`FormatError::Malformed`].
    pub fn rows(
        &self,
        value: &FacetValue,
        read: ReadPostings<'_>,
    ) -> Result<RoaringBitmap, FormatError> {
        self.posting(value.posting, read)
    }

    /// The rows without a value.
    ///
    /// # Errors
    /// What `read` answers, and [`FormatError::Malformed`].
    pub fn nulls(&self, read: ReadPostings<'_>) -> Result<RoaringBitmap, FormatError> {
        self.posting(self.nulls, read)
    }

    /// Bytes of the bitmaps of all its values, and of null.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn posting_bytes(&self) -> Result<u64, FormatError> {
        let bytes = |(start, length): (u32, u32)| match Posting::of_words(start, length) {
            Posting::Bitmap(range) if length != ALL_OTHERS => range.end - range.start,
            _ => 0,
        };
        let mut all = bytes(self.nulls);
        for place in 0..self.len() {
            all += bytes(self.value(place)?.posting);
        }
        Ok(all)
    }

    fn posting(
        &self,
        (start, length): (u32, u32),
        read: ReadPostings<'_>,
    ) -> Result<RoaringBitmap, FormatError> {
        let range = &self.facets.rows;
        if length != ALL_OTHERS {
            return self.stored(start, length, read);
        }
        let mut others = self.stored_unless_left_out(self.nulls, read)?;
        for place in 0..self.len() {
            others |= self.stored_unless_left_out(self.value(place)?.posting, read)?;
        }
        let mut rows = RoaringBitmap::new();
        rows.insert_range(range.clone());
        Ok(rows - others)
    }

    fn stored_unless_left_out(
        &self,
        (start, length): (u32, u32),
        read: ReadPostings<'_>,
    ) -> Result<RoaringBitmap, FormatError> {
        if length == ALL_OTHERS {
            return Ok(RoaringBitmap::new());
        }
        self.stored(start, length, read)
    }

    fn stored(
        &self,
        start: u32,
        length: u32,
        read: ReadPostings<'_>,
    ) -> Result<RoaringBitmap, FormatError> {
        let rows = match Posting::of_words(start, length) {
            Posting::Run(run) => {
                let mut rows = RoaringBitmap::new();
                rows.insert_range(run);
                rows
            }
            Posting::Bitmap(range) => {
                let offset = range.start;
                Posting::decode_bitmap(&read(range)?, offset)?
            }
        };
        let range = &self.facets.rows;
        let is_within = rows.min().is_none_or(|first| range.start <= first)
            && rows.max().is_none_or(|last| last < range.end);
        if is_within {
            Ok(rows)
        } else {
            Err(self.facets.malformed("rows of the partition"))
        }
    }
}
