//! Promoted attributes: keys that a segment keeps in typed columns.
//!
//! [`choose`](choose::Sample::choose) picks the keys from the data,
//! `split` takes their values out of the spans' attributes when rows are
//! written, [`rebuild`] puts the attributes together again, byte for byte, and
//! [`access`] answers single attributes without doing so.
//!
//! A promoted key has a column of its own, or, where a mapped column
//! of the span schema has the same value nearly always, that column. Where a mapped
//! column has the end of the value, such as a request id without its regions, the key's
//! own column has what comes before. The column [`ATTRIBUTE_ORDER`] says for each row which attributes are found where and in
//! which order; what is not promoted stays in `attributes`.
//!
//! Attributes of resources are not promoted: a segment has each resource once
//! ([`shared`](super::shared)).

pub mod access;
mod adapting;
pub mod choose;
pub(crate) mod entry;
pub mod moving;
pub mod rebuild;
pub(super) mod split;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::DataType;

/// Name of the column that says how a row's attributes are put together: one
/// variable-length number (as in protobuf) for each attribute in its order. 0
/// is the next attribute of the column `attributes`, `n` the promoted key
/// number `n - 1` of the segment. Null when all are in `attributes`.
pub const ATTRIBUTE_ORDER: &str = "attribute_order";

/// Whose attribute a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The span's.
    Span,
    /// The resource's.
    Resource,
}

/// The type of a promoted key's values. Values of other types are not promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PromotedType {
    /// A string.
    Text,
    /// An integer of 64 bits.
    Integer,
    /// A double; neither a NaN nor a negative zero is promoted.
    Double,
    /// A boolean.
    Boolean,
}

impl PromotedType {
    /// The column's type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8View,
            Self::Integer => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Boolean => "boolean",
        }
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Text => 1,
            Self::Integer => 2,
            Self::Double => 3,
            Self::Boolean => 4,
        }
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        [Self::Text, Self::Integer, Self::Double, Self::Boolean]
            .into_iter()
            .find(|one| one.number() == number)
    }
}

/// The keys that a segment is to promote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promotion {
    pub(super) keys: Vec<ChosenKey>,
}

/// A key that is to be promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenKey {
    /// The key.
    pub key: String,
    /// The type of its values.
    pub value: PromotedType,
    /// The place of the column of spans that has the same value; none for a key that
    /// gets a column of its own.
    pub mapped: Option<usize>,
    /// The place of the column of spans, of texts, whose value is the end of the key's:
    /// the column of its own then has what comes before.
    pub suffix: Option<usize>,
    /// Whether hardly a value occurs twice.
    pub is_varied: bool,
}

impl Promotion {
    #[cfg(test)]
    pub(super) fn of(keys: Vec<ChosenKey>) -> Self {
        Self { keys }
    }

    /// Changes the places of columns.
    #[cfg(test)]
    pub(super) fn move_columns(&mut self, place: impl Fn(usize) -> usize) {
        for key in &mut self.keys {
            key.mapped = key.mapped.map(&place);
            key.suffix = key.suffix.map(&place);
        }
    }

    /// The keys. A key's number is its place here.
    pub fn keys(&self) -> &[ChosenKey] {
        &self.keys
    }

    /// The promotion of rows that others were made for, each for so many of them: the keys
    /// that at least half of the rows have in the same column. None where the others
    /// differ in more than one key in ten: then it takes a look at the rows.
    pub fn of_most(others: &[(Self, u64)]) -> Option<Self> {
        let mut keys: Vec<(&ChosenKey, u64)> = Vec::new();
        for (promotion, rows) in others {
            for key in &promotion.keys {
                match keys.iter_mut().find(|(one, _)| one.is_same_column(key)) {
                    Some((_, of_key)) => *of_key += rows,
                    None => keys.push((key, *rows)),
                }
            }
        }
        let all: u64 = others.iter().map(|(_, rows)| rows).sum();
        let common = keys.iter().filter(|(_, rows)| *rows == all).count();
        if common * 10 < keys.len() * 9 {
            return None;
        }
        let mut promotion = Self::default();
        let mut columns = 0;
        for (key, _) in keys.into_iter().filter(|(_, rows)| rows * 2 >= all) {
            let is_new = promotion.keys.iter().all(|one| one.key != key.key);
            columns += usize::from(is_new && key.mapped.is_none());
            if is_new && columns <= choose::MOST_COLUMNS {
                promotion.keys.push(key.clone());
            }
        }
        Some(promotion)
    }
}

impl ChosenKey {
    /// Whether both have the same values in the same column.
    pub fn is_same_column(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.value, one.mapped, one.suffix);
        self.key == other.key && place(self) == place(other)
    }

    /// The name of the column that the key gets if it has one of its own.
    pub fn column_name(&self) -> String {
        format!("attributes.{}", self.key)
    }
}

/// A promoted key of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedKey {
    /// The key.
    pub key: String,
    /// The type of its values.
    pub value: PromotedType,
    /// The place in the file of the column that holds them.
    pub column: usize,
    /// Whether that column is the key's own; else it is one of spans.
    pub is_own: bool,
    /// The place in the file of the column, of texts, whose value is the end of the
    /// key's; the key's own column then has what comes before.
    pub suffix: Option<usize>,
    /// Whether some row has a value of the key that is not in the column.
    pub has_strays: bool,
    /// Whether hardly a value occurs twice: it is then stored as it is, and is
    /// no facet.
    pub is_varied: bool,
}

impl PromotedKey {
    /// The columns of the file that hold the values.
    pub(in crate::segment) fn columns(&self) -> impl Iterator<Item = usize> {
        [self.column].into_iter().chain(self.suffix)
    }

    /// The values of the key, of columns that `column` hands out by their places.
    pub(in crate::segment) fn values<'a>(
        &self,
        column: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Option<ArrayRef> {
        let values = column(self.column)?;
        let Some(suffix) = self.suffix else {
            return Some(Arc::clone(values));
        };
        let suffixes = column(suffix)?.as_string_view_opt()?.iter();
        let prefixes = values.as_string_view_opt()?.iter();
        let joined = prefixes
            .zip(suffixes)
            .map(|(prefix, suffix)| Some([prefix?, suffix?].concat()));
        Some(Arc::new(joined.collect::<StringViewArray>()))
    }
}

/// The promoted keys of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PromotedKeys {
    keys: Vec<PromotedKey>,
}

impl PromotedKeys {
    pub(super) fn of(keys: Vec<PromotedKey>) -> Self {
        Self { keys }
    }

    /// The promoted keys. A key's number is its place here.
    pub fn keys(&self) -> &[PromotedKey] {
        &self.keys
    }

    /// The number and the description of a key, if it is promoted.
    pub fn find(&self, key: &str) -> Option<(usize, &PromotedKey)> {
        let mut keys = self.keys.iter().enumerate();
        keys.find(|(_, one)| one.key == key)
    }
}
