//! Ids, numbers, enumerations and texts as exporters write them in JSON.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::id::from_hex;

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// Text or `null`.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// An id or `null`. Empty may mean that there is none, so text that is neither
/// hexadecimal nor base64 becomes one zero byte, which no check of ids lets pass.
pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_any(IdVisitor)
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id in hexadecimal or base64")
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<u8>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let id = from_hex(text).or_else(|| base64_id(text));
        Ok(id.unwrap_or_else(|| vec![0]))
    }
}

/// Bytes of a wrong text that an error repeats.
const REPEATED_BYTES: usize = 80;

/// The beginning of a text, for an error.
pub(super) fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REPEATED_BYTES))
        .unwrap_or(text)
}

/// An id of 16 or 8 bytes in base64. Its padding tells it from hexadecimal.
fn base64_id(text: &str) -> Option<Vec<u8>> {
    if matches!(text.len(), 12 | 24) {
        bytes(text)
    } else {
        None
    }
}

/// The bytes of base64 in either alphabet, padded or not.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}

/// An integer of the model.
pub(super) trait Integer: TryFrom<i128> + Default {
    /// What is expected where one stands.
    const EXPECTED: &'static str;
}

impl Integer for u64 {
    const EXPECTED: &'static str = "an integer from 0 to 18446744073709551615";
}
impl Integer for i64 {
    const EXPECTED: &'static str = "an integer of 64 bits";
}
impl Integer for u32 {
    const EXPECTED: &'static str = "an integer from 0 to 4294967295";
}
impl Integer for i32 {
    const EXPECTED: &'static str = "an integer of 32 bits";
}

/// A number, a number as text, or `null`, which is zero.
pub(super) fn integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Integer,
{
    deserializer.deserialize_any(IntegerVisitor(PhantomData))
}

struct IntegerVisitor<T>(PhantomData<T>);

impl<T: Integer> Visitor<'_> for IntegerVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number.into())
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number.into()).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        // Beyond, the digits that were written are not known any more.
        let is_exact = number.fract() == 0.0 && number.abs() <= EXACT_DOUBLE;
        let whole = is_exact.then_some(number as i128);
        whole
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        whole(text)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Str(beginning(text)), &self))
    }
}

/// Up to here, 2^53, doubles tell all integers apart.
const EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// The integer that a decimal number stands for, which may have a point or an
/// exponent; none when it is not whole, or has more than 38 digits.
fn whole(text: &str) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (is_negative, integer) = match integer.strip_prefix('-') {
        Some(integer) => (true, integer),
        None => (false, integer.strip_prefix('+').unwrap_or(integer)),
    };
    if integer.is_empty() || (fraction.is_empty() && number.contains('.')) {
        return None;
    }
    let mut found: i128 = 0;
    // Zeros at the end that stand for nothing if no other digit follows.
    let mut zeros: i64 = 0;
    for digit in integer.bytes().chain(fraction.bytes()) {
        match digit {
            b'0' => zeros += 1,
            b'1'..=b'9' => {
                if found != 0 {
                    let power = 10_i128.checked_pow(u32::try_from(zeros).ok()?)?;
                    found = found.checked_mul(power)?;
                }
                zeros = 0;
                found = found.checked_mul(10)?.checked_add((digit - b'0').into())?;
            }
            _ => return None,
        }
    }
    if found == 0 {
        return Some(0);
    }
    let exponent = i64::from(exponent) + zeros - i64::try_from(fraction.len()).ok()?;
    let power = 10_i128.checked_pow(u32::try_from(exponent).ok()?)?;
    let found = found.checked_mul(power)?;
    Some(if is_negative { -found } else { found })
}

/// A number, a number as text, or the texts of what is not finite.
pub(super) struct Double(pub(super) f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DoubleVisitor)
    }
}

struct DoubleVisitor;

impl Visitor<'_> for DoubleVisitor {
    type Value = Double;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Double, E> {
        Ok(Double(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Double, E> {
        Ok(Double(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Double, E> {
        Ok(Double(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Double, E> {
        match text.parse::<f64>() {
            // One NaN for all, whatever sign the text gives it.
            Ok(number) if number.is_nan() => Ok(Double(f64::NAN)),
            // Only a word stands for infinity, not digits beyond what a double holds.
            Ok(number)
                if number.is_finite() || !text.contains(|letter: char| letter.is_ascii_digit()) =>
            {
                Ok(Double(number))
            }
            _ => Err(E::invalid_value(Unexpected::Str(beginning(text)), &self)),
        }
    }
}

/// The kind of a span.
pub(super) fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    deserializer.deserialize_any(EnumerationVisitor {
        expected: "the kind of a span, a name or an integer",
        prefix: "SPAN_KIND_",
        names: &[
            "UNSPECIFIED",
            "INTERNAL",
            "SERVER",
            "CLIENT",
            "PRODUCER",
            "CONSUMER",
        ],
    })
}

/// The code of a status.
pub(super) fn status_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    deserializer.deserialize_any(EnumerationVisitor {
        expected: "the code of a status, a name or an integer",
        prefix: "STATUS_CODE_",
        names: &["UNSET", "OK", "ERROR"],
    })
}

/// An integer, or a name whose place in `names` is the integer.
struct EnumerationVisitor {
    expected: &'static str,
    prefix: &'static str,
    names: &'static [&'static str],
}

impl Visitor<'_> for EnumerationVisitor {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_unit<E: Error>(self) -> Result<i32, E> {
        Ok(0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i32, E> {
        IntegerVisitor(PhantomData).visit_u64(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i32, E> {
        IntegerVisitor(PhantomData).visit_i64(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<i32, E> {
        IntegerVisitor(PhantomData).visit_f64(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<i32, E> {
        let name = match text.split_at_checked(self.prefix.len()) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case(self.prefix) => name,
            _ => text,
        };
        self.names
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .map(|place| place as i32)
            .or_else(|| text.parse().ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Str(beginning(text)), &self))
    }
}
