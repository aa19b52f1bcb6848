//! Takes promoted attributes out of resources. Many rows have the same
//! resource: each is read once, and its values are dealt out to its rows.

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, UInt32Array, UInt32Builder};
use arrow::compute::take;
use arrow::error::ArrowError;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

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

    /// The column of a promoted key that has one of its own; adds the rows
    /// whose value of the key it does not hold to `strays`.
    pub(super) fn column(
        &self,
        number: usize,
        key: &PromotedKey,
        strays: &mut RoaringBitmap,
    ) -> Result<ArrayRef, ArrowError> {
        let resources = self.values.len();
        let mut column = OwnColumn::new(key, resources);
        let mut has_strays = vec![false; resources];
        for (resource, has_stray) in has_strays.iter_mut().enumerate() {
            if let Some((_, value)) = self.entry(resource, number) {
                *has_stray = !value.is_some_and(|value| column.append(resource, value));
            }
        }
        if has_strays.contains(&true) {
            let is_stray = |resource: Option<u32>| {
                resource.is_some_and(|one| has_strays.get(one as usize) == Some(&true))
            };
            let rows = (0..).zip(&self.rows);
            strays.extend(rows.filter(|(_, one)| is_stray(*one)).map(|(row, _)| row));
        }
        take(&column.finish(resources), &self.rows, None)
    }

    /// Adds the rows in which a mapped column differs from a promoted key's
    /// value to `strays`.
    pub(super) fn add_differing(
        &self,
        number: usize,
        column: &ArrayRef,
        strays: &mut RoaringBitmap,
    ) {
        let views = column
            .as_string_view_opt()
            .map(|texts| texts.views().as_ref());
        let mut last = None;
        for row in 0..self.rows.len() {
            if self.rows.is_null(row) || column.is_null(row) {
                strays.insert(row as u32);
                continue;
            }
            let resource = self.rows.value(row);
            let seen = views
                .and_then(|views: &[u128]| views.get(row))
                .map(|view| (resource, view));
            // Equal to one that did not differ.
            if seen.is_some() && last == seen {
                continue;
            }
            let entry = self.entry(resource as usize, number);
            let value = entry.and_then(|(_, value)| *value);
            if value.is_some_and(|value| is_equal(column, row, value)) {
                last = seen;
            } else {
                strays.insert(row as u32);
            }
        }
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
