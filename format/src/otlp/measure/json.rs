//! Counting in JSON: a walk over brackets, keys and texts.
//!
//! It takes any text and follows it to its end, so it counts at least what the
//! decoder meets until it finds something wrong.

use super::Measured;
use crate::otlp::shape::{Holds, Kind};
use crate::otlp::{MAX_VALUE_NESTING, OtlpError};

/// Bytes of a number that is read without more memory.
const SHORT_NUMBER_BYTES: usize = 32;

/// Bytes of the longest key that may name a field, all its letters escaped.
const LONGEST_KEY_BYTES: usize = 256;

/// What the decoder takes for a text with escapes, or for brackets it skips, while
/// it reads them: a list of bytes that doubles.
const SCRATCH_FACTOR: u64 = 3;

pub(super) fn measure(text: &[u8]) -> Result<Measured, OtlpError> {
    let mut walk = Walk {
        text,
        at: 0,
        frames: Vec::new(),
        containers: 0,
        expected: Expected::Value(Some(Holds::Message(Kind::Request))),
        scratch_bytes: 0,
        measured: Measured::default(),
    };
    while walk.step()? {}
    // Lists that nothing closes were filled all the same.
    while walk.close() {}
    let mut measured = walk.measured;
    measured.decoded_bytes += measured.growth_bytes + SCRATCH_FACTOR * walk.scratch_bytes;
    measured.largest_bytes += measured.growth_bytes;
    Ok(measured)
}

/// What comes next.
#[derive(Clone, Copy)]
enum Expected {
    /// The key of an object of this kind.
    Key(Kind),
    /// A value, of a field that is known or of none.
    Value(Option<Holds>),
}

/// An object or array that is open.
#[derive(Clone, Copy)]
enum Frame {
    /// A message, and what was counted before it.
    Object(Kind, u64),
    /// A list of messages, of the message that it stands in, and how many there are.
    Messages(Kind, Kind, u64),
    /// A list of texts, and how many there are.
    Texts(u64),
    /// So many objects and arrays within each other that are skipped.
    Skipped(u64),
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    frames: Vec<Frame>,
    /// Arrays and key-value lists that are open.
    containers: usize,
    expected: Expected,
    /// The longest text that the decoder copies before it takes it.
    scratch_bytes: u64,
    measured: Measured,
}

impl Walk<'_> {
    /// Takes one token; false at the end.
    fn step(&mut self) -> Result<bool, OtlpError> {
        let Some(byte) = self.text.get(self.at).copied() else {
            return Ok(false);
        };
        self.at += 1;
        match byte {
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b'}' | b']' => {
                self.close();
            }
            b'"' => self.string(),
            b',' => self.next_element(),
            b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => self.word(),
        }
        Ok(true)
    }

    /// A value begins: the element of a list counts.
    fn begin_value(&mut self) -> Option<Holds> {
        match self.frames.last_mut() {
            Some(Frame::Messages(kind, _, count)) => {
                *count += 1;
                Some(Holds::Message(*kind))
            }
            Some(Frame::Texts(count)) => {
                *count += 1;
                Some(Holds::Text)
            }
            _ => match self.expected {
                Expected::Value(holds) => holds,
                Expected::Key(_) => None,
            },
        }
    }

    fn open(&mut self, is_object: bool) -> Result<(), OtlpError> {
        if let Some(Frame::Skipped(depth)) = self.frames.last_mut() {
            *depth += 1;
            self.scratch_bytes = self.scratch_bytes.max(*depth);
            self.measured.longest_token_bytes = self.measured.longest_token_bytes.max(*depth);
            return Ok(());
        }
        let frame = match (self.begin_value(), is_object) {
            (Some(Holds::Message(kind)), true) => {
                // What nests deeper is skipped by the decoder too.
                if kind.is_container() && self.containers >= MAX_VALUE_NESTING {
                    Frame::Skipped(1)
                } else {
                    self.containers += usize::from(kind.is_container());
                    self.expected = Expected::Key(kind);
                    Frame::Object(kind, self.measured.decoded_bytes)
                }
            }
            (Some(Holds::Messages(kind)), false) => {
                let within = match self.frames.last() {
                    Some(Frame::Object(within, _)) => *within,
                    _ => Kind::Request,
                };
                Frame::Messages(kind, within, 0)
            }
            (Some(Holds::Texts), false) => Frame::Texts(0),
            // The decoder would take an array for an object whose keys are left out.
            (Some(Holds::Message(kind)), false) => return Err(self.unexpected_array(kind)),
            _ => Frame::Skipped(1),
        };
        self.frames.push(frame);
        Ok(())
    }

    fn unexpected_array(&self, kind: Kind) -> OtlpError {
        let before = self.text.get(..self.at).unwrap_or_default();
        let line_start = before.iter().rposition(|byte| *byte == b'\n');
        OtlpError::Json {
            line: before.split(|byte| *byte == b'\n').count() as u64,
            column: (self.at - line_start.map_or(0, |at| at + 1)) as u64,
            message: format!("expected {}, an object, found an array", kind.name()),
        }
    }

    /// Ends what was opened last; false when nothing is open.
    fn close(&mut self) -> bool {
        match self.frames.pop() {
            None => return false,
            Some(Frame::Skipped(depth)) if depth > 1 => {
                self.frames.push(Frame::Skipped(depth - 1));
            }
            Some(Frame::Skipped(_)) => {}
            Some(Frame::Object(kind, before)) => {
                self.containers -= usize::from(kind.is_container());
                if matches!(kind, Kind::Span | Kind::Resource | Kind::Scope) {
                    let bytes = self.measured.decoded_bytes - before;
                    self.measured.largest_bytes = self.measured.largest_bytes.max(bytes);
                }
            }
            Some(Frame::Messages(kind, within, count)) => {
                self.measured.add_list(kind, within, count);
            }
            Some(Frame::Texts(count)) => {
                self.measured.others += count;
                // The list of texts and the list of texts and nulls before it.
                self.measured.add_growing(count, 2 * size_of::<String>());
            }
        }
        self.next_element();
        true
    }

    /// After a comma an object has another key.
    fn next_element(&mut self) {
        self.expected = match self.frames.last() {
            Some(Frame::Object(kind, _)) => Expected::Key(*kind),
            _ => Expected::Value(None),
        };
    }

    fn string(&mut self) {
        let start = self.at;
        let mut has_escape = false;
        while let Some(byte) = self.text.get(self.at).copied() {
            match byte {
                b'"' => break,
                b'\\' => {
                    has_escape = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        let end = self.at.min(self.text.len());
        let found = self.text.get(start..end).unwrap_or_default();
        self.at = end + 1;
        self.note_token(found.len());
        if has_escape {
            self.scratch_bytes = self.scratch_bytes.max(found.len() as u64);
        }
        if let Some(Frame::Skipped(_)) = self.frames.last() {
            return;
        }
        if let Expected::Key(kind) = self.expected {
            let field = if has_escape && found.len() <= LONGEST_KEY_BYTES {
                let quoted = self.text.get(start.saturating_sub(1)..=end);
                quoted
                    .and_then(|quoted| serde_json::from_slice::<String>(quoted).ok())
                    .and_then(|key| kind.named(key.as_bytes()))
            } else {
                kind.named(found)
            };
            self.expected = Expected::Value(field.map(|field| field.holds));
        } else if self.begin_value().is_some() {
            self.measured.add_text(found.len());
        }
    }

    fn note_token(&mut self, bytes: usize) {
        let longest = &mut self.measured.longest_token_bytes;
        *longest = (*longest).max(bytes as u64);
    }

    /// A number, `true`, `false`, `null`, or nonsense.
    fn word(&mut self) {
        let start = self.at;
        while self
            .text
            .get(self.at)
            .is_some_and(|byte| !b"{}[]\",: \t\r\n".contains(byte))
        {
            self.at += 1;
        }
        let length = self.at - start;
        self.note_token(length);
        if length > SHORT_NUMBER_BYTES {
            self.scratch_bytes = self.scratch_bytes.max(length as u64);
        }
        if !matches!(self.frames.last(), Some(Frame::Skipped(_))) {
            self.begin_value();
        }
    }
}
