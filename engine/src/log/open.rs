//! Opens the log: replays what is not sealed, cuts a torn tail, removes what
//! is sealed. Nothing is changed before everything was found to be whole.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use spanstore_format::FormatError;
use spanstore_format::log::frame::{FILE_HEADER_BYTES, FileFrames, FileHeader, FileSummary, Tail};

use super::files::{LogNames, create, file_path, read};
use super::{Log, LogFile, Recovered};
use crate::error::Error;
use crate::io::{Disk, DiskFile};

pub(super) const PART: &str = "log file";

/// What the catalog says of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogBounds {
    /// The first sequence that is not sealed.
    pub(crate) first_unsealed: u64,
    /// All sequences below were on disk for certain; not below `first_unsealed`.
    pub(crate) settled: u64,
}

/// Takes the sequence and the payload of a record that is replayed.
pub(crate) type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

impl Log {
    /// Opens the log in a directory, or makes one whose first sequence is
    /// `first_unsealed`. Hands each record from there on to `each`, in order.
    ///
    /// A crash in here leaves what the next open recovers the same way.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when records that were durable are damaged or
    /// missing: nothing was changed then. [`Error::Io`]; what `each` answers.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        bounds: LogBounds,
        each: &mut Each<'_>,
    ) -> Result<(Self, Recovered), Error> {
        let mut bounds = bounds;
        if is_planted!(IgnoreSettled) {
            bounds.settled = bounds.first_unsealed;
        }
        let names = LogNames::list(&*disk, directory)?;
        let (sealed, unsealed) = names.split(bounds.first_unsealed);
        let mut replay = Replay {
            disk: &*disk,
            directory,
            bounds,
            files: VecDeque::new(),
            before: None,
            next: bounds.first_unsealed,
            recovered: Recovered::default(),
        };
        let mut last = None;
        for (place, first) in unsealed.iter().enumerate() {
            let is_last = place + 1 == unsealed.len();
            last = replay.file(*first, is_last, each)?;
        }
        replay.check_end()?;
        let Replay {
            mut files,
            next,
            recovered,
            ..
        } = replay;

        disk.create_dir_all(directory)
            .map_err(|error| Error::io("create", directory, error))?;
        if let Some(last) = &last {
            last.repair()?;
        }
        for path in sealed
            .iter()
            .map(|first| file_path(directory, *first))
            .chain(names.unfinished.iter().map(|name| directory.join(name)))
        {
            disk.remove_file(&path)
                .map_err(|error| Error::io("remove", &path, error))?;
        }
        // Also for the name of the last file: a process that was killed may have
        // left it with the system alone.
        disk.sync_dir(directory)
            .map_err(|error| Error::io("sync", directory, error))?;
        let (current, mark) = match last {
            Some(last) => (last.file, last.summary.mark),
            None => {
                let path = file_path(directory, next);
                let made = create(&*disk, directory, next, None);
                let made = made.map_err(|error| Error::io("create", &path, error))?;
                files.push_back(LogFile {
                    first: next,
                    bytes: FILE_HEADER_BYTES as u64,
                });
                made
            }
        };
        let log = Self {
            disk,
            directory: directory.to_path_buf(),
            files,
            unreleased: Vec::new(),
            current,
            mark,
            next,
            settled: next,
            poison: None,
        };
        Ok((log, recovered))
    }
}

/// The last file, and what has to be done to it before it goes on.
struct LastFile {
    file: Box<dyn DiskFile>,
    path: std::path::PathBuf,
    summary: FileSummary,
    /// Whether bytes stand behind its frames.
    is_torn: bool,
    /// The frames that were not on disk for certain, and where they begin.
    unsettled: (u64, Vec<u8>),
}

impl LastFile {
    /// Cuts the torn tail, and makes durable what is replayed.
    fn repair(&self) -> Result<(), Error> {
        let io = |operation| move |error| Error::io(operation, &self.path, error);
        if self.is_torn {
            self.file.set_len(self.summary.bytes).map_err(io("cut"))?;
        }
        // What is replayed is answered from now on, so it must be on disk. A
        // killed process may have left it with the system alone; and after a
        // sync that failed, the system may think that it is written. So it is
        // written again.
        if is_planted!(TrustTail) {
            return Ok(());
        }
        let (offset, bytes) = &self.unsettled;
        if !bytes.is_empty() {
            self.file.write_at(*offset, bytes).map_err(io("write"))?;
        }
        self.file.sync_data().map_err(io("sync"))
    }
}

/// Goes through the files that are not sealed.
struct Replay<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    bounds: LogBounds,
    /// The files so far.
    files: VecDeque<LogFile>,
    /// The last of them.
    before: Option<FileSummary>,
    /// The sequence after their last record.
    next: u64,
    recovered: Recovered,
}

impl Replay<'_> {
    fn corrupt(&self, first: u64, error: FormatError) -> Error {
        Error::corrupt(
            file_path(self.directory, first).display().to_string(),
            error,
        )
    }

    /// Verifies and replays one file; answers it if it is the last.
    fn file(
        &mut self,
        first: u64,
        is_last: bool,
        each: &mut Each<'_>,
    ) -> Result<Option<LastFile>, Error> {
        let path = file_path(self.directory, first);
        let (file, bytes) = read(self.disk, &path)?;
        let frames = FileFrames::read(&bytes).map_err(|error| self.corrupt(first, error))?;
        self.check_header(frames.header(), first)?;
        let end = frames.end();
        self.check_tail(&frames, first, is_last)?;

        for frame in frames.frames() {
            if frame.sequence >= self.bounds.first_unsealed {
                self.recovered.records += 1;
                self.recovered.bytes += frame.payload.len() as u64;
                each(frame.sequence, frame.payload)?;
            }
        }
        let summary = FileSummary {
            bytes: end,
            ..frames.summary()
        };
        self.files.push_back(LogFile { first, bytes: end });
        self.before = Some(summary);
        self.next = summary.end_sequence;
        if !is_last {
            return Ok(None);
        }
        let is_torn = end < bytes.len() as u64;
        if is_torn {
            let torn = bytes.len() as u64 - end;
            self.recovered.torn_bytes += torn;
            tracing::warn!(file = %path.display(), bytes = torn, "an unacknowledged write is left out");
        }
        let settled = frames.frames().last().map_or(0, |last| last.settled);
        let settled = settled.max(self.bounds.settled);
        let mut frames = frames.frames().iter();
        let unsettled = frames
            .find(|frame| frame.sequence >= settled)
            .map_or(end, |frame| frame.offset);
        let rest = bytes.get(unsettled as usize..end as usize);
        let unsettled = (unsettled, rest.unwrap_or_default().to_vec());
        Ok(Some(LastFile {
            file,
            path,
            summary,
            is_torn,
            unsettled,
        }))
    }

    /// The header names this file, and the file before as it is.
    fn check_header(&self, header: FileHeader, first: u64) -> Result<(), Error> {
        if header.first_sequence != first {
            let expected = format!("sequence {first}");
            let found = format!("sequence {}", header.first_sequence);
            let error = FormatError::malformed(PART, 16, expected, found);
            return Err(self.corrupt(first, error));
        }
        let (named, found) = match (header.predecessor, self.before) {
            // A file before it that is sealed may be gone.
            (_, None) if first <= self.next => return Ok(()),
            (named, before) if named == before => return Ok(()),
            (named, before) => (named, before),
        };
        let expected = match named {
            Some(named) => named.to_string(),
            None => "no file before the next one".to_owned(),
        };
        let place = named.map_or(self.next, |named| named.first_sequence);
        let found = found.map_or_else(|| "no file".to_owned(), |found| found.to_string());
        let error = FormatError::malformed(PART, 0, expected, found);
        Err(self.corrupt(place, error))
    }

    /// Nothing that was on disk for certain is bad or missing.
    fn check_tail(&self, frames: &FileFrames<'_>, first: u64, is_last: bool) -> Result<(), Error> {
        // Where a file ends that is not the last, the next one's header tells.
        let settled = if is_last { self.bounds.settled } else { 0 };
        let found = match frames.tail(settled) {
            Tail::Clean => return Ok(()),
            Tail::Torn { .. } if is_last => return Ok(()),
            Tail::Corrupt {
                valid_after: Some((sequence, at)),
                ..
            } => format!("damage up to sequence {sequence}, which stands at byte {at}"),
            Tail::Torn { .. } | Tail::Corrupt { .. } => match frames.summary().bytes - frames.end()
            {
                0 => "the end of the file".to_owned(),
                bytes => format!("{bytes} bytes that are no frame"),
            },
        };
        let missing = frames.end_sequence();
        let expected = if is_last {
            format!("the frame of sequence {missing} of a log that had reached sequence {settled}")
        } else {
            format!("the frame of sequence {missing}, or the end of the file")
        };
        let error = FormatError::malformed(PART, frames.end(), expected, found);
        Err(self.corrupt(first, error))
    }

    /// The log reaches as far as the catalog says. The last file was asked
    /// already; so this finds files that are missing.
    fn check_end(&self) -> Result<(), Error> {
        let settled = self.bounds.settled;
        if self.next >= settled {
            return Ok(());
        }
        let expected = format!("a log that had reached sequence {settled}");
        let found = format!("no file from sequence {} on", self.next);
        let error = FormatError::malformed(PART, 0, expected, found);
        Err(self.corrupt(self.next, error))
    }
}
