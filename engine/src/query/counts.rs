//! Counts spans, and the values of a facet, out of the indexes where they can
//! tell, without reading a row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;
use roaring::RoaringBitmap;
use spanstore_format::segment::Column;
use spanstore_format::segment::facets::CodeCounts;
use spanstore_format::span::SpanColumn;

use super::aggregate::most_first;
use super::builder::Query;
use super::job::{Holding, Job, on_each_row_group};
use crate::error::Error;
use crate::read::condition::Condition;
use crate::read::indexes::stored_values;
use crate::read::mask::truth;
use crate::read::matching::Matching;
use crate::read::scan::project;

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
        let (execution, job, asked) = self.begin()?;
        let count = async move { job.count(asked.condition()?).await };
        execution.run(count).await
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
        let mut facets = self.facets([column]).await?;
        Ok(facets.pop().unwrap_or_default())
    }

    /// The values of several facets in the spans that the query finds, in the order of the
    /// columns, each as [`Query::facet`] gives it. The spans are looked for once.
    ///
    /// # Errors
    /// As [`Query::facet`].
    pub async fn facets<'a>(
        self,
        columns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Vec<FacetCount>>, Error> {
        let columns = facet_columns(columns)?;
        let (execution, job, asked) = self.begin()?;
        let facets = async move { job.facets(asked.condition()?, &columns).await };
        execution.run(facets).await
    }

    /// The values of several facets to choose from: each as [`Query::facets`] gives it, but
    /// as if the query had no condition on its own column. So a list of levels shows how
    /// many spans each has although one is chosen. Left out are those terms of filters,
    /// joined by `and`, that are over the column alone (`level = 'error'`, or
    /// `(level = 'error' or level = 'fatal')`).
    ///
    /// # Errors
    /// As [`Query::facet`].
    pub async fn facet_choices<'a>(
        self,
        columns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Vec<FacetCount>>, Error> {
        let columns = facet_columns(columns)?;
        let (execution, job, asked) = self.begin()?;
        let choices = async move {
            let condition = asked.condition()?;
            let is_chosen = |column: &SpanColumn| condition.has_term_over(&(*column).into());
            // The spans are looked for once for all columns without a choice.
            let (chosen, others): (Vec<_>, Vec<_>) = columns.iter().copied().partition(is_chosen);
            let mut counts: HashMap<SpanColumn, Vec<FacetCount>> = HashMap::new();
            for column in chosen {
                let others = condition.without(&column.into());
                let facets = job.facets(others, &[column]).await?;
                counts.extend(facets.into_iter().map(|facet| (column, facet)));
            }
            if !others.is_empty() {
                let facets = job.facets(condition, &others).await?;
                counts.extend(others.into_iter().zip(facets));
            }
            let of = |column: &SpanColumn| counts.get(column).cloned().unwrap_or_default();
            Ok(columns.iter().map(of).collect())
        };
        execution.run(choices).await
    }
}

/// Columns that are facets, by their names.
fn facet_columns<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<SpanColumn>, Error> {
    let facet = |name: &str| {
        let facet = SpanColumn::of_name(name);
        let facet = facet.filter(|column| column.description().is_facet);
        facet.ok_or_else(|| Error::UnknownColumn {
            name: name.chars().take(80).collect(),
        })
    };
    names.into_iter().map(facet).collect()
}

impl Job {
    async fn count(&self, condition: Condition) -> Result<u64, Error> {
        let (condition, interrupt) = (Arc::new(condition), self.interrupt());
        let mut count = 0;
        for rows in self.hot(&condition, &interrupt)? {
            let truth = truth(&condition, &rows)?;
            count += truth.true_count() as u64;
            self.next_batch().await?;
        }
        for matching in self.sealed(&condition, &interrupt)? {
            count += self.exactly(&matching, &condition).await?.len();
        }
        Ok(count)
    }

    async fn facets(
        &self,
        condition: Condition,
        columns: &[SpanColumn],
    ) -> Result<Vec<Vec<FacetCount>>, Error> {
        let (condition, interrupt) = (Arc::new(condition), self.interrupt());
        let mut counts: Vec<Counts> = columns.iter().map(|_| Counts::new(self)).collect();
        for rows in self.hot(&condition, &interrupt)? {
            let truth = truth(&condition, &rows)?;
            for (column, counts) in columns.iter().zip(&mut counts) {
                let values = project(&rows, &[Column::from(*column)])?;
                let values = values.columns().first();
                for row in
                    (0..rows.num_rows()).filter(|row| truth.is_valid(*row) && truth.value(*row))
                {
                    counts.add(values.and_then(|values| text_at(values.as_ref(), row)), 1)?;
                }
            }
            self.next_batch().await?;
        }
        for matching in self.sealed(&condition, &interrupt)? {
            let rows = self.exactly(&matching, &condition).await?;
            let mut known = CodeCounts::default();
            for (column, counts) in columns.iter().zip(&mut counts) {
                if !facet(&matching, *column, &rows, &mut known, counts)? {
                    let column = *column;
                    let values = on_each_row_group(&rows, |rows| {
                        let matching = Arc::clone(&matching);
                        move || values(&matching, column, &rows)
                    });
                    for (value, spans) in values.await?.into_iter().flatten() {
                        counts.add(value, spans)?;
                    }
                }
                self.next_batch().await?;
            }
        }
        Ok(counts.into_iter().map(Counts::finish).collect())
    }
}

/// Counts the values of a column in some rows by its facet; false when it has none there.
fn facet(
    matching: &Matching,
    column: SpanColumn,
    rows: &RoaringBitmap,
    known: &mut CodeCounts,
    counts: &mut Counts,
) -> Result<bool, Error> {
    let corrupt = |error| matching.corrupt(error);
    let reader = &matching.sealed.reader;
    let Some(facets) = matching.facets()? else {
        return Ok(false);
    };
    let columns = reader.columns().map_err(corrupt)?;
    let Some(place) = columns.place(column.place()) else {
        return Ok(false);
    };
    let Some(facet) = facets.facet(place).map_err(corrupt)? else {
        return Ok(false);
    };
    let read = |range| reader.postings(range);
    let of_rows = facet.counts(rows, known, &read).map_err(corrupt)?;
    let of_rows = |place: usize| of_rows.get(place).copied().unwrap_or_default();
    for place in 0..facet.len() {
        let value = facet.value(place).map_err(corrupt)?;
        let text = stored_values(column.description().value, &[value.bytes.as_ref()]);
        let text = text.and_then(|text| text_at(text.as_ref(), 0));
        counts.add(text, of_rows(place))?;
    }
    counts.add(None, of_rows(facet.len()))?;
    Ok(true)
}

/// Values of a column in some rows of a row group, read, each with the number of its rows; a
/// value may come again.
fn values(
    matching: &Matching,
    column: SpanColumn,
    rows: &RoaringBitmap,
) -> Result<Vec<(Option<String>, u64)>, Error> {
    let mut found = Vec::new();
    matching.each_value(&column.into(), rows, |values, of_each| {
        let counted = of_each.iter().enumerate().filter(|(_, spans)| **spans > 0);
        found.extend(counted.map(|(place, spans)| (text_at(values, place), *spans)));
        Ok(())
    })?;
    Ok(found)
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
            most_first(
                (one.value.as_deref(), one.spans),
                (other.value.as_deref(), other.spans),
            )
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
