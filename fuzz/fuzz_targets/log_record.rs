//! Any bytes as a log record: an answer, never a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::log::record::AppendRecord;

fuzz_target!(|payload: &[u8]| {
    drop(AppendRecord::read(1, Bytes::copy_from_slice(payload)));
});
