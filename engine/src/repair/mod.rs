//! Builds a store anew from what can be read of a damaged one.

mod files;
mod log;
mod old;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use spanstore_format::segment::{Origin, SegmentSummary};
use spanstore_format::{Month, SegmentId, TeamId};

use self::files::{SegmentFound, State};
use self::log::LogFound;
use self::old::OldCatalog;
use self::rows::{LogRows, Place, Salvage, rebuild};
use crate::catalog::{Catalog, Content, Count};
use crate::check::Damage;
use crate::error::Error;
use crate::io::{Disk, DiskFile, OpenMode, RealDisk};
use crate::registry::changes;
use crate::removal::Removals;
use crate::segment;

/// What a repair found and what it saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Segments that were taken over as they are.
    pub segments: u64,
    /// Segments that were written anew, of what could be read of one, or of the
    /// log.
    pub rebuilt_segments: u64,
    /// Spans of the new store.
    pub spans: u64,
    /// Sessions of the new store.
    pub sessions: u64,
    /// Records of the log whose spans are among them.
    pub log_records: u64,
    /// Spans that are lost, by team and month.
    pub lost: Vec<LostSpans>,
    /// Spans that are kept, but without their resource and scope, which are lost, by
    /// team and month.
    pub without_resource: Vec<LostSpans>,
    /// Spans that are kept, but without the id of their parent, which lay among damaged
    /// spans, by team and month. They come out as spans without a parent.
    pub without_parent: Vec<LostSpans>,
    /// Sequences of the log whose records are lost: from the first to the one
    /// after the last.
    pub lost_sequences: Vec<Range<u64>>,
    /// Everything that was found damaged.
    pub damage: Vec<Damage>,
    /// Files that lie in the new store's directory `quarantine`.
    pub quarantined: Vec<String>,
    /// Parts of the catalog that could not be read. Lost counters begin at the
    /// spans found, so a team may get some of its quota back; lost settings are
    /// as if none were set; what lost erasures hid can be found again; of lost
    /// sessions those are there that the log has.
    pub lost_tables: Vec<CatalogTable>,
}

/// A part of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CatalogTable {
    /// Which segments there are.
    Segments,
    /// How many spans each team has written in each month.
    Counters,
    /// Plans, quotas and retention of teams.
    Settings,
    /// The retention that holds where a team has nothing set, and other numbers
    /// of the whole store.
    Store,
    /// What was forgotten and not erased yet.
    Erasures,
    /// The sessions that were started; those that the log has are kept.
    Sessions,
}

/// Spans that are lost, or something of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostSpans {
    /// Whose they were; none when nothing tells.
    pub team: Option<TeamId>,
    /// Their month.
    pub month: Month,
    /// How many; none when nothing tells.
    pub spans: Option<u64>,
}

/// Builds a store in an empty directory, or in one to be made, from what can be
/// read of the one in `from`, which is not changed. The new store opens as any
/// other; it holds each readable span once. What the old one remembered of appends
/// is not taken over: one that is sent again is stored again. Spans that were lost
/// with a segment still count towards the quota, those lost with the log do not.
///
/// # Errors
/// [`Error::NotFound`] when there is nothing of a store in `from`,
/// [`Error::NotEmpty`] when there is something in `to`, [`Error::Locked`] when the
/// old store is open, [`Error::Io`], [`Error::NoSpace`]. Damage is no error.
pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport, Error> {
    repair_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), from, to)
}

/// As [`repair`], on a disk of the caller's.
///
/// # Errors
/// As [`repair`].
pub fn repair_on(
    disk: &Arc<dyn Disk>,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
) -> Result<RepairReport, Error> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let _lock = lock(&**disk, from)?;
    make_empty(&**disk, to)?;
    let old = OldCatalog::read(disk, from);
    let found = files::find(&**disk, from, &old)?;
    let highest = found.iter().map(|one| one.id.0).max().unwrap_or(0);
    let kept = files::choose(found, &old);
    let mut repair = Repair {
        disk,
        removals: Arc::new(Removals::new(disk)),
        to,
        salvages: BTreeMap::new(),
        report: RepairReport::default(),
        segments: Vec::new(),
        missing: BTreeMap::new(),
        without_resource: BTreeMap::new(),
        without_parent: BTreeMap::new(),
        counts: BTreeMap::new(),
        next_segment: old
            .number("next_segment")
            .filter(|id| *id <= SegmentId::GREATEST.0)
            .unwrap_or(1)
            .max(highest + 1),
        old,
        kept,
    };
    repair.salvage();
    let log = log::read(&**disk, from, &repair.old, &repair.kept, &repair.salvages)?;
    if repair.old.segments.is_none() && repair.kept.is_empty() && log.is_absent {
        let path = from.display().to_string();
        return Err(Error::NotFound { path });
    }
    repair.take_over()?;
    repair.rebuild(&log)?;
    repair.finish(log)
}

/// Keeps other processes from opening the old store meanwhile.
fn lock(disk: &dyn Disk, from: &Path) -> Result<Option<Box<dyn DiskFile>>, Error> {
    let path = from.join("catalog.redb");
    let file = match disk.open(&path, OpenMode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| Error::io("open", &path, error))?,
    };
    let is_free = file.try_lock();
    if is_free.map_err(|error| Error::io("lock", &path, error))? {
        return Ok(Some(file));
    }
    Err(Error::Locked {
        path: from.display().to_string(),
    })
}

fn make_empty(disk: &dyn Disk, to: &Path) -> Result<(), Error> {
    match disk.list(to) {
        Ok(entries) if !entries.is_empty() => {
            let path = to.display().to_string();
            return Err(Error::NotEmpty { path });
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("list", to, error));
        }
        _ => {}
    }
    let segments = segment::directory(to);
    disk.create_dir_all(&segments)
        .map_err(|error| Error::io("create", &segments, error))
}

/// A repair at work.
struct Repair<'a> {
    disk: &'a Arc<dyn Disk>,
    removals: Arc<Removals>,
    to: &'a Path,
    old: OldCatalog,
    /// The segments whose rows count, by id.
    kept: Vec<SegmentFound>,
    /// What can be read of the damaged ones.
    salvages: BTreeMap<SegmentId, Salvage>,
    report: RepairReport,
    /// Those of the new store.
    segments: Vec<SegmentSummary>,
    /// Rows of damaged segments that are not among those written anew.
    missing: BTreeMap<(Month, TeamId), u64>,
    /// Rows of the new store that are without their resource.
    without_resource: BTreeMap<(Month, TeamId), u64>,
    /// Those that are without the id of their parent.
    without_parent: BTreeMap<(Month, TeamId), u64>,
    /// Rows of the new store.
    counts: BTreeMap<(Month, TeamId), u64>,
    next_segment: u64,
}

impl Repair<'_> {
    /// Reads the damaged segments.
    fn salvage(&mut self) {
        for one in &self.kept {
            let detail = match &one.state {
                State::Whole(..) => continue,
                State::Damaged {
                    reader,
                    origin,
                    damage,
                } => {
                    // Without its origin nobody knows what of it the log has.
                    if origin.is_some() {
                        self.salvages.insert(one.id, Salvage::of(reader));
                    }
                    damage.clone()
                }
                State::Unreadable(damage) => damage.clone(),
            };
            self.report.damage.push(Damage {
                file: one.path.display().to_string(),
                detail,
            });
        }
    }

    /// Links what is whole, and puts what is not into quarantine.
    fn take_over(&mut self) -> Result<(), Error> {
        let mut directories = BTreeSet::new();
        for one in &self.kept {
            let target = if let State::Whole(summary, _) = &one.state {
                self.report.segments += 1;
                self.segments.push(summary.clone());
                segment::path(self.to, summary)
            } else if one.is_missing {
                continue;
            } else {
                let name = one.path.file_name().unwrap_or_default().to_string_lossy();
                let target = segment::quarantine(self.to).join(format!("{}-{name}", one.month));
                self.report.quarantined.push(target.display().to_string());
                target
            };
            if let Some(directory) = target.parent()
                && directories.insert(directory.to_path_buf())
            {
                self.disk
                    .create_dir_all(directory)
                    .map_err(|error| Error::io("create", directory, error))?;
            }
            self.disk
                .link(&one.path, &target)
                .map_err(|error| Error::io("link", &target, error))?;
        }
        for directory in &directories {
            self.disk
                .sync_dir(directory)
                .map_err(|error| Error::io("sync", directory, error))?;
        }
        self.count_whole()
    }

    fn count_whole(&mut self) -> Result<(), Error> {
        for one in &self.kept {
            let State::Whole(summary, _) = &one.state else {
                continue;
            };
            let file = |error| Error::corrupt(one.path.display().to_string(), error);
            let bytes = self
                .disk
                .map(&one.path)
                .map_err(|error| Error::io("map", &one.path, error))?;
            let reader = spanstore_format::segment::SegmentReader::open(bytes, summary.clone());
            for partition in reader.map_err(file)?.directory().partitions() {
                let partition = partition.map_err(file)?;
                let rows = u64::from(partition.rows.end - partition.rows.start);
                *self.counts.entry((one.month, partition.team)).or_default() += rows;
            }
        }
        Ok(())
    }

    /// Writes what is left of damaged segments, and what the log has.
    fn rebuild(&mut self, log: &LogFound) -> Result<(), Error> {
        let none = LogRows::new();
        let mut rebuilt = Vec::new();
        for one in self.kept.iter().filter(|one| !one.is_whole()) {
            let (salvage, from_log) = (self.salvages.get(&one.id), log.of_segments.get(&one.id));
            let origin = one.origin().cloned();
            let origin = origin.or_else(|| Some(Origin::sealed(from_log?.sequences.clone())));
            let Some(origin) = origin else { continue };
            let mut id = one.id;
            if origin.replaced.contains(&id) {
                id = SegmentId(self.next_segment);
                self.next_segment += 1;
            }
            let place = Place {
                disk: self.disk,
                removals: &self.removals,
                root: self.to,
                id,
                month: one.month,
                origin,
            };
            let rows = rebuild(place, salvage, from_log.map_or(&none, |log| &log.rows))?;
            let written = |team| rows.as_ref().and_then(|(_, rows)| rows.get(team));
            for (team, had) in salvage.into_iter().flat_map(Salvage::had) {
                let missing = had.saturating_sub(written(team).map_or(0, |one| one.rows));
                *self.missing.entry((one.month, team.clone())).or_default() += missing;
            }
            rebuilt.extend(rows.map(|rows| (one.month, rows)));
        }
        for (month, from_log) in &log.of_months {
            let place = Place {
                disk: self.disk,
                removals: &self.removals,
                root: self.to,
                id: SegmentId(self.next_segment),
                month: *month,
                origin: Origin::sealed(from_log.sequences.clone()),
            };
            self.next_segment += 1;
            rebuilt.extend(rebuild(place, None, &from_log.rows)?.map(|rows| (*month, rows)));
        }
        for (month, (mut summary, teams)) in rebuilt {
            if let Some(known) = self.old.segment(summary.id) {
                (summary.level, summary.run) = (known.level, known.run);
            }
            self.report.rebuilt_segments += 1;
            self.segments.push(summary);
            for (team, written) in teams {
                let partition = (month, team);
                let without_resource = self.without_resource.entry(partition.clone());
                *without_resource.or_default() += written.without_resource;
                let without_parent = self.without_parent.entry(partition.clone());
                *without_parent.or_default() += written.without_parent;
                *self.counts.entry(partition).or_default() += written.rows;
            }
        }
        Ok(())
    }

    /// Writes the catalog, which makes it a store, and tells what is lost.
    fn finish(mut self, log: LogFound) -> Result<RepairReport, Error> {
        self.count_lost(&log);
        let counters = self.counters(&log);
        let mut report = self.report;
        let old = self.old;
        if let Some(detail) = &old.damage {
            report.damage.push(Damage {
                file: "catalog.redb".into(),
                detail: detail.clone(),
            });
        }
        for (table, is_lost) in [
            (CatalogTable::Segments, old.segments.is_none()),
            (
                CatalogTable::Counters,
                old.counts.is_none() || old.erased.is_none(),
            ),
            (CatalogTable::Settings, old.settings.is_none()),
            (CatalogTable::Store, old.meta.is_none()),
            (CatalogTable::Erasures, old.erasures.is_none()),
            (CatalogTable::Sessions, old.sessions.is_none()),
        ] {
            if is_lost {
                report.lost_tables.push(table);
            }
        }
        report.log_records = log.records;
        report.lost_sequences = log.lost;
        report.damage.extend(log.damage);
        let sessions = changes::over_all(old.sessions.unwrap_or_default(), log.sessions);
        report.sessions = sessions.values().map(|of_team| of_team.len() as u64).sum();
        report.spans = self.segments.iter().map(|one| u64::from(one.rows)).sum();
        Catalog::create(
            self.disk,
            self.to,
            &Content {
                meta: old.meta.unwrap_or_default(),
                first_unsealed: log.end,
                next_segment: SegmentId(self.next_segment),
                segments: self.segments,
                counters,
                erased: old.erased.unwrap_or_default(),
                settings: old.settings.unwrap_or_default(),
                erasures: old.erasures.unwrap_or_default(),
                sessions,
            },
        )?;
        Ok(report)
    }

    /// The counters of the new store: at least what the old one had counted, and
    /// at least what there is.
    fn counters(&self, log: &LogFound) -> Vec<Count> {
        let mut accepted: BTreeMap<(Month, TeamId), u64> = BTreeMap::new();
        for count in self.old.counts.iter().flatten() {
            if let Ok(team) = TeamId::new(&count.team) {
                *accepted.entry((count.month, team)).or_default() += count.rows;
            }
        }
        for (partition, rows) in &log.unsealed {
            *accepted.entry(partition.clone()).or_default() += rows;
        }
        for (partition, found) in &self.counts {
            let count = accepted.entry(partition.clone()).or_default();
            *count = (*count).max(*found);
        }
        let counts = accepted.into_iter().map(|((month, team), rows)| {
            let found = self.counts.get(&(month, team.clone())).copied();
            Count {
                month,
                team: team.as_str().to_owned(),
                rows,
                removed: rows - found.unwrap_or(0),
            }
        });
        counts.collect()
    }

    /// Compares what was counted with what there is; without counters, what the
    /// directories of damaged segments say.
    fn count_lost(&mut self, log: &LogFound) {
        let mut lost: BTreeMap<(Month, TeamId), u64> = BTreeMap::new();
        if let Some(counts) = &self.old.counts {
            for count in counts {
                let Ok(team) = TeamId::new(&count.team) else {
                    continue;
                };
                let partition = (count.month, team);
                let unsealed = log.unsealed.get(&partition).copied().unwrap_or(0);
                let expected = count.rows.saturating_sub(count.removed) + unsealed;
                let found = self.counts.get(&partition).copied().unwrap_or(0);
                lost.insert(partition, expected.saturating_sub(found));
            }
        } else {
            lost.clone_from(&self.missing);
        }
        self.report.lost = known(lost);
        self.report.without_resource = known(std::mem::take(&mut self.without_resource));
        self.report.without_parent = known(std::mem::take(&mut self.without_parent));
        if self.old.counts.is_some() {
            return;
        }
        for one in &self.kept {
            // Of one without its origin nothing was taken, and nobody knows what of it
            // the log had.
            if matches!(one.state, State::Unreadable(_)) || one.origin().is_none() {
                self.report.lost.push(LostSpans {
                    team: None,
                    month: one.month,
                    spans: None,
                });
            }
        }
    }
}

/// Spans that are lost, of those partitions that lost any.
fn known(lost: BTreeMap<(Month, TeamId), u64>) -> Vec<LostSpans> {
    let lost = lost.into_iter().filter(|(_, spans)| *spans > 0);
    let lost = lost.map(|((month, team), spans)| LostSpans {
        team: Some(team),
        month,
        spans: Some(spans),
    });
    lost.collect()
}
