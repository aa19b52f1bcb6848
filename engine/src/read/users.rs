//! What is a user's: the sessions and the traces of their spans.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::Array;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;
use spanstore_format::{TeamId, TraceId};

use super::condition::Condition;
use super::interrupt::Interrupt;
use super::plan::plan;
use crate::error::Error;
use crate::view::Snapshot;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// Adds the sessions of the spans that carry a user's id. Answers the traces with a span that
/// carries it, or the id of one of the sessions.
pub(crate) fn traces(
    snapshot: &Snapshot,
    team: &TeamId,
    user: &str,
    sessions: &mut BTreeSet<String>,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<BTreeSet<TraceId>, Error> {
    let mut traces = BTreeSet::new();
    each(snapshot, team, SpanColumn::UserId, interrupt, |row| {
        if row.value == user {
            traces.insert(row.trace);
            sessions.extend(row.session.map(ToOwned::to_owned));
        }
    })?;
    // Of a session some spans may carry no user.
    each(snapshot, team, SpanColumn::SessionId, interrupt, |row| {
        if sessions.contains(row.value) {
            traces.insert(row.trace);
        }
    })?;
    Ok(traces)
}

/// A span with a value in the column that is looked at.
struct Row<'a> {
    value: &'a str,
    session: Option<&'a str>,
    trace: TraceId,
}

fn each(
    snapshot: &Snapshot,
    team: &TeamId,
    column: SpanColumn,
    interrupt: &Arc<dyn Interrupt>,
    mut look: impl FnMut(Row<'_>),
) -> Result<(), Error> {
    let columns = [column, SpanColumn::SessionId, SpanColumn::TraceId];
    let columns: BTreeSet<usize> = columns.iter().map(|column| column.place()).collect();
    let columns: Vec<Column> = columns.into_iter().map(Column::Stored).collect();
    let corrupt = |error| Error::corrupt("rows", error);
    for part in plan(snapshot, team, &Condition::always(), interrupt)? {
        for batch in part.read(&columns, BATCH_ROWS)? {
            let batch = batch?;
            let values = column.texts(&batch).map_err(corrupt)?;
            let sessions = SpanColumn::SessionId.texts(&batch).map_err(corrupt)?;
            let traces = SpanColumn::TraceId.ids(&batch).map_err(corrupt)?;
            for row in (0..batch.num_rows()).filter(|row| values.is_valid(*row)) {
                look(Row {
                    value: values.value(row),
                    session: sessions.is_valid(row).then(|| sessions.value(row)),
                    trace: TraceId::from_bytes(traces.value(row))?,
                });
            }
        }
    }
    Ok(())
}
