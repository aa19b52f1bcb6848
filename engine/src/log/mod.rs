//! The write-ahead log's files: append and sync, replay, follow, rotate, release.
//!
//! Each file is named by its first sequence. Records of a file are contiguous,
//! and so are files. A new file gets its name when its header is on disk, and
//! its name is durable before it is used; the file before it is synced by then.
//! So only the last file may end with something torn. Each file's header names
//! the file before; the catalog notes how far the last one reached.

mod files;
mod follow;
mod open;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use spanstore_format::log::frame::{FILE_HEADER_BYTES, FileSummary, encode_frame};

pub(crate) use self::files::LogNames;
use self::files::{create, discard, file_path};
pub(crate) use self::follow::{Follower, copy};
pub(crate) use self::open::LogBounds;
pub(crate) use self::survey::{LogSurvey, survey};
use crate::error::Error;
use crate::io::{Disk, DiskFile, is_no_space};

/// What replaying found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Records replayed.
    pub(crate) records: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: u64,
    /// Bytes at the end of the last file that were cut off: a write that was
    /// never acknowledged.
    pub(crate) torn_bytes: u64,
}

/// A file of the log.
#[derive(Debug)]
struct LogFile {
    first: u64,
    bytes: u64,
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// All files, the current one last.
    files: VecDeque<LogFile>,
    /// First sequences of sealed files that could not be removed.
    unreleased: Vec<u64>,
    current: Box<dyn DiskFile>,
    mark: u64,
    next: u64,
    /// Everything below this sequence is on disk for certain.
    settled: u64,
    poison: Option<String>,
}

impl Log {
    /// The sequence that the next record gets.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Everything below this sequence is on disk for certain.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether there are records that were not released.
    pub(crate) fn has_records(&self) -> bool {
        self.files.len() > 1 || self.files.back().is_some_and(|file| file.first < self.next)
    }

    /// Appends records with one write, and answers the sequence of the first.
    /// They are durable after the next [`Log::sync`].
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing of them stays, and the log can be used
    /// again. Any other failure is [`Error::Poisoned`], now and from now on.
    pub(crate) fn append(&mut self, payloads: &[&[u8]]) -> Result<u64, Error> {
        self.check_poison()?;
        let first = self.next;
        let mut frames = Vec::new();
        for (payload, sequence) in payloads.iter().zip(first..) {
            encode_frame(self.mark, sequence, self.settled, payload, &mut frames).map_err(
                |error| Error::corrupt(self.current_path().display().to_string(), error),
            )?;
        }
        let end = self.files.back().map_or(0, |file| file.bytes);
        if let Err(error) = self.current.write_at(end, &frames) {
            return Err(self.append_failed(end, &error));
        }
        if let Some(file) = self.files.back_mut() {
            file.bytes += frames.len() as u64;
        }
        self.next += payloads.len() as u64;
        Ok(first)
    }

    fn append_failed(&mut self, end: u64, error: &io::Error) -> Error {
        if !is_no_space(error) {
            return self.poisoned("write", error);
        }
        // Whole frames may stand there: they must not come back after a crash.
        match self
            .current
            .set_len(end)
            .and_then(|()| self.current.sync_data())
        {
            Ok(()) => {
                self.settled = self.next;
                Error::NoSpace {
                    path: self.current_path().display().to_string(),
                }
            }
            Err(error) => self.poisoned("cut back", &error),
        }
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`], now and from now on: after a failed sync nobody
    /// knows what is on disk.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        if self.settled < self.next {
            if let Err(error) = self.current.sync_data() {
                return Err(self.poisoned("sync", &error));
            }
            self.settled = self.next;
        }
        Ok(())
    }

    /// Starts a new file, unless the current one has no records, and answers
    /// its first sequence.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when there is none for a new file; the current one
    /// goes on. Any other failure is [`Error::Poisoned`].
    pub(crate) fn rotate(&mut self) -> Result<u64, Error> {
        self.sync()?;
        if self
            .files
            .back()
            .is_some_and(|file| file.first == self.next)
        {
            return Ok(self.next);
        }
        let predecessor = self.files.back().map(|file| FileSummary {
            first_sequence: file.first,
            end_sequence: self.next,
            bytes: file.bytes,
            mark: self.mark,
        });
        match create(&*self.disk, &self.directory, self.next, predecessor) {
            Ok((file, mark)) => {
                self.current = file;
                self.mark = mark;
                let bytes = FILE_HEADER_BYTES as u64;
                self.files.push_back(LogFile {
                    first: self.next,
                    bytes,
                });
                Ok(self.next)
            }
            Err(error) if is_no_space(&error) => {
                let path = file_path(&self.directory, self.next);
                // The current file goes on; one that begins within it must not
                // come back after a crash.
                match discard(&*self.disk, &self.directory, self.next) {
                    Ok(()) => Err(Error::NoSpace {
                        path: path.display().to_string(),
                    }),
                    Err(error) => Err(self.poisoned("remove", &error)),
                }
            }
            Err(error) => Err(self.poisoned("create", &error)),
        }
    }

    /// Removes the files all of whose records lie below a sequence; never the
    /// current one.
    ///
    /// # Errors
    /// [`Error::Io`]; what stays is tried again by the next call, and removed at
    /// the next open.
    pub(crate) fn release(&mut self, before: u64) -> Result<(), Error> {
        while let (Some(file), Some(next)) = (self.files.front(), self.files.get(1))
            && next.first <= before
        {
            self.unreleased.push(file.first);
            self.files.pop_front();
        }
        if self.unreleased.is_empty() {
            return Ok(());
        }
        for first in &self.unreleased {
            let path = file_path(&self.directory, *first);
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, error));
                }
                _ => {}
            }
        }
        let directory = &self.directory;
        self.disk
            .sync_dir(directory)
            .map_err(|error| Error::io("sync", directory, error))?;
        self.unreleased.clear();
        Ok(())
    }

    fn current_path(&self) -> PathBuf {
        file_path(
            &self.directory,
            self.files.back().map_or(0, |file| file.first),
        )
    }

    fn check_poison(&self) -> Result<(), Error> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    fn poisoned(&mut self, operation: &str, error: &io::Error) -> Error {
        let cause = format!("{operation} {}: {error}", self.current_path().display());
        self.poison = Some(cause.clone());
        Error::Poisoned { cause }
    }
}
