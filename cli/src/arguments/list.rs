//! How a list of requests or of sessions is shown.

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use super::column_name;

/// Which rows of a list, in which order, and what of them.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// At most this many rows
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub limit: Option<usize>,
    /// Those that follow on a page before: what its last line, or the note below it, said. All
    /// pages show the spans that the first one saw
    #[arg(long, value_name = "CURSOR", conflicts_with = "explain")]
    pub cursor: Option<String>,
    /// By start, by duration or by a count
    #[arg(long, value_enum, default_value_t, value_name = "ORDER")]
    pub order: RowOrder,
    /// Which columns, with commas between them
    #[arg(long, value_delimiter = ',', value_parser = column_name(), value_name = "COLUMN,…")]
    pub columns: Option<Vec<String>>,
    /// Say on standard error how many there are in all, whatever --limit says
    #[arg(long, conflicts_with = "explain")]
    pub total: bool,
}

/// Order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RowOrder {
    /// Latest start first
    #[default]
    Newest,
    /// Earliest start first
    Oldest,
    /// Longest duration first
    Slowest,
    /// Shortest duration first
    Fastest,
    /// Most spans first
    Spans,
    /// Most spans with an error first
    Errors,
}
