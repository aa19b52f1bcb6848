//! Single attributes of rows, out of promoted columns where there are such.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Float64Array, StringViewBuilder,
};
use arrow::datatypes::DataType;

use super::Owner;
use super::entry::Plain;
use super::rebuild::{Values, names};
use crate::error::FormatError;
use crate::segment::layout::columns::FileColumns;
use crate::span::SpanColumn;
use crate::span::attribute::{self, RESOURCE_FIELD, SPAN_FIELD};

/// What is asked of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    /// Its value as text (`Utf8View`); null when absent.
    Text,
    /// Its value as a number (`Float64`); null when absent or no number.
    Number,
    /// Whether it is there (`Boolean`); never null.
    Presence,
}

impl Aspect {
    /// The type of the answer.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8View,
            Self::Number => DataType::Float64,
            Self::Presence => DataType::Boolean,
        }
    }
}

/// One aspect of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attribute {
    /// Whose attribute.
    pub owner: Owner,
    /// Its key.
    pub key: String,
    /// What of it.
    pub aspect: Aspect,
}

impl Owner {
    /// The column of the span schema that holds the attributes.
    pub fn column(self) -> SpanColumn {
        match self {
            Self::Span => SpanColumn::Attributes,
            Self::Resource => SpanColumn::ResourceAttributes,
        }
    }

    /// The protobuf field that holds them in the message of the column.
    pub fn field(self) -> u32 {
        match self {
            Self::Span => SPAN_FIELD,
            Self::Resource => RESOURCE_FIELD,
        }
    }
}

/// As filters name it.
impl fmt::Display for Attribute {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::Span => "attributes",
            Owner::Resource => "resource",
        };
        let key = self.key.replace('\'', "''");
        match self.aspect {
            Aspect::Text => write!(out, "{owner}['{key}']"),
            Aspect::Number => write!(out, "number({owner}['{key}'])"),
            Aspect::Presence => write!(out, "has({owner}['{key}'])"),
        }
    }
}

impl Attribute {
    /// Reads the attribute out of encoded messages: the column of its owner,
    /// with all attributes in it.
    pub fn read(&self, messages: &BinaryViewArray) -> ArrayRef {
        self.collect(messages.len(), |row| {
            Found::Encoded(messages.is_valid(row).then(|| messages.value(row)))
        })
    }

    /// The columns of a segment's file that the attribute of a span is read from.
    pub(in crate::segment) fn file_columns(&self, file: &FileColumns) -> Vec<usize> {
        let residual = file.place(self.owner.column().place());
        let Some((_, key)) = file.promoted().find(&self.key) else {
            return residual.into_iter().collect();
        };
        let mut columns: Vec<usize> = key.columns().collect();
        if !key.is_own {
            columns.extend(file.order());
        }
        if key.has_strays {
            columns.extend(residual);
        }
        columns
    }

    /// Reads the attribute of a span out of the columns of a segment's file, which
    /// `column` hands out by their places. `may_be_elsewhere` is false where no row that is
    /// read has its value of a promoted key beside the key's column.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when a column of
    /// [`Attribute::file_columns`] is not there.
    pub(in crate::segment) fn read_promoted<'a>(
        &self,
        file: &FileColumns,
        rows: usize,
        may_be_elsewhere: bool,
        column: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<ArrayRef, FormatError> {
        let missing = || FormatError::malformed("columns", 0, format!("{self:?}"), "none");
        let residual = || {
            let place = file.place(self.owner.column().place())?;
            column(place)?.as_binary_view_opt()
        };
        let Some((number, key)) = file.promoted().find(&self.key) else {
            return Ok(self.read(residual().ok_or_else(missing)?));
        };
        let values = key.values(&column).ok_or_else(missing)?;
        let has_strays = key.has_strays && may_be_elsewhere;
        // Nothing to turn into another type and nothing beside it.
        if key.is_own
            && !has_strays
            && self.aspect != Aspect::Presence
            && *values.data_type() == self.aspect.data_type()
        {
            return Ok(values);
        }
        let values = Values::of(&values).ok_or_else(missing)?;
        let named = if key.is_own {
            None
        } else {
            let order = file
                .order()
                .and_then(&column)
                .and_then(|order| order.as_binary_view_opt());
            Some(names(order.ok_or_else(missing)?, number))
        };
        let strays = if has_strays {
            Some(residual().ok_or_else(missing)?)
        } else {
            None
        };
        Ok(self.collect(rows, |row| {
            let is_here = named.as_ref().is_none_or(|named| named.value(row));
            match values.get(row).filter(|_| is_here) {
                Some(value) => Found::Plain(value),
                None => Found::Encoded(
                    strays
                        .filter(|strays| strays.is_valid(row))
                        .map(|strays| strays.value(row)),
                ),
            }
        }))
    }

    fn collect<'a>(&self, rows: usize, find: impl Fn(usize) -> Found<'a>) -> ArrayRef {
        let (field, key) = (self.owner.field(), self.key.as_str());
        match self.aspect {
            Aspect::Text => {
                let mut texts = StringViewBuilder::with_capacity(rows);
                for row in 0..rows {
                    match find(row) {
                        Found::Plain(Plain::Text(text)) => texts.append_value(text),
                        Found::Plain(Plain::Integer(number)) => {
                            texts.append_value(number.to_string());
                        }
                        Found::Plain(Plain::Double(number)) => {
                            texts.append_value(number.to_string());
                        }
                        Found::Plain(Plain::Boolean(truth)) => {
                            texts.append_value(if truth { "true" } else { "false" });
                        }
                        Found::Encoded(message) => texts.append_option(
                            message.and_then(|message| attribute::find_text(message, field, key)),
                        ),
                    }
                }
                Arc::new(texts.finish())
            }
            Aspect::Number => {
                let numbers = (0..rows).map(|row| match find(row) {
                    Found::Plain(Plain::Text(text)) => attribute::number_of_text(text),
                    Found::Plain(Plain::Integer(number)) => Some(number as f64),
                    Found::Plain(Plain::Double(number)) => Some(number),
                    Found::Plain(Plain::Boolean(_)) => None,
                    Found::Encoded(message) => {
                        message.and_then(|message| attribute::find_number(message, field, key))
                    }
                });
                Arc::new(numbers.collect::<Float64Array>())
            }
            Aspect::Presence => {
                let presence = (0..rows).map(|row| {
                    Some(match find(row) {
                        Found::Plain(_) => true,
                        Found::Encoded(message) => {
                            message.is_some_and(|message| attribute::has(message, field, key))
                        }
                    })
                });
                Arc::new(presence.collect::<BooleanArray>())
            }
        }
    }
}

/// Where a row has its attribute, if it has it.
enum Found<'a> {
    Plain(Plain<'a>),
    /// In a message, or nowhere.
    Encoded(Option<&'a [u8]>),
}
