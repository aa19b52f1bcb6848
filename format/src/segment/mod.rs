//! What a segment is: a Parquet file with the store's indexes inside.
//!
//! ```text
//! ┌──────────────────────────────┐ 0
//! │ row groups (65,536 rows each)│
//! ├──────────────────────────────┤
//! │ partition directory          │ which rows are whose
//! │ trace index                  │ trace id → rows
//! │ session index                │ session id → rows
//! │ postings                     │ roaring bitmaps of scattered sessions
//! ├──────────────────────────────┤ index offset
//! │ index header                 │ where the parts above lie
//! │ block checksums              │ of every byte above the header
//! ├──────────────────────────────┤
//! │ page index, Parquet footer   │ covered by the tail checksum in the catalog
//! └──────────────────────────────┘
//! ```
//!
//! [`writer`] makes one, [`reader`] reads one; [`order`] says in which order
//! its rows lie. `FORMAT.md` specifies the bytes.

pub mod checksum;
pub mod directory;
pub mod header;
pub mod key_index;
pub mod layout;
pub mod order;
pub mod reader;
pub mod writer;

#[cfg(test)]
mod tests;

pub use directory::Partition;
pub use reader::SegmentReader;
pub use writer::{SegmentSummary, SegmentWriter};
