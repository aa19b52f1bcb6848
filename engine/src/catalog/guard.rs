//! The one place where redb is called. What it panics at or fails with becomes
//! a typed error, and a failed commit is looked up in the file.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use super::backend::{Backend, CatalogFile, Failure};
use super::{COMMITS, META, published};
use crate::error::Error;
use crate::io::{Disk, DiskFile};
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

/// Pages of the catalog that redb keeps in memory, in bytes. Tests keep few, so
/// that reads reach the file.
const CACHE_BYTES: usize = if cfg!(test) { 32 << 10 } else { 8 << 20 };

/// Why a call into redb gave no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// redb says so.
    Redb(redb::Error),
    /// redb panicked.
    Panic(String),
    /// What was read or is to be written is not right; redb is.
    Own(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for CallError {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}

from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// Runs a call into redb.
fn caught<T>(call: impl FnOnce() -> Result<T, CallError>) -> Result<T, CallError> {
    // Whoever sees the panic's error lets go of the database.
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(CallError::Panic(text(&*panic))))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic".to_owned())
}

/// Opens or makes the database in a file. Answers whether redb verified all of it.
pub(super) fn open_database(file: &Arc<CatalogFile>) -> Result<(Database, bool), CallError> {
    let backend = Backend(Arc::clone(file));
    let is_verified = Arc::new(AtomicBool::new(false));
    let verifies = Arc::clone(&is_verified);
    let database = caught(move || {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        // It repairs by reading every page and its checksum.
        builder.set_repair_callback(move |_| verifies.store(true, Ordering::Relaxed));
        Ok(builder.create_with_backend(backend)?)
    })?;
    Ok((database, is_verified.load(Ordering::Relaxed)))
}

/// Lets go of a database: it may write, and panic, even then.
pub(super) fn close(database: Option<Database>) {
    drop(caught(move || {
        drop(database);
        Ok(())
    }));
}

/// Runs a transaction whose commit has two phases, so that redb never has to
/// tell by a checksum whether a commit is whole.
pub(super) fn commit<T>(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<T, CallError>,
) -> Result<T, CallError> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// The number of the last commit.
fn number_of(database: &Database) -> Result<u64, CallError> {
    let meta = database.begin_read()?.open_table(META)?;
    // One of a version from before they were counted is refused by its version.
    Ok(meta.get(COMMITS)?.map_or(0, |number| number.value()))
}

/// The open database of a catalog.
#[derive(Debug)]
pub(super) struct Guard {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    path: PathBuf,
    /// Written while the database is opened again, or replaced by another.
    state: RwLock<State>,
    /// Held by the commit at work.
    turn: Mutex<()>,
    commits: AtomicU64,
    /// Why nothing is read or committed any more.
    refusal: OnceLock<Error>,
}

#[derive(Debug)]
struct State {
    /// It keeps the lock while the database is opened again.
    file: Arc<CatalogFile>,
    database: Option<Database>,
}

impl Guard {
    /// Opens the database in a locked file.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        root: &Path,
        path: PathBuf,
        file: Box<dyn DiskFile>,
    ) -> Result<Self, Error> {
        // redb would make a new database in an empty file.
        let length = file.len();
        if length.map_err(|error| Error::io("read", &path, error))? == 0 {
            return Err(Error::CatalogDamaged {
                path: path.display().to_string(),
                cause: "it is empty".into(),
            });
        }
        let file = Arc::new(CatalogFile::new(file));
        let published = published::read(&**disk, root)?;
        let is_same = match &published {
            Some(sums) => file.adopt(sums),
            None => Ok(false),
        };
        let is_same = is_same.map_err(|error| Error::io("read", &path, error))?;
        if !is_same {
            file.settle()
                .map_err(|error| Error::io("write", &path, error))?;
        }
        let mut guard = Self {
            disk: Arc::clone(disk),
            root: root.to_path_buf(),
            path,
            state: RwLock::new(State {
                file: Arc::clone(&file),
                database: None,
            }),
            turn: Mutex::default(),
            commits: AtomicU64::new(0),
            refusal: OnceLock::new(),
        };
        let opened = open_database(&file).and_then(|(mut database, is_verified)| {
            // A file that is as it was published is compared block by block when it is read.
            if !is_same && !is_verified {
                database = caught(move || {
                    database.check_integrity()?;
                    Ok(database)
                })?;
            }
            let number = caught(|| number_of(&database))?;
            Ok((database, number))
        });
        let (database, number) = opened.map_err(|error| guard.opening_failed(&file, error))?;
        if let Some(published) = published.filter(|published| published.commit > number) {
            close(Some(database));
            let found = format!(
                "its last commit is {number}, the store's was {}",
                published.commit
            );
            return Err(Error::CatalogOlder {
                path: guard.path.display().to_string(),
                found,
            });
        }
        guard.commits = AtomicU64::new(number);
        guard.write_state().database = Some(database);
        Ok(guard)
    }

    fn opening_failed(&self, file: &CatalogFile, error: CallError) -> Error {
        match file.failure() {
            Some((Failure::Read | Failure::Write | Failure::NoSpace, cause)) => {
                Error::io("open", &self.path, io::Error::other(cause))
            }
            _ => self.damaged(file, error),
        }
    }

    /// The catalog's file, for messages.
    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// The number of the last commit.
    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn write_state(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_refusal(&self) -> Result<(), Error> {
        self.refusal
            .get()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Refuses everything from now on.
    fn refuse(&self, error: Error) -> Error {
        tracing::error!(%error, "the catalog is not used any more");
        drop(self.refusal.set(error.clone()));
        error
    }

    /// The error of a damaged catalog.
    fn damaged(&self, file: &CatalogFile, error: CallError) -> Error {
        let cause = match (file.failure(), error) {
            // What a caller made of it says less than what the file says.
            (Some((Failure::Damage, cause)), _) => cause,
            (_, CallError::Redb(error)) => error.to_string(),
            (_, CallError::Panic(panic)) => format!("it cannot be read: {panic}"),
            (_, CallError::Own(error)) => match error {
                Error::Corrupt { source, .. } => source.to_string(),
                other => return other,
            },
        };
        Error::CatalogDamaged {
            path: self.path(),
            cause,
        }
    }

    /// The open database, if no operation on its file failed.
    fn open_state(&self) -> Result<Option<RwLockReadGuard<'_, State>>, Error> {
        self.check_refusal()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let is_ready = state.database.is_some() && state.file.failure().is_none();
        Ok(is_ready.then_some(state))
    }

    /// The open database; opens it again where an operation on its file failed.
    /// No commit is at work meanwhile.
    fn ready(&self, _turn: &MutexGuard<'_, ()>) -> Result<RwLockReadGuard<'_, State>, Error> {
        if let Some(state) = self.open_state()? {
            return Ok(state);
        }
        let number = self.reopen()?;
        let expected = self.commits.load(Ordering::Relaxed);
        if number != expected {
            let cause = format!("its last commit is {number}, expected {expected}");
            return Err(self.refuse(Error::CatalogDamaged {
                path: self.path(),
                cause,
            }));
        }
        Ok(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the database again, from what its file says, and makes that
    /// durable. Answers the number of its last commit.
    fn reopen(&self) -> Result<u64, Error> {
        let mut state = self.write_state();
        close(state.database.take());
        let file = Arc::clone(&state.file);
        file.forget_failure();
        let opened = open_database(&file).and_then(|(database, _)| {
            let number = caught(|| number_of(&database))?;
            state.database = Some(database);
            Ok(number)
        });
        let number = opened.map_err(|error| match file.failure() {
            Some((Failure::Read | Failure::NoSpace | Failure::Write, cause)) => {
                Error::io("open", &self.path, io::Error::other(cause))
            }
            _ => self.refuse(self.damaged(&file, error)),
        })?;
        file.sync()
            .map_err(|error| Error::io("sync", &self.path, error))?;
        Ok(number)
    }

    /// Reads in one transaction.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, CallError>,
    ) -> Result<T, Error> {
        let state = match self.open_state()? {
            Some(state) => state,
            None => self.ready(&self.turn())?,
        };
        self.read_in(&state, read)
    }

    fn read_in<T>(
        &self,
        state: &State,
        read: impl FnOnce(&ReadTransaction) -> Result<T, CallError>,
    ) -> Result<T, Error> {
        let Some(database) = &state.database else {
            return Err(Error::Closed);
        };
        let found = caught(|| read(&database.begin_read()?));
        found.map_err(|error| self.read_failed(&state.file, error))
    }

    /// What a read that failed means.
    fn read_failed(&self, file: &CatalogFile, error: CallError) -> Error {
        match (file.failure(), error) {
            // Nothing has changed: the next call opens the file again.
            (Some((Failure::Read | Failure::NoSpace, cause)), _) => {
                Error::io("read", &self.path, io::Error::other(cause))
            }
            (Some((Failure::Write, cause)), _) => self.refuse(Error::Poisoned { cause }),
            (None, CallError::Own(error)) if !matches!(error, Error::Corrupt { .. }) => error,
            (_, error) => self.refuse(self.damaged(file, error)),
        }
    }

    /// Changes something, durably, all or nothing.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and [`Error::Io`]: nothing has changed.
    /// [`Error::CatalogDamaged`], and [`Error::Poisoned`] when it is not known
    /// what is on disk: from now on nothing is read or changed.
    pub(super) fn commit<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, CallError>,
    ) -> Result<T, Error> {
        let turn = self.turn();
        let state = self.ready(&turn)?;
        let Some(database) = &state.database else {
            return Err(Error::Closed);
        };
        let number = self.commits.load(Ordering::Relaxed) + 1;
        let mut value = None;
        let committed = caught(|| {
            commit(database, |transaction| {
                value = Some(change(transaction)?);
                transaction.open_table(META)?.insert(COMMITS, number)?;
                Ok(())
            })
        });
        let file = Arc::clone(&state.file);
        drop(state);
        let settled = match committed {
            Ok(()) => Ok(()),
            Err(error) => self.settle(&file, number, error),
        };
        settled?;
        self.commits.store(number, Ordering::Relaxed);
        published::publish(&*self.disk, &self.root, &file, number, false);
        value.ok_or(Error::Closed)
    }

    /// What became of a commit that failed: nothing, or it is in the file all
    /// the same.
    fn settle(&self, file: &CatalogFile, number: u64, error: CallError) -> Result<(), Error> {
        let (failure, cause) = match (file.failure(), error) {
            (None, CallError::Own(error)) if !matches!(error, Error::Corrupt { .. }) => {
                return Err(error);
            }
            (None | Some((Failure::Damage, _)), error) => {
                return Err(self.refuse(self.damaged(file, error)));
            }
            (Some(failure), _) => failure,
        };
        let unsure = |cause: String| {
            let cause = format!("{}: {cause}", self.path.display());
            self.refuse(Error::Poisoned { cause })
        };
        if failure == Failure::Write {
            return Err(unsure(cause));
        }
        // Reads and writes without space leave a file that tells.
        let found = match self.reopen() {
            Ok(found) => found,
            Err(damaged @ Error::CatalogDamaged { .. }) => return Err(damaged),
            Err(again) => return Err(unsure(format!("{cause}; then {again}"))),
        };
        if found == number {
            return Ok(());
        }
        if found + 1 != number {
            return Err(unsure(format!("{cause}; its last commit is {found}")));
        }
        Err(match failure {
            Failure::NoSpace => Error::NoSpace { path: self.path() },
            _ => Error::io("commit to", &self.path, io::Error::other(cause)),
        })
    }

    /// Puts another database, in a file of its own, in the place of this one;
    /// `rename` gives its file the catalog's name. Its content is a copy that
    /// `copy` makes with the number of the next commit.
    pub(super) fn replace(
        &self,
        copy: impl FnOnce(&ReadTransaction, u64) -> Result<(Arc<CatalogFile>, Database), CallError>,
        rename: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let turn = self.turn();
        let number = self.commits.load(Ordering::Relaxed) + 1;
        let copied = self.read_in(&*self.ready(&turn)?, |read| copy(read, number));
        let (file, database) = copied?;
        let mut state = self.write_state();
        if let Err(error) = rename() {
            drop(state);
            close(Some(database));
            return Err(error);
        }
        let old = state.database.replace(database);
        state.file = Arc::clone(&file);
        self.commits.store(number, Ordering::Relaxed);
        drop(state);
        close(old);
        published::publish(&*self.disk, &self.root, &file, number, false);
        Ok(())
    }

    /// Reads all that the file says, from the medium, and compares every checksum:
    /// ours of each block and redb's of each page. Answers the bytes of the file.
    pub(super) fn verify(&self) -> Result<u64, Error> {
        let turn = self.turn();
        drop(self.ready(&turn)?);
        // Nobody reads or writes meanwhile.
        let mut state = self.write_state();
        let file = Arc::clone(&state.file);
        let Some(mut database) = state.database.take() else {
            return Err(Error::Closed);
        };
        let verified = caught(move || {
            database.check_integrity()?;
            Ok(database)
        });
        match verified {
            Ok(database) => state.database = Some(database),
            Err(error) => return Err(self.read_failed(&file, error)),
        }
        let bytes = file.len();
        let bytes = bytes.map_err(|error| Error::io("read", &self.path, error))?;
        // It may have counted pages anew that a crash had left.
        let number = self.commits.load(Ordering::Relaxed);
        published::publish(&*self.disk, &self.root, &file, number, false);
        Ok(bytes)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let was_open = state.database.is_some();
        close(state.database.take());
        // Closing changes the file once more.
        if was_open && self.refusal.get().is_none() && state.file.failure().is_none() {
            let number = self.commits.load(Ordering::Relaxed);
            published::publish(&*self.disk, &self.root, &state.file, number, true);
        }
    }
}
