//! What can be written on the command line.

use std::path::{Path, PathBuf};

use clap::builder::{NonEmptyStringValueParser, StringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use spanstore_format::{Month, SegmentId, TeamId, TraceId};

use crate::error::Error;
use crate::time::TimeArgument;

mod compare;
mod export;
mod follow;
mod list;
mod manual;
mod requests;
mod retain;
mod selection;
mod session;
mod suggest;

pub use compare::CompareArguments;
pub use export::{ExportArguments, ExportedTable, IdsArgument, TimeUnitArgument};
pub use follow::{TailArguments, WaitArguments};
pub use list::{ListArguments, RowOrder};
pub use manual::{CompletionsArguments, ManArguments};
pub use requests::{RequestArguments, RequestsArguments};
pub use retain::{RetainArguments, Retention};
pub use selection::{
    CountArguments, Counted, FacetsArguments, RowsArguments, Selection, TimelineArguments,
    TopArguments,
};
pub use session::{
    Environment, NewSessionArguments, PageTraceArguments, PageTraceCommand, SessionArguments,
    SessionCommand, SessionId, SessionsArguments,
};
pub use suggest::{
    SuggestArguments, SuggestCommand, SuggestNamesArguments, SuggestValuesArguments,
};

const DEFAULT_STORE: &str = "./spanstore-data";
const GLOBAL: &str = "Options of every command";

const AFTER_HELP: &str = "\
Examples:
  spanstore demo
  spanstore generate --spans 100000 --seed 1 | spanstore ingest -
  spanstore ingest --team acme --any-time traces.json.gz more.pb.zst
  spanstore query --team acme --since 2h --filter \"level = 'error' and path like '/api/%'\"
  spanstore requests --since 2h --order slowest
  spanstore trace 4bf92f3577b34da6a3ce929d0e0e4736
  spanstore sql \"SELECT route, count(*) AS spans FROM spans GROUP BY route ORDER BY spans DESC\"
  spanstore export --format parquet --out acme.parquet --team acme

Times are RFC 3339 (2026-11-20T12:00:00Z), dates (2026-11-20, midnight UTC), or count back \
from now (90s, 15m, 2h, 3d, 1w).

Exit codes: 0 done (spans that were refused are reported, they are no failure), 1 failed, \
2 wrong usage, 3 `check` found damage (damage that keeps the store from opening is 1).";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "spanstore",
    version,
    about = "An embedded, append-only, columnar store for trace spans",
    after_help = AFTER_HELP,
    propagate_version = true
)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub options: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that may stand before and after the command.
#[derive(Debug, Args)]
pub struct GlobalOptions {
    /// Directory of the store; `ingest`, `quota`, `session start` and `page-trace start` make it [default: ./spanstore-data]
    #[arg(long, global = true, help_heading = GLOBAL, env = "SPANSTORE_DIR", value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Whose spans
    #[arg(long, global = true, help_heading = GLOBAL, default_value = "default", value_name = "TEAM")]
    pub team: TeamId,
    /// Form of the output; a table (a tree for `trace`) where nothing else is asked for
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Seconds after which a query ends with an error
    #[arg(long, global = true, help_heading = GLOBAL, default_value_t = 60, value_name = "SECONDS")]
    pub time_limit: u64,
}

impl GlobalOptions {
    /// The directory of the store.
    pub fn store_directory(&self) -> &Path {
        self.store
            .as_deref()
            .unwrap_or_else(|| Path::new(DEFAULT_STORE))
    }
}

/// Forms of output; each command offers some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// One JSON object a line
    Json,
    /// Comma-separated values with a header line
    Csv,
    /// A Parquet file
    Parquet,
    /// An Arrow IPC stream
    Arrow,
    /// A trace as an indented tree
    Tree,
    /// OTLP JSON, one export request a line
    OtlpJson,
    /// OTLP protobuf, one export request
    OtlpProtobuf,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Tree => "tree",
            Self::OtlpJson => "otlp-json",
            Self::OtlpProtobuf => "otlp-protobuf",
        }
    }
}

/// Forms of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum InputFormat {
    /// JSON documents one after the other, with or without line breaks between them
    OtlpJson,
    /// One export request in protobuf
    OtlpProtobuf,
    /// Whichever of the two the first bytes look like
    #[default]
    Auto,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take OTLP spans from files or standard input
    Ingest(IngestArguments),
    /// List spans, newest first unless --order says otherwise
    Query(QueryArguments),
    /// List requests (one a trace), newest first unless --order says otherwise
    Requests(RequestsArguments),
    /// List the requests that have one request id, oldest first
    Request(RequestArguments),
    /// List the columns that filters may name
    Columns(ColumnsArguments),
    /// Count spans or requests
    Count(CountArguments),
    /// Count the spans or requests of each value of columns with few values, such as level and service
    Facets(FacetsArguments),
    /// The most frequent values of a column or an attribute
    Top(TopArguments),
    /// What may be typed: names and values that begin with a text
    Suggest(SuggestArguments),
    /// What tells two sets of spans or requests apart: the values whose shares differ most
    Compare(CompareArguments),
    /// How many spans or requests start when
    Timeline(TimelineArguments),
    /// Run a SELECT over the tables `spans`, `requests` and `sessions`
    Sql(SqlArguments),
    /// Show one trace
    Trace(TraceArguments),
    /// Start, stop and restart tracing sessions, and show the spans of one
    Session(SessionArguments),
    /// Start a session of one page load
    PageTrace(PageTraceArguments),
    /// List sessions, newest first: those that were started, and those that only requests name
    Sessions(SessionsArguments),
    /// Show spans or requests as they are appended
    Tail(TailArguments),
    /// List the teams of the store, with how much of a month's quota each has used
    Teams(UsageArguments),
    /// Show how much of a month's quota is used
    Usage(UsageArguments),
    /// Change the team's quota
    Quota(QuotaArguments),
    /// Write what is in the log into segments now
    #[command(after_help = "Example:\n  spanstore seal")]
    Seal,
    /// Read the whole store (segments, log and catalog) and verify every checksum and count
    #[command(
        after_help = "Example:\n  spanstore check\n\nNobody else can open the store meanwhile; a service checks its own with `Store::check`."
    )]
    Check,
    /// Build a store anew from what can be read of a damaged one
    Repair(RepairArguments),
    /// List the segments, or show what one is made of
    Inspect(InspectArguments),
    /// Merge the segments of each month and drop what is no longer kept
    Compact(CompactArguments),
    /// Show or set how long spans are kept
    Retain(RetainArguments),
    /// Hide spans for good; `compact --erase` removes them from the files
    Forget(ForgetArguments),
    /// Copy the store, as it is now, into an empty directory
    Backup(BackupArguments),
    /// Write out everything of the team
    Export(ExportArguments),
    /// Make the traces of a sample application, as OTLP JSON lines
    Generate(GenerateArguments),
    /// Write what a shell needs to complete commands
    Completions(CompletionsArguments),
    /// Write the manual: a page for each command
    Man(ManArguments),
    /// Try it out: start a session, append sample traces, and show the session, its requests, a trace and the quota
    #[command(
        after_help = "Examples:\n  spanstore demo\n  spanstore demo --store ./another\n\nThe store is ./spanstore-demo unless --store or SPANSTORE_DIR names another, which must be empty. It is kept, and the commands that are shown can be typed again."
    )]
    Demo,
}

/// Arguments of `ingest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore ingest traces.jsonl.gz
  spanstore generate --spans 2000 --seed 1 | spanstore ingest -

50,000 spans or more are sealed at the end. Fewer stay in the log, and the same spans are free when they are ingested again, until they are sealed.")]
pub struct IngestArguments {
    /// How the input is encoded; gzip and zstd are recognised by themselves
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub input_format: InputFormat,
    /// Take spans of any time, also older than 31 days or of the future (for imports); not those that retention does not keep
    #[arg(long)]
    pub any_time: bool,
    /// Files to read; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Arguments of `query`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore query --since 15m
  spanstore query --filter \"status_code >= 500\" --columns start_time,path,duration --limit 20
  spanstore query --filter \"attributes['db.system'] = 'postgresql'\" --order oldest --format json
  spanstore query --since 1h --order slowest --limit 10
  spanstore query --search 'level:error \"statement timeout\"'

`spanstore columns` lists the columns, and its help the functions of filters. A table shows the first 50 rows unless --limit says otherwise; other formats give every row.")]
pub struct QueryArguments {
    /// Which spans.
    #[command(flatten)]
    pub selection: Selection,
    /// At most this many spans
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// By start or by duration
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub order: Order,
    /// Which columns, with commas between them
    #[arg(long, value_delimiter = ',', value_parser = column_name(), value_name = "COLUMN,…")]
    pub columns: Option<Vec<String>>,
}

/// One of several columns, with or without blanks beside it.
fn column_name() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|name| name.trim().to_owned())
}

/// Order of a list of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Order {
    /// Latest start first
    #[default]
    Newest,
    /// Earliest start first
    Oldest,
    /// Longest duration first
    Slowest,
    /// Shortest duration first
    Fastest,
}

/// Arguments of `columns`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore columns
  spanstore columns --requests

A filter may also name attributes['key'] and resource['key'], in `any(…)` where it is over requests, and
call search('text'), which looks in any case at names, status messages, columns read from attributes,
attributes and events; any_event(name = 'exception' and attributes['exception.type'] = 'DatabaseTimeout'), which asks for
one event; has('key'), status_class(5), lower, upper, length, starts_with, ends_with and contains.
Operators are =, !=, <, <=, >, >=, in, between, like, ilike, ~ and is null, joined by and, or and not.
Texts stand in single quotes; level >= 'warning' goes by how grave levels are: info, warning, error, fatal.
--search takes shorter texts: level:error status:5xx -route:/health \"timed out\". The
columns that are facets are those that `facets` and `compare` count.")]
pub struct ColumnsArguments {
    /// What the columns are of.
    #[command(flatten)]
    pub of: RowsArguments,
}

/// Arguments of `sql`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore sql \"SELECT service, count(*) AS spans, max(duration) FROM spans GROUP BY service\"
  spanstore sql \"SELECT s.user_id, r.path FROM sessions s JOIN requests r USING (session_id) WHERE r.errors > 0\"
  spanstore sql \"SELECT path, duration FROM requests WHERE any_span('level = ''error''')\"

`columns`, `columns --requests` and `columns --sessions` list the columns of spans, requests and sessions.
Durations are integers of nanoseconds here, and any_span('…') takes a filter.")]
pub struct SqlArguments {
    /// The text of the query
    #[arg(value_name = "SELECT")]
    pub text: String,
    /// Say how the answer is found and what it costs, in place of it and as text in any format
    #[arg(long)]
    pub explain: bool,
}

/// Arguments of `trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore trace TRACE_ID
  spanstore trace TRACE_ID --format json")]
pub struct TraceArguments {
    /// The trace's id, in hexadecimal digits
    #[arg(value_name = "TRACE_ID")]
    pub trace_id: TraceId,
}

/// Arguments of `usage`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore usage
  spanstore usage --team acme --month 2026-11 --format json
  spanstore teams")]
pub struct UsageArguments {
    /// The UTC month [default: the present one]
    #[arg(long, value_name = "YYYY-MM")]
    pub month: Option<Month>,
}

/// Arguments of `quota`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spanstore quota set 500000 --team acme")]
pub struct QuotaArguments {
    /// What to do with the quota.
    #[command(subcommand)]
    pub command: QuotaCommand,
}

/// The commands of `quota`.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Set the number of spans that the team may store per UTC month
    Set {
        /// Spans a month
        #[arg(value_name = "N")]
        limit: u64,
    },
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore inspect
  spanstore inspect SEGMENT
  spanstore inspect --debt")]
pub struct InspectArguments {
    /// The segment, as the list names it
    #[arg(value_name = "SEGMENT")]
    pub segment: Option<SegmentId>,
    /// Say how far merging is behind instead: segments that a partition may lie in (up
    /// to 8 are as it should be), rows and bytes that are due to be merged
    #[arg(long, conflicts_with = "segment")]
    pub debt: bool,
}

/// Arguments of `compact`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore compact
  spanstore compact --erase")]
pub struct CompactArguments {
    /// Remove what was forgotten from every file, the log and the catalog included
    #[arg(long)]
    pub erase: bool,
}

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore forget session SESSION_ID
  spanstore forget user ada
  spanstore forget team --team acme --yes

It says how many spans it is about, and asks. The settings and the started sessions of a team go with the team, and a started session with its spans.")]
pub struct ForgetArguments {
    /// Do it without asking; needed where there is no terminal
    #[arg(long, global = true)]
    pub yes: bool,
    /// Which spans of the team.
    #[command(subcommand)]
    pub what: Forget,
}

/// What `forget` forgets.
#[derive(Debug, Subcommand)]
pub enum Forget {
    /// All spans of the team
    Team,
    /// Those of traces
    Trace(ForgetTraces),
    /// Those that carry the ids of sessions, and the sessions that were started; spans of the same traces without the id stay
    Session(ForgetSessions),
    /// Those of a user: of each session that the user started or that a span of the user names, whoever else is in it, and of each trace with such a span
    User(ForgetUser),
}

/// Arguments of `forget user`.
#[derive(Debug, Args)]
pub struct ForgetUser {
    /// The user's id
    #[arg(value_parser = NonEmptyStringValueParser::new(), value_name = "USER")]
    pub user: String,
}

/// Arguments of `forget trace`.
#[derive(Debug, Args)]
pub struct ForgetTraces {
    /// The traces' ids, in hexadecimal digits
    #[arg(required = true, value_name = "TRACE_ID")]
    pub trace_ids: Vec<TraceId>,
}

/// Arguments of `forget session`.
#[derive(Debug, Args)]
pub struct ForgetSessions {
    /// The sessions' ids
    #[arg(required = true, value_name = "SESSION_ID")]
    pub session_ids: Vec<String>,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spanstore backup ./spanstore-backup

Nobody else can open the store meanwhile; a service copies its own with `Store::backup`, while it writes. Cursors of the store are refused by the copy.")]
pub struct BackupArguments {
    /// An empty directory, or one to be made
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
The damaged store is not changed. What is lost is reported by team and month, and \
so are the spans that are kept without their resource and scope, or without their parent. Segments of \
which nothing or only a part can be read lie in quarantine/ of the new store afterwards.

Example:
  spanstore repair ./spanstore-data --out ./spanstore-repaired")]
pub struct RepairArguments {
    /// The damaged store
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// An empty directory, or one to be made, for the new store
    #[arg(long, value_name = "NEW")]
    pub out: PathBuf,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The same arguments give the same bytes. Without --start and --month the traces lie in \
yesterday's 24 hours (UTC), so that a store takes them as they are; ids and attributes do not \
depend on the day, times do. Spans of a whole month need `ingest --any-time`.

Example:
  spanstore generate --spans 1000000 --seed 7 --month 2026-10 | spanstore ingest --any-time -")]
pub struct GenerateArguments {
    /// How many spans, exactly
    #[arg(long, value_name = "N")]
    pub spans: u64,
    /// Which sample; every number gives another one
    #[arg(long, value_name = "S")]
    pub seed: u64,
    /// Begin of the 24 hours in which the traces lie
    #[arg(long, value_name = "TIME", conflicts_with = "month")]
    pub start: Option<TimeArgument>,
    /// Spread the traces over this UTC month
    #[arg(long, value_name = "YYYY-MM")]
    pub month: Option<Month>,
}

const ROWS: &[Format] = &[
    Format::Table,
    Format::Json,
    Format::Csv,
    Format::Parquet,
    Format::Arrow,
];
const REPORT: &[Format] = &[Format::Table, Format::Json];

impl Command {
    /// The formats that this command offers; the first is the default.
    fn formats(&self) -> &'static [Format] {
        match self {
            Self::Query(_)
            | Self::Requests(_)
            | Self::Request(_)
            | Self::Columns(_)
            | Self::Count(_)
            | Self::Facets(_)
            | Self::Suggest(_)
            | Self::Top(_)
            | Self::Compare(_)
            | Self::Timeline(_)
            | Self::Sql(_)
            | Self::Session(_)
            | Self::PageTrace(_)
            | Self::Sessions(_)
            | Self::Teams(_)
            | Self::Inspect(_) => ROWS,
            Self::Tail(_) => &[Format::Table, Format::Json, Format::Csv],
            Self::Trace(_) => &[Format::Tree, Format::Json, Format::OtlpJson],
            Self::Ingest(_)
            | Self::Usage(_)
            | Self::Quota(_)
            | Self::Seal
            | Self::Check
            | Self::Repair(_)
            | Self::Compact(_)
            | Self::Retain(_)
            | Self::Forget(_)
            | Self::Backup(_) => REPORT,
            Self::Export(_) => &[Format::OtlpJson, Format::OtlpProtobuf, Format::Parquet],
            Self::Generate(_) => &[Format::OtlpJson],
            Self::Demo | Self::Completions(_) | Self::Man(_) => &[Format::Table],
        }
    }
}

impl Arguments {
    /// The form of output that was asked for, or the command's own.
    ///
    /// # Errors
    /// [`Error::Usage`] when the command does not offer it.
    pub fn format(&self) -> Result<Format, Error> {
        let offered = self.command.formats();
        match self.options.format {
            Some(format) if offered.contains(&format) => Ok(format),
            Some(format) => {
                let names: Vec<_> = offered.iter().map(|format| format.name()).collect();
                Err(Error::Usage(format!(
                    "--format {} is not offered by this command, only {}",
                    format.name(),
                    names.join(", ")
                )))
            }
            None => Ok(offered.first().copied().unwrap_or(Format::Table)),
        }
    }
}

#[cfg(test)]
mod tests;
