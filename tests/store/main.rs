//! The store through its public API.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics has failed"
)]

mod append;
mod captures;
mod crash;
mod isolation;
mod killed;
mod query;
mod quota;
mod receipts;
mod seal;
mod visibility;
