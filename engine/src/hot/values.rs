//! What the columns of a batch hold: as it lies in the batch, or in codes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, UInt32Array, new_null_array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, UInt16Type};
use arrow::error::ArrowError;
use spanstore_format::FormatError;
use spanstore_format::segment::Column;
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::Attribute;
use spanstore_format::span::first_views;

use super::HotBatch;
use crate::error::Error;

/// Rows that a different value is for, at least, where codes are worth it.
const ROWS_OF_VALUE: usize = 2;

/// The different values of a column, and which of them each row has.
#[derive(Debug)]
pub(crate) struct Coded {
    /// The last one is null.
    pub(crate) values: ArrayRef,
    /// For each row the number of its value.
    pub(crate) codes: Vec<u16>,
    /// For each value its rows.
    pub(crate) counts: Vec<u32>,
}

impl Coded {
    /// The codes of values; none when there are too many different ones, or they are of a
    /// type that is not looked at so.
    fn of(values: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let most = values.len() / ROWS_OF_VALUE;
        match values.data_type() {
            // Rows that share a text are looked at once, however long it is.
            DataType::Utf8View => {
                let (firsts, places) = first_views(values.as_string_view());
                let codes = Self::of_different(&take(values, &firsts, None)?, most)?;
                let codes = codes.map(|(values, codes)| {
                    let of_row = |place: &u32| codes.get(*place as usize).copied();
                    let codes = places.values().iter().filter_map(of_row).collect();
                    Self::new(values, codes)
                });
                Ok(codes)
            }
            DataType::Int32 | DataType::UInt32 | DataType::Int64 | DataType::Float64 => {
                let codes = Self::of_different(values, most)?;
                Ok(codes.map(|(values, codes)| Self::new(values, codes)))
            }
            _ => Ok(None),
        }
    }

    /// The different ones of some values, at most so many, null after them, and which each
    /// of the values is.
    fn of_different(
        values: &ArrayRef,
        most: usize,
    ) -> Result<Option<(ArrayRef, Vec<u16>)>, ArrowError> {
        let data_type = values.data_type();
        let in_codes = DataType::Dictionary(DataType::UInt16.into(), data_type.clone().into());
        // More values than codes are an error.
        let Ok(dictionary) = cast(values, &in_codes) else {
            return Ok(None);
        };
        let Some(dictionary) = dictionary.as_dictionary_opt::<UInt16Type>() else {
            return Ok(None);
        };
        let different = dictionary.values();
        let Ok(null) = u16::try_from(different.len()) else {
            return Ok(None);
        };
        if different.len() > most {
            return Ok(None);
        }
        let keys = dictionary.keys().iter();
        let codes = keys.map(|key| key.unwrap_or(null)).collect();
        let none = new_null_array(data_type, 1);
        Ok(Some((concat(&[different, &none])?, codes)))
    }

    fn new(values: ArrayRef, codes: Vec<u16>) -> Self {
        let mut counts = vec![0; values.len()];
        for code in &codes {
            if let Some(count) = counts.get_mut(usize::from(*code)) {
                *count += 1;
            }
        }
        Self {
            values,
            codes,
            counts,
        }
    }

    /// The value of each row.
    fn rows(&self) -> Result<ArrayRef, ArrowError> {
        let codes = self.codes.iter().map(|code| u32::from(*code));
        take(&self.values, &UInt32Array::from_iter_values(codes), None)
    }

    fn memory(&self) -> usize {
        self.values.get_array_memory_size()
            + self.codes.capacity() * size_of::<u16>()
            + self.counts.capacity() * size_of::<u32>()
    }
}

/// The values of an attribute. What rows share of a resource is read once.
fn read_attribute(
    attribute: &Attribute,
    messages: &BinaryViewArray,
) -> Result<ArrayRef, ArrowError> {
    if attribute.owner == Owner::Span {
        return Ok(attribute.read(messages));
    }
    let (firsts, places) = first_views(messages);
    let different = take(messages, &firsts, None)?;
    let values = attribute.read(different.as_binary_view());
    take(&values, &places, None)
}

/// What was worked out of the columns of a batch and is kept, within some memory: what
/// was asked for last.
#[derive(Debug)]
pub(super) struct KeptValues {
    /// Memory that it may take, in bytes.
    pub(super) room: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    columns: HashMap<Column, KeptColumn>,
    bytes: usize,
    /// How often something was asked for.
    turn: u64,
}

#[derive(Debug)]
struct KeptColumn {
    values: Values,
    bytes: usize,
    /// When it was asked for last.
    turn: u64,
}

/// What a column holds.
#[derive(Debug, Clone)]
enum Values {
    Coded(Arc<Coded>),
    /// Codes are not worth it.
    Plain(ArrayRef),
}

/// Memory of a kept column beside its values, in bytes, about.
const COLUMN_BYTES: usize = 256;

impl KeptValues {
    /// Keeps nothing yet, and so many bytes at most.
    pub(super) fn within(room: usize) -> Self {
        Self {
            room,
            kept: Mutex::default(),
        }
    }

    /// Memory that is taken, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, column: &Column) -> Option<Values> {
        let mut kept = self.kept();
        kept.turn += 1;
        let turn = kept.turn;
        let known = kept.columns.get_mut(column)?;
        known.turn = turn;
        Some(known.values.clone())
    }

    fn keep(&self, column: &Column, values: &Values, bytes: usize) {
        let key = match column {
            Column::Stored(_) | Column::OfFile(..) => 0,
            Column::Attribute(attribute) => attribute.key.len(),
        };
        let bytes = bytes + key + COLUMN_BYTES;
        let mut kept = self.kept();
        if bytes > self.room || kept.columns.contains_key(column) {
            return;
        }
        while kept.bytes + bytes > self.room {
            let oldest = kept.columns.iter().min_by_key(|(_, one)| one.turn);
            let Some(oldest) = oldest.map(|(column, _)| column.clone()) else {
                break;
            };
            let gone = kept.columns.remove(&oldest);
            kept.bytes -= gone.map_or(0, |gone| gone.bytes);
        }
        kept.bytes += bytes;
        let turn = kept.turn;
        let values = values.clone();
        let one = KeptColumn {
            values,
            bytes,
            turn,
        };
        kept.columns.insert(column.clone(), one);
    }
}

impl HotBatch {
    /// The values of a column.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such column.
    pub(crate) fn column(&self, column: &Column) -> Result<ArrayRef, Error> {
        match column {
            Column::Stored(_) | Column::OfFile(..) => self.read(column),
            Column::Attribute(_) if !self.has_codes() => self.read(column),
            Column::Attribute(_) => match self.values(column)? {
                Values::Coded(coded) => coded.rows().map_err(|error| not_read(&error)),
                Values::Plain(values) => Ok(values),
            },
        }
    }

    /// Whether values may be had in codes.
    pub(crate) fn has_codes(&self) -> bool {
        self.kept.room > 0
    }

    /// Whether the values of a column are there in codes.
    pub(crate) fn is_coded(&self, column: &Column) -> bool {
        matches!(self.kept.get(column), Some(Values::Coded(_)))
    }

    /// The values of a column in codes; none for small batches, and where rows have mostly
    /// different ones.
    ///
    /// # Errors
    /// As [`HotBatch::column`].
    pub(crate) fn coded(&self, column: &Column) -> Result<Option<Arc<Coded>>, Error> {
        if !self.has_codes() {
            return Ok(None);
        }
        Ok(match self.values(column)? {
            Values::Coded(coded) => Some(coded),
            Values::Plain(_) => None,
        })
    }

    /// The values of a column, as they are kept from now on.
    fn values(&self, column: &Column) -> Result<Values, Error> {
        if let Some(known) = self.kept.get(column) {
            return Ok(known);
        }
        let plain = self.read(column)?;
        let coded = Coded::of(&plain).map_err(|error| not_read(&error))?;
        let (values, bytes) = match coded {
            Some(coded) => {
                let bytes = coded.memory();
                (Values::Coded(Arc::new(coded)), bytes)
            }
            // Those of the table are in the batch anyway.
            None => {
                let bytes = match column {
                    Column::Stored(_) | Column::OfFile(..) => 0,
                    Column::Attribute(_) => plain.get_array_memory_size(),
                };
                (Values::Plain(plain), bytes)
            }
        };
        self.kept.keep(column, &values, bytes);
        Ok(values)
    }

    fn read(&self, column: &Column) -> Result<ArrayRef, Error> {
        let missing = || {
            let expected = format!("{column:?}");
            let missing = FormatError::malformed("columns", 0, expected, "none");
            Error::corrupt("hot rows", missing)
        };
        match column {
            Column::Stored(place) => self.rows.columns().get(*place).cloned().ok_or_else(missing),
            // They are in no file.
            Column::OfFile(..) => Err(missing()),
            Column::Attribute(attribute) => {
                let messages = attribute.owner.column().bytes(&self.rows);
                let values = read_attribute(attribute, messages.map_err(|_| missing())?);
                values.map_err(|error| not_read(&error))
            }
        }
    }
}

fn not_read(error: &ArrowError) -> Error {
    Error::internal("values of unsealed rows", error)
}
