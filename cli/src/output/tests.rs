use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringViewArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::Int32Type;
use arrow::ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use serde_json::{Value as Json, json};
use spanstore::query::Rows;
use spanstore_format::otlp::{AnyValue, Event, InstrumentationScope, KeyValue, Link, Span, Value};

use super::*;
use crate::arguments::Format;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn bytes(message: &impl Message) -> ArrayRef {
    let message = message.encode_to_vec();
    Arc::new(BinaryViewArray::from_iter([Some(message.as_slice()), None]))
}

/// Two rows with a column of every family.
fn batch() -> RecordBatch {
    let span = Span {
        attributes: vec![
            attribute("db.system", Value::StringValue("postgresql".into())),
            attribute("rows", Value::IntValue(3)),
            attribute("rows", Value::IntValue(4)),
        ],
        ..Span::default()
    };
    let events = Span {
        events: vec![Event {
            name: "exception".into(),
            time_unix_nano: 5,
            attributes: vec![attribute("exception.type", Value::StringValue("E".into()))],
            ..Event::default()
        }],
        ..Span::default()
    };
    let links = Span {
        links: vec![Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            ..Link::default()
        }],
        ..Span::default()
    };
    let scope = InstrumentationScope {
        name: "next.js".into(),
        version: "1".into(),
        ..Default::default()
    };
    let ids = [Some([0xab; 8].as_slice()), None].into_iter();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "span_id",
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 8).unwrap()),
        ),
        (
            "start_time",
            Arc::new(TimestampNanosecondArray::from(vec![Some(1), None]).with_timezone("UTC")),
        ),
        (
            "duration",
            Arc::new(Int64Array::from(vec![Some(1_500_000), None])),
        ),
        (
            "name",
            Arc::new(StringViewArray::from(vec![Some("a, \"b\"\n"), Some("")])),
        ),
        (
            "status_code",
            Arc::new(Int32Array::from(vec![Some(-1), None])),
        ),
        (
            "flags",
            Arc::new(UInt32Array::from(vec![Some(u32::MAX), None])),
        ),
        (
            "cold_start",
            Arc::new(BooleanArray::from(vec![Some(true), None])),
        ),
        (
            "share",
            Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::INFINITY)])),
        ),
        ("attributes", bytes(&span)),
        ("events", bytes(&events)),
        ("links", bytes(&links)),
        ("scope", bytes(&scope)),
        (
            "blob",
            Arc::new(BinaryViewArray::from_iter([Some(b"\xff"), None])),
        ),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), Some(2)]),
                None,
            ])),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap()
}

fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = RowWriter::new(format, batches[0].schema(), Vec::new()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap()
}

fn text(format: Format, batches: &[RecordBatch]) -> String {
    String::from_utf8(written(format, batches)).unwrap()
}

#[test]
fn json_has_one_object_a_line_with_every_key() {
    let text = text(Format::Json, &[batch()]);
    let lines: Vec<Json> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        json!({
            "span_id": "abababababababab",
            "start_time": "1970-01-01T00:00:00.000000001Z",
            "duration_ns": 1_500_000,
            "name": "a, \"b\"\n",
            "status_code": -1,
            "flags": 4_294_967_295_u32,
            "cold_start": true,
            "share": 0.5,
            "attributes": {"db.system": "postgresql", "rows": 3},
            "events": [{
                "name": "exception",
                "time": "1970-01-01T00:00:00.000000005Z",
                "attributes": {"exception.type": "E"},
            }],
            "links": [{
                "trace_id": "01".repeat(16),
                "span_id": "02".repeat(8),
                "trace_state": "",
                "attributes": {},
            }],
            "scope": {"name": "next.js", "version": "1", "attributes": {}},
            "blob": "/w==",
            "list": "[1, 2]",
        })
    );
    let mut keys: Vec<_> = lines[1].as_object().unwrap().iter().collect();
    assert_eq!(keys.len(), 14);
    keys.retain(|(_, value)| !value.is_null());
    assert_eq!(keys, [(&"name".to_owned(), &json!(""))]);
}

#[test]
fn csv_quotes_what_needs_it() {
    let batch = batch().project(&[0, 1, 2, 3, 6, 7, 8]).unwrap();
    assert_eq!(
        text(Format::Csv, &[batch]),
        "span_id,start_time,duration_ns,name,cold_start,share,attributes\n\
         abababababababab,1970-01-01T00:00:00.000000001Z,1500000,\"a, \"\"b\"\"\n\",true,0.5,\
         \"{\"\"db.system\"\":\"\"postgresql\"\",\"\"rows\"\":3}\"\n\
         ,,,\"\",,inf,\n"
    );
}

#[test]
fn tables_are_for_people() {
    let batch = batch();
    let text = text(Format::Table, &[batch.clone(), batch]);
    assert!(text.contains("1970-01-01 00:00:00.000"), "{text}");
    assert!(text.contains("1.50 ms"), "{text}");
    assert!(
        !text.contains("\"b\"\n"),
        "control characters stay out: {text}"
    );
    assert_eq!(text.matches("abababababababab").count(), 2);
}

#[test]
fn an_empty_result_still_has_its_columns() {
    let schema = batch().schema();
    for (format, expected) in [
        (Format::Table, "span_id"),
        (Format::Csv, "span_id,start_time"),
        (Format::Json, ""),
    ] {
        let writer = RowWriter::new(format, schema.clone(), Vec::new()).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        assert!(
            text.contains(expected) && text.is_empty() == expected.is_empty(),
            "{text}"
        );
    }
}

#[test]
fn parquet_and_arrow_give_the_columns_back() {
    let batch = batch();
    let parquet = written(Format::Parquet, std::slice::from_ref(&batch));
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(prost::bytes::Bytes::from(parquet))
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(reader.next().unwrap().unwrap().columns(), batch.columns());
    let arrow = written(Format::Arrow, std::slice::from_ref(&batch));
    let mut reader = StreamReader::try_new(arrow.as_slice(), None).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), batch);
    assert!(reader.next().is_none());
}

#[test]
fn rows_leave_out_what_only_serves_the_store() {
    let empty = RecordBatch::new_empty(spanstore_format::span::schema());
    let requests = RecordBatch::new_empty(spanstore_format::requests::table().schema());
    for (rows, empty) in [(Rows::Spans, &empty), (Rows::Requests, &requests)] {
        for format in [Format::Table, Format::Csv] {
            let columns = row_columns(rows, format);
            let batch = pick(empty, &columns).unwrap();
            assert_eq!(batch.num_columns(), columns.len());
            assert!(!columns.contains(&"rest") && !columns.contains(&"trace_start"));
            assert!(!columns.contains(&"team_id"));
        }
    }
    assert!(row_columns(Rows::Spans, Format::Json).contains(&"attributes"));
    assert!(pick(&empty, &["no such column"]).is_err());
    // Asked for by name, `rest` is still nothing to read.
    assert_eq!(
        text(Format::Csv, &[pick(&empty, &["name", "rest"]).unwrap()]),
        "name\n"
    );
}

#[test]
fn lists_of_a_request_are_arrays() {
    let column = |name: &str, text: &str| {
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some(text), None]));
        RecordBatch::try_from_iter([(name, texts)]).unwrap()
    };
    let lists = column("services", r#"["db","a \"b\""]"#);
    assert_eq!(
        text(Format::Json, std::slice::from_ref(&lists)),
        "{\"services\":[\"db\",\"a \\\"b\\\"\"]}\n{\"services\":null}\n"
    );
    assert_eq!(
        text(Format::Csv, &[lists]),
        "services\n\"[\"\"db\"\",\"\"a \\\"\"b\\\"\"\"\"]\"\n\n"
    );
    for (name, shown) in [("services", "[db]"), ("services", "[1]"), ("name", "[]")] {
        assert_eq!(
            text(Format::Json, &[column(name, shown)]).lines().next(),
            Some(format!("{{\"{name}\":\"{shown}\"}}").as_str()),
            "no list stays a text"
        );
    }
}

#[test]
fn bytes_that_are_no_message_are_shown_as_they_are() {
    let broken: ArrayRef = Arc::new(BinaryViewArray::from_iter([Some(b"\xff\xff")]));
    let batch = RecordBatch::try_from_iter([("attributes", broken)]).unwrap();
    assert_eq!(text(Format::Json, &[batch]), "{\"attributes\":\"//8=\"}\n");
}

#[test]
fn reports_as_json_and_as_lines() {
    let report = Report::new()
        .with("accepted", 1_234_567)
        .with("refused_by_reason", json!({"over_quota": 5}))
        .with("seconds", 0.25);
    let mut out = Vec::new();
    report.write(Format::Json, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"accepted\":1234567,\"refused_by_reason\":{\"over_quota\":5},\"seconds\":0.25}\n"
    );
    let mut out = Vec::new();
    report.write(Format::Table, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("accepted           1,234,567\n"), "{text}");
    assert!(
        text.contains("refused by reason  over_quota: 5\n"),
        "{text}"
    );
}
