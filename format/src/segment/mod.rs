//! What a segment is: a Parquet file with the store's indexes inside.
//!
//! ```text
//! ┌──────────────────────────────┐ 0
//! │ row groups (65,536 rows each)│
//! ├──────────────────────────────┤
//! │ columns                      │ their names, and which hold attributes
//! │ partition directory          │ which rows are whose
//! │ trace index                  │ trace id → rows
//! │ session index                │ session id → rows
//! │ request index                │ request id → rows
//! │ facets                       │ values of columns with few, and their counts
//! │ postings                     │ sets of rows: bitmaps, and codes bit by bit
//! │ origin                       │ where the rows come from
//! │ resources, scopes            │ what rows share, each once
//! ├──────────────────────────────┤ index offset
//! │ index header                 │ where the parts above lie
//! │ block checksums              │ of every byte above the header
//! ├──────────────────────────────┤
//! │ page index, Parquet footer   │ covered by the tail checksum in the catalog
//! └──────────────────────────────┘
//! ```
//!
//! [`writer`] makes one, [`reader`] opens one and finds rows, [`rows`] reads
//! them; [`order`] says in which order they lie. `FORMAT.md` specifies the bytes.

pub mod checksum;
pub mod columns;
mod dictionary_pages;
pub mod directory;
pub mod facets;
pub mod header;
mod hybrid;
pub mod inspect;
pub mod key_index;
pub mod layout;
pub mod order;
pub mod origin;
mod page_header;
mod page_locations;
mod pages;
mod parents;
mod partition;
mod partitions;
pub mod postings;
pub mod promotion;
pub mod reader;
mod row_batches;
mod row_groups;
pub mod rows;
mod selection;
pub mod shared;
pub mod source;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
mod thrift;
pub mod writer;

#[cfg(test)]
mod tests;

pub use columns::FileColumns;
pub use directory::Partition;
pub use inspect::SegmentLayout;
pub use origin::Origin;
pub use promotion::{PromotedKey, Promotion};
pub use reader::{Id, SegmentReader};
pub use row_batches::RowBatches;
pub use rows::{Column, RowReader};
pub use shared::SharedMessages;
pub use source::{ReadFile, Source};
pub use writer::{NewSegment, SegmentSummary, SegmentWriter};
