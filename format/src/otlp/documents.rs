//! Many JSON documents after one another: one a line, as the collector's file
//! exporter writes them, or spread over lines.

use std::io::{BufRead, Read};

use super::OtlpError;
use super::json::{self, Document};

/// Reads documents one by one.
#[derive(Debug)]
pub struct Documents<R> {
    input: R,
    max_bytes: usize,
    /// Lines read.
    line: usize,
    is_done: bool,
}

impl<R: BufRead> Documents<R> {
    /// Reads the documents of `input`, each of at most `max_bytes`.
    pub fn new(input: R, max_bytes: usize) -> Self {
        Self {
            input,
            max_bytes,
            line: 0,
            is_done: false,
        }
    }

    /// The text of the next document and the line that it begins at.
    fn next_text(&mut self) -> Result<Option<(usize, Vec<u8>)>, OtlpError> {
        let mut text = Vec::new();
        let mut first_line = 0;
        let mut balance = Balance::default();
        loop {
            let before = text.len();
            let limit = (self.max_bytes.saturating_add(1) - before.min(self.max_bytes)) as u64;
            let mut bounded = Read::take(&mut self.input, limit);
            let read = bounded.read_until(b'\n', &mut text);
            let read = read.map_err(|error| OtlpError::Input {
                message: error.to_string(),
            })?;
            if text.len() > self.max_bytes {
                return Err(OtlpError::TooLarge {
                    what: "a document",
                    limit: self.max_bytes as u64,
                });
            }
            if read == 0 {
                let is_empty = text.iter().all(u8::is_ascii_whitespace);
                return Ok((!is_empty).then_some((first_line, text)));
            }
            self.line += 1;
            let line = text.get(before..).unwrap_or_default();
            if before == 0 && line.iter().all(u8::is_ascii_whitespace) {
                text.clear();
                continue;
            }
            if before == 0 {
                first_line = self.line;
            }
            balance.follow(line);
            if balance.is_whole() {
                return Ok(Some((first_line, text)));
            }
        }
    }
}

impl<R: BufRead> Iterator for Documents<R> {
    /// The line that a document begins at, counting from 1, and the document.
    type Item = Result<(usize, Document), OtlpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        match self.next_text() {
            Ok(None) => None,
            Ok(Some((line, text))) => Some(
                json::decode(&text)
                    .map(|document| (line, document))
                    .map_err(|error| at_line(error, line)),
            ),
            Err(error) => {
                // Where the next document begins is not known.
                self.is_done = true;
                Some(Err(error))
            }
        }
    }
}

fn at_line(error: OtlpError, first_line: usize) -> OtlpError {
    match error {
        OtlpError::Json {
            line,
            column,
            message,
        } => OtlpError::Json {
            line: first_line + line.saturating_sub(1),
            column,
            message,
        },
        other => other,
    }
}

/// Follows the brackets of a text, outside of its strings.
#[derive(Debug, Default)]
struct Balance {
    depth: i64,
    is_in_string: bool,
    is_escaped: bool,
}

impl Balance {
    fn follow(&mut self, text: &[u8]) {
        for byte in text {
            if self.is_in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.is_in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.depth <= 0 && !self.is_in_string
    }
}
