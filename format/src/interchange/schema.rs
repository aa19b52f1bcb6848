//! The columns of the interchange form.
//!
//! Maps and lists have the names that the specification of Parquet gives their
//! parts: `key_value`, `key`, `value` and `element`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::{IdForm, InterchangeOptions, TimePrecision};
use crate::span::SpanColumn;
use crate::table::ColumnType;

pub(super) const END_TIME: &str = "end_time";
pub(super) const ATTRIBUTES_JSON: &str = "attributes_json";
pub(super) const RESOURCE_ATTRIBUTES_JSON: &str = "resource_attributes_json";
pub(super) const SCOPE_ATTRIBUTES: &str = "scope_attributes";
pub(super) const SCOPE_ATTRIBUTES_JSON: &str = "scope_attributes_json";
pub(super) const DROPPED_ATTRIBUTES: &str = "dropped_attributes_count";
pub(super) const DROPPED_EVENTS: &str = "dropped_events_count";
pub(super) const DROPPED_LINKS: &str = "dropped_links_count";

/// Bytes of a trace id and of a span id.
pub(super) const TRACE_ID_BYTES: i32 = 16;
pub(super) const SPAN_ID_BYTES: i32 = 8;

/// The columns in their order, which is that of the columns of a span.
pub fn schema(options: InterchangeOptions) -> SchemaRef {
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut add = |name: &str, data_type: DataType, is_nullable: bool| {
        fields.push(Arc::new(Field::new(name, data_type, is_nullable)));
    };
    for column in SpanColumn::ALL {
        let (name, stored) = (column.name(), column.description());
        match column {
            // What says something of the store alone, or is told by others.
            SpanColumn::TraceStart | SpanColumn::Sequence | SpanColumn::EndBeforeStart => {}
            SpanColumn::StartTime => {
                add(name, time_type(options.times), false);
                add(END_TIME, time_type(options.times), true);
            }
            SpanColumn::Attributes => {
                add(name, map_type(), false);
                add(ATTRIBUTES_JSON, DataType::Utf8, false);
            }
            SpanColumn::ResourceAttributes => {
                add(name, map_type(), false);
                add(RESOURCE_ATTRIBUTES_JSON, DataType::Utf8, false);
            }
            SpanColumn::Scope => {
                add(SCOPE_ATTRIBUTES, map_type(), false);
                add(SCOPE_ATTRIBUTES_JSON, DataType::Utf8, false);
            }
            SpanColumn::Events => add(name, list_type(event_fields(options)), false),
            SpanColumn::Links => add(name, list_type(link_fields(options)), false),
            SpanColumn::Rest => {
                add(DROPPED_ATTRIBUTES, DataType::UInt32, false);
                add(DROPPED_EVENTS, DataType::UInt32, false);
                add(DROPPED_LINKS, DataType::UInt32, false);
            }
            _ => {
                let data_type = match stored.value {
                    ColumnType::Text => DataType::Utf8,
                    ColumnType::Id(bytes) => id_type(options.ids, i32::from(bytes)),
                    other => other.data_type(),
                };
                add(name, data_type, stored.is_nullable);
            }
        }
    }
    Arc::new(Schema::new(fields))
}

/// The parts of an event.
pub(super) fn event_fields(options: InterchangeOptions) -> Fields {
    let mut fields = vec![
        Field::new("time", time_type(options.times), true),
        Field::new(SpanColumn::Name.name(), DataType::Utf8, false),
    ];
    fields.extend(attribute_fields());
    Fields::from(fields)
}

/// The parts of a link.
pub(super) fn link_fields(options: InterchangeOptions) -> Fields {
    let mut fields = vec![
        Field::new(
            SpanColumn::TraceId.name(),
            id_type(options.ids, TRACE_ID_BYTES),
            true,
        ),
        Field::new(
            SpanColumn::SpanId.name(),
            id_type(options.ids, SPAN_ID_BYTES),
            true,
        ),
        Field::new(SpanColumn::TraceState.name(), DataType::Utf8, true),
        Field::new(SpanColumn::Flags.name(), DataType::UInt32, false),
    ];
    fields.extend(attribute_fields());
    Fields::from(fields)
}

/// What events and links say of their attributes.
fn attribute_fields() -> [Field; 3] {
    [
        Field::new(SpanColumn::Attributes.name(), map_type(), false),
        Field::new(ATTRIBUTES_JSON, DataType::Utf8, false),
        Field::new(DROPPED_ATTRIBUTES, DataType::UInt32, false),
    ]
}

/// Key and value of a map.
pub(super) fn entry_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ])
}

/// The entries of a map.
pub(super) fn entries() -> FieldRef {
    let entry = DataType::Struct(entry_fields());
    Arc::new(Field::new("key_value", entry, false))
}

fn map_type() -> DataType {
    DataType::Map(entries(), false)
}

/// The elements of a list.
pub(super) fn element(fields: Fields) -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(fields), false))
}

fn list_type(fields: Fields) -> DataType {
    DataType::List(element(fields))
}

pub(super) fn id_type(form: IdForm, bytes: i32) -> DataType {
    match form {
        IdForm::Hex => DataType::Utf8,
        IdForm::Bytes => DataType::FixedSizeBinary(bytes),
    }
}

pub(super) fn time_type(precision: TimePrecision) -> DataType {
    let unit = match precision {
        TimePrecision::Nanoseconds => TimeUnit::Nanosecond,
        TimePrecision::Microseconds => TimeUnit::Microsecond,
    };
    DataType::Timestamp(unit, Some(Arc::from("UTC")))
}
