//! Which spans, requests or sessions a command looks at.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use spanstore::query::{Query, Rows};

use crate::error::Error;
use crate::time::{TimeArgument, now_nanos};

/// What is counted or compared in place of spans.
#[derive(Debug, Args)]
pub struct RowsArguments {
    /// Requests (one a trace) in place of spans; filters and columns are those of `requests`
    #[arg(long)]
    pub requests: bool,
    /// Sessions in place of spans; filters and columns are those of `sessions`
    #[arg(long, conflicts_with = "requests")]
    pub sessions: bool,
}

impl RowsArguments {
    /// What the rows are.
    pub fn rows(&self) -> Rows {
        match (self.requests, self.sessions) {
            (true, _) => Rows::Requests,
            (_, true) => Rows::Sessions,
            _ => Rows::Spans,
        }
    }
}

/// A filter and a time range.
#[derive(Debug, Args)]
pub struct Selection {
    /// Which ones, such as "level = 'error' and path like '/api/%'"
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Those that a search bar's text finds, such as 'status:5xx -route:/health "timed out"'; all terms hold, and the filter too
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub search: Option<String>,
    /// Only those that start at or after this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<TimeArgument>,
    /// Only those that start before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<TimeArgument>,
    /// Say how the answer is found and what it costs, in place of it and as text in any format
    #[arg(long)]
    pub explain: bool,
}

impl Selection {
    /// The time range in nanoseconds since 1970, half-open.
    ///
    /// # Errors
    /// [`Error::Usage`] when it ends before or where it begins.
    pub fn range(&self, now_nanos: i64) -> Result<(Option<i64>, Option<i64>), Error> {
        let since = self.since.map(|time| time.resolve(now_nanos));
        let until = self.until.map(|time| time.resolve(now_nanos));
        match (since, until) {
            (Some(since), Some(until)) if since >= until => {
                Err(Error::Usage("--since must lie before --until".into()))
            }
            _ => Ok((since, until)),
        }
    }

    /// The query with the filter and the range, as of now.
    ///
    /// # Errors
    /// As [`Selection::range`] and [`Query::filter`].
    pub fn apply(&self, query: Query) -> Result<Query, Error> {
        self.apply_at(query, now_nanos())
    }

    /// The same as of a time.
    ///
    /// # Errors
    /// As [`Selection::apply`].
    pub fn apply_at(&self, mut query: Query, now_nanos: i64) -> Result<Query, Error> {
        let (since, until) = self.range(now_nanos)?;
        if let Some(filter) = &self.filter {
            query = query.filter(filter).map_err(Error::of_filter(filter))?;
        }
        if let Some(text) = &self.search {
            query = query.search(text).map_err(Error::of_filter(text))?;
        }
        if let Some(since) = since {
            query = query.since(since);
        }
        if let Some(until) = until {
            query = query.until(until);
        }
        Ok(query)
    }
}

/// What a command counts.
#[derive(Debug, Args)]
pub struct Counted {
    /// Which ones.
    #[command(flatten)]
    pub selection: Selection,
    /// What the rows are.
    #[command(flatten)]
    pub of: RowsArguments,
}

/// Arguments of `count`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore count --since 1h
  spanstore count --filter \"status_code >= 500\" --format json
  spanstore count --requests --filter \"any(attributes['db.system'] = 'postgresql')\"")]
pub struct CountArguments {
    /// Which ones.
    #[command(flatten)]
    pub counted: Counted,
}

/// Arguments of `facets`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore facets level service --since 15m
  spanstore facets route --filter \"level = 'error'\" --limit 5 --format json
  spanstore facets level service --filter \"level = 'error'\" --choices
  spanstore facets level services --requests --since 15m
  spanstore facets user_id state --sessions

A table shows the first 20 values of a column unless --limit says otherwise; other formats give all.")]
pub struct FacetsArguments {
    /// The columns
    #[arg(required = true, value_name = "COLUMN")]
    pub columns: Vec<String>,
    /// Which ones.
    #[command(flatten)]
    pub counted: Counted,
    /// At most this many values of each column, the most frequent
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Count each column as if the filter had no condition on it alone
    #[arg(long, conflicts_with = "explain")]
    pub choices: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore top path --since 1h
  spanstore top \"attributes['db.system']\" --filter \"level = 'error'\" --limit 3 --format json
  spanstore top path --requests --filter \"errors > 0\"")]
pub struct TopArguments {
    /// A column, an attribute (`attributes['key']`, `resource['key']`) or a function of these
    #[arg(value_name = "VALUE")]
    pub value: String,
    /// Which ones.
    #[command(flatten)]
    pub counted: Counted,
    /// At most this many values
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// Arguments of `timeline`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore timeline --since 24h --by level
  spanstore timeline --filter \"route = '/checkout'\" --buckets 60 --format json
  spanstore timeline --requests --since 24h --by level

A table has a row for each bucket with a bar and the 4 most frequent values; other formats have a
row for each bucket and value that has spans.")]
pub struct TimelineArguments {
    /// Count the values of this apart: a column, an attribute (`attributes['key']`) or a
    /// function of these; at most 1,000 values
    #[arg(long, value_name = "VALUE")]
    pub by: Option<String>,
    /// How many stretches of time there are
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub buckets: usize,
    /// Which ones.
    #[command(flatten)]
    pub counted: Counted,
}
