//! Makes a catalog's file: a new one, or a copy of one. It gets its name when
//! it is complete, as redb does not open what a crash left of a file that it
//! was making.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use redb::{
    Database, Key, ReadTransaction, ReadableTable, Table, TableDefinition, Value, WriteTransaction,
};
use spanstore_format::catalog::encode_segment;
use spanstore_format::version::CATALOG_VERSION;

use super::backend::{CatalogFile, Failure};
use super::guard::{CallError, close, commit, open_database};
use super::sessions::{SESSIONS, STOPPED_SESSIONS, SessionTables, USER_SESSIONS};
use super::{
    COMMITS, CONTENT_SEED, COUNTERS, CURSOR_KEY, Content, ERASED, ERASURES, FIRST_UNSEALED,
    LOG_SETTLED, META, NAME, NEXT_SEGMENT, RECENT_FILE, REMOVED, REPLACED, SEGMENTS, SETTINGS,
    VERSION, published,
};
use crate::error::Error;
use crate::io::{Disk, DiskFile, EntryKind, OpenMode};
use crate::segment;

/// Takes a store's file for this process alone. One that lost its name since it
/// was opened is another process's past: what is at its name now is not locked.
pub(super) fn lock(file: &dyn DiskFile, path: &Path, root: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("lock", path, error);
    if file.try_lock().map_err(failed)? && file.is_at(path).map_err(failed)? {
        return Ok(());
    }
    Err(Error::Locked {
        path: root.display().to_string(),
    })
}

/// Makes a catalog in a directory that has none.
pub(super) fn make(disk: &Arc<dyn Disk>, root: &Path, content: &Content) -> Result<(), Error> {
    let (file, database) = create(disk, root)?;
    // Another process may have made it before this one had its turn.
    let entries = disk
        .list(root)
        .map_err(|error| Error::io("list", root, error))?;
    if entries.iter().any(|entry| entry.name == NAME) {
        return Ok(());
    }
    published::remove(&**disk, root)?;
    let made = commit(&database, |transaction| {
        let numbers = Numbers {
            content_seed: disk.random_number(),
            cursor_key: cursor_key(&**disk),
        };
        write(transaction, content, &numbers)
    });
    close(Some(database));
    made.map_err(|error| failed(&file, root, error))?;
    rename(&**disk, root)?;
    sync(&**disk, root)
}

/// Random numbers of a store.
struct Numbers {
    content_seed: u64,
    cursor_key: [u64; 2],
}

fn cursor_key(disk: &dyn Disk) -> [u64; 2] {
    [disk.random_number(), disk.random_number()]
}

fn set_cursor_key(meta: &mut Table<'_, &'static str, u64>, key: [u64; 2]) -> Result<(), CallError> {
    for (name, number) in CURSOR_KEY.into_iter().zip(key) {
        meta.insert(name, number)?;
    }
    Ok(())
}

/// Writes all tables. What was remembered of recent appends is not known to the new
/// store: it may not have their rows.
fn write(
    transaction: &WriteTransaction,
    content: &Content,
    numbers: &Numbers,
) -> Result<(), CallError> {
    let mut meta = transaction.open_table(META)?;
    for (name, value) in &content.meta {
        meta.insert(name.as_str(), value)?;
    }
    meta.remove(LOG_SETTLED)?;
    meta.remove(RECENT_FILE)?;
    meta.insert(CONTENT_SEED, numbers.content_seed)?;
    set_cursor_key(&mut meta, numbers.cursor_key)?;
    meta.insert(VERSION, u64::from(CATALOG_VERSION))?;
    meta.insert(COMMITS, 1)?;
    meta.insert(FIRST_UNSEALED, content.first_unsealed)?;
    meta.insert(NEXT_SEGMENT, content.next_segment.0)?;
    let mut segments = transaction.open_table(SEGMENTS)?;
    for summary in &content.segments {
        segments.insert(summary.id.0, encode_segment(summary).as_slice())?;
    }
    let mut counters = transaction.open_table(COUNTERS)?;
    let mut removed = transaction.open_table(REMOVED)?;
    for count in &content.counters {
        let key = (count.month.number(), count.team.as_str());
        counters.insert(key, count.rows)?;
        if count.removed > 0 {
            removed.insert(key, count.removed)?;
        }
    }
    let mut settings = transaction.open_table(SETTINGS)?;
    for (team, record) in &content.settings {
        settings.insert(team.as_str(), record.encode_to_vec().as_slice())?;
    }
    let mut erasures = transaction.open_table(ERASURES)?;
    for (number, erasure) in (1..).zip(&content.erasures) {
        erasures.insert(number, erasure.encode().as_slice())?;
    }
    let mut erased = transaction.open_table(ERASED)?;
    for (key, count) in &content.erased {
        erased.insert(key, count)?;
    }
    transaction.open_table(REPLACED)?;
    let mut sessions = SessionTables::open(transaction)?;
    for (team, of_team) in &content.sessions {
        for (id, session) in of_team {
            sessions.insert(team.as_str(), id, session)?;
        }
    }
    Ok(())
}

/// Parts of a store that stand beside a catalog that is missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    pub(super) segments: u64,
    pub(super) logs: u64,
    pub(super) quarantined: u64,
}

impl Remains {
    /// The error of a directory that holds these and no catalog.
    pub(super) fn without_catalog(&self, root: &Path) -> Error {
        if *self == Self::default() {
            return Error::NotFound {
                path: root.display().to_string(),
            };
        }
        Error::CatalogMissing {
            path: root.join(NAME).display().to_string(),
            segments: self.segments,
            logs: self.logs,
            quarantined: self.quarantined,
        }
    }
}

/// Counts what a directory holds of a store.
pub(super) fn remains(disk: &dyn Disk, root: &Path) -> Result<Remains, Error> {
    let mut remains = Remains::default();
    for month in list(disk, &segment::directory(root))? {
        if month.1 == EntryKind::Directory {
            let files = list(disk, &segment::directory(root).join(&month.0))?;
            remains.segments += count(&files, ".parquet");
        }
    }
    remains.logs = count(&list(disk, &root.join("log"))?, ".log");
    remains.quarantined = count(&list(disk, &segment::quarantine(root))?, "");
    Ok(remains)
}

fn list(disk: &dyn Disk, path: &Path) -> Result<Vec<(String, EntryKind)>, Error> {
    match disk.list(path) {
        Ok(entries) => Ok(entries
            .into_iter()
            .map(|one| (one.name, one.kind))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", path, error)),
    }
}

fn count(files: &[(String, EntryKind)], suffix: &str) -> u64 {
    let of_kind = files
        .iter()
        .filter(|(name, kind)| *kind == EntryKind::File && name.ends_with(suffix));
    of_kind.count() as u64
}

/// A new, locked file that is to become a catalog.
fn create(disk: &Arc<dyn Disk>, root: &Path) -> Result<(Arc<CatalogFile>, Database), Error> {
    let path = unfinished(root);
    let create = |error| Error::io("create", &path, error);
    let file = disk
        .open(&path, OpenMode::CreateOrExisting)
        .map_err(create)?;
    lock(&*file, &path, root)?;
    file.set_len(0).map_err(create)?;
    let file = Arc::new(CatalogFile::new(file));
    let opened = open_database(&file);
    let (database, _) = opened.map_err(|error| failed(&file, root, error))?;
    Ok((file, database))
}

/// Why a file that is to become a catalog could not be written.
fn failed(file: &CatalogFile, root: &Path, error: CallError) -> Error {
    let path = unfinished(root);
    match (file.failure(), error) {
        (Some((Failure::NoSpace, _)), _) => Error::NoSpace {
            path: path.display().to_string(),
        },
        (Some((_, cause)), _) => Error::io("write", &path, io::Error::other(cause)),
        (None, CallError::Own(error)) => error,
        (None, error) => Error::io("write", &path, io::Error::other(format!("{error:?}"))),
    }
}

/// Copies all tables into a new file beside, which says that it is at a commit.
pub(super) fn copy(
    read: &ReadTransaction,
    disk: &Arc<dyn Disk>,
    root: &Path,
    number: u64,
) -> Result<(Arc<CatalogFile>, Database), CallError> {
    let (file, database) = create(disk, root)?;
    let copied = commit(&database, |write| {
        copy_table(read, write, META)?;
        copy_table(read, write, SEGMENTS)?;
        copy_table(read, write, COUNTERS)?;
        copy_table(read, write, SETTINGS)?;
        copy_table(read, write, ERASURES)?;
        copy_table(read, write, REMOVED)?;
        copy_table(read, write, ERASED)?;
        copy_table(read, write, REPLACED)?;
        copy_table(read, write, SESSIONS)?;
        copy_table(read, write, USER_SESSIONS)?;
        copy_table(read, write, STOPPED_SESSIONS)?;
        write.open_table(META)?.insert(COMMITS, number)?;
        Ok(())
    });
    match copied {
        Ok(()) => Ok((file, database)),
        Err(error) => {
            close(Some(database));
            // What failed was the copy or what is copied.
            Err(match file.failure() {
                Some(_) => CallError::Own(failed(&file, root, error)),
                None => error,
            })
        }
    }
}

/// Copies all tables into a new file beside, for a store that begins a log of
/// its own, and closes it. Its sequences go on apart from the other's, so that cursors of the
/// other would name other spans in it: it gets a key of its own.
pub(super) fn copy_closed(
    read: &ReadTransaction,
    disk: &Arc<dyn Disk>,
    root: &Path,
) -> Result<(), CallError> {
    let (file, database) = copy(read, disk, root, 1)?;
    let changed = commit(&database, |write| {
        let mut meta = write.open_table(META)?;
        meta.remove(LOG_SETTLED)?;
        set_cursor_key(&mut meta, cursor_key(&**disk))?;
        write.open_table(REPLACED)?.retain(|_, ()| false)?;
        Ok(())
    });
    close(Some(database));
    changed.map_err(|error| CallError::Own(failed(&file, root, error)))
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), CallError> {
    let mut to = write.open_table(table)?;
    for entry in read.open_table(table)?.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

fn unfinished(root: &Path) -> PathBuf {
    root.join("catalog.redb.unfinished")
}

/// Gives a complete catalog its name.
pub(super) fn rename(disk: &dyn Disk, root: &Path) -> Result<(), Error> {
    let path = root.join(NAME);
    disk.rename(&unfinished(root), &path)
        .map_err(|error| Error::io("rename", &path, error))
}

/// Makes the name durable.
pub(super) fn sync(disk: &dyn Disk, root: &Path) -> Result<(), Error> {
    disk.sync_dir(root)
        .map_err(|error| Error::io("sync", root, error))
}
