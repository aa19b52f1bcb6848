//! The bytes and values of spanstore.
//!
//! Nothing here opens a file, asks for the time or starts a thread: bytes come
//! in, values go out, and the other way round. Read [`span::SpanColumn`] for the
//! columns, [`otlp`] for how spans come in and go out, [`log`] for what the
//! write-ahead log holds, [`segment`] for what a segment adds to Parquet and
//! [`interchange`] for what other programs read.
//! `FORMAT.md` at the top of the repository specifies every byte.
#![forbid(unsafe_code)]

/// Whether a test has planted a bug: never without the feature.
#[cfg(feature = "planted-bugs")]
macro_rules! is_planted {
    ($bug:ident) => {
        crate::planted::is_planted(crate::planted::Bug::$bug)
    };
}
#[cfg(not(feature = "planted-bugs"))]
macro_rules! is_planted {
    ($bug:ident) => {
        false
    };
}

pub mod catalog;
pub mod error;
pub mod id;
pub mod interchange;
pub mod jobs;
pub mod log;
pub mod month;
pub mod otlp;
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub mod planted;
pub mod recent;
pub mod requests;
pub mod segment;
pub mod sessions;
pub mod span;
pub mod table;
pub mod version;
mod wire;

pub use error::{FormatError, InvalidId};
pub use id::{SegmentId, SpanId, TeamId, TraceId};
pub use month::Month;
