//! A stream of rows into the output.

use futures::StreamExt;
use spanstore::query::SendableRecordBatchStream;

use super::Context;
use crate::error::Error;
use crate::output::RowWriter;

/// What was written of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) rows: usize,
    /// Whether there were more.
    pub(super) is_cut: bool,
}

/// Writes rows as they come, at most `most` of them, or what they cost in place of them. A table
/// may leave some columns out where the terminal is narrow.
pub(super) async fn write(
    mut stream: SendableRecordBatchStream,
    most: Option<usize>,
    may_leave_out: &'static [&'static str],
    context: &mut Context<'_>,
) -> Result<Written, Error> {
    let mut written = Written::default();
    if context.cost.is_some() {
        while let Some(batch) = stream.next().await {
            batch.map_err(spanstore::Error::from)?;
        }
        context.write_cost()?;
        return Ok(written);
    }
    let writer = RowWriter::new(context.format, stream.schema(), &mut *context.out)?;
    let mut writer = writer.leaving_out(may_leave_out);
    let most = most.unwrap_or(usize::MAX);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(spanstore::Error::from)?;
        let rows = batch.num_rows().min(most - written.rows);
        writer.write(&batch.slice(0, rows))?;
        written.rows += rows;
        written.is_cut = rows < batch.num_rows();
        if written.is_cut {
            break;
        }
    }
    writer.finish()?;
    Ok(written)
}
