use std::io::Write;

use proptest::prelude::*;

use super::compression::{DecompressLimits, decompress, reader};
use super::documents::Documents;
use super::json::Document;
use super::*;

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        ".{0,8}".prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|truth| Some(Value::BoolValue(truth))),
        any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        (-1e300..1e300).prop_map(|number| Some(Value::DoubleValue(number))),
        Just(Some(Value::DoubleValue(f64::INFINITY))),
        proptest::collection::vec(any::<u8>(), 0..9)
            .prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 16, 4, |inner| {
        let entries =
            (".{0,4}", proptest::option::of(inner.clone())).prop_map(|(key, value)| KeyValue {
                key,
                value,
                ..KeyValue::default()
            });
        prop_oneof![
            proptest::collection::vec(inner, 0..4)
                .prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            proptest::collection::vec(entries, 0..4)
                .prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let attribute =
        ("[a-z.]{0,6}", proptest::option::of(value())).prop_map(|(key, value)| KeyValue {
            key,
            value,
            ..KeyValue::default()
        });
    proptest::collection::vec(attribute, 0..5)
}

prop_compose! {
    fn span()(
        trace_id in any::<[u8; 16]>(),
        span_id in any::<[u8; 8]>(),
        parent_span_id in proptest::option::of(any::<[u8; 8]>()),
        (trace_state, name) in (".{0,5}", ".{0,9}"),
        kind in -1..9,
        times in any::<(u64, u64, u64)>(),
        counts in any::<(u32, u32, u32, u32)>(),
        attributes in attributes(),
        event in proptest::option::of((".{0,5}", attributes())),
        link in proptest::option::of((any::<[u8; 16]>(), any::<[u8; 8]>(), ".{0,3}", attributes())),
        status in proptest::option::of((".{0,5}", 0..4)),
    ) -> Span {
        Span {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            parent_span_id: parent_span_id.map(|id| id.to_vec()).unwrap_or_default(),
            trace_state,
            name,
            kind,
            start_time_unix_nano: times.0,
            end_time_unix_nano: times.1,
            flags: counts.0,
            dropped_attributes_count: counts.1,
            dropped_events_count: counts.2,
            dropped_links_count: counts.3,
            attributes,
            events: event
                .map(|(name, attributes)| Event {
                    name,
                    attributes,
                    time_unix_nano: times.2,
                    dropped_attributes_count: counts.1,
                })
                .into_iter()
                .collect(),
            links: link
                .map(|(trace_id, span_id, trace_state, attributes)| Link {
                    trace_id: trace_id.to_vec(),
                    span_id: span_id.to_vec(),
                    trace_state,
                    attributes,
                    flags: counts.0,
                    dropped_attributes_count: counts.2,
                })
                .into_iter()
                .collect(),
            status: status.map(|(message, code)| Status { message, code }),
        }
    }
}

prop_compose! {
    /// Requests with everything that OTLP knows.
    pub(crate) fn request()(
        resource in proptest::option::of((attributes(), any::<u32>())),
        scope in proptest::option::of((".{0,4}", ".{0,3}", attributes())),
        urls in (".{0,4}", ".{0,4}"),
        spans in proptest::collection::vec(span(), 0..4),
    ) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: resource.map(|(attributes, dropped_attributes_count)| Resource {
                    attributes,
                    dropped_attributes_count,
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    scope: scope.map(|(name, version, attributes)| InstrumentationScope {
                        name,
                        version,
                        attributes,
                        ..InstrumentationScope::default()
                    }),
                    spans,
                    schema_url: urls.0,
                }],
                schema_url: urls.1,
            }],
        }
    }
}

proptest! {
    #[test]
    fn json_and_protobuf_give_back_what_they_got(request in request()) {
        let text = json::encode(&request);
        prop_assert_eq!(json::decode(text.as_bytes()), Ok(Document::Traces(request.clone())));
        prop_assert_eq!(protobuf::decode(&protobuf::encode(&request)), Ok(request));
    }
}

fn decoded(text: &str) -> Span {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{text}]}}]}}]}}"#);
    match json::decode(text.as_bytes()).unwrap() {
        Document::Traces(request) => request.resource_spans[0].scope_spans[0].spans[0].clone(),
        other @ Document::Other(_) => panic!("{other:?}"),
    }
}

#[test]
fn the_forms_of_the_wild_read_like_the_official_one() {
    let official = decoded(
        r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","kind":2,
        "startTimeUnixNano":"1544712660000000000","status":{"code":2},"flags":256,
        "attributes":[{"key":"n","value":{"intValue":"-5"}},{"key":"e","value":{}},{"key":"a"}]}"#,
    );
    assert_eq!(official.attributes[1].value, Some(AnyValue { value: None }));
    assert_eq!(official.attributes[2].value, None);
    for wild in [
        r#"{"trace_id":"5B8EFFF798038103D269B633813FC60C","span_id":"EEE19B7EC3C1B174",
        "kind":"SPAN_KIND_SERVER","start_time_unix_nano":1544712660000000000,
        "status":{"code":"STATUS_CODE_ERROR"},"flags":"256","parentSpanId":null,"unknown":[{}],
        "attributes":[{"key":"n","value":{"int_value":-5}},{"key":"e","value":{}},{"key":"a"}]}"#,
        r#"{"traceId":"W47/95gDgQPSabYzgT/GDA==","spanId":"7uGbfsPBsXQ=","kind":"server",
        "startTimeUnixNano":"1544712660000000000","status":{"code":"error"},"flags":256,
        "attributes":[{"key":"n","value":{"intValue":-5.0}},{"key":"e","value":{}},
        {"key":"a","value":null}]}"#,
    ] {
        assert_eq!(decoded(wild), official, "{wild}");
    }
}

#[test]
fn borders_of_numbers() {
    let span = decoded(
        r#"{"startTimeUnixNano":18446744073709551615,"endTimeUnixNano":"18446744073709551615",
        "attributes":[{"key":"a","value":{"intValue":"-9223372036854775808"}},
        {"key":"b","value":{"doubleValue":"NaN"}},{"key":"a","value":{"doubleValue":1}}]}"#,
    );
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (u64::MAX, u64::MAX)
    );
    let values: Vec<_> = span
        .attributes
        .iter()
        .map(|one| one.value.clone().unwrap().value.unwrap())
        .collect();
    assert_eq!(values[0], Value::IntValue(i64::MIN));
    assert!(matches!(values[1], Value::DoubleValue(number) if number.is_nan()));
    assert_eq!(values[2], Value::DoubleValue(1.0));
}

#[test]
fn bad_documents_are_errors_that_say_where() {
    let deep = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{}{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(100_000),
        "]}}".repeat(100_000),
    );
    for (text, line) in [
        ("{\n\"resourceSpans\": 5}", 2),
        ("{", 1),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_X"}]}]}]}"#,
            1,
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":-1}]}]}]}"#,
            1,
        ),
        (&deep, 1),
    ] {
        let error = json::decode(text.as_bytes()).unwrap_err();
        assert!(
            matches!(error, OtlpError::Json { line: found, .. } if found == line),
            "{error}"
        );
    }
    assert!(json::decode(b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}").is_err());
    assert!(protobuf::decode(&[0x0a, 0xff]).is_err());
    // Groups, and arrays a hundred deep.
    assert!(protobuf::decode(&[0x0b, 0x0c, 0x0f]).is_err());
    let mut value = AnyValue { value: None };
    for _ in 0..200 {
        value = AnyValue {
            value: Some(Value::ArrayValue(ArrayValue {
                values: vec![value],
            })),
        };
    }
    let attribute = KeyValue {
        value: Some(value),
        ..KeyValue::default()
    };
    let resource = Resource {
        attributes: vec![attribute],
        ..Resource::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            ..ResourceSpans::default()
        }],
    };
    assert!(protobuf::decode(&protobuf::encode(&request)).is_err());
}

#[test]
fn documents_by_line_and_over_lines() {
    let text = b"{\"resourceSpans\":[]}\n\n{\n \"resourceLogs\": [ {\"a\": \"}\\\"\"} ]\n}\n{\"resource_metrics\":[]}";
    let found: Vec<_> = Documents::new(&text[..], 1_000)
        .collect::<Result<_, _>>()
        .unwrap();
    let empty = Document::Traces(ExportTraceServiceRequest::default());
    assert_eq!(
        found,
        [
            (1, empty),
            (3, Document::Other("logs")),
            (6, Document::Other("metrics"))
        ]
    );
    let errors: Vec<_> = Documents::new(&text[..], 10).collect();
    assert!(matches!(
        errors[..],
        [Err(OtlpError::TooLarge { limit: 10, .. })]
    ));
    let broken: Vec<_> = Documents::new(&b"{}\n{]\n{}\n"[..], 100).collect();
    assert!(
        matches!(broken[1], Err(OtlpError::Json { line: 2, .. })),
        "{broken:?}"
    );
}

#[test]
fn compressed_bodies_and_bombs() {
    let body = json::encode(&ExportTraceServiceRequest::default()).into_bytes();
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |data: &[u8]| zstd::encode_all(data, 3).unwrap();
    let limits = DecompressLimits::default();
    assert_eq!(*decompress(&body, limits).unwrap(), *body);
    for compressed in [gzip(&body), zstd(&body)] {
        assert_eq!(*decompress(&compressed, limits).unwrap(), *body);
        let twice = [compressed.clone(), compressed.clone()].concat();
        assert_eq!(decompress(&twice, limits).unwrap().len(), body.len() * 2);
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut reader(&compressed[..]).unwrap(), &mut read).unwrap();
        assert_eq!(read, body);
        let cut = &compressed[..compressed.len() - 5];
        assert!(matches!(
            decompress(cut, limits),
            Err(OtlpError::Compression { .. })
        ));
    }
    let zeros = vec![0; 100 << 20];
    for bomb in [gzip(&zeros), zstd(&zeros)] {
        assert!(matches!(
            decompress(&bomb, limits),
            Err(OtlpError::TooLarge { .. })
        ));
    }
}

#[test]
fn real_captures_come_back_equal() {
    let Ok(captures) = std::env::var("SPANSTORE_REAL_DATA") else {
        eprintln!("skipped: SPANSTORE_REAL_DATA is not set");
        return;
    };
    for (file, spans, others) in [
        ("otel-demo/test_data.jsonl", 547, 56),
        ("robotframework/otel-traces.json", 1_066, 0),
        ("robotframework/diverse_trace_full.json", 1_632, 0),
        ("robotframework/pabot_trace.json", 18, 0),
        ("robotframework/all_types_trace.json", 11, 0),
        ("nextjs/snapshot_spans.otlp.jsonl", 36, 0),
        ("otlp-official/trace.json", 1, 0),
    ] {
        let path = std::path::Path::new(&captures).join(file);
        let input = reader(std::fs::File::open(path).unwrap()).unwrap();
        let (mut found_spans, mut found_others) = (0, 0);
        for document in Documents::new(input, 64 << 20) {
            let Document::Traces(request) = document.unwrap().1 else {
                found_others += 1;
                continue;
            };
            let scopes = request
                .resource_spans
                .iter()
                .flat_map(|one| &one.scope_spans);
            found_spans += scopes.map(|scope| scope.spans.len()).sum::<usize>();
            let text = json::encode(&request);
            assert_eq!(
                json::decode(text.as_bytes()),
                Ok(Document::Traces(request.clone()))
            );
            assert_eq!(protobuf::decode(&protobuf::encode(&request)), Ok(request));
        }
        assert_eq!((found_spans, found_others), (spans, others), "{file}");
    }
}
