//! The requests of a partition, out of its rows in the order of a segment: the spans of a
//! trace follow each other, and traces come by their start.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;

use super::assemble::{SpanFacts, assemble};
use super::rows::{Found, other_columns, rows};
use crate::error::FormatError;
use crate::span::{SpanColumn, compact};

/// A span: the number of its batch, and its place in that.
type Place = (usize, usize);

/// Puts the requests of a partition together, trace by trace.
#[derive(Debug)]
pub struct RequestsBuilder {
    team: String,
    /// The columns of the spans that [`RequestsBuilder::add`] has not answered the requests
    /// of.
    batches: Vec<RecordBatch>,
    /// Their trace, what is known of them, and where they lie.
    trace: [u8; 16],
    spans: Vec<SpanFacts>,
    places: Vec<Place>,
    /// The number of the row of the first of them.
    first_span: u32,
    /// Services and what answered, and their numbers.
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl RequestsBuilder {
    /// Begins the requests of a team, whose first row has this number.
    pub fn new(team: &str, first_row: u32) -> Self {
        Self {
            team: team.to_owned(),
            batches: Vec::new(),
            trace: [0; 16],
            spans: Vec::new(),
            places: Vec::new(),
            first_span: first_row,
            texts: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Takes the next rows of the team, and answers the requests that are complete by now.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the rows are no spans.
    pub fn add(&mut self, spans: &RecordBatch) -> Result<RecordBatch, FormatError> {
        let batch = self.batches.len();
        self.batches.push(spans.clone());
        let mut found: Vec<Found<Place>> = Vec::new();
        let Self {
            trace: of_open,
            spans: open,
            places,
            first_span,
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
        let mut row = 0;
        SpanFacts::read(spans, number, |trace, span| {
            if trace != *of_open {
                found.extend(request(*of_open, open, places, *first_span));
                *of_open = trace;
                *first_span += open.len() as u32;
                open.clear();
                places.clear();
            }
            open.push(span);
            places.push((batch, row));
            row += 1;
        })?;
        let rows = self.rows(&found)?;
        if !found.is_empty() {
            self.keep_open();
        }
        Ok(rows)
    }

    /// The last request.
    ///
    /// # Errors
    /// As [`RequestsBuilder::add`].
    pub fn finish(self) -> Result<RecordBatch, FormatError> {
        let last = request(self.trace, &self.spans, &self.places, self.first_span);
        self.rows(last.as_slice())
    }

    /// Lets go of the spans whose requests are known: all but those of the last batch that
    /// belong to the trace at work.
    fn keep_open(&mut self) {
        let first = self.places.first().copied();
        let last = self.batches.pop();
        self.batches.clear();
        if let (Some((_, first)), Some(last)) = (first, last) {
            let rows = last.num_rows() - first;
            self.batches.push(last.slice(first, rows));
            self.places = (0..rows).map(|row| (0, row)).collect();
        }
    }

    fn rows(&self, found: &[Found<Place>]) -> Result<RecordBatch, FormatError> {
        let rows = rows(&self.team, found, &self.texts, |column, places| {
            self.values(column, places)
        })?;
        let columns = rows.columns().iter().map(compact);
        let columns = columns.collect::<Result<_, _>>();
        let rows = columns.and_then(|columns| RecordBatch::try_new(rows.schema(), columns));
        rows.map_err(|error| other_columns(&error))
    }

    /// A column of some spans, null where there is none.
    fn values(
        &self,
        column: SpanColumn,
        places: &[Option<Place>],
    ) -> Result<ArrayRef, FormatError> {
        let null = new_null_array(&column.description().value.data_type(), 1);
        let mut sources: Vec<&dyn Array> = Vec::with_capacity(self.batches.len() + 1);
        for batch in &self.batches {
            sources.push(column.of(batch)?.as_ref());
        }
        sources.push(null.as_ref());
        let of_null = (self.batches.len(), 0);
        let places = places.iter().map(|place| place.unwrap_or(of_null));
        let values = interleave(&sources, &places.collect::<Vec<_>>());
        values.map_err(|error| other_columns(&error))
    }
}

/// The request of the spans of a trace, if there are any.
fn request(
    trace: [u8; 16],
    spans: &[SpanFacts],
    places: &[Place],
    first_span: u32,
) -> Option<Found<Place>> {
    let request = assemble(spans)?;
    let place = |span: usize| places.get(span).copied();
    Some(Found {
        trace,
        root: place(request.root)?,
        earliest: request.earliest.map(|span| span.and_then(place)),
        request,
        first_span,
        is_split: false,
    })
}
