//! Spans as rows: columns, and how OTLP becomes columns and comes back.

pub mod attribute;
pub mod column;
pub mod columns;
pub mod encoded;
pub mod event;
pub mod mapping;
pub mod origin;
pub mod request;
pub mod restore;
mod views;

#[cfg(test)]
pub(crate) mod tests;

pub use column::{SpanColumn, schema, table};
pub use origin::Origin;
pub use views::{compact, first_views};
