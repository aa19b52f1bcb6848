//! Filters and SQL over DataFusion. The only part of the engine that knows of
//! SQL.
//!
//! A filter is parsed by [`filter`](Filter) and answered by `select` (rows in order),
//! `counts` and `aggregate`, over the pipeline of `read`. An SQL text is planned by
//! DataFusion. An aggregate over the table is answered by the same pipeline (`rewrite`);
//! anything else reads `table`, which turns conditions on ids and on time into row
//! selections and has every condition evaluated again on what was read.
//!
//! Queries work on threads of the store (`workers`), within a time (`watch`) and
//! a memory (`memory`).

mod aggregate;
mod any_span;
mod attribute_order;
mod builder;
mod compare;
mod condition;
mod constraints;
mod counts;
mod cursor;
mod engine;
mod events;
mod explain;
mod filter;
mod functions;
mod job;
mod look_up;
mod memory;
mod page;
mod patterns;
mod permalink;
mod planner;
mod plans;
mod requests;
mod rewrite;
mod rising;
mod scan_exec;
mod search;
mod select;
mod sessions;
mod sql;
mod suggest;
mod table;
mod tail;
mod timeline;
mod watch;
mod watched;
mod watched_window;
mod workers;

pub use aggregate::{Aggregate, Key};
pub use builder::{Order, Query};
pub use compare::{Comparison, Difference};
pub use counts::FacetCount;
pub use datafusion::execution::SendableRecordBatchStream;
pub use filter::{Filter, FilterColumn, FilterError, FilterLimits, Rows, Shorthand};
pub use page::Page;
pub use permalink::{ListView, TraceView, View, ViewError};
pub use spanstore_format::segment::promotion::Owner;
pub use spanstore_format::span::attribute::ValueType;
pub use suggest::{AttributeKey, AttributeKeys, SuggestedValue, SuggestedValues};
pub use tail::{Arrivals, Tail};
pub use timeline::{Series, Timeline};

pub(crate) use builder::Source;
pub(crate) use engine::Engine;
pub(crate) use explain::explain_sql;
pub(crate) use look_up::look_up;
pub(crate) use sessions::Registered;
pub(crate) use sql::sql;
