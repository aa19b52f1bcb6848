//! The columns, and what a reader may choose.

use arrow::datatypes::TimeUnit;

use super::*;
use crate::interchange::{IdForm, TimePrecision};
use crate::otlp::Link;
use crate::span::mapping;

const BYTES_AND_MICROS: InterchangeOptions = InterchangeOptions {
    ids: IdForm::Bytes,
    times: TimePrecision::Microseconds,
};

#[test]
fn the_columns_are_these_whatever_is_chosen() {
    let mut expected = vec![
        "team_id",
        "trace_id",
        "span_id",
        "parent_span_id",
        "start_time",
        "end_time",
        "duration",
        "name",
        "kind",
        "origin",
        "status",
        "status_message",
        "level",
    ];
    expected.extend(mapping::columns().iter().map(|column| column.name()));
    expected.extend([
        "trace_state",
        "flags",
        "scope_name",
        "scope_version",
        "attributes",
        "attributes_json",
        "resource_attributes",
        "resource_attributes_json",
        "scope_attributes",
        "scope_attributes_json",
        "resource_schema_url",
        "scope_schema_url",
        "events",
        "links",
        "dropped_attributes_count",
        "dropped_events_count",
        "dropped_links_count",
    ]);
    for options in [InterchangeOptions::default(), BYTES_AND_MICROS] {
        let schema = schema(options);
        let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, expected);
    }
}

fn holds_a_view(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| holds_a_view(field.data_type())),
        DataType::List(field) | DataType::Map(field, _) => holds_a_view(field.data_type()),
        _ => false,
    }
}

#[test]
fn types_are_those_that_every_reader_knows() {
    for options in [InterchangeOptions::default(), BYTES_AND_MICROS] {
        for field in schema(options).fields() {
            assert!(!holds_a_view(field.data_type()), "{field}");
        }
    }
}

#[test]
fn ids_are_bytes_when_asked_for() {
    let span = Span {
        links: vec![
            Link {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                ..Link::default()
            },
            Link {
                trace_id: vec![1; 3],
                ..Link::default()
            },
        ],
        ..span()
    };
    let batch = convert(&stored(&request(vec![span])), BYTES_AND_MICROS).unwrap();
    let id = |name| column(&batch, name).as_fixed_size_binary();
    assert_eq!(id("trace_id").value(0), [0xab; 16]);
    assert_eq!(id("span_id").value(0), [0xcd; 8]);
    assert!(id("parent_span_id").is_null(0));
    let links = column(&batch, "links").as_list::<i32>().value(0);
    let part = |name| {
        links
            .as_struct()
            .column_by_name(name)
            .unwrap()
            .as_fixed_size_binary()
    };
    assert_eq!(part("trace_id").value(0), [1; 16]);
    assert_eq!(part("span_id").value(0), [2; 8]);
    assert!(part("trace_id").is_null(1) && part("span_id").is_null(1));
}

#[test]
fn microseconds_are_cut_towards_the_past() {
    let span = Span {
        events: vec![crate::otlp::Event {
            time_unix_nano: 1_999,
            ..Default::default()
        }],
        ..span()
    };
    let rows = stored(&request(vec![span]));
    let batch = convert(&rows, BYTES_AND_MICROS).unwrap();
    assert_eq!(
        time_at(column(&batch, "start_time"), 0),
        Some(1_700_000_000_123_456)
    );
    assert_eq!(
        time_at(column(&batch, "end_time"), 0),
        Some(1_700_000_000_223_456)
    );
    let events = column(&batch, "events").as_list::<i32>().value(0);
    assert_eq!(
        time_at(events.as_struct().column_by_name("time").unwrap(), 0),
        Some(1)
    );
    let duration = column(&batch, "duration").as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(duration.value(0), 99_999_999, "nanoseconds");
    let schema = batch.schema();
    let time = |unit| DataType::Timestamp(unit, Some("UTC".into()));
    assert_eq!(
        schema.field_with_name("end_time").unwrap().data_type(),
        &time(TimeUnit::Microsecond)
    );
    // A time before 1970, which no span has that came in.
    let early = arrow::array::TimestampNanosecondArray::from(vec![-1]);
    let micros = crate::interchange::times::of_stored(&early, TimePrecision::Microseconds);
    assert_eq!(time_at(&micros, 0), Some(-1));
}

#[test]
fn times_beyond_what_nanoseconds_reach_are_null_or_microseconds() {
    let span = Span {
        end_time_unix_nano: u64::MAX,
        ..span()
    };
    let rows = stored(&request(vec![span]));
    let batch = convert(&rows, InterchangeOptions::default()).unwrap();
    assert_eq!(time_at(column(&batch, "end_time"), 0), None);
    let batch = convert(&rows, BYTES_AND_MICROS).unwrap();
    assert_eq!(
        time_at(column(&batch, "end_time"), 0),
        Some(18_446_744_073_709_551)
    );
}
