//! `export --format parquet`, read as other programs do.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, TimestampNanosecondType};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;
use serde_json::Value;
use spanstore_format::interchange::{self, IdForm, InterchangeOptions, TimePrecision};
use support::{output, run, sample};

/// Exports a store as Parquet.
fn exported(store: &Path, options: &[&str]) -> prost::bytes::Bytes {
    let arguments: Vec<_> = ["export", "--format", "parquet"]
        .iter()
        .chain(options)
        .copied()
        .collect();
    let output = output(store, &arguments);
    assert!(output.status.success());
    output.stdout.into()
}

/// The rows of a file by its Parquet types alone, without what Arrow noted.
fn rows(file: &prost::bytes::Bytes) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options);
    let reader = reader.unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(batches.first().unwrap().schema_ref(), &batches).unwrap()
}

fn text<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    let texts = batch.column_by_name(name).unwrap().as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row))
}

#[test]
fn a_file_has_the_spans_of_the_store_in_plain_columns() {
    let directory = sample(3_000);
    let store = directory.path();
    let queried: BTreeMap<(String, String), Value> = run(store, &["query", "--format", "json"])
        .lines()
        .map(|line| {
            let span: Value = serde_json::from_str(line).unwrap();
            let id = |name: &str| span[name].as_str().unwrap().to_owned();
            ((id("trace_id"), id("span_id")), span)
        })
        .collect();
    run(store, &["seal"]);
    let batch = rows(&exported(store, &[]));
    let plain = interchange::schema(InterchangeOptions::default());
    assert_eq!(batch.schema().fields(), plain.fields());
    assert_eq!((batch.num_rows(), queried.len()), (3_000, 3_000));

    let starts = batch.column_by_name("start_time").unwrap();
    let starts = starts.as_primitive::<TimestampNanosecondType>();
    let ends = batch.column_by_name("end_time").unwrap();
    let ends = ends.as_primitive::<TimestampNanosecondType>();
    let durations = batch.column_by_name("duration").unwrap();
    let durations = durations.as_primitive::<Int64Type>();
    let maps = batch.column_by_name("attributes").unwrap().as_map();
    let events = batch.column_by_name("events").unwrap().as_list::<i32>();
    for row in 0..batch.num_rows() {
        let id = ["trace_id", "span_id"].map(|name| text(&batch, name, row).unwrap().to_owned());
        let span = &queried[&id.into()];
        for name in [
            "parent_span_id",
            "name",
            "kind",
            "origin",
            "level",
            "service",
            "route",
        ] {
            assert_eq!(text(&batch, name, row), span[name].as_str(), "{name}");
        }
        let duration = durations.value(row);
        assert_eq!(span["duration_ns"], duration);
        assert_eq!(ends.value(row) - starts.value(row), duration);
        for (column, queried) in [
            ("attributes_json", "attributes"),
            ("resource_attributes_json", "resource_attributes"),
        ] {
            let json: Value = serde_json::from_str(text(&batch, column, row).unwrap()).unwrap();
            assert_eq!(json, span[queried], "{column}");
        }
        let attributes = span["attributes"].as_object().unwrap();
        let entries = maps.value(row);
        let found = entries.column(0).as_string::<i32>().iter();
        let found = found.zip(entries.column(1).as_string::<i32>());
        for (key, value) in found.clone() {
            if let Some(Value::String(expected)) = attributes.get(key.unwrap()) {
                assert_eq!(value, Some(expected.as_str()));
            }
        }
        assert_eq!(found.count(), attributes.len());
        let in_query = span["events"].as_array().map_or(0, Vec::len);
        assert_eq!(events.value_length(row) as usize, in_query);
    }
}

#[test]
fn parquets_own_types_are_right() {
    let directory = sample(200);
    let file = SerializedFileReader::new(exported(directory.path(), &[])).unwrap();
    let metadata = file.metadata();
    let mut schema = Vec::new();
    print_schema(&mut schema, metadata.file_metadata().schema());
    let schema = String::from_utf8(schema).unwrap();
    for expected in [
        "REQUIRED BYTE_ARRAY trace_id (STRING);",
        "OPTIONAL BYTE_ARRAY parent_span_id (STRING);",
        "REQUIRED INT64 start_time (TIMESTAMP(NANOS,true));",
        "OPTIONAL INT64 end_time (TIMESTAMP(NANOS,true));",
        "REQUIRED INT64 duration;",
        "REQUIRED INT32 flags (INTEGER(32,false));",
        "REQUIRED group attributes (MAP) { REPEATED group key_value { \
         REQUIRED BYTE_ARRAY key (STRING); OPTIONAL BYTE_ARRAY value (STRING); } } \
         REQUIRED BYTE_ARRAY attributes_json (STRING);",
        "REQUIRED group events (LIST) { REPEATED group list { REQUIRED group element { \
         OPTIONAL INT64 time (TIMESTAMP(NANOS,true)); REQUIRED BYTE_ARRAY name (STRING); \
         REQUIRED group attributes (MAP) {",
        "REQUIRED group links (LIST) { REPEATED group list { REQUIRED group element { \
         OPTIONAL BYTE_ARRAY trace_id (STRING);",
    ] {
        let words = schema.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(expected), "{expected} is not in {schema}");
    }
    for column in metadata
        .row_groups()
        .iter()
        .flat_map(RowGroupMetaData::columns)
    {
        assert!(matches!(column.compression(), Compression::ZSTD(_)));
    }
}

#[test]
fn ids_are_bytes_and_times_microseconds_when_asked_for() {
    let directory = sample(500);
    let store = directory.path();
    let plain = rows(&exported(store, &["--ids", "hex", "--time-unit", "ns"]));
    let batch = rows(&exported(store, &["--ids", "bytes", "--time-unit", "us"]));
    let options = InterchangeOptions {
        ids: IdForm::Bytes,
        times: TimePrecision::Microseconds,
    };
    assert_eq!(
        batch.schema().fields(),
        interchange::schema(options).fields()
    );
    let ids = batch
        .column_by_name("trace_id")
        .unwrap()
        .as_fixed_size_binary();
    let starts = batch.column_by_name("start_time").unwrap();
    let starts = starts.as_primitive::<TimestampMicrosecondType>();
    let exact = plain.column_by_name("start_time").unwrap();
    let exact = exact.as_primitive::<TimestampNanosecondType>();
    for row in 0..batch.num_rows() {
        let id = spanstore_format::id::to_hex(ids.value(row));
        assert_eq!(Some(id.as_str()), text(&plain, "trace_id", row));
        assert_eq!(starts.value(row), exact.value(row) / 1_000);
    }
    assert_eq!(
        batch.column_by_name("duration"),
        plain.column_by_name("duration")
    );
}

/// The queries that the README shows for DuckDB.
fn queries_of_the_readme() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("\n## Interchange\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sql\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .flat_map(|block| block.split(';'))
        .map(|query| query.trim().to_owned())
        .filter(|query| !query.is_empty())
        .collect()
}

const PYTHON: &str = "\
import sys, duckdb
for row in duckdb.sql(sys.stdin.read()).fetchall(): print(*row, sep=',')";

/// DuckDB, which reads a query from its input and writes a line for each row; none
/// where it is not installed.
fn duckdb() -> Option<Command> {
    let is_there = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if is_there("duckdb", &["--version"]) {
        let mut command = Command::new("duckdb");
        command.args(["-csv", "-noheader"]);
        return Some(command);
    }
    if is_there("python3", &["-c", "import duckdb"]) {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON]);
        return Some(command);
    }
    None
}

/// In DuckDB, pandas and others the same values as `requests` shows.
#[test]
fn requests_are_exported_as_they_are_listed() {
    let directory = sample(3_000);
    let store = directory.path();
    let listed = run(
        store,
        &["requests", "--format", "json", "--order", "oldest"],
    );
    let listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    run(store, &["seal"]);
    let batch = rows(&exported(store, &["--table", "requests"]));
    assert_eq!(batch.num_rows(), listed.len());
    assert!(listed.len() > 200);
    let number = |name: &str, row: usize| {
        let numbers = batch
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>();
        numbers.value(row)
    };
    for (row, request) in listed.iter().enumerate() {
        for name in [
            "trace_id",
            "name",
            "route",
            "session_id",
            "level",
            "service",
        ] {
            assert_eq!(text(&batch, name, row), request[name].as_str(), "{name}");
        }
        assert_eq!(text(&batch, "team_id", row), Some("default"));
        for (name, shown) in [
            ("spans", "spans"),
            ("errors", "errors"),
            ("duration", "duration_ns"),
        ] {
            assert_eq!(Some(number(name, row)), request[shown].as_i64(), "{name}");
        }
        let services = batch
            .column_by_name("services")
            .unwrap()
            .as_list::<i32>()
            .value(row);
        let services: Vec<&str> = services.as_string::<i32>().iter().flatten().collect();
        let shown = request["services"].as_array().unwrap();
        assert!(
            services
                .iter()
                .copied()
                .eq(shown.iter().filter_map(Value::as_str))
        );
    }
    let micros = rows(&exported(
        store,
        &["--table", "requests", "--ids", "bytes", "--time-unit", "us"],
    ));
    let ids = micros
        .column_by_name("trace_id")
        .unwrap()
        .as_fixed_size_binary();
    assert_eq!(ids.value(0).len(), 16);
    let starts = micros.column_by_name("start_time").unwrap();
    assert_eq!(
        starts.as_primitive::<TimestampMicrosecondType>().len(),
        listed.len()
    );
    let refused = output(
        store,
        &["export", "--table", "requests", "--format", "otlp-json"],
    );
    assert!(!refused.status.success());
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("--table requests needs --format parquet"),
        "{message}"
    );
}

#[test]
fn duckdb_runs_the_queries_of_the_readme() {
    let queries = queries_of_the_readme();
    assert_eq!(queries.len(), 3, "{queries:?}");
    if duckdb().is_none() {
        eprintln!("skipped: there is neither a program duckdb nor a module of python3");
        return;
    }
    let directory = sample(20_000);
    let place = directory.path().join("acme.parquet");
    std::fs::write(&place, exported(directory.path(), &[])).unwrap();
    for query in queries {
        let mut command = duckdb().unwrap();
        command.current_dir(directory.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{query};").unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{query}");
        let answer = String::from_utf8(output.stdout).unwrap();
        println!("{query}\n{answer}");
        assert!(answer.lines().count() > 1, "{query}: {answer}");
        assert!(
            !answer.contains("NULL") && !answer.contains("None"),
            "{answer}"
        );
    }
}
