//! Finds spans by id, in the hot buffer and in every segment, without SQL and
//! without a time.

use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use spanstore_format::segment::key_index::session_key;
use spanstore_format::span::schema::{SESSION_ID, TRACE_ID, schema};
use spanstore_format::{TeamId, TraceId};

use super::scan::{Constraints, filter, plan};
use crate::error::Error;
use crate::view::View;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// All spans of a trace.
pub(crate) fn trace(view: &View, team: &TeamId, trace: TraceId) -> Result<Vec<RecordBatch>, Error> {
    let snapshot = view.snapshot(|hot| hot.trace(team, trace.0));
    let constraints = Constraints {
        trace_ids: Some(BTreeSet::from([trace])),
        ..Constraints::default()
    };
    let mut found = Vec::new();
    for batch in read(&plan(&snapshot, team, &constraints)?) {
        let batch = batch?;
        let ids = batch
            .column_by_name(TRACE_ID)
            .and_then(|ids| ids.as_fixed_size_binary_opt());
        let rows = filter(&batch, |row| {
            ids.is_some_and(|ids| ids.value(row) == trace.0)
        })?;
        found.push(rows);
    }
    Ok(found)
}

/// All spans of a session.
pub(crate) fn session(
    view: &View,
    team: &TeamId,
    session: &str,
) -> Result<Vec<RecordBatch>, Error> {
    let key = session_key(session);
    let snapshot = view.snapshot(|hot| hot.session(team, &key));
    let sessions = BTreeSet::from([session.to_owned()]);
    let constraints = Constraints {
        session_ids: Some(sessions),
        ..Constraints::default()
    };
    let mut found = Vec::new();
    for batch in read(&plan(&snapshot, team, &constraints)?) {
        let batch = batch?;
        let ids = batch
            .column_by_name(SESSION_ID)
            .and_then(|ids| ids.as_string_view_opt());
        let is_session = |row| {
            use arrow::array::Array;
            ids.is_some_and(|ids| ids.is_valid(row) && ids.value(row) == session)
        };
        found.push(filter(&batch, is_session)?);
    }
    Ok(found)
}

/// All columns of all rows of parts.
fn read(parts: &[super::scan::ScanPart]) -> impl Iterator<Item = Result<RecordBatch, Error>> + '_ {
    let columns: Vec<usize> = (0..schema().fields().len()).collect();
    parts.iter().flat_map(move |part| {
        part.read(&columns, BATCH_ROWS)
            .unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
    })
}
