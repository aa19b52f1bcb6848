//! What an open store is made of, for the store and its teams.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Sender, bounded};
use spanstore_format::TeamId;
use spanstore_format::catalog::Erased;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::Error;
use crate::health::Health;
use crate::maintenance::compact::Compactor;
use crate::maintenance::seal::{Request, SealReport};
use crate::maintenance::threads::Threads;
use crate::options::StoreOptions;
use crate::quota::Quota;
use crate::recent::RecentFiles;
use crate::recovery::Following;
use crate::registry::Registry;
use crate::retention::RetentionClock;
use crate::segments::Segments;
use crate::settings::Settings;
use crate::view::View;
use crate::write::message::{Control, Forgotten};
use crate::write::queue::Queue;

/// The parts of an open store. The last one who lets go of them closes it.
pub(crate) struct Parts {
    pub(crate) options: Arc<StoreOptions>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) root: PathBuf,
    /// Seed of the hashes that tell equal spans.
    pub(crate) seed: u64,
    /// Seed of the hashes that tell equal batches; the catalog keeps it.
    pub(crate) content_seed: u64,
    /// What signs cursors; the catalog keeps it.
    #[cfg(feature = "query")]
    pub(crate) cursor_key: [u64; 2],
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) health: Arc<Health>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) retention: Arc<RetentionClock>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) view: Arc<View>,
    pub(crate) recent_files: Arc<RecentFiles>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) queue: Queue,
    pub(crate) writer: Sender<Control>,
    pub(crate) sealer: Sender<Request>,
    pub(crate) compactor: Arc<Compactor>,
    pub(crate) threads: Threads,
    /// Of a store that is read alone.
    pub(crate) following: Option<Mutex<Following>>,
    #[cfg(feature = "query")]
    pub(crate) queries: crate::query::Engine,
}

/// Its directory: what else it is made of fills pages.
impl fmt::Debug for Parts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Store");
        out.field("root", &self.root).finish_non_exhaustive()
    }
}

impl Parts {
    /// Seals what is in memory.
    pub(crate) fn seal(&self) -> Result<SealReport, Error> {
        self.ask(&self.sealer, Request::Seal)?
    }

    /// Hides rows until they are erased: all that were appended so far.
    pub(crate) fn forget(&self, rows: Vec<(TeamId, Erased)>) -> Result<(), Error> {
        let mut rows_of = rows.iter();
        if rows_of.any(|(team, what)| self.view.has_unsealed(team, what)) {
            self.seal()?;
        }
        let forgotten = forgotten(&rows);
        // Before anything is hidden: a body that is sent again must not be taken
        // for one whose spans are there.
        self.segments.forget(&self.settings, rows, || {
            self.ask_writer(|reply| Control::Forget(forgotten, reply))?
        })
    }

    /// Asks the writer something, and waits for the answer.
    pub(crate) fn ask_writer<T>(
        &self,
        message: impl FnOnce(Sender<T>) -> Control,
    ) -> Result<T, Error> {
        self.ask(&self.writer, message)
    }

    fn ask<M, T>(
        &self,
        thread: &Sender<M>,
        message: impl FnOnce(Sender<T>) -> M,
    ) -> Result<T, Error> {
        let (reply, answer) = bounded(1);
        thread.send(message(reply)).map_err(|_| self.no_answer())?;
        answer.recv().map_err(|_| self.no_answer())
    }

    /// Why a thread does not answer: it has died, or the store is closed.
    pub(crate) fn no_answer(&self) -> Error {
        self.health.check().err().unwrap_or(Error::Closed)
    }

    /// Writes what is queued and ends the threads. Settings and appends answer
    /// [`Error::Closed`] from now on.
    pub(crate) fn stop(&self) {
        self.queue.close();
        self.compactor.stop();
        // Each hangs up on the next, which has nothing to wait for then.
        drop(self.sealer.send(Request::Stop));
        self.threads.join_maintenance();
        drop(self.writer.send(Control::Stop));
        self.threads.join_writer();
        self.health.close();
    }
}

/// What is to be known no more of the teams of some rows.
fn forgotten(rows: &[(TeamId, Erased)]) -> Vec<Forgotten> {
    let mut teams: BTreeMap<&TeamId, Forgotten> = BTreeMap::new();
    for (team, what) in rows {
        let of_team = teams.entry(team).or_insert_with(|| Forgotten {
            team: team.clone(),
            is_whole: false,
            sessions: Vec::new(),
        });
        match what {
            Erased::Team => of_team.is_whole = true,
            Erased::Session(id) => of_team.sessions.push(id.clone()),
            Erased::Trace(_) => {}
        }
    }
    teams.into_values().collect()
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.stop();
    }
}
