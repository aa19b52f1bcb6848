//! Texts and bytes on their way to view columns.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, GenericByteBuilder, GenericByteViewArray, UInt32Builder,
};
use arrow::compute::take;
use arrow::datatypes::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, StringViewType, Utf8Type,
};
use arrow::error::ArrowError;

/// Texts on their way to a view column.
pub(super) type Texts = Views<Utf8Type, StringViewType>;
/// Bytes on their way to a view column.
pub(super) type Blobs = Views<BinaryType, BinaryViewType>;

/// Values on their way to a view column, in which a value that repeats the one
/// before it, nulls aside, shares its bytes: spans of a request have most of
/// what they have in common. Building offsets first keeps a small batch small;
/// the views then share the one buffer.
pub(super) struct Views<T: ByteArrayType, V> {
    values: GenericByteBuilder<T>,
    last_bytes: usize,
    /// Which of the values each row has.
    rows: UInt32Builder,
    view: PhantomData<V>,
}

impl<T: ByteArrayType, V> fmt::Debug for Views<T, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.len();
        out.debug_struct("Views")
            .field("rows", &rows)
            .finish_non_exhaustive()
    }
}

impl<T, V> Views<T, V>
where
    T: ByteArrayType<Offset = i32>,
    V: ByteViewType<Native = T::Native>,
{
    /// For about this many rows.
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            values: GenericByteBuilder::with_capacity(0, 0),
            last_bytes: 0,
            rows: UInt32Builder::with_capacity(rows),
            view: PhantomData,
        }
    }

    pub(super) fn append_value(&mut self, value: impl AsRef<T::Native>) {
        let value = value.as_ref();
        let bytes: &[u8] = value.as_ref();
        let written = self.values.values_slice();
        let last = written.len().saturating_sub(self.last_bytes);
        if self.values.is_empty() || written.get(last..) != Some(bytes) {
            self.values.append_value(value);
            self.last_bytes = bytes.len();
        }
        self.rows
            .append_value(self.values.len().saturating_sub(1) as u32);
    }

    pub(super) fn append_null(&mut self) {
        self.rows.append_null();
    }

    pub(super) fn append_option(&mut self, value: Option<impl AsRef<T::Native>>) {
        match value {
            Some(value) => self.append_value(value),
            None => self.append_null(),
        }
    }

    /// The column.
    pub(super) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let values = GenericByteViewArray::<V>::from(&self.values.finish());
        let rows = self.rows.finish();
        if rows.len() == values.len() && rows.null_count() == 0 {
            return Ok(Arc::new(values));
        }
        take(&values, &rows, None)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringViewArray};
    use arrow::buffer::Buffer;
    use proptest::prelude::*;

    use super::*;

    fn column(rows: &[Option<&str>]) -> StringViewArray {
        let mut texts = Texts::with_capacity(rows.len());
        for row in rows {
            texts.append_option(*row);
        }
        texts.finish().unwrap().as_string_view().clone()
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

    proptest! {
        #[test]
        fn rows_come_out_as_they_went_in(
            rows in proptest::collection::vec(proptest::option::of("a{0,2}|b{12,14}|é{5,8}"), 0..40)
        ) {
            let rows: Vec<Option<&str>> = rows.iter().map(Option::as_deref).collect();
            let column = column(&rows);
            prop_assert_eq!(column.iter().collect::<Vec<_>>(), rows);
        }
    }
}
