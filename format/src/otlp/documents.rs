//! A file of many JSON documents.

use std::io::BufRead;

use super::json::{self, Document};
use super::{Measured, OtlpError};

/// Bytes of memory that a document may take when it is decoded, for each byte
/// that a document may have; but at least [`LEAST_MEMORY_BYTES`].
const MEMORY_FACTOR: u64 = 4;
const LEAST_MEMORY_BYTES: u64 = 64 << 20;

/// Reads JSON documents one after the other, however they are laid out: one a
/// line, several in a line, or one over many lines.
///
/// A document ends where its braces balance. A damaged one is an error, and
/// reading goes on with the next: after a line break within a text, which JSON
/// does not have; at a line that begins as only a document does, such as
/// `{"resourceSpans"`; or, after what is no object, at the next line that begins
/// with a brace. Each item has the line, from 1, on which its document begins.
#[derive(Debug)]
pub struct Documents<R> {
    input: R,
    max_bytes: usize,
    scanner: Scanner,
    line: u64,
    is_at_end: bool,
}

impl<R: BufRead> Documents<R> {
    /// Documents of at most `max_bytes` bytes each, which take at most four times as
    /// many, or 64 MiB, when they are decoded.
    pub fn new(input: R, max_bytes: usize) -> Self {
        Self {
            input,
            max_bytes,
            scanner: Scanner::new(max_bytes),
            line: 1,
            is_at_end: false,
        }
    }

    /// The line, from 1, on which the last item begins, also when it is an error.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Refuses a document that would take too much memory, before it is decoded.
    fn check_memory(&self, text: &[u8]) -> Result<(), OtlpError> {
        check_decoded(&Measured::of_json(text)?, self.max_bytes)
    }

    /// The text of the next document, whatever it holds.
    fn next_text(&mut self) -> Result<Option<Found>, OtlpError> {
        while !self.is_at_end {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.is_at_end = true;
                    self.line = self.scanner.line;
                    let (line, kind) = (self.line, error.kind());
                    return Err(OtlpError::Read {
                        line,
                        kind,
                        message: error.to_string(),
                    });
                }
            };
            if chunk.is_empty() {
                self.is_at_end = true;
                return Ok(self.scanner.rest());
            }
            let (consumed, found) = self.scanner.scan(chunk);
            self.input.consume(consumed);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Documents<R> {
    type Item = Result<(u64, Document), OtlpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = match self.next_text() {
            Ok(found) => found?,
            Err(error) => return Some(Err(error)),
        };
        self.line = found.line;
        if found.length > self.max_bytes as u64 {
            return Some(Err(OtlpError::TooLarge {
                what: "bytes of a JSON document",
                limit: self.max_bytes as u64,
                found: found.length,
            }));
        }
        let decoded = self.check_memory(&found.text);
        Some(match decoded.and_then(|()| json::decode(&found.text)) {
            Ok(document) => Ok((found.line, document)),
            Err(error) => Err(found.place(error)),
        })
    }
}

/// Refuses what would take too much memory decoded, where a piece of input may
/// have so many bytes.
///
/// # Errors
/// [`OtlpError::TooLarge`].
pub fn check_decoded(measured: &Measured, max_bytes: usize) -> Result<(), OtlpError> {
    let limit = (max_bytes as u64).saturating_mul(MEMORY_FACTOR);
    let limit = limit.max(LEAST_MEMORY_BYTES);
    if measured.decoded_bytes <= limit {
        return Ok(());
    }
    Err(OtlpError::TooLarge {
        what: "bytes of memory for what is decoded at a time",
        limit,
        found: measured.decoded_bytes,
    })
}

/// One document's text, or one piece of what is no document.
#[derive(Debug)]
struct Found {
    text: Vec<u8>,
    /// Length in bytes; greater than that of `text` when it was too long to keep.
    length: u64,
    line: u64,
    /// Bytes before it in its line.
    column: u64,
}

impl Found {
    /// Turns a place in the document into one in the file.
    fn place(&self, error: OtlpError) -> OtlpError {
        match error {
            OtlpError::Json {
                line,
                column,
                message,
            } => OtlpError::Json {
                line: self.line + line.saturating_sub(1),
                column: if line == 1 {
                    self.column + column
                } else {
                    column
                },
                message,
            },
            other => other,
        }
    }
}

/// Where in the text the scanner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between documents.
    Between,
    /// In a document, outside of texts.
    Structure,
    /// In a text of a document.
    Text,
    /// In a text, after a backslash.
    Escape,
    /// In what is no document.
    Stray,
}

/// A brace that may begin a document.
#[derive(Debug, Clone, Copy)]
struct Brace {
    /// The bytes of the text before it.
    kept: usize,
    line: u64,
}

/// Finds where documents begin and end.
#[derive(Debug)]
struct Scanner {
    max_bytes: usize,
    place: Place,
    /// Open braces and brackets.
    open: u64,
    /// The line of the next byte, from 1, and the bytes before it in the line.
    line: u64,
    column: u64,
    text: Vec<u8>,
    length: u64,
    start_line: u64,
    start_column: u64,
    /// The last brace within the document that is first in its line, until the
    /// first text after it has ended.
    brace: Option<Brace>,
}

impl Scanner {
    fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            place: Place::Between,
            open: 0,
            line: 1,
            column: 0,
            text: Vec::new(),
            length: 0,
            start_line: 1,
            start_column: 0,
            brace: None,
        }
    }

    /// Takes bytes until a document ends: how many, and the document.
    fn scan(&mut self, chunk: &[u8]) -> (usize, Option<Found>) {
        for (index, &byte) in chunk.iter().enumerate() {
            if self.place == Place::Stray && byte == b'{' && self.column == 0 {
                return (index, Some(self.take()));
            }
            if let Some(found) = self.step(byte) {
                return (index + 1, Some(found));
            }
        }
        (chunk.len(), None)
    }

    /// Takes one byte; gives the document that ends with it.
    fn step(&mut self, byte: u8) -> Option<Found> {
        if self.place == Place::Between {
            if !byte.is_ascii_whitespace() && !is_byte_order_mark(byte) {
                (self.start_line, self.start_column) = (self.line, self.column);
                self.place = if byte == b'{' {
                    Place::Structure
                } else {
                    Place::Stray
                };
                self.open = u64::from(byte == b'{');
                self.keep(byte);
            }
            self.count(byte);
            return None;
        }
        if self.place == Place::Structure && byte == b'{' && self.column == 0 {
            // What is too long is refused by its length; its text is of no use.
            if self.text.len() >= self.max_bytes {
                self.text.clear();
            }
            self.brace = Some(Brace {
                kept: self.text.len(),
                line: self.line,
            });
        }
        self.keep(byte);
        self.count(byte);
        match (self.place, byte) {
            (Place::Structure, b'{' | b'[') => self.open += 1,
            (Place::Structure, b'}' | b']') => {
                self.open -= 1;
                if self.open == 0 {
                    return Some(self.take());
                }
            }
            (Place::Text, b'\\') => self.place = Place::Escape,
            (Place::Text, b'"') => {
                self.place = Place::Structure;
                return self.brace.take().and_then(|brace| self.split(brace));
            }
            (Place::Text | Place::Escape, b'\n') => return Some(self.take()),
            (Place::Structure, b'"') | (Place::Escape, _) => self.place = Place::Text,
            _ => {}
        }
        None
    }

    fn keep(&mut self, byte: u8) {
        self.length += 1;
        if self.text.len() < self.max_bytes {
            self.text.push(byte);
        }
    }

    fn count(&mut self, byte: u8) {
        if byte == b'\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
    }

    /// The document so far; the next byte is between documents.
    fn take(&mut self) -> Found {
        self.place = Place::Between;
        self.brace = None;
        Found {
            text: std::mem::take(&mut self.text),
            length: std::mem::take(&mut self.length),
            line: self.start_line,
            column: self.start_column,
        }
    }

    /// Gives up the document before `brace` when what follows begins as only a
    /// document does.
    fn split(&mut self, brace: Brace) -> Option<Found> {
        if !is_start_of_document(self.text.get(brace.kept..)?) {
            return None;
        }
        let text = self.text.split_off(brace.kept);
        self.length -= text.len() as u64;
        let found = self.take();
        self.place = Place::Structure;
        self.open = 1;
        (self.start_line, self.start_column) = (brace.line, 0);
        self.length = text.len() as u64;
        self.text = text;
        Some(found)
    }

    /// What is left at the end of the input.
    fn rest(&mut self) -> Option<Found> {
        (self.place != Place::Between).then(|| self.take())
    }
}

/// Whether the byte is one of the three that some editors put before UTF-8.
fn is_byte_order_mark(byte: u8) -> bool {
    matches!(byte, 0xef | 0xbb | 0xbf)
}

fn is_start_of_document(text: &[u8]) -> bool {
    let key = text.strip_prefix(b"{").unwrap_or(text).trim_ascii_start();
    matches!(
        key,
        b"\"resourceSpans\""
            | b"\"resourceMetrics\""
            | b"\"resourceLogs\""
            | b"\"resource_spans\""
            | b"\"resource_metrics\""
            | b"\"resource_logs\""
    )
}
