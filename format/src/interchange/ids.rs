//! Columns of ids.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, FixedSizeBinaryBuilder};

use super::IdForm;
use super::texts::Texts;
use crate::error::FormatError;
use crate::id::to_hex;

/// Builds a column of ids.
#[derive(Debug)]
pub(super) enum Ids {
    Hex(Texts),
    Bytes(FixedSizeBinaryBuilder),
}

impl Ids {
    pub(super) fn new(form: IdForm, bytes: i32) -> Self {
        match form {
            IdForm::Hex => Self::Hex(Texts::default()),
            IdForm::Bytes => Self::Bytes(FixedSizeBinaryBuilder::new(bytes)),
        }
    }

    /// Adds an id, or null when it is empty; as bytes also when it has another length.
    pub(super) fn append(&mut self, id: &[u8]) -> Result<(), FormatError> {
        match self {
            Self::Hex(texts) if id.is_empty() => texts.append(None),
            Self::Hex(texts) => texts.append(Some(&to_hex(id))),
            Self::Bytes(ids) => {
                if ids.append_value(id).is_err() {
                    ids.append_null();
                }
                Ok(())
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Hex(texts) => texts.finish(),
            Self::Bytes(ids) => Arc::new(ids.finish()),
        }
    }
}

/// Ids as they are stored.
pub(super) fn of_stored(
    stored: &FixedSizeBinaryArray,
    form: IdForm,
) -> Result<ArrayRef, FormatError> {
    if form == IdForm::Bytes {
        return Ok(Arc::new(stored.clone()));
    }
    let mut texts = Texts::default();
    for row in 0..stored.len() {
        let id = stored.is_valid(row).then(|| to_hex(stored.value(row)));
        texts.append(id.as_deref())?;
    }
    Ok(texts.finish())
}
