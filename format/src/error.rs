//! What can be wrong with bytes.

/// Bytes that are not what their place says they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes were written by a newer version of spanstore.
    #[error("{part}: format version {found} is newer than the newest that is known, {supported}")]
    NewerVersion {
        /// The part of the store, such as `log file`.
        part: &'static str,
        /// The version in the bytes.
        found: u16,
        /// The newest version this build reads.
        supported: u16,
    },
    /// A segment needs parts of its index that are not known: a newer version of
    /// spanstore wrote it.
    #[error("index header: parts that must be known and are not: {parts}")]
    UnknownParts {
        /// Their kinds and versions.
        parts: String,
    },
    /// A checksum does not hold.
    #[error("{part} at byte {offset}: checksum is {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The part of the store.
        part: &'static str,
        /// Where the covered bytes begin, in bytes from the start of the file or part.
        offset: u64,
        /// The checksum that stands in the bytes.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// The medium does not hand the bytes out.
    #[error("read at byte {offset}: {message}")]
    Unreadable {
        /// Where the bytes begin, from the start of the file.
        offset: u64,
        /// The kind of the system's error.
        kind: std::io::ErrorKind,
        /// What the system said.
        message: String,
    },
    /// The bytes hold, but do not mean anything.
    #[error("{part} at byte {offset}: expected {expected}, found {found}")]
    Malformed {
        /// The part of the store.
        part: &'static str,
        /// Where, in bytes from the start of the file or part.
        offset: u64,
        /// What should stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
}

impl FormatError {
    /// A [`FormatError::Malformed`].
    pub fn malformed(
        part: &'static str,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Malformed {
            part,
            offset,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// An id that a caller gave is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected}, found {found:?}")]
pub struct InvalidId {
    /// Which kind of id.
    pub what: &'static str,
    /// What it should look like.
    pub expected: &'static str,
    /// The start of what was given, at most 80 characters.
    pub found: String,
}

impl InvalidId {
    /// An error that quotes at most 80 characters of `found`.
    pub(crate) fn new(what: &'static str, expected: &'static str, found: &str) -> Self {
        Self {
            what,
            expected,
            found: found.chars().take(80).collect(),
        }
    }
}
