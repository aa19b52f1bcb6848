//! OTLP spans into columns.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeBinaryBuilder, Int32Builder, Int64Array, Int64Builder,
    RecordBatch, TimestampNanosecondArray, TimestampNanosecondBuilder, UInt32Builder,
    new_null_array,
};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use prost::Message;

use super::column::{SpanColumn, schema};
use super::encoded::EncodedSpan;
use super::mapping::{self, Mapped, TextBytes};
use super::origin::{self, Origin};
use super::request::ResourceOrScope;
use super::views::{Blobs, Texts};
use crate::error::FormatError;
use crate::id::TeamId;
use crate::otlp::{InstrumentationScope, Resource, Span};
use crate::table::ColumnType;

/// A number that no resource and no scope had before in the process.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What all spans of one resource share.
#[derive(Debug)]
pub struct ResourceContext<'a> {
    /// Tells it from all others.
    number: u64,
    mapped: Mapped<'a>,
    encoded: Option<Vec<u8>>,
    schema_url: &'a str,
}

impl<'a> ResourceContext<'a> {
    /// Reads a resource once for all its spans.
    pub fn new(resource: Option<&'a Resource>, schema_url: &'a str) -> Self {
        Self {
            number: next_number(),
            mapped: resource
                .map(|resource| Mapped::of(&resource.attributes))
                .unwrap_or_default(),
            encoded: resource.map(Message::encode_to_vec),
            schema_url,
        }
    }

    /// The encoded `Resource` message, if there was one.
    pub fn encoded(&self) -> Option<&[u8]> {
        self.encoded.as_deref()
    }

    /// The message and the schema URL.
    pub fn shared(&self) -> ResourceOrScope<'_> {
        ResourceOrScope {
            encoded: self.encoded(),
            schema_url: self.schema_url,
        }
    }
}

/// What all spans of one instrumentation scope share.
#[derive(Debug)]
pub struct ScopeContext<'a> {
    /// Tells it from all others.
    number: u64,
    scope: Option<&'a InstrumentationScope>,
    encoded: Option<Vec<u8>>,
    schema_url: &'a str,
}

impl<'a> ScopeContext<'a> {
    /// Reads a scope once for all its spans.
    pub fn new(scope: Option<&'a InstrumentationScope>, schema_url: &'a str) -> Self {
        Self {
            number: next_number(),
            scope,
            encoded: scope.map(Message::encode_to_vec),
            schema_url,
        }
    }

    /// The encoded `InstrumentationScope` message, if there was one.
    pub fn encoded(&self) -> Option<&[u8]> {
        self.encoded.as_deref()
    }

    /// The message and the schema URL.
    pub fn shared(&self) -> ResourceOrScope<'_> {
        ResourceOrScope {
            encoded: self.encoded(),
            schema_url: self.schema_url,
        }
    }

    fn name(&self) -> &'a str {
        self.scope.map_or("", |scope| scope.name.as_str())
    }
}

/// What the attributes of a span, its resource and its scope tell together.
#[derive(Debug)]
pub struct Classified<'a> {
    mapped: Mapped<'a>,
    origin: Origin,
}

impl<'a> Classified<'a> {
    /// Classifies a span.
    pub fn of(span: &'a Span, resource: &ResourceContext<'a>, scope: &ScopeContext<'_>) -> Self {
        let mapped = Mapped::of(&span.attributes).or(&resource.mapped);
        let service = mapped.text(SpanColumn::Service);
        let origin = Origin::of(
            service.as_deref(),
            scope.name(),
            &span.name,
            span.kind,
            &span.attributes,
        );
        Self { mapped, origin }
    }

    /// Whether the user's own code made the span in the edge runtime, whose
    /// custom spans the feature excludes.
    pub fn is_custom_edge_span(&self) -> bool {
        self.origin == Origin::User && self.text(SpanColumn::Runtime).as_deref() == Some("edge")
    }

    /// The text of a mapped column.
    pub fn text(&self, column: SpanColumn) -> Option<Cow<'a, str>> {
        self.mapped.text(column)
    }

    /// Bytes of the attribute values that columns of texts are taken from.
    pub fn text_bytes(&self) -> TextBytes {
        self.mapped.text_bytes()
    }
}

/// Rows for which room is made before they come.
pub(super) const RESERVED_ROWS: usize = 1_024;

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few, most of them texts"
)]
enum MappedBuilder {
    Text(Texts),
    Integer(Int32Builder),
    Boolean(BooleanBuilder),
}

/// Builds the columns of [`schema`] from spans.
///
/// The caller has checked each span: its ids have their lengths and its start
/// fits 63 bits.
#[derive(Debug)]
pub struct ColumnsBuilder {
    team: TeamId,
    rows: usize,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    parent_span_id: FixedSizeBinaryBuilder,
    start_time: TimestampNanosecondBuilder,
    duration: Int64Builder,
    end_before_start: BooleanBuilder,
    name: Texts,
    kind: Texts,
    origin: Texts,
    status: Texts,
    status_message: Texts,
    level: Texts,
    mapped: Vec<(SpanColumn, MappedBuilder)>,
    trace_state: Texts,
    flags: UInt32Builder,
    scope_name: Texts,
    scope_version: Texts,
    attributes: Blobs,
    resource_attributes: Blobs,
    scope: Blobs,
    resource_schema_url: Texts,
    scope_schema_url: Texts,
    events: Blobs,
    links: Blobs,
    rest: Blobs,
    /// Numbers of the resource and of the scope of the last row.
    last_resource: u64,
    last_scope: u64,
}

impl ColumnsBuilder {
    /// A builder for about `rows` spans of one team.
    pub fn new(team: &TeamId, rows: usize) -> Self {
        let texts = || Texts::with_capacity(rows);
        let blobs = || Blobs::with_capacity(rows);
        // Rows may fall into other months than expected; large batches grow.
        let rows = rows.min(RESERVED_ROWS);
        Self {
            team: team.clone(),
            rows: 0,
            trace_id: FixedSizeBinaryBuilder::with_capacity(rows, 16),
            span_id: FixedSizeBinaryBuilder::with_capacity(rows, 8),
            parent_span_id: FixedSizeBinaryBuilder::with_capacity(rows, 8),
            start_time: TimestampNanosecondBuilder::with_capacity(rows),
            duration: Int64Builder::with_capacity(rows),
            end_before_start: BooleanBuilder::with_capacity(rows),
            name: texts(),
            kind: texts(),
            origin: texts(),
            status: texts(),
            status_message: texts(),
            level: texts(),
            mapped: mapping::columns()
                .iter()
                .map(|column| {
                    let builder = match column.description().value {
                        ColumnType::Int32 => {
                            MappedBuilder::Integer(Int32Builder::with_capacity(rows))
                        }
                        ColumnType::Boolean => {
                            MappedBuilder::Boolean(BooleanBuilder::with_capacity(rows))
                        }
                        _ => MappedBuilder::Text(texts()),
                    };
                    (*column, builder)
                })
                .collect(),
            trace_state: texts(),
            flags: UInt32Builder::with_capacity(rows),
            scope_name: texts(),
            scope_version: texts(),
            attributes: blobs(),
            resource_attributes: blobs(),
            scope: blobs(),
            resource_schema_url: texts(),
            scope_schema_url: texts(),
            events: blobs(),
            links: blobs(),
            rest: blobs(),
            last_resource: 0,
            last_scope: 0,
        }
    }

    /// Adds a span as the next row.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when an id has the wrong length, the start
    /// exceeds 63 bits, or a text has 4 GiB: the caller did not check the span.
    /// Nothing can be added after an error.
    pub fn append(
        &mut self,
        span: &Span,
        classified: &Classified<'_>,
        encoded: &EncodedSpan<'_>,
        resource: &ResourceContext<'_>,
        scope: &ScopeContext<'_>,
    ) -> Result<(), FormatError> {
        let row = self.rows as u64;
        self.append_row(span, classified, encoded, resource, scope)
            .map_err(|error| {
                FormatError::malformed("span", row, "a checked span", error.to_string())
            })
    }

    fn append_row(
        &mut self,
        span: &Span,
        classified: &Classified<'_>,
        encoded: &EncodedSpan<'_>,
        resource: &ResourceContext<'_>,
        scope: &ScopeContext<'_>,
    ) -> Result<(), ArrowError> {
        let start = i64::try_from(span.start_time_unix_nano).map_err(|_| {
            ArrowError::InvalidArgumentError("a start of 2^63 ns or more".to_owned())
        })?;
        self.rows += 1;
        self.trace_id.append_value(&span.trace_id)?;
        self.span_id.append_value(&span.span_id)?;
        match span.parent_span_id.as_slice() {
            [] => self.parent_span_id.append_null(),
            id => self.parent_span_id.append_value(id)?,
        }
        self.start_time.append_value(start);

        let end = i64::try_from(span.end_time_unix_nano).unwrap_or(i64::MAX);
        let reversed = span.end_time_unix_nano < span.start_time_unix_nano;
        self.duration
            .append_value(if reversed { 0 } else { end - start });
        self.end_before_start
            .append_option(reversed.then_some(true));
        let is_end_lost = reversed || end == i64::MAX;
        self.append_rest(span, is_end_lost)?;

        self.append_classified(span, classified)?;
        self.name.append_value(&span.name)?;
        self.kind.append_value(kind_text(span.kind))?;
        match &span.status {
            Some(status) => {
                self.status.append_value(status_text(status.code))?;
                self.status_message.append_value(&status.message)?;
            }
            None => {
                self.status.append_value("unset")?;
                self.status_message.append_null();
            }
        }
        self.trace_state
            .append_option(not_empty(&span.trace_state))?;
        self.flags.append_value(span.flags);
        self.scope_name.append_option(not_empty(scope.name()))?;
        let version = scope.scope.map_or("", |scope| scope.version.as_str());
        self.scope_version.append_option(not_empty(version))?;
        self.attributes.append_option(encoded.attributes())?;
        // Large messages are not compared with the last one for each of their spans.
        match resource.encoded() {
            Some(_) if self.last_resource == resource.number => {
                self.resource_attributes.append_again();
            }
            encoded => self.resource_attributes.append_option(encoded)?,
        }
        match scope.encoded() {
            Some(_) if self.last_scope == scope.number => self.scope.append_again(),
            encoded => self.scope.append_option(encoded)?,
        }
        (self.last_resource, self.last_scope) = (resource.number, scope.number);
        self.resource_schema_url
            .append_option(not_empty(resource.schema_url))?;
        self.scope_schema_url
            .append_option(not_empty(scope.schema_url))?;
        self.events.append_option(encoded.events())?;
        self.links.append_option(encoded.links())
    }

    fn append_classified(
        &mut self,
        span: &Span,
        classified: &Classified<'_>,
    ) -> Result<(), ArrowError> {
        let Classified { mapped, origin } = classified;
        self.origin.append_value(origin.as_str())?;
        let is_error = span
            .status
            .as_ref()
            .is_some_and(|status| status.code == STATUS_ERROR);
        let status_code = mapped.integer(SpanColumn::StatusCode);
        self.level
            .append_value(origin::level(&span.attributes, is_error, status_code))?;
        for (column, builder) in &mut self.mapped {
            let column = *column;
            match builder {
                MappedBuilder::Integer(builder) => builder.append_option(mapped.integer(column)),
                MappedBuilder::Boolean(builder) => builder.append_option(mapped.boolean(column)),
                MappedBuilder::Text(builder) => match mapped.text(column) {
                    Some(text) if mapped.is_of_resource(column) => {
                        builder.append_of_resource(text)?;
                    }
                    Some(text) => builder.append_value(text)?,
                    None if column == SpanColumn::Resource && *origin == Origin::Infra => {
                        builder.append_option(origin::resource_of_infra_span(&span.name))?;
                    }
                    None => builder.append_null(),
                },
            }
        }
        Ok(())
    }

    fn append_rest(&mut self, span: &Span, is_end_lost: bool) -> Result<(), ArrowError> {
        let rest = Span {
            end_time_unix_nano: if is_end_lost {
                span.end_time_unix_nano
            } else {
                0
            },
            dropped_attributes_count: span.dropped_attributes_count,
            dropped_events_count: span.dropped_events_count,
            dropped_links_count: span.dropped_links_count,
            ..Span::default()
        };
        let bytes = rest.encode_to_vec();
        self.rest
            .append_option(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// The rows so far, in the order they came. `trace_start` is each span's
    /// own start; the seal sets it. `sequence` is 0; the writer sets it.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the columns do not form a batch.
    pub fn finish(self) -> Result<RecordBatch, FormatError> {
        self.batch()
            .map_err(|error| FormatError::malformed("columns", 0, "a batch", error.to_string()))
    }

    fn batch(mut self) -> Result<RecordBatch, ArrowError> {
        use SpanColumn as Span;
        let texts = &new_null_array(&DataType::Utf8View, self.rows);
        let blobs = &new_null_array(&DataType::BinaryView, self.rows);
        let mut team = Texts::with_capacity(self.rows);
        for _ in 0..self.rows {
            team.append_value(self.team.as_str())?;
        }
        let start_time = Arc::new(self.start_time.finish().with_timezone("UTC"));
        let mut columns: Vec<(Span, ArrayRef)> = vec![
            (Span::TeamId, team.finish(texts)?),
            (Span::TraceId, Arc::new(self.trace_id.finish())),
            (Span::SpanId, Arc::new(self.span_id.finish())),
            (Span::ParentSpanId, Arc::new(self.parent_span_id.finish())),
            (
                Span::TraceStart,
                Arc::<TimestampNanosecondArray>::clone(&start_time),
            ),
            (Span::StartTime, start_time),
            (Span::Duration, Arc::new(self.duration.finish())),
            (
                Span::EndBeforeStart,
                Arc::new(self.end_before_start.finish()),
            ),
            (Span::Name, self.name.finish(texts)?),
            (Span::Kind, self.kind.finish(texts)?),
            (Span::Origin, self.origin.finish(texts)?),
            (Span::Status, self.status.finish(texts)?),
            (Span::StatusMessage, self.status_message.finish(texts)?),
            (Span::Level, self.level.finish(texts)?),
            (Span::TraceState, self.trace_state.finish(texts)?),
            (Span::Flags, Arc::new(self.flags.finish())),
            (Span::ScopeName, self.scope_name.finish(texts)?),
            (Span::ScopeVersion, self.scope_version.finish(texts)?),
            (
                Span::Sequence,
                Arc::new(Int64Array::from_value(0, self.rows)),
            ),
            (Span::Attributes, self.attributes.finish(blobs)?),
            (
                Span::ResourceAttributes,
                self.resource_attributes.finish(blobs)?,
            ),
            (Span::Scope, self.scope.finish(blobs)?),
            (
                Span::ResourceSchemaUrl,
                self.resource_schema_url.finish(texts)?,
            ),
            (Span::ScopeSchemaUrl, self.scope_schema_url.finish(texts)?),
            (Span::Events, self.events.finish(blobs)?),
            (Span::Links, self.links.finish(blobs)?),
            (Span::Rest, self.rest.finish(blobs)?),
        ];
        for (column, builder) in self.mapped {
            let values: ArrayRef = match builder {
                MappedBuilder::Text(builder) => builder.finish(texts)?,
                MappedBuilder::Integer(mut builder) => Arc::new(builder.finish()),
                MappedBuilder::Boolean(mut builder) => Arc::new(builder.finish()),
            };
            columns.push((column, values));
        }
        columns.sort_unstable_by_key(|(column, _)| *column);
        let columns = columns.into_iter().map(|(_, values)| values).collect();
        RecordBatch::try_new(schema(), columns)
    }
}

/// Memory that rows take, in bytes, about. Columns that are null throughout share
/// theirs.
pub fn memory_of(rows: &RecordBatch) -> usize {
    let mut columns: Vec<&ArrayRef> = rows.columns().iter().collect();
    columns.sort_unstable_by_key(|column| Arc::as_ptr(column).addr());
    columns.dedup_by(|one, other| Arc::ptr_eq(one, other));
    columns
        .iter()
        .map(|column| column.get_array_memory_size())
        .sum()
}

/// Rows with the columns of spans, with another value of `sequence`.
///
/// # Errors
/// [`ArrowError`] when the batch has other columns.
pub fn with_sequence(rows: &RecordBatch, sequence: i64) -> Result<RecordBatch, ArrowError> {
    let mut columns = rows.columns().to_vec();
    if let Some(column) = columns.get_mut(SpanColumn::Sequence.place()) {
        *column = Arc::new(Int64Array::from_value(sequence, rows.num_rows()));
    }
    RecordBatch::try_new(rows.schema(), columns)
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// OpenTelemetry's number of an error status.
pub(crate) const STATUS_ERROR: i32 = 2;

pub(super) const KINDS: &[&str] = &[
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
];
pub(super) const STATUSES: &[&str] = &["unset", "ok", "error"];

/// The value of the column `kind` for OTLP's number.
pub fn kind_text(kind: i32) -> Cow<'static, str> {
    name_of(KINDS, kind)
}

/// OTLP's number for a value of the column `kind`.
pub fn kind_number(text: &str) -> Option<i32> {
    number_of(KINDS, text)
}

/// The value of the column `status` for OTLP's number.
pub fn status_text(code: i32) -> Cow<'static, str> {
    name_of(STATUSES, code)
}

/// OTLP's number for a value of the column `status`.
pub fn status_number(text: &str) -> Option<i32> {
    number_of(STATUSES, text)
}

fn name_of(names: &[&'static str], number: i32) -> Cow<'static, str> {
    let name = usize::try_from(number)
        .ok()
        .and_then(|place| names.get(place));
    name.map_or_else(
        || Cow::Owned(number.to_string()),
        |name| Cow::Borrowed(*name),
    )
}

fn number_of(names: &[&str], text: &str) -> Option<i32> {
    match names.iter().position(|name| *name == text) {
        Some(place) => i32::try_from(place).ok(),
        None => text.parse().ok(),
    }
}
