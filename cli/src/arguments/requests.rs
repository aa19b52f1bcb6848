//! Arguments of `requests` and `request`.

use clap::Args;

use super::{ListArguments, Selection};

/// Arguments of `requests`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore requests --since 15m
  spanstore requests --filter \"level = 'error' and path like '/api/%'\" --total
  spanstore requests --filter \"any(attributes['db.system'] = 'postgresql')\" --order slowest --limit 10
  spanstore requests --limit 100 --format json --cursor 01a3…
  spanstore requests --filter \"status_code >= 500\" --columns start_time,path,services,duration --format json

A request is all spans of a trace in one row. `any(…)` takes a condition on spans and holds when one \
of them fulfils it. level, service, resource and function of a filter mean that some span has the \
value, and search('text') that one has the text; all else in a filter is the request's own.

A table shows the first 50 rows unless --limit says otherwise; other formats give every row. With --limit or --cursor the last line of JSON is {\"next_cursor\": …}, null at the end; other formats say it on standard error.")]
pub struct RequestsArguments {
    /// Which requests.
    #[command(flatten)]
    pub selection: Selection,
    /// Which rows of the list.
    #[command(flatten)]
    pub list: ListArguments,
}

/// Arguments of `request`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore request h4and-1795305398400-187f52703469
  spanstore request h4and-1795305398400-187f52703469 --format json")]
pub struct RequestArguments {
    /// The id of the request; several traces may have it
    #[arg(value_name = "REQUEST_ID")]
    pub request_id: String,
}
