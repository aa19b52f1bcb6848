//! The pages of a segment's columns: handed to the Parquet decoders, and read without them
//! where their fixed costs show.

pub(super) mod bounds;
mod chunks;
mod data_page;
pub(super) mod delta;
pub(super) mod dictionary;
pub(super) mod footer;
pub(super) mod header;
pub(super) mod hybrid;
pub(super) mod locations;
pub(super) mod point_read;
mod stock;
mod thrift;

pub(super) use chunks::{Pages, WantedPages, decompress, find_page};
pub(super) use stock::{damaged, parquet_error, without_panic};
