//! Counts spans, and the values of a facet, out of the indexes where they can
//! tell, without reading a row.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;
use roaring::RoaringBitmap;
use spanstore_format::span::SpanColumn;

use super::builder::Query;
use super::job::{Holding, Job, new_bytes};
use super::select::Narrow;
use super::table::BATCH_ROWS;
use crate::error::Error;
use crate::read::condition::stored_values;
use crate::read::interrupt::Interrupt;
use crate::read::scan::{
    Place, ScanPart, bounds, hot_parts, matching_rows, partitions, sealed_parts,
};

/// A value of a facet, and how many spans have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetCount {
    /// The value as text; none for the spans that have no value.
    pub value: Option<String>,
    /// Spans that have it.
    pub spans: u64,
}

impl Query {
    /// How many spans the query finds; columns, order and limit do not matter.
    /// Where the filter is over facets alone ([`spanstore_format::table::TableColumn::is_facet`], and promoted
    /// attributes), the answer comes out of the indexes.
    ///
    /// # Errors
    /// As [`Query::stream`].
    pub async fn count(self) -> Result<u64, Error> {
        let (execution, job) = self.begin()?;
        execution.run(async move { job.count().await }).await
    }

    /// The values that a facet has in the spans that the query finds, with the
    /// number of spans of each: the most frequent first, of equal ones in the
    /// order of the values, spans without a value last among equals. Columns,
    /// order and limit do not matter. Out of the indexes, like
    /// [`Query::count`].
    ///
    /// # Errors
    /// [`Error::UnknownColumn`] when it is no facet, and as
    /// [`Query::stream`].
    pub async fn facet(self, column: &str) -> Result<Vec<FacetCount>, Error> {
        let facet = SpanColumn::of_name(column);
        let facet = facet.filter(|column| column.description().is_facet);
        let facet = facet.ok_or_else(|| Error::UnknownColumn {
            name: column.chars().take(80).collect(),
        })?;
        let (execution, job) = self.begin()?;
        execution.run(async move { job.facet(facet).await }).await
    }
}

impl Job {
    async fn count(&self) -> Result<u64, Error> {
        let mut count = 0;
        let rest = self.each_exact_partition(|_, rows| {
            count += rows.len();
            Ok(true)
        })?;
        let narrow = Narrow::new(&self.question, &self.state)?;
        let held = self.held("a batch of rows");
        for part in rest {
            for batch in part.read(&narrow.columns, BATCH_ROWS)? {
                let batch = batch?;
                held.set(new_bytes(&part, &batch))?;
                count += narrow.candidates(&batch)?.len() as u64;
                self.next_batch().await?;
            }
        }
        Ok(count)
    }

    async fn facet(&self, column: SpanColumn) -> Result<Vec<FacetCount>, Error> {
        let mut counts = Counts::new(self);
        let rest = self.each_exact_partition(|exact, rows| {
            let corrupt = |error| exact.segment.corrupt(error);
            let facets = exact.reader.facets(&exact.partition).map_err(corrupt)?;
            let Some(facets) = facets else {
                return Ok(false);
            };
            let columns = exact.reader.columns().map_err(corrupt)?;
            let Some(place) = columns.place(column.place()) else {
                return Ok(false);
            };
            let Some(facet) = facets.facet(place).map_err(corrupt)? else {
                return Ok(false);
            };
            let read = |range| exact.reader.postings(range);
            let of_rows = facet.counts(rows, &read).map_err(corrupt)?;
            let of_rows = |place: usize| of_rows.get(place).copied().unwrap_or_default();
            for place in 0..facet.len() {
                self.watch.check()?;
                let value = facet.value(place).map_err(corrupt)?;
                let text = stored_values(column.description().value, &[value.bytes.as_ref()]);
                let text = text.and_then(|text| text_at(text.as_ref(), 0));
                counts.add(text, of_rows(place))?;
            }
            counts.add(None, of_rows(facet.len()))?;
            Ok(true)
        })?;
        let narrow = Narrow::new(&self.question, &self.state)?;
        let mut columns = narrow.columns.clone();
        columns.push(column.into());
        let held = self.held("a batch of rows");
        for part in rest {
            for batch in part.read(&columns, BATCH_ROWS)? {
                let batch = batch?;
                held.set(new_bytes(&part, &batch))?;
                let values = batch.columns().last();
                for (row, _) in narrow.candidates(&batch)? {
                    let text = values.and_then(|values| text_at(values.as_ref(), row));
                    counts.add(text, 1)?;
                }
                self.next_batch().await?;
            }
        }
        Ok(counts.finish())
    }

    /// Calls `take` for each partition of which the indexes know exactly which
    /// rows the query finds. Answers the parts that are to be read: those of
    /// other partitions, and of those that `take` declines.
    fn each_exact_partition(
        &self,
        mut take: impl FnMut(&Place, &RoaringBitmap) -> Result<bool, Error>,
    ) -> Result<Vec<ScanPart>, Error> {
        let (snapshot, condition) = (&self.snapshot, self.condition());
        let interrupt = &*self.watch;
        let bounds = bounds(snapshot, &condition);
        let mut rest = hot_parts(snapshot, &self.team, bounds, interrupt)?;
        for place in partitions(snapshot, &self.team, bounds, interrupt)? {
            let matching = matching_rows(snapshot, &place, &condition, interrupt)?;
            if !matching.is_exact || !take(&place, &matching.rows)? {
                rest.extend(sealed_parts(&place, &matching.rows, bounds)?);
            }
        }
        Ok(rest)
    }
}

/// Values of a facet, counted.
struct Counts {
    spans: HashMap<Option<String>, u64>,
    bytes: usize,
    held: Holding,
}

impl Counts {
    fn new(job: &Job) -> Self {
        Self {
            spans: HashMap::new(),
            bytes: 0,
            held: job.held("values of a facet"),
        }
    }

    fn add(&mut self, value: Option<String>, spans: u64) -> Result<(), Error> {
        if let Some(counted) = self.spans.get_mut(&value) {
            *counted += spans;
        } else if spans > 0 {
            // About as much again for the place in the table.
            self.bytes +=
                2 * size_of::<(Option<String>, u64)>() + value.as_ref().map_or(0, String::len);
            self.held.set(self.bytes)?;
            self.spans.insert(value, spans);
        }
        Ok(())
    }

    fn finish(self) -> Vec<FacetCount> {
        let counts = self.spans.into_iter();
        let mut counts: Vec<FacetCount> = counts
            .map(|(value, spans)| FacetCount { value, spans })
            .collect();
        counts.sort_unstable_by(|one, other| {
            let most = other.spans.cmp(&one.spans);
            let none_last = one.value.is_none().cmp(&other.value.is_none());
            most.then(none_last)
                .then_with(|| one.value.cmp(&other.value))
        });
        counts
    }
}

/// A value of a facet's column as text.
fn text_at(values: &dyn Array, row: usize) -> Option<String> {
    if values.is_null(row) {
        return None;
    }
    if let Some(texts) = values.as_string_view_opt() {
        return Some(texts.value(row).to_owned());
    }
    let numbers = values.as_primitive_opt::<Int32Type>()?;
    Some(numbers.value(row).to_string())
}
