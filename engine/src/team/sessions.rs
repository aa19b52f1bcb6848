//! Sessions that people start and stop.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crossbeam_channel::bounded;
use spanstore_format::catalog::{Erased, SessionRecord};
use tokio::sync::oneshot;
use tokio::task::unconstrained;

use super::Team;
use crate::error::Error;
use crate::read::users;
use crate::registry::{NewSession, Session, SessionKind, is_kept};
use crate::write::message::{Job, Reply, SessionCommand, Work};
use crate::write::queue::Room;

impl Team {
    /// Starts a session: a person wants the requests of one browser traced until the session
    /// is stopped. Its id, made of 128 random bits, is what spans of these requests carry as
    /// `session_id`. It is as durable as the store's [`Durability`](crate::Durability) says
    /// when this returns.
    ///
    /// The registry keeps spans from nobody: they may carry an id that it does not know. Spans of
    /// local deployments are stored like others; their column `environment` tells them.
    ///
    /// # Errors
    /// [`Error::LocalDeployment`] for an environment other than `preview` and `production`;
    /// [`Error::TooLarge`] for a text of more than 1,024 bytes, and for the session after
    /// 100,000 of the team, stopped ones that retention has not removed included;
    /// [`Error::CatalogDamaged`]; those of the store as with [`Team::append`]. After
    /// [`Error::Poisoned`] the session may be there when the store is opened again; after the
    /// others nothing has changed.
    pub fn start_session(&self, new: NewSession) -> Result<Session, Error> {
        self.change_session(self.start(new, SessionKind::Session)?)
    }

    /// Like [`Team::start_session`], in any async runtime. When the future is dropped, the
    /// session may still be started.
    ///
    /// # Errors
    /// As [`Team::start_session`].
    pub async fn start_session_async(&self, new: NewSession) -> Result<Session, Error> {
        let start = self.start(new, SessionKind::Session)?;
        self.change_session_async(start).await
    }

    /// Starts a session of one page load. It is open until it is stopped too.
    ///
    /// # Errors
    /// As [`Team::start_session`].
    pub fn start_page_trace(&self, new: NewSession) -> Result<Session, Error> {
        self.change_session(self.start(new, SessionKind::PageTrace)?)
    }

    /// Like [`Team::start_page_trace`], in any async runtime.
    ///
    /// # Errors
    /// As [`Team::start_session`].
    pub async fn start_page_trace_async(&self, new: NewSession) -> Result<Session, Error> {
        let start = self.start(new, SessionKind::PageTrace)?;
        self.change_session_async(start).await
    }

    /// Stops a session, as durably as [`Team::start_session`] starts one. One that is stopped
    /// stays as it is. Spans that still come with its id are stored as before.
    ///
    /// # Errors
    /// [`Error::UnknownSession`], and as [`Team::start_session`].
    pub fn stop_session(&self, id: &str) -> Result<Session, Error> {
        self.change_session(SessionCommand::Stop(id.to_owned()))
    }

    /// Like [`Team::stop_session`], in any async runtime.
    ///
    /// # Errors
    /// As [`Team::stop_session`].
    pub async fn stop_session_async(&self, id: &str) -> Result<Session, Error> {
        let stop = SessionCommand::Stop(id.to_owned());
        self.change_session_async(stop).await
    }

    /// Stops a session, if it is open, and starts another one of the same user, browser and
    /// deployment, which knows it as its predecessor: both or neither.
    ///
    /// # Errors
    /// [`Error::UnknownSession`], and as [`Team::start_session`].
    pub fn restart_session(&self, id: &str) -> Result<Session, Error> {
        self.change_session(SessionCommand::Restart(id.to_owned(), self.new_id()))
    }

    /// Like [`Team::restart_session`], in any async runtime.
    ///
    /// # Errors
    /// As [`Team::restart_session`].
    pub async fn restart_session_async(&self, id: &str) -> Result<Session, Error> {
        let restart = SessionCommand::Restart(id.to_owned(), self.new_id());
        self.change_session_async(restart).await
    }

    /// A session of the registry; none when none was started with this id, or retention lets
    /// go of it. Open sessions stay; stopped ones go when spans would that start when they
    /// were stopped.
    ///
    /// # Errors
    /// [`Error::CatalogDamaged`], [`Error::Io`] when the catalog cannot be read.
    pub fn session(&self, id: &str) -> Result<Option<Session>, Error> {
        let known = self.parts.registry.session(&self.id, id)?;
        let known = known.filter(|session| self.is_kept(session));
        Ok(known.map(|session| Session::of_record(id.to_owned(), session)))
    }

    /// The open sessions of a user, those started last first.
    ///
    /// # Errors
    /// As [`Team::session`].
    pub fn active_sessions(&self, user: &str) -> Result<Vec<Session>, Error> {
        let mut sessions = self.sessions_of_user(user)?;
        sessions.retain(Session::is_open);
        Ok(sessions)
    }

    /// The sessions of a user, open and stopped ones, those started last first.
    ///
    /// # Errors
    /// As [`Team::session`].
    pub fn sessions_of_user(&self, user: &str) -> Result<Vec<Session>, Error> {
        let sessions = self.parts.registry.of_user(&self.id, user)?.into_iter();
        let kept = sessions.filter(|(_, session)| self.is_kept(session));
        let sessions = kept.map(|(id, session)| Session::of_record(id, session));
        let mut sessions: Vec<Session> = sessions.collect();
        sessions.sort_by_key(|session| Reverse(session.started_nanos));
        Ok(sessions)
    }

    /// All sessions of the registry that retention has not let go of, by id.
    #[cfg(feature = "query")]
    pub(super) fn registered_sessions(&self) -> Result<crate::query::Registered, Error> {
        let mut all = self.parts.registry.of_team(&self.id)?;
        let horizon = self.horizon();
        all.retain(|_, session| is_kept(session, horizon));
        Ok(all)
    }

    /// Forgets a user: all sessions that the user started, all spans of these and of the
    /// sessions whose spans carry the user's id (`user_id`), and all spans of each trace with
    /// such a span, as [`Team::forget`] does with the team's. All spans of the team are looked
    /// at for it.
    ///
    /// # Errors
    /// As [`Team::forget`]; [`Error::Corrupt`] when rows are damaged: nothing is forgotten.
    pub fn forget_user(&self, user: &str) -> Result<(), Error> {
        self.forget_many(self.rows_of_user(user)?)
    }

    /// What [`Team::forget_user`] forgets, for a caller that asks somebody first: each trace,
    /// and each session.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when rows are damaged; [`Error::CatalogDamaged`].
    pub fn rows_of_user(&self, user: &str) -> Result<Vec<Erased>, Error> {
        let started = self.parts.registry.of_user(&self.id, user)?;
        let mut sessions: BTreeSet<String> = started.into_keys().collect();
        // What retention hides is to go too.
        let snapshot = self.parts.view.snapshot(None, |hot| hot.all(&self.id));
        let traces = users::traces(&snapshot, &self.id, user, &mut sessions, &self.never())?;
        let sessions = sessions.into_iter().map(Erased::Session);
        Ok(traces
            .into_iter()
            .map(Erased::Trace)
            .chain(sessions)
            .collect())
    }

    /// Whether retention has not let go of a session.
    fn is_kept(&self, session: &SessionRecord) -> bool {
        is_kept(session, self.horizon())
    }

    /// Before when spans are not to be seen, ns since 1970.
    fn horizon(&self) -> Option<i64> {
        let parts = &self.parts;
        parts.settings.horizon(&self.id, parts.clock.now_nanos())
    }

    fn start(&self, new: NewSession, kind: SessionKind) -> Result<SessionCommand, Error> {
        let session = new.start(kind, self.parts.clock.now_nanos())?;
        Ok(SessionCommand::Start(self.new_id(), Box::new(session)))
    }

    fn new_id(&self) -> String {
        let disk = &self.parts.segments.disk;
        format!("{:016x}{:016x}", disk.random_number(), disk.random_number())
    }

    fn change_session(&self, command: SessionCommand) -> Result<Session, Error> {
        // As with appends, a task that blocks here must not yield to Tokio.
        let room = unconstrained(self.parts.queue.room(command.bytes()));
        let room = pollster::block_on(room)?;
        let (reply, answer) = bounded(1);
        self.send_command(command, Reply::Blocking(reply), room)?;
        answer.recv().map_err(|_| self.parts.no_answer())?
    }

    async fn change_session_async(&self, command: SessionCommand) -> Result<Session, Error> {
        let room = self.parts.queue.room(command.bytes()).await?;
        let (reply, answer) = oneshot::channel();
        self.send_command(command, Reply::Async(reply), room)?;
        answer.await.map_err(|_| self.parts.no_answer())?
    }

    fn send_command(
        &self,
        command: SessionCommand,
        reply: Reply<Session>,
        room: Room,
    ) -> Result<(), Error> {
        self.parts.health.check()?;
        self.parts.queue.send(Job {
            team: self.id.clone(),
            work: Work::Session(command, reply),
            is_patient: true,
            room,
        })
    }
}
