//! Groups of spans, and what is worked out for each: `group by` without SQL.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringViewArray, TimestampNanosecondArray,
};
use arrow::compute::{SortColumn, SortOptions, cast, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampNanosecondType};
use spanstore_format::id::to_hex;

use super::builder::Query;
use super::counts::FacetCount;
use super::filter::NamedValue;
use super::job::{Asked, Holding, Job, on_each, on_each_row_group};
use crate::error::Error;
use crate::filter_error::FilterError;
use crate::read::condition::Condition;
use crate::read::group::merge::Groups;
use crate::read::group::part::Part;
use crate::read::group::{Expression, Grouping, Measure, Term};
use crate::read::matching::Matching;
use crate::read::meter::Stage;
use crate::read::scan::columns_error;

/// What spans are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A value in the words of [`Filter`](super::Filter): a column,
    /// `attributes['key']`, `resource['key']` or a function such as `lower(path)`.
    Value(&'a str),
    /// The start, in buckets of this width that begin at multiples of it since 1970. A width
    /// is at least 1 ns and at most 292 years.
    Time(Duration),
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(value: &'a str) -> Self {
        Self::Value(value)
    }
}

/// What is worked out for each group. Values are in the words of
/// [`Filter`](super::Filter), as in [`Key::Value`]; spans without a value do not count, and
/// NaN is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate<'a> {
    /// How many spans there are.
    Count,
    /// How many different values there are, exactly.
    Distinct(&'a str),
    /// The sum of numbers.
    Sum(&'a str),
    /// The mean of numbers.
    Avg(&'a str),
    /// The least number or time.
    Min(&'a str),
    /// The greatest number or time.
    Max(&'a str),
    /// The number at a share, from 0 to 1, of all numbers in their order: exactly, and
    /// between two numbers in proportion. It takes 8 bytes of memory a span.
    Percentile(&'a str, f64),
}

impl Aggregate<'_> {
    fn name(&self) -> String {
        match self {
            Self::Count => "count".into(),
            Self::Distinct(value) => format!("distinct({value})"),
            Self::Sum(value) => format!("sum({value})"),
            Self::Avg(value) => format!("avg({value})"),
            Self::Min(value) => format!("min({value})"),
            Self::Max(value) => format!("max({value})"),
            Self::Percentile(value, share) => format!("percentile({value}, {share})"),
        }
    }
}

impl Query {
    /// Groups the spans that the query finds by the values of keys, and works out values
    /// for each group. A row is a group: its keys, then its values, each with the name
    /// that it was asked by (`route`, `time`, `count`, `avg(duration)`). Rows come in the
    /// order of their keys, those without a value last; without keys there is one row.
    /// Columns, order and limit of the query do not matter. Integers and times keep their
    /// units (`duration` is in ns); means and percentiles are `f64`.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] when a value cannot be read, or has no such aggregate;
    /// [`Error::TooLarge`] when a sum of integers does not fit in 64 bits; and as
    /// [`Query::stream`].
    pub async fn aggregate<'a>(
        self,
        keys: impl IntoIterator<Item = impl Into<Key<'a>>>,
        values: impl IntoIterator<Item = Aggregate<'a>>,
    ) -> Result<RecordBatch, Error> {
        let (execution, job, asked) = self.begin()?;
        let keys: Vec<Key<'a>> = keys.into_iter().map(Into::into).collect();
        let values: Vec<Aggregate<'a>> = values.into_iter().collect();
        let grouping = Grouping {
            keys: keys
                .iter()
                .map(|key| asked.key(key))
                .collect::<Result<_, _>>()?,
            measures: values
                .iter()
                .map(|value| asked.measure(value))
                .collect::<Result<_, _>>()?,
        };
        let names = keys.iter().map(|key| match key {
            Key::Value(name) => (*name).to_owned(),
            Key::Time(_) => "time".to_owned(),
        });
        let names = names.chain(values.iter().map(Aggregate::name));
        let fields = names.zip(grouping.types());
        let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let count = keys.len();
        let groups = async move {
            let (job, condition) = job.over(&asked).await?;
            let condition = Arc::new(condition);
            let (columns, _held) = job.group(&condition, &Arc::new(grouping)).await?;
            let rows = RecordBatch::try_new(schema, columns);
            let rows = rows.map_err(|error| columns_error("groups", &error))?;
            in_order(&rows, count)
        };
        execution.run(groups).await
    }
}

impl Query {
    /// The most frequent values in the spans that the query finds, `k` of them, with the
    /// number of spans of each, in the order of [`Query::facet`]. A value is one in the
    /// words of [`Filter`](super::Filter): any column, `attributes['key']`,
    /// `resource['key']` or a function of these. Columns, order and limit do not matter.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] when the value cannot be read, and as [`Query::stream`].
    pub async fn top(self, value: &str, k: usize) -> Result<Vec<FacetCount>, Error> {
        let (execution, job, asked) = self.begin()?;
        let grouping = Grouping {
            keys: vec![asked.value(value)?],
            measures: vec![Measure::Rows],
        };
        let top = async move {
            let (job, condition) = job.over(&asked).await?;
            let condition = Arc::new(condition);
            let (groups, _held) = job.group(&condition, &Arc::new(grouping)).await?;
            let [values, counts] = groups.as_slice() else {
                return Err(Error::internal("groups", &"other columns than asked for"));
            };
            let texts = texts(values)?;
            let counts = counts.as_primitive::<Int64Type>();
            let mut order: Vec<usize> = (0..texts.len()).collect();
            let of = |row: &usize| {
                let text = texts.is_valid(*row).then(|| texts.value(*row));
                (text, counts.value(*row).unsigned_abs())
            };
            order.sort_by(|one, other| most_first(of(one), of(other)));
            let found = order.iter().take(k).map(|row| {
                let (value, spans) = of(row);
                let value = value.map(str::to_owned);
                FacetCount { value, spans }
            });
            Ok(found.collect())
        };
        execution.run(top).await
    }
}

/// Values as texts; ids as hexadecimal digits.
pub(super) fn texts(values: &ArrayRef) -> Result<StringViewArray, Error> {
    if let Some(ids) = values.as_fixed_size_binary_opt() {
        return Ok(ids.iter().map(|id| id.map(to_hex)).collect());
    }
    let texts = cast(values, &DataType::Utf8View);
    let texts = texts.map_err(|error| columns_error("groups", &error))?;
    Ok(texts.as_string_view().clone())
}

/// Rows in the order of their first columns, nulls last.
fn in_order(rows: &RecordBatch, columns: usize) -> Result<RecordBatch, Error> {
    if columns == 0 {
        return Ok(rows.clone());
    }
    let keys = rows.columns().iter().take(columns);
    let keys: Vec<SortColumn> = keys
        .map(|values| SortColumn {
            values: Arc::clone(values),
            options: Some(SortOptions::new(false, false)),
        })
        .collect();
    let order = lexsort_to_indices(&keys, None);
    let sorted = order.and_then(|order| take_record_batch(rows, &order));
    sorted.map_err(|error| columns_error("groups", &error))
}

/// The order of values by how many spans they have: the most frequent first, equal ones by
/// value, none last.
pub(super) fn most_first(one: (Option<&str>, u64), other: (Option<&str>, u64)) -> Ordering {
    let most = other.1.cmp(&one.1);
    let none_last = one.0.is_none().cmp(&other.0.is_none());
    most.then(none_last).then_with(|| one.0.cmp(&other.0))
}

impl Asked {
    /// A value in the words of filters.
    pub(super) fn value(&self, text: &str) -> Result<Term, Error> {
        self.term(&NamedValue::parse(self.question.rows, text)?.expr)
    }

    fn key(&self, key: &Key<'_>) -> Result<Term, Error> {
        match key {
            Key::Value(text) => self.value(text),
            Key::Time(width) => {
                let width_nanos = i64::try_from(width.as_nanos()).unwrap_or(i64::MAX).max(1);
                let mut term = self.start()?;
                term.expression = Some(Arc::new(Bucket {
                    origin: 0,
                    width_nanos,
                }));
                Ok(term)
            }
        }
    }

    fn measure(&self, aggregate: &Aggregate<'_>) -> Result<Measure, Error> {
        let number = |text: &str| self.term(&NamedValue::parse(self.question.rows, text)?.number);
        let measure = match aggregate {
            Aggregate::Count => Measure::Rows,
            Aggregate::Distinct(text) => Measure::Distinct(self.value(text)?),
            Aggregate::Sum(text) => Measure::Sum(number(text)?),
            Aggregate::Avg(text) => Measure::Mean(number(text)?),
            Aggregate::Min(text) => Measure::Least(number(text)?),
            Aggregate::Max(text) => Measure::Greatest(number(text)?),
            Aggregate::Percentile(text, share) => Measure::Percentile(number(text)?, *share),
        };
        let wrong = |expected: &str| FilterError::unexpected(0, expected, aggregate.name()).into();
        match measure {
            Measure::Percentile(_, share) if !(0.0..=1.0).contains(&share) => {
                Err(wrong("a share from 0 to 1"))
            }
            measure if measure.fits() => Ok(measure),
            _ => Err(wrong("a value that is a number, such as duration")),
        }
    }
}

/// The start of the bucket that a time lies in.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Where a bucket begins, ns since 1970.
    pub(super) origin: i64,
    pub(super) width_nanos: i64,
}

impl Expression for Bucket {
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, Error> {
        let starts = rows.columns().first();
        let starts = starts.and_then(|starts| starts.as_primitive_opt::<TimestampNanosecondType>());
        let not_times = || Error::internal("buckets", &"not the times of rows");
        let starts = starts.ok_or_else(not_times)?;
        let bucket = |start: i64| {
            let after = i128::from(start) - i128::from(self.origin);
            let within = after.rem_euclid(i128::from(self.width_nanos));
            i64::try_from(i128::from(start) - within).unwrap_or(i64::MIN)
        };
        // Rows beside each other mostly lie in one bucket, and a division takes long.
        let mut last = (0, 0);
        let buckets = starts.values().iter().map(|start| {
            if *start < last.0 || *start >= last.1 {
                let first = bucket(*start);
                last = (first, first.saturating_add(self.width_nanos));
            }
            last.0
        });
        let buckets: Vec<i64> = buckets.collect();
        let buckets = TimestampNanosecondArray::new(buckets.into(), starts.nulls().cloned());
        Ok(Arc::new(buckets.with_timezone_opt(starts.timezone())))
    }

    fn rises(&self) -> bool {
        true
    }
}

impl Job {
    /// The groups of all rows that fulfil a condition: the values of keys, then of
    /// measures.
    pub(super) async fn group(
        &self,
        condition: &Arc<Condition>,
        grouping: &Arc<Grouping>,
    ) -> Result<(Vec<ArrayRef>, Holding), Error> {
        let held = self.held("groups");
        let mut groups = Groups::new(grouping)?;
        self.group_hot(condition, grouping, &mut groups, &held)
            .await?;
        for matching in self.sealed(condition, &self.interrupt())? {
            self.group_sealed(&matching, condition, grouping, &mut groups, &held)
                .await?;
        }
        let columns = groups.finish()?;
        held.set(columns.iter().map(Array::get_array_memory_size).sum())?;
        Ok((columns, held))
    }

    /// Adds the rows in memory to groups.
    pub(super) async fn group_hot(
        &self,
        condition: &Arc<Condition>,
        grouping: &Arc<Grouping>,
        groups: &mut Groups,
        held: &Holding,
    ) -> Result<(), Error> {
        let interrupt = self.interrupt();
        let hot = on_each(self.hot(condition, &interrupt)?, |parts| {
            let (condition, grouping) = (Arc::clone(condition), Arc::clone(grouping));
            let interrupt = Arc::clone(&interrupt);
            move || Part::of_hot(&parts, &condition, &grouping, &*interrupt)
        });
        for part in hot.await?.into_iter().flatten() {
            groups.add(part)?;
            held.set(groups.memory())?;
            self.next_batch().await?;
        }
        Ok(())
    }

    /// Adds the rows of a partition to groups.
    pub(super) async fn group_sealed(
        &self,
        matching: &Arc<Matching>,
        condition: &Arc<Condition>,
        grouping: &Arc<Grouping>,
        groups: &mut Groups,
        held: &Holding,
    ) -> Result<(), Error> {
        let rows = self.exactly(matching, condition).await?;
        let parts = on_each_row_group(&rows, |rows| {
            let (matching, grouping) = (Arc::clone(matching), Arc::clone(grouping));
            move || {
                let group = || Part::of_row_group(&matching, &rows, &grouping);
                matching.interrupt.meter().time(Stage::Answer, group)
            }
        });
        for part in parts.await? {
            groups.add(part)?;
            held.set(groups.memory())?;
            self.next_batch().await?;
        }
        Ok(())
    }
}
