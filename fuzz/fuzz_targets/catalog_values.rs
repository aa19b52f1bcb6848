//! Any bytes as the values of the catalog: what is read is written and read
//! again equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use spanstore_format::SegmentId;
use spanstore_format::catalog::{Erasure, TeamSettings, decode_segment, encode_segment};

fuzz_target!(|input: (u64, &[u8])| {
    let (number, bytes) = input;
    if let Ok(summary) = decode_segment(SegmentId(number), bytes) {
        let again = decode_segment(SegmentId(number), &encode_segment(&summary));
        assert_eq!(again, Ok(summary));
    }
    if let Ok(settings) = TeamSettings::read("acme", bytes) {
        let again = TeamSettings::read("acme", &settings.encode_to_vec());
        assert_eq!(again, Ok(settings));
    }
    if let Ok(erasure) = Erasure::decode(number, bytes) {
        assert_eq!(Erasure::decode(number, &erasure.encode()), Ok(erasure));
    }
});
