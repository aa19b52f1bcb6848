//! The read path without SQL: months, segments, row selections, batches.

pub(crate) mod lookup;
pub(crate) mod scan;
pub(crate) mod sessions;
