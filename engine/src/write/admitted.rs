//! The rows of a batch that were let in.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use spanstore_format::span::columns::{memory_of, with_sequence};
use spanstore_format::span::{SpanColumn, compact};

use super::prepare::Part;
use crate::error::Error;
use crate::hot::{Appended, HotBatch};

/// The rows of a part that were let in, which the record with a sequence brings; takes
/// what they are found by out of it.
pub(super) fn hot_batch(
    part: &mut Part,
    admitted: &[bool],
    sequence: u64,
) -> Result<Appended, ArrowError> {
    let rows = admitted_rows(&part.rows, admitted)?;
    let rows = with_sequence(&rows, sequence.cast_signed())?;
    if rows.num_rows() < admitted.len() {
        part.traces = traces_of(&rows)?;
    }
    let bytes = memory_of(&rows) + BATCH_OVERHEAD;
    Ok(Appended {
        batch: Arc::new(HotBatch::appended(part.month, rows, bytes)),
        traces: std::mem::take(&mut part.traces),
        sessions: std::mem::take(&mut part.sessions),
        arrived: None,
    })
}

/// The trace ids of rows, each once.
fn traces_of(rows: &RecordBatch) -> Result<Vec<[u8; 16]>, ArrowError> {
    let ids = SpanColumn::TraceId.ids(rows);
    let ids = ids.map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    let ids = (0..ids.len()).filter_map(|row| ids.value(row).try_into().ok());
    let ids: HashSet<[u8; 16]> = ids.collect();
    Ok(ids.into_iter().collect())
}

/// Memory of a batch beside its rows, in bytes, about: arrays and look-up.
const BATCH_OVERHEAD: usize = 8 << 10;

/// Rows of a batch that were let in, without the texts of the others.
fn admitted_rows(rows: &RecordBatch, admitted: &[bool]) -> Result<RecordBatch, ArrowError> {
    if admitted.iter().all(|admitted| *admitted) {
        return Ok(rows.clone());
    }
    let kept = filter_record_batch(rows, &BooleanArray::from(admitted.to_vec()))?;
    let columns: Result<_, ArrowError> = kept.columns().iter().map(compact).collect();
    RecordBatch::try_new(kept.schema(), columns?)
}

/// A record of the log as a hot batch, its decision applied.
pub(crate) fn replayed(
    mut part: Part,
    left_out: &[u32],
    sequence: u64,
) -> Result<(Vec<bool>, Appended), Error> {
    let admitted: Vec<bool> = part
        .positions
        .iter()
        .map(|position| left_out.binary_search(position).is_err())
        .collect();
    let batch = hot_batch(&mut part, &admitted, sequence)
        .map_err(|error| Error::internal("replayed rows", &error))?;
    Ok((admitted, batch))
}
