//! Facets: for columns of few values, the rows of each value and their count.
//!
//! ```text
//! block of a partition: facets u32 · strays u32 · code columns u32 · facet[facets] ·
//!                       key u32[strays] · code column[code columns] ·
//!                       for each facet: values, value bytes, values of codes
//! facet (28 bytes): column u32 · values u32 · offset of its values u32 ·
//!                   rows with null u32 · code column u32 · start u32 · length u32
//! value (20 bytes): bytes offset u32 · bytes u32 · rows u32 · start u32 · length u32
//! code column (12 bytes): start u32 · bytes u32 · codes u32
//! ```
//! A `key` is the number of a promoted key that has strays in the partition
//! ([`PromotedKey::has_strays`](super::promotion::PromotedKey)): the facet then does
//! not tell all. Offsets count from the start of the block.
//!
//! A facet whose `code column` is 0 has a [posting](super::postings) for each value, and
//! one for null. A length of 2^32 - 1 stands for the rows of the partition that no
//! other value of the facet, nor null, has: the largest one is left out.
//!
//! Facets that depend on each other share a code column, named by its number from 1 on:
//! rows that agree in all of them have the same code. Its bit planes lie in
//! the postings. At `start` the facet has a byte for each code: the number of the value
//! that rows of that code have, or the number of values for null.
//!
//! A partition has a block when it has [`LEAST_PARTITION_ROWS`] rows; a facet is left out
//! of it where it has too many values. Values are sorted by their bytes: texts
//! as they are, integers as `i64` in big-endian with the sign bit turned over, so
//! that they are in the order of numbers, booleans as one byte.

pub(super) mod build;
mod decision;
mod groups;
mod numbers;
mod planes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use bytes::{Buf, Bytes};
use roaring::{MultiOps, RoaringBitmap};

use self::decision::Decision;
use self::groups::MOST_CODES;
use self::planes::{Planes, planes_of};
use super::layout::encoding::ROW_GROUP_ROWS;
use super::postings::{Posting, ReadPostings};
use crate::error::FormatError;

/// Rows from which on a partition has facets. Below, reading a column costs
/// less than the postings would take.
pub const LEAST_PARTITION_ROWS: u32 = 8_192;
/// Values that a facet of the table may have in a partition.
const MOST_VALUES: usize = 4_096;
/// Values that a facet of a promoted key may have in a partition.
const MOST_PROMOTED_VALUES: usize = 32;

const HEAD_BYTES: usize = 12;
const FACET_BYTES: usize = 28;
const VALUE_BYTES: usize = 20;
const COLUMN_BYTES: usize = 12;
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

/// How many of some rows have each code of the code columns that were asked for, which
/// several facets share.
#[derive(Debug, Default)]
pub struct CodeCounts(HashMap<usize, [u64; 256]>);

/// One facet of a partition.
#[derive(Debug, Clone)]
pub struct Facet<'a> {
    facets: &'a Facets,
    /// Its place in the block.
    place: usize,
    values: u32,
    first_value: usize,
    null_rows: u32,
    stored: Stored,
}

/// How the rows of a facet are stored.
#[derive(Debug, Clone, Copy)]
enum Stored {
    /// By a posting of each value. This is the one of null.
    Postings([u32; 2]),
    /// By a code column of this number, from 0 on. The values of its codes are here.
    Codes { column: usize, values: usize },
}

/// A value of a facet, and how many rows have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetValue {
    /// A text; an integer as in [`integer_of`]; a boolean as one byte.
    pub bytes: Bytes,
    /// Rows of the partition.
    pub rows: u32,
    place: usize,
    posting: [u32; 2],
}

/// The rows of some values of a facet, worked out as far as they are asked for.
#[derive(Debug)]
pub enum FacetRows {
    /// These rows.
    Some(RoaringBitmap),
    /// Those of all of these postings, which are few.
    Any(Vec<RoaringBitmap>),
    /// Those with some codes.
    Codes(CodeRows),
}

/// The rows of the partition whose codes are wanted.
#[derive(Debug)]
pub struct CodeRows {
    planes: Planes,
    wanted: Decision,
}

impl FacetRows {
    /// All of them.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense.
    pub fn all(&self) -> Result<RoaringBitmap, FormatError> {
        match self {
            Self::Some(rows) => Ok(rows.clone()),
            Self::Any(postings) => Ok(union(postings)),
            Self::Codes(CodeRows { planes, wanted }) => planes.rows(wanted),
        }
    }

    /// Those of a row group.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense.
    pub fn of_row_group(&self, row_group: u32) -> Result<RoaringBitmap, FormatError> {
        let start = row_group.saturating_mul(ROW_GROUP_ROWS);
        let mut all = RoaringBitmap::new();
        all.insert_range(start..=start.saturating_add(ROW_GROUP_ROWS - 1));
        match self {
            Self::Some(rows) => Ok(all & rows),
            Self::Any(postings) => {
                let of_group: Vec<RoaringBitmap> =
                    postings.iter().map(|rows| &all & rows).collect();
                Ok(union(&of_group))
            }
            Self::Codes(CodeRows { planes, wanted }) => planes.rows_of_chunk(row_group, wanted),
        }
    }
}

/// Postings that are put together one by one, at most. That of more goes by way of bitmaps
/// for all of their containers, which takes longer for few.
const FEW_POSTINGS: usize = 8;

fn union(postings: &[RoaringBitmap]) -> RoaringBitmap {
    match postings {
        [] => RoaringBitmap::new(),
        [first, others @ ..] if postings.len() <= FEW_POSTINGS => others
            .iter()
            .fold(first.clone(), |rows, posting| rows | posting),
        many => many.union(),
    }
}

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
            let [found, values, first_value, null_rows, codes, start, length] =
                self.words(HEAD_BYTES + place * FACET_BYTES)?;
            if found as usize == column {
                if values as usize > MOST_VALUES {
                    return Err(self.malformed("at most 4,096 values"));
                }
                return Ok(Some(Facet {
                    facets: self,
                    place,
                    values,
                    first_value: first_value as usize,
                    null_rows,
                    stored: match (codes as usize).checked_sub(1) {
                        None => Stored::Postings([start, length]),
                        Some(column) => Stored::Codes {
                            column,
                            values: start as usize,
                        },
                    },
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

    /// Start and bytes of the planes of a code column, and its codes.
    fn code_column(&self, number: usize) -> Result<[u32; 3], FormatError> {
        let [facets, strays, columns] = self.words(0)?;
        if number >= columns as usize {
            return Err(self.malformed("a code column of the block"));
        }
        let keys = HEAD_BYTES.saturating_add((facets as usize).saturating_mul(FACET_BYTES));
        let columns = keys.saturating_add((strays as usize).saturating_mul(4));
        self.words(columns.saturating_add(number.saturating_mul(COLUMN_BYTES)))
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
            place,
            posting: [start, posting],
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
        self.rows_of(|place| place == value.place, read)?.all()
    }

    /// The rows without a value.
    ///
    /// # Errors
    /// What `read` answers, and [`FormatError::Malformed`].
    pub fn nulls(&self, read: ReadPostings<'_>) -> Result<RoaringBitmap, FormatError> {
        self.rows_of(|place| place == self.len(), read)?.all()
    }

    /// The rows of some values, given by their places; the place after the last one is
    /// that of the rows without a value. Many values take hardly longer than one.
    ///
    /// # Errors
    /// What `read` answers, and [`FormatError::Malformed`].
    pub fn rows_of(
        &self,
        is_wanted: impl Fn(usize) -> bool,
        read: ReadPostings<'_>,
    ) -> Result<FacetRows, FormatError> {
        let nulls = match self.stored {
            Stored::Postings(nulls) => nulls,
            Stored::Codes { column, values } => {
                let (planes, values) = self.codes(column, values, read)?;
                let last = values.last().map_or(0, |value| usize::from(*value));
                let values = values.iter().map(|value| usize::from(*value));
                let codes = 1 << planes.count();
                // A code that there is not counts as the last one, for fewer steps.
                let values = values.chain(std::iter::repeat(last)).take(codes);
                let is_wanted: Vec<bool> = values.map(is_wanted).collect();
                return Ok(FacetRows::Codes(CodeRows {
                    planes,
                    wanted: Decision::of(&is_wanted),
                }));
            }
        };
        let mut postings = Vec::with_capacity(self.len() + 1);
        for place in 0..=self.len() {
            postings.push(self.posting(place, nulls)?);
        }
        let postings = postings.into_iter().enumerate();
        // All rows but the others, where one is wanted that has all that others have not.
        let is_reversed = postings
            .clone()
            .any(|(place, [_, length])| length == ALL_OTHERS && is_wanted(place));
        let found = postings.filter(|(place, [_, length])| {
            *length != ALL_OTHERS && is_wanted(*place) != is_reversed
        });
        let found = found.map(|(_, [start, length])| {
            Posting::of_words(start, length).rows(&self.facets.rows, read)
        });
        let found: Vec<RoaringBitmap> = found.collect::<Result<_, _>>()?;
        if !is_reversed {
            return Ok(if found.len() > FEW_POSTINGS {
                FacetRows::Some(union(&found))
            } else {
                FacetRows::Any(found)
            });
        }
        let mut rows = RoaringBitmap::new();
        rows.insert_range(self.facets.rows.clone());
        Ok(FacetRows::Some(rows - union(&found)))
    }

    /// The number of the code column that it shares with other facets, if it has one.
    pub fn code_column(&self) -> Option<usize> {
        match self.stored {
            Stored::Postings(_) => None,
            Stored::Codes { column, .. } => Some(column),
        }
    }

    /// How many postings are compared with rows to count the values at some places, given as
    /// in [`Facet::rows_of`]: that of a value which is left out takes all others.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn postings_of(&self, is_wanted: impl Fn(usize) -> bool) -> Result<usize, FormatError> {
        let Stored::Postings(nulls) = self.stored else {
            return Ok(0);
        };
        let mut wanted = 0;
        for place in (0..=self.len()).filter(|place| is_wanted(*place)) {
            let [_, length] = self.posting(place, nulls)?;
            if length == ALL_OTHERS {
                return Ok(self.len());
            }
            wanted += 1;
        }
        Ok(wanted)
    }

    /// The posting at a place, after those of values that of null.
    fn posting(&self, place: usize, nulls: [u32; 2]) -> Result<[u32; 2], FormatError> {
        if place < self.len() {
            Ok(self.value(place)?.posting)
        } else {
            Ok(nulls)
        }
    }

    /// How many of some rows of the partition have each value, in the order of the
    /// values, and then how many have none; 0 at places that are not wanted, which are given
    /// as in [`Facet::rows_of`]. `known` is kept for the next facet, of the same rows.
    ///
    /// # Errors
    /// What `read` answers, and [`FormatError::Malformed`].
    pub fn counts(
        &self,
        rows: &RoaringBitmap,
        is_wanted: impl Fn(usize) -> bool,
        known: &mut CodeCounts,
        read: ReadPostings<'_>,
    ) -> Result<Vec<u64>, FormatError> {
        let all = &self.facets.rows;
        if rows.len() > all.len() as u64 / 2 {
            // How many rows have each value is known: fewer others are to be counted.
            let mut others = RoaringBitmap::new();
            others.insert_range(all.clone());
            others -= rows;
            let mut counts = if others.is_empty() {
                vec![0; self.len() + 1]
            } else {
                self.counts_of_few(&others, &is_wanted, known, read)?
            };
            let wanted = counts.iter_mut().enumerate();
            for (place, count) in wanted.filter(|(place, _)| is_wanted(*place)) {
                let of_all = if place < self.len() {
                    self.value(place)?.rows
                } else {
                    self.null_rows
                };
                *count = u64::from(of_all).saturating_sub(*count);
            }
            return Ok(counts);
        }
        self.counts_of_few(rows, &is_wanted, known, read)
    }

    fn counts_of_few(
        &self,
        rows: &RoaringBitmap,
        is_wanted: &dyn Fn(usize) -> bool,
        known: &mut CodeCounts,
        read: ReadPostings<'_>,
    ) -> Result<Vec<u64>, FormatError> {
        let mut counts = vec![0; self.len() + 1];
        let nulls = match self.stored {
            Stored::Postings(nulls) => nulls,
            Stored::Codes { column, values } => {
                let (planes, values) = self.codes(column, values, read)?;
                let of_codes = match known.0.entry(column) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(place) => *place.insert(planes.counts(rows)?),
                };
                let last = values.last().copied().unwrap_or_default();
                let values = values.iter().copied().chain(std::iter::repeat(last));
                let values = values.map(usize::from).zip(of_codes);
                for (value, rows) in values.filter(|(value, _)| is_wanted(*value)) {
                    if let Some(count) = counts.get_mut(value) {
                        *count += rows;
                    }
                }
                return Ok(counts);
            }
        };
        let mut left_out = None;
        for place in (0..counts.len()).filter(|place| is_wanted(*place)) {
            let [_, length] = self.posting(place, nulls)?;
            if length == ALL_OTHERS {
                left_out = Some(place);
            }
        }
        let mut others = 0;
        for (place, count) in counts.iter_mut().enumerate() {
            let is_counted = left_out.is_some() || is_wanted(place);
            if !is_counted || left_out == Some(place) {
                continue;
            }
            let [start, length] = self.posting(place, nulls)?;
            let posting = Posting::of_words(start, length);
            let of_place = posting.count(rows, &self.facets.rows, read)?;
            others += of_place;
            if is_wanted(place) {
                *count = of_place;
            }
        }
        if let Some(count) = left_out.and_then(|place| counts.get_mut(place)) {
            *count = rows.len().saturating_sub(others);
        }
        Ok(counts)
    }

    /// A code column, and the values of its codes.
    fn codes(
        &self,
        column: usize,
        values: usize,
        read: ReadPostings<'_>,
    ) -> Result<(Planes, &[u8]), FormatError> {
        let facets = self.facets;
        let [start, bytes, codes] = facets.code_column(column)?;
        let (start, bytes, codes) = (u64::from(start), u64::from(bytes), codes as usize);
        if !(1..=MOST_CODES).contains(&codes) {
            return Err(facets.malformed("from 1 to 128 codes"));
        }
        let values = facets.block.get(values..values.saturating_add(codes));
        let values = values.ok_or_else(|| facets.malformed("values of codes within the block"))?;
        let bytes = read(start..start + bytes)?;
        let planes = Planes::new(bytes, facets.rows.clone(), planes_of(codes), start);
        Ok((planes, values))
    }

    /// Bytes of the bitmaps of all its values, and of null; those of a code column that
    /// facets share are counted with the first of them.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn posting_bytes(&self) -> Result<u64, FormatError> {
        let nulls = match self.stored {
            Stored::Postings(nulls) => nulls,
            Stored::Codes { column, .. } => {
                for place in 0..self.place {
                    let [.., other, _, _] =
                        self.facets.words::<7>(HEAD_BYTES + place * FACET_BYTES)?;
                    if other as usize == column + 1 {
                        return Ok(0);
                    }
                }
                let [_, bytes, _] = self.facets.code_column(column)?;
                return Ok(bytes.into());
            }
        };
        let bytes = |[start, length]: [u32; 2]| match Posting::of_words(start, length) {
            Posting::Bitmap(range) if length != ALL_OTHERS => range.end - range.start,
            _ => 0,
        };
        let mut all = bytes(nulls);
        for place in 0..self.len() {
            all += bytes(self.value(place)?.posting);
        }
        Ok(all)
    }
}
