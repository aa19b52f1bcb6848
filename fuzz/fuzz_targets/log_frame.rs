//! Any bytes as a log file: reading ends, and what is read can be written back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::log::frame::{FileHeader, Frames, encode_frame};

fuzz_target!(|input: (u64, u64, &[u8])| {
    let (first_sequence, mark, bytes) = input;
    if let Ok(frames) = Frames::new(bytes) {
        let _ = frames.tail();
    }

    // Behind a good header the fuzzer gets past the first checksum.
    let mut file = FileHeader { first_sequence, mark }.encode().to_vec();
    file.extend_from_slice(bytes);
    let Ok(frames) = Frames::new(&file) else { panic!("a good header was refused") };
    let mut again = FileHeader { first_sequence, mark }.encode().to_vec();
    for frame in frames.clone() {
        let written = encode_frame(mark, frame.sequence, frame.settled, frame.payload, &mut again);
        assert!(written.is_ok());
    }
    assert!(file.starts_with(&again));
    let _ = frames.tail();
});
