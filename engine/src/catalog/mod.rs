//! The store's transactional metadata, in `catalog.redb`, and the lock that
//! makes it one process's own.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `version`, `first_unsealed` (sequence), `next_segment`, `retention`, `retention_clock`, `log_settled` |
//! | `segments` | segment id | `format::catalog` segment record |
//! | `counters` | month, team | spans accepted that are sealed |
//! | `settings` | team | `format::catalog::TeamSettings` |
//! | `erasures` | number | `format::catalog::Erasure` |
//! | `removed` | month, team | spans of `counters` that are gone from the segments |
//! | `erased` | month, hash of a team | `counters` of a team that was erased |

mod backend;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use prost::Message;
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, Value,
    WriteTransaction,
};
use spanstore_format::catalog::{Erased, Erasure, TeamSettings, decode_segment, encode_segment};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::version::CATALOG_VERSION;
use spanstore_format::{FormatError, Month, SegmentId, TeamId};
use twox_hash::XxHash3_128;

use crate::error::Error;
use crate::io::{Disk, DiskFile, OpenMode};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("segments");
const COUNTERS: TableDefinition<'_, (u16, &str), u64> = TableDefinition::new("counters");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");

const ERASURES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("erasures");

const REMOVED: TableDefinition<'_, (u16, &str), u64> = TableDefinition::new("removed");
const ERASED: TableDefinition<'_, (u16, u128), u64> = TableDefinition::new("erased");

const VERSION: &str = "version";
const FIRST_UNSEALED: &str = "first_unsealed";
const NEXT_SEGMENT: &str = "next_segment";
const RETENTION: &str = "retention";
const RETENTION_CLOCK: &str = "retention_clock";
const LOG_SETTLED: &str = "log_settled";

/// The catalog's file.
const NAME: &str = "catalog.redb";
/// Pages of the catalog that redb keeps in memory, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// The open catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// Written while the file is replaced by another.
    database: RwLock<Database>,
    path: PathBuf,
}

/// Sealed spans of a partition.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) month: Month,
    pub(crate) team: String,
    pub(crate) rows: u64,
    /// How many of them are gone from the segments.
    pub(crate) removed: u64,
}

/// What a rewrite changes, in one transaction.
#[derive(Debug)]
pub(crate) struct RewriteCommit<'a> {
    /// The segments that are replaced.
    pub(crate) old: &'a [SegmentId],
    /// Those in their place.
    pub(crate) new: &'a [SegmentSummary],
    /// Rows that are gone, of each partition.
    pub(crate) removed: &'a HashMap<(Month, TeamId), u64>,
}

/// What a seal changes, in one transaction.
#[derive(Debug)]
pub(crate) struct SealCommit<'a> {
    /// The new segments.
    pub(crate) segments: &'a [SegmentSummary],
    /// Rows that each partition gains.
    pub(crate) rows: &'a HashMap<(Month, TeamId), u64>,
    /// The first sequence that is not sealed.
    pub(crate) first_unsealed: u64,
    /// The time that retention removes by, ns since 1970; none to leave it.
    pub(crate) retention_clock: Option<i64>,
}

impl Catalog {
    /// Opens the catalog of the store at `root`, or makes it.
    pub(crate) fn open(disk: &Arc<dyn Disk>, root: &Path, create: bool) -> Result<Self, Error> {
        let path = root.join(NAME);
        let file = match disk.open(&path, OpenMode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                make(disk, root)?;
                disk.open(&path, OpenMode::Existing)
            }
            opened => opened,
        };
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound {
                path: root.display().to_string(),
            },
            _ => Error::io("open", &path, error),
        })?;
        lock(&*file, &path, root)?;
        let catalog = Self {
            database: RwLock::new(database(file)?),
            path,
        };
        catalog.check_version()?;
        Ok(catalog)
    }

    fn check_version(&self) -> Result<(), Error> {
        let version = self.meta(VERSION)?;
        if version > u64::from(CATALOG_VERSION) {
            return Err(self.corrupt(FormatError::NewerVersion {
                part: "catalog",
                found: u16::try_from(version).unwrap_or(u16::MAX),
                supported: CATALOG_VERSION,
            }));
        }
        if version < u64::from(CATALOG_VERSION) {
            let expected = format!("a catalog of version {CATALOG_VERSION}");
            let found = format!("version {version}, from before the first release");
            return Err(self.corrupt(FormatError::malformed("catalog", 0, expected, found)));
        }
        Ok(())
    }

    fn corrupt(&self, source: FormatError) -> Error {
        Error::corrupt(self.path.display().to_string(), source)
    }

    /// To be held until a transaction ends: what is committed to a file that is
    /// being replaced is lost.
    fn database(&self) -> RwLockReadGuard<'_, Database> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn meta(&self, name: &str) -> Result<u64, Error> {
        let database = self.database();
        let meta = database.begin_read()?.open_table(META)?;
        let value = meta.get(name)?.map(|value| value.value());
        value.ok_or_else(|| self.corrupt(FormatError::malformed("catalog", 0, name, "nothing")))
    }

    /// The first sequence of the log that is not sealed.
    pub(crate) fn first_unsealed(&self) -> Result<u64, Error> {
        self.meta(FIRST_UNSEALED)
    }

    /// The log reached at least this sequence, durably: a log that ends below it
    /// has lost records.
    pub(crate) fn log_settled(&self) -> Result<u64, Error> {
        let database = self.database();
        let meta = database.begin_read()?.open_table(META)?;
        let settled = meta.get(LOG_SETTLED)?.map_or(0, |value| value.value());
        Ok(settled.max(self.first_unsealed()?))
    }

    /// Notes durably that the log reached a sequence. Never lowers the note.
    pub(crate) fn settle_log(&self, sequence: u64) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let before = meta.get(LOG_SETTLED)?.map_or(0, |value| value.value());
            meta.insert(LOG_SETTLED, before.max(sequence))?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The id that the next segment gets. Ids of segments that were begun and
    /// not committed are given out again.
    pub(crate) fn next_segment(&self) -> Result<SegmentId, Error> {
        self.meta(NEXT_SEGMENT).map(SegmentId)
    }

    /// All segments, by id.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentSummary>, Error> {
        self.segments_in(&self.database().begin_read()?)
    }

    fn segments_in(&self, read: &ReadTransaction) -> Result<Vec<SegmentSummary>, Error> {
        let mut segments = Vec::new();
        for entry in read.open_table(SEGMENTS)?.iter()? {
            let (id, record) = entry?;
            let summary = decode_segment(SegmentId(id.value()), record.value());
            segments.push(summary.map_err(|error| self.corrupt(error))?);
        }
        Ok(segments)
    }

    /// All segments and all counters, as they are at one time.
    pub(crate) fn segments_and_counts(&self) -> Result<(Vec<SegmentSummary>, Vec<Count>), Error> {
        let database = self.database();
        let read = database.begin_read()?;
        let mut counts = Vec::new();
        let removed = read.open_table(REMOVED)?;
        for entry in read.open_table(COUNTERS)?.iter()? {
            let (key, count) = entry?;
            let (month, team) = key.value();
            let month = Month::from_number(month).ok_or_else(|| {
                let found = month.to_string();
                self.corrupt(FormatError::malformed("catalog", 0, "a month", found))
            })?;
            let gone = removed.get((month.number(), team))?;
            counts.push(Count {
                month,
                team: team.to_owned(),
                rows: count.value(),
                removed: gone.map_or(0, |gone| gone.value()),
            });
        }
        Ok((self.segments_in(&read)?, counts))
    }

    /// Sealed spans that count towards a partition's quota.
    pub(crate) fn sealed_count(&self, month: Month, team: &TeamId) -> Result<u64, Error> {
        let database = self.database();
        let read = database.begin_read()?;
        let counters = read.open_table(COUNTERS)?;
        let count = counters.get((month.number(), team.as_str()))?;
        let count = count.map_or(0, |count| count.value());
        // Rows that were erased with their team still count.
        let erased = read.open_table(ERASED)?;
        let erased = erased.get((month.number(), team_hash(team)))?;
        Ok(count + erased.map_or(0, |count| count.value()))
    }

    /// What is set for each team that has something set.
    pub(crate) fn settings(&self) -> Result<HashMap<TeamId, TeamSettings>, Error> {
        let database = self.database();
        let table = database.begin_read()?.open_table(SETTINGS)?;
        let mut settings = HashMap::new();
        for entry in table.iter()? {
            let (team, record) = entry?;
            let record = TeamSettings::read(team.value(), record.value());
            settings.insert(
                TeamId::new(team.value())?,
                record.map_err(|error| self.corrupt(error))?,
            );
        }
        Ok(settings)
    }

    /// Sets what is set for a team, durably.
    pub(crate) fn set_settings(&self, team: &TeamId, settings: &TeamSettings) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        transaction
            .open_table(SETTINGS)?
            .insert(team.as_str(), settings.encode_to_vec().as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// How long spans are kept where a team has nothing set, ns.
    pub(crate) fn retention(&self) -> Result<Option<u64>, Error> {
        let database = self.database();
        let meta = database.begin_read()?.open_table(META)?;
        Ok(meta.get(RETENTION)?.map(|value| value.value()))
    }

    /// Sets how long spans are kept where a team has nothing set, durably.
    pub(crate) fn set_retention(&self, nanos: Option<u64>) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            match nanos {
                Some(nanos) => drop(meta.insert(RETENTION, nanos)?),
                None => drop(meta.remove(RETENTION)?),
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The time that retention removes by, ns since 1970, as it was last kept;
    /// none in a new store.
    pub(crate) fn retention_clock(&self) -> Result<Option<i64>, Error> {
        let database = self.database();
        let meta = database.begin_read()?.open_table(META)?;
        let time = meta.get(RETENTION_CLOCK)?;
        Ok(time.map(|time| time.value().cast_signed()))
    }

    /// Keeps the time that retention removes by, durably.
    pub(crate) fn set_retention_clock(&self, time: i64) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        transaction
            .open_table(META)?
            .insert(RETENTION_CLOCK, time.cast_unsigned())?;
        transaction.commit()?;
        Ok(())
    }

    /// What is to be erased.
    pub(crate) fn erasures(&self) -> Result<Vec<Erasure>, Error> {
        let database = self.database();
        let table = database.begin_read()?.open_table(ERASURES)?;
        let mut erasures = Vec::new();
        for entry in table.iter()? {
            let (number, record) = entry?;
            let erasure = Erasure::decode(number.value(), record.value());
            erasures.push(erasure.map_err(|error| self.corrupt(error))?);
        }
        Ok(erasures)
    }

    /// Adds what is to be erased, durably and all at once. With a team goes what
    /// is set for it.
    pub(crate) fn add_erasures(&self, new: &[Erasure]) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        {
            let mut erasures = transaction.open_table(ERASURES)?;
            let mut settings = transaction.open_table(SETTINGS)?;
            let mut meta = transaction.open_table(META)?;
            let last = erasures.last()?.map_or(0, |(number, _)| number.value());
            let mut next = meta.get(NEXT_SEGMENT)?.map_or(1, |next| next.value());
            for (erasure, number) in new.iter().zip(last + 1..) {
                erasures.insert(number, erasure.encode().as_slice())?;
                // Ids below are not given out again, also those that came to nothing:
                // rows that come later must not be taken for those that are meant.
                next = next.max(erasure.before.0);
                if erasure.what == Erased::Team {
                    settings.remove(erasure.team.as_str())?;
                }
            }
            meta.insert(NEXT_SEGMENT, next)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Removes what was to be erased and is, and the names of teams of which all
    /// was. What they have accepted still counts, under the hash of their names.
    pub(crate) fn finish_erasures(
        &self,
        done: &HashSet<Erasure>,
        teams: &HashSet<TeamId>,
    ) -> Result<(), Error> {
        let done: HashSet<Vec<u8>> = done.iter().map(Erasure::encode).collect();
        let database = self.database();
        let transaction = database.begin_write()?;
        {
            let mut erasures = transaction.open_table(ERASURES)?;
            erasures.retain(|_, record| !done.contains(record))?;
            let mut counters = transaction.open_table(COUNTERS)?;
            let mut removed = transaction.open_table(REMOVED)?;
            let mut erased = transaction.open_table(ERASED)?;
            for team in teams {
                let months: Vec<(u16, u64)> = counters
                    .iter()?
                    .filter_map(|entry| {
                        let (key, count) = entry.ok()?;
                        let (month, found) = key.value();
                        (found == team.as_str()).then(|| (month, count.value()))
                    })
                    .collect();
                for (month, count) in months {
                    let gone = removed.get((month, team.as_str()))?;
                    let gone = gone.map_or(0, |gone| gone.value());
                    // Rows that came after the team was forgotten keep theirs.
                    let key = (month, team_hash(team));
                    let before = erased.get(key)?.map_or(0, |count| count.value());
                    erased.insert(key, before + gone)?;
                    removed.remove((month, team.as_str()))?;
                    if gone < count {
                        counters.insert((month, team.as_str()), count - gone)?;
                    } else {
                        counters.remove((month, team.as_str()))?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Makes a rewrite true: segments change places, all or none.
    pub(crate) fn commit_rewrite(&self, commit: &RewriteCommit<'_>) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        {
            let mut segments = transaction.open_table(SEGMENTS)?;
            let mut meta = transaction.open_table(META)?;
            let mut removed = transaction.open_table(REMOVED)?;
            for id in commit.old {
                segments.remove(id.0)?;
            }
            for summary in commit.new {
                segments.insert(summary.id.0, encode_segment(summary).as_slice())?;
            }
            raise_next_segment(&mut meta, commit.new)?;
            for ((month, team), rows) in commit.removed {
                let key = (month.number(), team.as_str());
                let before = removed.get(key)?.map_or(0, |count| count.value());
                removed.insert(key, before + rows)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Writes the catalog anew: bytes of what it no longer says, which redb
    /// leaves in free pages, are gone from the file. Calls `unsure` when it is
    /// not known which file a power cut leaves.
    pub(crate) fn rewrite(
        &self,
        disk: &Arc<dyn Disk>,
        root: &Path,
        unsure: impl FnOnce(&Error),
    ) -> Result<(), Error> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let copy = copy(&database, disk, root)?;
        rename(disk, root)?;
        *database = copy;
        sync(disk, root).inspect_err(unsure)
    }

    /// Writes a copy of the catalog, as it is now, into another directory; calls
    /// `before` with the segments that it names before the copy gets its name.
    pub(crate) fn copy_to(
        &self,
        disk: &Arc<dyn Disk>,
        root: &Path,
        before: impl FnOnce(&[SegmentSummary]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let copy = copy(&self.database(), disk, root)?;
        before(&self.segments_in(&copy.begin_read()?)?)?;
        // The copy begins a log of its own.
        let transaction = copy.begin_write()?;
        transaction.open_table(META)?.remove(LOG_SETTLED)?;
        transaction.commit()?;
        drop(copy);
        rename(disk, root)?;
        sync(disk, root)
    }

    /// Makes a seal true: segments, counters and the place in the log change
    /// together or not at all.
    pub(crate) fn commit_seal(&self, commit: &SealCommit<'_>) -> Result<(), Error> {
        let database = self.database();
        let transaction = database.begin_write()?;
        {
            let mut segments = transaction.open_table(SEGMENTS)?;
            let mut meta = transaction.open_table(META)?;
            for summary in commit.segments {
                segments.insert(summary.id.0, encode_segment(summary).as_slice())?;
            }
            raise_next_segment(&mut meta, commit.segments)?;
            meta.insert(FIRST_UNSEALED, commit.first_unsealed)?;
            if let Some(time) = commit.retention_clock {
                meta.insert(RETENTION_CLOCK, time.cast_unsigned())?;
            }
            let mut counters = transaction.open_table(COUNTERS)?;
            for ((month, team), rows) in commit.rows {
                let key = (month.number(), team.as_str());
                let before = counters.get(key)?.map_or(0, |count| count.value());
                counters.insert(key, before + rows)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn database(file: Box<dyn DiskFile>) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    Ok(builder.create_with_backend(backend::Backend::new(file))?)
}

/// Takes a store's file for this process alone. One that lost its name since it
/// was opened is another process's past: what is at its name now is not locked.
fn lock(file: &dyn DiskFile, path: &Path, root: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("lock", path, error);
    if file.try_lock().map_err(failed)? && file.is_at(path).map_err(failed)? {
        return Ok(());
    }
    Err(Error::Locked {
        path: root.display().to_string(),
    })
}

/// A team's name where the name itself is not to be kept.
fn team_hash(team: &TeamId) -> u128 {
    XxHash3_128::oneshot(team.as_str().as_bytes())
}

/// The next segment's id lies above all that were given out and are kept.
fn raise_next_segment(
    meta: &mut Table<'_, &'static str, u64>,
    segments: &[SegmentSummary],
) -> Result<(), Error> {
    let next = meta.get(NEXT_SEGMENT)?.map_or(1, |next| next.value());
    if let Some(last) = segments.iter().map(|summary| summary.id.0).max()
        && last >= next
    {
        meta.insert(NEXT_SEGMENT, last + 1)?;
    }
    Ok(())
}

/// A new, locked file that is to become a catalog.
fn create(disk: &Arc<dyn Disk>, root: &Path) -> Result<Database, Error> {
    let path = unfinished(root);
    let failed = |error| Error::io("create", &path, error);
    let file = disk
        .open(&path, OpenMode::CreateOrExisting)
        .map_err(failed)?;
    lock(&*file, &path, root)?;
    file.set_len(0).map_err(failed)?;
    database(file)
}

fn unfinished(root: &Path) -> PathBuf {
    root.join("catalog.redb.unfinished")
}

/// Gives a complete catalog its name.
fn rename(disk: &Arc<dyn Disk>, root: &Path) -> Result<(), Error> {
    let path = root.join(NAME);
    disk.rename(&unfinished(root), &path)
        .map_err(|error| Error::io("rename", &path, error))
}

/// Makes the name durable.
fn sync(disk: &Arc<dyn Disk>, root: &Path) -> Result<(), Error> {
    disk.sync_dir(root)
        .map_err(|error| Error::io("sync", root, error))
}

/// Copies all tables into a new file beside.
fn copy(from: &Database, disk: &Arc<dyn Disk>, root: &Path) -> Result<Database, Error> {
    let to = create(disk, root)?;
    let read = from.begin_read()?;
    let write = to.begin_write()?;
    copy_table(&read, &write, META)?;
    copy_table(&read, &write, SEGMENTS)?;
    copy_table(&read, &write, COUNTERS)?;
    copy_table(&read, &write, SETTINGS)?;
    copy_table(&read, &write, ERASURES)?;
    copy_table(&read, &write, REMOVED)?;
    copy_table(&read, &write, ERASED)?;
    write.commit()?;
    Ok(to)
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), Error> {
    let mut to = write.open_table(table)?;
    for entry in read.open_table(table)?.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Makes an empty catalog. It gets its name when it is complete, as redb does
/// not open what a crash left of a file that it was making.
fn make(disk: &Arc<dyn Disk>, root: &Path) -> Result<(), Error> {
    let database = create(disk, root)?;
    // Another process may have made it before this one had its turn.
    let entries = disk
        .list(root)
        .map_err(|error| Error::io("list", root, error))?;
    if entries.iter().any(|entry| entry.name == NAME) {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(VERSION, u64::from(CATALOG_VERSION))?;
        meta.insert(FIRST_UNSEALED, 1)?;
        meta.insert(NEXT_SEGMENT, 1)?;
        transaction.open_table(SEGMENTS)?;
        transaction.open_table(COUNTERS)?;
        transaction.open_table(SETTINGS)?;
        transaction.open_table(ERASURES)?;
        transaction.open_table(REMOVED)?;
        transaction.open_table(ERASED)?;
    }
    transaction.commit()?;
    rename(disk, root)?;
    sync(disk, root)
}
