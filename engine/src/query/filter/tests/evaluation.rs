//! What filters find in a few rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Int32Array, Int64Array,
    RecordBatch, StringViewArray, TimestampNanosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;
use prost::Message;
use spanstore_format::otlp::{AnyValue, Event, KeyValue, Resource, Span, Value};
use spanstore_format::span::schema;

use super::*;

/// A row, as far as the tests look at it.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) trace: u8,
    pub(super) parent: Option<u8>,
    pub(super) start: i64,
    pub(super) duration: i64,
    pub(super) name: String,
    pub(super) session: Option<String>,
    pub(super) status: Option<i32>,
    pub(super) cold: Option<bool>,
    pub(super) attributes: Vec<(String, Value)>,
    pub(super) resource: Vec<(String, Value)>,
    pub(super) events: Vec<RowEvent>,
}

/// An event of a row: its name, its time and its attributes.
pub(super) type RowEvent = (String, u64, Vec<(String, Value)>);

/// The id whose last byte this is.
pub(super) fn id<const N: usize>(last: u8) -> [u8; N] {
    let mut id = [0; N];
    id[N - 1] = last;
    id
}

fn key_values(attributes: &[(String, Value)]) -> Vec<KeyValue> {
    let key_value = |(key, value): &(String, Value)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue {
            value: Some(value.clone()),
        }),
        ..KeyValue::default()
    };
    attributes.iter().map(key_value).collect()
}

/// The rows in all columns of the schema.
pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let text = |value: fn(&Row) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringViewArray>())
    };
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "trace_id" => {
                let ids = rows.iter().map(|row| id::<16>(row.trace));
                Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap())
            }
            "parent_span_id" => {
                let ids = rows.iter().map(|row| row.parent.map(id::<8>));
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 8).unwrap())
            }
            "span_id" => {
                let ids = rows.iter().map(|_| id::<8>(1));
                Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap())
            }
            "start_time" | "trace_start" => {
                let times = rows.iter().map(|row| row.start);
                Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
            }
            "duration" => Arc::new(Int64Array::from_iter_values(
                rows.iter().map(|r| r.duration),
            )),
            // Each append brought two of them.
            "sequence" => Arc::new(Int64Array::from_iter_values(
                (0..rows.len() as i64).map(|row| 7 + row / 2),
            )),
            "name" => text(|row| Some(&row.name)),
            "session_id" => text(|row| row.session.as_deref()),
            "status_code" => Arc::new(rows.iter().map(|row| row.status).collect::<Int32Array>()),
            "cold_start" => Arc::new(rows.iter().map(|row| row.cold).collect::<BooleanArray>()),
            "attributes" => {
                let messages = rows.iter().map(|row| {
                    let attributes = key_values(&row.attributes);
                    let message = Span {
                        attributes,
                        ..Span::default()
                    }
                    .encode_to_vec();
                    (!message.is_empty()).then_some(message)
                });
                Arc::new(messages.collect::<BinaryViewArray>())
            }
            "resource_attributes" => {
                let messages = rows.iter().map(|row| {
                    let attributes = key_values(&row.resource);
                    Some(
                        Resource {
                            attributes,
                            ..Resource::default()
                        }
                        .encode_to_vec(),
                    )
                });
                Arc::new(messages.collect::<BinaryViewArray>())
            }
            "events" => {
                let messages = rows.iter().map(|row| {
                    let events = row.events.iter().map(|(name, time, attributes)| Event {
                        name: name.clone(),
                        time_unix_nano: *time,
                        attributes: key_values(attributes),
                        ..Event::default()
                    });
                    let message = Span {
                        events: events.collect(),
                        ..Span::default()
                    };
                    (!row.events.is_empty()).then(|| message.encode_to_vec())
                });
                Arc::new(messages.collect::<BinaryViewArray>())
            }
            _ if field.is_nullable() => new_null_array(field.data_type(), rows.len()),
            _ if *field.data_type() == DataType::UInt32 => {
                Arc::new(arrow::array::UInt32Array::from_value(0, rows.len()))
            }
            _ => text(|_| Some("")),
        }
    };
    let columns = schema().fields().iter().map(column).collect();
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The answer for every row: true, false or neither. The expression has to
/// have the right types as it is.
pub(super) fn answers(expr: &Expr, batch: &RecordBatch) -> Vec<Option<bool>> {
    let schema = DFSchema::try_from(batch.schema()).unwrap();
    let context = PhysicalPlanningContext::default();
    let physical = create_physical_expr(expr, &schema, &ExecutionProps::new(), &context).unwrap();
    let rows = batch.num_rows();
    let answers = physical.evaluate(batch).unwrap().into_array(rows).unwrap();
    answers.as_boolean().iter().collect()
}

fn rows() -> Vec<Row> {
    let text = |text: &str| Value::StringValue(text.into());
    let first = Row {
        trace: 1,
        start: 10,
        duration: 1_000_000,
        name: "GET /api/users".into(),
        session: Some("s1".into()),
        status: Some(200),
        cold: Some(true),
        attributes: vec![
            ("http.status_code".into(), Value::IntValue(200)),
            ("db".into(), text("pg")),
            ("flag".into(), Value::BoolValue(true)),
        ],
        resource: vec![("region".into(), text("fra1"))],
        events: vec![
            ("exception".into(), 12, vec![("type".into(), text("E1"))]),
            ("retry".into(), 15, vec![("number".into(), text("2"))]),
        ],
        ..Row::default()
    };
    let second = Row {
        trace: 1,
        parent: Some(1),
        start: 20,
        duration: 2_000_000,
        name: "50% off_\n\\x".into(),
        session: Some("s2".into()),
        status: Some(503),
        cold: Some(false),
        attributes: vec![
            ("http.status_code".into(), text("503")),
            ("ratio".into(), Value::DoubleValue(0.5)),
            ("it's [odd]".into(), text("λ")),
        ],
        events: vec![
            ("exception".into(), 0, vec![("type".into(), text("E2"))]),
            (
                "retry".into(),
                25,
                vec![("number".into(), Value::IntValue(3))],
            ),
        ],
        ..Row::default()
    };
    let third = Row {
        trace: 2,
        start: 30,
        name: "Ünïcode".into(),
        ..Row::default()
    };
    vec![first, second, third]
}

#[test]
fn finds_the_rows() {
    let batch = batch(&rows());
    for (text, expected) in [
        ("true", [1, 1, 1]),
        ("false", [0, 0, 0]),
        ("name = 'GET /api/users'", [1, 0, 0]),
        ("name like '%/api/%'", [1, 0, 0]),
        ("name like 'GET%'", [1, 0, 0]),
        ("name ilike 'get%USERS'", [1, 0, 0]),
        ("name like '50\\%%'", [0, 1, 0]),
        ("name like '50!% off!_%' escape '!'", [0, 1, 0]),
        ("name like '%\\\\x'", [0, 1, 0]),
        ("name like '%\\x' escape '!'", [0, 1, 0]),
        ("name like '_n_code'", [0, 0, 1]),
        ("name ilike 'üNÏ%'", [0, 0, 1]),
        ("name not like '%'", [0, 0, 0]),
        ("name ~ '^[A-Z]+ /api'", [1, 0, 0]),
        ("name !~ 'api'", [0, 1, 1]),
        ("session_id ~ ''", [1, 1, 0]),
        ("starts_with(name, '50%')", [0, 1, 0]),
        ("ends_with(name, '\\x')", [0, 1, 0]),
        ("contains(name, '_')", [0, 1, 0]),
        ("lower(name) = 'ünïcode'", [0, 0, 1]),
        ("upper(name) = 'ÜNÏCODE'", [0, 0, 1]),
        ("length(name) = 7", [0, 0, 1]),
        ("length(attributes['db']) = 2", [1, 0, 0]),
        ("status_code != 200", [0, 1, 0]),
        ("status_code is null", [0, 0, 1]),
        ("(status_code != 200) is not false", [0, 1, 1]),
        ("not (status_code = 200)", [0, 1, 0]),
        ("status_code = '5xx'", [0, 1, 0]),
        ("status_code != '5xx'", [1, 0, 0]),
        ("status_class(5)", [0, 1, 0]),
        ("not status_class(5)", [1, 0, 0]),
        ("status_code in ('2xx', 503)", [1, 1, 0]),
        ("status_code not in ('2xx', 404)", [0, 1, 0]),
        ("cold_start", [1, 0, 0]),
        ("not cold_start", [0, 1, 0]),
        ("cold_start is not true", [0, 1, 1]),
        ("cold_start = (status_code = 200)", [1, 1, 0]),
        ("duration between '1ms' and '1500us'", [1, 0, 0]),
        ("duration not between '1ms' and '1500us'", [0, 1, 1]),
        ("start_time >= 20", [0, 1, 1]),
        ("start_time < '1970-01-01T00:00:00.00000002Z'", [1, 0, 0]),
        ("trace_id = '01'", [1, 1, 0]),
        ("trace_id in ('2', '3', '4', '5')", [0, 0, 1]),
        ("trace_id not in ('2', '3', '4', '5')", [1, 1, 0]),
        ("parent_span_id = '1'", [0, 1, 0]),
        ("parent_span_id = span_id", [0, 1, 0]),
        ("parent_span_id is null", [1, 0, 1]),
        ("parent_span_id != '2'", [0, 1, 0]),
        ("attributes['http.status_code'] = '503'", [0, 1, 0]),
        ("attributes['http.status_code'] >= 200", [1, 1, 0]),
        ("attributes['http.status_code'] in (200, 500)", [1, 0, 0]),
        (
            "attributes['http.status_code'] not in (200, '503')",
            [0, 0, 0],
        ),
        ("attributes['ratio'] = 0.5", [0, 1, 0]),
        ("attributes['ratio'] between 0 and 5e-1", [0, 1, 0]),
        ("attributes['flag'] = true", [1, 0, 0]),
        ("attributes['db'] > 5", [0, 0, 0]),
        ("attributes['it''s [odd]'] = 'λ'", [0, 1, 0]),
        ("attributes['absent'] is null", [1, 1, 1]),
        ("has(attributes, 'db')", [1, 0, 0]),
        ("has('db')", [1, 0, 0]),
        ("not has(attributes, 'db')", [0, 1, 1]),
        ("resource['region'] like 'fra_'", [1, 0, 0]),
        ("has(resource, 'region')", [1, 0, 0]),
        ("resource is null", [1, 1, 1]),
        ("name > session_id or flags = 0", [1, 1, 1]),
        ("events is null", [0, 0, 1]),
        ("any_event(name = 'exception')", [1, 1, 0]),
        ("ANY_EVENT(Name = 'exception')", [1, 1, 0]),
        ("not any_event(name = 'exception')", [0, 0, 1]),
        ("any_event(not name = 'exception')", [1, 1, 0]),
        ("any_event(attributes['type'] = 'E1')", [1, 0, 0]),
        // Of two events each has a part of it.
        (
            "any_event(name = 'retry' and attributes['type'] = 'E1')",
            [0, 0, 0],
        ),
        (
            "any_event(name = 'retry') and any_event(attributes['type'] = 'E1')",
            [1, 0, 0],
        ),
        (
            "any_event(name = 'retry' or attributes['type'] = 'E2')",
            [1, 1, 0],
        ),
        ("any_event(attributes['number'] >= 2)", [1, 1, 0]),
        ("any_event(attributes['number'] = 3)", [0, 1, 0]),
        ("any_event(attributes['number'] in (2, 'E1'))", [1, 0, 0]),
        ("any_event(attributes['number'] != 3)", [1, 0, 0]),
        (
            "any_event((attributes['number'] = 3) is not true)",
            [1, 1, 0],
        ),
        (
            "any_event(has('number') and not has(attributes, 'type'))",
            [1, 1, 0],
        ),
        ("any_event(time >= 15)", [1, 1, 0]),
        ("any_event(time between 12 and 13)", [1, 0, 0]),
        ("any_event(time is null)", [0, 1, 0]),
        (
            "any_event(time < '1970-01-01T00:00:00.000000013Z')",
            [1, 0, 0],
        ),
        (
            "any_event(name like 'ret%' and lower(name) ~ 'y$')",
            [1, 1, 0],
        ),
        (
            "any_event(length(name) = 9 and starts_with(attributes['type'], 'E'))",
            [1, 1, 0],
        ),
        ("any_event(true)", [1, 1, 0]),
        ("any_event(name = 'none') or name = 'Ünïcode'", [0, 0, 1]),
        ("any_event(name = 'retry') = cold_start", [1, 0, 0]),
        ("any_event(name = 'retry') is not true", [0, 0, 1]),
        ("sequence = 7", [1, 1, 0]),
        ("sequence > 7 and sequence <= 9000000000", [0, 0, 1]),
        ("sequence in (8, 9)", [0, 0, 1]),
    ] {
        let filter = parse(text).unwrap_or_else(|error| panic!("{}", error.render(text)));
        let found: Vec<_> = answers(filter.expr(), &batch)
            .into_iter()
            .map(|answer| answer == Some(true))
            .collect();
        assert_eq!(found, expected.map(|found| found == 1), "{text}");
    }
}
