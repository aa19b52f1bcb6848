//! Finds spans by id, in the hot buffer and in every segment, without SQL and
//! without a time.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use spanstore_format::segment::{Column, Id};
use spanstore_format::span::{SpanColumn, table};
use spanstore_format::{TeamId, TraceId};

use super::interrupt::{Held, Interrupt};
use super::plan::plan_by_id;
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
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<RecordBatch>, Error> {
    let mut found = Found::new(interrupt);
    for batch in read(&plan_by_id(snapshot, team, Id::Trace(trace), interrupt)?) {
        let batch = batch?;
        let ids = SpanColumn::TraceId.ids(&batch);
        let ids = ids.map_err(|error| Error::corrupt("rows", error))?;
        found.push(filter(&batch, |row| ids.value(row) == trace.0)?)?;
    }
    Ok(found.batches)
}

/// All spans of a session in a snapshot.
pub(crate) fn session(
    snapshot: &Snapshot,
    team: &TeamId,
    session: &str,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<RecordBatch>, Error> {
    let parts = plan_by_id(snapshot, team, Id::Session(session), interrupt)?;
    by_text(&parts, SpanColumn::SessionId, session, interrupt)
}

/// All spans of a request in a snapshot.
pub(crate) fn request(
    snapshot: &Snapshot,
    team: &TeamId,
    request: &str,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<RecordBatch>, Error> {
    let parts = plan_by_id(snapshot, team, Id::Request(request), interrupt)?;
    by_text(&parts, SpanColumn::RequestId, request, interrupt)
}

fn by_text(
    parts: &[ScanPart],
    column: SpanColumn,
    id: &str,
    interrupt: &Arc<dyn Interrupt>,
) -> Result<Vec<RecordBatch>, Error> {
    let mut found = Found::new(interrupt);
    for batch in read(parts) {
        let batch = batch?;
        let ids = column.texts(&batch);
        let ids = ids.map_err(|error| Error::corrupt("rows", error))?;
        let is_of_id = |row| ids.is_valid(row) && ids.value(row) == id;
        found.push(filter(&batch, is_of_id)?)?;
    }
    Ok(found.batches)
}

/// Rows that were found, and their memory until all are.
struct Found<'i> {
    interrupt: &'i Arc<dyn Interrupt>,
    batches: Vec<RecordBatch>,
    held: Vec<Held>,
}

impl<'i> Found<'i> {
    fn new(interrupt: &'i Arc<dyn Interrupt>) -> Self {
        Self {
            interrupt,
            batches: Vec::new(),
            held: Vec::new(),
        }
    }

    fn push(&mut self, rows: RecordBatch) -> Result<(), Error> {
        self.interrupt.check()?;
        self.held.push(self.interrupt.hold(&rows)?);
        self.batches.push(rows);
        Ok(())
    }
}

/// All columns of all rows of parts.
fn read(parts: &[ScanPart]) -> impl Iterator<Item = Result<RecordBatch, Error>> + '_ {
    // Most look-ups of an absent id end here.
    let columns = if parts.is_empty() {
        Vec::new()
    } else {
        Column::all(table())
    };
    parts.iter().flat_map(move |part| {
        part.read(&columns, BATCH_ROWS)
            .unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
    })
}
