//! Numbers, enums and ids in the forms that they come in.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// An integer, as a number or as a text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Integer<T>(pub(super) T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Integer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor<T>(PhantomData<T>);

        impl<T: TryFrom<i128>> IntegerVisitor<T> {
            fn take<E: Error>(number: i128) -> Result<Integer<T>, E> {
                T::try_from(number)
                    .map(Integer)
                    .map_err(|_| E::custom(format_args!("the number {number} is out of range")))
            }
        }

        impl<T: TryFrom<i128>> Visitor<'_> for IntegerVisitor<T> {
            type Value = Integer<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, as a number or as a text")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Integer<T>, E> {
                Self::take(number.into())
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Integer<T>, E> {
                Self::take(number.into())
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Integer<T>, E> {
                // Exact below 2^63: a larger one would have been an integer.
                if number.fract() == 0.0 && number.abs() < 9.3e18 {
                    Self::take(number as i128)
                } else {
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Integer<T>, E> {
                match text.trim().parse::<i128>() {
                    Ok(number) => Self::take(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(IntegerVisitor(PhantomData))
    }
}

/// A floating-point number, as a number or as a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Double(pub(super) f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DoubleVisitor;

        impl Visitor<'_> for DoubleVisitor {
            type Value = Double;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or one of the texts NaN, Infinity, -Infinity")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Double, E> {
                Ok(Double(number as f64))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Double, E> {
                Ok(Double(number as f64))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Double, E> {
                Ok(Double(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Double, E> {
                let number = text.trim().parse();
                number
                    .map(Double)
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(DoubleVisitor)
    }
}

/// The names of an enum, in the order of their numbers, and their prefix.
pub(super) trait Names {
    const PREFIX: &'static str;
    const NAMES: &'static [&'static str];
}

/// OTLP's `SpanKind`.
#[derive(Debug, Default)]
pub(super) struct Kinds;

impl Names for Kinds {
    const PREFIX: &'static str = "SPAN_KIND_";
    const NAMES: &'static [&'static str] = &[
        "UNSPECIFIED",
        "INTERNAL",
        "SERVER",
        "CLIENT",
        "PRODUCER",
        "CONSUMER",
    ];
}

/// OTLP's `StatusCode`.
#[derive(Debug, Default)]
pub(super) struct Codes;

impl Names for Codes {
    const PREFIX: &'static str = "STATUS_CODE_";
    const NAMES: &'static [&'static str] = &["UNSET", "OK", "ERROR"];
}

/// A number of an enum, by number or by name.
#[derive(Debug, Default)]
pub(super) struct Enum<N>(pub(super) i32, PhantomData<N>);

impl<'de, N: Names> Deserialize<'de> for Enum<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnumVisitor<N>(PhantomData<N>);

        impl<N: Names> Visitor<'_> for EnumVisitor<N> {
            type Value = Enum<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a number, or one of {} with or without {}",
                    N::NAMES.join(", "),
                    N::PREFIX
                )
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Enum<N>, E> {
                let number = i32::try_from(number)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
                Ok(Enum(number, PhantomData))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Enum<N>, E> {
                let number = i32::try_from(number)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))?;
                Ok(Enum(number, PhantomData))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Enum<N>, E> {
                let upper = text.to_ascii_uppercase();
                let name = upper.strip_prefix(N::PREFIX).unwrap_or(&upper);
                let place = N::NAMES.iter().position(|known| *known == name);
                let number = match place {
                    Some(place) => i32::try_from(place).ok(),
                    None => text.trim().parse().ok(),
                };
                let number =
                    number.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
                Ok(Enum(number, PhantomData))
            }
        }

        deserializer.deserialize_any(EnumVisitor(PhantomData))
    }
}

/// The bytes of an id: hexadecimal of either case, or base64.
#[derive(Debug, Clone, Default)]
pub(super) struct Id(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id as a hexadecimal text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Id, E> {
                let bytes = crate::id::from_hex(text).or_else(|| STANDARD.decode(text).ok());
                Ok(Id(bytes.unwrap_or_default()))
            }
        }

        deserializer.deserialize_str(IdVisitor)
    }
}

/// Bytes in base64, of either alphabet.
#[derive(Debug, Clone)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let url_safe = base64::engine::general_purpose::URL_SAFE;
        STANDARD
            .decode(text.as_bytes())
            .or_else(|_| url_safe.decode(text.as_bytes()))
            .map(Self)
            .map_err(|_| Error::invalid_value(Unexpected::Str(&text), &"bytes in base64"))
    }
}
