//! Values within values.

use super::{nested, with_attribute};
use crate::otlp::{OtlpError, check_nesting, json, protobuf};

#[test]
fn protobuf_values_nest_in_16_containers() {
    // The innermost value is in none itself.
    let deepest = with_attribute(nested(17));
    assert_eq!(
        protobuf::decode(&protobuf::encode(&deepest)).unwrap(),
        deepest
    );
    for levels in [18, 40, 60, 500] {
        let request = with_attribute(nested(levels));
        assert_eq!(
            check_nesting(&request),
            Err(OtlpError::TooDeep { limit: 16 })
        );
        assert_eq!(
            protobuf::decode(&protobuf::encode(&request)),
            Err(OtlpError::TooDeep { limit: 16 }),
            "{levels}"
        );
    }
}

#[test]
fn a_hundred_thousand_levels_do_not_end_the_process() {
    // An array of one value, again and again, each around the one before.
    let mut parts = Vec::new();
    let mut length = 0;
    let mut wrap = |tag: u8| {
        let mut part = vec![tag];
        prost::encode_length_delimiter(length, &mut part).unwrap();
        length += part.len();
        parts.push(part);
    };
    for _ in 0..100_000 {
        wrap(0x0a); // ArrayValue.values
        wrap(0x2a); // AnyValue.array_value
    }
    for tag in [0x12, 0x4a, 0x12, 0x12, 0x0a] {
        wrap(tag); // KeyValue.value, Span.attributes, spans, scope_spans, resource_spans
    }
    let bytes = parts.into_iter().rev().flatten().collect::<Vec<_>>();
    assert_eq!(
        protobuf::decode(&bytes),
        Err(OtlpError::TooDeep { limit: 16 })
    );
    // Groups in an unknown field nest too.
    assert!(protobuf::decode(&vec![0x7b; 100_000]).is_err());
}

#[test]
fn json_values_nest_in_16_containers_and_are_cut_one_below() {
    let deepest = with_attribute(nested(17));
    let text = json::encode(&deepest);
    assert_eq!(
        json::decode(text.as_bytes()),
        Ok(json::Document::Traces(deepest))
    );
    for levels in [18, 25, 30, 60, 1_000] {
        let text = json::encode(&with_attribute(nested(levels)));
        let Ok(json::Document::Traces(cut)) = json::decode(text.as_bytes()) else {
            panic!("{levels} levels decode");
        };
        assert_eq!(check_nesting(&cut), Err(OtlpError::TooDeep { limit: 16 }));
        assert!(protobuf::encode(&cut).len() < 200, "{levels}");
    }
    // What was open is closed again, also after an error.
    let broken = r#"{"resourceSpans":[{"resource":{"attributes":[{"value":"#.to_owned()
        + &r#"{"arrayValue":{"values":["#.repeat(10);
    assert!(json::decode(broken.as_bytes()).is_err());
    let deepest = with_attribute(nested(17));
    assert_eq!(
        json::decode(json::encode(&deepest).as_bytes()),
        Ok(json::Document::Traces(deepest))
    );
}

#[test]
fn a_million_brackets_do_not_end_the_process() {
    let text = format!(
        r#"{{"unknown":{}{}}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert!(
        json::decode(text.as_bytes()).is_ok(),
        "what is ignored may nest"
    );
    assert!(json::decode("[".repeat(1_000_000).as_bytes()).is_err());
    let text = r#"{"resourceSpans":[{"resource":{"attributes":[{"value":"#.to_owned()
        + &r#"{"arrayValue":{"values":["#.repeat(100_000);
    assert!(matches!(
        json::decode(text.as_bytes()),
        Err(OtlpError::Json { .. })
    ));
}
