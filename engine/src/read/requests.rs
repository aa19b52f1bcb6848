//! Requests, put together of the spans of their traces.
//!
//! Spans are read twice: all of them for what tells the shape of a trace, then those alone
//! whose values a request has.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;
use roaring::RoaringBitmap;
use spanstore_format::TeamId;
use spanstore_format::requests::assemble::{self, SpanFacts};
use spanstore_format::requests::column::sources;
use spanstore_format::requests::rows::{Found, rows};
use spanstore_format::segment::Column;
use spanstore_format::span::{SpanColumn, compact};

use super::interrupt::{Held, Interrupt};
use super::scan::{ScanPart, columns_error};
use crate::error::Error;
use crate::hot::{HotBatch, HotRows};

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
    /// Their numbers, while they are read.
    numbers: HashMap<String, u32>,
}

/// The places of the rows of a part that belong to some traces.
fn rows_of(
    part: &ScanPart,
    traces: &HashSet<[u8; 16]>,
    interrupt: &dyn Interrupt,
) -> Result<Vec<u32>, Error> {
    let mut rows = Vec::new();
    let mut row = 0;
    for batch in part.read(&[SpanColumn::TraceId.into()], BATCH_ROWS)? {
        interrupt.check()?;
        let batch = batch?;
        let ids = SpanColumn::TraceId.ids(&batch);
        let ids = ids.map_err(|error| Error::corrupt("spans", error))?;
        for id in ids {
            if id.is_some_and(|id| traces.contains(id)) {
                rows.push(row);
            }
            row += 1;
        }
    }
    Ok(rows)
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
            numbers: HashMap::new(),
            part: part.clone(),
        };
        let below = below_sequence.unwrap_or(i64::MAX);
        match traces {
            None => {
                let mut row = 0;
                for batch in part.read(&columns, BATCH_ROWS)? {
                    interrupt.check()?;
                    let batch = batch?;
                    facts.add(&batch, row.., below)?;
                    row += batch.num_rows() as u32;
                }
            }
            Some(traces) => {
                let rows = rows_of(&part, traces, interrupt)?;
                for rows in rows.chunks(BATCH_ROWS) {
                    interrupt.check()?;
                    let batch = part.take(&columns, &rows.iter().copied().collect())?;
                    facts.add(&batch, rows.iter().copied(), below)?;
                }
            }
        }
        facts.numbers = HashMap::new();
        facts.spans.shrink_to_fit();
        facts.runs.shrink_to_fit();
        Ok(facts)
    }

    /// Adds the spans of a batch, with the places of its rows in the part.
    fn add(
        &mut self,
        batch: &RecordBatch,
        rows: impl IntoIterator<Item = u32>,
        below_sequence: i64,
    ) -> Result<(), Error> {
        let Self {
            spans,
            runs,
            texts,
            numbers,
            ..
        } = self;
        let number = |text: &str| {
            if let Some(number) = numbers.get(text) {
                return *number;
            }
            let number = texts.len() as u32;
            texts.push(text.to_owned());
            numbers.insert(text.to_owned(), number);
            number
        };
        let mut rows = rows.into_iter();
        let take = |trace: [u8; 16], span: SpanFacts| {
            let Some(row) = rows.next().filter(|_| span.sequence < below_sequence) else {
                return;
            };
            let place = spans.len();
            match runs.last_mut() {
                Some(run) if run.trace == trace && run.follows(row) => run.spans.end = place + 1,
                _ => runs.push(Run {
                    trace,
                    spans: place..place + 1,
                    first_row: row,
                }),
            }
            spans.push(span);
        };
        let read = SpanFacts::read(batch, number, take);
        read.map_err(|error| Error::corrupt("spans", error))
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

/// The requests of some spans, by their start.
pub(crate) fn requests(
    team: &TeamId,
    mut parts: Vec<PartFacts>,
    interrupt: &dyn Interrupt,
) -> Result<Vec<HotRows>, Error> {
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
        let values = |column, places: &[Option<Place>]| values.column(column, places);
        let rows = compacted(&rows(team.as_str(), found, &texts, values)?)?;
        batches.push(HotRows::all(&Arc::new(HotBatch::derived(rows))));
    }
    Ok(batches)
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
fn request(trace: [u8; 16], runs: &[(u32, usize)], parts: &[PartFacts]) -> Option<Found<Place>> {
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
        first_span: 0,
        is_split: origins.len() > 1,
    })
}

/// The values of the spans that requests have values of.
struct Values {
    /// For each part, the spans and their columns.
    parts: Vec<(RoaringBitmap, RecordBatch)>,
    _held: Vec<Held>,
}

impl Values {
    fn fetch(
        parts: &[PartFacts],
        found: &[Found<Place>],
        interrupt: &dyn Interrupt,
    ) -> Result<Self, Error> {
        let columns: Vec<Column> = sources().map(Column::from).collect();
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
    fn column(&self, column: SpanColumn, spans: &[Option<Place>]) -> Result<ArrayRef, Error> {
        let null = new_null_array(&column.description().value.data_type(), 1);
        let mut sources: Vec<&dyn Array> = Vec::with_capacity(self.parts.len() + 1);
        for (_, values) in &self.parts {
            let values = column.of(values);
            let values = values.map_err(|error| Error::corrupt("spans", error))?;
            sources.push(values.as_ref());
        }
        sources.push(null.as_ref());
        let of_null = Some((self.parts.len(), 0));
        let places = spans.iter().map(|span| {
            let Some((part, row)) = *span else {
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
