//! The files of the log: their names, making one, reading one.

use std::io;
use std::path::{Path, PathBuf};

use spanstore_format::log::frame::{FileHeader, FileSummary};

use crate::error::Error;
use crate::io::{Disk, DiskFile, EntryKind, OpenMode};

const UNFINISHED: &str = ".unfinished";

/// The names in the log's directory.
#[derive(Debug, Default)]
pub(crate) struct LogNames {
    /// First sequences of the files, rising.
    pub(crate) firsts: Vec<u64>,
    /// Files that a crash kept from being finished. They have no records.
    pub(super) unfinished: Vec<String>,
}

impl LogNames {
    /// Lists them; a directory that is not there has none.
    pub(crate) fn list(disk: &dyn Disk, directory: &Path) -> Result<Self, Error> {
        let entries = match disk.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries.map_err(|error| Error::io("list", directory, error))?,
        };
        let mut names = Self::default();
        for entry in entries {
            if entry.kind != EntryKind::File {
                continue;
            }
            if let Some(first) = first_of(&entry.name) {
                names.firsts.push(first);
            } else if entry
                .name
                .strip_suffix(UNFINISHED)
                .and_then(first_of)
                .is_some()
            {
                names.unfinished.push(entry.name);
            }
        }
        names.firsts.sort_unstable();
        Ok(names)
    }

    /// The files all of whose records lie below a sequence, and the others. A
    /// removed file may come back after a power cut, with or without those
    /// between: names alone tell that it is sealed.
    pub(super) fn split(&self, first_unsealed: u64) -> (&[u64], &[u64]) {
        let begins_sealed = |first: &u64| *first <= first_unsealed;
        let sealed = self.firsts.partition_point(begins_sealed);
        self.firsts.split_at(sealed.saturating_sub(1))
    }
}

/// The first sequence of the file of a name.
fn first_of(name: &str) -> Option<u64> {
    let first = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(first) == name).then_some(first)
}

fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

pub(super) fn file_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(file_name(first))
}

/// Opens a file and reads all of it.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<(Box<dyn DiskFile>, Vec<u8>), Error> {
    let io = |operation| move |error| Error::io(operation, path, error);
    let file = disk.open(path, OpenMode::Existing).map_err(io("open"))?;
    let length = file.len().map_err(io("read"))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(io("read"))?;
    Ok((file, bytes))
}

/// Makes a file that begins with a sequence, durably. It has its name when its
/// header is on disk: so a file of that name without a header is damaged.
pub(super) fn create(
    disk: &dyn Disk,
    directory: &Path,
    first: u64,
    predecessor: Option<FileSummary>,
) -> io::Result<(Box<dyn DiskFile>, u64)> {
    let unfinished = directory.join(file_name(first) + UNFINISHED);
    let file = disk.open(&unfinished, OpenMode::CreateOrExisting)?;
    file.set_len(0)?;
    let mark = disk.random_number();
    let header = FileHeader {
        first_sequence: first,
        mark,
        predecessor,
    };
    file.write_at(0, &header.encode())?;
    file.sync_data()?;
    disk.rename(&unfinished, &file_path(directory, first))?;
    disk.sync_dir(directory)?;
    Ok((file, mark))
}

/// Takes back what [`create`] did before it failed. When it returns, the file
/// does not come back.
pub(super) fn discard(disk: &dyn Disk, directory: &Path, first: u64) -> io::Result<()> {
    // One that stays has no records; the next try or open replaces it.
    drop(disk.remove_file(&directory.join(file_name(first) + UNFINISHED)));
    match disk.remove_file(&file_path(directory, first)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(directory),
    }
}
