//! The set of segments: which there are, by the catalog and for readers, and
//! what of them is to be erased.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spanstore_format::catalog::{Erased, Erasure};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::{Month, SegmentId, TeamId};

use crate::catalog::{Catalog, RewriteCommit, SealCommit};
use crate::error::Error;
use crate::health::Health;
use crate::io::Disk;
use crate::removal::Removals;
use crate::segment::{self, Segment, SegmentCache};
use crate::settings::Settings;
use crate::view::{Erasures, View};

/// The segments of a store. Each change is committed to the catalog first and
/// shown to readers then.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) cache: Arc<SegmentCache>,
    pub(crate) removals: Arc<Removals>,
    catalog: Arc<Catalog>,
    view: Arc<View>,
    health: Arc<Health>,
    /// Held while rewritten segments take the place of others, while ids are
    /// taken for them, while it is named what is to be erased or how long spans
    /// are kept, and while a backup is made.
    rewrite: Mutex<()>,
    next_id: AtomicU64,
    /// Segments that came to nothing and that the catalog has not noted as such.
    abandoned: Mutex<BTreeSet<SegmentId>>,
}

impl Segments {
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        root: &Path,
        cache: Arc<SegmentCache>,
        removals: Arc<Removals>,
        catalog: &Arc<Catalog>,
        view: &Arc<View>,
        health: &Arc<Health>,
    ) -> Result<Self, Error> {
        Ok(Self {
            disk: Arc::clone(disk),
            root: root.to_path_buf(),
            cache,
            removals,
            next_id: AtomicU64::new(catalog.next_segment()?.0),
            catalog: Arc::clone(catalog),
            view: Arc::clone(view),
            health: Arc::clone(health),
            rewrite: Mutex::default(),
            abandoned: Mutex::default(),
        })
    }

    /// Keeps the set of segments, and of what is to be erased, from changing in
    /// any way but by seals.
    pub(crate) fn rewrite(&self) -> MutexGuard<'_, ()> {
        self.rewrite.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id that no segment has.
    pub(crate) fn next_id(&self) -> SegmentId {
        SegmentId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The first sequence of the log that is not sealed.
    pub(crate) fn first_unsealed(&self) -> Result<u64, Error> {
        self.catalog.first_unsealed()
    }

    /// The segment of a summary.
    pub(crate) fn open(&self, summary: SegmentSummary) -> Arc<Segment> {
        Arc::new(Segment::new(
            &self.disk,
            &self.root,
            &self.cache,
            &self.removals,
            summary,
        ))
    }

    /// Makes the segments of a seal part of the store, in place of the rows in
    /// memory that they hold.
    pub(crate) fn add_sealed(&self, commit: &SealCommit<'_>) -> Result<(), Error> {
        self.commit(|abandoned| self.catalog.commit_seal(commit, abandoned))?;
        let opened = commit.segments.iter().map(|one| self.open(one.clone()));
        self.view.end_seal(opened.collect::<Vec<_>>());
        Ok(())
    }

    /// Removes the files of segments that came to nothing, as far as they were
    /// written. A file that comes back with a power cut is known as a stray after
    /// the next commit.
    pub(crate) fn abandon(&self, month: Month, ids: &[SegmentId]) {
        // The catalog may name them, or not: opening tells.
        if self.health.is_poisoned() {
            return;
        }
        for id in ids {
            self.removals
                .remove(&segment::path_of(&self.root, month, *id));
        }
        self.abandoned().extend(ids);
    }

    fn abandoned(&self) -> MutexGuard<'_, BTreeSet<SegmentId>> {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a commit that notes the segments that came to nothing.
    fn commit(
        &self,
        commit: impl FnOnce(&BTreeSet<SegmentId>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let abandoned = self.abandoned().clone();
        self.health.committed(commit(&abandoned))?;
        self.abandoned().retain(|id| !abandoned.contains(id));
        Ok(())
    }

    /// Puts new segments in the place of others. The caller holds
    /// [`Segments::rewrite`].
    pub(crate) fn replace(
        &self,
        old: &[Arc<Segment>],
        new: Vec<Arc<Segment>>,
        commit: &RewriteCommit<'_>,
    ) -> Result<(), Error> {
        self.commit(|abandoned| self.catalog.commit_rewrite(commit, abandoned))?;
        self.view.replace(old, new);
        Ok(())
    }

    /// Takes ids for so many new segments, and answers the first of them and
    /// what is to be erased by now. What is named later is to be erased in these
    /// segments too, so they may hold it.
    pub(crate) fn reserve(&self, count: u64) -> (SegmentId, Arc<Erasures>) {
        // Nothing is being named meanwhile.
        let _rewrite = self.rewrite();
        let first = self.next_id.fetch_add(count, Ordering::Relaxed);
        (SegmentId(first), self.view.sealed().1)
    }

    /// Hides rows that are sealed by now, until they are erased: all in one
    /// transaction. With a whole team goes what is set for it. Before that
    /// `forget_appends` ends what is remembered of the appends of these rows: an
    /// append that is remembered after that is of rows that stay.
    pub(crate) fn forget(
        &self,
        settings: &Settings,
        rows: impl IntoIterator<Item = (TeamId, Erased)>,
        forget_appends: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _rewrite = self.rewrite();
        self.health.check()?;
        let before = SegmentId(self.next_id.load(Ordering::Relaxed));
        let named = self.view.sealed().1;
        let known: HashSet<&Erasure> = named.all().collect();
        let mut new: Vec<Erasure> = rows
            .into_iter()
            .map(|(team, what)| Erasure { team, what, before })
            .collect();
        // Something may have been set for a team since its rows were named.
        let teams = whole_teams(&new);
        new.retain(|erasure| !known.contains(erasure));
        let mut seen = HashSet::new();
        new.retain(|erasure| seen.insert(erasure.clone()));
        forget_appends()?;
        if new.is_empty() && teams.is_empty() {
            return Ok(());
        }
        let commit = || {
            self.health
                .committed(self.catalog.add_erasures(&new, &teams))
        };
        if teams.is_empty() {
            commit()?;
        } else {
            settings.forget_teams(&teams, commit)?;
        }
        let all = named.all().cloned().chain(new);
        self.view.set_erasures(Erasures::new(all));
        Ok(())
    }

    /// Notes that all rows of some erasures are gone, and leaves no trace of
    /// them, nor of teams that were erased, in the catalog. The caller holds
    /// [`Segments::rewrite`].
    pub(crate) fn finish_erasures(&self, done: &Erasures) -> Result<(), Error> {
        let done: HashSet<Erasure> = done.all().cloned().collect();
        if !done.is_empty() {
            self.empty_quarantine()?;
        }
        let finished = self.catalog.finish_erasures(&done, &whole_teams(&done));
        self.health.committed(finished)?;
        let named = self.view.sealed().1;
        let left = named.all().filter(|erasure| !done.contains(erasure));
        self.view.set_erasures(Erasures::new(left.cloned()));
        let unsure = |error: &Error| self.health.poison(&error.to_string());
        let rewritten = self.catalog.rewrite(&self.disk, &self.root, unsure);
        self.health.committed(rewritten)
    }

    /// Removes what a repair could not read: it may hold what is to be erased.
    fn empty_quarantine(&self) -> Result<(), Error> {
        let directory = segment::quarantine(&self.root);
        let entries = match self.disk.list(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|error| Error::io("list", &directory, error))?,
        };
        for entry in entries {
            let path = directory.join(entry.name);
            self.disk
                .remove_file(&path)
                .map_err(|error| Error::io("remove", &path, error))?;
        }
        self.disk
            .sync_dir(&directory)
            .map_err(|error| Error::io("sync", &directory, error))
    }
}

/// The teams of which all rows are meant.
fn whole_teams<'a>(erasures: impl IntoIterator<Item = &'a Erasure>) -> HashSet<TeamId> {
    let whole = erasures.into_iter().filter(|one| one.what == Erased::Team);
    whole.map(|one| one.team.clone()).collect()
}
