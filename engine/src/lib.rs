//! An embedded, append-only, columnar store for trace spans.
//!
//! Open a [`Store`], take a [`Team`] of it, [`append`](Team::append) batches of
//! spans and find them again: by [`trace`](Team::trace), by
//! [`session`](Team::session_spans), by filter (`Team::query`) or by SQL
//! (`Team::sql`). What an append answers is a [`Receipt`]: what was accepted,
//! what was refused and why, and what remains of the month's quota.
//!
//! The columns of a span are listed at [`spanstore_format::span::SpanColumn`], the
//! attributes that they are taken from at [`spanstore_format::span::mapping`].
#![deny(unsafe_code)]

/// Whether a test has planted a bug: never without the feature.
#[cfg(feature = "planted-bugs")]
macro_rules! is_planted {
    ($bug:ident) => {
        spanstore_format::planted::is_planted(spanstore_format::planted::Bug::$bug)
    };
}
#[cfg(not(feature = "planted-bugs"))]
macro_rules! is_planted {
    ($bug:ident) => {
        false
    };
}

pub mod io;

mod awaited;
mod backup;
mod catalog;
mod check;
mod clock;
mod error;
#[cfg(feature = "query")]
mod filter_error;
mod health;
mod hot;
mod log;
mod maintenance;
mod options;
mod parts;
#[cfg(feature = "query")]
pub mod query;
mod quota;
mod read;
mod recent;
mod recovery;
mod registry;
mod removal;
mod repair;
mod retention;
mod runs;
mod segment;
mod segment_file;
mod segments;
mod settings;
mod spans;
mod store;
mod team;
mod view;
mod write;

pub use check::{CheckReport, Damage};
pub use clock::{Clock, ClockLeap, ManualClock, SystemClock};
pub use error::{Error, RemainingFile};
pub use health::{HealthReport, Task, TaskFailure};
pub use maintenance::MaintenanceReport;
pub use maintenance::compact::CompactReport;
pub use maintenance::seal::{SealReport, SealedSegment};
pub use options::{
    Durability, Limits, Plan, PlanLimits, QueryLimits, ReadBy, Remembered, StoreOptions,
};
pub use read::meter::{Meter, QueryStats};
pub use registry::{NewSession, Session, SessionKind};
pub use repair::{CatalogTable, LostSpans, RepairReport, repair, repair_on};
pub use runs::MergeDebt;
pub use spans::{SpanRow, Spans};
pub use spanstore_format::catalog::Erased;
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub use spanstore_format::planted;
pub use spanstore_format::segment::{SegmentLayout, SegmentSummary};
pub use spanstore_format::{InvalidId, Month, SegmentId, SpanId, TeamId, TraceId, otlp};
pub use store::{RecoveryReport, Store};
pub use team::{Team, TraceStatus};
pub use write::{
    AttributeValue, Receipt, Refusal, RefusalReason, SpanBatch, SpanBatchBuilder, SpanBuilder,
    SpanKind, Usage,
};

/// The program of README.md, compiled and run as a test.
#[cfg(all(doctest, feature = "query"))]
#[doc = include_str!("../../README.md")]
struct Readme;
