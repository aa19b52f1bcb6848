//! Opening a segment, finding rows by ids, and reading rows.

mod coded;
mod inspect;
mod reader;
pub(super) mod row_batches;
mod rows;
mod selection;

pub use coded::{CodedColumn, MOST_RESOURCE_BYTES};
pub use inspect::SegmentLayout;
#[cfg(any(test, feature = "testing"))]
pub(super) use reader::find_index;
pub use reader::{Id, SegmentReader, summarize};
pub use row_batches::RowBatches;
pub use rows::{Column, RowReader};
