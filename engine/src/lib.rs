//! An embedded, append-only, columnar store for trace spans.
#![deny(unsafe_code)]

pub mod io;

mod catalog;
mod check;
mod clock;
mod error;
mod hot;
mod log;
mod options;
#[cfg(feature = "query")]
pub mod query;
mod read;
mod recovery;
mod seal;
mod segment;
mod spans;
mod store;
mod team;
mod view;
mod write;

pub use check::{CheckReport, Damage};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::Error;
pub use options::{Durability, Limits, Plan, PlanLimits, QueryLimits, StoreOptions};
pub use read::sessions::SessionSummary;
pub use seal::{SealReport, SealedSegment};
pub use spans::{SpanRow, Spans};
pub use spanstore_format::{InvalidId, Month, SegmentId, SpanId, TeamId, TraceId, otlp};
pub use store::{RecoveryReport, Store};
pub use team::Team;
pub use write::{Receipt, Refusal, RefusalReason, SpanBatch, Usage};
