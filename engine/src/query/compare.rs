//! What tells two sets of rows apart: the values whose shares differ most.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ptr;

use spanstore_format::requests::RequestColumn;
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::span::SpanColumn;
use spanstore_format::span::column::Source;
use spanstore_format::table::{ColumnType, TableColumn};

use super::builder::Query;
use super::counts::{Counts, FacetColumn};
use super::filter::{FilterLimits, Rows, quoted};
use super::job::{Asked, Job};
use crate::error::Error;
use crate::read::condition::Condition;

/// How two sets of spans differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Spans that the query finds.
    pub spans: u64,
    /// Spans that the other query finds.
    pub other_spans: u64,
    /// The values whose shares differ, the greatest difference first, whichever set has more.
    pub differences: Vec<Difference>,
}

/// A value that one set of spans has more often than the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What has the value, in the words of [`Filter`](super::Filter): a column, such as
    /// `route`, or `attributes['key']`.
    pub column: String,
    /// The value as text; none for the spans that have no value.
    pub value: Option<String>,
    /// Spans that have it, of those that the query finds.
    pub spans: u64,
    /// Spans that have it, of those that the other query finds.
    pub other_spans: u64,
    /// The share of the spans of the query that have it, less that of the spans of the other
    /// one: from -1 to 1, never 0. Of no spans each share is 0.
    pub difference: f64,
    /// The filter that finds the spans that have it, and no others:
    /// `service = 'it''s'`, `status_code = 500`, `route is null`.
    pub filter: String,
}

/// Different values of an attribute in both sets together, at most.
const MOST_ATTRIBUTE_VALUES: usize = 100;

/// Levels, the worst last.
const LEVELS: [&str; 4] = ["info", "warning", "error", "fatal"];

impl Query {
    /// Compares the spans that the query finds with those that another one finds: the values
    /// whose shares differ most, at most `most` of them. A time is compared with the rest by
    /// two queries with other times. Both see the store at one moment. A span may be in both
    /// sets. Columns, order and limit of both do not matter.
    ///
    /// Compared are all columns that are facets
    /// ([`TableColumn::is_facet`](spanstore_format::table::TableColumn::is_facet)), and of
    /// spans the attributes that a segment with spans of the team keeps in a column of its
    /// own, where they have at most 100 different values in both sets together. Left out are
    /// attributes that one of these columns has its values from, and what no span of either
    /// set has a value of. Of requests `service` and `resource` are what their spans have,
    /// each value once a request, as filters mean it; `level` is the worst one. `function`
    /// is left out: a filter does not tell the function of a request from those of its spans.
    ///
    /// The counts are exact, out of the indexes where these tell. Of equal differences the
    /// columns come in the order of the table, then attributes in the order of their keys,
    /// and values in the order of their texts, none last. A value whose filter is longer
    /// than a filter may be ([`FilterLimits`]) is left out. The time and the meter are those
    /// of the query, not of the other one.
    ///
    /// # Errors
    /// [`Error::NotComparable`] when the queries are of different stores or teams, or over
    /// different rows; and as [`Query::stream`].
    pub async fn compare(self, other: Self, most: usize) -> Result<Comparison, Error> {
        self.check_comparable(&other)?;
        let rows = self.question.rows;
        let (execution, job, asked) = self.begin()?;
        let other = asked.instead(other.question);
        let comparison = async move {
            let mut columns = facets(rows)?;
            if rows == Rows::Spans {
                let mut keys = job.attribute_keys(asked.condition(&[])?).await?;
                keys.extend(job.attribute_keys(other.condition(&[])?).await?);
                columns.extend(keys.iter().map(|key| Compared::attribute(key)));
            }
            let counts = job.counts(&asked, &columns).await?;
            let other_counts = job.counts(&other, &columns).await?;
            let held = job.held("differences");
            let mut sets = Sets::new(&counts, &other_counts);
            for (place, (counts, other_counts)) in counts.iter().zip(&other_counts).enumerate() {
                sets.compare(place, counts, other_counts);
                held.set(sets.found.capacity() * size_of::<Found<'_>>())?;
                job.next_batch().await?;
            }
            Ok(sets.greatest(most, &columns))
        };
        execution.run(comparison).await
    }

    fn check_comparable(&self, other: &Self) -> Result<(), Error> {
        let cause = if !ptr::eq(self.source.engine(), other.source.engine()) {
            "they are of different stores"
        } else if self.source.team() != other.source.team() {
            "they are of different teams"
        } else if self.question.rows != other.question.rows {
            "they are over different rows: spans, requests or sessions"
        } else {
            return Ok(());
        };
        Err(Error::NotComparable { cause })
    }
}

impl Job {
    /// The attributes of few values that segments keep in columns of their own, as far as
    /// these may have rows that fulfil a condition.
    async fn attribute_keys(&self, condition: Condition) -> Result<BTreeSet<String>, Error> {
        let mut keys = BTreeSet::new();
        for matching in self.sealed(&condition, &self.interrupt())? {
            let corrupt = |error| matching.corrupt(error);
            let columns = matching.sealed.reader.columns().map_err(corrupt)?;
            let facets = matching.facets()?;
            for key in columns.promoted().keys() {
                let has_few = match facets {
                    Some(facets) => facets.facet(key.column).map_err(corrupt)?.is_some(),
                    // So few rows that reading them tells.
                    None => true,
                };
                if has_few && !is_in_facet(&key.key) {
                    keys.insert(key.key.clone());
                }
            }
            self.next_batch().await?;
        }
        Ok(keys)
    }

    /// The values of columns in the rows that are asked for.
    async fn counts(&self, asked: &Asked, columns: &[Compared]) -> Result<Vec<Counts>, Error> {
        let columns: Vec<FacetColumn> = columns.iter().map(|one| one.counted.clone()).collect();
        let (job, condition) = self.over(asked).await?;
        job.values(condition, &columns).await
    }
}

/// Whether a column that is a facet has its values from an attribute.
fn is_in_facet(key: &str) -> bool {
    let mut facets = SpanColumn::ALL
        .iter()
        .filter(|column| column.description().is_facet);
    facets.any(|column| match column.source() {
        Source::Attributes(_, keys) => keys.contains(&key),
        _ => false,
    })
}

/// A column or an attribute whose values are compared.
struct Compared {
    /// As filters name it.
    name: String,
    counted: FacetColumn,
    kind: Kind,
}

/// How filters ask for a value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    /// The worst level of the spans of a request, where filters ask for that of some span.
    WorstLevel,
}

/// The columns that are facets.
fn facets(rows: Rows) -> Result<Vec<Compared>, Error> {
    let columns = rows.table().columns().iter();
    let columns = columns.filter(|column| column.is_facet && column.is_visible);
    let compared = columns.map(|column| Compared::facet(rows, column));
    compared.filter_map(Result::transpose).collect()
}

impl Compared {
    /// A column; none where filters do not ask for its values.
    fn facet(rows: Rows, column: &TableColumn) -> Result<Option<Self>, Error> {
        let mut name = column.name;
        let mut kind = match column.value {
            ColumnType::Int32 => Kind::Number,
            _ => Kind::Text,
        };
        if rows == Rows::Requests {
            match RequestColumn::of_name(column.name) {
                // By these names filters ask for the values of all spans.
                Some(RequestColumn::Services) => name = RequestColumn::Service.name(),
                Some(RequestColumn::Resources) => name = RequestColumn::Resource.name(),
                Some(
                    RequestColumn::Service | RequestColumn::Resource | RequestColumn::Function,
                ) => return Ok(None),
                Some(RequestColumn::Level) => kind = Kind::WorstLevel,
                _ => {}
            }
        }
        Ok(Some(Self {
            name: name.to_owned(),
            counted: FacetColumn::of_name(rows, column.name)?,
            kind,
        }))
    }

    fn attribute(key: &str) -> Self {
        let attribute = Attribute {
            owner: Owner::Span,
            key: key.to_owned(),
            aspect: Aspect::Text,
        };
        Self {
            name: attribute.to_string(),
            counted: FacetColumn::of_attribute(attribute, MOST_ATTRIBUTE_VALUES),
            kind: Kind::Text,
        }
    }

    /// The filter that finds the rows that have a value.
    fn filter(&self, value: Option<&str>) -> String {
        let name = &self.name;
        match (value, self.kind) {
            (None, _) => format!("{name} is null"),
            (Some(number), Kind::Number) => format!("{name} = {number}"),
            (Some(value), Kind::Text) => format!("{name} = {}", quoted(value)),
            (Some(level), Kind::WorstLevel) => {
                let known = LEVELS.iter().position(|known| *known == level);
                let worse = LEVELS
                    .iter()
                    .skip(known.map_or(LEVELS.len(), |known| known + 1));
                let worse: Vec<String> = worse.map(|level| quoted(level)).collect();
                let some = format!("{name} = {}", quoted(level));
                if worse.is_empty() {
                    some
                } else {
                    format!("{some} and {name} not in ({})", worse.join(", "))
                }
            }
        }
    }
}

/// Two sets of rows, and the values whose shares differ between them.
struct Sets<'c> {
    rows: u64,
    other_rows: u64,
    found: Vec<Found<'c>>,
}

/// A value whose shares differ.
struct Found<'c> {
    /// The place of its column.
    column: usize,
    value: Option<&'c str>,
    rows: u64,
    other_rows: u64,
    /// The difference of the shares, times the rows of both sets.
    difference: i128,
}

impl<'c> Sets<'c> {
    fn new(counts: &[Counts], other_counts: &[Counts]) -> Self {
        // A row has one name, or none.
        let rows = |counts: &[Counts]| counts.first().map_or(0, Counts::total);
        Self {
            rows: rows(counts),
            other_rows: rows(other_counts),
            found: Vec::new(),
        }
    }

    /// Finds the values of a column whose shares differ.
    fn compare(&mut self, column: usize, counts: &'c Counts, other_counts: &'c Counts) {
        let of = |counts: &Counts, value| counts.spans.get(value).copied().unwrap_or_default();
        let values = counts.spans.iter();
        let values = values.map(|(value, rows)| (value.as_str(), *rows, of(other_counts, value)));
        let others = other_counts.spans.iter();
        let others = others.filter(|(value, _)| !counts.spans.contains_key(*value));
        let others = others.map(|(value, rows)| (value.as_str(), 0, *rows));
        let values: Vec<_> = values.chain(others).collect();
        let are_too_many = counts.are_too_many || other_counts.are_too_many;
        if are_too_many || values.is_empty() || values.len() > counts.most_values {
            return;
        }
        let values = values.into_iter();
        let values = values.map(|(value, rows, other_rows)| (Some(value), rows, other_rows));
        for (value, rows, other_rows) in values.chain([(None, counts.none, other_counts.none)]) {
            let difference = i128::from(rows) * i128::from(self.other_rows.max(1))
                - i128::from(other_rows) * i128::from(self.rows.max(1));
            if difference != 0 {
                self.found.push(Found {
                    column,
                    value,
                    rows,
                    other_rows,
                    difference,
                });
            }
        }
    }

    /// The greatest differences, with the filters of their values.
    fn greatest(mut self, most: usize, columns: &[Compared]) -> Comparison {
        let order = |found: &Found<'c>| {
            let greatest = Reverse(found.difference.unsigned_abs());
            (greatest, found.column, found.value.is_none(), found.value)
        };
        self.found.sort_unstable_by_key(order);
        let both = self.rows.max(1) as f64 * self.other_rows.max(1) as f64;
        let differences = self.found.into_iter().filter_map(|found| {
            let column = columns.get(found.column)?;
            let filter = column.filter(found.value);
            let fits = filter.len() <= FilterLimits::default().bytes;
            fits.then(|| Difference {
                column: column.name.clone(),
                value: found.value.map(str::to_owned),
                spans: found.rows,
                other_spans: found.other_rows,
                difference: found.difference as f64 / both,
                filter,
            })
        });
        Comparison {
            spans: self.rows,
            other_spans: self.other_rows,
            differences: differences.take(most).collect(),
        }
    }
}
