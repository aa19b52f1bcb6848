//! Any bytes as a log file: reading ends, and what is read can be written back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::log::frame::{FileFrames, FileHeader, encode_frame};

fuzz_target!(|input: (u64, u64, u64, &[u8])| {
    let (first_sequence, mark, settled, bytes) = input;
    if let Ok(file) = FileFrames::read(bytes) {
        let _ = file.tail(settled);
    }

    // Behind a good header the fuzzer gets past the first checksum.
    let header = FileHeader { first_sequence, mark, predecessor: None };
    let mut whole = header.encode().to_vec();
    whole.extend_from_slice(bytes);
    let Ok(file) = FileFrames::read(&whole) else { panic!("a good header was refused") };
    let mut again = header.encode().to_vec();
    for frame in file.frames() {
        let written = encode_frame(mark, frame.sequence, frame.settled, frame.payload, &mut again);
        assert!(written.is_ok());
    }
    assert!(whole.starts_with(&again));
    let _ = file.tail(settled);
});
