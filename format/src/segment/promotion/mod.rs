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

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::{Buf, BufMut};
use std::sync::{Arc, LazyLock};

use crate::error::FormatError;
use crate::span::schema::schema;

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

    fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Integer => 2,
            Self::Double => 3,
            Self::Boolean => 4,
        }
    }

    fn of(number: u8) -> Option<Self> {
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
    /// The column of the file that holds them: one of the span schema, or one
    /// of the key's own after those.
    pub column: usize,
    /// Whether some row has a value of the key that is not in the column; for a
    /// resource's key without a column of its own, whether the column differs
    /// from the key's value in some row.
    pub has_strays: bool,
    /// Whether hardly a value occurs twice: it is then stored as it is, and is
    /// no facet.
    pub is_varied: bool,
}

impl PromotedKey {
    /// Whether the key has a column of its own.
    pub fn has_own_column(&self) -> bool {
        self.column > order_column()
    }
}

impl PromotedKey {
    /// Whether values can be had from the column: a column of spans that
    /// differs somewhere from a resource's key says nothing about it.
    pub fn is_useful(&self) -> bool {
        self.owner == Owner::Span || self.has_own_column() || !self.has_strays
    }
}

/// The place of [`ATTRIBUTE_ORDER`] in a file: after the span schema.
pub fn order_column() -> usize {
    // Asked for with every attribute.
    static PLACE: LazyLock<usize> = LazyLock::new(|| schema().fields().len());
    *PLACE
}

/// The promoted keys of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promotion {
    keys: Vec<PromotedKey>,
}

const PART: &str = "promoted keys";

impl Promotion {
    /// The promoted keys. A key's number is its place here.
    pub fn keys(&self) -> &[PromotedKey] {
        &self.keys
    }

    /// The number and the description of a key, if it is promoted.
    pub fn find(&self, owner: Owner, key: &str) -> Option<(usize, &PromotedKey)> {
        let mut keys = self.keys.iter().enumerate();
        keys.find(|(_, one)| one.owner == owner && one.key == key)
    }

    /// The columns of the segment's file: those of spans, the order of
    /// attributes, and those of promoted keys.
    pub fn file_schema(&self) -> SchemaRef {
        let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
        let order = Field::new(ATTRIBUTE_ORDER, DataType::BinaryView, true);
        fields.push(Arc::new(order));
        for key in self.keys.iter().filter(|key| key.has_own_column()) {
            let owner = match key.owner {
                Owner::Span => "attributes",
                Owner::Resource => "resource",
            };
            let name = format!("{owner}.{}", key.key);
            fields.push(Arc::new(Field::new(name, key.value.data_type(), true)));
        }
        Arc::new(Schema::new(fields))
    }

    /// The part of the index:
    /// ```text
    /// count u32 · entry[count]
    /// entry: owner u8, type u8, has strays u8, is varied u8, column u32,
    ///        key bytes u32, key
    /// ```
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(self.keys.len() as u32);
        for key in &self.keys {
            out.put_u8(u8::from(key.owner == Owner::Resource));
            out.put_u8(key.value.number());
            out.put_u8(u8::from(key.has_strays));
            out.put_u8(u8::from(key.is_varied));
            out.put_u32_le(key.column as u32);
            out.put_u32_le(key.key.len() as u32);
            out.put_slice(key.key.as_bytes());
        }
        out
    }

    /// Reads the part, which stands at `offset` of its file.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense.
    pub fn decode(mut bytes: &[u8], offset: u64) -> Result<Self, FormatError> {
        let malformed = |expected: &str| FormatError::malformed(PART, offset, expected, "others");
        let count = bytes
            .try_get_u32_le()
            .map_err(|_| malformed("a number of keys"))?;
        let mut promotion = Self::default();
        let mut next_own = order_column() + 1;
        for _ in 0..count {
            let (head, rest) = bytes
                .split_first_chunk::<12>()
                .ok_or_else(|| malformed("12 bytes a key"))?;
            let [owner, value, strays, varied, ..] = *head;
            let mut words = head.get(4..).unwrap_or_default();
            let column = words.get_u32_le() as usize;
            let (key, rest) = rest
                .split_at_checked(words.get_u32_le() as usize)
                .ok_or_else(|| malformed("a key"))?;
            bytes = rest;
            let key = PromotedKey {
                owner: if owner == 0 {
                    Owner::Span
                } else {
                    Owner::Resource
                },
                key: std::str::from_utf8(key)
                    .map_err(|_| malformed("a key in UTF-8"))?
                    .to_owned(),
                value: PromotedType::of(value).ok_or_else(|| malformed("a type of values"))?,
                column,
                has_strays: strays != 0,
                is_varied: varied != 0,
            };
            if key.has_own_column() {
                if key.column != next_own {
                    return Err(malformed("columns in their order"));
                }
                next_own += 1;
            } else if schema().fields().get(column).is_none() {
                return Err(malformed("a column of spans"));
            }
            promotion.keys.push(key);
        }
        Ok(promotion)
    }
}
