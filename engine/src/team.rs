//! A team's handle: everything of a tenant passes through it.

mod sessions;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::bounded;
use spanstore_format::catalog::Erased;
use spanstore_format::segment::Column;
use spanstore_format::segment::key_index::key_of;
use spanstore_format::span::table;
use spanstore_format::{Month, TeamId, TraceId};
use tokio::sync::oneshot;
use tokio::task::unconstrained;

#[cfg(feature = "query")]
use crate::awaited::Waiting;
use crate::clock::nanos;
use crate::error::Error;
#[cfg(feature = "query")]
use crate::health::Health;
use crate::hot::{HotBuffer, HotRows};
use crate::options::Plan;
use crate::parts::Parts;
#[cfg(feature = "query")]
use crate::query;
use crate::read::condition::Condition;
use crate::read::interrupt::{Interrupt, Never};
use crate::read::lookup;
use crate::read::meter::Meter;
use crate::read::plan::plan;
use crate::spans::Spans;
use crate::view::Snapshot;
use crate::write::checks::Window;
use crate::write::content::ContentHash;
use crate::write::message::{Append, Job, Reply, Work};
use crate::write::prepare::{Checks, Prepared, prepare};
use crate::write::queue::Room;
use crate::write::{Receipt, SpanBatch, Usage};

pub use self::status::TraceStatus;

/// One team of a store. Cheap to make and to clone; it holds the store open.
#[derive(Debug, Clone)]
pub struct Team {
    pub(crate) parts: Arc<Parts>,
    pub(crate) id: TeamId,
    pub(crate) meter: Option<Meter>,
}

/// Bytes of an idempotency key.
const MOST_KEY_BYTES: usize = 256;

/// Rows of a chunk of an export.
const EXPORT_ROWS: usize = 8_192;

/// A batch that is checked and encoded.
struct PreparedBatch {
    prepared: Prepared,
    /// Hash of its content.
    content: u128,
    idempotency_key: Option<Bytes>,
}

impl PreparedBatch {
    fn bytes(&self) -> usize {
        self.prepared.bytes()
    }
}

impl Team {
    /// The team's id.
    pub fn id(&self) -> &TeamId {
        &self.id
    }

    /// A handle whose reads, those by queries and SQL among them, add up their cost in a
    /// meter. Other handles of the team are as they were.
    #[must_use]
    pub fn metered(&self, meter: &Meter) -> Self {
        Self {
            meter: Some(meter.clone()),
            ..self.clone()
        }
    }

    /// Nothing ends the work of a look-up.
    fn never(&self) -> Arc<dyn Interrupt> {
        Arc::new(Never(self.meter.clone().unwrap_or_default()))
    }

    /// Appends a batch and waits until it is as durable as the store's
    /// [`Durability`](crate::Durability) says. When the queue is full it waits
    /// for room; when merging is far behind it waits a little
    /// (see [`StoreOptions::compaction_percent`](crate::StoreOptions::compaction_percent)).
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::IdempotencyKeyReused`], [`Error::NoSpace`],
    /// [`Error::Stalled`] while seals fail and memory is full, [`Error::Busy`] when
    /// nothing seals in the background, [`Error::Poisoned`] and [`Error::Closed`];
    /// nothing of the batch is stored then. After [`Error::Poisoned`] the batch may be
    /// found whole when the store is opened again.
    pub fn append(&self, batch: impl Into<SpanBatch>) -> Result<Receipt, Error> {
        let batch = self.prepare(batch.into())?;
        // Tokio lets a task do only so much before it yields; a task that blocks here
        // would never be woken.
        let room = unconstrained(self.parts.queue.room(batch.bytes()));
        let room = pollster::block_on(room)?;
        self.send_and_wait(batch, room, true)
    }

    /// Like [`Team::append`], but does not wait: neither for room in the queue, nor
    /// for a seal that frees memory, nor for merges.
    ///
    /// # Errors
    /// [`Error::Busy`] when it would have to wait, else as [`Team::append`].
    pub fn try_append(&self, batch: impl Into<SpanBatch>) -> Result<Receipt, Error> {
        let batch = self.prepare(batch.into())?;
        let room = self.parts.queue.try_room(batch.bytes())?;
        self.send_and_wait(batch, room, false)
    }

    /// Like [`Team::append`], in any async runtime. Checking and encoding
    /// happen on the calling task. When the future is dropped, the batch may
    /// still be stored.
    ///
    /// # Errors
    /// As [`Team::append`].
    pub async fn append_async(&self, batch: impl Into<SpanBatch>) -> Result<Receipt, Error> {
        let batch = self.prepare(batch.into())?;
        let room = self.parts.queue.room(batch.bytes()).await?;
        let (reply, answer) = oneshot::channel();
        self.send(batch, room, Reply::Async(reply), true)?;
        answer.await.map_err(|_| self.parts.no_answer())?
    }

    fn send_and_wait(
        &self,
        batch: PreparedBatch,
        room: Room,
        is_patient: bool,
    ) -> Result<Receipt, Error> {
        let (reply, answer) = bounded(1);
        self.send(batch, room, Reply::Blocking(reply), is_patient)?;
        answer.recv().map_err(|_| self.parts.no_answer())?
    }

    fn send(
        &self,
        batch: PreparedBatch,
        room: Room,
        reply: Reply<Receipt>,
        is_patient: bool,
    ) -> Result<(), Error> {
        self.parts.queue.send(Job {
            team: self.id.clone(),
            work: Work::Append(Append {
                prepared: batch.prepared,
                content: batch.content,
                idempotency_key: batch.idempotency_key,
                reply,
            }),
            is_patient,
            room,
        })
    }

    fn prepare(&self, batch: SpanBatch) -> Result<PreparedBatch, Error> {
        let parts = &*self.parts;
        parts.health.check()?;
        let limits = &parts.options.limits;
        batch.content.check(limits)?;
        let key_bytes = batch.idempotency_key.as_ref().map_or(0, Bytes::len);
        if key_bytes > MOST_KEY_BYTES {
            return Err(Error::TooLarge {
                what: "bytes of an idempotency key",
                limit: MOST_KEY_BYTES as u64,
                found: key_bytes as u64,
            });
        }
        let hash = ContentHash::new(parts.content_seed, batch.is_any_time);
        let content = hash.of_batch(&batch.content);
        let now = parts.clock.now_nanos();
        let window = if batch.is_any_time {
            Window::ALL
        } else {
            Window::at(now, limits)
        };
        let window = window.kept_from(parts.settings.horizon(&self.id, now));
        let checks = Some(Checks { limits, window });
        let prepared = prepare(&self.id, batch.content.into_source(), checks, parts.seed)?;
        Ok(PreparedBatch {
            content: content.unwrap_or_else(|| hash.of_prepared(&prepared)),
            prepared,
            idempotency_key: batch.idempotency_key,
        })
    }

    /// All spans of a trace, by start; none when there is no such trace.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when rows that may belong to it are damaged.
    pub fn trace(&self, trace: TraceId) -> Result<Spans, Error> {
        let (snapshot, never) = (self.snapshot_of_trace(trace), self.never());
        Spans::new(lookup::trace(&snapshot, &self.id, trace, &never)?).by_start()
    }

    /// All spans of a session, by start; none when there is no such session.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when rows that may belong to it are damaged.
    pub fn session_spans(&self, session: &str) -> Result<Spans, Error> {
        let (snapshot, never) = (self.snapshot_of_session(session), self.never());
        Spans::new(lookup::session(&snapshot, &self.id, session, &never)?).by_start()
    }

    /// All spans of a request, by start; none when there is no such request.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when rows that may belong to it are damaged.
    pub fn request_spans(&self, request: &str) -> Result<Spans, Error> {
        let (snapshot, never) = (self.snapshot_of_all(), self.never());
        Spans::new(lookup::request(&snapshot, &self.id, request, &never)?).by_start()
    }

    /// Like [`Team::trace`], on threads of the store and within the limits of a query
    /// ([`QueryLimits`](crate::QueryLimits)).
    ///
    /// # Errors
    /// As [`Team::trace`]; [`Error::TimedOut`] and [`Error::QueryMemory`].
    #[cfg(feature = "query")]
    pub async fn trace_async(&self, trace: TraceId) -> Result<Spans, Error> {
        let snapshot = self.snapshot_of_trace(trace);
        let find = move |snapshot: &Snapshot, team: &TeamId, interrupt: &_| {
            lookup::trace(snapshot, team, trace, interrupt)
        };
        Spans::new(query::look_up(self, snapshot, find).await?).by_start()
    }

    /// Like [`Team::session_spans`], on threads of the store and within the limits of a
    /// query.
    ///
    /// # Errors
    /// As [`Team::session_spans`]; [`Error::TimedOut`] and [`Error::QueryMemory`].
    #[cfg(feature = "query")]
    pub async fn session_spans_async(&self, session: &str) -> Result<Spans, Error> {
        let (snapshot, session) = (self.snapshot_of_session(session), session.to_owned());
        let find = move |snapshot: &Snapshot, team: &TeamId, interrupt: &_| {
            lookup::session(snapshot, team, &session, interrupt)
        };
        Spans::new(query::look_up(self, snapshot, find).await?).by_start()
    }

    /// Like [`Team::request_spans`], on threads of the store and within the limits of a
    /// query.
    ///
    /// # Errors
    /// As [`Team::request_spans`]; [`Error::TimedOut`] and [`Error::QueryMemory`].
    #[cfg(feature = "query")]
    pub async fn request_spans_async(&self, request: &str) -> Result<Spans, Error> {
        let (snapshot, request) = (self.snapshot_of_all(), request.to_owned());
        let find = move |snapshot: &Snapshot, team: &TeamId, interrupt: &_| {
            lookup::request(snapshot, team, &request, interrupt)
        };
        Spans::new(query::look_up(self, snapshot, find).await?).by_start()
    }

    fn snapshot_of_trace(&self, trace: TraceId) -> Snapshot {
        self.snapshot(|hot| hot.trace(&self.id, trace.0))
    }

    fn snapshot_of_session(&self, session: &str) -> Snapshot {
        let key = key_of(session.as_bytes());
        self.snapshot(|hot| hot.session(&self.id, key))
    }

    /// What readers of this team see now, with the unsealed rows that
    /// `pick` chooses.
    fn snapshot(&self, pick: impl Fn(&HotBuffer) -> Vec<HotRows>) -> Snapshot {
        let parts = &*self.parts;
        let horizon = parts.settings.horizon(&self.id, parts.clock.now_nanos());
        parts.view.snapshot(horizon, pick)
    }

    /// What readers of this team see now, with all its unsealed rows.
    pub(crate) fn snapshot_of_all(&self) -> Snapshot {
        let snapshot = self.snapshot(|hot| hot.all(&self.id));
        if snapshot.hot.len() > 1 {
            self.parts.view.set_read(&self.id);
        }
        snapshot
    }

    /// Begins a query over the team's spans.
    #[cfg(feature = "query")]
    pub fn query(&self) -> query::Query {
        query::Query::new(Arc::new(self.clone()), query::Rows::Spans)
    }

    /// Begins a query over the team's requests: one row a trace, put together of its spans,
    /// with the columns of [`RequestColumn`](spanstore_format::requests::RequestColumn).
    ///
    /// In its filters `any(…)` takes a condition on spans and is true of a request when one
    /// of its spans fulfils it, else false. `level`, `service`, `resource` and `function`
    /// mean that some span has the value: `service = 'db'` is `any(service = 'db')`, and
    /// `service != 'db'` is its opposite. `has_trace` is true of each request.
    #[cfg(feature = "query")]
    pub fn requests(&self) -> query::Query {
        query::Query::new(Arc::new(self.clone()), query::Rows::Requests)
    }

    /// Begins a query over the team's sessions, with the columns of
    /// [`SessionColumn`](spanstore_format::sessions::SessionColumn): those that were started,
    /// and those that only requests name. A session has the requests whose `session_id` it is.
    ///
    /// Pages show the requests as they were when the first one was asked for, but sessions as
    /// the registry has them now: one that is started meanwhile comes before the first page in
    /// the order [`Order::NewestFirst`](query::Order::NewestFirst).
    #[cfg(feature = "query")]
    pub fn sessions(&self) -> query::Query {
        query::Query::new(Arc::new(self.clone()), query::Rows::Sessions)
    }

    /// Begins the query for what a list shows, such as one that a permalink names
    /// ([`View`](query::View)).
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] and [`Error::UnknownColumn`], as
    /// [`Query::filter`](query::Query::filter) and [`Query::columns`](query::Query::columns).
    #[cfg(feature = "query")]
    pub fn list(&self, view: &query::ListView) -> Result<query::Query, Error> {
        let all = query::Query::new(Arc::new(self.clone()), view.rows);
        view.apply(all)
    }

    /// Runs an SQL query over the team's spans, requests and sessions, the tables `spans`,
    /// `requests` and `sessions`.
    ///
    /// Their columns are those of [`SpanColumn`](spanstore_format::span::SpanColumn), of
    /// [`RequestColumn`](spanstore_format::requests::RequestColumn), whose `level`, `service`,
    /// `resource` and `function` are here those of the request alone, and of
    /// [`SessionColumn`](spanstore_format::sessions::SessionColumn);
    /// times and durations are integers of nanoseconds, and `level` is a text like others, ordered
    /// by its bytes. `attributes['key']` and
    /// `resource['key']` are the texts of attributes. Functions whose answers can be
    /// much longer than what they are given, such as `repeat` and `replace`, are
    /// switched off. The text is for the service to write, not for strangers: see the
    /// filter of [`Team::query`] for those.
    ///
    /// It works on threads of the store, so any async runtime will do.
    ///
    /// # Errors
    /// [`Error::Query`] when the text is not one SQL query over these tables, and when it
    /// fails; [`Error::TooLarge`] for a text of more than 16 KiB; [`Error::TimedOut`]
    /// and [`Error::QueryMemory`]. The items of the stream are DataFusion's errors:
    /// `Error::from` makes these of them.
    #[cfg(feature = "query")]
    pub async fn sql(&self, text: &str) -> Result<query::SendableRecordBatchStream, Error> {
        query::sql(self, text).await
    }

    /// The plan by which an SQL query is answered, an operator a line. `Groups` and
    /// `FirstRows` are answered by indexes and codes, as a [`Query`](query::Query) is;
    /// `ScanExec` reads rows. It is a text for people, whose form may change.
    ///
    /// # Errors
    /// As [`Team::sql`].
    #[cfg(feature = "query")]
    pub async fn explain_sql(&self, text: &str) -> Result<String, Error> {
        query::explain_sql(self, text).await
    }

    /// Every span of the team, chunk by chunk, out of one snapshot: appends
    /// and seals meanwhile neither add nor remove any.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when an index is damaged. Damaged rows are an error
    /// of their chunk.
    pub fn export(&self) -> Result<impl Iterator<Item = Result<Spans, Error>> + use<>, Error> {
        let all = Condition::always();
        let parts = plan(&self.snapshot_of_all(), &self.id, &all, &self.never())?;
        let columns = Column::all(table());
        Ok(parts.into_iter().flat_map(move |part| {
            let batches = part.read(&columns, EXPORT_ROWS);
            let batches = batches.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
            batches.map(|batch| Ok(Spans::new(vec![batch?])))
        }))
    }

    /// The team's quota of a month.
    ///
    /// # Errors
    /// [`Error::CatalogDamaged`], [`Error::Io`] when the catalog cannot be read.
    pub fn usage(&self, month: Month) -> Result<Usage, Error> {
        let used = self.parts.quota.used(month, &self.id)?;
        let limit = self.parts.settings.limit(&self.id);
        Ok(Usage::new(month, used, limit))
    }

    /// Sets the spans that the team may write in a month, in place of its
    /// plan's; none for the plan's again. Durable when it returns. Spans that
    /// are there stay, also when they are more.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. [`Error::CatalogDamaged`], [`Error::Poisoned`].
    pub fn set_quota(&self, limit: Option<u64>) -> Result<(), Error> {
        self.parts
            .settings
            .change_team(&self.id, |settings| settings.limit = limit)
    }

    /// Sets how long spans of the team are kept, counted from their start, in
    /// place of what the store has set ([`Store::set_retention`](crate::Store::set_retention));
    /// none for the store's again. Sessions are kept as long, counted from when they were
    /// stopped. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. [`Error::CatalogDamaged`], [`Error::Poisoned`].
    pub fn set_retention(&self, kept: Option<Duration>) -> Result<(), Error> {
        let _rewrite = self.parts.segments.rewrite();
        self.parts.settings.change_team(&self.id, |settings| {
            settings.retention_nanos = kept.map(nanos);
        })
    }

    /// Forgets all spans of the team: none that was appended before is found
    /// when this returns. [`Store::erase`](crate::Store::erase) removes them
    /// from the files. They still count towards the quota. What is set for the
    /// team, its own quota too, is gone at once, and so are its sessions
    /// ([`Team::start_session`]).
    ///
    /// # Errors
    /// As [`Store::seal`](crate::Store::seal): when some of the spans are in
    /// memory, what is there is sealed first. [`Error::NoSpace`]: no span is
    /// forgotten, but bodies and idempotency keys of the team may be known no more, and
    /// sessions that were to be forgotten may be gone.
    /// [`Error::CatalogDamaged`].
    pub fn forget(&self) -> Result<(), Error> {
        self.forget_rows(Erased::Team)
    }

    /// Forgets all spans of a trace, as [`Team::forget`] does with the team's.
    ///
    /// # Errors
    /// As [`Team::forget`].
    pub fn forget_trace(&self, trace: TraceId) -> Result<(), Error> {
        self.forget_rows(Erased::Trace(trace))
    }

    /// Forgets all spans of a session, as [`Team::forget`] does with the team's, and the
    /// session, if it was started here ([`Team::start_session`]).
    ///
    /// # Errors
    /// As [`Team::forget`].
    pub fn forget_session(&self, session: &str) -> Result<(), Error> {
        self.forget_rows(Erased::Session(session.to_owned()))
    }

    fn forget_rows(&self, what: Erased) -> Result<(), Error> {
        self.forget_many([what])
    }

    /// Forgets any number of traces and sessions of the team, or all of it, as
    /// [`Team::forget`] does: with at most one seal and one transaction, the spans of all or
    /// of none.
    ///
    /// # Errors
    /// As [`Team::forget`].
    pub fn forget_many(&self, rows: impl IntoIterator<Item = Erased>) -> Result<(), Error> {
        let rows = rows.into_iter().map(|what| (self.id.clone(), what));
        self.parts.forget(rows.collect())
    }

    /// How long spans are kept by what is set for this team; none when nothing
    /// is and what is set for the store holds.
    pub fn retention(&self) -> Option<Duration> {
        let kept = self.parts.settings.retention(Some(&self.id));
        kept.map(Duration::from_nanos)
    }

    /// Sets the team's plan. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing has changed. [`Error::CatalogDamaged`], [`Error::Poisoned`].
    pub fn set_plan(&self, plan: Plan) -> Result<(), Error> {
        self.parts
            .settings
            .change_team(&self.id, |settings| settings.plan = plan.number())
    }
}

#[cfg(feature = "query")]
impl query::Source for Team {
    fn engine(&self) -> &query::Engine {
        &self.parts.queries
    }

    fn team(&self) -> &TeamId {
        &self.id
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot_of_all()
    }

    fn cursor_key(&self) -> [u64; 2] {
        self.parts.cursor_key
    }

    fn registered(&self) -> Result<query::Registered, Error> {
        self.registered_sessions()
    }

    fn meter(&self) -> Meter {
        self.meter.clone().unwrap_or_default()
    }

    fn wait_for_spans(&self) -> Waiting<TeamId> {
        self.parts.view.wait_for_team(&self.id)
    }

    fn health(&self) -> &Arc<Health> {
        &self.parts.health
    }
}
