//! What the columns of a batch hold: as it lies in the batch, or in codes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, UInt16Type};
use spanstore_format::FormatError;
use spanstore_format::segment::Column;

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
    fn of(values: &ArrayRef) -> Option<Self> {
        let data_type = values.data_type();
        if !matches!(
            data_type,
            DataType::Utf8View
                | DataType::Int32
                | DataType::UInt32
                | DataType::Int64
                | DataType::Float64
        ) {
            return None;
        }
        let in_codes = DataType::Dictionary(DataType::UInt16.into(), data_type.clone().into());
        // More values than codes are an error.
        let dictionary = cast(values, &in_codes).ok()?;
        let dictionary = dictionary.as_dictionary_opt::<UInt16Type>()?;
        let different = dictionary.values();
        if different.len() > values.len() / ROWS_OF_VALUE {
            return None;
        }
        let null = u16::try_from(different.len()).ok()?;
        let keys = dictionary.keys().iter();
        let codes: Vec<u16> = keys.map(|key| key.unwrap_or(null)).collect();
        let mut counts = vec![0; different.len() + 1];
        for code in &codes {
            if let Some(count) = counts.get_mut(usize::from(*code)) {
                *count += 1;
            }
        }
        let none = new_null_array(data_type, 1);
        Some(Self {
            values: concat(&[different, &none]).ok()?,
            codes,
            counts,
        })
    }

    fn memory(&self) -> usize {
        self.values.get_array_memory_size()
            + self.codes.capacity() * size_of::<u16>()
            + self.counts.capacity() * size_of::<u32>()
    }
}

/// What was worked out of a batch and is kept, within some memory.
#[derive(Debug)]
pub(super) struct KeptValues {
    /// Memory that it may take, in bytes.
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// None for columns that are not worth it.
    coded: HashMap<Column, Option<Arc<Coded>>>,
    /// Values of attributes, which have to be looked for in their messages.
    attributes: HashMap<Column, ArrayRef>,
    bytes: usize,
}

impl KeptValues {
    /// Keeps nothing yet, and so many bytes at most.
    pub(super) fn within(room: usize) -> Self {
        Self {
            room,
            kept: Mutex::default(),
        }
    }

    /// What is kept of something, or else what is made of it, which is kept if there is
    /// room.
    fn get<T: Clone, E>(
        &self,
        map: impl Fn(&mut Kept) -> &mut HashMap<Column, T>,
        column: &Column,
        make: impl FnOnce() -> Result<(T, usize), E>,
    ) -> Result<T, E> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = map(&mut kept()).get(column) {
            return Ok(known.clone());
        }
        let (made, bytes) = make()?;
        let mut kept = kept();
        if kept.bytes + bytes <= self.room && !map(&mut kept).contains_key(column) {
            kept.bytes += bytes;
            map(&mut kept).insert(column.clone(), made.clone());
        }
        Ok(made)
    }
}

impl HotBatch {
    /// The values of a column.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such column.
    pub(crate) fn column(&self, column: &Column) -> Result<ArrayRef, Error> {
        let missing = || {
            let expected = format!("{column:?}");
            let missing = FormatError::malformed("columns", 0, expected, "none");
            Error::corrupt("hot rows", missing)
        };
        match column {
            Column::Stored(place) => self.rows.columns().get(*place).cloned().ok_or_else(missing),
            Column::Attribute(attribute) => {
                let read = || {
                    let messages = attribute.owner.column().bytes(&self.rows);
                    let values = attribute.read(messages.map_err(|_| missing())?);
                    let bytes = values.get_array_memory_size();
                    Ok((values, bytes))
                };
                self.kept.get(|kept| &mut kept.attributes, column, read)
            }
        }
    }

    /// Whether values may be had in codes.
    pub(crate) fn has_codes(&self) -> bool {
        self.kept.room > 0
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
        let make = || {
            let coded = Coded::of(&self.column(column)?).map(Arc::new);
            let bytes = coded.as_ref().map_or(0, |coded| coded.memory());
            Ok((coded, bytes))
        };
        self.kept.get(|kept| &mut kept.coded, column, make)
    }
}
