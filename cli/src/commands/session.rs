//! `session`: the spans of one session, oldest first.

use super::Context;
use crate::arguments::{Rows, SessionArguments};
use crate::error::Error;
use crate::output::{RowWriter, pick, row_columns};
use arrow::array::RecordBatch;
use spanstore_format::span::schema;

pub(super) fn run(context: &mut Context<'_>, arguments: &SessionArguments) -> Result<(), Error> {
    let spans = context.team.session_spans(&arguments.session_id)?;
    let columns = row_columns(Rows::Spans, context.format);
    let none = pick(&RecordBatch::new_empty(schema()), &columns)?;
    let mut writer = RowWriter::new(context.format, none.schema(), &mut *context.out)?;
    for batch in spans.batches() {
        writer.write(&pick(batch, &columns)?)?;
    }
    writer.finish()?;
    Ok(())
}
