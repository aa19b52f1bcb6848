//! Any bytes as a protobuf request: what is read stays equal through protobuf
//! and through JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::json::{self, Document};
use spanstore_format::otlp::protobuf::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = decode(bytes) else { return };
    let encoded = encode(&request);
    let again = decode(&encoded).expect("what was encoded decodes");
    // Encodings are compared, since NaN is unequal to itself.
    assert_eq!(encode(&again), encoded);

    let text = json::encode(&request);
    let Ok(Document::Traces(again)) = json::decode(text.as_bytes()) else {
        panic!("what was encoded decodes: {text}");
    };
    // JSON has one NaN, so texts are compared.
    assert_eq!(json::encode(&again), text);
    if !text.contains("NaN") {
        assert_eq!(encode(&again), encoded, "{text}");
    }
});
