//! A store: opens and closes, and hands out teams.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use spanstore_format::catalog::Erased;
use spanstore_format::segment::{SegmentLayout, SegmentSummary};
use spanstore_format::{SegmentId, TeamId};

use crate::backup;
use crate::check::{self, CheckReport};
use crate::clock::{Clock, SystemClock, nanos};
use crate::error::Error;
use crate::health::{HealthReport, Task};
use crate::io::{Disk, RealDisk};
use crate::maintenance::compact::{self, CompactReport, Compactor};
use crate::maintenance::gather;
use crate::maintenance::seal::{SealReport, Sealer};
use crate::maintenance::threads::Threads;
use crate::maintenance::{MaintenanceReport, without_panic};
use crate::options::StoreOptions;
use crate::parts::Parts;
use crate::recovery::{Following, Recovery, recover, recover_copy};
use crate::team::Team;
use crate::write::message::Control;
use crate::write::queue::Queue;
use crate::write::writer::{self, Writer};

/// An open store. Clones share it; the last one closes it.
#[derive(Debug, Clone)]
pub struct Store {
    parts: Arc<Parts>,
    recovered: RecoveryReport,
}

/// What opening found in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records replayed.
    pub log_records: u64,
    /// Bytes replayed.
    pub log_bytes: u64,
    /// Bytes of an append that a crash cut off before it was acknowledged.
    pub torn_bytes: u64,
    /// Whether the file of recent appends was damaged. No span is lost by that;
    /// but of the appends before the last seal, one that is sent again is stored
    /// again, also with the same idempotency key.
    pub has_forgotten_appends: bool,
    /// Whether the catalog knew where the log ends: the store was closed, or nothing was
    /// appended for a second. Beside a process that writes, a store that is read alone finds it
    /// so or not; where it is not so, there may be more by now.
    pub is_settled: bool,
}

impl Store {
    /// Opens the store in a directory, or makes one there.
    ///
    /// Takes time in proportion to what is not sealed yet. The store is this
    /// process's own until the last handle is gone, unless it is opened to be read alone
    /// ([`StoreOptions::read_only`]).
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open elsewhere, [`Error::NotFound`] when
    /// there is none and the options forbid making one; [`Error::CatalogMissing`],
    /// [`Error::CatalogDamaged`], [`Error::CatalogOlder`] and
    /// [`Error::UnknownSegment`], which touch nothing and say what to do;
    /// [`Error::Corrupt`] when the log is damaged, or a file is of a newer version
    /// (a damaged log needs [`repair`](crate::repair())); [`Error::NoSpace`] when a
    /// full disk has no room for what opening writes; [`Error::Changing`] of a store that is
    /// read alone; [`Error::Io`].
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, Error> {
        Self::open_on(Arc::new(RealDisk), path, options, Arc::new(SystemClock))
    }

    /// Opens a store on a disk and with a clock of the caller's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        path: impl AsRef<Path>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let root = path.as_ref().to_path_buf();
        let options = Arc::new(options);
        let seed = disk.random_number();
        #[cfg(feature = "query")]
        let queries = crate::query::Engine::new(&options.query_limits)?;
        let recover = if options.read_only {
            recover_copy
        } else {
            recover
        };
        let Recovery {
            catalog,
            view,
            health,
            settings,
            retention,
            quota,
            segments,
            log,
            replay,
            recent,
            recent_files,
            registry,
            recovered,
            has_forgotten_appends,
            is_settled,
            follower,
        } = recover(&disk, &root, &options, seed, &clock)?;
        let (queue, jobs) = Queue::new(options.queue_bytes);
        let (writer, control) = unbounded();
        let (sealer, seal_requests) = unbounded();
        let (seals, seals_due) = bounded(1);
        let (sealed, compactions_due) = bounded(1);
        let (gatherer, gathers_due) = bounded(1);
        let tools = writer::Tools {
            options: Arc::clone(&options),
            catalog: Arc::clone(&catalog),
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            settings: Arc::clone(&settings),
            quota: Arc::clone(&quota),
            view: Arc::clone(&view),
            recent: Arc::clone(&recent),
            registry: Arc::clone(&registry),
            seals,
            gatherer,
        };
        let sealing = Sealer {
            segments: Arc::clone(&segments),
            recent,
            recent_files: Arc::clone(&recent_files),
            registry: Arc::clone(&registry),
            health: Arc::clone(&health),
            clock: Arc::clone(&clock),
            retention: Arc::clone(&retention),
            is_background: options.background,
            writer: writer.clone(),
            compactor: sealed,
            unfinished: None,
        };
        let compactor = Arc::new(Compactor::new(compact::Tools {
            options: Arc::clone(&options),
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            settings: Arc::clone(&settings),
            retention: Arc::clone(&retention),
            segments: Arc::clone(&segments),
            view: Arc::clone(&view),
            registry: Arc::clone(&registry),
        }));
        let threads = Threads::new(&health);
        let failed = |error| Error::io("start a thread for", &root, error);
        let following = if let Some(follower) = follower {
            let following = Following::new(&disk, &clock, follower, replay);
            Some(Mutex::new(following))
        } else {
            let writing = Writer::new(tools, log, replay.admission);
            threads
                .start_writer(move || writing.run(&jobs, &control))
                .map_err(failed)?;
            threads
                .start("spanstore-sealer", move || {
                    sealing.run(&seal_requests, &seals_due);
                })
                .map_err(failed)?;
            if options.background {
                let (gathered, gathering) = (Arc::clone(&view), Arc::clone(&health));
                threads
                    .start_with_writer("spanstore-gatherer", move || {
                        gather::run(&gathered, &gathering, &gathers_due);
                    })
                    .map_err(failed)?;
                let compacting = Arc::clone(&compactor);
                threads
                    .start("spanstore-compactor", move || {
                        compacting.run(&compactions_due);
                    })
                    .map_err(failed)?;
            }
            None
        };
        Ok(Self {
            parts: Arc::new(Parts {
                options,
                clock,
                root,
                seed,
                content_seed: catalog.content_seed()?,
                #[cfg(feature = "query")]
                cursor_key: catalog.cursor_key()?,
                catalog,
                health,
                settings,
                retention,
                quota,
                segments,
                view,
                recent_files,
                registry,
                queue,
                writer,
                sealer,
                compactor,
                threads,
                following,
                #[cfg(feature = "query")]
                queries,
            }),
            recovered: RecoveryReport {
                log_records: recovered.records,
                log_bytes: recovered.bytes,
                torn_bytes: recovered.torn_bytes,
                has_forgotten_appends,
                is_settled,
            },
        })
    }

    /// A team's handle. Teams need no making: one without spans has none.
    pub fn team(&self, id: &TeamId) -> Team {
        Team {
            parts: Arc::clone(&self.parts),
            id: id.clone(),
            meter: None,
        }
    }

    /// The teams that have or had spans, or for which something is set, by name. A team that was
    /// forgotten is among them until it is erased. Reads a number for each team and month.
    ///
    /// # Errors
    /// [`Error::CatalogDamaged`], [`Error::Io`] when the catalog cannot be read.
    pub fn teams(&self) -> Result<BTreeSet<TeamId>, Error> {
        let parts = &*self.parts;
        // Rows that are sealed meanwhile are in the one or in the other.
        let unsealed = parts.view.unsealed_teams();
        let mut teams = parts.catalog.teams()?;
        teams.extend(unsealed);
        teams.extend(parts.settings.teams());
        Ok(teams)
    }

    /// Whether a team is among [`Store::teams`].
    ///
    /// # Errors
    /// As [`Store::teams`].
    pub fn has_team(&self, team: &TeamId) -> Result<bool, Error> {
        let parts = &*self.parts;
        let is_here =
            parts.view.unsealed_teams().contains(team) || parts.settings.teams().contains(team);
        Ok(is_here || parts.catalog.has_team(team)?)
    }

    /// What opening found in the log.
    pub fn recovered(&self) -> RecoveryReport {
        self.recovered
    }

    /// Shows what another process has appended since to a store that is read alone
    /// ([`StoreOptions::read_only`]), and wakes its tails and those who wait for a trace. Takes time in
    /// proportion to what is new. Answers whether more can be seen in this way: if not, the other
    /// process has sealed spans or taken back an append, and the store is to be opened again,
    /// where tails and pages go on with their cursors. What was forgotten or set since is seen
    /// then too, and memory of what is sealed is free again.
    ///
    /// Any other store shows all by itself.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`]: what was read before stays.
    pub fn refresh(&self) -> Result<bool, Error> {
        let Some(following) = &self.parts.following else {
            return Ok(true);
        };
        let read = following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read();
        gather::gather(&self.parts.view)?;
        read
    }

    /// Whether writes are taken, and what fails in the background.
    pub fn health(&self) -> HealthReport {
        let parts = &*self.parts;
        HealthReport {
            remaining_files: parts.segments.removals.remaining(),
            clock_leap: parts.retention.leap(),
            merge_debt: parts.view.merge_debt(),
            ..parts.health.report()
        }
    }

    /// Does now, on this thread and those of the store, whatever is due: puts small batches
    /// together, syncs, notes how far the log reaches, seals, merges, removing what retention has
    /// let go. Merges of a month that failed are due again after a while. A store
    /// does all that by itself unless [`StoreOptions::background`] is off.
    ///
    /// # Errors
    /// As [`Store::seal`] and [`Store::compact`].
    pub fn maintain(&self) -> Result<MaintenanceReport, Error> {
        let mut report = MaintenanceReport::default();
        gather::gather(&self.parts.view)?;
        if self.parts.ask_writer(Control::Tick)? {
            report.sealed = self.seal()?;
        }
        report.compacted = self.parts.compactor.compact_due()?;
        Ok(report)
    }

    /// Writes all rows that are in memory into segments and lets go of their
    /// part of the log.
    ///
    /// # Errors
    /// [`Error::Io`] when a segment cannot be written: the rows then stay in
    /// memory and in the log, and the next seal tries again.
    /// [`Error::Poisoned`] and [`Error::Closed`].
    pub fn seal(&self) -> Result<SealReport, Error> {
        self.parts.seal()
    }

    /// Merges the segments of each month into as few as there can be, and drops
    /// what retention has let go. Appends and reads go on meanwhile. The
    /// background thread does less, and unasked: see
    /// [`StoreOptions::background`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a segment is damaged: it stays as it is.
    /// [`Error::Io`], and [`Error::Closed`] when the store is closed meanwhile.
    pub fn compact(&self) -> Result<CompactReport, Error> {
        self.parts.health.check()?;
        self.parts.compactor.compact_all()
    }

    /// Erases what was forgotten ([`Team::forget`] and its kin) when this is
    /// called: afterwards no file of the store holds it, as soon as readers that
    /// began before are done. What is forgotten meanwhile waits for the next
    /// call. Also seals what is in memory, as the log holds it too, and removes what
    /// a repair put into `quarantine`, which nobody can read for what it holds.
    ///
    /// # Errors
    /// [`Error::FilesRemain`] names files that could not be removed. Else as
    /// [`Store::seal`] and [`Store::compact`]. What could be erased is, and the
    /// rest is tried again by the next call.
    pub fn erase(&self) -> Result<CompactReport, Error> {
        let parts = &*self.parts;
        // Named before the seal: all segments that may be meant are committed
        // after it.
        let (_, named) = parts.view.sealed();
        let erased = without_panic("the erasure", || {
            parts.seal()?;
            let released = parts.ask_writer(Control::Release)?;
            let report = parts.compactor.erase(&named)?;
            released.map(|()| report)
        });
        let now = parts.clock.now_nanos();
        parts.health.note(Task::Erase, now, erased)
    }

    /// Forgets rows of any number of teams, as [`Team::forget`] and its kin do:
    /// with at most one seal and one transaction, the spans of all or of none.
    ///
    /// # Errors
    /// As [`Team::forget`].
    pub fn forget_many(
        &self,
        rows: impl IntoIterator<Item = (TeamId, Erased)>,
    ) -> Result<(), Error> {
        self.parts.forget(rows.into_iter().collect())
    }

    /// Sets how long spans are kept, counted from their start, in teams that
    /// have nothing else set; none for ever. Durable when it returns. Older
    /// spans are refused by appends and not found from now on, by the wall clock.
    /// They are found again when the time is set longer, as long as they are in
    /// a file.
    ///
    /// They leave the files when all of their month lies beyond retention: with
    /// the next merge of their segment or the next [`Store::compact`], and by
    /// itself once their month has lain beyond it for a day (see
    /// [`StoreOptions::background`]). Removal does not follow leaps of the wall clock: see
    /// [`Store::accept_clock`].
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. [`Error::CatalogDamaged`], [`Error::Poisoned`].
    pub fn set_retention(&self, kept: Option<Duration>) -> Result<(), Error> {
        let _rewrite = self.parts.segments.rewrite();
        self.parts.settings.set_retention(kept.map(nanos))
    }

    /// How long spans are kept in teams that have nothing else set; none for
    /// ever.
    pub fn retention(&self) -> Option<Duration> {
        let kept = self.parts.settings.retention(None);
        kept.map(Duration::from_nanos)
    }

    /// Lets retention remove by what the wall clock shows now. Durable when it
    /// returns.
    ///
    /// It removes by a time that is kept in the store. While the store is open
    /// that time does not follow leaps of the wall clock. When the store is
    /// opened, it follows if the wall clock has gone on by at most 31 days since
    /// the time was last kept; it is kept at each seal and once a day. After a
    /// longer leap nothing is removed until this is called, and
    /// [`Store::health`] says so.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. [`Error::CatalogDamaged`],
    /// [`Error::Poisoned`] and [`Error::Closed`].
    pub fn accept_clock(&self) -> Result<(), Error> {
        // A rewrite at its end has decided by the time before.
        let _rewrite = self.parts.segments.rewrite();
        self.parts.retention.accept()
    }

    /// Makes a copy of the store in an empty directory, as it is now, while it
    /// is written to: everything that was acknowledged before the call is in it,
    /// and it opens as a store. Segments are linked where the file system can: damage
    /// to the medium is then damage to both, so copy the backup to another one. Cursors of this
    /// store are refused by the copy, which goes on apart from it.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when the directory has something in it, and as
    /// [`Store::seal`].
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let Parts {
            segments,
            catalog,
            recent_files,
            ..
        } = &*self.parts;
        let seal = || self.seal().map(drop);
        backup::backup(segments, catalog, recent_files, seal, path.as_ref())
    }

    /// The segments of the store, by month.
    pub fn segments(&self) -> Vec<SegmentSummary> {
        let (segments, _) = self.parts.view.sealed();
        let mut segments: Vec<_> = segments.iter().map(|one| one.summary().clone()).collect();
        segments.sort_unstable_by_key(|one| (one.month, one.id));
        segments
    }

    /// What a segment is made of; none when there is no such segment.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is damaged.
    pub fn inspect(&self, id: SegmentId) -> Result<Option<SegmentLayout>, Error> {
        let (segments, _) = self.parts.view.sealed();
        let Some(segment) = segments.iter().find(|one| one.summary().id == id) else {
            return Ok(None);
        };
        let layout = segment.reader()?.layout();
        layout.map(Some).map_err(|error| segment.corrupt(error))
    }

    /// Makes everything appended so far as durable as
    /// [`Durability::Sync`](crate::Durability::Sync) does.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the sync failed, [`Error::Closed`].
    pub fn flush(&self) -> Result<(), Error> {
        self.parts.ask_writer(Control::Flush)?
    }

    /// Reads all segments, the log, the catalog and the file of recent appends,
    /// verifies every checksum and every count, and names what is wrong.
    ///
    /// # Errors
    /// [`Error::CatalogDamaged`], [`Error::Io`] when the catalog cannot be read;
    /// [`Error::ReadOnly`].
    pub fn check(&self) -> Result<CheckReport, Error> {
        // Its files may be replaced meanwhile by whoever has it open.
        if self.parts.following.is_some() {
            return Err(Error::ReadOnly);
        }
        let Parts {
            segments,
            catalog,
            recent_files,
            view,
            ..
        } = &*self.parts;
        check::check(segments, catalog, recent_files, view)
    }

    /// Closes the store: what is queued is written and synced first. Other
    /// handles answer [`Error::Closed`] from now on, except for reads. The store can
    /// be opened again when the last [`Team`], query and export of it is gone.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when something could not be written.
    pub fn close(self) -> Result<(), Error> {
        self.parts.stop();
        match self.parts.health.check() {
            Err(Error::Closed) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
