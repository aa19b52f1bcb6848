//! Puts the attributes of rows together again, byte for byte.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanArray, Float64Array,
    Int32Array, Int64Array, StringViewArray,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};

use super::PromotedKeys;
use super::entry::{self, Plain};
use crate::error::FormatError;
use crate::span::attribute::SPAN_FIELD;
use crate::wire;

/// The values of a promoted key in the rows of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values<'a> {
    Text(&'a StringViewArray),
    Integer(&'a Int64Array),
    MappedInteger(&'a Int32Array),
    Double(&'a Float64Array),
    Boolean(&'a BooleanArray),
}

impl<'a> Values<'a> {
    pub(super) fn of(column: &'a ArrayRef) -> Option<Self> {
        if let Some(texts) = column.as_string_view_opt() {
            return Some(Self::Text(texts));
        }
        if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
            return Some(Self::Integer(numbers));
        }
        if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
            return Some(Self::MappedInteger(numbers));
        }
        if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
            return Some(Self::Double(numbers));
        }
        column.as_boolean_opt().map(Self::Boolean)
    }

    pub(super) fn get(self, row: usize) -> Option<Plain<'a>> {
        Some(match self {
            Self::Text(texts) if texts.is_valid(row) => Plain::Text(texts.value(row)),
            Self::Integer(numbers) if numbers.is_valid(row) => Plain::Integer(numbers.value(row)),
            Self::MappedInteger(numbers) if numbers.is_valid(row) => {
                Plain::Integer(i64::from(numbers.value(row)))
            }
            Self::Double(numbers) if numbers.is_valid(row) => Plain::Double(numbers.value(row)),
            Self::Boolean(truths) if truths.is_valid(row) => Plain::Boolean(truths.value(row)),
            _ => return None,
        })
    }
}

/// The whole attributes of rows.
///
/// `residual` and `order` are the columns `attributes` and
/// [`ATTRIBUTE_ORDER`](super::ATTRIBUTE_ORDER) of the file; `column` hands out
/// the column of a promoted key by its place in the file.
///
/// # Errors
/// [`FormatError::Malformed`] when the order names what is not there.
pub(in crate::segment) fn attributes<'a>(
    promotion: &PromotedKeys,
    residual: &'a ArrayRef,
    order: &'a ArrayRef,
    column: impl Fn(usize) -> Option<&'a ArrayRef>,
) -> Result<ArrayRef, FormatError> {
    let malformed = |row: usize, found: &str| {
        FormatError::malformed("attribute order", row as u64, "an attribute's place", found)
    };
    let (Some(residual), Some(order)) = (residual.as_binary_view_opt(), order.as_binary_view_opt())
    else {
        return Err(malformed(0, "columns of other types"));
    };
    if order.null_count() == order.len() {
        return Ok(Arc::new(residual.clone()));
    }
    let keys = promotion.keys().iter();
    let columns: Vec<Option<ArrayRef>> = keys.map(|key| key.values(&column)).collect();
    let values: Vec<Option<Values<'_>>> = columns
        .iter()
        .map(|column| column.as_ref().and_then(Values::of))
        .collect();
    let mut rows = BinaryViewBuilder::with_capacity(order.len());
    let mut message = Vec::new();
    // The row in which each key was last named.
    let mut seen: Vec<Option<usize>> = vec![None; promotion.keys().len()];
    for row in 0..order.len() {
        if order.is_null(row) {
            rows.append_option(residual.is_valid(row).then(|| residual.value(row)));
            continue;
        }
        message.clear();
        let left = if residual.is_valid(row) {
            residual.value(row)
        } else {
            &[]
        };
        let mut left = entry::all(left, SPAN_FIELD);
        let mut codes = order.value(row);
        while !codes.is_empty() {
            let code = wire::take_shortest_varint(&mut codes)
                .ok_or_else(|| malformed(row, "no number"))?;
            let Some(number) = code.checked_sub(1) else {
                let (_, whole) = left.next().ok_or_else(|| malformed(row, "too few"))?;
                message.extend_from_slice(whole);
                continue;
            };
            let number = number as usize;
            let key = promotion.keys().get(number);
            let value = values
                .get(number)
                .copied()
                .flatten()
                .and_then(|values| values.get(row));
            let (Some(key), Some(value)) = (key, value) else {
                return Err(malformed(row, &format!("no value of key {number}")));
            };
            if seen
                .get_mut(number)
                .is_some_and(|last| last.replace(row) == Some(row))
            {
                return Err(malformed(row, &format!("key {number} twice")));
            }
            entry::put(SPAN_FIELD, &key.key, value, &mut message);
        }
        if left.next().is_some() {
            return Err(malformed(row, "attributes left over"));
        }
        rows.append_value(&message);
    }
    Ok(Arc::new(rows.finish()))
}

/// What an attribute order says of a row: which promoted keys it has in columns, by their
/// numbers, and whether it has other attributes beside them.
pub fn named(order: Option<&[u8]>) -> (Vec<usize>, bool) {
    let Some(mut codes) = order else {
        return (Vec::new(), true);
    };
    let (mut numbers, mut has_others) = (Vec::new(), false);
    while let Some(code) = wire::take_shortest_varint(&mut codes) {
        match code.checked_sub(1) {
            Some(number) => numbers.push(number as usize),
            None => has_others = true,
        }
    }
    (numbers, has_others)
}

/// For each row whether its order names a key.
pub(super) fn names(order: &BinaryViewArray, number: usize) -> BooleanArray {
    let wanted = number as u64 + 1;
    // Few orders repeat over and over: the last one is remembered by its bytes.
    let mut last: Option<(&[u8], bool)> = None;
    (0..order.len())
        .map(|row| {
            if order.is_null(row) {
                return Some(false);
            }
            let codes = order.value(row);
            if let Some((same, answer)) = last
                && same == codes
            {
                return Some(answer);
            }
            let mut rest = codes;
            let mut found = false;
            while let Some(code) = wire::take_shortest_varint(&mut rest) {
                found |= code == wanted;
            }
            last = Some((codes, found));
            Some(found)
        })
        .collect()
}
