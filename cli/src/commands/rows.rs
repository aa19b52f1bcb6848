//! A stream of rows into the output.

use futures::StreamExt;
use spanstore::query::SendableRecordBatchStream;

use super::Out;
use crate::arguments::Format;
use crate::error::Error;
use crate::output::RowWriter;

/// Writes rows as they come, at most `most` of them; tells whether there were
/// more.
pub(super) async fn write(
    mut stream: SendableRecordBatchStream,
    most: Option<usize>,
    format: Format,
    out: Out<'_>,
) -> Result<bool, Error> {
    let mut writer = RowWriter::new(format, stream.schema(), out)?;
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
