//! Copies a log that another process writes, and reads on in it.

use std::io;
use std::path::{Path, PathBuf};

use spanstore_format::log::frame::{FILE_HEADER_BYTES, FileHeader, frames_at};

use super::Log;
use super::files::{LogNames, file_path};
use super::open::Each;
use crate::error::Error;
use crate::io::{CopiedFiles, Disk, OpenMode};

/// Copies the files of a log. One that is removed meanwhile was sealed.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn copy(disk: &dyn Disk, directory: &Path, files: &CopiedFiles) -> Result<(), Error> {
    for first in LogNames::list(disk, directory)?.firsts {
        let path = file_path(directory, first);
        if let Some(bytes) = read_behind(disk, &path, 0)? {
            files.add(path, bytes);
        }
    }
    Ok(())
}

/// What a file has behind a place; none when it is not there any more, or is shorter.
fn read_behind(disk: &dyn Disk, path: &Path, offset: u64) -> Result<Option<Vec<u8>>, Error> {
    let failed = |operation| move |error| Error::io(operation, path, error);
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open"))?,
    };
    loop {
        let bytes = file.len().map_err(failed("read"))?;
        let Some(length) = bytes.checked_sub(offset) else {
            return Ok(None);
        };
        let mut rest = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        match file.read_at(offset, &mut rest) {
            // It was cut meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => return read.map(|()| Some(rest)).map_err(failed("read")),
        }
    }
}

/// The place up to which a log was read.
#[derive(Debug)]
pub(crate) struct Follower {
    directory: PathBuf,
    /// The first sequence of the file.
    first: u64,
    mark: u64,
    /// Bytes of the file that were read.
    offset: u64,
    /// The sequence of the next record.
    next: u64,
    /// Whether bytes that are no whole record stood behind that place.
    is_torn: bool,
}

impl Log {
    /// Where reading goes on behind what was replayed.
    pub(crate) fn follower(&self) -> Follower {
        let (first, offset) = self
            .files
            .back()
            .map_or((self.next, 0), |file| (file.first, file.bytes));
        Follower {
            directory: self.directory.clone(),
            first,
            mark: self.mark,
            offset,
            next: self.next,
            is_torn: false,
        }
    }
}

impl Follower {
    /// Hands the records that were written since to `each`, in order. Answers whether more may be
    /// read from here: not when files were let go of, as their records are sealed, and
    /// not when the file was cut, as an append that failed does.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; what `each` answers.
    pub(crate) fn read(&mut self, disk: &dyn Disk, each: &mut Each<'_>) -> Result<bool, Error> {
        loop {
            // A file is complete when the next one is there.
            let names = LogNames::list(disk, &self.directory)?;
            let following = names.firsts.iter().find(|first| **first > self.first);
            let path = file_path(&self.directory, self.first);
            let Some(bytes) = read_behind(disk, &path, self.offset)? else {
                return Ok(false);
            };
            let (frames, end) = frames_at(&bytes, 0, self.mark, self.next);
            for frame in &frames {
                each(frame.sequence, frame.payload)?;
                self.next = frame.sequence + 1;
            }
            self.offset += end as u64;
            let is_torn = end < bytes.len();
            match following {
                Some(first) if *first == self.next && !is_torn => self.go_on(disk)?,
                Some(_) => return Ok(false),
                None => {
                    // A write may be at work; but not for ever.
                    let goes_on = !(is_torn && self.is_torn && frames.is_empty());
                    self.is_torn = is_torn;
                    return Ok(goes_on);
                }
            }
        }
    }

    /// Goes on at the start of the next file.
    fn go_on(&mut self, disk: &dyn Disk) -> Result<(), Error> {
        let path = file_path(&self.directory, self.next);
        let header = header(disk, &path)?;
        self.first = self.next;
        self.mark = header.mark;
        self.offset = FILE_HEADER_BYTES as u64;
        Ok(())
    }
}

fn header(disk: &dyn Disk, path: &Path) -> Result<FileHeader, Error> {
    let mut header = [0; FILE_HEADER_BYTES];
    let read = disk
        .open(path, OpenMode::Read)
        .and_then(|file| file.read_at(0, &mut header));
    read.map_err(|error| Error::io("read", path, error))?;
    FileHeader::decode(&header).map_err(|error| Error::corrupt(path.display().to_string(), error))
}
