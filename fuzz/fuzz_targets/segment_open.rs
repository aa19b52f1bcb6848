//! Any bytes as a segment, found through its own footer: an answer, and if it
//! opens, reading everything ends.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::reader::summarize;
use spanstore_format::segment::{Column, SegmentReader};
use spanstore_format::span::schema;

fuzz_target!(|file: &[u8]| {
    let file = Bytes::copy_from_slice(file);
    let Ok(summary) = summarize(&file) else { return };
    let rows = summary.rows;
    let Ok(reader) = SegmentReader::open(file, summary) else { return };
    drop(reader.verify());
    drop(reader.layout());
    let Ok(reader) = reader.row_reader() else { return };
    let columns: Vec<Column> = (0..schema().fields().len()).map(Column::Span).collect();
    // A look-up and a scan.
    for (rows, batch_rows) in [(0..rows.min(20), 20), (0..rows, 1_024)] {
        if let Ok(batches) = reader.read(&[rows], &columns, batch_rows) {
            drop(batches.take(64).collect::<Vec<_>>());
        }
    }
});
