//! Spans as rows: columns, and how OTLP becomes columns and comes back.

pub mod attribute;
pub mod columns;
pub mod encoded;
pub mod mapping;
pub mod origin;
pub mod request;
pub mod restore;
pub mod schema;
mod views;

#[cfg(test)]
mod tests;

pub use origin::Origin;
pub use schema::schema;
