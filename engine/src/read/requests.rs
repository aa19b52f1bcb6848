//! Requests, put together of the spans of their traces.
//!
//! Spans are read twice: all of them for what tells the shape of a trace, then those alone
//! whose values a request has.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryBuilder, Int64Array, RecordBatch,
    StringViewArray, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::interleave;
use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::requests::assemble::{self, EARLIEST, Request, SpanFacts};
use spanstore_format::requests::column::Source;
use spanstore_format::requests::{RequestColumn, table};
use spanstore_format::segment::Column;
use spanstore_format::span::{SpanColumn, compact};

use super::interrupt::{Held, Interrupt};
use super::scan::{ScanPart, columns_error};
use crate::error::Error;
use crate::hot::{HotBatch, HotRows};
use crate::view::Snapshot;

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// Requests of a batch, at most.
const MOST_ROWS: usize = 16_384;

/// What requests need to know of the spans of a part.
pub(crate) struct PartFacts {
    part: ScanPart,
    spans: Vec<SpanFacts>,
    runs: Vec<Run>,
    /// Services and what answered, by their numbers in the facts.
    texts: Vec<String>,
}

/// Spans of one trace, one after the other.
struct Run {
    trace: [u8; 16],
    /// Their places among the facts.
    spans: Range<usize>,
    /// The place of the first among the rows of the part.
    first_row: u32,
}

impl PartFacts {
    /// Reads a part; of some traces alone, if they are given, and only spans below a
    /// sequence.
    pub(crate) fn read(
        part: ScanPart,
        traces: Option<&HashSet<[u8; 16]>>,
        below_sequence: Option<i64>,
        interrupt: &dyn Interrupt,
    ) -> Result<Self, Error> {
        let columns = assemble::COLUMNS.map(Column::from);
        let mut facts = Self {
            spans: Vec::new(),
            runs: Vec::new(),
            texts: Vec::new(),
            part: part.clone(),
        };
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut row = 0;
        for batch in part.read(&columns, BATCH_ROWS)? {
            interrupt.check()?;
            let batch = batch?;
            let Self {
                spans, runs, texts, ..
            } = &mut facts;
            let number = |text: &str| {
                if let Some(number) = numbers.get(text) {
                    return *number;
                }
                let number = texts.len() as u32;
                texts.push(text.to_owned());
                numbers.insert(text.to_owned(), number);
                number
            };
            let corrupt = |error| Error::corrupt("spans", error);
            let take = |trace: [u8; 16], span: SpanFacts| {
                let is_seen = below_sequence.is_none_or(|below| span.sequence < below);
                if is_seen && traces.is_none_or(|traces| traces.contains(&trace)) {
                    let place = spans.len();
                    match runs.last_mut() {
                        Some(run) if run.trace == trace && run.follows(row) => {
                            run.spans.end = place + 1;
                        }
                        _ => runs.push(Run {
                            trace,
                            spans: place..place + 1,
                            first_row: row,
                        }),
                    }
                    spans.push(span);
                }
                row += 1;
            };
            SpanFacts::read(&batch, number, take).map_err(corrupt)?;
        }
        facts.spans.shrink_to_fit();
        facts.runs.shrink_to_fit();
        Ok(facts)
    }

    /// Memory that it takes, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.spans.len() * size_of::<SpanFacts>()
            + self.runs.len() * size_of::<Run>()
            + self.texts.iter().map(String::capacity).sum::<usize>()
    }
}

impl Run {
    /// Whether a row comes right after its last one.
    fn follows(&self, row: u32) -> bool {
        self.first_row + self.spans.len() as u32 == row
    }
}

/// A span: the number of its part, and its place among the rows of that.
type Place = (u32, u32);

/// A request, and the spans that its values come from.
struct Found {
    trace: [u8; 16],
    request: Request,
    root: Place,
    earliest: [Option<Place>; EARLIEST.len()],
    is_split: bool,
}

/// The requests of the spans of a snapshot, by their start, as a snapshot of their own.
pub(crate) fn requests(
    snapshot: &Snapshot,
    team: &TeamId,
    mut parts: Vec<PartFacts>,
    interrupt: &dyn Interrupt,
) -> Result<Snapshot, Error> {
    let texts = share_texts(&mut parts);
    let mut traces: HashMap<[u8; 16], Vec<(u32, usize)>> = HashMap::new();
    for (number, part) in (0..).zip(&parts) {
        for (place, run) in part.runs.iter().enumerate() {
            traces.entry(run.trace).or_default().push((number, place));
        }
    }
    let mut found = Vec::with_capacity(traces.len());
    for (trace, runs) in traces {
        interrupt.check()?;
        found.extend(request(trace, &runs, &parts));
    }
    found.sort_unstable_by_key(|found| (found.request.start, found.trace));
    let values = Values::fetch(&parts, &found, interrupt)?;
    let mut batches = Vec::with_capacity(found.len() / MOST_ROWS + 1);
    for found in found.chunks(MOST_ROWS) {
        interrupt.check()?;
        let rows = compacted(&rows(team, found, &texts, &values)?)?;
        batches.push(HotRows::all(&Arc::new(HotBatch::derived(rows))));
    }
    Ok(snapshot.derived(table(), batches))
}

/// Rows without the memory of others that were read beside them.
fn compacted(rows: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = rows.columns().iter().map(compact);
    let columns = columns.collect::<Result<_, _>>();
    let compacted = columns.and_then(|columns| RecordBatch::try_new(rows.schema(), columns));
    compacted.map_err(|error| columns_error("requests", &error))
}

/// Gives texts the same numbers in all parts.
fn share_texts(parts: &mut [PartFacts]) -> Vec<String> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for part in parts {
        let shared: Vec<u32> = part
            .texts
            .drain(..)
            .map(|text| {
                let next = numbers.len() as u32;
                *numbers.entry(text).or_insert(next)
            })
            .collect();
        let share = |number: &mut Option<u32>| {
            *number = number.and_then(|number| shared.get(number as usize).copied());
        };
        for span in &mut part.spans {
            share(&mut span.service);
            share(&mut span.resource);
        }
    }
    let mut texts = vec![String::new(); numbers.len()];
    for (text, number) in numbers {
        if let Some(place) = texts.get_mut(number as usize) {
            *place = text;
        }
    }
    texts
}

/// The request of the spans in some runs of parts.
fn request(trace: [u8; 16], runs: &[(u32, usize)], parts: &[PartFacts]) -> Option<Found> {
    let mut spans: Vec<SpanFacts> = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    let mut origins = BTreeSet::new();
    for (number, run) in runs {
        let part = parts.get(*number as usize)?;
        let run = part.runs.get(*run)?;
        spans.extend(part.spans.get(run.spans.clone())?);
        places.extend(
            (run.first_row..)
                .take(run.spans.len())
                .map(|row| (*number, row)),
        );
        origins.insert(part.part.segment());
    }
    let request = assemble::assemble(&spans)?;
    let place = |span: usize| places.get(span).copied();
    Some(Found {
        trace,
        root: place(request.root)?,
        earliest: request.earliest.map(|span| span.and_then(place)),
        request,
        is_split: origins.len() > 1,
    })
}

/// The values of the spans that requests have values of.
struct Values {
    /// For each part, the spans and their columns.
    parts: Vec<(RoaringBitmap, RecordBatch)>,
    _held: Vec<Held>,
}

/// The columns of spans that columns of requests have values of.
fn sources() -> Vec<SpanColumn> {
    let columns = RequestColumn::ALL.iter();
    let sources = columns.filter_map(|column| match column.source() {
        Source::Root(column) | Source::RootOrEarliest(column) => Some(column),
        Source::Trace => None,
    });
    sources.collect()
}

impl Values {
    fn fetch(
        parts: &[PartFacts],
        found: &[Found],
        interrupt: &dyn Interrupt,
    ) -> Result<Self, Error> {
        let columns: Vec<Column> = sources().into_iter().map(Column::from).collect();
        let mut wanted: Vec<RoaringBitmap> = Vec::new();
        wanted.resize_with(parts.len(), RoaringBitmap::new);
        for found in found {
            for (part, row) in found.earliest.iter().flatten().chain([&found.root]) {
                if let Some(rows) = wanted.get_mut(*part as usize) {
                    rows.insert(*row);
                }
            }
        }
        let mut fetched = Vec::with_capacity(parts.len());
        let mut held = Vec::with_capacity(parts.len());
        for (part, rows) in parts.iter().zip(wanted) {
            interrupt.check()?;
            let values = compacted(&part.part.take(&columns, &rows)?)?;
            held.push(interrupt.hold(&values)?);
            fetched.push((rows, values));
        }
        Ok(Self {
            parts: fetched,
            _held: held,
        })
    }

    /// A column of some spans, null where there is none.
    fn column(
        &self,
        column: SpanColumn,
        spans: impl Iterator<Item = Option<Place>>,
    ) -> Result<ArrayRef, Error> {
        let null = new_null_array(&column.description().value.data_type(), 1);
        let mut sources: Vec<&dyn Array> = Vec::with_capacity(self.parts.len() + 1);
        for (_, values) in &self.parts {
            let values = column.of(values);
            let values = values.map_err(|error| Error::corrupt("spans", error))?;
            sources.push(values.as_ref());
        }
        sources.push(null.as_ref());
        let of_null = Some((self.parts.len(), 0));
        let places = spans.map(|span| {
            let Some((part, row)) = span else {
                return of_null;
            };
            let (rows, _) = self.parts.get(part as usize)?;
            let before = rows.rank(row).checked_sub(1)?;
            Some((part as usize, usize::try_from(before).ok()?))
        });
        let places: Option<Vec<(usize, usize)>> = places.collect();
        let missing = || Error::internal("requests", &"a span that was not read");
        let values = interleave(&sources, &places.ok_or_else(missing)?);
        values.map_err(|error| columns_error("requests", &error))
    }
}

/// Requests as rows of their table.
fn rows(
    team: &TeamId,
    found: &[Found],
    texts: &[String],
    values: &Values,
) -> Result<RecordBatch, Error> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(RequestColumn::ALL.len());
    for column in RequestColumn::ALL {
        columns.push(match column.source() {
            Source::Root(span) => {
                values.column(span, found.iter().map(|found| Some(found.root)))?
            }
            Source::RootOrEarliest(span) => {
                let place = EARLIEST.iter().position(|other| *other == span);
                let of = |found: &Found| found.earliest.get(place?).copied().flatten();
                values.column(span, found.iter().map(of))?
            }
            Source::Trace => of_trace(*column, team, found, texts)?,
        });
    }
    let rows = RecordBatch::try_new(table().schema(), columns);
    rows.map_err(|error| columns_error("requests", &error))
}

/// A column whose values come from all spans of a trace.
fn of_trace(
    column: RequestColumn,
    team: &TeamId,
    found: &[Found],
    texts: &[String],
) -> Result<ArrayRef, Error> {
    let requests = || found.iter().map(|found| &found.request);
    let times = |time: fn(&Request) -> i64| -> ArrayRef {
        let times = TimestampNanosecondArray::from_iter_values(requests().map(time));
        Arc::new(times.with_timezone("UTC"))
    };
    let numbers = |number: fn(&Request) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(requests().map(number)))
    };
    let truths = |truth: fn(&Found) -> Option<bool>| -> ArrayRef {
        Arc::new(found.iter().map(truth).collect::<BooleanArray>())
    };
    Ok(match column {
        RequestColumn::TeamId => {
            let team = std::iter::repeat_n(team.as_str(), found.len());
            Arc::new(StringViewArray::from_iter_values(team))
        }
        RequestColumn::TraceId => {
            let mut ids = FixedSizeBinaryBuilder::with_capacity(found.len(), 16);
            for found in found {
                let added = ids.append_value(found.trace);
                added.map_err(|error| columns_error("requests", &error))?;
            }
            Arc::new(ids.finish())
        }
        RequestColumn::StartTime => times(|request| request.start),
        RequestColumn::EndTime => times(|request| request.end),
        RequestColumn::Duration => numbers(|request| request.end.saturating_sub(request.start)),
        RequestColumn::Spans => numbers(|request| request.spans.into()),
        RequestColumn::Errors => numbers(|request| request.errors.into()),
        RequestColumn::Warnings => numbers(|request| request.warnings.into()),
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
            let cause = format!("no rule for the column {}", other.name());
            return Err(Error::internal("requests", &cause));
        }
    })
}

/// Sets of texts, by their numbers, as JSON arrays.
fn lists<'a>(
    sets: impl Iterator<Item = &'a BTreeSet<u32>>,
    texts: &[String],
) -> Result<ArrayRef, Error> {
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
        let list = list.map_err(|error| Error::internal("requests", &error))?;
        known.insert(set, list);
    }
    let lists = lists.into_iter().map(|set| known.get(set));
    Ok(Arc::new(lists.collect::<StringViewArray>()))
}
