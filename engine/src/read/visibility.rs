//! Rows that readers do not see although they are in a segment: those before
//! the horizon of retention, and those that are to be erased.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampNanosecondType;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::catalog::Erased;
use spanstore_format::segment::layout::encoding::ROW_GROUP_ROWS;
use spanstore_format::segment::{Id, Partition, SegmentReader};
use spanstore_format::span::SpanColumn;

use super::interrupt::Interrupt;
use super::scan::damaged;
use crate::error::Error;
use crate::segment::Segment;
use crate::view::Erasures;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// The rows of a partition that are not to be seen.
pub(crate) fn hidden_rows(
    segment: &Segment,
    reader: &SegmentReader,
    partition: &Partition,
    horizon: Option<i64>,
    erasures: &Erasures,
    interrupt: &dyn Interrupt,
) -> Result<RoaringBitmap, Error> {
    let mut hidden = erased_rows(segment, reader, partition, erasures, interrupt)?;
    let Some(horizon) = horizon.filter(|horizon| partition.first_start < *horizon) else {
        return Ok(hidden);
    };
    if partition.last_start < horizon {
        hidden.insert_range(partition.rows.clone());
        return Ok(hidden);
    }
    let rows = segment.row_reader()?;
    for range in by_row_group(partition.rows.clone()) {
        interrupt.check()?;
        match rows.range(range.start / ROW_GROUP_ROWS, SpanColumn::StartTime.place()) {
            Some((first, _)) if first >= horizon => {}
            Some((_, last)) if last < horizon => {
                hidden.insert_range(range);
            }
            _ => {
                let early = matching(
                    segment,
                    std::slice::from_ref(&range),
                    SpanColumn::StartTime,
                    |column| {
                        let starts = column
                            .as_primitive_opt::<TimestampNanosecondType>()?
                            .clone();
                        Some(Box::new(move |row| starts.value(row) < horizon))
                    },
                )?;
                hidden |= early;
            }
        }
    }
    Ok(hidden)
}

/// The rows of a partition that are to be erased.
pub(crate) fn erased_rows(
    segment: &Segment,
    reader: &SegmentReader,
    partition: &Partition,
    erasures: &Erasures,
    interrupt: &dyn Interrupt,
) -> Result<RoaringBitmap, Error> {
    let mut erased = RoaringBitmap::new();
    for erasure in erasures.of(&partition.team) {
        interrupt.check()?;
        if segment.summary().id >= erasure.before {
            continue;
        }
        let id = match &erasure.what {
            Erased::Team => {
                erased.insert_range(partition.rows.clone());
                return Ok(erased);
            }
            Erased::Trace(id) => Id::Trace(*id),
            Erased::Session(id) => Id::Session(id),
        };
        let found = reader.find(partition, id);
        let Some(found) = found.map_err(|error| segment.corrupt(error))? else {
            continue;
        };
        // Another id may have the same hash, and its rows stay.
        let ranges = super::scan::ranges(&found);
        erased |= match &erasure.what {
            Erased::Team => continue,
            Erased::Trace(id) => {
                let id = id.0;
                matching(segment, &ranges, SpanColumn::TraceId, |column| {
                    let ids = column.as_fixed_size_binary_opt()?.clone();
                    Some(Box::new(move |row| ids.value(row) == id))
                })?
            }
            Erased::Session(id) => {
                let id = id.clone();
                matching(segment, &ranges, SpanColumn::SessionId, move |column| {
                    let ids = column.as_string_view_opt()?.clone();
                    let id = id.clone();
                    Some(Box::new(move |row| {
                        ids.is_valid(row) && ids.value(row) == id
                    }))
                })?
            }
        };
    }
    Ok(erased)
}

type RowTest = Box<dyn Fn(usize) -> bool>;

/// The rows, among some, whose value of a column passes a test.
fn matching(
    segment: &Segment,
    rows: &[Range<u32>],
    column: SpanColumn,
    test: impl Fn(&ArrayRef) -> Option<RowTest>,
) -> Result<RoaringBitmap, Error> {
    let reader = segment.row_reader()?;
    let batches = reader
        .read(rows, &[column.into()], BATCH_ROWS)
        .map_err(|error| segment.corrupt(error))?;
    let mut numbers = rows.iter().cloned().flatten();
    let mut found = RoaringBitmap::new();
    for batch in batches {
        let batch = batch.map_err(|error| damaged(segment, &error))?;
        let test = batch.columns().first().and_then(&test).ok_or_else(|| {
            segment.corrupt(FormatError::malformed(
                "rows",
                0,
                column.name(),
                "another type",
            ))
        })?;
        for (row, number) in (0..batch.num_rows()).zip(&mut numbers) {
            if test(row) {
                found.insert(number);
            }
        }
    }
    Ok(found)
}

/// Cuts a range at the borders of row groups.
fn by_row_group(range: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = range
            .end
            .min((start / ROW_GROUP_ROWS + 1).saturating_mul(ROW_GROUP_ROWS));
        let piece = start..end;
        start = end;
        (!piece.is_empty()).then_some(piece)
    })
}
