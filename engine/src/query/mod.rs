//! Filters and SQL over DataFusion. The only part of the engine that knows of
//! SQL.
//!
//! A filter is parsed by [`filter`](Filter) and answered by `select`: narrow
//! columns find the rows, wide ones are read for the rows that won. An SQL text
//! is planned by DataFusion over `table`, which turns conditions on ids and on
//! time into row selections. Both read through the same scan, and both
//! evaluate every condition on what was read: the indexes only save work.
//!
//! Queries work on threads of the store (`workers`), within a time (`watch`) and
//! a memory (`memory`).

mod builder;
mod condition;
mod constraints;
mod counts;
mod engine;
mod filter;
mod functions;
mod job;
mod memory;
mod planner;
mod scan_exec;
mod select;
mod sql;
mod table;
mod watch;
mod watched;
mod watched_window;
mod workers;

pub use builder::{Order, Query};
pub use counts::FacetCount;
pub use datafusion::execution::SendableRecordBatchStream;
pub use filter::{Filter, FilterError, FilterLimits};

pub(crate) use builder::Source;
pub(crate) use engine::Engine;
pub(crate) use sql::sql;
