//! Takes promoted attributes out of rows that are written.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanBuilder,
    Float64Builder, Int64Builder, RecordBatch, StringViewBuilder,
};
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::choose::{before, is_equal};
use super::entry::{self, Plain};
use super::{ChosenKey, PromotedType, Promotion};
use crate::error::FormatError;
use crate::span::attribute::{self, SPAN_FIELD};
use crate::wire;

/// Takes promoted attributes out of batches of spans.
#[derive(Debug)]
pub(in crate::segment) struct Splitter {
    promotion: Promotion,
    numbers: HashMap<Vec<u8>, usize>,
    /// For each key, the rows of the last batch in which it has strays.
    strays: Vec<RoaringBitmap>,
    /// For each key, whether it has strays in any row so far.
    has_strays: Vec<bool>,
}

/// What is left of attributes, and what was taken out.
pub(in crate::segment) struct Split {
    /// The attributes that are not promoted.
    pub(in crate::segment) residual: ArrayRef,
    /// How to put them together.
    pub(in crate::segment) order: ArrayRef,
    /// The columns of the keys that have one of their own, in the order of the keys.
    pub(in crate::segment) own: Vec<ArrayRef>,
}

impl Splitter {
    pub(in crate::segment) fn new(promotion: Promotion) -> Self {
        let keys = promotion.keys.iter().enumerate();
        Self {
            numbers: keys
                .map(|(number, key)| (key.key.clone().into_bytes(), number))
                .collect(),
            strays: vec![RoaringBitmap::new(); promotion.keys.len()],
            has_strays: vec![false; promotion.keys.len()],
            promotion,
        }
    }

    /// The keys.
    pub(in crate::segment) fn promotion(&self) -> &Promotion {
        &self.promotion
    }

    /// For each key, whether some row so far has a value that is not in its column.
    pub(in crate::segment) fn has_strays(&self) -> &[bool] {
        &self.has_strays
    }

    /// The numbers of the keys that have strays in some rows of the batch that
    /// was split last.
    pub(in crate::segment) fn strays(&self, rows: Range<u32>) -> impl Iterator<Item = u32> {
        let keys = (0..).zip(&self.strays);
        keys.filter(move |(_, strays)| strays.range_cardinality(rows.clone()) > 0)
            .map(|(number, _)| number)
    }

    /// Notes the strays of rows that are split already, by what is left of their
    /// attributes.
    pub(in crate::segment) fn note_strays(
        &mut self,
        residual: &ArrayRef,
    ) -> Result<(), FormatError> {
        let residual = residual.as_binary_view_opt();
        let residual = residual.ok_or_else(other_columns)?;
        self.strays.iter_mut().for_each(RoaringBitmap::clear);
        for row in 0..residual.len() {
            if residual.is_null(row) {
                continue;
            }
            let message = residual.value(row);
            let mut covered = 0;
            for (entry, whole) in entry::all(message, SPAN_FIELD) {
                covered += whole.len();
                let number = attribute::key_of(entry).and_then(|key| self.numbers.get(key));
                if let Some(strays) = number.and_then(|number| self.strays.get_mut(*number)) {
                    strays.insert(row as u32);
                }
            }
            if covered != message.len() {
                for strays in &mut self.strays {
                    strays.insert(row as u32);
                }
            }
        }
        for (has_strays, strays) in self.has_strays.iter_mut().zip(&self.strays) {
            *has_strays |= !strays.is_empty();
        }
        Ok(())
    }

    /// Splits the attributes of rows with the columns of spans, which are in the column
    /// at a place.
    pub(in crate::segment) fn split(
        &mut self,
        batch: &RecordBatch,
        attributes: usize,
    ) -> Result<Split, FormatError> {
        let attributes = batch.columns().get(attributes);
        let attributes = attributes
            .and_then(|column| column.as_binary_view_opt())
            .ok_or_else(other_columns)?;
        let rows = batch.num_rows();
        self.strays.iter_mut().for_each(RoaringBitmap::clear);
        let keys = self.promotion.keys.iter();
        let mut own: Vec<Option<OwnColumn>> = keys
            .map(|key| {
                key.mapped
                    .is_none()
                    .then(|| OwnColumn::new(key.value, rows))
            })
            .collect();
        let (residual, order) = self.split_spans(batch, attributes, &mut own);
        for (has_strays, strays) in self.has_strays.iter_mut().zip(&self.strays) {
            *has_strays |= !strays.is_empty();
        }
        let own = own.into_iter().flatten();
        Ok(Split {
            residual,
            order,
            own: own.map(|own| own.finish(rows)).collect(),
        })
    }

    fn split_spans(
        &mut self,
        batch: &RecordBatch,
        attributes: &BinaryViewArray,
        own: &mut [Option<OwnColumn>],
    ) -> (ArrayRef, ArrayRef) {
        let mut residuals = BinaryViewBuilder::with_capacity(batch.num_rows());
        let mut orders =
            BinaryViewBuilder::with_capacity(batch.num_rows()).with_deduplicate_strings();
        let (mut residual, mut order) = (Vec::new(), Vec::new());
        // The row at which each key was last seen: of keys that repeat only
        // the first may be promoted, since it is the one that counts.
        let mut seen: Vec<Option<usize>> = vec![None; self.promotion.keys.len()];
        let mut entries: Vec<(&[u8], &[u8])> = Vec::new();
        for row in 0..batch.num_rows() {
            if attributes.is_null(row) {
                residuals.append_null();
                orders.append_null();
                continue;
            }
            let message = attributes.value(row);
            entries.clear();
            entries.extend(entry::all(message, SPAN_FIELD));
            let covered: usize = entries.iter().map(|(_, whole)| whole.len()).sum();
            if covered != message.len() {
                // Not what this store encodes: it stays as it came.
                residuals.append_value(message);
                orders.append_null();
                for number in self.numbers.values() {
                    if let Some(strays) = self.strays.get_mut(*number) {
                        strays.insert(row as u32);
                    }
                }
                continue;
            }
            residual.clear();
            order.clear();
            for (entry, whole) in &entries {
                let plain = entry::read(entry);
                let key = plain
                    .map(|(key, _)| key)
                    .or_else(|| attribute::key_of(entry));
                let number = key.and_then(|key| self.numbers.get(key).copied());
                let key = number.and_then(|number| self.promotion.keys.get(number));
                let taken = number.zip(key).filter(|(number, key)| {
                    let is_first = seen
                        .get_mut(*number)
                        .is_some_and(|last| last.replace(row) != Some(row));
                    is_first
                        && plain.is_some_and(|(_, value)| {
                            let own = own.get_mut(*number).and_then(Option::as_mut);
                            take(batch, row, key, value, own)
                        })
                });
                if let Some((number, _)) = taken {
                    wire::put_varint(number as u64 + 1, &mut order);
                    continue;
                }
                residual.extend_from_slice(whole);
                wire::put_varint(0, &mut order);
                if let Some(strays) = number.and_then(|number| self.strays.get_mut(number)) {
                    strays.insert(row as u32);
                }
            }
            if order.iter().all(|code| *code == 0) {
                residuals.append_value(message);
                orders.append_null();
                continue;
            }
            if residual.is_empty() {
                residuals.append_null();
            } else {
                residuals.append_value(&residual);
            }
            orders.append_value(&order);
        }
        (Arc::new(residuals.finish()), Arc::new(orders.finish()))
    }
}

fn other_columns() -> FormatError {
    FormatError::malformed("columns", 0, "the columns of spans", "others")
}

/// Whether the key's column has the value, be it taken into it now.
pub(super) fn take(
    batch: &RecordBatch,
    row: usize,
    key: &ChosenKey,
    value: Plain<'_>,
    own: Option<&mut OwnColumn>,
) -> bool {
    let Some(mapped) = key.mapped else {
        let value = match key.suffix {
            None => Some(value),
            Some(suffix) => {
                let column = batch.columns().get(suffix);
                let before = column.and_then(|column| before(column, row, value));
                before.map(Plain::Text)
            }
        };
        return own
            .zip(value)
            .is_some_and(|(own, value)| own.append(row, value));
    };
    let column = batch.columns().get(mapped);
    // A 32-bit column of a key of 64-bit integers is equal or not, likewise.
    column.is_some_and(|column| is_equal(column, row, value))
}

/// A column on its way; rows that nothing is added for are null.
#[derive(Debug)]
pub(super) enum OwnColumn {
    Text(StringViewBuilder),
    Integer(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
}

impl OwnColumn {
    pub(super) fn new(value: PromotedType, rows: usize) -> Self {
        match value {
            PromotedType::Text => Self::Text(StringViewBuilder::with_capacity(rows)),
            PromotedType::Integer => Self::Integer(Int64Builder::with_capacity(rows)),
            PromotedType::Double => Self::Double(Float64Builder::with_capacity(rows)),
            PromotedType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
        }
    }

    /// Makes the column `rows` long.
    fn fill(&mut self, rows: usize) {
        match self {
            Self::Text(builder) => {
                for _ in builder.len()..rows {
                    builder.append_null();
                }
            }
            Self::Integer(builder) => builder.append_nulls(rows.saturating_sub(builder.len())),
            Self::Double(builder) => builder.append_nulls(rows.saturating_sub(builder.len())),
            Self::Boolean(builder) => builder.append_nulls(rows.saturating_sub(builder.len())),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(builder) => builder.len(),
            Self::Integer(builder) => builder.len(),
            Self::Double(builder) => builder.len(),
            Self::Boolean(builder) => builder.len(),
        }
    }

    /// Adds a row's value; answers whether the column can hold it and has none
    /// of the row yet.
    fn append(&mut self, row: usize, value: Plain<'_>) -> bool {
        if self.len() > row {
            return false;
        }
        self.fill(row);
        match (self, value) {
            (Self::Text(builder), Plain::Text(text)) => builder.append_value(text),
            (Self::Integer(builder), Plain::Integer(number)) => builder.append_value(number),
            (Self::Double(builder), Plain::Double(number)) => builder.append_value(number),
            (Self::Boolean(builder), Plain::Boolean(truth)) => builder.append_value(truth),
            _ => return false,
        }
        true
    }

    pub(super) fn finish(mut self, rows: usize) -> ArrayRef {
        self.fill(rows);
        match self {
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Double(mut builder) => Arc::new(builder.finish()),
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
        }
    }
}
