//! Opens the log: removes what is sealed, replays the rest, cuts a torn tail.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use spanstore_format::FormatError;
use spanstore_format::log::frame::{FileHeader, Frames, Tail};

use super::{Log, LogFile, Recovered, create, file_path};
use crate::error::Error;
use crate::io::{Disk, DiskFile, EntryKind, OpenMode};

const PART: &str = "log file";

/// Takes the sequence and the payload of a record that is replayed.
type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

impl Log {
    /// Opens the log in a directory, or makes one whose first sequence is
    /// `from`. Hands each record from `from` on to `each`, in order.
    ///
    /// A crash in here leaves what the next open recovers the same way.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when records that were durable are damaged or
    /// missing; [`Error::Io`]; what `each` answers.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        from: u64,
        each: &mut Each<'_>,
    ) -> Result<(Self, Recovered), Error> {
        disk.create_dir_all(directory)
            .map_err(|error| Error::io("create", directory, error))?;
        let mut firsts = list(&*disk, directory)?;
        remove_sealed(&*disk, directory, from, &mut firsts)?;

        let mut recovered = Recovered::default();
        let mut files = VecDeque::new();
        let mut next = from;
        let mut current = None;
        let last = firsts.last().copied();
        for first in firsts {
            let is_contiguous = if files.is_empty() {
                first <= from
            } else {
                first == next
            };
            if !is_contiguous {
                let path = file_path(directory, first);
                let expected = format!("a file that begins at sequence {next}");
                let error = FormatError::malformed(PART, 0, expected, format!("{first}"));
                return Err(Error::corrupt(path.display().to_string(), error));
            }
            let replayed = replay(
                &*disk,
                directory,
                first,
                Some(first) == last,
                from,
                &mut recovered,
                each,
            )?;
            // An unfinished last file has no records; it is made anew below.
            let Some(replayed) = replayed else {
                next = first;
                break;
            };
            next = replayed.next;
            files.push_back(LogFile {
                first,
                bytes: replayed.bytes,
            });
            current = Some((replayed.file, replayed.header.mark));
        }
        let is_unfinished =
            last.is_some_and(|last| files.back().is_none_or(|file| file.first < last));
        let (current, mark) = match current {
            Some(current) if !is_unfinished => current,
            _ => {
                let made = create(&*disk, directory, next);
                let path = file_path(directory, next);
                let made = made.map_err(|error| Error::io("create", &path, error))?;
                let bytes = spanstore_format::log::frame::FILE_HEADER_BYTES as u64;
                files.push_back(LogFile { first: next, bytes });
                made
            }
        };
        let log = Self {
            disk,
            directory: directory.to_path_buf(),
            files,
            current,
            mark,
            next,
            settled: next,
            poison: None,
        };
        Ok((log, recovered))
    }
}

/// First sequences of the files, rising.
fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, Error> {
    let entries = disk
        .list(directory)
        .map_err(|error| Error::io("list", directory, error))?;
    let mut firsts: Vec<u64> = entries
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::File)
        .filter_map(|entry| entry.name.strip_suffix(".log")?.parse().ok())
        .collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Removes the files that a crash kept from being removed after a seal.
fn remove_sealed(
    disk: &dyn Disk,
    directory: &Path,
    from: u64,
    firsts: &mut Vec<u64>,
) -> Result<(), Error> {
    let sealed = firsts
        .windows(2)
        .filter(|pair| matches!(pair, [_, next] if *next <= from))
        .count();
    for first in firsts.drain(..sealed) {
        let path = file_path(directory, first);
        disk.remove_file(&path)
            .map_err(|error| Error::io("remove", &path, error))?;
    }
    if sealed > 0 {
        disk.sync_dir(directory)
            .map_err(|error| Error::io("sync", directory, error))?;
    }
    Ok(())
}

/// Where the first frame begins that no later one says was on disk.
fn unsettled_offset(frames: &Frames<'_>) -> u64 {
    let settled = frames.clone().last().map_or(0, |last| last.settled);
    let first = frames.clone().find(|frame| frame.sequence >= settled);
    first.map_or(0, |frame| frame.offset)
}

struct Replayed {
    file: Box<dyn DiskFile>,
    header: FileHeader,
    /// The sequence after the file's last record.
    next: u64,
    bytes: u64,
}

/// Replays one file; none for a last file whose header was never finished.
fn replay(
    disk: &dyn Disk,
    directory: &Path,
    first: u64,
    is_last: bool,
    from: u64,
    recovered: &mut Recovered,
    each: &mut Each<'_>,
) -> Result<Option<Replayed>, Error> {
    let path = file_path(directory, first);
    let corrupt = |error| Error::corrupt(path.display().to_string(), error);
    let io = |operation| {
        let path = path.clone();
        move |error| Error::io(operation, &path, error)
    };
    let file = disk.open(&path, OpenMode::Existing).map_err(io("open"))?;
    let length = file.len().map_err(io("read"))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(io("read"))?;
    let mut frames = Frames::new(&bytes).map_err(corrupt)?;
    let tail = frames.clone().tail();
    let end = match tail {
        Tail::Clean => length,
        Tail::Torn { offset, .. } if is_last => offset,
        Tail::Torn { offset, bytes } => {
            let found = format!("{bytes} bytes that are none, and another file");
            return Err(corrupt(FormatError::malformed(
                PART, offset, "a frame", found,
            )));
        }
        Tail::Corrupt {
            offset,
            expected,
            valid_after,
            valid_offset,
        } => {
            let found =
                format!("damage up to sequence {valid_after}, which stands at byte {valid_offset}");
            let expected = format!("the frame of sequence {expected}");
            return Err(corrupt(FormatError::malformed(
                PART, offset, expected, found,
            )));
        }
    };
    let Some(header) = frames.header() else {
        return Ok(None);
    };
    if header.first_sequence != first {
        let found = format!("sequence {}", header.first_sequence);
        return Err(corrupt(FormatError::malformed(
            PART,
            16,
            format!("sequence {first}"),
            found,
        )));
    }
    if end < length {
        recovered.torn_bytes += length - end;
        tracing::warn!(file = %path.display(), bytes = length - end, "cutting an unacknowledged write");
        file.set_len(end).map_err(io("cut"))?;
    }
    if is_last {
        // What is replayed is answered from now on, so it must be on disk. A
        // killed process may have left it with the system alone; and after a
        // sync that failed, the system may think that it is written. So it is
        // written again.
        let unsettled = unsettled_offset(&frames) as usize;
        if let Some(rest) = bytes
            .get(unsettled..end as usize)
            .filter(|rest| !rest.is_empty())
        {
            file.write_at(unsettled as u64, rest).map_err(io("write"))?;
        }
        file.sync_data().map_err(io("sync"))?;
    }
    for frame in frames.by_ref().filter(|frame| frame.sequence >= from) {
        recovered.records += 1;
        recovered.bytes += frame.payload.len() as u64;
        each(frame.sequence, frame.payload)?;
    }
    Ok(Some(Replayed {
        file,
        header,
        next: frames.next_sequence(),
        bytes: end,
    }))
}
