//! What a disk can do, as far as a store needs it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// A new file; one of that name is an error.
    CreateNew,
    /// A file that is there, to be read alone.
    Read,
    /// A file that is there.
    Existing,
    /// A file that is there, or a new one.
    CreateOrExisting,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub kind: EntryKind,
    /// Bytes of a file.
    pub bytes: u64,
}

/// A file system.
///
/// Writes reach the medium with [`DiskFile::sync_data`], names with
/// [`Disk::sync_dir`]; before that a power cut may lose them, in any order.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, durably. One that is there is fine.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` when it is not there, else what the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Opens a file for reading, and for writing unless the mode says otherwise.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// A read-only view of a whole file, without a copy where that can be.
    /// Nobody may truncate the file while the view lives.
    ///
    /// # Errors
    /// What the system says.
    fn map(&self, path: &Path) -> io::Result<Bytes>;

    /// Gives a file another name, in place of what had it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file that never changes a second name; where the file system
    /// cannot do that, a synced copy. The name is durable after
    /// [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, else what the system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name; views of it stay.
    ///
    /// # Errors
    /// What the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// A number that nobody outside can guess. A simulated disk takes it from
    /// its seed, so that a run can be repeated.
    fn random_number(&self) -> u64 {
        // Without the system's numbers, those that the standard library began with.
        getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one("spanstore"))
    }
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Bytes of the file.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` with the bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, else what the system says.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// What the system says; some of it may be written then.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes the contents durable.
    ///
    /// # Errors
    /// What the system says. After an error the contents may be lost although
    /// a later sync succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Takes the file for this handle alone, until it is dropped. Answers
    /// whether nobody had it.
    ///
    /// # Errors
    /// What the system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Whether a name stands for this file, and not for one that took its place.
    ///
    /// # Errors
    /// What the system says, but for a name that stands for nothing.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// Whether an operation failed for lack of space.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes a file from its beginning to its end.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: Box<dyn DiskFile>,
    written: u64,
    buffer: Vec<u8>,
}

impl FileWriter {
    /// A writer of an empty file.
    pub(crate) fn new(file: Box<dyn DiskFile>) -> Self {
        Self {
            file,
            written: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// The file with everything written, not synced, and its bytes.
    pub(crate) fn finish(mut self) -> io::Result<(Box<dyn DiskFile>, u64)> {
        self.flush()?;
        Ok((self.file, self.written))
    }
}

impl Write for FileWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.written, &self.buffer)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
