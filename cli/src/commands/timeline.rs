//! `timeline`: how many spans or requests start when.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray, TimestampNanosecondArray, UInt64Array};
use spanstore::query::{Rows, Timeline};

use super::{Context, runtime};
use crate::arguments::{Format, TimelineArguments};
use crate::error::Error;

/// Cells of the longest bar.
const BAR_CELLS: u64 = 40;

/// Values that have columns of their own in a table.
const TABLE_VALUES: usize = 4;

pub(super) fn run(context: &mut Context<'_>, arguments: &TimelineArguments) -> Result<(), Error> {
    let counted = arguments.counted.of.rows();
    let query = context.select(counted, &arguments.counted.selection)?;
    let timeline = query.timeline(arguments.buckets, arguments.by.as_deref());
    let timeline = runtime()?.block_on(timeline);
    let by = arguments.by.as_deref().unwrap_or_default();
    let timeline = timeline.map_err(Error::of_filter(by))?;
    let rows = if context.format == Format::Table {
        chart(&timeline, arguments.by.is_some(), counted)?
    } else {
        list(&timeline, counted)?
    };
    context.write(&rows)
}

/// When a bucket begins.
fn start(timeline: &Timeline, bucket: usize) -> i64 {
    let after = timeline.width.saturating_mul(bucket as i64);
    timeline.start.saturating_add(after)
}

fn times(starts: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(starts).with_timezone("UTC"))
}

/// A row for each bucket, with a bar.
fn chart(timeline: &Timeline, has_values: bool, counted: Rows) -> Result<RecordBatch, Error> {
    let buckets = if timeline.series.is_empty() {
        0
    } else {
        timeline.buckets
    };
    let of_bucket = |bucket: usize| {
        let spans = timeline
            .series
            .iter()
            .filter_map(|series| series.spans.get(bucket));
        spans.sum::<u64>()
    };
    let totals: Vec<u64> = (0..buckets).map(of_bucket).collect();
    let most = totals.iter().copied().max().unwrap_or_default().max(1);
    let bars = totals.iter().map(|total| {
        let cells = u128::from(*total) * u128::from(BAR_CELLS);
        let cells = cells.div_ceil(u128::from(most));
        Some("█".repeat(cells as usize))
    });
    let bars: StringViewArray = bars.collect();
    let starts = (0..buckets).map(|bucket| start(timeline, bucket)).collect();
    let mut columns: Vec<(String, ArrayRef)> = vec![("start".into(), times(starts))];
    if has_values {
        for series in timeline.series.iter().take(TABLE_VALUES) {
            let name = series.value.clone().unwrap_or_else(|| "(none)".into());
            columns.push((name, Arc::new(UInt64Array::from(series.spans.clone()))));
        }
    }
    columns.push((counted.name().into(), Arc::new(UInt64Array::from(totals))));
    columns.push((String::new(), Arc::new(bars)));
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// A row for each bucket and value that has spans.
fn list(timeline: &Timeline, counted: Rows) -> Result<RecordBatch, Error> {
    let buckets = 0..timeline.buckets;
    let rows = buckets.flat_map(|bucket| {
        let of_series = timeline.series.iter().map(move |series| {
            let spans = series.spans.get(bucket).copied().unwrap_or_default();
            (bucket, series.value.as_deref(), spans)
        });
        of_series.filter(|(_, _, spans)| *spans > 0)
    });
    let rows: Vec<_> = rows.collect();
    let starts = rows
        .iter()
        .map(|(bucket, ..)| start(timeline, *bucket))
        .collect();
    let values: StringViewArray = rows.iter().map(|(_, value, _)| *value).collect();
    let spans: UInt64Array = rows.iter().map(|(.., spans)| Some(*spans)).collect();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("start", times(starts), false),
        ("value", Arc::new(values), true),
        (counted.name(), Arc::new(spans), false),
    ])?)
}
