//! The write-ahead log: files of frames, each frame a record.

pub mod frame;
pub mod record;
