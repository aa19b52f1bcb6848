//! Arguments of `suggest`.

use clap::{Args, Subcommand};

use super::Counted;

/// Arguments of `suggest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore suggest names db.
  spanstore suggest values route /api")]
pub struct SuggestArguments {
    /// What to suggest.
    #[command(subcommand)]
    pub command: SuggestCommand,
}

/// What `suggest` lists.
#[derive(Debug, Subcommand)]
pub enum SuggestCommand {
    /// Columns and keys of attributes that begin with a text, and how many spans have each key
    Names(SuggestNamesArguments),
    /// Values of a column or an attribute that begin with a text, the most frequent first
    Values(SuggestValuesArguments),
}

/// Arguments of `suggest names`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore suggest names
  spanstore suggest names db. --since 1h
  spanstore suggest names http --filter \"level = 'error'\" --format json
  spanstore suggest names db. --requests --search status:5xx

Columns come first, then keys of attributes, the most frequent first. With --requests the attributes are those
of the spans of these requests, which filters name within any(…). Attributes that no column holds are decoded
span by span: of the latest 16,384 spans, unless --exact is given. `exact` says whether so many spans have the key,
or at least so many.")]
pub struct SuggestNamesArguments {
    /// What the names begin with, in any case
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// Which ones.
    #[command(flatten)]
    pub counted: Counted,
    /// At most this many keys, the most frequent
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Look at all spans, however long it takes
    #[arg(long)]
    pub exact: bool,
}

/// Arguments of `suggest values`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore suggest values route /api --since 1h
  spanstore suggest values \"attributes['db.system']\" post --filter \"level = 'error'\" --format json
  spanstore suggest values service --requests --search status:5xx
  spanstore suggest values user_id --sessions --limit 5

With --requests an attribute is that of their spans, and each value counts once a request.")]
pub struct SuggestValuesArguments {
    /// A column, an attribute (`attributes['key']`, `resource['key']`) or a function of these
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What the values begin with, in any case
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// Which ones.
    #[command(flatten)]
    pub counted: Counted,
    /// At most this many values, the most frequent
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}
