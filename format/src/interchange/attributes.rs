//! Attributes as a column of maps and one of JSON.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapArray, StructArray};
use hashbrown::HashSet;

use super::columns_error;
use super::lists::Ends;
use super::schema::{entries, entry_fields};
use super::texts::Texts;
use crate::error::FormatError;
use crate::otlp::KeyValue;
use crate::otlp::json::attributes_to_plain_json;
use crate::span::attribute;

/// Attributes in both forms. Spans that share a resource share them.
#[derive(Debug, Default)]
pub(super) struct Written {
    entries: Vec<(String, Option<String>)>,
    json: String,
}

impl Written {
    /// Writes attributes; of keys that repeat, the first counts.
    pub(super) fn of(attributes: &[KeyValue]) -> Self {
        let mut seen = HashSet::with_capacity(attributes.len());
        let entries = attributes
            .iter()
            .filter(|attribute| seen.insert(attribute.key.as_str()))
            .map(|attribute| {
                let text = attribute.value.as_ref().and_then(attribute::text);
                (attribute.key.clone(), text.map(Into::into))
            });
        Self {
            entries: entries.collect(),
            json: attributes_to_plain_json(attributes).to_string(),
        }
    }
}

/// Builds both columns.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    keys: Texts,
    values: Texts,
    ends: Ends,
    json: Texts,
}

impl Attributes {
    pub(super) fn append(&mut self, written: &Written) -> Result<(), FormatError> {
        for (key, value) in &written.entries {
            self.keys.append(Some(key))?;
            self.values.append(value.as_deref())?;
        }
        self.ends.append(written.entries.len())?;
        self.json.append(Some(&written.json))
    }

    /// The maps, and the JSON.
    pub(super) fn finish(&mut self) -> Result<[ArrayRef; 2], FormatError> {
        let columns = vec![self.keys.finish(), self.values.finish()];
        let maps = StructArray::try_new(entry_fields(), columns, None)
            .and_then(|all| MapArray::try_new(entries(), self.ends.finish(), all, None, false))
            .map_err(columns_error)?;
        Ok([Arc::new(maps), self.json.finish()])
    }
}
