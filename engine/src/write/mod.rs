//! The write path: callers check and encode, one thread admits, logs, syncs,
//! publishes and replies.

pub(crate) mod admission;
pub(crate) mod admitted;
pub(crate) mod batch;
pub(crate) mod builder;
pub(crate) mod checks;
pub(crate) mod content;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod prepare;
pub(crate) mod queue;
pub(crate) mod receipt;
pub(crate) mod writer;

pub use batch::SpanBatch;
pub use builder::{AttributeValue, SpanBatchBuilder, SpanBuilder, SpanKind};
pub use receipt::{Receipt, Refusal, RefusalReason, Usage};
