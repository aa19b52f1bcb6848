//! Any bytes as a segment that is found through its own footer, as they are
//! and with checksums made right: each read ends in an answer or an error.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::summarize;
use spanstore_format::segment::testing::{read_all, resealed};

fuzz_target!(init: spanstore_fuzz::allow_caught_panics(), |file: &[u8]| {
    let bytes = Bytes::copy_from_slice(file);
    if let Ok(summary) = summarize(&bytes) {
        read_all(bytes, summary);
    }
    if let Some((file, summary)) = resealed(file) {
        read_all(file, summary);
    }
});
