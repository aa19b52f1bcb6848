//! Segments that were written once and are read ever after, with their contents as JSON.
//!
//! `segment-4` is one of this version; `segment-4-more` has columns and a part of the
//! index that this version does not know, and lacks some that it does. They are written
//! by `cargo test --workspace --lib -- --ignored golden`, while nothing is released; from
//! the first release on, a version adds files of its own and changes none.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};
use serde_json::{Map, Value as Json, json};
use twox_hash::XxHash3_128;

use super::evolution::{other_version, written};
use super::*;
use crate::otlp::json;
use crate::span::restore::to_otlp;

/// Rows at both ends that are written out; of all there is a hash.
const SHOWN_ROWS: usize = 20;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn value(column: &ArrayRef, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    match column.data_type() {
        DataType::Utf8View => json!(column.as_string_view().value(row)),
        DataType::BinaryView => json!(hex(column.as_binary_view().value(row))),
        DataType::FixedSizeBinary(_) => json!(hex(column.as_fixed_size_binary().value(row))),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => json!(column.as_primitive::<UInt32Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        _ => json!(column.as_primitive::<TimestampNanosecondType>().value(row)),
    }
}

fn row(rows: &RecordBatch, row: usize) -> Json {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    let values = columns.map(|(field, column)| (field.name().clone(), value(column, row)));
    let values = values.filter(|(_, value)| !value.is_null());
    Json::Object(values.collect())
}

/// The rows that each id of a partition leads to, by the first and the last one.
fn found(reader: &SegmentReader, partition: &Partition, rows: &RecordBatch) -> Json {
    let mut ids: BTreeMap<String, Json> = BTreeMap::new();
    let texts = |column: SpanColumn| column.texts(rows).unwrap();
    for row in partition.rows.clone() {
        let row = row as usize;
        let trace = SpanColumn::TraceId.ids(rows).unwrap().value(row);
        let trace = TraceId(trace.try_into().unwrap());
        let mut find = |name: String, id: Id<'_>| {
            ids.entry(name).or_insert_with(|| {
                let rows = reader.find(partition, id).unwrap().unwrap();
                json!([rows.min(), rows.max(), rows.len()])
            });
        };
        find(format!("trace {}", hex(&trace.0)), Id::Trace(trace));
        let session = texts(SpanColumn::SessionId);
        if session.is_valid(row) {
            let id = session.value(row);
            find(format!("session {id}"), Id::Session(id));
        }
        let request = texts(SpanColumn::RequestId);
        if request.is_valid(row) {
            let id = request.value(row);
            find(format!("request {id}"), Id::Request(id));
        }
    }
    ids.retain(|name, _| !name.starts_with("trace ") || name.ends_with('0'));
    json!(ids)
}

/// The values of each facet with their rows, by the first, the last and their number.
fn facets(reader: &SegmentReader, partition: &Partition) -> Json {
    let columns = reader.columns().unwrap();
    let mut all = Map::new();
    let Some(facets) = reader.facets(partition).unwrap() else {
        return Json::Object(all);
    };
    let read = |range| reader.postings(range);
    for column in facets.columns().unwrap() {
        let facet = facets.facet(column).unwrap().unwrap();
        let mut values = vec![json!([null, facet.null_rows()])];
        for place in 0..facet.len() {
            let value = facet.value(place).unwrap();
            let rows = facet.rows(&value, &read).unwrap();
            let text = String::from_utf8(value.bytes.to_vec());
            let text = text.unwrap_or_else(|_| hex(&value.bytes));
            values.push(json!([
                text,
                value.rows,
                rows.min(),
                rows.max(),
                rows.len()
            ]));
        }
        all.insert(columns.names()[column].clone(), Json::Array(values));
    }
    Json::Object(all)
}

/// All that a reader of this version finds in a segment.
fn contents(file: Bytes) -> Json {
    let reader = SegmentReader::open(file.clone(), summarize(&file).unwrap()).unwrap();
    assert_eq!(reader.verify(), []);
    let count = reader.summary().rows;
    let rows = concat_batches(&table().schema(), &read(&reader, &[0..count])).unwrap();
    let hash = (0..rows.num_rows()).fold(0u128, |hash, at| {
        XxHash3_128::oneshot_with_seed(hash as u64, row(&rows, at).to_string().as_bytes())
    });
    let shown = (0..SHOWN_ROWS).chain(rows.num_rows() - SHOWN_ROWS..rows.num_rows());
    let partitions = reader.directory().partitions().map(|partition| {
        let partition = partition.unwrap();
        json!({
            "team": partition.team.as_str(),
            "rows": [partition.rows.start, partition.rows.end],
            "starts": [partition.first_start, partition.last_start],
            "ids": found(&reader, &partition, &rows),
            "facets": facets(&reader, &partition),
        })
    });
    let origin = reader.origin().unwrap();
    let otlp = json::encode(&to_otlp(&rows.slice(0, SHOWN_ROWS)).unwrap());
    json!({
        "segment": reader.summary().id.to_string(),
        "month": reader.summary().month.to_string(),
        "columns": reader.columns().unwrap().names(),
        "mapping": reader.columns().unwrap().mapping(),
        "sequences": [origin.log.start, origin.log.end],
        "partitions": partitions.collect::<Vec<_>>(),
        "hash_of_rows": format!("{hash:032x}"),
        "rows": shown.map(|at| row(&rows, at)).collect::<Vec<_>>(),
        "otlp": serde_json::from_str::<Json>(&otlp).unwrap(),
    })
}

const NAMES: [&str; 2] = ["segment-4", "segment-4-more"];

#[test]
fn golden_files_are_read_as_they_were_written() {
    for name in NAMES {
        let file = std::fs::read(place(&format!("{name}.parquet"))).unwrap();
        let expected = std::fs::read(place(&format!("{name}.json"))).unwrap();
        let expected: Json = serde_json::from_slice(&expected).unwrap();
        let found = contents(Bytes::from(file));
        for (key, expected) in expected.as_object().unwrap() {
            assert!(found.get(key) == Some(expected), "{name}: {key} differs");
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
#[ignore = "writes the golden files"]
fn golden_files_are_written() {
    let varied = |name, rows| {
        batch_with(name, rows, |n| {
            let mut attributes = vec![
                attribute("http.route", Value::StringValue(format!("/r{}", n % 9))),
                attribute("share", Value::DoubleValue((n % 90) as f64 / 7.0)),
                attribute("cached", Value::BoolValue(n.is_multiple_of(3))),
                attribute("size", Value::IntValue((n % 70).cast_signed())),
            ];
            let request = format!("iad1::request-{}", n / 10);
            attributes.push(attribute("vercel.request_id", Value::StringValue(request)));
            if n.is_multiple_of(11) {
                attributes.push(attribute("rare", Value::BytesValue(vec![1, 2, 3])));
            }
            attributes
        })
    };
    let (this, _) = segment_of([varied("acme", 9_000), varied("tiny", 30)]);
    let (more, ..) = written(other_version(&["branch", "sequence", "level"]), false);
    for (name, file) in NAMES.into_iter().zip([this, more]) {
        std::fs::create_dir_all(place("")).unwrap();
        std::fs::write(place(&format!("{name}.parquet")), &file).unwrap();
        let text = serde_json::to_string_pretty(&contents(file)).unwrap();
        std::fs::write(place(&format!("{name}.json")), text + "\n").unwrap();
    }
}
