//! What a search bar offers while somebody types: columns, keys of attributes, and values.
//!
//! Values of facets are counted out of the indexes, of which only those values are asked that
//! begin with what was typed (`counts`). Other values are grouped (`read::group`), of the rows
//! alone that have one which begins so.

mod keys;
mod prefix;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::logical_expr::Expr;
use spanstore_format::requests::RequestColumn;
use spanstore_format::segment::Column;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::span::SpanColumn;

pub use self::keys::{AttributeKey, AttributeKeys};
pub(super) use self::prefix::Prefix;
use super::aggregate::{most_first, texts};
use super::builder::{Query, Question};
use super::counts::{Counts, FacetColumn};
use super::filter::{FilterColumn, NamedValue, Rows};
use super::functions::AttributeAccess;
use super::job::{Asked, Job};
use crate::error::Error;
use crate::read::condition::{Condition, Leaf, Predicate};
use crate::read::constraints::Constraints;
use crate::read::group::{Grouping, Measure, Term};

/// Values to choose from, as [`Query::suggest_values`] gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuggestedValues {
    /// The most frequent first, equally frequent ones in the order of their texts.
    pub values: Vec<SuggestedValue>,
    /// How many different values begin with the prefix, those beyond the limit included.
    pub total: u64,
}

/// A value to choose, and how many rows have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuggestedValue {
    /// The value as text: as [`Query::top`] gives it.
    pub value: String,
    /// Rows that have it: spans, requests or sessions, as the query is over.
    pub rows: u64,
}

impl Query {
    /// The columns whose names begin with a text, in any case, in the order of the table: those
    /// that filters over these rows may name. Nothing is read, and filters, times, columns,
    /// order and limit of the query do not matter.
    pub fn suggest_columns(&self, prefix: &str) -> Vec<FilterColumn> {
        let prefix = Prefix::new(prefix);
        let columns = self.question.rows.filter_columns();
        columns.filter(|column| prefix.is_of(column.name)).collect()
    }

    /// The values that begin with a text, in any case, in the rows that the query finds: the
    /// `limit` most frequent ones, with the number of rows of each. An empty text asks for all
    /// values. All filters of the query hold, also those on the same value. Its columns, order
    /// and limit do not matter.
    ///
    /// A name is a value in the words of [`Filter`](super::Filter): any column,
    /// `attributes['key']`, `resource['key']` or a function of these. Values are compared and
    /// given as texts: numbers and durations (ns) in decimal digits, ids in hexadecimal ones,
    /// times in RFC 3339. Rows without a value are not counted.
    ///
    /// Of requests `service` and `resource` are what their spans have, each value once a
    /// request, as filters mean it; `level` and `function` are those that a list of requests
    /// shows, while a filter asks for those of any span. An attribute of requests is that of their
    /// spans: a value is counted once for each request that has a span with it, as
    /// `any(attributes['key'] = 'value')` finds them. Sessions have no attributes.
    ///
    /// The counts are exact. Values of facets
    /// ([`TableColumn::is_facet`](spanstore_format::table::TableColumn::is_facet)), of
    /// attributes that segments keep in columns with few values, and of attributes of resources
    /// come out of the indexes. Others are read, and so are rows of which indexes do not tell
    /// whether the query finds them.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] when the name cannot be read or is not known; it names the
    /// columns that may be meant. [`Error::QueryMemory`] when so many different values begin
    /// with the text that they take more memory than a query may. And as [`Query::stream`].
    pub async fn suggest_values(
        self,
        name: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<SuggestedValues, Error> {
        let of = Named::new(self.question.rows, name)?;
        let prefix = Prefix::new(prefix);
        let (execution, job, asked) = self.begin()?;
        let values = async move {
            match of {
                Named::Facet(column) => {
                    let (job, condition) = job.over(&asked).await?;
                    job.of_facet(condition, column, &prefix).await
                }
                Named::Attribute(attribute, _) if asked.question.rows == Rows::Spans => {
                    let (job, condition) = job.over(&asked).await?;
                    let column = FacetColumn::of_attribute(attribute.clone(), usize::MAX);
                    if job.is_indexed(&condition, &column)? {
                        return job.of_facet(condition, column, &prefix).await;
                    }
                    let term = Term::column(Column::Attribute(attribute), Rows::Spans.table())?;
                    job.of_term(condition, term, Measure::Rows, &prefix).await
                }
                Named::Attribute(_, expr) => {
                    let of_spans = asked.over_all_spans();
                    let condition = job.spans_of_requests(&asked).await?;
                    let trace = Column::Stored(SpanColumn::TraceId.place());
                    let trace = Term::column(trace, Rows::Spans.table())?;
                    let (term, requests) = (of_spans.term(&expr)?, Measure::Distinct(trace));
                    job.of_term(condition, term, requests, &prefix).await
                }
                Named::Other(expr) => {
                    let term = asked.term(&expr)?;
                    let (job, condition) = job.over(&asked).await?;
                    job.of_term(condition, term, Measure::Rows, &prefix).await
                }
            }
        };
        let found = execution.run(values).await?;
        Ok(found.first(limit))
    }
}

/// What values are asked for.
enum Named {
    /// A column that is a facet.
    Facet(FacetColumn),
    /// An attribute of spans, and what reads it.
    Attribute(Attribute, Expr),
    Other(Expr),
}

impl Named {
    fn new(rows: Rows, name: &str) -> Result<Self, Error> {
        // Its text: whether it is there is another value.
        let attribute = |expr: &Expr| {
            let attribute = AttributeAccess::of(expr)?.attribute()?;
            (attribute.aspect == Aspect::Text).then_some(attribute)
        };
        let value = NamedValue::parse(rows, name);
        if rows == Rows::Requests
            && value.is_err()
            && let Ok(of_spans) = NamedValue::parse(Rows::Spans, name)
            && let Some(attribute) = attribute(&of_spans.expr)
        {
            return Ok(Self::Attribute(attribute, of_spans.expr));
        }
        let expr = value?.expr;
        if let Some(attribute) = attribute(&expr) {
            return Ok(Self::Attribute(attribute, expr));
        }
        let Expr::Column(column) = &expr else {
            return Ok(Self::Other(expr));
        };
        let name = match (rows, RequestColumn::of_name(&column.name)) {
            // What filters mean by it.
            (Rows::Requests, Some(RequestColumn::Service)) => RequestColumn::Services.name(),
            _ => column.name.as_str(),
        };
        let table = rows.table();
        let place = table.place_of(name);
        let is_facet = place.and_then(|place| Some(table.column(place)?.is_facet));
        Ok(match is_facet {
            Some(true) => Self::Facet(FacetColumn::of_name(rows, name)?),
            _ => Self::Other(expr),
        })
    }
}

impl Asked {
    /// A question for all spans in place of this one.
    fn over_all_spans(&self) -> Self {
        self.instead(Question {
            rows: Rows::Spans,
            filters: Vec::new(),
            since: None,
            until: None,
            ..self.question.clone()
        })
    }
}

/// Values with the number of rows of each, in any order.
struct Found(Vec<SuggestedValue>);

impl Found {
    /// The most frequent ones.
    fn first(mut self, limit: usize) -> SuggestedValues {
        let total = self.0.len() as u64;
        self.0.sort_unstable_by(|one, other| {
            most_first(
                (Some(&one.value), one.rows),
                (Some(&other.value), other.rows),
            )
        });
        self.0.truncate(limit);
        SuggestedValues {
            values: self.0,
            total,
        }
    }
}

impl Job {
    /// The values of a column that facets may tell.
    async fn of_facet(
        &self,
        condition: Condition,
        column: FacetColumn,
        prefix: &Prefix,
    ) -> Result<Found, Error> {
        let column = column.beginning_with(prefix);
        let counts = self
            .values(condition, std::slice::from_ref(&column))
            .await?;
        let spans = counts.into_iter().flat_map(Counts::into_values);
        let found = spans.filter(|(value, rows)| *rows > 0 && prefix.is_of(value));
        let found = found.map(|(value, rows)| SuggestedValue { value, rows });
        Ok(Found(found.collect()))
    }

    /// The values of a term, with a measure of each.
    async fn of_term(
        &self,
        condition: Condition,
        term: Term,
        measure: Measure,
        prefix: &Prefix,
    ) -> Result<Found, Error> {
        let mut all = vec![condition];
        if !prefix.is_empty() && !term.columns.is_empty() {
            all.push(Condition::Leaf(Leaf {
                table: term.table,
                columns: term.columns.clone(),
                necessary: Constraints::default(),
                predicate: Arc::new(BeginsWith {
                    term: term.clone(),
                    prefix: prefix.clone(),
                }),
            }));
        }
        let condition = Arc::new(Condition::And(all).narrowed());
        let grouping = Arc::new(Grouping {
            keys: vec![term],
            measures: vec![measure],
        });
        let (groups, _held) = self.group(&condition, &grouping).await?;
        let [values, counts] = groups.as_slice() else {
            return Err(Error::internal("groups", &"other columns than asked for"));
        };
        let values = texts(values)?;
        let counts = counts.as_primitive::<Int64Type>().values().iter();
        let found = values.iter().zip(counts).filter_map(|(value, rows)| {
            let value = value.filter(|value| prefix.is_of(value))?.to_owned();
            let rows = rows.unsigned_abs();
            Some(SuggestedValue { value, rows })
        });
        Ok(Found(found.collect()))
    }
}

/// Is true of the rows with a value that begins with a text.
#[derive(Debug)]
struct BeginsWith {
    term: Term,
    prefix: Prefix,
}

impl Predicate for BeginsWith {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let values: ArrayRef = self.term.evaluate(rows)?;
        let values = texts(&values)?;
        let begins = |value: Option<&str>| value.map(|value| self.prefix.is_of(value));
        Ok(values.iter().map(begins).collect())
    }

    fn text(&self) -> String {
        "the value begins with what was typed".into()
    }
}
