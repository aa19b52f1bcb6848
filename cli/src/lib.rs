//! The parts of the command line of spanstore that are of use elsewhere: the
//! sample application ([`generate`]), forms of output ([`output`]) and the
//! drawing of traces ([`tree`]).
#![forbid(unsafe_code)]

pub mod arguments;
pub mod commands;
pub mod error;
pub mod generate;
pub mod ingest;
pub mod output;
pub mod time;
pub mod tree;
