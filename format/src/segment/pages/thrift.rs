//! Thrift's compact protocol
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>),
//! as far as the headers and indexes of Parquet's pages need it.

use crate::wire::take_varint;

/// A number of 32 bits, a number of 64 bits, a list, and a struct.
pub(crate) const I32: u8 = 5;
pub(crate) const I64: u8 = 6;
pub(crate) const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;
/// The type that stands for the end of a struct.
pub(crate) const END: u8 = 0;

/// Type and number of the next field of a struct.
pub(crate) fn next_field(bytes: &mut &[u8], last: &mut i64) -> Option<(u8, i64)> {
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    if *head == 0 {
        return Some((END, *last));
    }
    *last = match head >> 4 {
        0 => zigzag(bytes)?,
        delta => last.checked_add(i64::from(delta))?,
    };
    Some((head & 0x0f, *last))
}

/// Leaves out a field of a type.
pub(crate) fn skip(kind: u8, bytes: &mut &[u8], depth: u8) -> Option<()> {
    if depth > 8 {
        return None;
    }
    let skip_within = |kind: u8, bytes: &mut &[u8]| match kind {
        LIST | STRUCT => skip(kind, bytes, depth + 1),
        kind => skip_plain(kind, bytes),
    };
    match kind {
        LIST => {
            let (element, count) = list(bytes)?;
            for _ in 0..count {
                match element {
                    // Here they take a byte each.
                    1 | 2 => *bytes = bytes.get(1..)?,
                    element => skip_within(element, bytes)?,
                }
            }
            Some(())
        }
        STRUCT => loop {
            let (head, rest) = bytes.split_first()?;
            *bytes = rest;
            if *head == END {
                return Some(());
            }
            if head >> 4 == 0 {
                skip_varint(bytes)?;
            }
            skip_within(head & 0x0f, bytes)?;
        },
        kind => skip_plain(kind, bytes),
    }
}

/// Leaves out a value that has no others within.
#[inline]
fn skip_plain(kind: u8, bytes: &mut &[u8]) -> Option<()> {
    match kind {
        // Booleans stand in the field's head.
        1 | 2 => {}
        3 => *bytes = bytes.get(1..)?,
        4..=6 => skip_varint(bytes)?,
        7 => *bytes = bytes.get(8..)?,
        8 => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            *bytes = bytes.get(length..)?;
        }
        _ => return None,
    }
    Some(())
}

#[inline]
fn skip_varint(bytes: &mut &[u8]) -> Option<()> {
    let last = bytes.iter().position(|byte| *byte < 0x80)?;
    *bytes = bytes.get(last + 1..)?;
    Some(())
}

/// A number with a sign.
pub(crate) fn zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let value = take_varint(bytes)?;
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

/// The type of a list's elements, and how many there are.
pub(crate) fn list(bytes: &mut &[u8]) -> Option<(u8, u64)> {
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    let elements = match head >> 4 {
        15 => take_varint(bytes)?,
        few => u64::from(few),
    };
    Some((head & 0x0f, elements))
}
