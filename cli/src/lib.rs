//! The parts of the command line of spanstore that are of use elsewhere: the
//! sample application ([`generate`]), forms of output ([`output`]) and the
//! drawing of traces ([`tree`]).
#![forbid(unsafe_code)]

#[cfg(feature = "commands")]
pub mod arguments;
#[cfg(feature = "commands")]
pub mod commands;
#[cfg(feature = "commands")]
pub mod error;
pub mod generate;
#[cfg(feature = "commands")]
pub mod ingest;
#[cfg(feature = "commands")]
pub mod output;
pub mod time;
#[cfg(feature = "commands")]
pub mod tree;
