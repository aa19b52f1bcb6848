//! Attributes in their OTLP encoding, as far as promotion understands them: a
//! key and a plain value, encoded in the one way that this store encodes them.

use crate::span::attribute;
use crate::wire::{put_varint, take_shortest_varint, varint_bytes};

/// A plain value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Plain<'a> {
    Text(&'a str),
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

/// Reads an encoded `KeyValue`; none unless [`put`] would write the same bytes.
pub(crate) fn read(mut entry: &[u8]) -> Option<(&[u8], Plain<'_>)> {
    let key = take_bytes(&mut entry, KEY)?;
    let value = take_bytes(&mut entry, VALUE)?;
    if key.is_empty() || !entry.is_empty() {
        return None;
    }
    Some((key, read_value(value)?))
}

const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;
const TEXT: u8 = 0x0a;
const BOOLEAN: u8 = 0x10;
const INTEGER: u8 = 0x18;
const DOUBLE: u8 = 0x21;

fn read_value(mut value: &[u8]) -> Option<Plain<'_>> {
    if value.first() == Some(&TEXT) {
        let text = std::str::from_utf8(take_bytes(&mut value, TEXT)?).ok()?;
        return value.is_empty().then_some(Plain::Text(text));
    }
    let (tag, mut rest) = value.split_first()?;
    match *tag {
        BOOLEAN => match rest {
            [0] => Some(Plain::Boolean(false)),
            [1] => Some(Plain::Boolean(true)),
            _ => None,
        },
        INTEGER => {
            let number = take_shortest_varint(&mut rest)?.cast_signed();
            rest.is_empty().then_some(Plain::Integer(number))
        }
        DOUBLE => {
            let number = f64::from_le_bytes(rest.try_into().ok()?);
            // Columns do not keep these two to the bit everywhere.
            let is_plain = !number.is_nan() && (number != 0.0 || number.is_sign_positive());
            is_plain.then_some(Plain::Double(number))
        }
        _ => None,
    }
}

/// Adds an attribute as field `field` of the message around it.
pub(crate) fn put(field: u32, key: &str, value: Plain<'_>, out: &mut Vec<u8>) {
    let value_bytes = match value {
        Plain::Text(text) => 1 + varint_bytes(text.len() as u64) + text.len(),
        Plain::Integer(number) => 1 + varint_bytes(number.cast_unsigned()),
        Plain::Double(_) => 9,
        Plain::Boolean(_) => 2,
    };
    let length = |bytes: usize| 1 + varint_bytes(bytes as u64) + bytes;
    let entry_bytes = length(key.len()) + length(value_bytes);
    put_varint(u64::from(field << 3 | 2), out);
    put_varint(entry_bytes as u64, out);
    out.push(KEY);
    put_varint(key.len() as u64, out);
    out.extend_from_slice(key.as_bytes());
    out.push(VALUE);
    put_varint(value_bytes as u64, out);
    match value {
        Plain::Text(text) => {
            out.push(TEXT);
            put_varint(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        Plain::Integer(number) => {
            out.push(INTEGER);
            put_varint(number.cast_unsigned(), out);
        }
        Plain::Double(number) => {
            out.push(DOUBLE);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Plain::Boolean(truth) => out.extend_from_slice(&[BOOLEAN, u8::from(truth)]),
    }
}

/// The encoded attributes of a message, each with its tag and length before it.
pub(crate) fn all(message: &[u8], field: u32) -> impl Iterator<Item = (&[u8], &[u8])> {
    attribute::entries_with_tags(message, field)
}

fn take_bytes<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, rest) = bytes.split_first()?;
    *bytes = rest;
    if *found != tag {
        return None;
    }
    let length = usize::try_from(take_shortest_varint(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}
