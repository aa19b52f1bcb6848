//! Arguments of `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use spanstore_format::interchange::{IdForm, InterchangeOptions, TimePrecision};

use super::Format;
use crate::error::Error;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
otlp-json and otlp-protobuf lose nothing and can be ingested again. parquet is for other programs \
(DuckDB, pandas, ClickHouse, Spark): plain columns, attributes as a map of texts and as JSON, \
events and links as lists.

Examples:
  spanstore export --team acme --format otlp-json --out acme.jsonl
  spanstore export --team acme --format parquet --out acme.parquet
  spanstore export --table requests --format parquet --out requests.parquet
  spanstore export --format parquet --ids bytes --time-unit us --out for-spark.parquet")]
pub struct ExportArguments {
    /// What is exported; requests as parquet alone
    #[arg(long, value_enum, value_name = "TABLE", default_value = "spans")]
    pub table: ExportedTable,
    /// Where to; standard output when not given
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How parquet has ids [default: hex]
    #[arg(long, value_enum, value_name = "FORM")]
    pub ids: Option<IdsArgument>,
    /// Unit of the times in parquet; `duration` is in nanoseconds always [default: ns]
    #[arg(long, value_enum, value_name = "UNIT")]
    pub time_unit: Option<TimeUnitArgument>,
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportedTable {
    /// One row a span
    Spans,
    /// One row a trace
    Requests,
}

/// How ids are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdsArgument {
    /// Text of lower-case hexadecimal digits
    Hex,
    /// Bytes of a fixed size: 16 of a trace id, 8 of a span id
    Bytes,
}

/// The unit of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TimeUnitArgument {
    /// Nanoseconds, as they came
    Ns,
    /// Microseconds, cut towards the past, for readers that know no nanoseconds
    Us,
}

impl ExportArguments {
    /// What the interchange form is to look like.
    ///
    /// # Errors
    /// [`Error::Usage`] when an option of that form stands beside another format.
    pub fn interchange(&self, format: Format) -> Result<InterchangeOptions, Error> {
        let options = [
            ("--table requests", self.table == ExportedTable::Requests),
            ("--ids", self.ids.is_some()),
            ("--time-unit", self.time_unit.is_some()),
        ];
        if let Some((option, _)) = options.iter().find(|(_, is_given)| *is_given)
            && format != Format::Parquet
        {
            return Err(Error::Usage(format!(
                "{option} needs --format parquet: {} has spans in one form only",
                format.name()
            )));
        }
        Ok(InterchangeOptions {
            ids: match self.ids {
                Some(IdsArgument::Bytes) => IdForm::Bytes,
                Some(IdsArgument::Hex) | None => IdForm::Hex,
            },
            times: match self.time_unit {
                Some(TimeUnitArgument::Us) => TimePrecision::Microseconds,
                Some(TimeUnitArgument::Ns) | None => TimePrecision::Nanoseconds,
            },
        })
    }
}
