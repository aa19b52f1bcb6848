//! Promoted attributes: keys that a segment keeps in typed columns.
//!
//! [`choose`](choose::Sample::choose) picks the keys from the data,
//! `split` takes their values out of the spans' attributes when rows are
//! written, [`rebuild`] puts the attributes together again, byte for byte, and
//! [`access`] answers single attributes without doing so.
//!
//! A promoted key of spans has a column of its own, or, where a mapped column
//! of the span schema has the same value nearly always, that column. The column
//! [`ATTRIBUTE_ORDER`] says for each row which attributes are found where and in
//! which order; what is not promoted stays in `attributes`.
//!
//! The message of a resource repeats over many rows and costs little, so it
//! stays whole. Promoted keys of resources have columns for queries beside it,
//! or use a mapped column that has the same value in every row.

pub mod access;
pub mod choose;
pub(crate) mod entry;
pub mod rebuild;
mod resources;
pub(super) mod split;

#[cfg(test)]
mod tests;

use arrow::datatypes::DataType;

use crate::span;

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

impl Owner {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Resource => "resource",
        }
    }
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

/// A promoted key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotedKey {
    /// Whose attribute it is.
    pub owner: Owner,
    /// The key.
    pub key: String,
    /// The type of its values.
    pub value: PromotedType,
    /// The place in the file of the column that holds them.
    pub column: usize,
    /// Whether that column is the key's own; else it is one of spans.
    pub is_own: bool,
    /// Whether some row has a value of the key that is not in the column; for a
    /// resource's key without a column of its own, whether the column differs
    /// from the key's value in some row.
    pub has_strays: bool,
    /// Whether hardly a value occurs twice: it is then stored as it is, and is
    /// no facet.
    pub is_varied: bool,
}

impl PromotedKey {
    /// The name of the key's own column.
    pub fn column_name(&self) -> String {
        match self.owner {
            Owner::Span => format!("attributes.{}", self.key),
            Owner::Resource => format!("resource.{}", self.key),
        }
    }

    /// Whether values can be had from the column: a column of spans that
    /// differs somewhere from a resource's key says nothing about it.
    pub fn is_useful(&self) -> bool {
        self.owner == Owner::Span || self.is_own || !self.has_strays
    }
}

/// The place of the first column of a key's own in a file that is written: after
/// the columns of spans and [`ATTRIBUTE_ORDER`].
pub(super) fn first_own_column() -> usize {
    span::table().columns().len() + 1
}

/// The promoted keys of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promotion {
    keys: Vec<PromotedKey>,
}

impl Promotion {
    pub(super) fn of(keys: Vec<PromotedKey>) -> Self {
        Self { keys }
    }

    /// Changes the places of all columns.
    #[cfg(test)]
    pub(super) fn move_columns(&mut self, place: impl Fn(usize) -> usize) {
        for key in &mut self.keys {
            key.column = place(key.column);
        }
    }

    /// The promoted keys. A key's number is its place here.
    pub fn keys(&self) -> &[PromotedKey] {
        &self.keys
    }

    /// The number and the description of a key, if it is promoted.
    pub fn find(&self, owner: Owner, key: &str) -> Option<(usize, &PromotedKey)> {
        let mut keys = self.keys.iter().enumerate();
        keys.find(|(_, one)| one.owner == owner && one.key == key)
    }
}
