//! Sessions as the rows of a query: what the registry says of them, put together with what
//! their requests say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringViewArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use spanstore_format::catalog::SessionRecord;
use spanstore_format::requests::RequestColumn;
use spanstore_format::segment::Column;
use spanstore_format::segment::key_index::key_of;
use spanstore_format::sessions::{SessionColumn, table};

use super::filter::Rows;
use super::job::{Asked, Job};
use crate::error::Error;
use crate::hot::{HotBatch, HotRows};
use crate::read::condition::Condition;
use crate::read::constraints::Constraints;
use crate::read::group::{Grouping, Measure, Term};
use crate::read::scan::columns_error;

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 8_192;

/// Sessions that are looked for by their ids, at most; for more all requests are looked at.
const MOST_LOOKED_UP: usize = 1_000;

/// The sessions of a registry, by their ids.
pub(crate) type Registered = BTreeMap<String, SessionRecord>;

/// What the requests of a session say of it.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// The user of the earliest request that has one, and the start of that.
    user: Option<(i64, String)>,
    first_start: i64,
    last_end: i64,
    requests: i64,
    spans: i64,
    errors: i64,
}

/// A session of the registry, of requests, or of both.
struct Row<'a> {
    id: String,
    registered: Option<&'a SessionRecord>,
    seen: Option<Seen>,
}

impl Job {
    /// The job over the sessions that may be asked for, and what these must fulfil.
    pub(super) async fn over_sessions(&self, asked: &Asked) -> Result<(Self, Condition), Error> {
        let condition = asked.condition(&[])?;
        let below = asked.question.below_sequence;
        let job = self.with_sessions(&condition.constraints(), below).await?;
        Ok((job, condition))
    }

    /// The job over the sessions that may have certain ids, as their requests were with the
    /// spans below a sequence.
    pub(super) async fn with_sessions(
        &self,
        necessary: &Constraints,
        below_sequence: Option<i64>,
    ) -> Result<Self, Error> {
        let ids = necessary.session_ids.as_ref();
        let ids = ids.filter(|ids| ids.len() <= MOST_LOOKED_UP);
        let is_asked = |id: &str| ids.is_none_or(|ids| ids.contains(id));
        let held = self.held("sessions");
        let mut seen = self.seen_sessions(ids, below_sequence).await?;
        seen.retain(|id, _| is_asked(id));
        held.set(seen.len() * size_of::<(String, Seen)>())?;
        let registered = || self.registered.iter().flat_map(|all| all.iter());
        let registered = registered().filter(|(id, _)| is_asked(id));
        let mut rows = Vec::new();
        for (id, session) in registered {
            let (id, registered) = (id.clone(), Some(session));
            let seen = seen.remove(&id);
            rows.push(Row {
                id,
                registered,
                seen,
            });
        }
        rows.extend(seen.into_iter().map(|(id, seen)| Row {
            id,
            registered: None,
            seen: Some(seen),
        }));
        rows.sort_unstable_by(|one, other| {
            let by_start = one.start().cmp(&other.start());
            by_start.then_with(|| one.id.cmp(&other.id))
        });
        let batches = rows.chunks(BATCH_ROWS).map(|rows| {
            let batch = batch(self.team.as_str(), rows)?;
            Ok(HotRows::all(&Arc::new(HotBatch::derived(batch))))
        });
        let batches = batches.collect::<Result<_, Error>>()?;
        let (segments, hidden) = (Vec::new(), HashMap::new());
        self.with_rows(self.snapshot.derived(table(), segments, hidden, batches))
    }

    /// What the requests say of each session that one of them names: of all, or of those with
    /// certain ids and perhaps others.
    async fn seen_sessions(
        &self,
        ids: Option<&BTreeSet<String>>,
        below_sequence: Option<i64>,
    ) -> Result<HashMap<String, Seen>, Error> {
        let of_ids = Constraints {
            session_ids: ids.cloned(),
            ..Constraints::default()
        };
        let job = self.with_requests(&of_ids, below_sequence).await?;
        let term = |column: RequestColumn| {
            Term::column(Column::Stored(column.place()), Rows::Requests.table())
        };
        let grouping = Grouping {
            keys: vec![
                term(RequestColumn::SessionId)?,
                term(RequestColumn::UserId)?,
            ],
            measures: vec![
                Measure::Least(term(RequestColumn::StartTime)?),
                Measure::Greatest(term(RequestColumn::EndTime)?),
                Measure::Rows,
                Measure::Sum(term(RequestColumn::Spans)?),
                Measure::Sum(term(RequestColumn::Errors)?),
            ],
        };
        let (groups, _held) = job
            .group(&Arc::new(Condition::always()), &Arc::new(grouping))
            .await?;
        let [ids, users, starts, ends, requests, spans, errors] = groups.as_slice() else {
            return Err(Error::internal("groups", &"other columns than asked for"));
        };
        let (ids, users) = (ids.as_string_view(), users.as_string_view());
        let [starts, ends] = [starts, ends].map(AsArray::as_primitive::<TimestampNanosecondType>);
        let [requests, spans, errors] =
            [requests, spans, errors].map(AsArray::as_primitive::<Int64Type>);
        let mut sessions: HashMap<String, Seen> = HashMap::new();
        for row in (0..ids.len()).filter(|row| ids.is_valid(*row)) {
            let (start, end) = (starts.value(row), ends.value(row));
            let user = users.is_valid(row).then(|| users.value(row));
            let seen = Seen {
                user: user.map(|user| (start, user.to_owned())),
                first_start: start,
                last_end: end,
                requests: requests.value(row),
                spans: spans.value(row),
                errors: errors.value(row),
            };
            match sessions.get_mut(ids.value(row)) {
                Some(known) => known.add(seen),
                None => {
                    sessions.insert(ids.value(row).to_owned(), seen);
                }
            }
        }
        Ok(sessions)
    }
}

impl Seen {
    /// Adds what other requests of the session say.
    fn add(&mut self, other: Self) {
        self.user = match (self.user.take(), other.user) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.first_start = self.first_start.min(other.first_start);
        self.last_end = self.last_end.max(other.last_end);
        self.requests += other.requests;
        self.spans += other.spans;
        self.errors += other.errors;
    }
}

impl Row<'_> {
    fn start(&self) -> i64 {
        let registered = self.registered.map(|session| session.started_at);
        let seen = self.seen.as_ref().map(|seen| seen.first_start);
        registered.or(seen).unwrap_or_default()
    }

    /// A text that it was started with; one that the service did not know is none.
    fn text(&self, of: fn(&SessionRecord) -> &str) -> Option<&str> {
        self.registered.map(of).filter(|text| !text.is_empty())
    }

    fn user(&self) -> Option<&str> {
        if self.registered.is_some() {
            return self.text(|session| &session.user);
        }
        let (_, user) = self.seen.as_ref()?.user.as_ref()?;
        Some(user)
    }

    fn kind(&self) -> Option<&str> {
        let kind = |session: &SessionRecord| {
            if session.is_page_trace {
                "page_trace"
            } else {
                "session"
            }
        };
        self.registered.map(kind)
    }

    fn state(&self) -> Option<&str> {
        let state = |session: &SessionRecord| match session.stopped_at {
            Some(_) => "stopped",
            None => "open",
        };
        self.registered.map(state)
    }

    fn duration(&self) -> i64 {
        let duration = |seen: &Seen| seen.last_end.saturating_sub(seen.first_start);
        self.seen.as_ref().map_or(0, duration)
    }
}

/// Sessions as rows.
fn batch(team: &str, rows: &[Row<'_>]) -> Result<RecordBatch, Error> {
    let columns = SessionColumn::ALL.iter();
    let columns = columns.map(|column| values(*column, team, rows));
    let columns = columns.collect::<Result<Vec<ArrayRef>, Error>>()?;
    let batch = RecordBatch::try_new(table().schema(), columns);
    batch.map_err(|error| columns_error("sessions", &error))
}

/// The values of a column.
fn values(column: SessionColumn, team: &str, rows: &[Row<'_>]) -> Result<ArrayRef, Error> {
    let time = |of: fn(&Row<'_>) -> Option<i64>| -> ArrayRef {
        let times: TimestampNanosecondArray = rows.iter().map(of).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let number = |of: fn(&Seen) -> i64| -> ArrayRef {
        let numbers = rows.iter().map(|row| row.seen.as_ref().map_or(0, of));
        Arc::new(Int64Array::from_iter_values(numbers))
    };
    let text = |of: fn(&SessionRecord) -> &str| -> ArrayRef {
        let texts = rows.iter().map(|row| row.text(of));
        Arc::new(texts.collect::<StringViewArray>())
    };
    Ok(match column {
        SessionColumn::TeamId => {
            let team = std::iter::repeat_n(team, rows.len());
            Arc::new(StringViewArray::from_iter_values(team))
        }
        SessionColumn::SessionKey => {
            let keys = rows.iter().map(|row| key_of(row.id.as_bytes()));
            let keys = FixedSizeBinaryArray::try_from_iter(keys);
            Arc::new(keys.map_err(|error| columns_error("sessions", &error))?)
        }
        SessionColumn::SessionId => {
            let ids = rows.iter().map(|row| &row.id);
            Arc::new(StringViewArray::from_iter_values(ids))
        }
        SessionColumn::UserId => Arc::new(rows.iter().map(Row::user).collect::<StringViewArray>()),
        SessionColumn::Kind => Arc::new(rows.iter().map(Row::kind).collect::<StringViewArray>()),
        SessionColumn::State => Arc::new(rows.iter().map(Row::state).collect::<StringViewArray>()),
        SessionColumn::StartTime => time(|row| Some(row.start())),
        SessionColumn::StoppedTime => time(|row| row.registered?.stopped_at),
        SessionColumn::FirstSeen => time(|row| Some(row.seen.as_ref()?.first_start)),
        SessionColumn::LastSeen => time(|row| Some(row.seen.as_ref()?.last_end)),
        SessionColumn::Duration => {
            let durations = rows.iter().map(Row::duration);
            Arc::new(Int64Array::from_iter_values(durations))
        }
        SessionColumn::Requests => number(|seen| seen.requests),
        SessionColumn::Spans => number(|seen| seen.spans),
        SessionColumn::Errors => number(|seen| seen.errors),
        SessionColumn::Environment => text(|session| &session.environment),
        SessionColumn::Host => text(|session| &session.host),
        SessionColumn::ProjectId => text(|session| &session.project),
        SessionColumn::DeploymentId => text(|session| &session.deployment),
        SessionColumn::Browser => text(|session| &session.browser),
        SessionColumn::Predecessor => {
            text(|session| session.predecessor.as_deref().unwrap_or_default())
        }
    })
}
