//! A protobuf request read span by span, so that no more than one span is
//! decoded at a time.
//!
//! What it reads is what [`protobuf::decode`](super::protobuf::decode) reads:
//! repeated occurrences of a message that stands once are one message, of a text
//! that stands once the last one counts.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::shape::Kind;
use super::{InstrumentationScope, OtlpError, Resource, Span, measure};

/// Numbers of the fields of `ResourceSpans` and of `ScopeSpans`, which are alike.
const SHARED: u32 = 1;
const ELEMENTS: u32 = 2;
const SCHEMA_URL: u32 = 3;

/// The spans of one resource, still encoded.
#[derive(Debug, Clone, Copy)]
pub struct ResourceBody<'a>(&'a [u8]);

/// The spans of one scope, still encoded.
#[derive(Debug, Clone, Copy)]
pub struct ScopeBody<'a>(&'a [u8]);

/// One span, still encoded.
#[derive(Debug, Clone, Copy)]
pub struct SpanBody<'a>(&'a [u8]);

/// Memory that one span, resource or scope may take when it is decoded, in bytes.
pub const MOST_DECODED_BYTES: u64 = 8 << 20;

/// Encodings up to here never take more than [`MOST_DECODED_BYTES`]: two bytes make
/// a link at most, or four an entry in a list of its own.
pub const SMALL_BYTES: usize = 64 << 10;

/// A message that was decoded, or why it was not.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<T> {
    /// The message.
    Message(T),
    /// Its values nest deeper than [`MAX_VALUE_NESTING`](super::MAX_VALUE_NESTING).
    TooDeep,
    /// It takes more than [`MOST_DECODED_BYTES`].
    TooLarge,
}

/// The resources of a request.
pub fn resources(request: &[u8]) -> impl Iterator<Item = Result<ResourceBody<'_>, OtlpError>> {
    parts(Kind::Request, request, 1).map(|part| part.map(ResourceBody))
}

impl<'a> ResourceBody<'a> {
    /// The resource, if there is one.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when the bytes are not one.
    pub fn resource(self) -> Result<Option<Decoded<Resource>>, OtlpError> {
        merged(Kind::ResourceSpans, Kind::Resource, self.0)
    }

    /// Its schema URL.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when it is not text.
    pub fn schema_url(self) -> Result<&'a str, OtlpError> {
        schema_url(Kind::ResourceSpans, self.0)
    }

    /// Its scopes.
    pub fn scopes(self) -> impl Iterator<Item = Result<ScopeBody<'a>, OtlpError>> {
        parts(Kind::ResourceSpans, self.0, ELEMENTS).map(|part| part.map(ScopeBody))
    }
}

impl<'a> ScopeBody<'a> {
    /// The scope, if there is one.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when the bytes are not one.
    pub fn scope(self) -> Result<Option<Decoded<InstrumentationScope>>, OtlpError> {
        merged(Kind::ScopeSpans, Kind::Scope, self.0)
    }

    /// Its schema URL.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when it is not text.
    pub fn schema_url(self) -> Result<&'a str, OtlpError> {
        schema_url(Kind::ScopeSpans, self.0)
    }

    /// Its spans.
    pub fn spans(self) -> impl Iterator<Item = Result<SpanBody<'a>, OtlpError>> {
        parts(Kind::ScopeSpans, self.0, ELEMENTS).map(|part| part.map(SpanBody))
    }
}

impl SpanBody<'_> {
    /// Bytes that it takes in the body.
    pub fn bytes(self) -> usize {
        self.0.len()
    }

    /// The span.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when the bytes are not one.
    pub fn decode(self) -> Result<Decoded<Span>, OtlpError> {
        decode(Kind::Span, || std::iter::once(Ok(self.0)))
    }
}

/// The occurrences of a field that holds messages.
fn parts(
    kind: Kind,
    mut message: &[u8],
    wanted: u32,
) -> impl Iterator<Item = Result<&[u8], OtlpError>> {
    std::iter::from_fn(move || {
        while !message.is_empty() {
            match next_part(&mut message) {
                Ok(Some((number, part))) if number == wanted => return Some(Ok(part)),
                Ok(_) => {}
                Err(error) => {
                    message = &[];
                    return Some(Err(measure::malformed(kind, &error)));
                }
            }
        }
        None
    })
}

/// The next field: its number and bytes if it has a length, else nothing.
fn next_part<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u32, &'a [u8])>, prost::DecodeError> {
    let (number, wire_type) = decode_key(bytes)?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, number, bytes, DecodeContext::default())?;
        return Ok(None);
    }
    let mut rest = *bytes;
    skip_field(wire_type, number, bytes, DecodeContext::default())?;
    let length = decode_varint(&mut rest)?;
    let part = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length));
    Ok(part.map(|part| (number, part)))
}

fn merged<M: Message + Default>(
    kind: Kind,
    inner: Kind,
    message: &[u8],
) -> Result<Option<Decoded<M>>, OtlpError> {
    let occurrences = || parts(kind, message, SHARED);
    if occurrences().next().is_none() {
        return Ok(None);
    }
    decode(inner, occurrences).map(Some)
}

/// Decodes the occurrences of one message.
fn decode<'a, M: Message + Default, I: Iterator<Item = Result<&'a [u8], OtlpError>>>(
    kind: Kind,
    pieces: impl Fn() -> I,
) -> Result<Decoded<M>, OtlpError> {
    let mut bytes = 0;
    for piece in pieces() {
        bytes += piece?.len();
    }
    if bytes > SMALL_BYTES
        && measure::of_message(kind, pieces())?.decoded_bytes > MOST_DECODED_BYTES
    {
        return Ok(Decoded::TooLarge);
    }
    let mut message = M::default();
    for piece in pieces() {
        if let Err(error) = message.merge(piece?) {
            // Values are the only messages that hold themselves.
            return if measure::of_message(kind, pieces())?.is_too_deep {
                Ok(Decoded::TooDeep)
            } else {
                Err(measure::malformed(kind, &error))
            };
        }
    }
    Ok(Decoded::Message(message))
}

fn schema_url(kind: Kind, message: &[u8]) -> Result<&str, OtlpError> {
    let last = parts(kind, message, SCHEMA_URL).last().transpose()?;
    std::str::from_utf8(last.unwrap_or_default()).map_err(|_| OtlpError::Protobuf {
        message: format!("{}.schemaUrl: text that is not UTF-8", kind.name()),
    })
}
