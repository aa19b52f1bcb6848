//! Removes files that no catalog names any more, and remembers those that could
//! not be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, RemainingFile};
use crate::io::Disk;

/// The removal of files, for all parts of a store.
#[derive(Debug)]
pub(crate) struct Removals {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Files that are still there, and why.
    remaining: BTreeMap<PathBuf, String>,
    /// Directories that lost names since they were synced.
    unsynced: BTreeSet<PathBuf>,
}

impl Removals {
    pub(crate) fn new(disk: &Arc<dyn Disk>) -> Self {
        Self {
            disk: Arc::clone(disk),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file. One that cannot be removed is tried again by
    /// [`Removals::finish`].
    pub(crate) fn remove(&self, path: &Path) {
        let removed = self.disk.remove_file(path);
        let mut state = self.state();
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "a file cannot be removed");
                let cause = error.to_string();
                state.remaining.insert(path.to_path_buf(), cause);
            }
            _ => {
                state.remaining.remove(path);
                if let Some(directory) = path.parent() {
                    state.unsynced.insert(directory.to_path_buf());
                }
            }
        }
    }

    /// Keeps a file that was to be removed: another one has its name now.
    pub(crate) fn keep(&self, path: &Path) {
        self.state().remaining.remove(path);
    }

    /// Tries again to remove what is still there, and makes it durable that
    /// the files are gone.
    ///
    /// # Errors
    /// [`Error::FilesRemain`] when a file is still there, [`Error::Io`] when a
    /// directory cannot be synced.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        for file in self.remaining() {
            self.remove(&file.path);
        }
        let unsynced = std::mem::take(&mut self.state().unsynced);
        let mut failure = None;
        for directory in unsynced {
            match self.disk.sync_dir(&directory) {
                // Without the directory its files are gone.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    failure.get_or_insert(Error::io("sync", &directory, error));
                    self.state().unsynced.insert(directory);
                }
                _ => {}
            }
        }
        let files = self.remaining();
        if files.is_empty() {
            failure.map_or(Ok(()), Err)
        } else {
            Err(Error::FilesRemain { files })
        }
    }

    /// The files that are still there.
    pub(crate) fn remaining(&self) -> Vec<RemainingFile> {
        let state = self.state();
        let files = state.remaining.iter();
        files
            .map(|(path, cause)| RemainingFile {
                path: path.clone(),
                cause: cause.clone(),
            })
            .collect()
    }
}
