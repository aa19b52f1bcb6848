//! Requests as JSON.

use proptest::prelude::*;
use serde_json::json;

use super::{attribute, nested, request_of, value, with_attribute};
use crate::otlp::json::{
    Document, any_value_to_plain_json, attributes_to_json, decode, encode, span_to_json,
    to_protobuf,
};
use crate::otlp::{
    AnyValue, ExportTraceServiceRequest, Measured, OtlpError, Span, Status, Value, arbitrary,
    protobuf,
};

fn traces(text: &str) -> ExportTraceServiceRequest {
    match decode(text.as_bytes()) {
        Ok(Document::Traces(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn span(fields: &str) -> Span {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#);
    traces(&text)
        .resource_spans
        .remove(0)
        .scope_spans
        .remove(0)
        .spans
        .remove(0)
}

fn any_value(text: &str) -> AnyValue {
    let fields = format!(r#""attributes":[{{"key":"k","value":{text}}}]"#);
    span(&fields).attributes.remove(0).value.unwrap()
}

/// The message of the error that a span of these fields is.
fn error(fields: &str) -> String {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#);
    match decode(text.as_bytes()) {
        Err(OtlpError::Json {
            line: 1,
            column,
            message,
        }) if column > 40 => message,
        other => panic!("{text}: {other:?}"),
    }
}

proptest! {
    #[test]
    fn requests_stay_equal(request in arbitrary::request()) {
        prop_assert_eq!(&traces(&encode(&request)), &request);
    }

    #[test]
    fn into_protobuf_is_the_same_as_decoded_whole(request in arbitrary::request()) {
        let text = encode(&request);
        let measured = Measured::of_json(text.as_bytes()).unwrap();
        let written = to_protobuf(text.as_bytes(), &measured).unwrap().unwrap();
        let room = measured.most_encoded_bytes(text.len());
        prop_assert!(written.len() as u64 <= room, "{} {room}", written.len());
        prop_assert_eq!(protobuf::decode(&written).unwrap(), request);
    }

    #[test]
    fn pretty_requests_with_keys_in_snake_case_stay_equal(request in arbitrary::request()) {
        let tree = serde_json::from_str(&encode(&request)).unwrap();
        let pretty = serde_json::to_string_pretty(&in_snake_case(tree)).unwrap();
        prop_assert_eq!(&traces(&pretty), &request);
    }

    #[test]
    fn cut_off_requests_are_refused(request in arbitrary::request(), at in any::<prop::sample::Index>()) {
        let text = encode(&request);
        let cut = &text.as_bytes()[..at.index(text.len())];
        let is_refused = matches!(decode(cut), Err(OtlpError::Json { .. }));
        prop_assert!(is_refused);
    }

    #[test]
    fn spans_and_attributes_are_what_a_request_holds(span in arbitrary::span()) {
        let request: serde_json::Value =
            serde_json::from_str(&encode(&request_of(span.clone()))).unwrap();
        let found = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        prop_assert_eq!(found, &span_to_json(&span));
        let attributes = attributes_to_json(&span.attributes);
        if span.attributes.is_empty() {
            prop_assert_eq!(attributes, json!([]));
        } else {
            prop_assert_eq!(&found["attributes"], &attributes);
        }
    }
}

/// All keys of the mapping in snake_case; keys in a `"key"` are texts and stay.
fn in_snake_case(tree: serde_json::Value) -> serde_json::Value {
    match tree {
        serde_json::Value::Array(list) => list.into_iter().map(in_snake_case).collect(),
        serde_json::Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let mut snake = String::new();
                for letter in key.chars() {
                    if letter.is_ascii_uppercase() {
                        snake.push('_');
                    }
                    snake.push(letter.to_ascii_lowercase());
                }
                (snake, in_snake_case(value))
            })
            .collect(),
        other => other,
    }
}

#[test]
fn the_official_mapping_is_written() {
    let span = Span {
        trace_id: vec![0xAB; 16],
        span_id: vec![1; 8],
        name: "GET \"/\"".to_owned(),
        kind: 2,
        start_time_unix_nano: u64::MAX,
        flags: 0x101,
        attributes: vec![
            attribute("int", value(Value::IntValue(i64::MIN))),
            attribute("double", value(Value::DoubleValue(1.0))),
            attribute("none", value(Value::DoubleValue(f64::NEG_INFINITY))),
            attribute("bytes", value(Value::BytesValue(vec![0, 0x30, 0x39]))),
            attribute("empty", AnyValue::default()),
            attribute("nested", nested(3)),
        ],
        status: Some(Status {
            code: 2,
            message: String::new(),
        }),
        ..Span::default()
    };
    let expected = json!({
        "traceId": "abababababababababababababababab",
        "spanId": "0101010101010101",
        "flags": 257,
        "name": "GET \"/\"",
        "kind": 2,
        "startTimeUnixNano": "18446744073709551615",
        "attributes": [
            {"key": "int", "value": {"intValue": "-9223372036854775808"}},
            {"key": "double", "value": {"doubleValue": 1.0}},
            {"key": "none", "value": {"doubleValue": "-Infinity"}},
            {"key": "bytes", "value": {"bytesValue": "ADA5"}},
            {"key": "empty", "value": {}},
            {"key": "nested", "value": {"arrayValue": {"values": [
                {"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": true}}]}}
            ]}}},
        ],
        "status": {"code": 2},
    });
    assert_eq!(span_to_json(&span), expected);
}

#[test]
fn a_document_says_what_it_holds() {
    for (text, expected) in [
        (
            r#"{"resourceMetrics":[{"x":[[[]]]}]}"#,
            Document::Other("metrics"),
        ),
        (r#"{"resource_logs":[]}"#, Document::Other("logs")),
        (
            r#"{"resourceSpans":null,"resourceLogs":[]}"#,
            Document::Other("logs"),
        ),
        ("{}", Document::Traces(ExportTraceServiceRequest::default())),
        (
            r#"{"resourceSpans":[],"resourceLogs":[]}"#,
            Document::Traces(ExportTraceServiceRequest::default()),
        ),
        (
            "\u{feff}{\"unknown\":1}",
            Document::Traces(ExportTraceServiceRequest::default()),
        ),
    ] {
        assert_eq!(decode(text.as_bytes()), Ok(expected), "{text}");
    }
    for text in [
        "",
        "[]",
        "null",
        "{} {}",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[1]}"#,
    ] {
        assert!(
            matches!(decode(text.as_bytes()), Err(OtlpError::Json { .. })),
            "{text}"
        );
    }
}

#[test]
fn ids_are_hexadecimal_or_base64() {
    let trace_id = |text: &str| span(&format!(r#""traceId":{text}"#)).trace_id;
    let id = (0x70..0x80).collect::<Vec<u8>>();
    assert_eq!(trace_id(r#""707172737475767778797A7b7c7d7e7f""#), id);
    assert_eq!(trace_id(r#""cHFyc3R1dnd4eXp7fH1+fw==""#), id);
    assert_eq!(trace_id(r#""cHFyc3R1dnd4eXp7fH1-fw==""#), id);
    assert_eq!(span(r#""spanId":"cHFyc3R1dnc=""#).span_id, id[..8]);
    // Of the wrong length, kept for who checks ids.
    assert_eq!(trace_id(r#""7071""#), [0x70, 0x71]);
    for none in ["null", r#""""#] {
        assert!(trace_id(none).is_empty(), "{none}");
    }
    for unreadable in [r#""no id""#, r#""707""#, r#""\u0000""#, r#""0x707172""#] {
        assert_eq!(trace_id(unreadable), [0], "no id is not an unreadable one");
        let link = format!(r#""links":[{{"traceId":{unreadable},"spanId":{unreadable}}}]"#);
        let link = span(&link).links.remove(0);
        assert_eq!((link.trace_id, link.span_id), (vec![0], vec![0]));
    }
    let parent_id = |text: &str| span(&format!(r#""parentSpanId":{text}"#)).parent_span_id;
    assert!(parent_id(r#""""#).is_empty() && parent_id("null").is_empty());
    assert_eq!(
        parent_id(r#""no id""#),
        [0],
        "an unreadable parent is not no parent"
    );
    assert!(error(r#""traceId":7"#).contains("hexadecimal"));
}

#[test]
fn integers_are_numbers_or_texts() {
    for (text, expected) in [
        ("18446744073709551615", u64::MAX),
        (r#""18446744073709551615""#, u64::MAX),
        ("9007199254740992.0", 9_007_199_254_740_992),
        ("1.5e3", 1_500),
        (r#""1e3""#, 1_000),
        (r#""1.5e18""#, 1_500_000_000_000_000_000),
        (r#""1793491200000000001.0""#, 1_793_491_200_000_000_001),
        (r#""1793491200000000001000e-3""#, 1_793_491_200_000_000_001),
        (r#""0.00e-5""#, 0),
        ("null", 0),
        (r#""0""#, 0),
    ] {
        assert_eq!(
            span(&format!(r#""startTimeUnixNano":{text}"#)).start_time_unix_nano,
            expected
        );
    }
    for text in [
        "-1",
        r#""-1""#,
        "18446744073709551616",
        r#""18446744073709551616""#,
        // The digits are lost when a number has a point or an exponent.
        "1793491200000000001.0",
        "1.5e18",
        "1e300",
        r#""1e300""#,
        r#""1e-1""#,
        r#""1.""#,
        r#""-""#,
        r#""e3""#,
        r#""1e99999999999""#,
        "0.5",
        r#""""#,
        r#""x""#,
        "true",
        "[]",
    ] {
        let message = error(&format!(r#""start_time_unix_nano":{text}"#));
        assert!(
            message.contains("an integer from 0 to 18446744073709551615"),
            "{message}"
        );
    }
    assert_eq!(span(r#""flags":"257""#).flags, 257);
    assert_eq!(
        span(r#""droppedLinksCount":4294967295"#).dropped_links_count,
        u32::MAX
    );
    assert!(error(r#""flags":4294967296"#).contains("4294967295"));
    for (text, expected) in [
        ("-9223372036854775808", i64::MIN),
        (r#""-9223372036854775808""#, i64::MIN),
        (r#""9223372036854775807""#, i64::MAX),
        ("7", 7),
    ] {
        let found = any_value(&format!(r#"{{"intValue":{text}}}"#));
        assert_eq!(found, value(Value::IntValue(expected)));
    }
    for outside in [
        "9223372036854775808",
        r#""9223372036854775808""#,
        "-9223372036854775809",
        r#""-9223372036854775809""#,
    ] {
        let fields = format!(r#""attributes":[{{"value":{{"intValue":{outside}}}}}]"#);
        assert!(error(&fields).contains("64 bits"), "{outside}");
    }
}

#[test]
fn doubles_are_numbers_or_texts_and_exact() {
    for (text, expected) in [
        ("1", 1.0),
        ("-3", -3.0),
        (r#""2.5""#, 2.5),
        (r#""Infinity""#, f64::INFINITY),
        (r#""-Infinity""#, f64::NEG_INFINITY),
        ("5e-324", 5e-324),
        ("0.1234567890123456789", 0.123_456_789_012_345_68),
    ] {
        let found = any_value(&format!(r#"{{"doubleValue":{text}}}"#));
        assert_eq!(found, value(Value::DoubleValue(expected)), "{text}");
    }
    let nan = any_value(r#"{"doubleValue":"NaN"}"#);
    assert!(matches!(nan.value, Some(Value::DoubleValue(number)) if number.is_nan()));
    let negative = any_value(r#"{"doubleValue":"-nan"}"#);
    let encoded = |value: &AnyValue| protobuf::encode(&with_attribute(value.clone()));
    assert_eq!(encoded(&nan), encoded(&negative), "all are one NaN");
    let text = encode(&with_attribute(nan));
    assert!(text.contains(r#"{"doubleValue":"NaN"}"#), "{text}");
    assert_eq!(encode(&traces(&text)), text);
    for wrong in [r#""x""#, r#""1e999""#, "1e999"] {
        let fields = format!(r#""attributes":[{{"value":{{"doubleValue":{wrong}}}}}]"#);
        let message = error(&fields);
        assert!(
            message.contains("Infinity") || message.contains("out of range"),
            "{message}"
        );
    }
}

#[test]
fn enumerations_are_integers_or_names() {
    for kind in [
        "2",
        r#""2""#,
        r#""SPAN_KIND_SERVER""#,
        r#""server""#,
        r#""span_kind_Server""#,
    ] {
        assert_eq!(span(&format!(r#""kind":{kind}"#)).kind, 2, "{kind}");
    }
    for code in [
        "2",
        "2.0",
        r#""2""#,
        r#""STATUS_CODE_ERROR""#,
        r#""ERROR""#,
        r#""Error""#,
    ] {
        let status = span(&format!(r#""status":{{"code":{code}}}"#))
            .status
            .unwrap();
        assert_eq!(status.code, 2, "{code}");
    }
    assert_eq!(span(r#""kind":99"#).kind, 99, "later versions may know it");
    assert_eq!(span(r#""kind":null"#).kind, 0);
    assert!(error(r#""kind":"SPAN_KIND_X""#).contains("SPAN_KIND_X"));
    assert!(error(r#""kind":"ÄÄÄÄÄÄÄ""#).contains("kind of a span"));
}

#[test]
fn null_is_absent_everywhere_and_unknown_fields_are_ignored() {
    let text = encode(&request_of(span(
        r#""name":null,"attributes":null,"events":[null,{"name":null}],"links":[{"traceId":null}],
           "status":null,"deprecatedFlags":{"a":[1]},"traceState":null,"Name":"other""#,
    )));
    assert_eq!(
        text,
        encode(&request_of(span(r#""events":[{}],"links":[{}]"#)))
    );
    let text =
        r#"{"resourceSpans":[null,{"resource":null,"scopeSpans":[{"scope":null,"spans":null}]}]}"#;
    assert_eq!(
        encode(&traces(text)),
        r#"{"resourceSpans":[{"scopeSpans":[{}]}]}"#
    );
}

#[test]
fn absent_and_empty_are_different() {
    let text = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"attributes":[{"key":"a"},{"key":"b","value":{}}],"status":{}},{}]},{}]},{}]}"#;
    let request = traces(text);
    assert_eq!(encode(&request), text);
    assert_eq!(protobuf::decode(&protobuf::encode(&request)), Ok(request));
}

#[test]
fn values_are_of_one_type() {
    assert_eq!(
        any_value(r#"{"stringValue":null,"boolValue":true}"#),
        value(Value::BoolValue(true))
    );
    assert_eq!(any_value(r#"{"stringValue":null}"#), AnyValue::default());
    assert_eq!(any_value(r#"{"otherValue":[{}]}"#), AnyValue::default());
    let array = any_value(r#"{"arrayValue":{"values":[null,{},{"intValue":1}]}}"#);
    assert_eq!(any_value_to_plain_json(&array), json!([null, null, 1]));
    for (bytes, expected) in [
        ("-_8=", vec![0xfb, 0xff]),
        ("+/8", vec![0xfb, 0xff]),
        ("", vec![]),
    ] {
        let found = any_value(&format!(r#"{{"bytesValue":"{bytes}"}}"#));
        assert_eq!(found, value(Value::BytesValue(expected)));
    }
    for wrong in [
        r#"{"stringValue":"a","intValue":1}"#,
        r#"{"stringValue":"a","stringValue":"b"}"#,
        r#"{"bytesValue":"*"}"#,
        r#"{"stringValue":1}"#,
        r#""plain""#,
    ] {
        error(&format!(r#""attributes":[{{"value":{wrong}}}]"#));
    }
}

#[test]
fn a_key_that_occurs_twice_is_an_error() {
    assert_eq!(error(r#""name":"a","name":"b""#), "duplicate field `name`");
    error(r#""traceId":"","trace_id":"""#);
}

#[test]
fn the_old_name_of_scopes_is_read() {
    let old = r#"{"resourceSpans":[{"instrumentationLibrarySpans":[{"instrumentationLibrary":{"name":"l"},"spans":[{}]}]}]}"#;
    let new = r#"{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"l"},"spans":[{}]}]}]}"#;
    assert_eq!(traces(old), traces(new));
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let error = decode(b"{\n\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}").unwrap_err();
    assert!(
        matches!(
            error,
            OtlpError::Json {
                line: 2,
                column: 1..,
                ..
            }
        ),
        "{error}"
    );
    assert!(decode(br#"{"resourceSpans":[{"schemaUrl":"\ud800"}]}"#).is_err());
}

#[test]
fn plain_json_is_as_a_person_writes_it() {
    let list = r#"{"kvlistValue":{"values":[
        {"key":"a","value":{"intValue":"-1"}},{"key":"b","value":{"bytesValue":"AP8="}},
        {"key":"c"},{"key":"d","value":{"doubleValue":"NaN"}},{"key":"e","value":{"doubleValue":1}},
        {"key":"f","value":{"boolValue":false}},{"key":"f","value":{"stringValue":"second"}}]}}"#;
    let expected = json!({"a": -1, "b": "AP8=", "c": null, "d": "NaN", "e": 1.0, "f": false});
    assert_eq!(any_value_to_plain_json(&any_value(list)), expected);
}

#[test]
fn fields_in_any_order_are_written_into_protobuf() {
    let text = r#"{"other":1,"resourceSpans":[null,{"scopeSpans":[null,
        {"spans":[{"name":"a"},null,{"name":"b"}],"schemaUrl":"s","scope":{"name":"n"}}],
        "instrumentationLibrarySpans":[{"spans":[{"name":"c"}]}],
        "resource":{"droppedAttributesCount":1}},{}]}"#;
    let measured = Measured::of_json(text.as_bytes()).unwrap();
    let written = to_protobuf(text.as_bytes(), &measured).unwrap().unwrap();
    assert_eq!(protobuf::decode(&written).unwrap(), traces(text));
    // What stops in the middle leaves nothing for the next one.
    let cut = &text.as_bytes()[..100];
    assert!(to_protobuf(cut, &measured).is_err());
    assert_eq!(to_protobuf(b"{}", &measured).unwrap().unwrap(), b"");
    assert_eq!(to_protobuf(br#"{"resourceLogs":[]}"#, &measured), Ok(None));
    assert_eq!(decode(text.as_bytes()), Ok(Document::Traces(traces(text))));
}

#[test]
fn an_error_does_not_repeat_a_long_text() {
    let long = "7".repeat(10_000);
    for fields in [
        format!(r#""startTimeUnixNano":"{long}""#),
        format!(r#""kind":"{long}""#),
        format!(r#""attributes":[{{"value":{{"bytesValue":"{long}!"}}}}]"#),
        format!(r#""attributes":[{{"value":{{"doubleValue":"x{long}"}}}}]"#),
    ] {
        assert!(error(&fields).len() < 300);
    }
}
