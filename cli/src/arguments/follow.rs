//! Arguments of `tail`, and of those that wait for a trace.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use spanstore::query::Rows;

use super::column_name;

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore tail
  spanstore tail --requests --search \"level:error\"
  spanstore tail --format json --limit 100
  spanstore tail --requests --cursor 01a3… --timeout 60

It shows what is appended from now on, in the order of the appends; with --cursor also what came since the tail that gave the cursor. A request is shown when it is first seen and when it has changed, at most once a second. \
It ends with --limit, --timeout or Ctrl-C. The last line of JSON is {\"next_cursor\": …}; other formats say it on standard error.")]
pub struct TailArguments {
    /// Requests (one a trace) in place of spans; filters and columns are those of `requests`
    #[arg(long)]
    pub requests: bool,
    /// Which ones, such as "level = 'error' and path like '/api/%'"
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Those that a search bar's text finds, such as 'status:5xx -route:/health "timed out"'; all terms hold, and the filter too
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub search: Option<String>,
    /// Which columns, with commas between them
    #[arg(long, value_delimiter = ',', value_parser = column_name(), value_name = "COLUMN,…")]
    pub columns: Option<Vec<String>>,
    /// End when so many rows were shown, and the others of the append that brought the last one
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub limit: Option<usize>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Go on where another tail with the same filters ended
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

impl TailArguments {
    /// What the rows are.
    pub fn rows(&self) -> Rows {
        if self.requests {
            Rows::Requests
        } else {
            Rows::Spans
        }
    }
}

/// A session whose first trace is waited for.
#[derive(Debug, Args)]
pub struct WaitArguments {
    /// The session's id
    #[arg(value_name = "SESSION_ID")]
    pub session_id: String,
    /// Seconds after which it fails
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}
