//! `compact`: segments merged, and what is not kept removed.

use super::Context;
use crate::arguments::CompactArguments;
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>, arguments: &CompactArguments) -> Result<(), Error> {
    let mut report = if arguments.erase {
        context.store.erase()?
    } else {
        spanstore::CompactReport::default()
    };
    let merged = context.store.compact()?;
    report.segments_before += merged.segments_before;
    report.segments_after += merged.segments_after;
    report.rows_written += merged.rows_written;
    report.rows_removed += merged.rows_removed;
    report.bytes_written += merged.bytes_written;
    Report::new()
        .with("segments_replaced", report.segments_before)
        .with("segments_written", report.segments_after)
        .with("segments", context.store.segments().len())
        .with("rows_written", report.rows_written)
        .with("rows_removed", report.rows_removed)
        .with("bytes_written", report.bytes_written)
        .write(context.format, &mut context.out)
}
