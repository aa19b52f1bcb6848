//! Texts and bytes on their way to view columns.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, GenericByteViewArray, GenericByteViewBuilder,
    UInt32Array, UInt32Builder,
};
use arrow::compute::take;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::columns::RESERVED_ROWS;

/// Texts on their way to a view column.
pub(super) type Texts = Views<StringViewType>;
/// Bytes on their way to a view column.
pub(super) type Blobs = Views<BinaryViewType>;

/// Values on their way to a view column, in which a value that repeats the one
/// before it, nulls aside, shares its bytes: spans of a request have most of
/// what they have in common. So does one that repeats the last value that came
/// from a resource, whatever came in between. The bytes lie in blocks, which are
/// small for a small batch and never move. Most columns of most batches are null
/// throughout, so nothing is allocated before the first value.
pub(super) struct Views<V: ByteViewType> {
    values: GenericByteViewBuilder<V>,
    /// Places in `values` of the last value, and of the last one of a resource.
    last: Option<u32>,
    last_of_resource: Option<u32>,
    /// Rows for which room is made at the first value.
    expected_rows: usize,
    /// Rows before the first value.
    leading_nulls: usize,
    /// Which of the values each row has, from the first value on.
    rows: UInt32Builder,
}

impl<V: ByteViewType> fmt::Debug for Views<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.leading_nulls + self.rows.len();
        out.debug_struct("Views")
            .field("rows", &rows)
            .finish_non_exhaustive()
    }
}

/// Bytes of a block for each row that is expected.
const BLOCK_BYTES_PER_ROW: usize = 16;
const SMALLEST_BLOCK_BYTES: usize = 256;
const LARGEST_BLOCK_BYTES: usize = 256 << 10;

impl<V: ByteViewType> Views<V> {
    /// For about this many rows.
    pub(super) fn with_capacity(rows: usize) -> Self {
        let block = rows
            .saturating_mul(BLOCK_BYTES_PER_ROW)
            .clamp(SMALLEST_BLOCK_BYTES, LARGEST_BLOCK_BYTES);
        Self {
            values: GenericByteViewBuilder::with_capacity(0).with_fixed_block_size(block as u32),
            last: None,
            last_of_resource: None,
            expected_rows: rows.min(RESERVED_ROWS),
            leading_nulls: 0,
            rows: UInt32Builder::with_capacity(0),
        }
    }

    /// Adds a value.
    ///
    /// # Errors
    /// When it has 4 GiB or more.
    pub(super) fn append_value(&mut self, value: impl AsRef<V::Native>) -> Result<(), ArrowError> {
        let place = match self.last {
            Some(last) if self.is_at(last, value.as_ref()) => last,
            _ => self.push(value)?,
        };
        self.add(place);
        Ok(())
    }

    fn add(&mut self, place: u32) {
        if self.last.is_none() {
            let expected = self.expected_rows.max(self.leading_nulls + 1);
            self.rows = UInt32Builder::with_capacity(expected);
            self.rows.append_nulls(self.leading_nulls);
            self.leading_nulls = 0;
        }
        self.last = Some(place);
        self.rows.append_value(place);
    }

    /// Adds a value that came from the resource, which spans that come later may
    /// have too.
    ///
    /// # Errors
    /// As [`Views::append_value`].
    pub(super) fn append_of_resource(
        &mut self,
        value: impl AsRef<V::Native>,
    ) -> Result<(), ArrowError> {
        let known = [self.last, self.last_of_resource].into_iter().flatten();
        let mut known = known.filter(|place| self.is_at(*place, value.as_ref()));
        let place = match known.next() {
            Some(place) => place,
            None => self.push(value)?,
        };
        self.last_of_resource = Some(place);
        self.add(place);
        Ok(())
    }

    fn is_at(&self, place: u32, value: &V::Native) -> bool {
        let bytes: &[u8] = value.as_ref();
        self.values.get_value(place as usize) == bytes
    }

    fn push(&mut self, value: impl AsRef<V::Native>) -> Result<u32, ArrowError> {
        let place = self.values.len();
        self.values.try_append_value(value)?;
        Ok(place as u32)
    }

    pub(super) fn append_null(&mut self) {
        match self.last {
            None => self.leading_nulls += 1,
            Some(_) => self.rows.append_null(),
        }
    }

    /// Adds the last value once more.
    pub(super) fn append_again(&mut self) {
        match self.last {
            None => self.append_null(),
            Some(last) => self.add(last),
        }
    }

    /// Adds a value or null.
    ///
    /// # Errors
    /// As [`Views::append_value`].
    pub(super) fn append_option(
        &mut self,
        value: Option<impl AsRef<V::Native>>,
    ) -> Result<(), ArrowError> {
        match value {
            Some(value) => self.append_value(value),
            None => {
                self.append_null();
                Ok(())
            }
        }
    }

    /// The column; `nulls` if it has no value, which columns can share.
    ///
    /// # Errors
    /// When the rows do not fit the values, which they do.
    pub(super) fn finish(mut self, nulls: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        if self.last.is_none() {
            return Ok(Arc::clone(nulls));
        }
        let values = self.values.finish();
        let rows = self.rows.finish();
        let is_each_once = rows.len() == values.len() && rows.null_count() == 0;
        if is_each_once && rows.values().iter().copied().eq(0..rows.len() as u32) {
            return Ok(Arc::new(values));
        }
        take(&values, &rows, None)
    }
}

/// A column without the bytes that none of its rows has. Equal values of a view column
/// share theirs, however often they come.
///
/// # Errors
/// When a value has 4 GiB or more.
pub fn compact(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Utf8View => compact_views(column.as_string_view()),
        DataType::BinaryView => compact_views(column.as_binary_view()),
        _ => Ok(Arc::clone(column)),
    }
}

fn compact_views<V: ByteViewType>(
    column: &GenericByteViewArray<V>,
) -> Result<ArrayRef, ArrowError> {
    // Short values lie in the views.
    if column.data_buffers().is_empty() {
        return Ok(Arc::new(column.clone()));
    }
    let (firsts, places) = first_views(column);
    let mut values = GenericByteViewBuilder::<V>::new().with_deduplicate_strings();
    for row in firsts.values().iter().map(|row| *row as usize) {
        if column.is_null(row) {
            values.append_null();
        } else {
            values.try_append_value(column.value(row))?;
        }
    }
    let mut values = values.finish();
    values.shrink_to_fit();
    take(&values, &places, None)
}

/// The rows in which different views, or a null, come first, and for each row which of
/// these it has. Rows that share bytes are told apart by nothing else, however long the
/// bytes are; equal bytes in two places are two views.
pub fn first_views<V: ByteViewType>(
    column: &GenericByteViewArray<V>,
) -> (UInt32Array, UInt32Array) {
    let mut firsts = Vec::new();
    let mut known: HashMap<Option<u128>, u32> = HashMap::new();
    let mut last = None;
    let views = column.views().iter().zip(0..);
    let places = views.map(|(view, row)| {
        let view = column.is_valid(row as usize).then_some(*view);
        match last {
            // Neighbours have much in common.
            Some((of_last, place)) if of_last == view => place,
            _ => {
                let place = *known.entry(view).or_insert_with(|| {
                    firsts.push(row);
                    firsts.len() as u32 - 1
                });
                last = Some((view, place));
                place
            }
        }
    });
    let places: Vec<u32> = places.collect();
    (firsts.into(), places.into())
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringViewArray, new_null_array};
    use arrow::buffer::Buffer;
    use arrow::compute::{concat, filter};
    use proptest::prelude::*;

    use super::*;

    fn column(rows: &[Option<&str>]) -> StringViewArray {
        let mut texts = Texts::with_capacity(rows.len());
        for row in rows {
            texts.append_option(*row).unwrap();
        }
        let nulls = new_null_array(&DataType::Utf8View, rows.len());
        texts.finish(&nulls).unwrap().as_string_view().clone()
    }

    fn no_rows() -> ArrayRef {
        new_null_array(&DataType::Utf8View, 0)
    }

    #[test]
    fn what_repeats_is_kept_once() {
        let (long, other) = (
            "a text of more than twelve bytes",
            "another one of as many bytes...",
        );
        let rows = [
            Some(long),
            Some(long),
            None,
            Some(long),
            Some(other),
            Some(""),
        ];
        let column = column(&rows);
        assert_eq!(column.iter().collect::<Vec<_>>(), rows);
        let bytes: usize = column.data_buffers().iter().map(Buffer::len).sum();
        assert_eq!(bytes, long.len() + other.len());
    }

    #[test]
    fn what_a_resource_says_is_kept_once_between_other_values() {
        let shared = "a text of the resource".repeat(100);
        let mut texts = Texts::with_capacity(3_000);
        for row in 0..1_000 {
            texts.append_of_resource(&shared).unwrap();
            texts
                .append_value(format!("a text of span {row:05}"))
                .unwrap();
            texts.append_null();
        }
        let column = texts.finish(&no_rows()).unwrap().as_string_view().clone();
        for row in 0..1_000 {
            assert_eq!(column.value(3 * row), shared);
            assert_eq!(
                column.value(3 * row + 1),
                format!("a text of span {row:05}")
            );
            assert!(column.is_null(3 * row + 2));
        }
        let bytes: usize = column.data_buffers().iter().map(Buffer::len).sum();
        assert_eq!(bytes, shared.len() + 1_000 * 20);
    }

    /// More than the 2 GiB that offsets of 32 bits reach, of which memory takes few.
    #[test]
    fn repeated_values_have_no_limit_together() {
        let long = "x".repeat(1 << 20);
        let mut texts = Texts::with_capacity(4_096);
        for row in 0..4_096 {
            texts.append_of_resource(&long).unwrap();
            texts
                .append_value(if row % 2 == 0 { "even" } else { "odd" })
                .unwrap();
        }
        let column = texts.finish(&no_rows()).unwrap();
        assert_eq!(column.len(), 8_192);
        assert!(column.get_array_memory_size() < 2 << 20);
    }

    proptest! {
        #[test]
        fn rows_come_out_as_they_went_in(
            rows in proptest::collection::vec(proptest::option::of("a{0,2}|b{12,14}|é{5,8}"), 0..40)
        ) {
            let rows: Vec<Option<&str>> = rows.iter().map(Option::as_deref).collect();
            let column = column(&rows);
            prop_assert_eq!(column.iter().collect::<Vec<_>>(), rows);
        }

        #[test]
        fn it_does_not_matter_where_values_come_from(
            rows in proptest::collection::vec((any::<bool>(), "a{0,2}|b{12,14}|é{5,8}"), 0..40)
        ) {
            let mut texts = Texts::with_capacity(rows.len());
            for (is_of_resource, text) in &rows {
                if *is_of_resource {
                    texts.append_of_resource(text).unwrap();
                } else {
                    texts.append_value(text).unwrap();
                }
            }
            let column = texts.finish(&no_rows()).unwrap();
            let found: Vec<_> = column.as_string_view().iter().flatten().collect();
            let expected: Vec<_> = rows.iter().map(|(_, text)| text.as_str()).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_compact_column_has_each_value_once() {
        let long = "a resource that all rows of two batches share";
        let rows = [Some(long), Some("short"), None, Some(long), Some("")];
        let other = [Some("a text that is filtered out, and long"), Some(long)];
        let all = concat(&[&column(&rows), &column(&other)]).unwrap();
        let mask: Vec<bool> = (0..all.len()).map(|row| row != 5).collect();
        let kept = filter(&all, &mask.into()).unwrap();
        let found = compact(&kept).unwrap();
        let found = found.as_string_view();
        let expected = rows.into_iter().chain([Some(long)]);
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            expected.collect::<Vec<_>>()
        );
        let bytes: usize = found.data_buffers().iter().map(Buffer::len).sum();
        assert_eq!(bytes, long.len());
    }
}
