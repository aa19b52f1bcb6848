//! Any text as JSON documents: what is read stays equal through JSON, and a
//! document is found in a file as it is read alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::otlp::json::{Document, decode, encode};
use spanstore_format::otlp::{Documents, protobuf};

const MOST_BYTES: usize = 1 << 16;

fuzz_target!(|text: &[u8]| {
    let alone = decode(text);
    let mut documents = Documents::new(text, MOST_BYTES);
    let first = documents.next();
    let others = documents.count();
    let Ok(alone) = alone else { return };
    if let Document::Traces(request) = &alone {
        let encoded = encode(request);
        let Ok(Document::Traces(again)) = decode(encoded.as_bytes()) else {
            panic!("what was encoded decodes: {encoded}");
        };
        // Encodings are compared, since NaN is unequal to itself.
        assert_eq!(protobuf::encode(&again), protobuf::encode(request));
    }
    // A line that begins as only a document does is taken for one.
    if text.contains(&b'\n') || text.len() > MOST_BYTES {
        return;
    }
    let Some(Ok((1, found))) = first else {
        panic!("{first:?} instead of {alone:?}")
    };
    assert_eq!(others, 0, "{alone:?}");
    match (found, alone) {
        (Document::Traces(found), Document::Traces(alone)) => {
            assert_eq!(protobuf::encode(&found), protobuf::encode(&alone));
        }
        (found, alone) => assert_eq!(found, alone),
    }
});
