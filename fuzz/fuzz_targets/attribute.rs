//! Any bytes as an encoded span, a key before them: finding an attribute answers
//! what decoding the span answers, and other bytes are no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use spanstore_format::otlp::Span;
use spanstore_format::span::attribute::{SPAN_FIELD, find_number, find_text, has, number, text};

fuzz_target!(|input: (u8, &[u8])| {
    let (length, bytes) = input;
    let Some((key, bytes)) = bytes.split_at_checked(usize::from(length)) else {
        return;
    };
    let Ok(key) = std::str::from_utf8(key) else {
        return;
    };
    drop(find_text(bytes, SPAN_FIELD, key));
    let _ = find_number(bytes, SPAN_FIELD, key);
    let Ok(span) = Span::decode(bytes) else {
        return;
    };
    let encoded = span.encode_to_vec();
    let keys = span
        .attributes
        .iter()
        .map(|attribute| attribute.key.as_str());
    for key in keys.chain([key]) {
        let first = span
            .attributes
            .iter()
            .find(|attribute| attribute.key == key);
        let value = first.and_then(|attribute| attribute.value.as_ref());
        assert_eq!(has(&encoded, SPAN_FIELD, key), first.is_some());
        assert_eq!(find_text(&encoded, SPAN_FIELD, key), value.and_then(text));
        // Bits are compared, since NaN is unequal to itself.
        assert_eq!(
            find_number(&encoded, SPAN_FIELD, key).map(f64::to_bits),
            value.and_then(number).map(f64::to_bits)
        );
    }
});
