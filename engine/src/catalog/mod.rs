//! The store's transactional metadata, in `catalog.redb`, and the lock that
//! makes it one process's own.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `version`, `first_unsealed` (sequence), `next_segment` |
//! | `segments` | segment id | `format::catalog` segment record |
//! | `counters` | month, team | spans accepted that are sealed |
//! | `settings` | team | `format::catalog::TeamSettings` |

mod backend;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use spanstore_format::catalog::{TeamSettings, decode_segment, encode_segment};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::version::CATALOG_VERSION;
use spanstore_format::{FormatError, Month, SegmentId, TeamId};

use crate::error::Error;
use crate::io::{Disk, DiskFile, OpenMode};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("segments");
const COUNTERS: TableDefinition<'_, (u16, &str), u64> = TableDefinition::new("counters");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");

const VERSION: &str = "version";
const FIRST_UNSEALED: &str = "first_unsealed";
const NEXT_SEGMENT: &str = "next_segment";

/// Pages of the catalog that redb keeps in memory, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// The open catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    database: Database,
    path: PathBuf,
}

/// Sealed spans of a partition.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) month: Month,
    pub(crate) team: String,
    pub(crate) rows: u64,
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
}

impl Catalog {
    /// Opens the catalog of the store at `root`, or makes it.
    pub(crate) fn open(disk: &Arc<dyn Disk>, root: &Path, create: bool) -> Result<Self, Error> {
        let path = root.join("catalog.redb");
        let file = match disk.open(&path, OpenMode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                make(disk, root, &path)?;
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
        lock(&*file, root)?;
        let catalog = Self {
            database: database(file)?,
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
        Ok(())
    }

    fn corrupt(&self, source: FormatError) -> Error {
        Error::corrupt(self.path.display().to_string(), source)
    }

    fn meta(&self, name: &str) -> Result<u64, Error> {
        let meta = self.database.begin_read()?.open_table(META)?;
        let value = meta.get(name)?.map(|value| value.value());
        value.ok_or_else(|| self.corrupt(FormatError::malformed("catalog", 0, name, "nothing")))
    }

    /// The first sequence of the log that is not sealed.
    pub(crate) fn first_unsealed(&self) -> Result<u64, Error> {
        self.meta(FIRST_UNSEALED)
    }

    /// The id that the next segment gets. Ids of segments that were begun and
    /// not committed are given out again.
    pub(crate) fn next_segment(&self) -> Result<SegmentId, Error> {
        self.meta(NEXT_SEGMENT).map(SegmentId)
    }

    /// All segments, by id.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentSummary>, Error> {
        self.segments_in(&self.database.begin_read()?)
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
        let read = self.database.begin_read()?;
        let mut counts = Vec::new();
        for entry in read.open_table(COUNTERS)?.iter()? {
            let (key, count) = entry?;
            let (month, team) = key.value();
            let month = Month::from_number(month).ok_or_else(|| {
                let found = month.to_string();
                self.corrupt(FormatError::malformed("catalog", 0, "a month", found))
            })?;
            counts.push(Count {
                month,
                team: team.to_owned(),
                rows: count.value(),
            });
        }
        Ok((self.segments_in(&read)?, counts))
    }

    /// Sealed spans that count towards a partition's quota.
    pub(crate) fn sealed_count(&self, month: Month, team: &TeamId) -> Result<u64, Error> {
        let table = self.database.begin_read()?.open_table(COUNTERS)?;
        let count = table.get((month.number(), team.as_str()))?;
        Ok(count.map_or(0, |count| count.value()))
    }

    /// What is set for each team that has something set.
    pub(crate) fn settings(&self) -> Result<HashMap<TeamId, TeamSettings>, Error> {
        let table = self.database.begin_read()?.open_table(SETTINGS)?;
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
        let transaction = self.database.begin_write()?;
        transaction
            .open_table(SETTINGS)?
            .insert(team.as_str(), settings.encode_to_vec().as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes a seal true: segments, counters and the place in the log change
    /// together or not at all.
    pub(crate) fn commit_seal(&self, commit: &SealCommit<'_>) -> Result<(), Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut segments = transaction.open_table(SEGMENTS)?;
            let mut meta = transaction.open_table(META)?;
            for summary in commit.segments {
                segments.insert(summary.id.0, encode_segment(summary).as_slice())?;
            }
            if let Some(last) = commit.segments.iter().map(|summary| summary.id.0).max() {
                meta.insert(NEXT_SEGMENT, last + 1)?;
            }
            meta.insert(FIRST_UNSEALED, commit.first_unsealed)?;
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

/// Takes a store's file for this process alone.
fn lock(file: &dyn DiskFile, root: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Locked {
            path: root.display().to_string(),
        }),
        Err(error) => Err(Error::io("lock", root, error)),
    }
}

/// Makes an empty catalog. It gets its name when it is complete, as redb does
/// not open what a crash left of a file that it was making.
fn make(disk: &Arc<dyn Disk>, root: &Path, path: &Path) -> Result<(), Error> {
    let unfinished = root.join("catalog.redb.unfinished");
    let failed = |error| Error::io("create", &unfinished, error);
    let file = disk
        .open(&unfinished, OpenMode::CreateOrExisting)
        .map_err(failed)?;
    lock(&*file, root)?;
    file.set_len(0).map_err(failed)?;
    let database = database(file)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(VERSION, u64::from(CATALOG_VERSION))?;
        meta.insert(FIRST_UNSEALED, 1)?;
        meta.insert(NEXT_SEGMENT, 1)?;
        transaction.open_table(SEGMENTS)?;
        transaction.open_table(COUNTERS)?;
        transaction.open_table(SETTINGS)?;
    }
    transaction.commit()?;
    disk.rename(&unfinished, path)
        .map_err(|error| Error::io("rename", path, error))?;
    disk.sync_dir(root)
        .map_err(|error| Error::io("sync", root, error))
}
