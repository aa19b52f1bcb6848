//! Rows in order in, a file with its indexes out.

mod partition;
mod partitions;
mod requests;
mod row_groups;
mod writer;

pub use writer::{NewSegment, PROMOTED_KEY, SegmentSummary, SegmentWriteError, SegmentWriter};
