//! Any bytes as an encoded span: finding an attribute answers what decoding
//! the span answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::Span;
use spanstore_format::span::attribute::{SPAN_FIELD, find_number, find_text, has};

fuzz_target!(|input: (&[u8], &str)| {
    let (bytes, key) = input;
    drop(find_text(bytes, SPAN_FIELD, key));
    let _ = find_number(bytes, SPAN_FIELD, key);
    if let Ok(span) = <Span as prost::Message>::decode(bytes) {
        let encoded = prost::Message::encode_to_vec(&span);
        let is_there = span.attributes.iter().any(|attribute| attribute.key == key);
        assert_eq!(has(&encoded, SPAN_FIELD, key), is_there);
    }
});
