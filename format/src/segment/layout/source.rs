//! Where the bytes of a segment come from: a file that is mapped, or one that is
//! read block by block.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::FormatError;

/// A segment's file that is read when its bytes are asked for.
pub trait ReadFile: fmt::Debug + Send + Sync {
    /// Bytes of the file.
    fn bytes(&self) -> u64;

    /// Fills `out` with the bytes at `offset`.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// A block that was kept, by its number; none when it was let go.
    fn kept(&self, block: u64) -> Option<Bytes>;

    /// Keeps a block whose checksum was seen to hold, as long as there is room.
    fn keep(&self, block: u64, bytes: Bytes);
}

/// A part of a file, as a file of its own.
#[derive(Debug)]
struct FilePart {
    file: Arc<dyn ReadFile>,
    range: Range<u64>,
}

/// The number of the first block of a part: the file has other bytes in its own ones.
const FIRST_BLOCK_OF_PART: u64 = 1 << 48;

impl ReadFile for FilePart {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file
            .read_at(self.range.start.saturating_add(offset), out)
    }

    fn kept(&self, block: u64) -> Option<Bytes> {
        self.file.kept(FIRST_BLOCK_OF_PART | block)
    }

    fn keep(&self, block: u64, bytes: Bytes) {
        self.file.keep(FIRST_BLOCK_OF_PART | block, bytes);
    }
}

/// The bytes of a segment's file.
#[derive(Debug, Clone)]
pub enum Source {
    /// All of them, in memory or mapped.
    Whole(Bytes),
    /// Read piece by piece.
    File(Arc<dyn ReadFile>),
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl Source {
    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::File(file) => file.bytes(),
        }
    }

    /// A range as a source of its own. A file has one at most.
    pub(crate) fn part(&self, range: Range<u64>) -> Result<Self, FormatError> {
        if range.start > range.end || range.end > self.len() {
            return Err(outside(&range, self.len()));
        }
        Ok(match self {
            Self::Whole(bytes) => {
                Self::Whole(bytes.slice(range.start as usize..range.end as usize))
            }
            Self::File(file) => Self::File(Arc::new(FilePart {
                file: Arc::clone(file),
                range,
            })),
        })
    }

    /// A range, not verified.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Bytes, FormatError> {
        if range.start > range.end || range.end > self.len() {
            return Err(outside(&range, self.len()));
        }
        match self {
            Self::Whole(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Self::File(file) => {
                let mut out = vec![0; (range.end - range.start) as usize];
                let read = file.read_at(range.start, &mut out);
                read.map_err(|error| FormatError::Unreadable {
                    offset: range.start,
                    kind: error.kind(),
                    message: error.to_string(),
                })?;
                Ok(Bytes::from(out))
            }
        }
    }
}

pub(crate) fn outside(range: &Range<u64>, bytes: u64) -> FormatError {
    FormatError::malformed(
        "segment",
        range.start,
        format!("a range within {bytes} bytes"),
        format!("{range:?}"),
    )
}

/// Bytes that are borrowed where they are mapped.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Of a mapped file.
    Borrowed(&'a [u8]),
    /// Of a file that is read.
    Read(Bytes),
}

impl Deref for Piece<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Read(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Piece<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
