//! The file of recent appends: one for each seal, written beside and renamed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use spanstore_format::log::record::ReceiptRecord;
use spanstore_format::recent::{
    RecentAppend, RecentBlock, content_bytes, content_of, encode_block, encode_header, read,
};
use spanstore_format::{FormatError, TeamId};

use super::memory::Noted;
use super::{Recent, Remember};
use crate::error::Error;
use crate::io::{Disk, EntryKind, FileWriter, OpenMode};
use crate::removal::Removals;

/// Appends that are written, and looked at, at a time.
const BLOCK_APPENDS: usize = 1_024;

/// Bytes of a file that is read.
const MOST_FILE_BYTES: u64 = 1 << 30;

/// The files of recent appends of a store. Each is named by the first sequence of
/// the log whose records it does not have; the catalog names the one that counts.
#[derive(Debug)]
pub(crate) struct RecentFiles {
    disk: Arc<dyn Disk>,
    removals: Arc<Removals>,
    directory: PathBuf,
    /// Held while files are removed, and while one is copied.
    removal: Mutex<()>,
}

impl RecentFiles {
    pub(crate) fn new(disk: &Arc<dyn Disk>, root: &Path, removals: &Arc<Removals>) -> Self {
        Self {
            disk: Arc::clone(disk),
            removals: Arc::clone(removals),
            directory: directory(root),
            removal: Mutex::default(),
        }
    }

    /// Keeps files from being removed.
    pub(crate) fn keep(&self) -> MutexGuard<'_, ()> {
        self.removal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the file of a sequence is.
    pub(crate) fn path(&self, sequence: u64) -> PathBuf {
        self.directory.join(file_name(sequence))
    }

    /// Writes the file of a sequence with the appends that are remembered and
    /// have lower numbers than `before`. Answers whether there are any; else there
    /// is no file.
    ///
    /// # Errors
    /// [`Error::Io`]; no file of that name is there then, or the one that was.
    pub(crate) fn write(&self, recent: &Recent, sequence: u64, before: u64) -> Result<bool, Error> {
        recent.expire();
        let mut appends = Appends::new(recent, before);
        let first = appends.next_block();
        if first.is_empty() {
            return Ok(false);
        }
        let (disk, directory) = (&self.disk, &self.directory);
        disk.create_dir_all(directory)
            .map_err(|error| Error::io("create", directory, error))?;
        let unfinished = directory.join(file_name(sequence) + ".unfinished");
        let written = self.write_file(&unfinished, sequence, first, &mut appends);
        // A part of a file would only take space on a full disk.
        written.inspect_err(|_| self.removals.remove(&unfinished))?;
        let path = self.path(sequence);
        disk.rename(&unfinished, &path)
            .map_err(|error| Error::io("rename", &path, error))?;
        // A crash may have left a file of that name, which was to be removed.
        self.removals.keep(&path);
        disk.sync_dir(directory)
            .map_err(|error| Error::io("sync", directory, error))?;
        Ok(true)
    }

    fn write_file(
        &self,
        unfinished: &Path,
        sequence: u64,
        first: Vec<RecentAppend>,
        appends: &mut Appends<'_>,
    ) -> Result<(), Error> {
        let failed = |operation| move |error| Error::io(operation, unfinished, error);
        // An earlier try may have left a file of that name, which was to be removed.
        self.removals.keep(unfinished);
        let file = self
            .disk
            .open(unfinished, OpenMode::CreateOrExisting)
            .map_err(failed("create"))?;
        file.set_len(0).map_err(failed("cut"))?;
        let mut out = FileWriter::new(file);
        out.write_all(&encode_header(sequence))
            .map_err(failed("write"))?;
        let mut block = RecentBlock { appends: first };
        for number in 0.. {
            let bytes = encode_block(sequence, number, &block)
                .map_err(|error| Error::internal("a block of recent appends", &error))?;
            out.write_all(&bytes).map_err(failed("write"))?;
            if block.appends.is_empty() {
                break;
            }
            block.appends = appends.next_block();
        }
        let (file, _) = out.finish().map_err(failed("write"))?;
        file.sync_data().map_err(failed("sync"))
    }

    /// Removes all files but that of a sequence. What cannot be removed is noted
    /// with the other [`Removals`].
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be listed.
    pub(crate) fn remove_others(&self, kept: Option<u64>) -> Result<(), Error> {
        let _removal = self.keep();
        let directory = &self.directory;
        let entries = match self.disk.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| Error::io("list", directory, error))?,
        };
        let kept = kept.map(file_name);
        let is_ours = |name: &str| name.ends_with(".recent") || name.ends_with(".unfinished");
        for entry in entries {
            let is_kept = kept.as_ref() == Some(&entry.name);
            if entry.kind == EntryKind::File && is_ours(&entry.name) && !is_kept {
                self.removals.remove(&directory.join(&entry.name));
            }
        }
        // What is still there is tried again by those who ask for all of it.
        drop(self.removals.finish());
        Ok(())
    }

    /// Gives the file of a sequence a second name in another store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn copy(&self, sequence: u64, root: &Path) -> Result<(), Error> {
        let directory = directory(root);
        self.disk
            .create_dir_all(&directory)
            .map_err(|error| Error::io("create", &directory, error))?;
        let path = directory.join(file_name(sequence));
        self.disk
            .link(&self.path(sequence), &path)
            .map_err(|error| Error::io("link", &path, error))?;
        self.disk
            .sync_dir(&directory)
            .map_err(|error| Error::io("sync", &directory, error))
    }

    /// Reads the file of a sequence, and remembers what it says.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is damaged or missing: nothing is remembered
    /// then. [`Error::Io`].
    pub(crate) fn load(&self, recent: &Recent, sequence: u64) -> Result<(), Error> {
        let mut appends = Vec::new();
        self.verify(sequence, &mut |append| appends.push(append))?;
        for (team, append) in appends {
            recent.remember(&team, append);
        }
        recent.expire();
        Ok(())
    }

    /// Reads the file of a sequence.
    ///
    /// # Errors
    /// As [`RecentFiles::load`].
    pub(crate) fn verify(
        &self,
        sequence: u64,
        each: &mut dyn FnMut((TeamId, Remember)),
    ) -> Result<(), Error> {
        let path = self.path(sequence);
        let corrupt = |error| Error::corrupt(path.display().to_string(), error);
        let bytes = match self.read_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let expected = "the file that the catalog names";
                let error = FormatError::malformed("recent appends", 0, expected, "no file");
                return Err(corrupt(error));
            }
            bytes => bytes.map_err(|error| Error::io("read", &path, error))?,
        };
        let mut bad = None;
        read(&bytes, sequence, &mut |append| match decode(append) {
            Some(append) => each(append),
            None => bad = Some("an append without content"),
        })
        .map_err(corrupt)?;
        match bad {
            None => Ok(()),
            Some(found) => Err(corrupt(FormatError::malformed(
                "recent appends",
                0,
                "appends",
                found,
            ))),
        }
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.disk.open(path, OpenMode::Existing)?;
        let length = file.len()?;
        if length > MOST_FILE_BYTES {
            let message = format!("expected at most {MOST_FILE_BYTES} bytes, found {length}");
            return Err(io::Error::other(message));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

fn directory(root: &Path) -> PathBuf {
    root.join("recent")
}

fn file_name(sequence: u64) -> String {
    format!("{sequence:020}.recent")
}

fn decode(append: RecentAppend) -> Option<(TeamId, Remember)> {
    let team = TeamId::new(&append.team).ok()?;
    let remember = Remember {
        at: append.noted_at,
        content: content_of(&append.content)?,
        is_body: append.key.is_none(),
        key: append.key,
        receipt: append.receipt?,
    };
    Some((team, remember))
}

/// The appends that are remembered, block by block: bodies first. Whoever appends
/// waits for a block at most.
struct Appends<'a> {
    recent: &'a Recent,
    before: u64,
    /// The next number among bodies, and among keys.
    next: (u64, u64),
}

impl<'a> Appends<'a> {
    fn new(recent: &'a Recent, before: u64) -> Self {
        Self {
            recent,
            before,
            next: (0, 0),
        }
    }

    /// The next appends; none at the end.
    fn next_block(&mut self) -> Vec<RecentAppend> {
        let state = self.recent.state();
        let bodies = state.bodies.range(self.next.0, self.before, BLOCK_APPENDS);
        if let Some((last, ..)) = bodies.last() {
            self.next.0 = last + 1;
            let encode = |(_, team, _, noted)| encode(&team, noted, None);
            return bodies.into_iter().map(encode).collect();
        }
        let keys = state.keys.range(self.next.1, self.before, BLOCK_APPENDS);
        if let Some((last, ..)) = keys.last() {
            self.next.1 = last + 1;
        }
        let encode = |(_, team, key, noted)| encode(&team, noted, Some(key));
        keys.into_iter().map(encode).collect()
    }
}

fn encode(team: &TeamId, noted: Noted, key: Option<Bytes>) -> RecentAppend {
    RecentAppend {
        team: team.as_str().to_owned(),
        noted_at: noted.at,
        content: content_bytes(noted.content),
        key,
        receipt: ReceiptRecord::decode(&*noted.receipt).ok(),
    }
}
