//! Requests read span by span.

use proptest::prelude::*;

use super::{nested, request_of, with_attribute};
use crate::otlp::body::{Decoded, resources};
use crate::otlp::protobuf::{decode, encode};
use crate::otlp::{
    ExportTraceServiceRequest, OtlpError, ResourceSpans, ScopeSpans, Span, arbitrary,
};

fn message<T: std::fmt::Debug>(decoded: Decoded<T>) -> T {
    match decoded {
        Decoded::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// The request that reading part by part finds.
fn read(bytes: &[u8]) -> Result<ExportTraceServiceRequest, OtlpError> {
    let mut request = ExportTraceServiceRequest::default();
    for resource in resources(bytes) {
        let resource = resource?;
        let mut found = ResourceSpans {
            resource: resource.resource()?.map(message),
            schema_url: resource.schema_url()?.to_owned(),
            scope_spans: Vec::new(),
        };
        for scope in resource.scopes() {
            let scope = scope?;
            let spans = scope.spans().map(|span| Ok(message(span?.decode()?)));
            found.scope_spans.push(ScopeSpans {
                scope: scope.scope()?.map(message),
                schema_url: scope.schema_url()?.to_owned(),
                spans: spans.collect::<Result<_, OtlpError>>()?,
            });
        }
        request.resource_spans.push(found);
    }
    Ok(request)
}

proptest! {
    #[test]
    fn part_by_part_is_the_same_as_at_once(request in arbitrary::request()) {
        prop_assert_eq!(read(&encode(&request)).unwrap(), request);
    }

    #[test]
    fn damaged_requests_read_the_same_or_are_errors(
        request in arbitrary::request(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode(&request);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(whole) = decode(&bytes) {
            // Encodings are compared, since NaN is unequal to itself.
            prop_assert_eq!(encode(&read(&bytes).unwrap()), encode(&whole));
        }
    }

    #[test]
    fn occurrences_of_one_message_are_one(
        request in arbitrary::request(),
        other in arbitrary::request(),
    ) {
        // The fields of two messages one after the other are one message.
        let fields = |request: &ExportTraceServiceRequest| {
            let resource_spans = request.resource_spans.first().cloned().unwrap_or_default();
            prost::Message::encode_to_vec(&resource_spans)
        };
        let both = [fields(&request), fields(&other)].concat();
        let mut bytes = vec![0x0a];
        prost::encode_length_delimiter(both.len(), &mut bytes).unwrap();
        bytes.extend(both);
        prop_assert_eq!(read(&bytes).unwrap(), decode(&bytes).unwrap());
    }
}

#[test]
fn what_is_too_deep_for_prost_is_left_out_and_the_rest_is_read() {
    for levels in [60, 500] {
        let good = request_of(Span {
            name: "good".into(),
            ..Span::default()
        });
        let bytes = [encode(&with_attribute(nested(levels))), encode(&good)].concat();
        let found: Vec<_> = resources(&bytes)
            .flat_map(|resource| resource.unwrap().scopes())
            .flat_map(|scope| scope.unwrap().spans())
            .map(|span| span.unwrap().decode().unwrap())
            .collect();
        let [Decoded::TooDeep, Decoded::Message(span)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(span.name, "good");
    }
}

#[test]
fn what_takes_too_much_memory_is_left_out_and_the_rest_is_read() {
    let span = |bytes: Vec<u8>| {
        let mut body = bytes;
        for tag in [0x12, 0x12, 0x0a] {
            let mut field = vec![tag];
            prost::encode_length_delimiter(body.len(), &mut field).unwrap();
            field.extend(body);
            body = field;
        }
        body
    };
    // Attributes of two bytes each, that take 64; a name that takes what it has.
    let bytes = [
        span([0x4a, 0].repeat(1 << 17)),
        span([0x4a, 0].repeat(1 << 15)),
        span([&[0x2a, 0x80, 0x80, 0x40][..], &vec![b'n'; 1 << 20]].concat()),
    ]
    .concat();
    let found: Vec<_> = resources(&bytes)
        .flat_map(|resource| resource.unwrap().scopes())
        .flat_map(|scope| scope.unwrap().spans())
        .map(|span| span.unwrap().decode().unwrap())
        .collect();
    let [
        Decoded::TooLarge,
        Decoded::Message(_),
        Decoded::Message(named),
    ] = found.as_slice()
    else {
        panic!("{} messages", found.len())
    };
    assert_eq!(named.name.len(), 1 << 20);
}
