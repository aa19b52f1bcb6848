//! A disk that lets a test do something at a certain moment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use spanstore::io::{DirEntry, Disk, DiskFile, OpenMode, RealDisk};

type Action = Box<dyn FnOnce() + Send>;

/// When an action is to be run.
enum Moment {
    /// This many new files or links later, before another one is made.
    NewFile(usize),
    /// When a file of this name was looked for, whether it is there or not.
    Opened(&'static str),
    /// Before a file of this name is synced.
    Sync(&'static str),
    /// Before a directory of this name is listed.
    List(&'static str),
    /// Before a file is mapped.
    Map,
}

/// The file system; runs an action once, at a certain moment, and keeps files
/// from being removed. Clones share it.
#[derive(Clone, Default)]
pub struct InterruptedDisk {
    disk: RealDisk,
    planned: Arc<Mutex<Option<(Moment, Action)>>>,
    kept: Arc<Mutex<Option<&'static str>>>,
}

impl InterruptedDisk {
    /// Runs `action` when `files` more files were made and another one is
    /// about to be.
    pub fn after_new_files(&self, files: usize, action: impl FnOnce() + Send + 'static) {
        *self.planned() = Some((Moment::NewFile(files), Box::new(action)));
    }

    /// Runs `action` when a file of this name was just opened or found missing.
    pub fn after_open(&self, name: &'static str, action: impl FnOnce() + Send + 'static) {
        *self.planned() = Some((Moment::Opened(name), Box::new(action)));
    }

    /// Runs `action` when a file of this name is about to be synced.
    pub fn before_sync(&self, name: &'static str, action: impl FnOnce() + Send + 'static) {
        *self.planned() = Some((Moment::Sync(name), Box::new(action)));
    }

    /// Runs `action` when a directory of this name is about to be listed.
    pub fn before_list(&self, name: &'static str, action: impl FnOnce() + Send + 'static) {
        *self.planned() = Some((Moment::List(name), Box::new(action)));
    }

    /// Runs `action` when a file is about to be mapped.
    pub fn before_map(&self, action: impl FnOnce() + Send + 'static) {
        *self.planned() = Some((Moment::Map, Box::new(action)));
    }

    /// Fails to remove files whose names end like this, from now on; none for
    /// all can be removed.
    pub fn keep_files(&self, ending: Option<&'static str>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = ending;
    }

    /// Whether an action waits for its moment.
    pub fn is_planned(&self) -> bool {
        self.planned().is_some()
    }

    fn planned(&self) -> MutexGuard<'_, Option<(Moment, Action)>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the action if `is_due` says so.
    fn run(&self, is_due: impl FnOnce(&mut Moment) -> bool) {
        let action = self.planned().take_if(|(moment, _)| is_due(moment));
        if let Some((_, action)) = action {
            action();
        }
    }

    /// A file is about to be made.
    fn make(&self) {
        self.run(|moment| match moment {
            Moment::NewFile(0) => true,
            Moment::NewFile(files) => {
                *files -= 1;
                false
            }
            Moment::Opened(_) | Moment::Sync(_) | Moment::List(_) | Moment::Map => false,
        });
    }
}

impl fmt::Debug for InterruptedDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("InterruptedDisk")
    }
}

impl Disk for InterruptedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.run(|moment| matches!(moment, Moment::List(name) if path.ends_with(*name)));
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            self.make();
        }
        let file = self.disk.open(path, mode);
        self.run(|moment| matches!(moment, Moment::Opened(name) if path.ends_with(*name)));
        Ok(Box::new(InterruptedFile {
            file: file?,
            path: path.to_path_buf(),
            disk: self.clone(),
        }))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.run(|moment| matches!(moment, Moment::Map));
        self.disk.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.make();
        self.disk.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_some_and(|ending| path.to_string_lossy().ends_with(ending)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

/// A file of such a disk.
#[derive(Debug)]
struct InterruptedFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    disk: InterruptedDisk,
}

impl DiskFile for InterruptedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk
            .run(|moment| matches!(moment, Moment::Sync(name) if self.path.ends_with(*name)));
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }
}
