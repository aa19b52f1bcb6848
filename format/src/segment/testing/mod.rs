//! What tests and fuzz targets share: segments with something of everything,
//! changes after which all checksums hold again, reads of everything, and
//! decoders that are private otherwise.
//!
//! It is compiled for tests and with the feature `testing`, and promises
//! nothing to anybody else.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a sample that cannot be made is a failed test"
)]

mod forging;
mod parts;
mod reading;
mod samples;

pub use forging::{Change, Forgery, Place, reseal, resealed};
pub use parts::{
    KeyRows, delta_values, encode_columns, encode_directory, hybrid_values, key_index, ones,
    page_header_bytes,
};
pub use reading::{columns, read_all};
pub use samples::{START, attribute, batch, batch_with, segment_of, team, varied_segment};
