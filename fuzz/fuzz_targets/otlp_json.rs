//! Any text as JSON documents: an answer, and what is read stays equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::json::{Document, decode, encode};
use spanstore_format::otlp::documents::Documents;
use spanstore_format::otlp::protobuf;

fuzz_target!(|text: &[u8]| {
    if let Ok(Document::Traces(request)) = decode(text) {
        let encoded = encode(&request);
        let Ok(Document::Traces(again)) = decode(encoded.as_bytes()) else {
            panic!("what was encoded decodes: {encoded}");
        };
        // Encodings are compared, since NaN is unequal to itself.
        assert_eq!(protobuf::encode(&again), protobuf::encode(&request));
    }
    for document in Documents::new(text, 1 << 16) {
        let _ = document;
    }
});
