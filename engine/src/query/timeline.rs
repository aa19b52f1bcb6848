//! How many spans start in each stretch of time, by the values of a column: the chart
//! above a list.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};

use super::aggregate::{Bucket, most_first, texts};
use super::builder::Query;
use super::job::{Asked, Holding, Job};
use crate::error::Error;
use crate::read::condition::Condition;
use crate::read::group::{Grouping, Measure, Term};

/// Spans by the time of their start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Where the first bucket begins, ns since 1970.
    pub start: i64,
    /// How long each bucket is, ns.
    pub width: i64,
    /// How many buckets there are.
    pub buckets: usize,
    /// The values that were asked for, the most frequent first, none last among equals;
    /// without a question for values one without a value. Empty when no span is found.
    pub series: Vec<Series>,
}

/// The spans that have a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The value as text; none for the spans that have no value.
    pub value: Option<String>,
    /// Spans in each bucket.
    pub spans: Vec<u64>,
}

impl Series {
    /// Spans in all buckets.
    pub fn total(&self) -> u64 {
        self.spans.iter().sum()
    }
}

/// Buckets of a timeline, at most.
const MOST_BUCKETS: usize = 10_000;
/// Values that are counted apart, at most.
const MOST_SERIES: usize = 1_000;

impl Query {
    /// Counts the spans that the query finds in buckets of equal length, for each value
    /// of `by` apart ([`Key::Value`](super::Key::Value)). The buckets cover the time from
    /// [`Query::since`] to [`Query::until`], and where one of these was not given, to the
    /// first or the last start that is found; the last bucket may reach beyond it. There is
    /// at least one bucket. Columns, order and limit do not matter.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when there are more than 10,000 buckets or 1,000 values, and as
    /// [`Query::aggregate`].
    pub async fn timeline(self, buckets: usize, by: Option<&str>) -> Result<Timeline, Error> {
        let buckets = buckets.max(1);
        if buckets > MOST_BUCKETS {
            return Err(Error::TooLarge {
                what: "buckets of a timeline",
                limit: MOST_BUCKETS as u64,
                found: buckets as u64,
            });
        }
        let (execution, job, asked) = self.begin()?;
        let by = by.map(|by| asked.value(by)).transpose()?;
        let timeline = async move { job.timeline(&asked, buckets, by).await };
        execution.run(timeline).await
    }
}

impl Job {
    async fn timeline(
        &self,
        asked: &Asked,
        buckets: usize,
        by: Option<Term>,
    ) -> Result<Timeline, Error> {
        let (job, condition) = self.over(asked).await?;
        let condition = Arc::new(condition);
        let (since, until) = (asked.question.since, asked.question.until);
        let covered = match (since, until) {
            (Some(since), Some(until)) => Some((since, until.saturating_sub(1))),
            _ => {
                let found = job.extent(&condition, asked.start()?).await?;
                found.map(|(first, last)| {
                    let last = until.map_or(last, |until| until.saturating_sub(1));
                    (since.unwrap_or(first), last)
                })
            }
        };
        let Some((start, last)) = covered else {
            return Ok(Timeline {
                start: since.or(until).unwrap_or_default(),
                width: 1,
                buckets,
                series: Vec::new(),
            });
        };
        let length = i128::from(last) - i128::from(start) + 1;
        let width = i64::try_from((length + buckets as i128 - 1) / buckets as i128);
        let width = width.unwrap_or(i64::MAX).max(1);
        let mut time = asked.start()?;
        time.expression = Some(Arc::new(Bucket {
            origin: start,
            width_nanos: width,
        }));
        let grouping = Grouping {
            keys: std::iter::once(time).chain(by).collect(),
            measures: vec![Measure::Rows],
        };
        let (groups, _held) = job.group(&condition, &Arc::new(grouping)).await?;
        let (place, held) = ((start, width, buckets), job.held("a timeline"));
        let series = match groups.as_slice() {
            [times, counts] => series(times, None, counts, place, &held)?,
            [times, values, counts] => series(times, Some(&texts(values)?), counts, place, &held)?,
            _ => Vec::new(),
        };
        Ok(Timeline {
            start,
            width,
            buckets,
            series,
        })
    }

    /// The first and the last start of the rows that fulfil a condition.
    async fn extent(
        &self,
        condition: &Arc<Condition>,
        start: Term,
    ) -> Result<Option<(i64, i64)>, Error> {
        let grouping = Grouping {
            keys: Vec::new(),
            measures: vec![Measure::Least(start.clone()), Measure::Greatest(start)],
        };
        let (found, _held) = self.group(condition, &Arc::new(grouping)).await?;
        let mut times = found.iter().map(|times| {
            let times = times.as_primitive_opt::<TimestampNanosecondType>()?;
            times.iter().next().flatten()
        });
        Ok(times.next().flatten().zip(times.next().flatten()))
    }
}

/// The counts of each value, bucket by bucket.
fn series(
    times: &ArrayRef,
    texts: Option<&StringViewArray>,
    counts: &ArrayRef,
    (start, width, buckets): (i64, i64, usize),
    held: &Holding,
) -> Result<Vec<Series>, Error> {
    let times = times.as_primitive_opt::<TimestampNanosecondType>();
    let counts = counts.as_primitive_opt::<Int64Type>();
    let (Some(times), Some(counts)) = (times, counts) else {
        return Err(Error::internal(
            "groups",
            &"times and counts of other types",
        ));
    };
    let mut series: HashMap<Option<&str>, Vec<u64>> = HashMap::new();
    for (row, (time, count)) in times.values().iter().zip(counts.values()).enumerate() {
        let value = texts
            .filter(|texts| texts.is_valid(row))
            .map(|texts| texts.value(row));
        if !series.contains_key(&value) {
            let found = series.len() + 1;
            if found > MOST_SERIES {
                return Err(Error::TooLarge {
                    what: "values of a timeline",
                    limit: MOST_SERIES as u64,
                    found: found as u64,
                });
            }
            held.set(found * buckets * size_of::<u64>())?;
            series.insert(value, vec![0; buckets]);
        }
        let bucket = (i128::from(*time) - i128::from(start)) / i128::from(width);
        let of_bucket = usize::try_from(bucket).ok().and_then(|bucket| {
            let of_value = series.get_mut(&value)?;
            of_value.get_mut(bucket)
        });
        if let Some(spans) = of_bucket {
            *spans += count.unsigned_abs();
        }
    }
    let series = series.into_iter().map(|(value, spans)| Series {
        value: value.map(str::to_owned),
        spans,
    });
    let mut series: Vec<Series> = series.collect();
    series.sort_by(|one, other| {
        most_first(
            (one.value.as_deref(), one.total()),
            (other.value.as_deref(), other.total()),
        )
    });
    Ok(series)
}
