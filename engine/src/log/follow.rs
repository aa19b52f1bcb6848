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
    /// The first sequence of the oldest file that was read; none where there was no file.
    oldest: Option<u64>,
    /// The first sequence of the file that is read.
    first: u64,
    mark: u64,
    /// Bytes of the file that were read.
    offset: u64,
    /// The sequence of the next record.
    next: u64,
    /// Bytes behind that place that are no whole record: an append that a crash cut off, as it was
    /// found at first; and as it was found at last.
    torn: [u64; 2],
    /// Whether nothing more can be read from here.
    is_over: bool,
}

impl Log {
    /// Where reading goes on in the log that this one is a copy of, which had files or not and
    /// ended with so many torn bytes.
    pub(crate) fn follower(&self, had_files: bool, torn: u64) -> Follower {
        let last = self.files.back();
        let (first, offset) = last.map_or((self.next, 0), |file| (file.first, file.bytes));
        let oldest = self.files.front().filter(|_| had_files);
        Follower {
            directory: self.directory.clone(),
            oldest: oldest.map(|file| file.first),
            first,
            mark: self.mark,
            offset,
            next: self.next,
            torn: [torn; 2],
            is_over: false,
        }
    }
}

impl Follower {
    /// Hands the records that were written since to `each`, in order. Answers whether more may be
    /// read from here: not when a file was let go of, as its records are sealed, nor when the
    /// file was cut, as an append that failed does, nor after an error.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; what `each` answers.
    pub(crate) fn read(&mut self, disk: &dyn Disk, each: &mut Each<'_>) -> Result<bool, Error> {
        if self.is_over {
            return Ok(false);
        }
        let read = self.read_on(disk, each);
        self.is_over = !matches!(read, Ok(true));
        read
    }

    fn read_on(&mut self, disk: &dyn Disk, each: &mut Each<'_>) -> Result<bool, Error> {
        loop {
            // A file is complete when the next one is there.
            let names = LogNames::list(disk, &self.directory)?;
            let Some(oldest) = self.oldest else {
                return Ok(names.firsts.is_empty());
            };
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
            let torn = (bytes.len() - end) as u64;
            match following {
                Some(first) if *first == self.next && torn == 0 => {
                    if !self.go_on(disk)? {
                        return Ok(false);
                    }
                }
                Some(_) => return Ok(false),
                None => {
                    // A write may be at work; but not for ever.
                    let [at_first, at_last] = self.torn;
                    let is_stuck = frames.is_empty() && torn > 0 && at_last > 0;
                    let at_first = if frames.is_empty() { at_first } else { 0 };
                    self.torn = [at_first, torn];
                    return Ok(names.firsts.contains(&oldest) && (!is_stuck || torn == at_first));
                }
            }
        }
    }

    /// Goes on at the start of the next file, if it is still there.
    fn go_on(&mut self, disk: &dyn Disk) -> Result<bool, Error> {
        let path = file_path(&self.directory, self.next);
        let mut header = [0; FILE_HEADER_BYTES];
        let opened = disk.open(&path, OpenMode::Read);
        match opened.and_then(|file| file.read_at(0, &mut header)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read.map_err(|error| Error::io("read", &path, error))?,
        }
        let header = FileHeader::decode(&header);
        let header = header.map_err(|error| Error::corrupt(path.display().to_string(), error))?;
        self.first = self.next;
        self.mark = header.mark;
        self.offset = FILE_HEADER_BYTES as u64;
        self.torn = [0; 2];
        Ok(true)
    }
}
