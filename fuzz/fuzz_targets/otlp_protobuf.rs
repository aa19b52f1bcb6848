//! Any bytes as a protobuf request: an answer, and what is read stays equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::protobuf::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = decode(bytes) {
        let encoded = encode(&request);
        let again = decode(&encoded).expect("what was encoded decodes");
        // Encodings are compared, since NaN is unequal to itself.
        assert_eq!(encode(&again), encoded);
    }
});
