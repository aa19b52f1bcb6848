//! Finds spans by id, in the hot buffer and in every segment, without SQL and
//! without a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use spanstore_format::segment::Column;
use spanstore_format::span::{SpanColumn, table};
use spanstore_format::{TeamId, TraceId};

use super::condition::Constraints;
use super::interrupt::{Interrupt, Never};
use super::plan::plan_by_ids;
use super::scan::{ScanPart, filter};
use crate::error::Error;
use crate::view::Snapshot;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// All spans of a trace in a snapshot.
pub(crate) fn trace(
    snapshot: &Snapshot,
    team: &TeamId,
    trace: TraceId,
) -> Result<Vec<RecordBatch>, Error> {
    let ids = Constraints {
        trace_ids: Some(BTreeSet::from([trace])),
        ..Constraints::default()
    };
    let mut found = Vec::new();
    for batch in read(&find(snapshot, team, &ids)?) {
        let batch = batch?;
        let ids = SpanColumn::TraceId.ids(&batch);
        let ids = ids.map_err(|error| Error::corrupt("rows", error))?;
        let rows = filter(&batch, |row| ids.value(row) == trace.0)?;
        found.push(rows);
    }
    Ok(found)
}

/// All spans of a session in a snapshot.
pub(crate) fn session(
    snapshot: &Snapshot,
    team: &TeamId,
    session: &str,
) -> Result<Vec<RecordBatch>, Error> {
    let ids = Constraints {
        session_ids: Some(BTreeSet::from([session.to_owned()])),
        ..Constraints::default()
    };
    by_text(snapshot, team, &ids, SpanColumn::SessionId, session)
}

/// All spans of a request in a snapshot.
pub(crate) fn request(
    snapshot: &Snapshot,
    team: &TeamId,
    request: &str,
) -> Result<Vec<RecordBatch>, Error> {
    let ids = Constraints {
        request_ids: Some(BTreeSet::from([request.to_owned()])),
        ..Constraints::default()
    };
    by_text(snapshot, team, &ids, SpanColumn::RequestId, request)
}

fn by_text(
    snapshot: &Snapshot,
    team: &TeamId,
    ids: &Constraints,
    column: SpanColumn,
    id: &str,
) -> Result<Vec<RecordBatch>, Error> {
    let mut found = Vec::new();
    for batch in read(&find(snapshot, team, ids)?) {
        let batch = batch?;
        let ids = column.texts(&batch);
        let ids = ids.map_err(|error| Error::corrupt("rows", error))?;
        found.push(filter(&batch, |row| {
            ids.is_valid(row) && ids.value(row) == id
        })?);
    }
    Ok(found)
}

fn find(snapshot: &Snapshot, team: &TeamId, ids: &Constraints) -> Result<Vec<ScanPart>, Error> {
    let never: Arc<dyn Interrupt> = Arc::new(Never);
    plan_by_ids(snapshot, team, ids, &never)
}

/// All columns of all rows of parts.
fn read(parts: &[ScanPart]) -> impl Iterator<Item = Result<RecordBatch, Error>> + '_ {
    let columns = Column::all(table());
    parts.iter().flat_map(move |part| {
        part.read(&columns, BATCH_ROWS)
            .unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
    })
}
