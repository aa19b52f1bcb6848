//! A disk in memory that can lose power and fail, for tests.
//!
//! It keeps what is durable apart from what is merely written. Each operation
//! has a number, counted from 0, so a test can fail any of them; after a crash
//! every operation fails until [`SimulatedDisk::restart`] decides what the
//! power cut left. All choices come from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::disk::{DirEntry, Disk, DiskFile, EntryKind, OpenMode};

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this and all later operations fail. Of a write, some
    /// may have happened.
    Crash,
    /// This operation fails with an I/O error. A sync that fails has lost what
    /// it should have made durable, although reads still show it.
    Error,
    /// This operation finds the disk full. Half of a write has happened.
    NoSpace,
}

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// All of it, as when only the process was killed.
    KeepAll,
    /// None of it.
    DropAll,
    /// Some of it, in no order, the last write of a file torn: by this seed.
    Some(u64),
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    directories: BTreeSet<PathBuf>,
    files: Vec<File>,
    /// Names as they are seen, and the files that they stand for.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_crashed: bool,
    /// Restarts so far; handles of an earlier run are dead.
    run: u64,
}

#[derive(Debug, Default)]
struct File {
    /// As it is seen.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    is_locked: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(*offset..end) {
                    place.copy_from_slice(data);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// Numbers from a seed: SplitMix64 (Steele, Lea, Flood, 2014).
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// Where a torn write may end, in bytes from its start.
const TORN_AT: [usize; 5] = [0, 1, 7, 512, 4_096];

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations since the last restart.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the operation with a number fail, counted since the last restart.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    /// Cuts the power, if it is not cut yet, and switches it on again. Handles
    /// and locks from before are gone; the count of operations begins anew.
    pub fn restart(&self, cut: PowerCut) {
        let mut state = self.state();
        let state = &mut *state;
        let mut choices = Choices(match cut {
            PowerCut::Some(seed) => seed,
            _ => 0,
        });
        let is_kept = |choices: &mut Choices| match cut {
            PowerCut::KeepAll => true,
            PowerCut::DropAll => false,
            PowerCut::Some(_) => choices.coin(),
        };
        for file in &mut state.files {
            let changes = std::mem::take(&mut file.unsynced);
            let last = changes.len().saturating_sub(1);
            for (number, mut change) in changes.into_iter().enumerate() {
                if !is_kept(&mut choices) {
                    continue;
                }
                if let (PowerCut::Some(_), Change::Write { data, .. }) = (cut, &mut change)
                    && number == last
                    && choices.coin()
                {
                    let place = choices.next() as usize % (TORN_AT.len() + 1);
                    let random = choices.next() as usize % (data.len() + 1);
                    data.truncate(TORN_AT.get(place).copied().unwrap_or(random));
                }
                change.apply(&mut file.durable);
            }
            file.bytes.clone_from(&file.durable);
            file.is_locked = false;
        }
        for change in std::mem::take(&mut state.unsynced_names) {
            if is_kept(&mut choices) {
                change.apply(&mut state.durable_names);
            }
        }
        state.names.clone_from(&state.durable_names);
        state.operations = 0;
        state.fault = None;
        state.is_crashed = false;
        state.run += 1;
    }

    /// The names of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Changes a file behind the store's back, durably.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state();
        let number = state.file_of(path)?;
        let file = state.file(number)?;
        change(&mut file.bytes);
        file.durable.clone_from(&file.bytes);
        Ok(())
    }
}

fn power_cut() -> io::Error {
    io::Error::other("power cut")
}

impl State {
    /// Counts an operation, and tells the fault that it meets.
    fn operation(&mut self) -> io::Result<Option<Fault>> {
        if self.is_crashed {
            return Err(power_cut());
        }
        let number = self.operations;
        self.operations += 1;
        let fault = self
            .fault
            .filter(|(at, _)| *at == number)
            .map(|(_, fault)| fault);
        if fault == Some(Fault::Crash) {
            self.is_crashed = true;
        }
        Ok(fault)
    }

    /// Counts an operation that happens wholly or not at all.
    fn plain_operation(&mut self) -> io::Result<()> {
        match self.operation()? {
            None => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn file_of(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, number: usize) -> io::Result<&mut File> {
        self.files
            .get_mut(number)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, number: usize, change: Change) -> io::Result<()> {
        let file = self.file(number)?;
        change.apply(&mut file.bytes);
        file.unsynced.push(change);
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Crash => power_cut(),
            Self::Error => io::Error::other("simulated I/O error"),
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
        }
    }
}

impl Disk for SimulatedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation()?;
        for directory in path.ancestors() {
            state.directories.insert(directory.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.plain_operation()?;
        if !state.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let directories = state
            .directories
            .iter()
            .filter(|directory| directory.parent() == Some(path))
            .filter_map(|directory| {
                Some(DirEntry {
                    name: name(directory)?,
                    kind: EntryKind::Directory,
                    bytes: 0,
                })
            });
        let files = state
            .names
            .iter()
            .filter(|(file, _)| file.parent() == Some(path));
        let files = files.filter_map(|(file, number)| {
            let bytes = state.files.get(*number)?.bytes.len() as u64;
            Some(DirEntry {
                name: name(file)?,
                kind: EntryKind::File,
                bytes,
            })
        });
        let mut entries: Vec<DirEntry> = directories.chain(files).collect();
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.plain_operation()?;
        let file = match (state.names.get(path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                if !path
                    .parent()
                    .is_some_and(|parent| state.directories.contains(parent))
                {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.files.push(File::default());
                let file = state.files.len() - 1;
                state.change_name(NameChange::Link(path.to_path_buf(), file));
                file
            }
        };
        let run = state.run;
        let disk = Arc::clone(&self.0);
        Ok(Box::new(Handle {
            disk,
            file,
            run,
            has_lock: Mutex::new(false),
        }))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let mut state = self.state();
        state.plain_operation()?;
        let file = state.file_of(path)?;
        Ok(Bytes::copy_from_slice(&state.file(file)?.bytes))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation()?;
        let file = state.file_of(from)?;
        state.change_name(NameChange::Rename(
            from.to_path_buf(),
            to.to_path_buf(),
            file,
        ));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation()?;
        let number = state.file_of(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change_name(NameChange::Link(to.to_path_buf(), number));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation()?;
        state.file_of(path)?;
        state.change_name(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation()?;
        let state = &mut *state;
        let changes = std::mem::take(&mut state.unsynced_names);
        for change in changes {
            if change.directory() == Some(path) {
                change.apply(&mut state.durable_names);
            } else {
                state.unsynced_names.push(change);
            }
        }
        Ok(())
    }
}

/// An open file of one run.
#[derive(Debug)]
struct Handle {
    disk: Arc<Mutex<State>>,
    file: usize,
    run: u64,
    has_lock: Mutex<bool>,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if state.run == self.run {
            Ok(state)
        } else {
            Err(power_cut())
        }
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.plain_operation()?;
        Ok(state.file(self.file)?.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.plain_operation()?;
        let start = offset as usize;
        let data = state.file(self.file)?.bytes.get(start..start + out.len());
        out.copy_from_slice(data.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.operation()?;
        let happened = match fault {
            None | Some(Fault::Crash) => data,
            Some(Fault::NoSpace) => data.get(..data.len() / 2).unwrap_or_default(),
            Some(Fault::Error) => &[],
        };
        let change = Change::Write {
            offset: offset as usize,
            data: happened.to_vec(),
        };
        state.change(self.file, change)?;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.plain_operation()?;
        state.change(self.file, Change::Length(bytes as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let fault = state.operation()?;
        let file = state.file(self.file)?;
        match fault {
            // The medium may have got all of it before the power went.
            Some(Fault::Crash) => return Err(power_cut()),
            Some(fault) => {
                file.unsynced.clear();
                return Err(fault.error());
            }
            None => {}
        }
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.state()?;
        state.plain_operation()?;
        let file = state.file(self.file)?;
        if file.is_locked {
            return Ok(false);
        }
        file.is_locked = true;
        *self.has_lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(true)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state()?;
        state.plain_operation()?;
        Ok(state.file_of(path).ok() == Some(self.file))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let has_lock = *self.has_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Ok(mut state)) = (has_lock, self.state())
            && let Ok(file) = state.file(self.file)
        {
            file.is_locked = false;
        }
    }
}

#[cfg(test)]
mod tests;
