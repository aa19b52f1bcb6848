//! What a query asks for, and of whom.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use spanstore_format::TeamId;

use super::engine::Engine;
use super::filter::{Filter, FilterLimits, Rows, Shorthand};
use super::sessions::Registered;
use super::table::visible_columns;
use crate::awaited::Waiting;
use crate::error::Error;
use crate::health::Health;
use crate::read::meter::Meter;
use crate::spans::Spans;
use crate::view::Snapshot;

/// The spans of a team, and what works on a query over them.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    fn engine(&self) -> &Engine;
    fn team(&self) -> &TeamId;
    /// What readers see now.
    fn snapshot(&self) -> Snapshot;
    /// What signs cursors.
    fn cursor_key(&self) -> [u64; 2];
    /// The sessions of its registry, read now.
    fn registered(&self) -> Result<Registered, Error>;
    /// What adds up the cost.
    fn meter(&self) -> Meter;
    /// Begins to wait for spans of the team.
    fn wait_for_spans(&self) -> Waiting<TeamId>;
    /// Whether spans may still come, and what wakes those who wait when none can.
    fn health(&self) -> &Arc<Health>;
}

/// The order of the rows of a query: of those that are equal in what decides first by start,
/// then by trace id, and of spans by span id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The latest start first.
    #[default]
    NewestFirst,
    /// The earliest start first.
    OldestFirst,
    /// The longest duration first, of equal ones the latest start.
    SlowestFirst,
    /// The shortest duration first, of equal ones the earliest start.
    FastestFirst,
    /// The request or session with the most spans first, of equal ones the latest start. Spans
    /// have no such order.
    MostSpansFirst,
    /// The request or session with the most errors first, of equal ones the latest start. Spans
    /// have no such order.
    MostErrorsFirst,
}

/// A query over the spans of one team ([`Team::query`](crate::Team::query)), over its
/// requests ([`Team::requests`](crate::Team::requests)) or over its sessions
/// ([`Team::sessions`](crate::Team::sessions)). Without further words it gives all with all
/// columns, newest first. What is said of spans below holds for requests and sessions too.
#[derive(Debug, Clone)]
#[must_use]
pub struct Query {
    pub(super) source: Arc<dyn Source>,
    pub(super) question: Question,
}

/// What is asked, of whatever team.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) rows: Rows,
    /// All of these hold.
    pub(super) filters: Vec<Filter>,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) columns: Vec<usize>,
    pub(super) order: Order,
    pub(super) limit: Option<usize>,
    /// The sequence below which spans are seen; none for all.
    pub(super) below_sequence: Option<i64>,
}

impl Query {
    /// A query for all of some rows.
    pub(crate) fn new(source: Arc<dyn Source>, rows: Rows) -> Self {
        Self {
            source,
            question: Question {
                rows,
                filters: Vec::new(),
                since: None,
                until: None,
                columns: visible_columns(rows.table()),
                order: Order::NewestFirst,
                limit: None,
                below_sequence: None,
            },
        }
    }

    /// Keeps the spans that a condition holds for, such as
    /// `level = 'error' and path like '/api/%' and attributes['db.system'] = 'postgresql'`.
    /// [`Filter`] has the whole language;
    /// [`SpanColumn`](spanstore_format::span::SpanColumn),
    /// [`RequestColumn`](spanstore_format::requests::RequestColumn) and
    /// [`SessionColumn`](spanstore_format::sessions::SessionColumn) have the columns.
    /// The text may be a stranger's: it is an expression over the team's own
    /// columns and nothing else, and its size is bounded. Of several filters all
    /// have to hold.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] says where the text goes wrong and what was
    /// expected there.
    pub fn filter(mut self, text: &str) -> Result<Self, Error> {
        let filter = Filter::over(self.question.rows, text, &FilterLimits::default())?;
        self.question.filters.push(filter);
        Ok(self)
    }

    /// Keeps what a person looks for who typed this into a search bar, such as
    /// `status:5xx host:*.example.com -route:/health "timed out"` ([`Shorthand`]). It holds
    /// together with filters.
    ///
    /// # Errors
    /// As [`Query::filter`].
    pub fn search(self, text: &str) -> Result<Self, Error> {
        let typed = Shorthand::parse(self.question.rows, text, &FilterLimits::default())?;
        self.filter(typed.filter())
    }

    /// Keeps the spans that start at or after a time, ns since 1970.
    pub fn since(mut self, unix_nanos: i64) -> Self {
        self.question.since = Some(unix_nanos);
        self
    }

    /// Keeps the spans that start before a time, ns since 1970.
    pub fn until(mut self, unix_nanos: i64) -> Self {
        self.question.until = Some(unix_nanos);
        self
    }

    /// Gives these columns alone, in this order. Names are read in any case.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] names one that is not there, and those that may be meant; an
    /// empty name when none was asked for.
    pub fn columns<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let rows = self.question.rows;
        let place = |name: &str| {
            let place = rows.place_of(name);
            place.ok_or_else(|| rows.unknown_column(name, |_| true))
        };
        self.question.columns = names.into_iter().map(place).collect::<Result<_, _>>()?;
        if self.question.columns.is_empty() {
            return Err(Error::unknown_column("", "a column"));
        }
        Ok(self)
    }

    /// Gives the spans in an order; without it the latest start comes first.
    pub fn order(mut self, order: Order) -> Self {
        self.question.order = order;
        self
    }

    /// Gives at most this many spans.
    pub fn limit(mut self, spans: usize) -> Self {
        self.question.limit = Some(spans);
        self
    }

    /// Runs the query; batches come in its order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when rows that may fulfil it are damaged,
    /// [`Error::TimedOut`], [`Error::QueryMemory`], [`Error::Query`] when the
    /// filter cannot be evaluated.
    /// Those that come up while rows are read are items of the stream.
    pub async fn stream(self) -> Result<SendableRecordBatchStream, Error> {
        super::select::select(self).await
    }

    /// Runs the query and gathers its batches.
    ///
    /// # Errors
    /// As [`Query::stream`].
    pub async fn collect(self) -> Result<Vec<RecordBatch>, Error> {
        Ok(self.stream().await?.try_collect().await?)
    }

    /// Runs the query and gives whole spans, which can be had as values
    /// ([`Spans::rows`]) or in OTLP ([`Spans::to_otlp`]), whatever columns were
    /// asked for.
    ///
    /// # Errors
    /// As [`Query::stream`]; [`Error::UnknownColumn`] of a query over requests or sessions.
    pub async fn spans(mut self) -> Result<Spans, Error> {
        self = self.columns(["span_id"])?;
        self.question.columns = visible_columns(self.question.rows.table());
        Ok(Spans::new(self.collect().await?))
    }
}
