//! Lists a team's sessions, from its spans.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::Array;
use spanstore_format::TeamId;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;

use super::condition::Condition;
use super::interrupt::Interrupt;
use super::plan::plan;
use crate::error::Error;
use crate::view::Snapshot;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// What the spans of a session tell about it. Nothing says that a session has
/// ended: spans may still come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session.
    pub session_id: String,
    /// Its spans.
    pub spans: u64,
    /// Its traces.
    pub traces: u64,
    /// Its spans of the levels `error` and `fatal`.
    pub errors: u64,
    /// Start of its first span, ns since 1970.
    pub first_start_nanos: i64,
    /// Start of its last span, ns since 1970.
    pub last_start_nanos: i64,
}

/// The sessions of a team, those with the latest span first.
pub(crate) fn sessions(
    snapshot: &Snapshot,
    team: &TeamId,
    limit: usize,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<SessionSummary>, Error> {
    let columns = [
        SpanColumn::SessionId,
        SpanColumn::TraceId,
        SpanColumn::StartTime,
        SpanColumn::Level,
    ];
    let columns = columns.map(Column::from);
    let mut sessions: HashMap<String, (SessionSummary, HashSet<[u8; 16]>)> = HashMap::new();
    for part in plan(snapshot, team, &Condition::always(), interrupt)? {
        for batch in part.read(&columns, BATCH_ROWS)? {
            let batch = batch?;
            let corrupt = |error| Error::corrupt("rows", error);
            let ids = SpanColumn::SessionId.texts(&batch).map_err(corrupt)?;
            let traces = SpanColumn::TraceId.ids(&batch).map_err(corrupt)?;
            let starts = SpanColumn::StartTime.times(&batch).map_err(corrupt)?;
            let levels = SpanColumn::Level.texts(&batch).map_err(corrupt)?;
            for row in (0..batch.num_rows()).filter(|row| ids.is_valid(*row)) {
                let (id, start) = (ids.value(row), starts.value(row));
                if !sessions.contains_key(id) {
                    let summary = SessionSummary {
                        session_id: id.to_owned(),
                        spans: 0,
                        traces: 0,
                        errors: 0,
                        first_start_nanos: start,
                        last_start_nanos: start,
                    };
                    sessions.insert(id.to_owned(), (summary, HashSet::new()));
                }
                if let Some((summary, seen)) = sessions.get_mut(id) {
                    summary.spans += 1;
                    summary.errors += u64::from(matches!(levels.value(row), "error" | "fatal"));
                    summary.first_start_nanos = summary.first_start_nanos.min(start);
                    summary.last_start_nanos = summary.last_start_nanos.max(start);
                    seen.insert(traces.value(row).try_into().unwrap_or_default());
                }
            }
        }
    }
    let mut found: Vec<SessionSummary> = sessions
        .into_values()
        .map(|(summary, traces)| SessionSummary {
            traces: traces.len() as u64,
            ..summary
        })
        .collect();
    found.sort_unstable_by(|one, other| {
        let newest = other.last_start_nanos.cmp(&one.last_start_nanos);
        newest.then_with(|| one.session_id.cmp(&other.session_id))
    });
    found.truncate(limit);
    Ok(found)
}
