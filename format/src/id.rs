//! Ids and their text forms.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::InvalidId;

/// The tenant: 1 to 128 bytes of UTF-8 without control characters.
///
/// A team id is data, never part of a path. Two ids are equal when their bytes
/// are; nothing is folded or normalised.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TeamId(Arc<str>);

impl TeamId {
    /// Longest team id, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Checks and takes a team id.
    ///
    /// # Errors
    /// [`InvalidId`] when it is empty, longer than [`TeamId::MAX_BYTES`], or
    /// holds a control character.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let fits = !text.is_empty() && text.len() <= Self::MAX_BYTES;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidId::new(
                "team id",
                "1 to 128 bytes without control characters",
                text,
            ))
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TeamId({:?})", &*self.0)
    }
}

impl FromStr for TeamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

macro_rules! fixed_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Takes the bytes of an id.
            ///
            /// # Errors
            /// [`InvalidId`] when the length is wrong or every byte is zero.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
                match <[u8; $bytes]>::try_from(bytes) {
                    Ok(id) if id != [0; $bytes] => Ok(Self(id)),
                    _ => Err(InvalidId::new($what, $expected, &to_hex(bytes))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Reads hexadecimal digits of either case; a shorter text stands
            /// for an id with leading zeros.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.len();
                if digits == 0 || digits > 2 * $bytes {
                    return Err(InvalidId::new($what, $expected, text));
                }
                from_hex(&format!("{text:0>width$}", width = 2 * $bytes))
                    .and_then(|bytes| Self::from_bytes(&bytes).ok())
                    .ok_or_else(|| InvalidId::new($what, $expected, text))
            }
        }
    };
}

fixed_id!(
    /// OpenTelemetry's trace id: 16 bytes, not all zero.
    TraceId,
    16,
    "trace id",
    "32 hexadecimal digits, not all zero"
);
fixed_id!(
    /// OpenTelemetry's span id: 8 bytes, not all zero.
    SpanId,
    8,
    "span id",
    "16 hexadecimal digits, not all zero"
);

/// The number of a segment, given out by the catalog and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The greatest one that a file may be named by: there are always higher ones to give
    /// out.
    pub const GREATEST: Self = Self(u64::MAX >> 1);
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SegmentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let well_formed = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u64::from_str_radix(text, 16)
            .ok()
            .filter(|id| well_formed && *id <= Self::GREATEST.0)
            .map(Self)
            .ok_or_else(|| {
                let expected = "16 hexadecimal digits, the first below 8";
                InvalidId::new("segment id", expected, text)
            })
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The bytes of an even number of hexadecimal digits of either case.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn team_ids_are_bounded_and_hold_no_control_characters() {
        assert!(TeamId::new("acme/../x").is_ok());
        for bad in ["", "a\nb", "a\0b", &"x".repeat(129)] {
            assert!(TeamId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_read_either_case_and_short_forms() {
        let full: TraceId = "5B8EFFF798038103D269B633813FC60C".parse().unwrap();
        assert_eq!(full.to_string(), "5b8efff798038103d269b633813fc60c");
        let short: SpanId = "1f".parse().unwrap();
        assert_eq!(short.0, [0, 0, 0, 0, 0, 0, 0, 0x1f]);
        for bad in ["", "0", "xy", "é0", "0123456789abcdef0"] {
            assert!(bad.parse::<SpanId>().is_err(), "{bad:?}");
        }
        assert!(TraceId::from_bytes(&[1; 15]).is_err());
        assert!(TraceId::from_bytes(&[0; 16]).is_err());
    }
}
