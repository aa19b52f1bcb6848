//! The write-ahead log: frames around records.

pub mod record;
