//! A disk in memory that can lose power and fail, for tests.
//!
//! It keeps what is durable apart from what is merely written. Each operation
//! has a number, counted from 0, so a test can fail any of them; after a crash
//! every operation fails until [`SimulatedDisk::restart`] decides what the
//! power cut left. All choices come from seeds.

mod fault;
mod file;
mod handle;
mod random;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::fault::power_cut;
pub use self::fault::{Activations, Effect, Fault, FileKind, Operation, PlannedFault, Sabotage};
pub use self::file::PowerCut;
use self::file::{Change, File, NameChange, Names};
use self::handle::Handle;
use self::random::Choices;
use super::disk::{DirEntry, Disk, DiskFile, EntryKind, OpenMode};

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    directories: BTreeSet<PathBuf>,
    files: Vec<File>,
    names: Names,
    operations: u64,
    /// Hash of all operations and what they met.
    trace: u64,
    /// A fault at an operation of this number.
    numbered: Option<(u64, Fault)>,
    planned: Vec<PlannedFault>,
    is_paused: bool,
    sabotage: Vec<Sabotage>,
    is_crashed: bool,
    /// Restarts so far; handles of an earlier run are dead.
    run: u64,
    /// Bytes that files may still grow by; none for no limit.
    space: Option<u64>,
    choices: Choices,
    /// What the store is doing.
    activity: &'static str,
    activations: Activations,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk whose choices come from a seed.
    pub fn seeded(seed: u64) -> Self {
        let disk = Self::default();
        disk.state().choices = Choices::new(seed);
        disk
    }

    /// A disk with these files, all durable.
    pub fn with_files<'a>(files: impl IntoIterator<Item = (&'a Path, &'a [u8])>) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.state();
            for (path, bytes) in files {
                for directory in path.ancestors().skip(1) {
                    state.directories.insert(directory.to_path_buf());
                }
                state.files.push(File::durable(bytes));
                let file = state.files.len() - 1;
                state.names.put(path, file);
            }
        }
        disk
    }

    /// Another disk in the same state. Handles stay with this one.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations since the last restart.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// A hash of all operations so far: two runs that did the same to their
    /// disks have the same.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// Lets the operation with a number fail, counted since the last restart.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().numbered = Some((operation, fault));
    }

    /// Plans a fault beside those that are planned; each comes once.
    pub fn plan(&self, fault: PlannedFault) {
        self.state().planned.push(fault);
    }

    /// Holds the planned faults back, or lets them come again.
    pub fn pause_faults(&self, is_paused: bool) {
        self.state().is_paused = is_paused;
    }

    /// Cuts the power.
    pub fn cut_power(&self) {
        self.state().is_crashed = true;
    }

    /// Forgets the faults that have not come.
    pub fn clear_plans(&self) {
        let mut state = self.state();
        state.planned.clear();
        state.numbered = None;
    }

    /// Sets the bytes that files may still grow by; none for no limit. What is
    /// cut or removed is given back.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    /// Lets something be left undone from now on.
    pub fn sabotage(&self, what: Sabotage) {
        self.state().sabotage.push(what);
    }

    /// Says what the store does now, for [`SimulatedDisk::activations`].
    pub fn set_activity(&self, activity: &'static str) {
        self.state().activity = activity;
    }

    /// What went wrong so far, and while the store did what.
    pub fn activations(&self) -> Activations {
        self.state().activations.clone()
    }

    /// Whether the power is cut.
    pub fn is_crashed(&self) -> bool {
        self.state().is_crashed
    }

    /// Ends the process that uses the disk: handles and locks are gone, what was
    /// written is seen, and not durable yet. The count of operations begins
    /// anew.
    pub fn kill(&self) {
        let mut state = self.state();
        for file in &mut state.files {
            file.is_locked = false;
        }
        state.begin_run();
    }

    /// Cuts the power, if it is not cut yet, and switches it on again. Handles
    /// and locks from before are gone; the count of operations begins anew.
    pub fn restart(&self, cut: PowerCut) {
        let mut state = self.state();
        let state = &mut *state;
        let mut choices = Choices::new(match cut {
            PowerCut::Some(seed) => seed,
            _ => 0,
        });
        let activations = &mut state.activations;
        let mut count = |effect, activity| *activations.entry((effect, activity)).or_default() += 1;
        for file in &mut state.files {
            file.cut(cut, &mut choices, &mut count);
        }
        state.names.cut(cut, &mut choices, &mut count);
        state.begin_run();
    }

    /// The names of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.seen.keys().cloned().collect()
    }

    /// The bytes of a file as they are seen.
    pub fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let number = state.file_of(path).ok()?;
        state.file(number).ok().map(|file| file.bytes.clone())
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

impl State {
    fn begin_run(&mut self) {
        self.operations = 0;
        self.numbered = None;
        self.planned.clear();
        self.is_crashed = false;
        self.run += 1;
    }

    /// Counts an operation, and tells the fault that it meets.
    fn operation(&mut self, operation: Operation, path: &Path) -> io::Result<Option<Fault>> {
        if self.is_crashed {
            return Err(power_cut());
        }
        let number = self.operations;
        self.operations += 1;
        let file = FileKind::of(path);
        let numbered = self.numbered.filter(|(at, _)| *at == number);
        let due = if self.is_paused {
            None
        } else {
            let mut planned = self.planned.iter_mut();
            planned.position(|one| one.is_due(operation, file))
        };
        let planned = due.map(|place| self.planned.swap_remove(place).fault);
        let fault = numbered.map(|(_, fault)| fault).or(planned);
        self.note(operation as u64 + 1);
        self.note(file as u64);
        if let Some(fault) = fault {
            self.note(fault as u64 + 1);
            self.count(Effect::Fault(fault));
        }
        self.is_crashed = fault == Some(Fault::Crash);
        Ok(fault)
    }

    fn note(&mut self, number: u64) {
        self.trace = Choices::new(self.trace ^ number).next();
    }

    fn count(&mut self, effect: Effect) {
        *self.activations.entry((effect, self.activity)).or_default() += 1;
    }

    /// Counts an operation that happens wholly or not at all.
    fn plain_operation(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        match self.operation(operation, path)? {
            None => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn has(&self, sabotage: Sabotage) -> bool {
        self.sabotage.contains(&sabotage)
    }

    fn file_of(&self, path: &Path) -> io::Result<usize> {
        self.names
            .seen
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
        let activity = self.activity;
        let file = self.file(number)?;
        let before = file.bytes.len() as u64;
        file.change(change, activity);
        let after = file.bytes.len() as u64;
        if let Some(space) = &mut self.space {
            *space = (*space + before).saturating_sub(after);
        }
        Ok(())
    }

    /// Whether a file may grow to some bytes.
    fn has_space_for(&mut self, number: usize, length: usize) -> io::Result<bool> {
        let growth = length.saturating_sub(self.file(number)?.bytes.len()) as u64;
        let is_full = self.space.is_some_and(|space| growth > space);
        if is_full {
            self.count(Effect::Fault(Fault::NoSpace));
        }
        Ok(!is_full)
    }

    fn change_name(&mut self, change: NameChange) {
        self.names.change(change, self.activity);
    }

    /// Gives the space of a file back that is losing its last name.
    fn give_back(&mut self, number: usize) {
        let names = self.names.seen.values().filter(|one| **one == number);
        let bytes = self.files.get(number).map_or(0, |file| file.bytes.len());
        if names.count() == 1
            && let Some(space) = &mut self.space
        {
            *space += bytes as u64;
        }
    }

    fn list(&self, path: &Path) -> Vec<DirEntry> {
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let directories = self
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
        let files = self.names.seen.iter();
        let files = files.filter(|(file, _)| file.parent() == Some(path));
        let files = files.filter_map(|(file, number)| {
            let bytes = self.files.get(*number)?.bytes.len() as u64;
            Some(DirEntry {
                name: name(file)?,
                kind: EntryKind::File,
                bytes,
            })
        });
        let mut entries: Vec<DirEntry> = directories.chain(files).collect();
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        entries
    }
}

impl Disk for SimulatedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation(Operation::CreateDirectory, path)?;
        for directory in path.ancestors() {
            state.directories.insert(directory.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.plain_operation(Operation::List, path)?;
        if !state.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.list(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.plain_operation(Operation::Open, path)?;
        let file = match (state.names.seen.get(path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, OpenMode::Read | OpenMode::Existing) => {
                return Err(io::ErrorKind::NotFound.into());
            }
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
        Ok(Box::new(Handle::new(
            Arc::clone(&self.0),
            file,
            path.to_path_buf(),
            run,
        )))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        let mut state = self.state();
        let fault = state.operation(Operation::Map, path)?;
        let file = state.file_of(path)?;
        let mut bytes = state.file(file)?.bytes.clone();
        state.read_fault(fault, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation(Operation::Rename, to)?;
        let file = state.file_of(from)?;
        if state.has(Sabotage::SkipRename(FileKind::of(to))) {
            return Ok(());
        }
        if let Some(replaced) = state.names.seen.get(to).copied() {
            state.give_back(replaced);
        }
        state.change_name(NameChange::Rename(
            from.to_path_buf(),
            to.to_path_buf(),
            file,
        ));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation(Operation::Link, to)?;
        let number = state.file_of(from)?;
        if state.names.seen.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change_name(NameChange::Link(to.to_path_buf(), number));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation(Operation::Remove, path)?;
        let file = state.file_of(path)?;
        if state.has(Sabotage::SkipRemove(FileKind::of(path))) {
            return Ok(());
        }
        state.give_back(file);
        state.change_name(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.plain_operation(Operation::SyncDirectory, path)?;
        let is_skipped = state.has(Sabotage::LieAboutSyncs)
            || state.has(Sabotage::SkipDirectorySync(FileKind::of(path)));
        if !is_skipped {
            state.names.sync(path);
        }
        Ok(())
    }

    fn random_number(&self) -> u64 {
        self.state().choices.next()
    }
}
