//! Takes promoted attributes out of rows that are written.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanBuilder,
    Float64Builder, Int64Builder, RecordBatch, StringViewBuilder,
};
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::choose::is_equal;
use super::entry::{self, Plain};
use super::resources::Resources;
use super::{Owner, PromotedKey, PromotedType, Promotion};
use crate::error::FormatError;
use crate::span::attribute::{self, SPAN_FIELD};
use crate::table::AttributeColumns;

/// Splits batches of spans into the columns of a segment's file.
#[derive(Debug)]
pub(in crate::segment) struct Splitter {
    promotion: Promotion,
    span_keys: HashMap<Vec<u8>, usize>,
    resource_keys: HashMap<Vec<u8>, usize>,
    /// For each key, the rows of the last batch in which it has strays.
    strays: Vec<RoaringBitmap>,
}

impl Splitter {
    pub(in crate::segment) fn new(promotion: Promotion) -> Self {
        let keys = |owner| {
            let keys = promotion.keys.iter().enumerate();
            keys.filter(|(_, key)| key.owner == owner)
                .map(|(number, key)| (key.key.clone().into_bytes(), number))
                .collect()
        };
        Self {
            span_keys: keys(Owner::Span),
            resource_keys: keys(Owner::Resource),
            strays: vec![RoaringBitmap::new(); promotion.keys.len()],
            promotion,
        }
    }

    /// The promotion, which knows by now which keys have strays.
    pub(in crate::segment) fn promotion(&self) -> &Promotion {
        &self.promotion
    }

    /// The numbers of the keys that have strays in some rows of the batch that
    /// was split last.
    pub(in crate::segment) fn strays(&self, rows: Range<u32>) -> impl Iterator<Item = u32> {
        let keys = (0..).zip(&self.strays);
        keys.filter(move |(_, strays)| strays.range_cardinality(rows.clone()) > 0)
            .map(|(number, _)| number)
    }

    /// The columns of the file for rows with the columns of spans.
    pub(in crate::segment) fn split(
        &mut self,
        batch: &RecordBatch,
        places: AttributeColumns,
    ) -> Result<Vec<ArrayRef>, FormatError> {
        let malformed =
            |found: &str| FormatError::malformed("columns", 0, "the columns of spans", found);
        let (attributes_place, resource_place) = (places.own, places.resource);
        let mut columns = batch.columns().to_vec();
        let bytes = |place: usize| {
            batch
                .columns()
                .get(place)
                .and_then(|column| column.as_binary_view_opt())
                .ok_or_else(|| malformed("others"))
        };
        let rows = batch.num_rows();
        self.strays.iter_mut().for_each(RoaringBitmap::clear);
        let keys = self.promotion.keys.iter();
        let mut own: Vec<Option<OwnColumn>> = keys
            .map(|key| {
                let is_own = key.owner == Owner::Span && key.is_own;
                is_own.then(|| OwnColumn::new(key, rows))
            })
            .collect();
        let (residual, order) = self.split_spans(batch, bytes(attributes_place)?, &mut own);
        let resources = Resources::read(bytes(resource_place)?, &self.resource_keys);
        if let Some(column) = columns.get_mut(attributes_place) {
            *column = residual;
        }
        columns.push(order);
        let keys = self.promotion.keys.iter().zip(&mut self.strays);
        for (number, ((key, strays), own)) in keys.zip(own).enumerate() {
            if let Some(own) = own {
                columns.push(own.finish(rows));
            } else if key.owner == Owner::Resource && key.is_own {
                let column = resources.column(number, key, strays);
                columns.push(column.map_err(|error| malformed(&error.to_string()))?);
            } else if key.owner == Owner::Resource {
                // Such a key is of use only when the column has all of it.
                match batch.columns().get(key.column) {
                    Some(column) => resources.add_differing(number, column, strays),
                    None => {
                        strays.insert_range(0..rows as u32);
                    }
                }
            }
        }
        for (key, strays) in self.promotion.keys.iter_mut().zip(&self.strays) {
            key.has_strays |= !strays.is_empty();
        }
        Ok(columns)
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
                for number in self.span_keys.values() {
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
                let number = key.and_then(|key| self.span_keys.get(key).copied());
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
                    entry::put_varint(number as u64 + 1, &mut order);
                    continue;
                }
                residual.extend_from_slice(whole);
                entry::put_varint(0, &mut order);
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

/// Whether the key's column has the value, be it taken into it now.
fn take(
    batch: &RecordBatch,
    row: usize,
    key: &PromotedKey,
    value: Plain<'_>,
    own: Option<&mut OwnColumn>,
) -> bool {
    if key.is_own {
        return own.is_some_and(|own| own.append(row, value));
    }
    let column = batch.columns().get(key.column);
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
    pub(super) fn new(key: &PromotedKey, rows: usize) -> Self {
        match key.value {
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
    pub(super) fn append(&mut self, row: usize, value: Plain<'_>) -> bool {
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
