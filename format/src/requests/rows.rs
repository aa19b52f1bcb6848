//! Requests as rows of their table.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryBuilder, Int64Array, RecordBatch, StringViewArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::error::ArrowError;

use super::assemble::{EARLIEST, Request};
use super::column::{RequestColumn, Source, table};
use crate::error::FormatError;
use crate::span::SpanColumn;

/// A request, and the places of the spans that its values come from.
#[derive(Debug, Clone)]
pub struct Found<P> {
    /// The trace.
    pub trace: [u8; 16],
    /// What all spans tell.
    pub request: Request,
    /// The root, or the span that stands for it.
    pub root: P,
    /// The spans that have the values of [`EARLIEST`].
    pub earliest: [Option<P>; EARLIEST.len()],
    /// In a segment the number of the row of the first span, else 0.
    pub first_span: u32,
    /// Whether the spans lie in several places.
    pub is_split: bool,
}

/// Rows of requests of a team. `texts` are those that requests have the numbers of;
/// `values` answers a column of spans at places, null where there is none.
///
/// # Errors
/// What `values` answers, and [`FormatError::Malformed`] when its columns have another type
/// or length.
pub fn rows<P: Copy, E: From<FormatError>>(
    team: &str,
    found: &[Found<P>],
    texts: &[String],
    values: impl Fn(SpanColumn, &[Option<P>]) -> Result<ArrayRef, E>,
) -> Result<RecordBatch, E> {
    let roots: Vec<Option<P>> = found.iter().map(|found| Some(found.root)).collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(RequestColumn::ALL.len());
    for column in RequestColumn::ALL {
        columns.push(match column.source() {
            Source::Root(span) => values(span, &roots)?,
            Source::RootOrEarliest(span) => {
                let place = EARLIEST.iter().position(|other| *other == span);
                let of = |found: &Found<P>| found.earliest.get(place?).copied().flatten();
                let places: Vec<Option<P>> = found.iter().map(of).collect();
                values(span, &places)?
            }
            Source::Trace => of_trace(*column, team, found, texts)?,
        });
    }
    let rows = RecordBatch::try_new(table().schema(), columns);
    Ok(rows.map_err(|error| other_columns(&error))?)
}

pub(super) fn other_columns(error: &ArrowError) -> FormatError {
    FormatError::malformed("columns", 0, "columns of requests", error.to_string())
}

/// A column whose values come from all spans of a trace.
fn of_trace<P>(
    column: RequestColumn,
    team: &str,
    found: &[Found<P>],
    texts: &[String],
) -> Result<ArrayRef, FormatError> {
    let requests = || found.iter().map(|found| &found.request);
    let times = |time: fn(&Request) -> i64| -> ArrayRef {
        let times = TimestampNanosecondArray::from_iter_values(requests().map(time));
        Arc::new(times.with_timezone("UTC"))
    };
    let numbers = |number: fn(&Request) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(requests().map(number)))
    };
    let truths = |truth: fn(&Found<P>) -> Option<bool>| -> ArrayRef {
        Arc::new(found.iter().map(truth).collect::<BooleanArray>())
    };
    Ok(match column {
        RequestColumn::TeamId => {
            let team = std::iter::repeat_n(team, found.len());
            Arc::new(StringViewArray::from_iter_values(team))
        }
        RequestColumn::TraceId => {
            let mut ids = FixedSizeBinaryBuilder::with_capacity(found.len(), 16);
            for found in found {
                let added = ids.append_value(found.trace);
                added.map_err(|error| other_columns(&error))?;
            }
            Arc::new(ids.finish())
        }
        RequestColumn::StartTime => times(|request| request.start),
        RequestColumn::EndTime => times(|request| request.end),
        RequestColumn::Duration => numbers(|request| request.end.saturating_sub(request.start)),
        RequestColumn::Spans => numbers(|request| request.spans.into()),
        RequestColumn::Errors => numbers(|request| request.errors.into()),
        RequestColumn::Warnings => numbers(|request| request.warnings.into()),
        RequestColumn::LastSequence => numbers(|request| request.last_sequence),
        RequestColumn::FirstSpan => {
            let first = found.iter().map(|found| found.first_span);
            Arc::new(UInt32Array::from_iter_values(first))
        }
        RequestColumn::Level => Arc::new(StringViewArray::from_iter_values(
            requests().map(|request| request.level.as_str()),
        )),
        RequestColumn::Services => lists(requests().map(|request| &request.services), texts)?,
        RequestColumn::Resources => lists(requests().map(|request| &request.resources), texts)?,
        RequestColumn::ColdStart => truths(|found| found.request.cold_start),
        RequestColumn::HasRoot => truths(|found| Some(found.request.has_root)),
        RequestColumn::Complete => truths(|found| Some(found.request.is_complete)),
        RequestColumn::Split => truths(|found| Some(found.is_split)),
        other => {
            let expected = "a column with a rule of its own";
            return Err(FormatError::malformed("columns", 0, expected, other.name()));
        }
    })
}

/// Sets of texts, by their numbers, as JSON arrays.
fn lists<'a>(
    sets: impl Iterator<Item = &'a BTreeSet<u32>>,
    texts: &[String],
) -> Result<ArrayRef, FormatError> {
    let mut known: HashMap<&BTreeSet<u32>, String> = HashMap::new();
    let mut lists: Vec<&BTreeSet<u32>> = Vec::new();
    for set in sets {
        lists.push(set);
        if known.contains_key(set) {
            continue;
        }
        let of_set = set.iter().filter_map(|number| texts.get(*number as usize));
        let sorted: BTreeSet<&String> = of_set.collect();
        let list = serde_json::to_string(&sorted);
        let list = list.map_err(|error| {
            FormatError::malformed("columns", 0, "texts of requests", error.to_string())
        })?;
        known.insert(set, list);
    }
    let lists = lists.into_iter().map(|set| known.get(set));
    Ok(Arc::new(lists.collect::<StringViewArray>()))
}
