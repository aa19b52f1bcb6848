//! What is committed to the catalog: each a transaction of its own.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use redb::{ReadableTable, Table};
use spanstore_format::catalog::{Erasure, TeamSettings, encode_segment};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::{SegmentId, TeamId};

use super::guard::CallError;
use super::sessions::SessionTables;
use super::{
    COUNTERS, Catalog, ERASED, ERASURES, FIRST_UNSEALED, LOG_SETTLED, META, NEXT_SEGMENT,
    RECENT_FILE, REMOVED, REPLACED, RETENTION, RETENTION_CLOCK, RewriteCommit, SEGMENTS, SETTINGS,
    SealCommit, create, meta, segments_in, sum, team_hash,
};
use crate::error::Error;
use crate::io::Disk;

/// Every error that these methods answer leaves the catalog as it was, but for
/// [`Error::CatalogDamaged`] and [`Error::Poisoned`], after which nothing can be
/// committed any more.
impl Catalog {
    /// Notes durably that the log reached a sequence. Never lowers the note.
    pub(crate) fn settle_log(&self, sequence: u64) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let before = meta.get(LOG_SETTLED)?.map_or(0, |value| value.value());
            meta.insert(LOG_SETTLED, before.max(sequence))?;
            Ok(())
        })
    }

    /// Sets what is set for a team, durably.
    pub(crate) fn set_settings(&self, team: &TeamId, settings: &TeamSettings) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            transaction
                .open_table(SETTINGS)?
                .insert(team.as_str(), settings.encode_to_vec().as_slice())?;
            Ok(())
        })
    }

    /// Sets how long spans are kept where a team has nothing set, durably.
    pub(crate) fn set_retention(&self, nanos: Option<u64>) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut meta = transaction.open_table(META)?;
            match nanos {
                Some(nanos) => drop(meta.insert(RETENTION, nanos)?),
                None => drop(meta.remove(RETENTION)?),
            }
            Ok(())
        })
    }

    /// Keeps the time that retention removes by, durably.
    pub(crate) fn set_retention_clock(&self, time: i64) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            transaction
                .open_table(META)?
                .insert(RETENTION_CLOCK, time.cast_unsigned())?;
            Ok(())
        })
    }

    /// Adds what is to be erased, durably and all at once, and removes what is set for
    /// teams.
    pub(crate) fn add_erasures(
        &self,
        new: &[Erasure],
        teams: &HashSet<TeamId>,
    ) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut erasures = transaction.open_table(ERASURES)?;
            let mut settings = transaction.open_table(SETTINGS)?;
            let mut meta = transaction.open_table(META)?;
            let last = erasures.last()?.map_or(0, |(number, _)| number.value());
            let mut next = meta.get(NEXT_SEGMENT)?.map_or(1, |next| next.value());
            for (erasure, number) in new.iter().zip(sum(last, 1)?..) {
                if !is_planted!(LoseErasure) {
                    erasures.insert(number, erasure.encode().as_slice())?;
                }
                // Ids below are not given out again, also those that came to nothing:
                // rows that come later must not be taken for those that are meant.
                next = next.max(erasure.before.0);
            }
            for team in teams {
                settings.remove(team.as_str())?;
            }
            meta.insert(NEXT_SEGMENT, next)?;
            Ok(())
        })
    }

    /// Removes what was to be erased and is, and the names of teams of which all
    /// was. What they have accepted still counts, under the hash of their names.
    pub(crate) fn finish_erasures(
        &self,
        done: &HashSet<Erasure>,
        teams: &HashSet<TeamId>,
    ) -> Result<(), Error> {
        let done: HashSet<Vec<u8>> = done.iter().map(Erasure::encode).collect();
        self.guard.commit(|transaction| {
            let mut erasures = transaction.open_table(ERASURES)?;
            erasures.retain(|_, record| !done.contains(record))?;
            let mut counters = transaction.open_table(COUNTERS)?;
            let mut removed = transaction.open_table(REMOVED)?;
            let mut erased = transaction.open_table(ERASED)?;
            for team in teams {
                let mut months = Vec::new();
                for entry in counters.iter()? {
                    let (key, count) = entry?;
                    let (month, found) = key.value();
                    if found == team.as_str() {
                        months.push((month, count.value()));
                    }
                }
                for (month, count) in months {
                    let gone = removed.get((month, team.as_str()))?;
                    let gone = gone.map_or(0, |gone| gone.value());
                    // Rows that came after the team was forgotten keep theirs.
                    let key = (month, team_hash(team));
                    let before = erased.get(key)?.map_or(0, |count| count.value());
                    erased.insert(key, sum(before, gone)?)?;
                    removed.remove((month, team.as_str()))?;
                    if gone < count {
                        counters.insert((month, team.as_str()), count - gone)?;
                    } else {
                        counters.remove((month, team.as_str()))?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Makes a rewrite true: segments change places, all or none. The files of
    /// those replaced, and of others that came to nothing, may still be there.
    pub(crate) fn commit_rewrite(
        &self,
        commit: &RewriteCommit<'_>,
        abandoned: &BTreeSet<SegmentId>,
    ) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut segments = transaction.open_table(SEGMENTS)?;
            let mut meta = transaction.open_table(META)?;
            let mut removed = transaction.open_table(REMOVED)?;
            let mut replaced = transaction.open_table(REPLACED)?;
            for id in commit.old {
                segments.remove(id.0)?;
            }
            for id in commit.old.iter().chain(abandoned) {
                replaced.insert(id.0, ())?;
            }
            for summary in commit.new {
                segments.insert(summary.id.0, encode_segment(summary).as_slice())?;
            }
            raise_next_segment(&mut meta, commit.new, abandoned)?;
            for ((month, team), rows) in commit.removed {
                let key = (month.number(), team.as_str());
                let before = removed.get(key)?.map_or(0, |count| count.value());
                removed.insert(key, sum(before, *rows)?)?;
            }
            Ok(())
        })
    }

    /// Forgets segments that were replaced and whose files are gone.
    pub(crate) fn forget_replaced(&self, gone: &BTreeSet<SegmentId>) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut replaced = transaction.open_table(REPLACED)?;
            for id in gone {
                replaced.remove(id.0)?;
            }
            Ok(())
        })
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
        self.guard.replace(
            |read, number| create::copy(read, disk, root, number),
            || create::rename(&**disk, root),
        )?;
        create::sync(&**disk, root).inspect_err(unsure)
    }

    /// Writes a copy of the catalog, as it is now, into another directory; calls
    /// `before` with the segments and the file of recent appends that it names,
    /// before the copy gets its name.
    pub(crate) fn copy_to(
        &self,
        disk: &Arc<dyn Disk>,
        root: &Path,
        before: impl FnOnce(&[SegmentSummary], Option<u64>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (segments, recent_file) = self.guard.read(|read| {
            create::copy_closed(read, disk, root)?;
            Ok((segments_in(read)?, meta(read, RECENT_FILE)?))
        })?;
        before(&segments, recent_file)?;
        create::rename(&**disk, root)?;
        create::sync(&**disk, root)
    }

    /// Makes a seal true: segments, counters, sessions and the place in the log change
    /// together or not at all. Files of others that came to nothing may be there.
    pub(crate) fn commit_seal(
        &self,
        commit: &SealCommit<'_>,
        abandoned: &BTreeSet<SegmentId>,
    ) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut segments = transaction.open_table(SEGMENTS)?;
            let mut meta = transaction.open_table(META)?;
            let mut replaced = transaction.open_table(REPLACED)?;
            for id in abandoned {
                replaced.insert(id.0, ())?;
            }
            for summary in commit.segments {
                segments.insert(summary.id.0, encode_segment(summary).as_slice())?;
            }
            raise_next_segment(&mut meta, commit.segments, abandoned)?;
            meta.insert(FIRST_UNSEALED, commit.first_unsealed)?;
            if let Some(time) = commit.retention_clock {
                meta.insert(RETENTION_CLOCK, time.cast_unsigned())?;
            }
            match commit.recent_file {
                Some(file) => drop(meta.insert(RECENT_FILE, file)?),
                None => drop(meta.remove(RECENT_FILE)?),
            }
            if !commit.sessions.is_empty() {
                SessionTables::open(transaction)?.apply(commit.sessions)?;
            }
            let mut counters = transaction.open_table(COUNTERS)?;
            for ((month, team), rows) in commit.rows {
                let key = (month.number(), team.as_str());
                let before = counters.get(key)?.map_or(0, |count| count.value());
                if !is_planted!(LoseCounters) {
                    counters.insert(key, sum(before, *rows)?)?;
                }
            }
            Ok(())
        })
    }
}

/// The next segment's id lies above all that are kept or that came to nothing.
fn raise_next_segment<'a>(
    meta: &mut Table<'_, &'static str, u64>,
    segments: &'a [SegmentSummary],
    abandoned: impl IntoIterator<Item = &'a SegmentId>,
) -> Result<(), CallError> {
    let next = meta.get(NEXT_SEGMENT)?.map_or(1, |next| next.value());
    let ids = segments.iter().map(|summary| &summary.id);
    if let Some(last) = ids.chain(abandoned).map(|id| id.0).max()
        && last >= next
    {
        meta.insert(NEXT_SEGMENT, sum(last, 1)?)?;
    }
    Ok(())
}
