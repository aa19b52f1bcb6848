//! Sessions as the rows of a query: what the registry says of them, put together with what
//! their requests say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringViewArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
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
use crate::read::group::merge::Groups;
use crate::read::group::{Grouping, Measure, Term};
use crate::read::scan::columns_error;
use crate::segment::KeptSessions;

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 8_192;

/// Bytes that a session of the registry takes in memory, about.
const REGISTERED_BYTES: usize = 512;

/// Sessions that are looked for by their ids, at most; for more all requests are looked at.
const MOST_LOOKED_UP: usize = 1_000;

/// The sessions of a registry, by their ids.
pub(crate) type Registered = BTreeMap<String, SessionRecord>;

/// What the requests of a session say of it.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    /// The user of the earliest request that has one, and the start of that.
    user: Option<(i64, &'a str)>,
    first_start: i64,
    last_end: i64,
    requests: i64,
    spans: i64,
    errors: i64,
}

/// A session of the registry, of requests, or of both.
struct Row<'a> {
    id: &'a str,
    registered: Option<&'a SessionRecord>,
    seen: Option<Seen<'a>>,
}

/// Which sessions alone are needed, of all in the order of their starts: so many, and those that
/// start with the last of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needed {
    pub(super) count: usize,
    /// Where they begin, with all that start then; none for the first.
    pub(super) from: Option<i64>,
    pub(super) is_newest_first: bool,
}

impl Job {
    /// The job over the sessions that may be asked for, and what these must fulfil. Where all
    /// rows fulfil it, `needed` says which are needed.
    pub(super) async fn over_sessions(
        &self,
        asked: &Asked,
        needed: Option<Needed>,
    ) -> Result<(Self, Condition), Error> {
        let condition = asked.condition(&[])?;
        let below = asked.question.below_sequence;
        let necessary = condition.constraints();
        let job = self.with_sessions(&necessary, below, needed).await?;
        Ok((job, condition))
    }

    /// The job over the sessions that may have certain ids, as their requests were with the
    /// spans below a sequence.
    pub(super) async fn with_sessions(
        &self,
        necessary: &Constraints,
        below_sequence: Option<i64>,
        needed: Option<Needed>,
    ) -> Result<Self, Error> {
        let ids = necessary.session_ids.as_ref();
        let ids = ids.filter(|ids| ids.len() <= MOST_LOOKED_UP);
        let is_asked = |id: &str| ids.is_none_or(|ids| ids.contains(id));
        let held = self.held("sessions");
        let registered = self.registered()?;
        let of_registry = registered.map_or(0, |all| all.len() * REGISTERED_BYTES);
        held.set(of_registry)?;
        let kept = self.seen_sessions(ids, below_sequence).await?;
        let mut seen: HashMap<&str, Seen<'_>> = HashMap::new();
        let mut of_parts = 0;
        for kept in &kept {
            let bytes = kept.columns.iter().map(Array::get_array_memory_size);
            of_parts += bytes.sum::<usize>();
            let most = seen.len() + kept.columns.first().map_or(0, Array::len);
            held.set(
                of_registry + of_parts + most * (size_of::<Seen<'_>>() + size_of::<Row<'_>>()),
            )?;
            add_seen(&kept.columns, &mut seen)?;
            self.next_batch().await?;
        }
        let registered = registered.into_iter().flatten();
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (id, session) in registered.filter(|(id, _)| is_asked(id)) {
            rows.push(Row {
                seen: seen.remove(id.as_str()),
                registered: Some(session),
                id,
            });
        }
        let only_seen = seen.into_iter().filter(|(id, _)| is_asked(id));
        rows.extend(only_seen.map(|(id, seen)| Row {
            id,
            registered: None,
            seen: Some(seen),
        }));
        if let Some(needed) = needed {
            needed.keep(&mut rows);
        }
        rows.sort_unstable_by_key(|row| (row.start(), row.id));
        let of_batches = self.held("sessions");
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for rows in rows.chunks(BATCH_ROWS) {
            self.next_batch().await?;
            let batch = HotBatch::derived(batch(self.team.as_str(), rows)?);
            bytes += batch.bytes;
            of_batches.set(bytes)?;
            batches.push(HotRows::all(&Arc::new(batch)));
        }
        let (segments, hidden) = (Vec::new(), std::collections::HashMap::new());
        self.with_rows(self.snapshot.derived(table(), segments, hidden, batches))
    }

    /// What the requests say of each session that one of them names: of all, or of those with
    /// certain ids and perhaps others.
    async fn seen_sessions(
        &self,
        ids: Option<&BTreeSet<String>>,
        below_sequence: Option<i64>,
    ) -> Result<Vec<Arc<KeptSessions>>, Error> {
        let of_ids = Constraints {
            session_ids: ids.cloned(),
            ..Constraints::default()
        };
        let job = self.with_requests(&of_ids, below_sequence).await?;
        let term = |column: RequestColumn| {
            Term::column(Column::Stored(column.place()), Rows::Requests.table())
        };
        let grouping = Arc::new(Grouping {
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
        });
        let all = Arc::new(Condition::always());
        let held = job.held("groups");
        let mut groups = Groups::new(&grouping)?;
        job.group_hot(&all, &grouping, &mut groups, &held).await?;
        let mut seen = vec![Arc::new(KeptSessions {
            left_out: RoaringBitmap::new(),
            columns: groups.finish()?,
        })];
        for matching in job.sealed(&all, &job.interrupt())? {
            let segment = Arc::clone(&matching.sealed.segment);
            let first_row = matching.sealed.partition.rows.start;
            let left_out = job.snapshot.hidden.get(&segment.summary().id);
            let left_out = left_out.cloned().unwrap_or_default();
            let kept = segment.kept_sessions(first_row);
            if let Some(kept) = kept.filter(|kept| kept.left_out == left_out) {
                seen.push(kept);
                continue;
            }
            let mut groups = Groups::new(&grouping)?;
            job.group_sealed(&matching, &all, &grouping, &mut groups, &held)
                .await?;
            let columns = groups.finish()?;
            let kept = Arc::new(KeptSessions { left_out, columns });
            segment.keep_sessions(first_row, &kept);
            seen.push(kept);
        }
        Ok(seen)
    }
}

/// Adds what some requests say of sessions.
fn add_seen<'a>(
    columns: &'a [ArrayRef],
    sessions: &mut HashMap<&'a str, Seen<'a>>,
) -> Result<(), Error> {
    let others = || Error::internal("groups", &"other columns than asked for");
    let [ids, users, starts, ends, requests, spans, errors] = columns else {
        return Err(others());
    };
    let texts = |texts: &'a ArrayRef| texts.as_string_view_opt().ok_or_else(others);
    let times = |times: &'a ArrayRef| {
        let times = times.as_primitive_opt::<TimestampNanosecondType>();
        Ok::<_, Error>(times.ok_or_else(others)?.values())
    };
    let numbers = |numbers: &'a ArrayRef| {
        let numbers = numbers.as_primitive_opt::<Int64Type>();
        Ok::<_, Error>(numbers.ok_or_else(others)?.values())
    };
    let (ids, users) = (texts(ids)?.iter(), texts(users)?.iter());
    let times = times(starts)?.iter().zip(times(ends)?);
    let counts = numbers(requests)?.iter();
    let counts = counts.zip(numbers(spans)?).zip(numbers(errors)?);
    for (((id, user), (start, end)), ((requests, spans), errors)) in
        ids.zip(users).zip(times).zip(counts)
    {
        let Some(id) = id else {
            continue;
        };
        let seen = Seen {
            user: user.map(|user| (*start, user)),
            first_start: *start,
            last_end: *end,
            requests: *requests,
            spans: *spans,
            errors: *errors,
        };
        let known = sessions.entry(id);
        known.and_modify(|known| known.add(seen)).or_insert(seen);
    }
    Ok(())
}

impl Seen<'_> {
    /// Adds what other requests of the session say.
    fn add(&mut self, other: Self) {
        self.user = match (self.user, other.user) {
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

impl Needed {
    /// Keeps those that are needed.
    fn keep(self, rows: &mut Vec<Row<'_>>) {
        // The greater, the earlier it comes.
        let rank = |start: i64| if self.is_newest_first { start } else { !start };
        let from = self.from.map_or(i64::MAX, rank);
        rows.retain(|row| rank(row.start()) <= from);
        let before = rows.iter().filter(|row| rank(row.start()) == from).count();
        let count = before.saturating_add(self.count);
        if count >= rows.len() || count == 0 {
            return;
        }
        let by_rank = |row: &Row<'_>| Reverse(rank(row.start()));
        let (_, last, _) = rows.select_nth_unstable_by_key(count - 1, by_rank);
        let last = rank(last.start());
        rows.retain(|row| rank(row.start()) >= last);
    }
}

impl Row<'_> {
    fn start(&self) -> i64 {
        let registered = self.registered.map(|session| session.started_at);
        let seen = self.seen.map(|seen| seen.first_start);
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
        Some(self.seen?.user?.1)
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
        let duration = |seen: Seen<'_>| seen.last_end.saturating_sub(seen.first_start);
        self.seen.map_or(0, duration)
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
    let number = |of: fn(&Seen<'_>) -> i64| -> ArrayRef {
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
            let ids = rows.iter().map(|row| row.id);
            Arc::new(StringViewArray::from_iter_values(ids))
        }
        SessionColumn::UserId => Arc::new(rows.iter().map(Row::user).collect::<StringViewArray>()),
        SessionColumn::Kind => Arc::new(rows.iter().map(Row::kind).collect::<StringViewArray>()),
        SessionColumn::State => Arc::new(rows.iter().map(Row::state).collect::<StringViewArray>()),
        SessionColumn::StartTime => time(|row| Some(row.start())),
        SessionColumn::StoppedTime => time(|row| row.registered?.stopped_at),
        SessionColumn::FirstSeen => time(|row| Some(row.seen?.first_start)),
        SessionColumn::LastSeen => time(|row| Some(row.seen?.last_end)),
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
