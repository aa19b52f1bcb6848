//! What lies where in a segment: its order and encodings, the header and the directory of
//! partitions, the names of its columns, and the checksums over all of it.

pub mod checksum;
pub mod columns;
pub mod directory;
pub mod encoding;
pub mod header;
pub(crate) mod inner;
pub mod order;
pub mod origin;
pub mod source;
