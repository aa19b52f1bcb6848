//! Rows and reports into the forms of output.
//!
//! JSON and CSV speak of the same cells: ids in lower-case hexadecimal digits,
//! times as RFC 3339 with nanoseconds, `duration` as `duration_ns`, and the
//! stored messages (`attributes`, `events`, `links`, `resource_attributes`,
//! `scope`) and lists (`services`, `resources`) as plain JSON. Parquet and Arrow give the columns as they are.

mod cell;
mod columns;
mod csv;
mod fit;
mod json;
mod lines;
mod message;
mod report;
mod rows;
mod table;
mod terminal;

pub use columns::{least_important, pick, row_columns};
pub use json::JsonRows;
pub use report::{Report, grouped};
pub use rows::RowWriter;
pub use terminal::width;

#[cfg(test)]
mod tests;
