//! Rows of the store into rows of the interchange form.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Builder};

use super::attributes::{Attributes, Written};
use super::events::Events;
use super::links::Links;
use super::schema::{
    ATTRIBUTES_JSON, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS, END_TIME,
    RESOURCE_ATTRIBUTES_JSON, SCOPE_ATTRIBUTES, SCOPE_ATTRIBUTES_JSON, schema,
};
use super::times::Times;
use super::{InterchangeOptions, columns_error, ids, texts, times};
use crate::error::FormatError;
use crate::otlp::Span;
use crate::span::SpanColumn;
use crate::span::restore::SpanColumns;
use crate::table::ColumnType;

/// Bytes of texts and messages after which a piece ends.
const PIECE_BYTES: usize = 16 << 20;

/// A batch with the [columns of a span](SpanColumn) as one with the
/// columns of [`schema`].
///
/// # Errors
/// [`FormatError::Malformed`] when a column is missing or of another type, a stored
/// message is not protobuf, or a column would have 2 GiB: [`pieces`] do not.
pub fn convert(
    spans: &RecordBatch,
    options: InterchangeOptions,
) -> Result<RecordBatch, FormatError> {
    convert_rows(spans, 0..spans.num_rows(), options)
}

/// The rows of a batch in batches of bounded size, however large their messages are:
/// a resource that rows share is written into each. Ends at the first error.
///
/// # Errors
/// As [`convert`].
pub fn pieces(
    spans: &RecordBatch,
    options: InterchangeOptions,
) -> impl Iterator<Item = Result<RecordBatch, FormatError>> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let end = end_of_piece(spans, first)?;
        let piece = convert_rows(spans, first..end, options);
        first = if piece.is_ok() { end } else { spans.num_rows() };
        Some(piece)
    })
}

/// Where the piece ends that begins with a row; nothing behind the last row.
fn end_of_piece(spans: &RecordBatch, first: usize) -> Option<usize> {
    let mut bytes = 0;
    (first..spans.num_rows())
        .find(|row| {
            bytes += view_bytes(spans, *row);
            *row > first && bytes > PIECE_BYTES
        })
        .or_else(|| (first < spans.num_rows()).then(|| spans.num_rows()))
}

/// Bytes of the texts and messages of a row.
fn view_bytes(spans: &RecordBatch, row: usize) -> usize {
    let bytes = spans.columns().iter().map(|column| {
        if let Some(texts) = column.as_string_view_opt() {
            texts.value(row).len()
        } else if let Some(messages) = column.as_binary_view_opt() {
            messages.value(row).len()
        } else {
            0
        }
    });
    bytes.sum()
}

fn convert_rows(
    spans: &RecordBatch,
    rows: Range<usize>,
    options: InterchangeOptions,
) -> Result<RecordBatch, FormatError> {
    let mut decoded = Decoded::of(spans, rows.clone(), options)?;
    let stored = spans.slice(rows.start, rows.len());
    let schema = schema(options);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name().as_str();
        columns.push(match decoded.take(name) {
            Some(column) => column,
            None => column_of_stored(&stored, name, options)?,
        });
    }
    RecordBatch::try_new(schema, columns).map_err(columns_error)
}

/// A column that needs no message.
fn column_of_stored(
    stored: &RecordBatch,
    name: &str,
    options: InterchangeOptions,
) -> Result<ArrayRef, FormatError> {
    let column = SpanColumn::of_name(name)
        .ok_or_else(|| FormatError::malformed("columns", 0, "a column of spans", name))?;
    match column.description().value {
        ColumnType::Id(_) => ids::of_stored(column.ids(stored)?, options.ids),
        ColumnType::Time => Ok(times::of_stored(column.times(stored)?, options.times)),
        ColumnType::Text => texts::of_views(column.texts(stored)?),
        _ => Ok(Arc::clone(column.of(stored)?)),
    }
}

/// The columns that are made of messages, by their names.
struct Decoded(Vec<(&'static str, ArrayRef)>);

impl Decoded {
    fn of(
        spans: &RecordBatch,
        rows: Range<usize>,
        options: InterchangeOptions,
    ) -> Result<Self, FormatError> {
        let columns = SpanColumns::of(spans)?;
        let mut builder = Builder::new(options);
        let mut resource = Written::default();
        let mut scope = Written::default();
        for row in rows.clone() {
            let is_first = row == rows.start;
            if is_first || !columns.same_resource(row, row - 1) {
                let found = columns.resource(row)?.unwrap_or_default();
                resource = Written::of(&found.attributes);
            }
            if is_first || !columns.same_scope(row, row - 1) {
                let found = columns.scope(row)?.unwrap_or_default();
                scope = Written::of(&found.attributes);
            }
            builder.append(&columns.span(row)?, &resource, &scope)?;
        }
        builder.finish()
    }

    fn take(&mut self, name: &str) -> Option<ArrayRef> {
        let place = self.0.iter().position(|(found, _)| *found == name)?;
        Some(self.0.swap_remove(place).1)
    }
}

/// Builds them.
struct Builder {
    end_time: Times,
    attributes: Attributes,
    resource_attributes: Attributes,
    scope_attributes: Attributes,
    events: Events,
    links: Links,
    dropped_attributes: UInt32Builder,
    dropped_events: UInt32Builder,
    dropped_links: UInt32Builder,
}

impl Builder {
    fn new(options: InterchangeOptions) -> Self {
        Self {
            end_time: Times::new(options.times),
            attributes: Attributes::default(),
            resource_attributes: Attributes::default(),
            scope_attributes: Attributes::default(),
            events: Events::new(options),
            links: Links::new(options),
            dropped_attributes: UInt32Builder::new(),
            dropped_events: UInt32Builder::new(),
            dropped_links: UInt32Builder::new(),
        }
    }

    fn append(
        &mut self,
        span: &Span,
        resource: &Written,
        scope: &Written,
    ) -> Result<(), FormatError> {
        self.end_time.append(span.end_time_unix_nano);
        self.attributes.append(&Written::of(&span.attributes))?;
        self.resource_attributes.append(resource)?;
        self.scope_attributes.append(scope)?;
        self.events.append(&span.events)?;
        self.links.append(&span.links)?;
        self.dropped_attributes
            .append_value(span.dropped_attributes_count);
        self.dropped_events.append_value(span.dropped_events_count);
        self.dropped_links.append_value(span.dropped_links_count);
        Ok(())
    }

    fn finish(mut self) -> Result<Decoded, FormatError> {
        let [attributes, attributes_json] = self.attributes.finish()?;
        let [resource_attributes, resource_json] = self.resource_attributes.finish()?;
        let [scope_attributes, scope_json] = self.scope_attributes.finish()?;
        Ok(Decoded(vec![
            (END_TIME, self.end_time.finish()),
            (SpanColumn::Attributes.name(), attributes),
            (ATTRIBUTES_JSON, attributes_json),
            (SpanColumn::ResourceAttributes.name(), resource_attributes),
            (RESOURCE_ATTRIBUTES_JSON, resource_json),
            (SCOPE_ATTRIBUTES, scope_attributes),
            (SCOPE_ATTRIBUTES_JSON, scope_json),
            (SpanColumn::Events.name(), self.events.finish()?),
            (SpanColumn::Links.name(), self.links.finish()?),
            (
                DROPPED_ATTRIBUTES,
                Arc::new(self.dropped_attributes.finish()),
            ),
            (DROPPED_EVENTS, Arc::new(self.dropped_events.finish())),
            (DROPPED_LINKS, Arc::new(self.dropped_links.finish())),
        ]))
    }
}
