//! Counting in protobuf: a walk over tags and lengths.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::Measured;
use crate::otlp::shape::{Field, Holds, Kind};
use crate::otlp::{MAX_VALUE_NESTING, OtlpError};

/// Lists that one message has at most.
const LISTS: usize = 3;

pub(super) fn measure(bytes: &[u8]) -> Result<Measured, OtlpError> {
    measure_message(Kind::Request, std::iter::once(Ok(bytes)))
}

/// Counts the occurrences of a message.
pub(super) fn measure_message<'a>(
    kind: Kind,
    pieces: impl Iterator<Item = Result<&'a [u8], OtlpError>>,
) -> Result<Measured, OtlpError> {
    let mut walk = Walk::default();
    for piece in pieces {
        walk.message(kind, piece?, 0)?;
    }
    let mut measured = walk.measured;
    measured.decoded_bytes += measured.growth_bytes;
    measured.largest_bytes += measured.growth_bytes;
    Ok(measured)
}

#[derive(Default)]
struct Walk {
    measured: Measured,
}

impl Walk {
    /// Counts what is in a message, which lies in so many containers.
    fn message(
        &mut self,
        kind: Kind,
        mut bytes: &[u8],
        containers: usize,
    ) -> Result<(), OtlpError> {
        let containers = containers + usize::from(kind.is_container());
        if containers > MAX_VALUE_NESTING {
            // Whoever decodes leaves out what is too deep.
            self.measured.is_too_deep = true;
            return Ok(());
        }
        let mut lists: [Option<(&Field, u64)>; LISTS] = [None; LISTS];
        let mut shared_decoded = 0;
        while !bytes.is_empty() {
            let (number, wire_type) =
                decode_key(&mut bytes).map_err(|error| malformed(kind, None, &error))?;
            let Some(field) = kind.numbered(number) else {
                skip_field(wire_type, number, &mut bytes, DecodeContext::default())
                    .map_err(|error| malformed(kind, None, &error))?;
                continue;
            };
            check_wire_type(kind, field, wire_type)?;
            let wrong = |error| malformed(kind, Some(field), &error);
            match field.holds {
                Holds::Varint => {
                    decode_varint(&mut bytes).map_err(wrong)?;
                    continue;
                }
                Holds::Fixed32 | Holds::Fixed64 => {
                    skip_field(wire_type, number, &mut bytes, DecodeContext::default())
                        .map_err(wrong)?;
                    continue;
                }
                _ => {}
            }
            let length = decode_varint(&mut bytes).map_err(wrong)?;
            let Some((part, rest)) = usize::try_from(length)
                .ok()
                .and_then(|length| bytes.split_at_checked(length))
            else {
                return Err(cut_off(kind, field, length, bytes.len()));
            };
            bytes = rest;
            if matches!(field.holds, Holds::Messages(_) | Holds::Texts) {
                count(&mut lists, field);
            }
            match field.holds {
                Holds::Text | Holds::Texts => {
                    if std::str::from_utf8(part).is_err() {
                        return Err(OtlpError::Protobuf {
                            message: format!("{}: text that is not UTF-8", name(kind, Some(field))),
                        });
                    }
                    self.measured.add_text(part.len());
                }
                Holds::Bytes => self.measured.add_text(part.len()),
                Holds::Message(inner) | Holds::Messages(inner) => {
                    let before = self.measured;
                    self.message(inner, part, containers)?;
                    let decoded = self.measured.decoded_bytes - before.decoded_bytes;
                    match inner {
                        // Occurrences of one resource or scope are one message.
                        Kind::Resource | Kind::Scope => shared_decoded += decoded,
                        Kind::Span => self.note_largest(decoded),
                        _ => {}
                    }
                }
                Holds::Varint | Holds::Fixed32 | Holds::Fixed64 => {}
            }
        }
        for (field, count) in lists.into_iter().flatten() {
            if let Holds::Messages(inner) = field.holds {
                self.measured.add_list(inner, kind, count);
            } else {
                self.measured.others += count;
                self.measured.add_growing(count, size_of::<String>());
            }
        }
        if matches!(kind, Kind::ResourceSpans | Kind::ScopeSpans) {
            self.note_largest(shared_decoded);
        }
        Ok(())
    }

    fn note_largest(&mut self, decoded_bytes: u64) {
        self.measured.largest_bytes = self.measured.largest_bytes.max(decoded_bytes);
    }
}

fn count<'a>(lists: &mut [Option<(&'a Field, u64)>; LISTS], field: &'a Field) {
    let slot = lists
        .iter_mut()
        .find(|slot| slot.is_none_or(|(known, _)| known.number == field.number));
    if let Some(slot) = slot {
        *slot = Some((field, slot.map_or(0, |(_, count)| count) + 1));
    }
}

fn check_wire_type(kind: Kind, field: &Field, found: WireType) -> Result<(), OtlpError> {
    let expected = match field.holds {
        Holds::Varint => WireType::Varint,
        Holds::Fixed32 => WireType::ThirtyTwoBit,
        Holds::Fixed64 => WireType::SixtyFourBit,
        _ => WireType::LengthDelimited,
    };
    if expected == found {
        return Ok(());
    }
    let name = name(kind, Some(field));
    Err(OtlpError::Protobuf {
        message: format!("{name}: expected wire type {expected:?}, found {found:?}"),
    })
}

fn name(kind: Kind, field: Option<&Field>) -> String {
    match field {
        Some(field) => format!("{}.{}", kind.name(), field.name),
        None => kind.name().to_owned(),
    }
}

fn cut_off(kind: Kind, field: &Field, length: u64, rest: usize) -> OtlpError {
    let name = name(kind, Some(field));
    OtlpError::Protobuf {
        message: format!("{name}: expected {length} bytes, found the {rest} that are left"),
    }
}

pub(super) fn malformed(kind: Kind, field: Option<&Field>, error: &DecodeError) -> OtlpError {
    let message = error.to_string();
    let detail = message.strip_prefix("failed to decode Protobuf message: ");
    let detail = detail.unwrap_or(&message);
    OtlpError::Protobuf {
        message: format!("{}: {detail}", name(kind, field)),
    }
}
