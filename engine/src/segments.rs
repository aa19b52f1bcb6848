//! The set of segments: which there are, by the catalog and for readers, and
//! what of them is to be erased.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spanstore_format::catalog::{Erased, Erasure};
use spanstore_format::segment::SegmentSummary;
use spanstore_format::{SegmentId, TeamId};

use crate::catalog::{Catalog, RewriteCommit, SealCommit};
use crate::error::Error;
use crate::health::Health;
use crate::io::Disk;
use crate::segment::{Segment, SegmentCache};
use crate::settings::Settings;
use crate::view::{Erasures, View};

/// The segments of a store. Each change is committed to the catalog first and
/// shown to readers then.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) cache: Arc<SegmentCache>,
    catalog: Arc<Catalog>,
    view: Arc<View>,
    health: Arc<Health>,
    /// Held while rewritten segments take the place of others, while it is
    /// named what is to be erased or how long spans are kept, and while a backup
    /// is made.
    rewrite: Mutex<()>,
    next_id: AtomicU64,
}

impl Segments {
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        root: &Path,
        cache: Arc<SegmentCache>,
        catalog: &Arc<Catalog>,
        view: &Arc<View>,
        health: &Arc<Health>,
    ) -> Result<Self, Error> {
        Ok(Self {
            disk: Arc::clone(disk),
            root: root.to_path_buf(),
            cache,
            next_id: AtomicU64::new(catalog.next_segment()?.0),
            catalog: Arc::clone(catalog),
            view: Arc::clone(view),
            health: Arc::clone(health),
            rewrite: Mutex::default(),
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

    /// The segment of a summary.
    pub(crate) fn open(&self, summary: SegmentSummary) -> Arc<Segment> {
        Arc::new(Segment::new(&self.disk, &self.root, &self.cache, summary))
    }

    /// Makes the segments of a seal part of the store, in place of the rows in
    /// memory that they hold.
    pub(crate) fn add_sealed(&self, commit: &SealCommit<'_>) -> Result<(), Error> {
        // Whether a transaction that failed is on disk is not known; opening tells.
        self.catalog
            .commit_seal(commit)
            .inspect_err(|error| self.health.poison(&error.to_string()))?;
        let opened = commit.segments.iter().map(|one| self.open(one.clone()));
        self.view.end_seal(opened.collect::<Vec<_>>());
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
        self.catalog
            .commit_rewrite(commit)
            .inspect_err(|error| self.health.poison(&error.to_string()))?;
        self.view.replace(old, new);
        Ok(())
    }

    /// Hides rows of a team that are sealed by now, until they are erased. With
    /// a whole team goes what is set for it.
    pub(crate) fn forget(
        &self,
        settings: &Settings,
        team: &TeamId,
        what: Erased,
    ) -> Result<(), Error> {
        let _rewrite = self.rewrite();
        let erasure = Erasure {
            team: team.clone(),
            what,
            before: SegmentId(self.next_id.load(Ordering::Relaxed)),
        };
        let commit = || self.catalog.add_erasure(&erasure);
        if erasure.what == Erased::Team {
            settings.forget_teams(std::slice::from_ref(team), commit)?;
        } else {
            commit()?;
        }
        let all = self.catalog.erasures()?;
        self.view.set_erasures(Erasures::new(all));
        Ok(())
    }

    /// Notes that everything that was to be erased is, and leaves no trace of
    /// it, nor of these teams, in the catalog. The caller holds
    /// [`Segments::rewrite`].
    pub(crate) fn finish_erasures(&self, teams: &[TeamId]) -> Result<(), Error> {
        self.catalog.finish_erasures(teams)?;
        self.view.set_erasures(Erasures::default());
        let unsure = |error: &Error| self.health.poison(&error.to_string());
        self.catalog.rewrite(&self.disk, &self.root, unsure)
    }
}
