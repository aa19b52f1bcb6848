//! Gathers the facets of a partition while its rows are written.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};
use bytes::BufMut;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use twox_hash::XxHash3_128;

use super::{
    ALL_OTHERS, FACET_BYTES, MOST_PROMOTED_VALUES, MOST_VALUES, VALUE_BYTES, integer_bytes,
};
use crate::error::FormatError;
use crate::segment::key_index::{Posting, put_posting};

/// Gathers the facets of one partition.
#[derive(Debug)]
pub(in crate::segment) struct FacetsBuilder {
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
    /// Of columns of the file by their places, the first of which, up to
    /// `first_promoted`, are the table's.
    pub(in crate::segment) fn new(columns: &[usize], first_promoted: usize) -> Self {
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
    pub(in crate::segment) fn add(&mut self, columns: &[ArrayRef], first_row: u32) {
        for facet in &mut self.facets {
            if let Some(column) = columns.get(facet.column).filter(|_| !facet.has_too_many) {
                facet.add(column, first_row);
            }
        }
    }

    /// The block; bitmaps go to the postings. `strays` are the numbers of the
    /// promoted keys that have strays in the partition.
    pub(in crate::segment) fn finish(
        self,
        rows: &Range<u32>,
        strays: &BTreeSet<u32>,
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
        out.put_u32_le(strays.len() as u32);
        let mut values = Vec::new();
        for key in strays {
            values.put_u32_le(*key);
        }
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
            self.add_numbers(column, first_row, |row| i64::from(numbers.value(row)));
        } else if let Some(numbers) = column.as_primitive_opt::<UInt32Type>() {
            self.add_numbers(column, first_row, |row| i64::from(numbers.value(row)));
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            self.add_numbers(column, first_row, |row| numbers.value(row));
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

    fn add_numbers(&mut self, column: &ArrayRef, first_row: u32, number: impl Fn(usize) -> i64) {
        let bytes: Vec<Option<[u8; 8]>> = (0..column.len())
            .map(|row| column.is_valid(row).then(|| integer_bytes(number(row))))
            .collect();
        let is_same = |one: usize, other: usize| bytes.get(one) == bytes.get(other);
        self.add_runs(column.len(), first_row, is_same, |row| {
            bytes.get(row)?.as_ref().map(|bytes| &bytes[..])
        });
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
