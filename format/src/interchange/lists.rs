//! Where the elements of lists and maps end.

use arrow::buffer::{OffsetBuffer, ScalarBuffer};

use crate::error::FormatError;

/// The ends of the lists of a column.
#[derive(Debug)]
pub(super) struct Ends {
    offsets: Vec<i32>,
    elements: i32,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            elements: 0,
        }
    }
}

impl Ends {
    /// Ends the list of a row that has so many elements.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the column has 2^31 elements.
    pub(super) fn append(&mut self, elements: usize) -> Result<(), FormatError> {
        let end = i32::try_from(elements)
            .ok()
            .and_then(|elements| self.elements.checked_add(elements))
            .ok_or_else(|| {
                let expected = "fewer than 2^31 elements in all";
                FormatError::malformed("columns", 0, expected, format!("{elements} more"))
            })?;
        self.elements = end;
        self.offsets.push(end);
        Ok(())
    }

    /// The offsets, which never fall.
    pub(super) fn finish(&mut self) -> OffsetBuffer<i32> {
        let Self { offsets, .. } = std::mem::take(self);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}
