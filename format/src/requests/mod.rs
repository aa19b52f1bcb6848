//! Requests: one row a trace, as a list of requests shows them.
//!
//! [`assemble`](mod@assemble) makes such a row of the spans of a trace; [`RequestColumn`] says what each of
//! its columns holds.

pub mod assemble;
pub mod column;

pub use column::{RequestColumn, table};
