//! Why OTLP could not be read.

/// Why OTLP could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// The text is not OTLP JSON.
    #[error("OTLP JSON, line {line}, column {column}: {message}")]
    Json {
        /// Line of the text, counting from 1.
        line: usize,
        /// Column of the line, counting from 1; 0 where it is not known.
        column: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// The bytes are not OTLP protobuf.
    #[error("OTLP protobuf: {message}")]
    Protobuf {
        /// What was expected and what was found.
        message: String,
    },
    /// Something exceeds its limit.
    #[error("{what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The compressed bytes are damaged or cut off.
    #[error("{format}: {message}")]
    Compression {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The input could not be read.
    #[error("read OTLP: {message}")]
    Input {
        /// What the system said.
        message: String,
    },
}

impl From<serde_json::Error> for OtlpError {
    fn from(error: serde_json::Error) -> Self {
        let message = error.to_string();
        // The place is told apart from the message.
        let message = match message.rfind(" at line ") {
            Some(at) => message.get(..at).unwrap_or(&message).to_owned(),
            None => message,
        };
        Self::Json {
            line: error.line(),
            column: error.column(),
            message,
        }
    }
}
