//! Gathers the facets of a partition while its rows are written.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};
use bytes::BufMut;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::groups::{self, Candidate};
use super::{
    ALL_OTHERS, COLUMN_BYTES, FACET_BYTES, MOST_PROMOTED_VALUES, MOST_VALUES, VALUE_BYTES,
    integer_bytes, planes,
};
use crate::error::FormatError;
use crate::segment::postings::{PostingsBuilder, Stored};

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

    /// The block; bitmaps and bit planes go to the postings. `strays` are the numbers of
    /// the promoted keys that have strays in the partition.
    pub(in crate::segment) fn finish(
        self,
        rows: &Range<u32>,
        strays: &BTreeSet<u32>,
        postings: &mut PostingsBuilder,
    ) -> Result<Vec<u8>, FormatError> {
        let facets = self.facets.into_iter();
        let facets = facets.filter(|facet| !facet.has_too_many && !facet.rows.is_empty());
        let facets: Vec<WholeFacet> = facets.map(FacetBuilder::finish).collect();
        let (columns, mut coded) = code_columns(&facets, rows, postings)?;
        let mut out = Vec::new();
        for count in [facets.len(), strays.len(), columns.len()] {
            out.put_u32_le(count as u32);
        }
        let values_start = out.len()
            + facets.len() * FACET_BYTES
            + strays.len() * 4
            + columns.len() * COLUMN_BYTES;
        let mut values = Vec::new();
        // Attributes that come together have the same rows: stored once.
        let mut stored = Stored::new();
        for (number, mut facet) in facets.into_iter().enumerate() {
            let coded = coded.remove(&number);
            let postings_of_facet = match &coded {
                None => facet.put(postings, &mut stored)?,
                Some(_) => vec![[0, 0]; facet.sets.len()],
            };
            let texts_start = values_start + values.len() + facet.values.len() * VALUE_BYTES;
            let mut texts = Vec::new();
            out.put_u32_le(facet.column as u32);
            out.put_u32_le(facet.values.len() as u32);
            out.put_u32_le((values_start + values.len()) as u32);
            for ((text, rows), posting) in
                facet.values.iter().zip(&facet.sets).zip(&postings_of_facet)
            {
                values.put_u32_le((texts_start + texts.len()) as u32);
                values.put_u32_le(text.len() as u32);
                values.put_u32_le(rows.len() as u32);
                for word in posting {
                    values.put_u32_le(*word);
                }
                texts.extend_from_slice(text);
            }
            values.extend_from_slice(&texts);
            let nulls = facet
                .sets
                .get(facet.values.len())
                .map_or(0, RoaringBitmap::len);
            out.put_u32_le(nulls as u32);
            let (column, [start, length]) = match coded {
                None => (0, postings_of_facet.last().copied().unwrap_or_default()),
                Some((column, of_codes)) => {
                    let start = values_start + values.len();
                    values.extend_from_slice(&of_codes);
                    (column, [start as u32, 0])
                }
            };
            out.put_u32_le(column);
            out.put_u32_le(start);
            out.put_u32_le(length);
        }
        for key in strays {
            out.put_u32_le(*key);
        }
        for word in columns.into_iter().flatten() {
            out.put_u32_le(word);
        }
        out.extend_from_slice(&values);
        Ok(out)
    }
}

/// For facets by their numbers, the number of their code column, from 1 on, and the
/// values of its codes.
type CodedFacets = HashMap<usize, (u32, Vec<u8>)>;

/// The code columns where they take fewer bytes than bitmaps do, and the facets that
/// have one.
fn code_columns(
    facets: &[WholeFacet],
    rows: &Range<u32>,
    postings: &mut PostingsBuilder,
) -> Result<(Vec<[u32; 3]>, CodedFacets), FormatError> {
    let (mut columns, mut coded) = (Vec::new(), CodedFacets::new());
    let candidates = facets.iter().map(|facet| Candidate {
        sets: facet.sets.iter().filter(|set| !set.is_empty()).collect(),
        bytes: facet.bytes,
    });
    let candidates: Vec<_> = candidates.collect();
    for group in groups::choose(&candidates, rows) {
        let members = group.facets.iter();
        let bytes = members.filter_map(|(number, _)| Some(facets.get(*number)?.bytes));
        let planes = planes::encode(&group.codes, rows, planes::planes_of(group.count));
        let tables = group.count * group.facets.len();
        if (planes.len() + tables) as u64 >= bytes.sum() {
            continue;
        }
        let [start, bytes] = postings.put_bytes(&planes)?;
        columns.push([start, bytes, group.count as u32]);
        let number = columns.len() as u32;
        let members = group.facets.into_iter();
        coded.extend(members.map(|(facet, of_codes)| (facet, (number, of_codes))));
    }
    Ok((columns, coded))
}

/// A facet whose rows are all there.
#[derive(Debug)]
struct WholeFacet {
    column: usize,
    /// In their order.
    values: Vec<Vec<u8>>,
    /// The rows of each value, and at last those without one.
    sets: Vec<RoaringBitmap>,
    /// Which of them needs no bitmap, since all others have one.
    left_out: usize,
    /// Bytes of the bitmaps.
    bytes: u64,
}

impl WholeFacet {
    /// Puts the rows of each set into the postings.
    fn put(
        &mut self,
        postings: &mut PostingsBuilder,
        stored: &mut Stored,
    ) -> Result<Vec<[u32; 2]>, FormatError> {
        let left_out = self.left_out;
        let sets = self.sets.iter_mut().enumerate();
        let words = sets.map(
            |(number, rows)| match (number == left_out, rows.is_empty()) {
                (true, _) => Ok([0, ALL_OTHERS]),
                (_, true) => Ok([0, 0]),
                _ => postings.put_once(rows, stored),
            },
        );
        words.collect()
    }
}

impl FacetBuilder {
    fn finish(mut self) -> WholeFacet {
        let mut sorted: Vec<(Vec<u8>, usize)> = self.numbers.drain().collect();
        sorted.sort_unstable();
        let (mut values, mut sets) = (Vec::new(), Vec::new());
        for (value, number) in sorted {
            values.push(value);
            sets.push(
                self.rows
                    .get_mut(number)
                    .map(std::mem::take)
                    .unwrap_or_default(),
            );
        }
        sets.push(self.nulls);
        let bytes: Vec<u64> = sets.iter_mut().map(PostingsBuilder::bytes_of).collect();
        let sizes = sets.iter().zip(&bytes).enumerate();
        let left_out = sizes.max_by_key(|(_, (rows, bytes))| (**bytes, rows.len()));
        let left_out = left_out.map_or(0, |(number, _)| number);
        WholeFacet {
            column: self.column,
            values,
            sets,
            left_out,
            bytes: bytes.iter().sum::<u64>() - bytes.get(left_out).copied().unwrap_or(0),
        }
    }

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
