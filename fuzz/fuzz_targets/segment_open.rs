//! Any bytes as a segment, found through its own footer: an answer, and if it
//! opens, reading everything ends.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::reader::summarize;

fuzz_target!(|file: &[u8]| {
    let file = Bytes::copy_from_slice(file);
    let Ok(summary) = summarize(&file) else { return };
    let rows = summary.rows;
    let Ok(reader) = SegmentReader::open(file, summary) else { return };
    drop(reader.verify());
    if let Ok(batches) = reader.read(&[0..rows], &[0, 1, 2], 1_024) {
        drop(batches.take(64).collect::<Vec<_>>());
    }
});
