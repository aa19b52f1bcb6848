//! Gathers the facets of a partition while its rows are written.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, UInt32Type};
use bytes::BufMut;
use hashbrown::HashMap;

use super::groups::{self, Candidate};
use super::numbers::RowNumbers;
use super::{
    ALL_OTHERS, COLUMN_BYTES, FACET_BYTES, MOST_PROMOTED_VALUES, MOST_VALUES, VALUE_BYTES,
    integer_bytes, planes,
};
use crate::error::FormatError;
use crate::segment::postings::{BitmapSize, PostingsBuilder, Stored};

/// Gathers the facets of one partition.
#[derive(Debug)]
pub(in crate::segment) struct FacetsBuilder {
    facets: Vec<FacetBuilder>,
}

/// The number of rows without a value.
const NO_VALUE: u16 = 0;

#[derive(Debug)]
struct FacetBuilder {
    column: usize,
    most_values: usize,
    /// The number of each value, from 1 on.
    values: HashMap<Vec<u8>, u16>,
    /// The same of values of the batch at work, by what tells them apart there.
    known: HashMap<u128, u16>,
    rows: RowNumbers,
    has_too_many: bool,
}

impl FacetsBuilder {
    /// Of columns of the file by their places, the first of which, up to
    /// `first_promoted`, are the table's; the partition's first row is the segment's row
    /// `first_row`.
    pub(in crate::segment) fn new(
        columns: &[usize],
        first_promoted: usize,
        first_row: u32,
    ) -> Self {
        let facets = columns.iter().map(|column| FacetBuilder {
            column: *column,
            most_values: if *column < first_promoted {
                MOST_VALUES
            } else {
                MOST_PROMOTED_VALUES
            },
            values: HashMap::new(),
            known: HashMap::new(),
            rows: RowNumbers::new(first_row),
            has_too_many: false,
        });
        Self {
            facets: facets.collect(),
        }
    }

    /// Adds the partition's next rows; `columns` are those of the file.
    pub(in crate::segment) fn add(&mut self, columns: &[ArrayRef]) {
        for facet in &mut self.facets {
            if let Some(column) = columns.get(facet.column).filter(|_| !facet.has_too_many) {
                facet.add(column);
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
        let facets = facets.filter(|facet| !facet.has_too_many && !facet.values.is_empty());
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
        for (number, facet) in facets.into_iter().enumerate() {
            let coded = coded.remove(&number);
            let postings_of_facet = match &coded {
                None => facet.put(postings, &mut stored)?,
                Some(_) => vec![[0, 0]; facet.sizes.len()],
            };
            let texts_start = values_start + values.len() + facet.values.len() * VALUE_BYTES;
            let mut texts = Vec::new();
            out.put_u32_le(facet.column as u32);
            out.put_u32_le(facet.values.len() as u32);
            out.put_u32_le((values_start + values.len()) as u32);
            for ((text, size), posting) in facet
                .values
                .iter()
                .zip(&facet.sizes)
                .zip(&postings_of_facet)
            {
                values.put_u32_le((texts_start + texts.len()) as u32);
                values.put_u32_le(text.len() as u32);
                values.put_u32_le(size.rows() as u32);
                for word in posting {
                    values.put_u32_le(*word);
                }
                texts.extend_from_slice(text);
            }
            values.extend_from_slice(&texts);
            let nulls = facet.sizes.last().map_or(0, BitmapSize::rows);
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
    let codes: Vec<Vec<u8>> = facets.iter().map(WholeFacet::codes).collect();
    let candidates = facets.iter().zip(&codes).map(|(facet, codes)| Candidate {
        numbers: &facet.rows,
        sets: codes,
        count: facet.sizes.iter().filter(|size| size.rows() > 0).count(),
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

/// A facet whose rows are all there. Its sets are the rows of each value, in the order of
/// the values, and at last those without one.
#[derive(Debug)]
struct WholeFacet {
    column: usize,
    /// In their order.
    values: Vec<Vec<u8>>,
    rows: RowNumbers,
    /// For each number its set.
    sets: Vec<u16>,
    /// What the bitmap of each set takes.
    sizes: Vec<BitmapSize>,
    /// Which set needs no bitmap, since all others have one.
    left_out: usize,
    /// Bytes of the bitmaps.
    bytes: u64,
}

impl WholeFacet {
    /// For each number its set as a code, where codes have room for all.
    fn codes(&self) -> Vec<u8> {
        self.sets.iter().map(|set| *set as u8).collect()
    }

    /// Puts the rows of each set into the postings.
    fn put(
        &self,
        postings: &mut PostingsBuilder,
        stored: &mut Stored,
    ) -> Result<Vec<[u32; 2]>, FormatError> {
        let sets = self.rows_of_sets().into_iter().enumerate();
        let words = sets.map(|(number, rows)| {
            if number == self.left_out {
                Ok([0, ALL_OTHERS])
            } else {
                postings.put_once(&rows, stored)
            }
        });
        words.collect()
    }

    /// The rows of each set but the one that is left out.
    fn rows_of_sets(&self) -> Vec<Vec<u32>> {
        let sizes = self.sizes.iter().enumerate();
        let mut rows: Vec<Vec<u32>> = sizes
            .map(|(number, size)| {
                let is_left_out = number == self.left_out;
                Vec::with_capacity(if is_left_out { 0 } else { size.rows() as usize })
            })
            .collect();
        let mut row = self.rows.first_row();
        for (number, count) in self.rows.runs().flatten() {
            let set = self.sets.get(usize::from(number)).copied();
            let set = set.map(usize::from).filter(|set| *set != self.left_out);
            if let Some(rows) = set.and_then(|set| rows.get_mut(set)) {
                rows.extend(row..row + count);
            }
            row += count;
        }
        rows
    }
}

impl FacetBuilder {
    fn finish(mut self) -> WholeFacet {
        self.rows.finish();
        let mut sorted: Vec<(Vec<u8>, u16)> = self.values.drain().collect();
        sorted.sort_unstable();
        let mut sets = vec![sorted.len() as u16; sorted.len() + 1];
        for (place, (_, number)) in (0..).zip(&sorted) {
            if let Some(set) = sets.get_mut(usize::from(*number)) {
                *set = place;
            }
        }
        let sizes = sizes(&self.rows, &sets);
        let of_bitmaps = sizes.iter().map(|size| (size.bytes(), size.rows()));
        let left_out = of_bitmaps.enumerate().max_by_key(|(_, size)| *size);
        let (left_out, (most, _)) = left_out.unwrap_or_default();
        WholeFacet {
            column: self.column,
            values: sorted.into_iter().map(|(value, _)| value).collect(),
            rows: self.rows,
            sets,
            left_out,
            bytes: sizes.iter().map(BitmapSize::bytes).sum::<u64>() - most,
            sizes,
        }
    }

    fn add(&mut self, column: &ArrayRef) {
        if let Some(texts) = column.as_string_view_opt() {
            // Equal views of one column are equal texts. Two views of equal texts are
            // seen to be that by the texts.
            let view = |row: usize| texts.views().get(row).copied().unwrap_or_default();
            self.add_rows(column, view, |row| texts.value(row));
        } else if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
            self.add_numbers::<Int32Type>(column, numbers.values());
        } else if let Some(numbers) = column.as_primitive_opt::<UInt32Type>() {
            self.add_numbers::<UInt32Type>(column, numbers.values());
        } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            self.add_numbers::<Int64Type>(column, numbers.values());
        } else if let Some(truths) = column.as_boolean_opt() {
            let truth = |row: usize| u8::from(truths.value(row));
            self.add_rows(column, |row| truth(row).into(), |row| [truth(row)]);
        } else {
            self.leave_out();
        }
    }

    fn add_numbers<T: ArrowPrimitiveType>(&mut self, column: &ArrayRef, numbers: &[T::Native])
    where
        T::Native: Into<i64>,
    {
        let number = |row: usize| numbers.get(row).copied().unwrap_or_default().into();
        self.add_rows(
            column,
            |row| number(row).cast_unsigned().into(),
            |row| integer_bytes(number(row)),
        );
    }

    /// Adds the rows of a column run by run: neighbours are often equal. Rows of equal
    /// keys have equal values.
    fn add_rows<V: AsRef<[u8]>>(
        &mut self,
        column: &ArrayRef,
        key: impl Fn(usize) -> u128,
        value: impl Fn(usize) -> V,
    ) {
        self.known.clear();
        let valid = match column.nulls() {
            Some(nulls) => nulls.valid_slices().collect(),
            None => vec![(0, column.len())],
        };
        let mut end = 0;
        for (first, after) in valid {
            self.rows.push(NO_VALUE, (first - end) as u32);
            let mut start = first;
            while start < after {
                let current = key(start);
                let mut next = start + 1;
                while next < after && key(next) == current {
                    next += 1;
                }
                let known = self.known.get(&current).copied();
                let Some(number) = known.or_else(|| self.number(current, value(start).as_ref()))
                else {
                    self.leave_out();
                    return;
                };
                self.rows.push(number, (next - start) as u32);
                start = next;
            }
            end = after;
        }
        self.rows.push(NO_VALUE, (column.len() - end) as u32);
    }

    /// The number of a value; none when it is one too many.
    fn number(&mut self, key: u128, value: &[u8]) -> Option<u16> {
        let number = match self.values.get(value) {
            Some(number) => *number,
            None if self.values.len() == self.most_values => return None,
            None => {
                let number = self.values.len() as u16 + 1;
                self.values.insert(value.to_vec(), number);
                number
            }
        };
        self.known.insert(key, number);
        Some(number)
    }

    fn leave_out(&mut self) {
        self.has_too_many = true;
        self.values = HashMap::new();
        self.known = HashMap::new();
        self.rows = RowNumbers::new(0);
    }
}

/// What the bitmap of each set takes; `sets` has the set of each number.
fn sizes(rows: &RowNumbers, sets: &[u16]) -> Vec<BitmapSize> {
    let mut sizes = vec![BitmapSize::default(); sets.len()];
    let mut last = None;
    for runs in rows.runs() {
        // Rows and runs in the container of each set, and runs that begin there.
        let mut containers = vec![[0; 3]; sets.len()];
        for (number, count) in runs {
            let begins = u32::from(last.replace(number) != Some(number));
            let set = sets.get(usize::from(number)).copied().unwrap_or_default();
            if let Some([rows, runs, begun]) = containers.get_mut(usize::from(set)) {
                *rows += count;
                *runs += 1;
                *begun += begins;
            }
        }
        for (size, [rows, runs, begun]) in sizes.iter_mut().zip(containers) {
            size.add(rows, runs, begun);
        }
    }
    sizes
}
