//! What can be wrong with OTLP from outside.

use std::io;

/// Bytes that are not the OTLP they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// The text is not a JSON document of OTLP.
    #[error("OTLP JSON at line {line}, column {column}: {message}")]
    Json {
        /// The line, from 1; in a file, counted from the start of the file.
        line: u64,
        /// The byte in the line, from 1; 0 is the end of the line before.
        column: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// The bytes are not a protobuf message of OTLP.
    #[error("OTLP protobuf: {message}")]
    Protobuf {
        /// What was expected and what was found, and in which field.
        message: String,
    },
    /// Attribute values hold arrays or lists within each other too deeply.
    #[error("attribute values are nested more than {limit} levels deep")]
    TooDeep {
        /// The greatest allowed nesting, in levels.
        limit: usize,
    },
    /// Something is larger than allowed.
    #[error("{what}: at most {limit} allowed, found {found} or more")]
    TooLarge {
        /// What is too large, and its unit.
        what: &'static str,
        /// The greatest allowed size.
        limit: u64,
        /// The size at which reading stopped.
        found: u64,
    },
    /// Compressed bytes that do not decompress.
    #[error("{encoding}: {message}")]
    Compression {
        /// `gzip` or `zstd`.
        encoding: &'static str,
        /// What the decompressor said.
        message: String,
    },
    /// The file or stream could not be read.
    #[error("reading at line {line}: {message}")]
    Read {
        /// The line, from 1.
        line: u64,
        /// The kind of the error.
        kind: io::ErrorKind,
        /// What the reader said.
        message: String,
    },
}
