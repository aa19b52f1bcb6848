//! Requests: one row a trace, as a list of requests shows them.
//!
//! [`assemble`](mod@assemble) makes a request of the spans of a trace, [`rows`] makes rows of
//! requests, [`build`] makes those of a segment; [`RequestColumn`] says what each column
//! holds.

pub mod assemble;
pub mod build;
pub mod column;
pub mod rows;

pub use column::{RequestColumn, table};
