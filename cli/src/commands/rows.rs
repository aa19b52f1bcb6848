//! A stream of rows into the output.

use futures::StreamExt;
use spanstore::query::SendableRecordBatchStream;

use super::Context;
use crate::error::Error;
use crate::output::RowWriter;

/// Writes rows as they come, at most `most` of them, or what they cost; tells whether
/// there were more.
pub(super) async fn write(
    mut stream: SendableRecordBatchStream,
    most: Option<usize>,
    context: &mut Context<'_>,
) -> Result<bool, Error> {
    if context.cost.is_some() {
        while let Some(batch) = stream.next().await {
            batch.map_err(spanstore::Error::from)?;
        }
        context.write_cost()?;
        return Ok(false);
    }
    let mut writer = RowWriter::new(context.format, stream.schema(), &mut *context.out)?;
    let mut left = most.unwrap_or(usize::MAX);
    let mut is_cut = false;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(spanstore::Error::from)?;
        is_cut = batch.num_rows() > left;
        writer.write(&batch.slice(0, left.min(batch.num_rows())))?;
        left = left.saturating_sub(batch.num_rows());
        if is_cut {
            break;
        }
    }
    writer.finish()?;
    Ok(is_cut)
}
