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
//! A [`SegmentWriter`] makes one, a [`SegmentReader`] opens one and finds rows, a
//! [`RowReader`] reads them; [`layout::order`] says in which order they lie. `FORMAT.md`
//! specifies the bytes.

pub mod facets;
pub mod key_index;
pub mod layout;
mod pages;
mod parents;
pub mod postings;
pub mod promotion;
mod reading;
pub mod shared;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
mod writing;

#[cfg(test)]
mod tests;

pub use layout::columns::FileColumns;
pub use layout::directory::Partition;
pub use layout::origin::Origin;
pub use layout::source::{ReadFile, Source};
pub use promotion::{PromotedKey, Promotion};
pub use reading::{
    CodedColumn, Column, Id, MOST_RESOURCE_BYTES, RowBatches, RowReader, SegmentLayout,
    SegmentReader, summarize,
};
pub use shared::SharedMessages;
pub use writing::{NewSegment, PROMOTED_KEY, SegmentSummary, SegmentWriteError, SegmentWriter};
