//! The store's transactional metadata, in `catalog.redb`, and the lock that
//! makes it one process's own.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `version`, `commits`, `first_unsealed` and `log_settled` (sequences), `next_segment`, `retention`, `retention_clock`, `recent_file`, `content_seed`, `cursor_key_1`, `cursor_key_2` |
//! | `segments` | segment id | `format::catalog` segment record |
//! | `counters` | month, team | spans accepted that are sealed |
//! | `settings` | team | `format::catalog::TeamSettings` |
//! | `erasures` | number | `format::catalog::Erasure` |
//! | `removed` | month, team | spans of `counters` that are gone from the segments |
//! | `erased` | month, hash of a team | `counters` of a team that was erased |
//! | `replaced` | segment id | nothing: its file may still be there |
//! | `sessions` | team, session id | `format::catalog::SessionRecord` |
//! | `user_sessions` | team, user, session id | nothing |
//! | `stopped_sessions` | month, team, session id | nothing |
//!
//! [`guard`] calls redb, [`backend`] compares each block with its checksum,
//! [`published`] keeps the checksums beside, [`create`] makes files, [`changes`]
//! holds what is committed, [`sessions`] the tables of sessions, [`copied`] copies for who
//! only reads. What is decoded here is not trusted either.

mod backend;
mod changes;
mod copied;
mod create;
mod guard;
mod published;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition};
use spanstore_format::catalog::{Erasure, TeamSettings, decode_segment};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::version::CATALOG_VERSION;
use spanstore_format::{FormatError, Month, SegmentId, TeamId};
use twox_hash::XxHash3_128;

pub(crate) use self::copied::CatalogCopy;
use self::create::Remains;
use self::guard::{CallError, Guard};
pub(crate) use self::sessions::{AllSessions, SessionChanges, TeamChanges};
use crate::error::Error;
use crate::io::{Disk, OpenMode};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("segments");
const COUNTERS: TableDefinition<'_, (u16, &str), u64> = TableDefinition::new("counters");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");
const ERASURES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("erasures");
const REMOVED: TableDefinition<'_, (u16, &str), u64> = TableDefinition::new("removed");
const ERASED: TableDefinition<'_, (u16, u128), u64> = TableDefinition::new("erased");
const REPLACED: TableDefinition<'_, u64, ()> = TableDefinition::new("replaced");

const VERSION: &str = "version";
const COMMITS: &str = "commits";
const FIRST_UNSEALED: &str = "first_unsealed";
const NEXT_SEGMENT: &str = "next_segment";
const RETENTION: &str = "retention";
const RETENTION_CLOCK: &str = "retention_clock";
const LOG_SETTLED: &str = "log_settled";
const RECENT_FILE: &str = "recent_file";
const CONTENT_SEED: &str = "content_seed";
const CURSOR_KEY: [&str; 2] = ["cursor_key_1", "cursor_key_2"];

/// The catalog's file.
const NAME: &str = "catalog.redb";

/// The open catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    guard: Guard,
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
    /// The file of recent appends; none when nothing is remembered.
    pub(crate) recent_file: Option<u64>,
    /// What becomes of sessions.
    pub(crate) sessions: &'a SessionChanges,
}

/// All that a catalog says, for a new one.
#[derive(Debug)]
pub(crate) struct Content {
    /// Numbers of the whole store, but for those below.
    pub(crate) meta: BTreeMap<String, u64>,
    pub(crate) first_unsealed: u64,
    pub(crate) next_segment: SegmentId,
    pub(crate) segments: Vec<SegmentSummary>,
    pub(crate) counters: Vec<Count>,
    pub(crate) erased: BTreeMap<(u16, u128), u64>,
    pub(crate) settings: HashMap<TeamId, TeamSettings>,
    pub(crate) erasures: Vec<Erasure>,
    pub(crate) sessions: AllSessions,
}

impl Content {
    /// That of a store that has nothing.
    fn empty() -> Self {
        Self {
            meta: BTreeMap::new(),
            first_unsealed: 1,
            next_segment: SegmentId(1),
            segments: Vec::new(),
            counters: Vec::new(),
            erased: BTreeMap::new(),
            settings: HashMap::new(),
            erasures: Vec::new(),
            sessions: AllSessions::new(),
        }
    }
}

/// A value of the catalog that makes no sense.
fn malformed(expected: impl Into<String>, found: impl Into<String>) -> CallError {
    corrupt(FormatError::malformed("catalog", 0, expected, found))
}

fn corrupt(error: FormatError) -> CallError {
    CallError::Own(Error::corrupt(NAME, error))
}

fn month(number: u16) -> Result<Month, CallError> {
    Month::from_number(number).ok_or_else(|| malformed("a month", number.to_string()))
}

fn team(name: &str) -> Result<TeamId, CallError> {
    TeamId::new(name).map_err(|error| malformed("a team", error.to_string()))
}

/// Adds up counts of spans.
fn sum(one: u64, other: u64) -> Result<u64, CallError> {
    let sum = one.checked_add(other);
    sum.ok_or_else(|| malformed("counts below 2^64", format!("{one} and {other}")))
}

/// A number of table `meta`.
fn meta(read: &ReadTransaction, name: &str) -> Result<Option<u64>, CallError> {
    let meta = read.open_table(META)?;
    Ok(meta.get(name)?.map(|value| value.value()))
}

/// A number that stands in every catalog.
fn required(read: &ReadTransaction, name: &str) -> Result<u64, CallError> {
    meta(read, name)?.ok_or_else(|| malformed(name, "nothing"))
}

/// A team's name where the name itself is not to be kept.
fn team_hash(team: &TeamId) -> u128 {
    XxHash3_128::oneshot(team.as_str().as_bytes())
}

fn segments_in(read: &ReadTransaction) -> Result<Vec<SegmentSummary>, CallError> {
    let next = required(read, NEXT_SEGMENT)?;
    let mut segments = Vec::new();
    for entry in read.open_table(SEGMENTS)?.iter()? {
        let (id, record) = entry?;
        let id = id.value();
        if id >= next {
            return Err(malformed(format!("segments below {next}"), id.to_string()));
        }
        segments.push(decode_segment(SegmentId(id), record.value()).map_err(corrupt)?);
    }
    Ok(segments)
}

impl Catalog {
    /// Opens the catalog of the store at `root`. Makes it where it may, in a
    /// directory that holds no part of a store.
    ///
    /// # Errors
    /// [`Error::CatalogMissing`], [`Error::CatalogDamaged`] and
    /// [`Error::CatalogOlder`]; [`Error::NotFound`] when there is no store and
    /// none may be made; [`Error::Locked`], [`Error::Io`].
    pub(crate) fn open(disk: &Arc<dyn Disk>, root: &Path, create: bool) -> Result<Self, Error> {
        let path = root.join(NAME);
        let file = match disk.open(&path, OpenMode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let remains = create::remains(&**disk, root)?;
                let is_empty = remains == Remains::default();
                if is_empty && !create {
                    return Err(remains.without_catalog(root));
                }
                if is_empty {
                    create::make(disk, root, &Content::empty())?;
                }
                // Another process may have made the store meanwhile: its catalog
                // is there before any other part.
                disk.open(&path, OpenMode::Existing)
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::NotFound => remains.without_catalog(root),
                        _ => Error::io("open", &path, error),
                    })?
            }
            opened => opened.map_err(|error| Error::io("open", &path, error))?,
        };
        create::lock(&*file, &path, root)?;
        let catalog = Self {
            guard: Guard::open(disk, root, path, file)?,
        };
        catalog.check_version()?;
        Ok(catalog)
    }

    /// Whether a store has a catalog.
    pub(crate) fn is_there(disk: &dyn Disk, root: &Path) -> bool {
        disk.open(&root.join(NAME), OpenMode::Read).is_ok()
    }

    /// Why a store without a catalog cannot be opened.
    pub(crate) fn missing(disk: &dyn Disk, root: &Path) -> Error {
        let remains = create::remains(disk, root);
        remains.map_or_else(|error| error, |remains| remains.without_catalog(root))
    }

    /// Makes the catalog of a store at `root` that was written without one.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        root: &Path,
        content: &Content,
    ) -> Result<(), Error> {
        create::make(disk, root, content)
    }

    fn check_version(&self) -> Result<(), Error> {
        let version = self.guard.read(|read| required(read, VERSION))?;
        if version == u64::from(CATALOG_VERSION) {
            return Ok(());
        }
        let error = if version > u64::from(CATALOG_VERSION) {
            FormatError::NewerVersion {
                part: "catalog",
                found: u16::try_from(version).unwrap_or(u16::MAX),
                supported: CATALOG_VERSION,
            }
        } else {
            let expected = format!("a catalog of version {CATALOG_VERSION}");
            let found = format!("version {version}, from before the first release");
            FormatError::malformed("catalog", 0, expected, found)
        };
        Err(Error::corrupt(self.guard.path(), error))
    }

    /// The catalog's file, for messages.
    pub(crate) fn path(&self) -> String {
        self.guard.path()
    }

    /// The first sequence of the log that is not sealed.
    pub(crate) fn first_unsealed(&self) -> Result<u64, Error> {
        self.guard.read(|read| required(read, FIRST_UNSEALED))
    }

    /// The log reached at least this sequence, durably: a log that ends below it
    /// has lost records.
    pub(crate) fn log_settled(&self) -> Result<u64, Error> {
        self.guard.read(|read| {
            let settled = meta(read, LOG_SETTLED)?.unwrap_or(0);
            Ok(settled.max(required(read, FIRST_UNSEALED)?))
        })
    }

    /// The sequence that names the file of recent appends; none when there is none.
    pub(crate) fn recent_file(&self) -> Result<Option<u64>, Error> {
        self.guard.read(|read| meta(read, RECENT_FILE))
    }

    /// Seed of the hashes that tell equal batches.
    pub(crate) fn content_seed(&self) -> Result<u64, Error> {
        self.guard.read(|read| required(read, CONTENT_SEED))
    }

    /// The key that cursors are signed with.
    #[cfg(feature = "query")]
    pub(crate) fn cursor_key(&self) -> Result<[u64; 2], Error> {
        self.guard.read(|read| {
            let [first, second] = CURSOR_KEY;
            Ok([required(read, first)?, required(read, second)?])
        })
    }

    /// The id that the next segment gets. Ids of segments that were begun and
    /// not committed are given out again.
    pub(crate) fn next_segment(&self) -> Result<SegmentId, Error> {
        self.guard
            .read(|read| required(read, NEXT_SEGMENT))
            .map(SegmentId)
    }

    /// All segments, by id.
    pub(crate) fn segments(&self) -> Result<Vec<SegmentSummary>, Error> {
        self.guard.read(segments_in)
    }

    /// Segments that were replaced or dropped and whose files may still be there.
    pub(crate) fn replaced(&self) -> Result<BTreeSet<SegmentId>, Error> {
        self.guard.read(|read| {
            let mut replaced = BTreeSet::new();
            for entry in read.open_table(REPLACED)?.iter()? {
                replaced.insert(SegmentId(entry?.0.value()));
            }
            Ok(replaced)
        })
    }

    /// All segments and all counters, as they are at one time.
    pub(crate) fn segments_and_counts(&self) -> Result<(Vec<SegmentSummary>, Vec<Count>), Error> {
        self.guard.read(|read| {
            let mut counts = Vec::new();
            let removed = read.open_table(REMOVED)?;
            for entry in read.open_table(COUNTERS)?.iter()? {
                let (key, count) = entry?;
                let (number, name) = key.value();
                let gone = removed.get((number, name))?;
                counts.push(Count {
                    month: month(number)?,
                    team: team(name)?.as_str().to_owned(),
                    rows: count.value(),
                    removed: gone.map_or(0, |gone| gone.value()),
                });
            }
            Ok((segments_in(read)?, counts))
        })
    }

    /// The teams that have sealed spans, or had some that were not erased with the team.
    pub(crate) fn teams(&self) -> Result<BTreeSet<TeamId>, Error> {
        self.guard.read(|read| {
            let mut teams = BTreeSet::new();
            for entry in read.open_table(COUNTERS)?.iter()? {
                teams.insert(team(entry?.0.value().1)?);
            }
            Ok(teams)
        })
    }

    /// Whether a team is among [`Catalog::teams`]. Reads about a number for each month.
    pub(crate) fn has_team(&self, team: &TeamId) -> Result<bool, Error> {
        self.guard.read(|read| {
            let counters = read.open_table(COUNTERS)?;
            let mut month = 0;
            // The first one from the team on in a month, or the first month after it.
            loop {
                let mut following = counters.range((month, team.as_str())..)?;
                let Some(entry) = following.next() else {
                    return Ok(false);
                };
                let (key, _) = entry?;
                let (found, of_team) = key.value();
                if found == month && of_team == team.as_str() {
                    return Ok(true);
                }
                let next = if found == month {
                    month.checked_add(1)
                } else {
                    Some(found)
                };
                match next {
                    Some(next) => month = next,
                    None => return Ok(false),
                }
            }
        })
    }

    /// Sealed spans that count towards a partition's quota.
    pub(crate) fn sealed_count(&self, month: Month, team: &TeamId) -> Result<u64, Error> {
        self.guard.read(|read| {
            let counters = read.open_table(COUNTERS)?;
            let count = counters.get((month.number(), team.as_str()))?;
            // Rows that were erased with their team still count.
            let erased = read.open_table(ERASED)?;
            let erased = erased.get((month.number(), team_hash(team)))?;
            sum(
                count.map_or(0, |count| count.value()),
                erased.map_or(0, |count| count.value()),
            )
        })
    }

    /// The numbers of the whole store, for a catalog that is made of them.
    pub(crate) fn meta(&self) -> Result<BTreeMap<String, u64>, Error> {
        self.guard.read(|read| {
            let mut numbers = BTreeMap::new();
            for entry in read.open_table(META)?.iter()? {
                let (name, value) = entry?;
                numbers.insert(name.value().to_owned(), value.value());
            }
            Ok(numbers)
        })
    }

    /// Spans of teams whose names were erased, by month and hash.
    pub(crate) fn erased(&self) -> Result<BTreeMap<(u16, u128), u64>, Error> {
        self.guard.read(|read| {
            let mut erased = BTreeMap::new();
            for entry in read.open_table(ERASED)?.iter()? {
                let (key, count) = entry?;
                erased.insert(key.value(), count.value());
            }
            Ok(erased)
        })
    }

    /// What is set for each team that has something set.
    pub(crate) fn settings(&self) -> Result<HashMap<TeamId, TeamSettings>, Error> {
        self.guard.read(|read| {
            let mut settings = HashMap::new();
            for entry in read.open_table(SETTINGS)?.iter()? {
                let (name, record) = entry?;
                let record = TeamSettings::read(name.value(), record.value());
                settings.insert(team(name.value())?, record.map_err(corrupt)?);
            }
            Ok(settings)
        })
    }

    /// How long spans are kept where a team has nothing set, ns.
    pub(crate) fn retention(&self) -> Result<Option<u64>, Error> {
        self.guard.read(|read| meta(read, RETENTION))
    }

    /// The time that retention removes by, ns since 1970, as it was last kept;
    /// none in a new store.
    pub(crate) fn retention_clock(&self) -> Result<Option<i64>, Error> {
        let time = self.guard.read(|read| meta(read, RETENTION_CLOCK))?;
        Ok(time.map(u64::cast_signed))
    }

    /// What is to be erased.
    pub(crate) fn erasures(&self) -> Result<Vec<Erasure>, Error> {
        self.guard.read(|read| {
            let mut erasures = Vec::new();
            for entry in read.open_table(ERASURES)?.iter()? {
                let (number, record) = entry?;
                let erasure = Erasure::decode(number.value(), record.value());
                erasures.push(erasure.map_err(corrupt)?);
            }
            Ok(erasures)
        })
    }

    /// Reads all of the file against its checksums. Answers its bytes.
    pub(crate) fn verify(&self) -> Result<u64, Error> {
        self.guard.verify()
    }
}
