//! A disk that lets a test do something at a certain moment.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use spanstore::io::{DirEntry, Disk, DiskFile, OpenMode, RealDisk};

type Action = Box<dyn FnOnce() + Send>;

/// The file system; runs an action once, before it makes a new file or a link.
#[derive(Default)]
pub struct InterruptedDisk {
    disk: RealDisk,
    /// New files that come before the one, and the action.
    planned: Mutex<Option<(usize, Action)>>,
}

impl InterruptedDisk {
    /// Runs `action` when `files` more files were made and another one is
    /// about to be.
    pub fn after_new_files(&self, files: usize, action: impl FnOnce() + Send + 'static) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        *planned = Some((files, Box::new(action)));
    }

    /// Whether an action waits for its moment.
    pub fn is_planned(&self) -> bool {
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.is_some()
    }

    /// A file is about to be made.
    fn make(&self) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match planned.take() {
            Some((0, action)) => {
                drop(planned);
                action();
            }
            Some((files, action)) => *planned = Some((files - 1, action)),
            None => {}
        }
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
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            self.make();
        }
        self.disk.open(path, mode)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
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
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}
