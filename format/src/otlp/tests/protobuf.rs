//! Requests as protobuf.

use proptest::prelude::*;

use super::{request_of, value, with_attribute};
use crate::otlp::protobuf::{decode, encode};
use crate::otlp::{OtlpError, Span, Value, arbitrary};

proptest! {
    #[test]
    fn requests_stay_equal(request in arbitrary::request()) {
        prop_assert_eq!(&decode(&encode(&request)).unwrap(), &request);
    }

    #[test]
    fn concatenated_requests_are_one(
        one in arbitrary::request(),
        other in arbitrary::request(),
    ) {
        let bytes = [encode(&one), encode(&other)].concat();
        let both = [one.resource_spans, other.resource_spans].concat();
        prop_assert_eq!(decode(&bytes).unwrap().resource_spans, both);
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = decode(&bytes) {
            prop_assert_eq!(encode(&decode(&encode(&request)).unwrap()), encode(&request));
        }
    }

    #[test]
    fn damaged_requests_are_an_answer(
        request in arbitrary::request(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode(&request);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(request) = decode(&bytes) {
            prop_assert_eq!(encode(&decode(&encode(&request)).unwrap()), encode(&request));
        }
    }
}

#[test]
fn no_bytes_are_an_empty_request() {
    assert!(decode(b"").unwrap().resource_spans.is_empty());
}

#[test]
fn cut_off_requests_are_refused() {
    let bytes = encode(&request_of(Span {
        name: "GET /".to_owned(),
        ..Span::default()
    }));
    for length in 1..bytes.len() {
        let error = decode(&bytes[..length]).unwrap_err();
        assert!(
            matches!(error, OtlpError::Protobuf { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn wrong_wire_types_and_texts_that_are_not_utf8_are_refused() {
    // Field 1 as a varint, a group without end, a length beyond 64 bits, tag 0.
    for bytes in [
        &[0x08, 0x01][..],
        &[0x0b],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x00],
    ] {
        assert!(
            matches!(decode(bytes), Err(OtlpError::Protobuf { .. })),
            "{bytes:x?}"
        );
    }
    let mut bytes = encode(&request_of(Span {
        name: "name".to_owned(),
        ..Span::default()
    }));
    *bytes.last_mut().unwrap() = 0xff;
    let error = decode(&bytes).unwrap_err().to_string();
    assert!(
        error.contains("Span.name") && error.contains("UTF-8"),
        "{error}"
    );
}

#[test]
fn unknown_fields_are_ignored() {
    let mut bytes = encode(&with_attribute(value(Value::IntValue(1))));
    bytes.extend([0xc2, 0x3e, 0x02, b'h', b'i']); // Field 1000, two bytes.
    assert_eq!(
        decode(&bytes).unwrap(),
        with_attribute(value(Value::IntValue(1)))
    );
}
