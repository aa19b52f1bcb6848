//! A store: opens and closes, and hands out teams.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use spanstore_format::segment::{SegmentLayout, SegmentSummary};
use spanstore_format::{SegmentId, TeamId};

use crate::backup;
use crate::check::{self, CheckReport};
use crate::clock::{Clock, SystemClock};
use crate::compact::{CompactReport, Compactor};
use crate::error::Error;
use crate::io::{Disk, RealDisk};
use crate::options::StoreOptions;
use crate::recovery::{Recovery, recover};
use crate::seal::{Request, SealReport, Sealer};
use crate::team::Team;
use crate::write::message::{Control, Job};
use crate::write::shared::Shared;
use crate::write::writer::Writer;

/// An open store. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// What the store and its teams share.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Seed of the hashes that tell equal spans.
    pub(crate) seed: u64,
    #[cfg(feature = "query")]
    pub(crate) queries: crate::query::Engine,
    root: PathBuf,
    disk: Arc<dyn Disk>,
    recovered: RecoveryReport,
    threads: Mutex<Option<Threads>>,
    jobs: Mutex<Option<Sender<Job>>>,
    control: Sender<Control>,
    seals: Sender<Request>,
    compactor: Arc<Compactor>,
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Its directory: what else it is made of fills pages.
impl fmt::Debug for Inner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Store");
        out.field("root", &self.root).finish_non_exhaustive()
    }
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
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<()>,
    sealer: JoinHandle<()>,
    compactor: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the store in a directory, or makes one there.
    ///
    /// Takes time in proportion to what is not sealed yet. The store is this
    /// process's own until the last handle is gone.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open elsewhere, [`Error::NotFound`] when
    /// there is none and the options forbid making one, [`Error::Corrupt`] when
    /// the log or the catalog is damaged or of a newer version, [`Error::Io`].
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
        let seed = random_seed();
        #[cfg(feature = "query")]
        let queries = crate::query::Engine::new(&options.query_limits)?;
        let Recovery {
            shared,
            log,
            admission,
            receipts,
            recovered,
        } = recover(&disk, &root, options, seed)?;
        let shared = Arc::new(shared);
        let (jobs, job_queue) = bounded(shared.options.queue_batches.max(1));
        let (control, control_queue) = unbounded();
        let (seals, seal_queue) = unbounded();
        let writer = Writer::new(Arc::clone(&shared), log, admission, receipts, seals.clone());
        let (sealed, compactions) = bounded(1);
        let compactor = Arc::new(Compactor::new(
            Arc::clone(&disk),
            root.clone(),
            Arc::clone(&shared),
            Arc::clone(&clock),
        ));
        let background = shared
            .options
            .background_compaction
            .then(|| (Arc::clone(&compactor), compactions));
        let sealer = Sealer {
            disk: Arc::clone(&disk),
            root: root.clone(),
            shared: Arc::clone(&shared),
            writer: control.clone(),
            compactor: sealed,
            unfinished: None,
        };
        let threads = spawn(
            (writer, job_queue, control_queue),
            (sealer, seal_queue),
            background,
        )
        .map_err(|error| Error::io("start threads of", &root, error))?;
        Ok(Self(Arc::new(Inner {
            shared,
            clock,
            seed,
            #[cfg(feature = "query")]
            queries,
            root,
            disk,
            recovered: RecoveryReport {
                log_records: recovered.records,
                log_bytes: recovered.bytes,
                torn_bytes: recovered.torn_bytes,
            },
            threads: Mutex::new(Some(threads)),
            jobs: Mutex::new(Some(jobs)),
            control,
            seals,
            compactor,
        })))
    }

    /// A team's handle. Teams need no making: one without spans has none.
    pub fn team(&self, id: &TeamId) -> Team {
        Team {
            store: Arc::clone(&self.0),
            id: id.clone(),
        }
    }

    /// What opening found in the log.
    pub fn recovered(&self) -> RecoveryReport {
        self.0.recovered
    }

    /// Writes all rows that are in memory into segments and lets go of their
    /// part of the log.
    ///
    /// # Errors
    /// [`Error::Io`] when a segment cannot be written: the rows then stay in
    /// memory and in the log, and the next seal tries again.
    /// [`Error::Poisoned`] and [`Error::Closed`].
    pub fn seal(&self) -> Result<SealReport, Error> {
        self.0.seal()
    }

    /// Merges the segments of each month into as few as there can be, and drops
    /// what retention has let go. Appends and reads go on meanwhile. The
    /// background thread does less, and unasked: see
    /// [`StoreOptions::background_compaction`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a segment is damaged: it stays as it is.
    /// [`Error::Io`], and [`Error::Closed`] when the store is closed meanwhile.
    pub fn compact(&self) -> Result<CompactReport, Error> {
        self.0.compactor.compact_all()
    }

    /// Erases what was forgotten ([`Team::forget`] and its kin): afterwards no
    /// file of the store holds it, as soon as readers that began before are
    /// done. Also seals what is in memory, as the log holds it too.
    ///
    /// # Errors
    /// As [`Store::seal`] and [`Store::compact`]; what could be erased is, and
    /// the rest is tried again by the next call.
    pub fn erase(&self) -> Result<CompactReport, Error> {
        self.seal()?;
        // The writer lets go of the sealed log before it answers this.
        self.flush()?;
        self.0.compactor.erase()
    }

    /// Sets how long spans are kept, counted from their start, in teams that
    /// have nothing else set; none for ever. Durable when it returns. Older
    /// spans are not found from now on. They are found again when the time is
    /// set longer, unless a compaction has dropped them: it drops whole months
    /// that lie beyond.
    ///
    /// # Errors
    /// [`Error::Catalog`] when the catalog cannot be written.
    pub fn set_retention(&self, kept: Option<Duration>) -> Result<(), Error> {
        self.0.shared.set_retention(kept.map(nanos))
    }

    /// Makes a copy of the store in an empty directory, as it is now, while it
    /// is written to: everything that was acknowledged before the call is in it,
    /// and it opens as a store. Segments are linked where the file system can.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when the directory has something in it, and as
    /// [`Store::seal`].
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.seal()?;
        let inner = &*self.0;
        backup::backup(&inner.shared, &inner.disk, &inner.root, path.as_ref())
    }

    /// The segments of the store, by month.
    pub fn segments(&self) -> Vec<SegmentSummary> {
        let (segments, _) = self.0.shared.view.sealed();
        let mut segments: Vec<_> = segments.iter().map(|one| one.summary().clone()).collect();
        segments.sort_unstable_by_key(|one| (one.month, one.id));
        segments
    }

    /// What a segment is made of; none when there is no such segment.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is damaged.
    pub fn inspect(&self, id: SegmentId) -> Result<Option<SegmentLayout>, Error> {
        let (segments, _) = self.0.shared.view.sealed();
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
        let (reply, answer) = bounded(1);
        self.0
            .control
            .send(Control::Flush(reply))
            .map_err(|_| Error::Closed)?;
        answer.recv().map_err(|_| Error::Closed)?
    }

    /// Reads every sealed byte, verifies every checksum and every count, and
    /// names what is wrong.
    ///
    /// # Errors
    /// [`Error::Catalog`] when the catalog cannot be read.
    pub fn check(&self) -> Result<CheckReport, Error> {
        check::check(&self.0.shared, &self.0.disk, &self.0.root)
    }

    /// Closes the store: what is queued is written and synced first. Other
    /// handles answer [`Error::Closed`] from now on, except for reads.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when something could not be written.
    pub fn close(self) -> Result<(), Error> {
        self.0.stop();
        self.0.shared.check_poison()
    }
}

impl Inner {
    /// Seals what is in memory.
    pub(crate) fn seal(&self) -> Result<SealReport, Error> {
        let (reply, answer) = bounded(1);
        self.seals
            .send(Request::Now(reply))
            .map_err(|_| Error::Closed)?;
        answer.recv().map_err(|_| Error::Closed)?
    }

    /// The queue of the writer.
    pub(crate) fn jobs(&self) -> Result<Sender<Job>, Error> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.clone().ok_or(Error::Closed)
    }

    /// Ends both threads; the sealer first, as it talks to the writer.
    fn stop(&self) {
        drop(
            self.jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(threads) = threads else { return };
        self.compactor.stop();
        drop(self.seals.send(Request::Stop));
        if threads.sealer.join().is_err() {
            self.shared.poison("the sealing thread panicked");
        }
        // The sealer's end has hung up on it.
        if threads
            .compactor
            .is_some_and(|thread| thread.join().is_err())
        {
            self.shared.poison("the compacting thread panicked");
        }
        drop(self.control.send(Control::Stop));
        if threads.writer.join().is_err() {
            self.shared.poison("the writing thread panicked");
        }
        self.shared.space.notify_waiters();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A duration in ns; what exceeds 584 years counts as that.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn spawn(
    (writer, jobs, control): (Writer, Receiver<Job>, Receiver<Control>),
    (sealer, seals): (Sealer, Receiver<Request>),
    compactor: Option<(Arc<Compactor>, Receiver<()>)>,
) -> std::io::Result<Threads> {
    let writer = std::thread::Builder::new()
        .name("spanstore-writer".into())
        .spawn(move || writer.run(&jobs, &control))?;
    let sealer = std::thread::Builder::new()
        .name("spanstore-sealer".into())
        .spawn(move || sealer.run(&seals))?;
    let compactor = compactor
        .map(|(compactor, seals)| {
            std::thread::Builder::new()
                .name("spanstore-compactor".into())
                .spawn(move || compactor.run(&seals))
        })
        .transpose()?;
    Ok(Threads {
        writer,
        sealer,
        compactor,
    })
}

/// A number that nobody outside can guess.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one("spanstore")
}
