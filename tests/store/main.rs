//! The store through its public API.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod append;
mod quota;
mod receipts;
