//! Facets: for columns of few values, the rows of each value and their count.
//!
//! ```text
//! block of a partition: facets u32 · facet[facets] · values · value bytes
//! facet (28 bytes): column u32 · values u32 · offset of its values u32 ·
//!                   rows with null u32 · rows u32 · start u32 · length u32
//! value (20 bytes): bytes offset u32 · bytes u32 · rows u32 · start u32 · length u32
//! ```
//! Offsets count from the start of the block. `start` and `length` stand for
//! rows as in the key index, bitmaps lying in the postings; a length of
//! 2^32 - 1 stands for the rows of the partition that no other value of the
//! facet, nor null, has: the largest posting of each facet is left out.
//!
//! A partition has a block when it has [`LEAST_ROWS`] rows; a facet is left out
//! of it where it has too many values. Values are sorted by their bytes: texts
//! as they are, integers as `i64` in little-endian, booleans as one byte.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::{Buf, BufMut, Bytes};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use twox_hash::XxHash3_128;

use super::key_index::{Posting, put_posting};
use super::promotion::{PromotedType, Promotion};
use crate::error::FormatError;
use crate::span::schema::schema;

/// Columns of the span schema that are facets.
pub const COLUMNS: [&str; 17] = [
    "level",
    "status",
    "kind",
    "origin",
    "service",
    "environment",
    "deployment_id",
    "branch",
    "region",
    "host",
    "method",
    "route",
    "status_code",
    "request_type",
    "resource",
    "cache",
    "name",
];

/// Rows from which on a partition has facets. Below, reading a column costs
/// less than the postings would take.
pub const LEAST_ROWS: u32 = 8_192;
/// Values that a facet of the span schema may have in a partition.
const MOST_VALUES: usize = 4_096;
/// Values that a facet of a promoted key may have in a partition.
const MOST_PROMOTED_VALUES: usize = 32;

const FACET_BYTES: usize = 28;
const VALUE_BYTES: usize = 20;
/// The length of a posting that is left out.
const ALL_OTHERS: u32 = u32::MAX;
const PART: &str = "facets";

/// The places of facets in the file of a segment, in rising order.
pub fn columns(promotion: &Promotion) -> Vec<usize> {
    let schema = schema();
    let mut columns: Vec<usize> = COLUMNS
        .iter()
        .filter_map(|name| schema.index_of(name).ok())
        .collect();
    let own = promotion.keys().iter().filter(|key| key.has_own_column());
    columns.extend(
        own.filter(|key| key.value != PromotedType::Double && !key.is_varied)
            .map(|key| key.column),
    );
    columns.sort_unstable();
    columns
}

/// Gathers the facets of one partition.
#[derive(Debug)]
pub(super) struct FacetsBuilder {
    facets: Vec<FacetBuilder>,
}

#[derive(Debug)]
struct FacetBuilder {
    column: usize,
    most_values: usize,
    numbers: HashMap<Vec<u8>, usize>,
    /// Rows of each value, by its number.
    rows: Vec<RoaringBitmap>,
    nulls: RoaringBitmap,
    has_too_many: bool,
}

impl FacetsBuilder {
    pub(super) fn new(columns: &[usize]) -> Self {
        let first_promoted = schema().fields().len();
        let facets = columns.iter().map(|column| FacetBuilder {
            column: *column,
            most_values: if *column < first_promoted {
                MOST_VALUES
            } else {
                MOST_PROMOTED_VALUES
            },
            numbers: HashMap::new(),
            rows: Vec::new(),
            nulls: RoaringBitmap::new(),
            has_too_many: false,
        });
        Self {
            facets: facets.collect(),
        }
    }

    /// Adds rows of the partition; `columns` are those of the file, their first
    /// row is the segment's row `first_row`.
    pub(super) fn add(&mut self, columns: &[ArrayRef], first_row: u32) {
        for facet in &mut self.facets {
            if let Some(column) = columns.get(facet.column).filter(|_| !facet.has_too_many) {
                facet.add(column, first_row);
            }
        }
    }

    /// The block; bitmaps go to the postings.
    pub(super) fn finish(
        self,
        rows: &Range<u32>,
        postings: &mut Vec<u8>,
    ) -> Result<Vec<u8>, FormatError> {
        // Attributes that come together have the same rows: stored once.
        let mut stored = HashMap::new();
        let facets: Vec<_> = self
            .facets
            .into_iter()
            .filter(|facet| !facet.has_too_many && !facet.rows.is_empty())
            .collect();
        let mut out = Vec::new();
        out.put_u32_le(facets.len() as u32);
        let mut values = Vec::new();
        let values_start = out.len() + facets.len() * FACET_BYTES;
        for mut facet in facets {
            let mut sorted: Vec<(Vec<u8>, usize)> = facet.numbers.drain().collect();
            sorted.sort_unstable();
            let size = |rows: &RoaringBitmap| rows.len().min(rows.serialized_size() as u64);
            let largest = facet.rows.iter().map(size).max().unwrap_or(0);
            let is_null_left_out = size(&facet.nulls) > largest;
            let left_out = facet.rows.iter().position(|rows| size(rows) == largest);
            out.put_u32_le(facet.column as u32);
            out.put_u32_le(sorted.len() as u32);
            out.put_u32_le((values_start + values.len()) as u32);
            out.put_u32_le(facet.nulls.len() as u32);
            out.put_u32_le(rows.end - rows.start);
            put_rows(
                &mut facet.nulls,
                is_null_left_out,
                (postings, &mut stored),
                &mut out,
            )?;
            let mut texts = Vec::new();
            let texts_start = values_start + values.len() + sorted.len() * VALUE_BYTES;
            for (text, number) in sorted {
                values.put_u32_le((texts_start + texts.len()) as u32);
                values.put_u32_le(text.len() as u32);
                texts.extend_from_slice(&text);
                let Some(rows) = facet.rows.get_mut(number) else {
                    continue;
                };
                values.put_u32_le(rows.len() as u32);
                let is_left_out = !is_null_left_out && left_out == Some(number);
                put_rows(rows, is_left_out, (postings, &mut stored), &mut values)?;
            }
            values.extend_from_slice(&texts);
        }
        out.extend_from_slice(&values);
        Ok(out)
    }
}

fn put_rows(
    rows: &mut RoaringBitmap,
    is_left_out: bool,
    (postings, stored): (&mut Vec<u8>, &mut HashMap<u128, (u32, u32)>),
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let (start, length) = match (is_left_out, rows.is_empty()) {
        (true, _) => (0, ALL_OTHERS),
        (_, true) => (0, 0),
        _ => {
            let end = postings.len();
            let found = put_posting(rows, postings)?;
            // A hash, then a look at the bytes: two may share one.
            let bytes = postings.get(end..).unwrap_or_default();
            let hash = XxHash3_128::oneshot(bytes);
            match stored.get(&hash) {
                Some(same) if !bytes.is_empty() && is_same(postings, *same, end) => {
                    let same = *same;
                    postings.truncate(end);
                    same
                }
                _ => {
                    stored.insert(hash, found);
                    found
                }
            }
        }
    };
    out.put_u32_le(start);
    out.put_u32_le(length);
    Ok(())
}

/// Whether the bitmap that stands at `start` is that of a posting.
fn is_same(postings: &[u8], (place, length): (u32, u32), start: usize) -> bool {
    let Posting::Bitmap(range) = Posting::of_words(place, length) else {
        return false;
    };
    postings.get(range.start as usize..range.end as usize) == postings.get(start..)
}

impl FacetBuilder {
    fn add(&mut self, column: &ArrayRef, first_row: u32) {
        if let Some(texts) = column.as_string_view_opt() {
            let views = texts.views();
            let is_same = |one: usize, other: usize| {
                let (Some(view), Some(other_view)) = (views.get(one), views.get(other)) else {
                    return false;
                };
                // A view begins with the length and the first four bytes; a
                // text of up to 12 bytes is all in it.
                match (texts.is_valid(one), texts.is_valid(other)) {
                    (true, true) if view == other_view => true,
                    (true, true) if *view as u64 != *other_view as u64 => false,
                    (true, true) => *view as u32 > 12 && texts.value(one) == texts.value(other),
                    (one, other) => one == other,
                }
            };
            self.add_runs(texts.len(), first_row, is_same, |row| {
                texts.is_valid(row).then(|| texts.value(row).as_bytes())
            });
        } else if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
            let bytes: Vec<[u8; 8]> = numbers
                .values()
                .iter()
                .map(|number| i64::from(*number).to_le_bytes())
                .collect();
            let is_same = |one: usize, other: usize| {
                numbers.is_valid(one) == numbers.is_valid(other)
                    && (numbers.is_null(one) || bytes.get(one) == bytes.get(other))
            };
            self.add_runs(numbers.len(), first_row, is_same, |row| {
                bytes
                    .get(row)
                    .filter(|_| numbers.is_valid(row))
                    .map(|one| &one[..])
            });
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            let bytes: Vec<[u8; 8]> = numbers
                .values()
                .iter()
                .map(|number| number.to_le_bytes())
                .collect();
            let is_same = |one: usize, other: usize| {
                numbers.is_valid(one) == numbers.is_valid(other)
                    && (numbers.is_null(one) || bytes.get(one) == bytes.get(other))
            };
            self.add_runs(numbers.len(), first_row, is_same, |row| {
                bytes
                    .get(row)
                    .filter(|_| numbers.is_valid(row))
                    .map(|one| &one[..])
            });
        } else if let Some(truths) = column.as_boolean_opt() {
            let is_same = |one: usize, other: usize| {
                truths.is_valid(one) == truths.is_valid(other)
                    && (truths.is_null(one) || truths.value(one) == truths.value(other))
            };
            self.add_runs(truths.len(), first_row, is_same, |row| {
                let truth: &[u8] = if truths.value(row) { &[1] } else { &[0] };
                truths.is_valid(row).then_some(truth)
            });
        } else {
            self.has_too_many = true;
        }
    }

    /// Adds rows run by run: neighbours are often equal.
    fn add_runs<'a>(
        &mut self,
        rows: usize,
        first_row: u32,
        is_same: impl Fn(usize, usize) -> bool,
        value: impl Fn(usize) -> Option<&'a [u8]>,
    ) {
        let mut start = 0;
        while start < rows {
            let current = value(start);
            let mut end = start + 1;
            while end < rows && is_same(start, end) {
                end += 1;
            }
            let run = first_row + start as u32..first_row + end as u32;
            match current {
                None => {
                    self.nulls.insert_range(run);
                }
                Some(bytes) => {
                    let Some(number) = self.number(bytes) else {
                        return;
                    };
                    if let Some(rows) = self.rows.get_mut(number) {
                        rows.insert_range(run);
                    }
                }
            }
            start = end;
        }
    }

    fn number(&mut self, bytes: &[u8]) -> Option<usize> {
        if let Some(number) = self.numbers.get(bytes) {
            return Some(*number);
        }
        if self.rows.len() == self.most_values {
            self.has_too_many = true;
            self.rows.clear();
            self.numbers.clear();
            return None;
        }
        let number = self.rows.len();
        self.numbers.insert(bytes.to_vec(), number);
        self.rows.push(RoaringBitmap::new());
        Some(number)
    }
}

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
    /// A text; an integer as `i64` in little-endian; a boolean as one byte.
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
                self.words(4 + place * FACET_BYTES)?;
            if found as usize == column {
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

    /// The places of the columns that have a facet.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn columns(&self) -> Result<Vec<usize>, FormatError> {
        let [count] = self.words(0)?;
        (0..count as usize)
            .map(|place| {
                let [column] = self.words(4 + place * FACET_BYTES)?;
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
