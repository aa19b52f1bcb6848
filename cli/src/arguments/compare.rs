//! Arguments of `compare`.

use clap::{ArgGroup, Args};

use super::{RowsArguments, Selection};
use crate::time::TimeArgument;

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("other").required(true).multiple(true)),
    after_help = "\
Examples:
  spanstore compare --filter \"level = 'error'\" --with \"level = 'info'\" --since 1h
  spanstore compare --since 15m --with-until 15m
  spanstore compare --requests --filter \"duration > '1s'\" --with \"duration <= '1s'\" --limit 5
  spanstore compare --filter \"route = '/checkout'\" --since 1h --with-since 25h --with-until 24h --format json

Compared are the shares of the values of every indexed column (level, service, route, …) and, of \
spans, of common attributes with few values. Each line has the filter that finds its rows.

The other set has the filter of the first one unless --with is given, and its times unless \
--with-since or --with-until is. A table shows shares in percent, other formats from 0 to 1."
)]
pub struct CompareArguments {
    /// Which ones, such as "level = 'error'"
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Only those that start at or after this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<TimeArgument>,
    /// Only those that start before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<TimeArgument>,
    /// With which others; `true` for all
    #[arg(long, group = "other", value_name = "EXPR")]
    pub with: Option<String>,
    /// Only with others that start at or after this time
    #[arg(long, group = "other", value_name = "TIME")]
    pub with_since: Option<TimeArgument>,
    /// Only with others that start before this time
    #[arg(long, group = "other", value_name = "TIME")]
    pub with_until: Option<TimeArgument>,
    /// What the rows are.
    #[command(flatten)]
    pub of: RowsArguments,
    /// At most this many values, those that differ most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

impl CompareArguments {
    /// The first set and the other one.
    pub fn selections(&self) -> [Selection; 2] {
        let has_times = self.with_since.is_some() || self.with_until.is_some();
        let (since, until) = if has_times {
            (self.with_since, self.with_until)
        } else {
            (self.since, self.until)
        };
        let selection = |filter: &Option<String>, since, until| Selection {
            filter: filter.clone(),
            search: None,
            since,
            until,
            explain: false,
        };
        let with = if self.with.is_some() {
            &self.with
        } else {
            &self.filter
        };
        [
            selection(&self.filter, self.since, self.until),
            selection(with, since, until),
        ]
    }
}
