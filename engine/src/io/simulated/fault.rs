//! What can go wrong, when it shall, and what went wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The power goes: this and all later operations fail. Of a write, some
    /// may have happened.
    Crash,
    /// This operation fails with an I/O error. A sync that fails has lost what
    /// it should have made durable, although reads still show it.
    Error,
    /// This operation finds the disk full. Half of a write has happened.
    NoSpace,
    /// A write fails with an I/O error after some of its bytes.
    ShortWrite,
    /// A sync fails, and the system drops what was not written: reads show the
    /// contents as they were at the last sync that went well.
    DroppedPages,
    /// A read answers one wrong bit. The medium is right.
    FlippedRead,
}

impl Fault {
    /// The error that the caller sees.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Crash => power_cut(),
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
            Self::Error | Self::ShortWrite | Self::DroppedPages | Self::FlippedRead => {
                io::Error::other("simulated I/O error")
            }
        }
    }

    /// Whether it can happen at an operation.
    pub fn fits(self, operation: Operation) -> bool {
        match self {
            Self::Crash | Self::Error => true,
            Self::NoSpace => operation.takes_space(),
            Self::ShortWrite => operation == Operation::Write,
            Self::DroppedPages => operation == Operation::Sync,
            Self::FlippedRead => matches!(operation, Operation::Read | Operation::Map),
        }
    }
}

pub(super) fn power_cut() -> io::Error {
    io::Error::other("power cut")
}

/// What a disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Make a directory.
    CreateDirectory,
    /// List a directory.
    List,
    /// Open a file.
    Open,
    /// Map a file.
    Map,
    /// Rename a file.
    Rename,
    /// Give a file a second name.
    Link,
    /// Remove a name.
    Remove,
    /// Make names durable.
    SyncDirectory,
    /// Ask for the length of a file, its lock, or its name.
    Ask,
    /// Read of an open file.
    Read,
    /// Write to a file.
    Write,
    /// Cut or extend a file.
    SetLength,
    /// Make contents durable.
    Sync,
}

impl Operation {
    /// Whether the disk may be too full for it.
    fn takes_space(self) -> bool {
        matches!(
            self,
            Self::CreateDirectory
                | Self::Open
                | Self::Rename
                | Self::Link
                | Self::Write
                | Self::SetLength
                | Self::Sync
                | Self::SyncDirectory
        )
    }
}

/// Kinds of file of a store, told by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// The log.
    Log,
    /// The catalog.
    Catalog,
    /// Segments.
    Segment,
    /// Every other, directories too.
    Other,
}

impl FileKind {
    /// The kind of a file or of a directory of such files.
    pub fn of(path: &Path) -> Self {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        let is_in = |directory: &str| path.components().any(|part| part.as_os_str() == directory);
        if name.starts_with("catalog.") {
            Self::Catalog
        } else if is_in("log") {
            Self::Log
        } else if is_in("segments") {
            Self::Segment
        } else {
            Self::Other
        }
    }
}

/// A fault that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// What goes wrong.
    pub fault: Fault,
    /// The kind of file that it meets; none for any.
    pub file: Option<FileKind>,
    /// The operation that it meets; none for any that it fits.
    pub operation: Option<Operation>,
    /// Operations it could meet that go well before.
    pub after: u64,
}

impl PlannedFault {
    /// Whether it comes now.
    pub(super) fn is_due(&mut self, operation: Operation, file: FileKind) -> bool {
        let is_met = self.fault.fits(operation)
            && self.operation.is_none_or(|one| one == operation)
            && self.file.is_none_or(|one| one == file);
        if !is_met {
            return false;
        }
        if self.after == 0 {
            return true;
        }
        self.after -= 1;
        false
    }
}

/// What went wrong, or what a power cut did to something that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// A fault.
    Fault(Fault),
    /// A write that a power cut lost.
    LostWrite,
    /// A write of which a power cut left some sectors or bytes.
    TornWrite,
    /// A write of which a power cut left sectors of garbage.
    Garbage,
    /// A name that a power cut lost or brought back.
    LostName,
}

/// How often what happened while the store did what.
pub type Activations = BTreeMap<(Effect, &'static str), u64>;

/// What somebody forgot to do, or a disk that lies: for tests of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Syncs of files of a kind do nothing and answer that they did.
    SkipSync(FileKind),
    /// Syncs of directories of a kind do nothing and answer that they did.
    SkipDirectorySync(FileKind),
    /// No sync does anything.
    LieAboutSyncs,
    /// Renames to names of a kind do nothing and answer that they did.
    SkipRename(FileKind),
    /// Files of a kind are not cut, although the answer is that they were.
    SkipCut(FileKind),
    /// Names of a kind are not removed, although the answer is that they were.
    SkipRemove(FileKind),
}
