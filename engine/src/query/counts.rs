//! Counts spans, and the values of a facet, out of the indexes where they can
//! tell, without reading a row.

mod column;
mod values;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::facets::{CodeCounts, Facet, FacetValue, Facets, integer_of};
use spanstore_format::segment::promotion::access::Attribute;
use spanstore_format::segment::promotion::{Owner, PromotedType};
use spanstore_format::segment::{Column, FileColumns};
use spanstore_format::table::ColumnType;

pub(super) use self::column::FacetColumn;
use self::column::facet_columns;
pub(super) use self::values::Counts;
use super::attribute_order::{OfOrder, rows_by_order};
use super::builder::Query;
use super::job::{Job, on_each};
use super::suggest::Prefix;
use crate::error::Error;
use crate::read::condition::Condition;
use crate::read::hot::HotPart;
use crate::read::interrupt::Interrupt;
use crate::read::matching::{Matching, part};
use crate::read::meter::Stage;
use crate::read::scan::{row_groups, rows_of_group};

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
        let count = async move {
            let (job, condition) = job.over(&asked).await?;
            job.count(condition).await
        };
        execution.run(count).await
    }

    /// The values that a facet has in the spans that the query finds, with the
    /// number of spans of each: the most frequent first, of equal ones in the
    /// order of the values, spans without a value last among equals. Columns,
    /// order and limit do not matter. Out of the indexes, like
    /// [`Query::count`]. The name is read in any case.
    ///
    /// # Errors
    /// [`Error::NoFacet`], [`Error::UnknownColumn`], which names the facets that may be meant, and as
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
        let columns = facet_columns(self.question.rows, columns)?;
        let (execution, job, asked) = self.begin()?;
        let facets = async move {
            let (job, condition) = job.over(&asked).await?;
            job.facets(condition, &columns).await
        };
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
        let columns = facet_columns(self.question.rows, columns)?;
        let (execution, job, asked) = self.begin()?;
        let choices = async move {
            let all: Vec<Column> = columns.iter().map(|one| one.column.clone()).collect();
            let (job, condition) = job.over_choices(&asked, &all).await?;
            let is_chosen = |column: &FacetColumn| condition.has_term_over(&column.column);
            // The spans are looked for once for all columns without a choice.
            let (chosen, others): (Vec<_>, Vec<_>) = columns.iter().cloned().partition(is_chosen);
            let mut counts: HashMap<Column, Vec<FacetCount>> = HashMap::new();
            for column in chosen {
                let others = condition.without(&column.column);
                let facets = job.facets(others, std::slice::from_ref(&column)).await?;
                counts.extend(
                    facets
                        .into_iter()
                        .map(|facet| (column.column.clone(), facet)),
                );
            }
            if !others.is_empty() {
                let facets = job.facets(condition, &others).await?;
                counts.extend(others.into_iter().map(|one| one.column).zip(facets));
            }
            let of = |column: &FacetColumn| counts.get(&column.column).cloned();
            let of = |column: &FacetColumn| of(column).unwrap_or_default();
            Ok(columns.iter().map(of).collect())
        };
        execution.run(choices).await
    }
}

impl Job {
    pub(super) async fn count(&self, condition: Condition) -> Result<u64, Error> {
        let (condition, interrupt) = (Arc::new(condition), self.interrupt());
        let hot = on_each(self.hot(&condition, &interrupt)?, |parts| {
            let (condition, interrupt) = (Arc::clone(&condition), Arc::clone(&interrupt));
            move || {
                let counts = parts.iter().map(|part| part.count(&condition, &*interrupt));
                counts.sum::<Result<u64, Error>>()
            }
        });
        let mut count = hot.await?.into_iter().sum::<u64>();
        for matching in self.sealed(&condition, &interrupt)? {
            count += self.exactly(&matching, &condition).await?.len();
        }
        Ok(count)
    }

    async fn facets(
        &self,
        condition: Condition,
        columns: &[FacetColumn],
    ) -> Result<Vec<Vec<FacetCount>>, Error> {
        let counts = self.values(condition, columns).await?;
        Ok(counts.into_iter().map(Counts::finish).collect())
    }

    /// The values of some columns in the rows that fulfil a condition, counted.
    pub(super) async fn values(
        &self,
        condition: Condition,
        columns: &[FacetColumn],
    ) -> Result<Vec<Counts>, Error> {
        let (condition, interrupt) = (Arc::new(condition), self.interrupt());
        let work = {
            let (condition, interrupt) = (Arc::clone(&condition), Arc::clone(&interrupt));
            let columns = columns.to_vec();
            move |counts: &mut Vec<Counts>, parts: &Vec<HotPart>| {
                let meter = interrupt.meter();
                for part in parts {
                    let rows = part.find(&condition, &*interrupt)?;
                    meter.time(Stage::Answer, || {
                        let mut columns = columns.iter().zip(counts.iter_mut());
                        columns.try_for_each(|(column, counts)| {
                            meter.rows(rows.count_set_bits());
                            count_hot(part, &column.column, &rows, counts)
                        })
                    })?;
                }
                Ok(())
            }
        };
        let new = || columns.iter().map(|column| Counts::new(self, column));
        let hot = self.hot(&condition, &interrupt)?;
        let mut hot = self.by_threads(hot, || new().collect(), work).await?;
        let mut counts: Vec<Counts> = hot.pop().unwrap_or_else(|| new().collect());
        for of_thread in hot {
            for (counts, of_thread) in counts.iter_mut().zip(of_thread) {
                counts.add_all(of_thread)?;
            }
        }
        for matching in self.sealed(&condition, &interrupt)? {
            let rows = Arc::new(self.exactly(&matching, &condition).await?);
            let indexed = on_each(sharing_codes(&matching, columns)?, |columns| {
                let (job, matching, rows) =
                    (self.clone(), Arc::clone(&matching), Arc::clone(&rows));
                let meter = self.watch.meter().clone();
                move || meter.time(Stage::Answer, || facets(&job, &matching, &columns, &rows))
            });
            for (place, column, indexed) in indexed.await?.into_iter().flatten() {
                let Some(counts) = counts.get_mut(place) else {
                    continue;
                };
                if let Some(indexed) = indexed {
                    counts.add_all(indexed)?;
                    continue;
                }
                for of_groups in self.read_values(&matching, &column, &rows).await? {
                    counts.add_all(of_groups)?;
                }
            }
            self.next_batch().await?;
        }
        let counts = columns.iter().zip(counts);
        counts
            .map(|(column, counts)| {
                if column.is_list {
                    counts.of_lists()
                } else {
                    Ok(counts)
                }
            })
            .collect()
    }
}

impl Job {
    /// Whether a facet tells the values of a column in some partition that may have rows which
    /// fulfil a condition.
    pub(super) fn is_indexed(
        &self,
        condition: &Condition,
        column: &FacetColumn,
    ) -> Result<bool, Error> {
        for matching in self.sealed(condition, &self.interrupt())? {
            let corrupt = |error| matching.corrupt(error);
            let of_file = matching.sealed.reader.columns().map_err(corrupt)?;
            let facets = matching.facets()?;
            let indexed = facets.map(|facets| indexed(&matching, &of_file, facets, column));
            if indexed.transpose()?.flatten().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The values of a column in some rows, read. Each thread counts those of the row groups
    /// that it comes to.
    async fn read_values(
        &self,
        matching: &Arc<Matching>,
        column: &FacetColumn,
        rows: &RoaringBitmap,
    ) -> Result<Vec<Counts>, Error> {
        let groups = row_groups(rows).map(|group| part(rows, rows_of_group(group)));
        let (matching, of_rows) = (Arc::clone(matching), column.clone());
        let work = move |counts: &mut Counts, rows: &RoaringBitmap| {
            let count = || values(&matching, &of_rows, rows, counts);
            matching.interrupt.meter().time(Stage::Answer, count)
        };
        let new = || Counts::new(self, column);
        self.by_threads(groups.collect(), new, work).await
    }
}

/// A column and its place in the question.
type Numbered = (usize, FacetColumn);

/// Columns, those together whose facets share codes,
/// which are counted once.
fn sharing_codes(
    matching: &Matching,
    columns: &[FacetColumn],
) -> Result<Vec<Vec<Numbered>>, Error> {
    let corrupt = |error| matching.corrupt(error);
    let of_file = matching.sealed.reader.columns().map_err(corrupt)?;
    let mut groups: Vec<(Option<usize>, Vec<Numbered>)> = Vec::new();
    for (number, column) in columns.iter().enumerate() {
        let codes = match matching.facets()? {
            Some(facets) => {
                let facet = indexed(matching, &of_file, facets, column)?;
                facet.and_then(|indexed| indexed.facet.code_column())
            }
            None => None,
        };
        let mut known = groups.iter_mut();
        match known.find(|(shared, _)| codes.is_some() && *shared == codes) {
            Some((_, group)) => group.push((number, column.clone())),
            None => groups.push((codes, vec![(number, column.clone())])),
        }
    }
    Ok(groups.into_iter().map(|(_, columns)| columns).collect())
}

/// The values of columns in some rows by their facets; none for a column that has no facet
/// there.
fn facets(
    job: &Job,
    matching: &Matching,
    columns: &[Numbered],
    rows: &RoaringBitmap,
) -> Result<Vec<(usize, FacetColumn, Option<Counts>)>, Error> {
    let mut known = CodeCounts::default();
    let of_each = columns.iter().map(|(place, column)| {
        matching.interrupt.check()?;
        let mut counts = Counts::new(job, column);
        let is_indexed = facet(matching, column, rows, &mut known, &mut counts)?;
        Ok((*place, column.clone(), is_indexed.then_some(counts)))
    });
    of_each.collect()
}

/// What the values of a facet are.
enum ValueKind<'a> {
    /// Values of a type.
    Typed(ColumnType),
    /// Numbers of resources, of which this attribute is asked for; and the place of resources
    /// among what rows share.
    Resource(&'a Attribute, usize),
}

/// The facet of a column, and what its values are.
struct Indexed<'f> {
    facet: Facet<'f>,
    kind: ValueKind<'f>,
    /// Where the column of a promoted key is that of another value too: the number of the key,
    /// and the place of the order of attributes, which says what rows have the key.
    named: Option<(usize, usize)>,
}

/// The facet of a column; none where no facet tells all of its values.
fn indexed<'f>(
    matching: &Matching,
    of_file: &FileColumns,
    facets: &'f Facets,
    column: &'f FacetColumn,
) -> Result<Option<Indexed<'f>>, Error> {
    let corrupt = |error| matching.corrupt(error);
    let mut named = None;
    let found = match &column.column {
        Column::Stored(place) => {
            let description = matching.sealed.reader.table().column(*place);
            let of_file = of_file.place(*place);
            of_file.zip(description.map(|description| ValueKind::Typed(description.value)))
        }
        Column::Attribute(attribute) if attribute.owner == Owner::Resource => {
            let resources = matching.resources(of_file);
            resources.map(|(shared, place)| (place, ValueKind::Resource(attribute, shared)))
        }
        Column::Attribute(attribute) => match of_file.promoted().find(&attribute.key) {
            Some((number, key)) if key.suffix.is_none() => {
                let has_strays = facets.has_strays(number).map_err(corrupt)?;
                let value = match (key.value, key.is_own) {
                    (PromotedType::Text, _) => Some(ColumnType::Text),
                    (PromotedType::Integer, true) => Some(ColumnType::Int64),
                    (PromotedType::Integer, false) => Some(ColumnType::Int32),
                    (PromotedType::Boolean, _) => Some(ColumnType::Boolean),
                    (PromotedType::Double, _) => None,
                };
                if !key.is_own {
                    named = of_file.order().map(|order| (number, order));
                }
                let is_known = !has_strays && (key.is_own || named.is_some());
                let value = value.filter(|_| is_known);
                value.map(|value| (key.column, ValueKind::Typed(value)))
            }
            _ => None,
        },
        Column::OfFile(..) => None,
    };
    let Some((place, kind)) = found else {
        return Ok(None);
    };
    let facet = facets.facet(place).map_err(corrupt)?;
    Ok(facet.map(|facet| Indexed { facet, kind, named }))
}

/// Makes texts of the values of a facet.
enum Texts {
    Typed(ColumnType),
    /// The text of each value.
    Resources(ArrayRef),
}

impl Texts {
    /// None where rows are rather read.
    fn new(
        kind: &ValueKind<'_>,
        matching: &Matching,
        facet: &Facet<'_>,
    ) -> Result<Option<Self>, Error> {
        let (attribute, shared) = match kind {
            ValueKind::Typed(of) => return Ok(Some(Self::Typed(*of))),
            ValueKind::Resource(attribute, shared) => (attribute, *shared),
        };
        let values = (0..facet.len()).map(|place| facet.value(place));
        let values: Result<Vec<FacetValue>, FormatError> = values.collect();
        let values = values.map_err(|error| matching.corrupt(error))?;
        let numbers: Vec<&[u8]> = values.iter().map(|value| value.bytes.as_ref()).collect();
        let texts = matching.values_of_resources(attribute, shared, &numbers)?;
        Ok(texts.map(Self::Resources))
    }

    /// The text of the value at a place, if it is one.
    fn text(&self, facet: &Facet<'_>, place: usize) -> Result<Option<String>, FormatError> {
        let malformed = || FormatError::malformed("facets", 0, "values of a column", "others");
        match self {
            Self::Typed(kind) => {
                let value = facet.value(place)?;
                let text = stored_text(*kind, &value.bytes).ok_or_else(malformed)?;
                Ok(Some(text.into_owned()))
            }
            Self::Resources(texts) => {
                let texts = texts.as_string_view_opt().ok_or_else(malformed)?;
                let is_text = place < texts.len() && texts.is_valid(place);
                Ok(is_text.then(|| texts.value(place).to_owned()))
            }
        }
    }

    /// For each value and for none whether it is counted.
    fn wanted(&self, facet: &Facet<'_>, prefix: &Prefix) -> Result<Vec<bool>, FormatError> {
        if prefix.is_empty() {
            return Ok(vec![true; facet.len() + 1]);
        }
        let is_wanted = |place| {
            let text = self.text(facet, place)?;
            Ok(text.is_some_and(|text| prefix.is_of(&text)))
        };
        (0..facet.len()).map(is_wanted).collect()
    }
}

/// Postings that are compared with some rows, at most: to count the codes of the rows takes
/// less than more of them.
const MOST_POSTINGS: usize = 32;

/// Counts the values of a column in some rows by its facet; false when it has none there, and
/// when the values are rather read.
fn facet(
    matching: &Matching,
    column: &FacetColumn,
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
    let Some(indexed) = indexed(matching, &columns, facets, column)? else {
        return Ok(false);
    };
    let Indexed { facet, kind, named } = indexed;
    let Some(texts) = Texts::new(&kind, matching, &facet)? else {
        return Ok(false);
    };
    let wanted = texts.wanted(&facet, &column.prefix).map_err(corrupt)?;
    let is_wanted = |place: usize| wanted.get(place).copied().unwrap_or(false);
    let are_all = rows.len() == matching.sealed.partition.rows.len() as u64;
    let are_many = facet.postings_of(is_wanted).map_err(corrupt)? > MOST_POSTINGS;
    if are_many && !are_all && matching.is_coded(&column.column)? {
        return Ok(false);
    }
    let read = |range| {
        let postings = reader.postings(range)?;
        matching.interrupt.meter().pages(0, postings.len() as u64);
        Ok(postings)
    };
    let of_rows = match named {
        None => facet.counts(rows, is_wanted, known, &read),
        Some((key, order)) => {
            let of_key = rows_by_order(matching, order, OfOrder::Names(key), rows)?;
            counts.add(None, rows.len() - of_key.len())?;
            facet.counts(&of_key, is_wanted, &mut CodeCounts::default(), &read)
        }
    };
    let of_rows = of_rows.map_err(corrupt)?.into_iter().enumerate();
    for (place, rows) in of_rows.filter(|(_, rows)| *rows > 0) {
        let text = if place < facet.len() {
            texts.text(&facet, place).map_err(corrupt)?
        } else {
            None
        };
        counts.add(text.map(Cow::Owned), rows)?;
    }
    Ok(true)
}

/// A value of a column of the table as text.
fn stored_text(kind: ColumnType, value: &[u8]) -> Option<Cow<'_, str>> {
    match kind {
        ColumnType::Text => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        ColumnType::Int32 | ColumnType::Int64 => Some(integer_of(value)?.to_string().into()),
        ColumnType::Boolean => Some(if value == [1] { "true" } else { "false" }.into()),
        _ => None,
    }
}

/// Counts the values of a column in some rows in memory.
fn count_hot(
    part: &HotPart,
    column: &Column,
    rows: &BooleanBuffer,
    counts: &mut Counts,
) -> Result<(), Error> {
    let Some(coded) = part.coded(column)? else {
        let values = part.values(column, rows)?;
        return (0..values.len()).try_for_each(|row| counts.add(text_at(&values, row), 1));
    };
    let mut of_rows = Vec::new();
    let of_values = if rows.count_set_bits() == rows.len() {
        &coded.counts
    } else {
        of_rows.resize(coded.counts.len(), 0);
        for code in rows.set_indices().filter_map(|row| coded.codes.get(row)) {
            if let Some(count) = of_rows.get_mut(usize::from(*code)) {
                *count += 1;
            }
        }
        &of_rows
    };
    let mut of_values = of_values.iter().enumerate();
    of_values
        .try_for_each(|(place, spans)| counts.add(text_at(&coded.values, place), u64::from(*spans)))
}

/// Counts the values of a column in some rows of a row group.
fn values(
    matching: &Matching,
    column: &FacetColumn,
    rows: &RoaringBitmap,
    counts: &mut Counts,
) -> Result<(), Error> {
    matching.each_value(&column.column, rows, |values, of_each| {
        let mut counted = of_each.iter().enumerate().filter(|(_, spans)| **spans > 0);
        counted.try_for_each(|(place, spans)| counts.add(text_at(values, place), *spans))
    })
}

/// A value of a facet's column as text.
fn text_at(values: &dyn Array, row: usize) -> Option<Cow<'_, str>> {
    if values.is_null(row) {
        return None;
    }
    if let Some(texts) = values.as_string_view_opt() {
        return Some(texts.value(row).into());
    }
    let numbers = values.as_primitive_opt::<Int32Type>()?;
    Some(numbers.value(row).to_string().into())
}
