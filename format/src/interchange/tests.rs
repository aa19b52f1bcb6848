mod conversion;
mod damage;
mod options;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampMicrosecondType, TimestampNanosecondType, UInt32Type};

use super::{InterchangeOptions, convert, pieces, schema};
use crate::TeamId;
use crate::otlp::{
    AnyValue, ExportTraceServiceRequest, KeyValue, ResourceSpans, ScopeSpans, Span, Value,
};
use crate::span::columns::{Classified, ColumnsBuilder, ResourceContext, ScopeContext};
use crate::span::encoded::EncodedSpan;

/// The rows of a request, as the store has them.
fn stored(request: &ExportTraceServiceRequest) -> RecordBatch {
    let mut columns = ColumnsBuilder::new(&TeamId::new("acme").unwrap(), 8);
    let mut scratch = Vec::new();
    for resource_spans in &request.resource_spans {
        let resource =
            ResourceContext::new(resource_spans.resource.as_ref(), &resource_spans.schema_url);
        for scope_spans in &resource_spans.scope_spans {
            let scope = ScopeContext::new(scope_spans.scope.as_ref(), &scope_spans.schema_url);
            for span in &scope_spans.spans {
                let classified = Classified::of(span, &resource, &scope);
                let encoded = EncodedSpan::encode(span, &mut scratch);
                columns
                    .append(span, &classified, &encoded, &resource, &scope)
                    .unwrap();
            }
        }
    }
    columns.finish().unwrap()
}

/// Spans that share a resource and a scope.
fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn span() -> Span {
    Span {
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        name: "GET /".into(),
        start_time_unix_nano: 1_700_000_000_123_456_789,
        end_time_unix_nano: 1_700_000_000_223_456_788,
        ..Span::default()
    }
}

fn attribute(key: &str, value: Option<Value>) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value }),
        ..KeyValue::default()
    }
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, Some(Value::StringValue(text.into())))
}

/// One span in the interchange form.
fn converted(span: Span) -> RecordBatch {
    convert(&stored(&request(vec![span])), InterchangeOptions::default()).unwrap()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a dyn Array {
    batch.column_by_name(name).unwrap()
}

/// The text in a row, if there is one.
fn text_at(texts: &dyn Array, row: usize) -> Option<&str> {
    let texts = texts.as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row))
}

/// The time in a row.
fn time_at(times: &dyn Array, row: usize) -> Option<i64> {
    if times.is_null(row) {
        return None;
    }
    Some(match times.data_type() {
        DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, _) => {
            times.as_primitive::<TimestampNanosecondType>().value(row)
        }
        _ => times.as_primitive::<TimestampMicrosecondType>().value(row),
    })
}

fn count_at(counts: &dyn Array, row: usize) -> u32 {
    counts.as_primitive::<UInt32Type>().value(row)
}

/// Keys and values of the map in a row.
fn map_at(maps: &dyn Array, row: usize) -> Vec<(String, Option<String>)> {
    let entries = maps.as_map().value(row);
    let owned = |column: usize, row| text_at(entries.column(column), row).map(str::to_owned);
    (0..entries.len())
        .map(|entry| (owned(0, entry).unwrap(), owned(1, entry)))
        .collect()
}

/// A map as it is expected.
fn map(entries: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    let owned = |(key, value): &(&str, Option<&str>)| (key.to_string(), value.map(str::to_owned));
    entries.iter().map(owned).collect()
}
