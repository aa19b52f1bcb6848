//! Bodies are counted before they are decoded, whatever way they come.

use std::io::Write;

use spanstore::otlp::{AnyValue, ArrayValue, Span, Value, json, protobuf};
use spanstore::{Error, Limits, RefusalReason, SpanBatch};
use spanstore_test_support::spans::{attribute, request, span, text};
use spanstore_test_support::{open, open_with, quiet, sessions, team};

use crate::limits::{WAYS, batch, exported, within};

/// The field that holds a message of these bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_key(
        number,
        prost::encoding::WireType::LengthDelimited,
        &mut field,
    );
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The limit, what was found, and what was counted.
fn too_large(result: Result<SpanBatch, Error>) -> (u64, u64, &'static str) {
    match result {
        Err(Error::TooLarge { what, limit, found }) => (limit, found, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_are_counted_before_they_are_decoded() {
    let in_scope = |elements: &[u8]| field(1, &field(2, elements));
    // Two bytes an element, in so few that the ratio of compression does not count.
    let many = 500_000;
    for (body, counted) in [
        (in_scope(&[0x12, 0].repeat(many)), "spans of a batch"),
        (field(1, &[0x12, 0].repeat(many)), "scopes of a batch"),
        ([0x0a, 0].repeat(many), "resources of a batch"),
    ] {
        let expected = (100_000, many as u64, counted);
        assert_eq!(too_large(SpanBatch::from_otlp_protobuf(&body)), expected);
        let packed = gzip(&body);
        assert!(packed.len() < 16 << 10);
        assert_eq!(too_large(SpanBatch::from_otlp_protobuf(&packed)), expected);
    }
    // More rows than the bytes of the batch pay for.
    let limits = Limits {
        batch_memory_bytes: 32 << 20,
        ..Limits::default()
    };
    let (limit, found, what) = too_large(SpanBatch::from_otlp_protobuf_within(
        &in_scope(&[0x12, 0].repeat(99_000)),
        &limits,
    ));
    assert_eq!(what, "bytes of memory for the spans of a batch");
    assert!(limit == 32 << 20 && found > 80 << 20, "{limit} {found}");

    let spans = |elements: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{elements}]}}]}}]}}"#)
    };
    let one_span = "bytes of memory for one span, resource or scope";
    let long = "bytes of a text, a number or nested brackets in JSON";
    for (text, counted) in [
        (spans(&"{},".repeat(1 << 20)), "spans of a batch"),
        (
            spans(&format!(r#"{{"attributes":[{}]}}"#, "{},".repeat(1 << 18))),
            one_span,
        ),
        (
            spans(&format!(
                r#"{{"\u0061ttributes":[{}]}}"#,
                "{},".repeat(1 << 18)
            )),
            one_span,
        ),
        (
            spans(&format!(
                r#"{{"attributes":[{{"value":{{"arrayValue":{{"values":[{}]}}}}}}]}}"#,
                "0,".repeat(1 << 19)
            )),
            one_span,
        ),
        (format!(r#"{{"x":{}"#, "[".repeat(5 << 20)), long),
        (format!(r#"{{"x":"{}\n"}}"#, "a".repeat(5 << 20)), long),
        (format!(r#"{{"x":{}}}"#, "1".repeat(5 << 20)), long),
    ] {
        let (limit, found, what) = too_large(SpanBatch::from_otlp_json(text.as_bytes()));
        assert_eq!(what, counted);
        assert!(found > limit);
    }
}

/// Elements of a span are the span's own matter, however many there are.
#[test]
fn one_span_that_would_take_much_memory_is_refused_alone() {
    let many = 4 << 20;
    let in_value = |field: Vec<u8>| self::field(9, &self::field(2, &field));
    let fat = [
        [0x4a, 0].repeat(many),
        [0x5a, 0].repeat(many),
        [0x6a, 0].repeat(many),
        in_value(field(5, &[0x0a, 0].repeat(many))),
        in_value(field(6, &[0x0a, 0].repeat(many))),
    ];
    for fat in fat {
        let fat = field(1, &field(2, &field(2, &fat)));
        let body = [fat, protobuf::encode(&request([span(0)]))].concat();
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let batch = SpanBatch::from_otlp_protobuf(&body).unwrap();
        let receipt = store.team(&team("acme")).append(batch).unwrap();
        assert_eq!((receipt.accepted, receipt.refused.len()), (1, 1));
        assert_eq!(receipt.refused[0].reason, RefusalReason::SpanTooLarge);
    }
    // So is one that is small enough to be logged, but not to be decoded again.
    let entries = (0..16).map(|n| {
        let inner = || within(1, AnyValue::default());
        let values = vec![inner(); 60_000 / 6];
        attribute(&format!("k{n}"), Value::ArrayValue(ArrayValue { values }))
    });
    let mut fat = span(1);
    fat.attributes = entries.collect();
    for way in WAYS {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let request = request([span(0), fat.clone()]);
        let encoded = protobuf::encode(&request);
        assert!(encoded.len() < 1 << 20);
        let batch = match way {
            "typed" => SpanBatch::from_otlp(request),
            "protobuf" => SpanBatch::from_otlp_protobuf(&encoded).unwrap(),
            _ => {
                // In JSON nothing can be left out before it is decoded.
                let whole = SpanBatch::from_otlp_json(json::encode(&request).as_bytes());
                assert!(matches!(whole, Err(Error::TooLarge { .. })));
                continue;
            }
        };
        let receipt = store.team(&team("acme")).append(batch).unwrap();
        assert_eq!((receipt.accepted, receipt.refused.len()), (1, 1), "{way}");
        assert_eq!(receipt.refused[0].reason, RefusalReason::SpanTooLarge);
        drop(store);
        assert_eq!(exported(&open(directory.path()), &team("acme")).len(), 1);
    }
}

#[test]
fn a_batch_is_counted_alike_whatever_way_it_comes() {
    let ten = request((0..10).map(span));
    for set in [
        (|limits: &mut Limits| limits.batch_spans = 9) as fn(&mut Limits),
        |limits| limits.batch_column_bytes = 100,
        |limits| limits.batch_bytes = 1_000,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut options = quiet();
        set(&mut options.limits);
        let store = open_with(directory.path(), options.clone());
        for way in WAYS {
            let appended = store.team(&team("acme")).append(batch(way, &ten));
            assert!(
                matches!(appended, Err(Error::TooLarge { .. })),
                "{way}: {appended:?}"
            );
        }
        let within = SpanBatch::from_otlp_protobuf_within(&protobuf::encode(&ten), &options.limits);
        // The texts of columns are known once spans are decoded.
        let is_known = options.limits.batch_column_bytes > 100;
        assert_eq!(within.is_err(), is_known, "known before the store is asked");
        assert!(sessions(&store.team(&team("acme"))).unwrap().is_empty());
        // Nothing is left over that the next one would pay for.
        let receipt = store
            .team(&team("acme"))
            .append(request([span(0)]))
            .unwrap();
        assert_eq!(receipt.accepted, 1);
    }
}

/// A resource is stored once, but its texts are in the columns of each row.
#[test]
fn long_texts_of_the_resource_of_many_spans_are_refused() {
    let spans = (0..65_544).map(|n| {
        let mut span = Span {
            attributes: Vec::new(),
            ..span(n)
        };
        if n % 2 == 0 {
            span.attributes.push(text("service.name", "own"));
        }
        span
    });
    let mut large = request(spans);
    large.resource_spans[0]
        .resource
        .as_mut()
        .unwrap()
        .attributes = vec![text("service.name", &"s".repeat(16_000))];
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for way in WAYS {
        let appended = match way {
            "protobuf" => SpanBatch::from_otlp_protobuf(&protobuf::encode(&large))
                .and_then(|batch| store.team(&team("acme")).append(batch)),
            "json" => SpanBatch::from_otlp_json(json::encode(&large).as_bytes())
                .and_then(|batch| store.team(&team("acme")).append(batch)),
            _ => store.team(&team("acme")).append(batch(way, &large)),
        };
        let Err(Error::TooLarge { what, limit, found }) = appended else {
            panic!("{way}: {appended:?}");
        };
        assert_eq!(
            what,
            "bytes of the texts of columns, summed over the spans of a batch"
        );
        assert!(limit == 256 << 20 && found > limit, "{limit} {found}");
    }
    // Fewer of them.
    for spans in &mut large.resource_spans[0].scope_spans {
        spans.spans.truncate(10_000);
    }
    let receipt = store.team(&team("acme")).append(large).unwrap();
    assert_eq!(receipt.accepted, 10_000);
}
