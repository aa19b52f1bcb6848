//! Takes promoted attributes out of resources. Many rows have the same
//! resource: each is read once, and its values are dealt out to its rows.

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, UInt32Array, UInt32Builder};
use arrow::compute::take;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::PromotedKey;
use super::choose::is_equal;
use super::entry::{self, Plain};
use super::split::OwnColumn;
use crate::span::attribute::{self, RESOURCE_FIELD};

/// The promoted attributes of the resources of some rows.
pub(super) struct Resources<'a> {
    /// The number of each row's resource among those there are.
    rows: UInt32Array,
    /// By resource: the numbers of promoted keys it has, and their values.
    values: Vec<Vec<(usize, Option<Plain<'a>>)>>,
}

impl<'a> Resources<'a> {
    /// Reads encoded resources, one a row; `keys` are the numbers of the
    /// promoted keys.
    pub(super) fn read(messages: &'a BinaryViewArray, keys: &HashMap<Vec<u8>, usize>) -> Self {
        let mut rows = UInt32Builder::with_capacity(messages.len());
        let mut values = Vec::new();
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let mut last = None;
        for (row, view) in messages.views().iter().enumerate() {
            if messages.is_null(row) {
                rows.append_null();
                continue;
            }
            // Neighbours often share the bytes, which then need no look.
            let number = match last {
                Some((last, number)) if last == view => number,
                _ => *numbers
                    .entry(messages.value(row))
                    .or_insert_with_key(|message| {
                        values.push(values_of(message, keys));
                        values.len() as u32 - 1
                    }),
            };
            last = Some((view, number));
            rows.append_value(number);
        }
        Self {
            rows: rows.finish(),
            values,
        }
    }

    /// The value that a resource has of a promoted key, if it has the key.
    fn entry(&self, resource: usize, key: usize) -> Option<&(usize, Option<Plain<'a>>)> {
        let entries = self.values.get(resource)?;
        entries.iter().find(|(number, _)| *number == key)
    }

    /// The column of a promoted key that has one of its own.
    pub(super) fn column(
        &self,
        number: usize,
        key: &mut PromotedKey,
    ) -> Result<ArrayRef, ArrowError> {
        let resources = self.values.len();
        let mut column = OwnColumn::new(key, resources);
        for resource in 0..resources {
            if let Some((_, value)) = self.entry(resource, number) {
                let is_taken = value.is_some_and(|value| column.append(resource, value));
                key.has_strays |= !is_taken;
            }
        }
        take(&column.finish(resources), &self.rows, None)
    }

    /// Whether a mapped column has the values of a promoted key in all rows.
    pub(super) fn are_in(&self, number: usize, column: &ArrayRef) -> bool {
        let views = column
            .as_string_view_opt()
            .map(|texts| texts.views().as_ref());
        let mut last = None;
        (0..self.rows.len()).all(|row| {
            if self.rows.is_null(row) || column.is_null(row) {
                return false;
            }
            let resource = self.rows.value(row);
            let seen = views
                .and_then(|views: &[u128]| views.get(row))
                .map(|view| (resource, view));
            if seen.is_some() && last == seen {
                return true;
            }
            last = seen;
            let entry = self.entry(resource as usize, number);
            let value = entry.and_then(|(_, value)| *value);
            value.is_some_and(|value| is_equal(column, row, value))
        })
    }
}

/// The promoted keys that a resource has, by their numbers, with their values;
/// none for a value that cannot be promoted.
fn values_of<'a>(
    message: &'a [u8],
    keys: &HashMap<Vec<u8>, usize>,
) -> Vec<(usize, Option<Plain<'a>>)> {
    let mut values: Vec<(usize, Option<Plain<'_>>)> = Vec::new();
    for (entry, _) in entry::all(message, RESOURCE_FIELD) {
        let plain = entry::read(entry);
        let key = plain
            .map(|(key, _)| key)
            .or_else(|| attribute::key_of(entry));
        let number = key.and_then(|key| keys.get(key).copied());
        // As with spans, of keys that repeat the first counts.
        if let Some(number) = number
            && values.iter().all(|(seen, _)| *seen != number)
        {
            values.push((number, plain.map(|(_, value)| value)));
        }
    }
    values
}
