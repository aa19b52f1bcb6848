//! A column of texts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder, StringViewArray};

use crate::error::FormatError;

/// Builds a column of texts, which holds less than 2 GiB.
#[derive(Debug, Default)]
pub(super) struct Texts(StringBuilder);

impl Texts {
    /// Adds a text, or null.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the column has no room for it. Arrow would
    /// panic.
    pub(super) fn append(&mut self, text: Option<&str>) -> Result<(), FormatError> {
        let bytes = self.0.values_slice().len() + text.map_or(0, str::len);
        if i32::try_from(bytes).is_err() {
            return Err(FormatError::malformed(
                "columns",
                0,
                "texts of less than 2 GiB in all",
                format!("{bytes} bytes"),
            ));
        }
        self.0.append_option(text);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Views of texts as texts.
pub(super) fn of_views(views: &StringViewArray) -> Result<ArrayRef, FormatError> {
    let mut texts = Texts::default();
    for row in 0..views.len() {
        texts.append(views.is_valid(row).then(|| views.value(row)))?;
    }
    Ok(texts.finish())
}
