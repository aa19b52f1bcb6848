//! The read path without SQL: months, segments, row selections, batches.

#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "only filters ask for more than ids")
)]
pub(crate) mod condition;
pub(crate) mod interrupt;
pub(crate) mod lookup;
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "queries alone order parts and fetch rows of them")
)]
pub(crate) mod scan;
pub(crate) mod sessions;
pub(crate) mod visibility;
