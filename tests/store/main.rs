//! The store through its public API.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

mod aggregates;
mod append;
mod background;
mod backup;
mod bodies;
mod captures;
mod catalog;
mod clock;
mod compact;
mod compare;
mod crash;
mod damage;
mod debt;
mod erase;
mod events;
mod explain;
mod facets;
mod forget;
mod format_words;
mod health;
mod isolation;
mod killed;
mod limits;
mod log;
mod look_ups;
mod merges;
mod messages;
mod months;
mod numbers;
mod pages;
mod pipeline;
mod query;
mod query_limits;
mod quota;
mod read_only;
mod receipts;
mod repair;
mod repeats;
mod requests;
mod retention;
mod seal;
mod search;
mod sequences;
mod sessions;
mod settings;
mod shared;
mod suggest;
mod tails;
mod trace_status;
mod unreadable;
mod views;
mod visibility;
