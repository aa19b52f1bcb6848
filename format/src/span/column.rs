//! The one table of the columns of a span: name, type, encoding, and where each
//! comes from.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Int32Array, Int64Array,
    RecordBatch, StringViewArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampNanosecondType, UInt32Type};

use super::columns::{KINDS, STATUSES};
use super::mapping;
use super::origin::{LEVELS, Origin};
use crate::error::FormatError;
use crate::table::{
    Codec, Encoding, IndexedId, Missing, ParentColumns, Roles, SharedColumns, SharedKind,
    Statistics, Table, TableColumn, ValueSet, table_columns,
};

/// Where the value of a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the store: whose the row is and how it came in.
    Store,
    /// From fields of OTLP.
    Otlp,
    /// From a rule over fields and attributes (see [`origin`](super::origin)).
    Rule,
    /// From the first of these attributes that the span has, else from the first
    /// that its resource has.
    Attributes(ValueKind, &'static [&'static str]),
}

/// How a column reads the value of its attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// The text of the value; of an array, of its first element.
    Text,
    /// The text after the last `::`.
    LastPart,
    /// The path of a URL or of a request target.
    Path,
    /// The query of a URL or of a request target, without its `?`.
    Query,
    /// A 32-bit integer, or a text of one.
    Integer,
    /// A boolean, or a text of one.
    Boolean,
}

macro_rules! span_columns {
    ($($(#[doc = $doc:literal])* $variant:ident: $column:expr, $source:expr;)*) => {
        table_columns! {
            /// A column of a span.
            SpanColumn;
            $($(#[doc = $doc])* $variant: $column;)*
        }

        impl SpanColumn {
            /// Where its values come from.
            pub fn source(self) -> Source {
                match self {
                    $(Self::$variant => $source,)*
                }
            }
        }
    };
}

const fn text(name: &'static str) -> TableColumn {
    TableColumn::text(name)
}

/// A column of texts that a span may lack.
const fn mapped(name: &'static str) -> TableColumn {
    TableColumn::text(name).nullable()
}

/// A column of protobuf messages that a span may lack.
const fn messages(name: &'static str) -> TableColumn {
    TableColumn::bytes(name).nullable()
}

const fn from(keys: &'static [&'static str]) -> Source {
    Source::Attributes(ValueKind::Text, keys)
}

span_columns! {
    /// The tenant.
    TeamId: text("team_id").hidden(), Source::Store;
    /// OpenTelemetry's trace id, 16 bytes.
    TraceId: TableColumn::id("trace_id", 16).compressed(Codec::Zstd), Source::Otlp;
    /// OpenTelemetry's span id, 8 bytes.
    SpanId: TableColumn::id("span_id", 8).compressed(Codec::None), Source::Otlp;
    /// The span id of the parent, 8 bytes; null when there is none.
    ParentSpanId: TableColumn::id("parent_span_id", 8)
        .compressed(Codec::Zstd).nullable().with_statistics(Statistics::RowGroup),
        Source::Otlp;
    /// Earliest start of the trace among the rows stored together, ns UTC; equal
    /// in all its rows.
    TraceStart: TableColumn::time("trace_start")
        .encoded(Encoding::Plain).compressed(Codec::Zstd).hidden(), Source::Store;
    /// When the span started, ns UTC.
    StartTime: TableColumn::time("start_time").encoded(Encoding::Delta), Source::Otlp;
    /// End minus start, ns; 0 when the end lies before the start.
    Duration: TableColumn::int64("duration")
        .encoded(Encoding::Delta).compressed(Codec::None).with_statistics(Statistics::Page),
        Source::Otlp;
    /// True when the end lies before the start (the end as it came is in `rest`),
    /// else null.
    EndBeforeStart: TableColumn::boolean("end_before_start").nullable(), Source::Otlp;
    /// The span's name.
    Name: text("name").facet(), Source::Otlp;
    /// `unspecified`, `internal`, `server`, `client`, `producer`, `consumer`, or the
    /// number of a kind unknown to OpenTelemetry.
    Kind: text("kind").with_values(ValueSet::named(KINDS)).facet(), Source::Otlp;
    /// Who made the span: `infra`, `framework`, `user`, `fetch`.
    Origin: text("origin")
        .or(Missing::Text("user")).with_values(ValueSet::of(Origin::NAMES)).facet(), Source::Rule;
    /// `unset`, `ok`, `error`, or the number of an unknown code.
    Status: text("status").with_values(ValueSet::named(STATUSES)).facet(), Source::Otlp;
    /// The status's message; null when the span carried no status at all.
    StatusMessage: mapped("status_message"), Source::Otlp;
    /// `info`, `warning`, `error`, `fatal`.
    Level: text("level")
        .or(Missing::Text("info")).with_values(ValueSet::ordered(LEVELS)).facet(), Source::Rule;
    /// The tracing session.
    SessionId: mapped("session_id"), from(&["session.id"]);
    /// The request.
    RequestId: mapped("request_id").compressed(Codec::Zstd),
        Source::Attributes(ValueKind::LastPart,
            &["request.id", "vercel.request_id", "faas.invocation_id"]);
    /// The user.
    UserId: mapped("user_id"), from(&["user.id", "enduser.id", "enduser.pseudo.id"]);
    /// The service that made the span.
    Service: mapped("service").facet(), from(&["service.name"]);
    /// The project.
    ProjectId: mapped("project_id"),
        from(&["project.id", "vercel.projectId", "vercel.project_id"]);
    /// The environment, such as `production` or `preview`.
    Environment: mapped("environment").facet(),
        from(&["deployment.environment.name", "deployment.environment", "vercel.environment",
            "env"]);
    /// The deployment.
    DeploymentId: mapped("deployment_id").facet(),
        from(&["deployment.id", "vercel.deploymentId", "vercel.deployment_id",
            "service.version"]);
    /// The branch of the deployment.
    Branch: mapped("branch").facet(),
        from(&["vcs.ref.head.name", "vercel.branch", "vcs.repository.ref.name"]);
    /// The revision of the deployment.
    Sha: mapped("sha"),
        from(&["vcs.ref.head.revision", "vercel.sha", "vcs.repository.ref.revision"]);
    /// Where the span was made.
    Region: mapped("region").facet(),
        from(&["cloud.region", "vercel.region", "vercel.function.region",
            "vercel.execution_region", "faas.invoked_region", "vercel.edge_region"]);
    /// The runtime, such as `nodejs` or `edge`.
    Runtime: mapped("runtime"), from(&["process.runtime.name", "vercel.runtime"]);
    /// The host of a server span; of a client span the remote side.
    Host: mapped("host").facet(),
        from(&["server.address", "http.host", "vercel.proxy.host", "vercel.host",
            "net.peer.name"]);
    /// The HTTP method.
    Method: mapped("method").facet(),
        from(&["http.request.method", "http.method", "vercel.proxy.method"]);
    /// The route that the request matched.
    Route: mapped("route").facet(), from(&["http.route", "next.route", "vercel.matched_path"]);
    /// The path of the request, without its query.
    Path: mapped("path"),
        Source::Attributes(ValueKind::Path,
            &["url.path", "http.target", "vercel.proxy.path", "url.full", "http.url"]);
    /// What follows `?` in the request.
    UrlQuery: mapped("url_query"),
        Source::Attributes(ValueKind::Query,
            &["url.query", "http.target", "vercel.proxy.path", "url.full", "http.url"]);
    /// The HTTP status code, from integers and from texts of integers.
    StatusCode: TableColumn::int32("status_code").nullable().facet(),
        Source::Attributes(ValueKind::Integer,
            &["http.response.status_code", "http.status_code", "vercel.status_code",
                "vercel.proxy.status_code"]);
    /// What kind of thing was asked for.
    RequestType: mapped("request_type").facet(),
        from(&["vercel.path_type", "vercel.pathType", "vercel.proxy.path_type",
            "vercel.request_type", "faas.trigger"]);
    /// What answered; of infrastructure spans that do not say it, by their name.
    Resource: mapped("resource").facet(), from(&["vercel.source", "vercel.resource"]);
    /// The function that ran.
    Function: mapped("function").facet(), from(&["faas.name"]);
    /// What the cache answered.
    Cache: mapped("cache").facet(),
        from(&["vercel.cache", "http.response.header.x-vercel-cache",
            "vercel.proxy.vercel_cache", "vercel.proxy.vercelCache"]);
    /// Why it did.
    CacheReason: mapped("cache_reason"),
        from(&["vercel.cache_reason", "vercel.cache.reason",
            "http.response.header.x-vercel-cache-reason"]);
    /// The address of the client.
    ClientAddress: mapped("client_address"),
        from(&["client.address", "vercel.proxy.client_ip", "http.client_ip"]);
    /// The user agent of the client.
    UserAgent: mapped("user_agent"),
        from(&["user_agent.original", "http.user_agent", "vercel.proxy.user_agent"]);
    /// Whether the function had to be started.
    ColdStart: TableColumn::boolean("cold_start").nullable(),
        Source::Attributes(ValueKind::Boolean, &["faas.coldstart", "func.cold"]);
    /// The kind of error.
    ErrorType: mapped("error_type"), from(&["error.type"]);
    /// W3C's trace state, null when empty.
    TraceState: mapped("trace_state"), Source::Otlp;
    /// OpenTelemetry's flags.
    Flags: TableColumn::uint32("flags"), Source::Otlp;
    /// Name of the instrumentation scope, null when empty.
    ScopeName: mapped("scope_name"), Source::Otlp;
    /// Version of the instrumentation scope, null when empty.
    ScopeVersion: mapped("scope_version"), Source::Otlp;
    /// Sequence of the log record that brought the span: a row with a lower one was
    /// accepted earlier.
    Sequence: TableColumn::int64("sequence")
        .or(Missing::Zero).encoded(Encoding::Delta).compressed(Codec::None), Source::Store;
    /// Field 9 of OTLP's `Span`, with tags. This column, `events`, `links` and `rest`,
    /// one after the other, decode as one `Span`.
    Attributes: messages("attributes"), Source::Otlp;
    /// OTLP's `Resource`; null when there was none.
    ResourceAttributes: messages("resource_attributes"), Source::Otlp;
    /// OTLP's `InstrumentationScope`; null when there was none.
    Scope: messages("scope"), Source::Otlp;
    /// The resource's schema URL, null when empty.
    ResourceSchemaUrl: mapped("resource_schema_url"), Source::Otlp;
    /// The scope's schema URL, null when empty.
    ScopeSchemaUrl: mapped("scope_schema_url"), Source::Otlp;
    /// Field 11 of `Span`, likewise.
    Events: messages("events"), Source::Otlp;
    /// Field 13 of `Span`, likewise.
    Links: messages("links"), Source::Otlp;
    /// A `Span` with the fields that no other column carries.
    Rest: messages("rest"), Source::Otlp;
}

impl SpanColumn {
    /// The column in a batch that may have only some of the columns.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the batch does not have it.
    pub fn of(self, batch: &RecordBatch) -> Result<&ArrayRef, FormatError> {
        let place = self.place();
        let is_here = |place: usize| {
            let fields = batch.schema_ref().fields();
            fields
                .get(place)
                .is_some_and(|field| field.name() == self.name())
        };
        let column = if is_here(place) {
            batch.columns().get(place)
        } else {
            batch.column_by_name(self.name())
        };
        column.ok_or_else(|| self.is_not("no such column"))
    }

    /// The column as texts.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the batch has none such, as with the others
    /// below.
    pub fn texts(self, batch: &RecordBatch) -> Result<&StringViewArray, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_string_view_opt)
    }

    /// The column as bytes.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn bytes(self, batch: &RecordBatch) -> Result<&BinaryViewArray, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_binary_view_opt)
    }

    /// The column as ids.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn ids(self, batch: &RecordBatch) -> Result<&FixedSizeBinaryArray, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_fixed_size_binary_opt)
    }

    /// The column as times.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn times(self, batch: &RecordBatch) -> Result<&TimestampNanosecondArray, FormatError> {
        let cast = AsArray::as_primitive_opt::<TimestampNanosecondType>;
        self.typed(self.of(batch)?, cast)
    }

    /// The column as integers of 64 bits.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn int64s(self, batch: &RecordBatch) -> Result<&Int64Array, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_primitive_opt::<Int64Type>)
    }

    /// The column as integers of 32 bits.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn int32s(self, batch: &RecordBatch) -> Result<&Int32Array, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_primitive_opt::<Int32Type>)
    }

    /// The column as integers of 32 bits without a sign.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn uint32s(self, batch: &RecordBatch) -> Result<&UInt32Array, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_primitive_opt::<UInt32Type>)
    }

    /// The column as truths.
    ///
    /// # Errors
    /// As [`SpanColumn::texts`].
    pub fn booleans(self, batch: &RecordBatch) -> Result<&BooleanArray, FormatError> {
        self.typed(self.of(batch)?, AsArray::as_boolean_opt)
    }

    fn typed<'a, T>(
        self,
        column: &'a ArrayRef,
        cast: impl Fn(&'a dyn arrow::array::Array) -> Option<&'a T>,
    ) -> Result<&'a T, FormatError> {
        cast(column.as_ref()).ok_or_else(|| self.is_not(&column.data_type().to_string()))
    }

    fn is_not(self, found: &str) -> FormatError {
        FormatError::malformed(
            "columns",
            0,
            format!("the span column {}", self.name()),
            found,
        )
    }
}

/// The table of spans.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        const IDS: &[(IndexedId, usize)] = &[
            (IndexedId::Trace, SpanColumn::TraceId.place()),
            (IndexedId::Session, SpanColumn::SessionId.place()),
            (IndexedId::Request, SpanColumn::RequestId.place()),
        ];
        const ORDER: &[usize] = &[
            SpanColumn::TeamId.place(),
            SpanColumn::TraceStart.place(),
            SpanColumn::TraceId.place(),
            SpanColumn::StartTime.place(),
            SpanColumn::SpanId.place(),
        ];
        const IDENTITY: &[usize] = &[
            SpanColumn::TraceId.place(),
            SpanColumn::SpanId.place(),
            SpanColumn::Sequence.place(),
        ];
        const SHARED: &[SharedColumns] = &[
            SharedColumns {
                kind: SharedKind::Resources,
                number: TableColumn::uint32("resource_number").nullable().facet(),
                message: SpanColumn::ResourceAttributes.place(),
                schema_url: SpanColumn::ResourceSchemaUrl.place(),
                texts: &[],
            },
            SharedColumns {
                kind: SharedKind::Scopes,
                number: TableColumn::uint32("scope_number").nullable(),
                message: SpanColumn::Scope.place(),
                schema_url: SpanColumn::ScopeSchemaUrl.place(),
                // Fields of OTLP's `InstrumentationScope`.
                texts: &[
                    (SpanColumn::ScopeName.place(), 1),
                    (SpanColumn::ScopeVersion.place(), 2),
                ],
            },
        ];
        let roles = Roles {
            team: SpanColumn::TeamId.place(),
            start: SpanColumn::StartTime.place(),
            ids: IDS,
            order: ORDER,
            identity: IDENTITY,
            attributes: Some(SpanColumn::Attributes.place()),
            shared: SHARED,
            parent: Some(ParentColumns {
                id: SpanColumn::SpanId.place(),
                parent: SpanColumn::ParentSpanId.place(),
                trace: SpanColumn::TraceId.place(),
                distance: TableColumn::int32("parent_distance").nullable(),
            }),
        };
        Table::new("spans", mapping::VERSION, COLUMNS, roles)
    });
    &TABLE
}

/// The columns of a span in their order: the schema of every batch of rows
/// that goes into the store or comes out of it whole.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| table().schema());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_stands_at_its_place_under_a_name_of_its_own() {
        for (place, column) in SpanColumn::ALL.iter().enumerate() {
            assert_eq!(column.place(), place);
            assert_eq!(SpanColumn::of_name(column.name()), Some(*column));
            assert_eq!(schema().field(place).name(), column.name());
        }
        assert_eq!(COLUMNS.len(), SpanColumn::ALL.len());
    }

    #[test]
    fn the_specification_names_the_keys_of_each_column() {
        let specification = include_str!("../../../FORMAT.md");
        for column in SpanColumn::ALL {
            if let Source::Attributes(_, keys) = column.source() {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                let line = format!("| `{}` | {} |", column.name(), keys.join(", "));
                assert!(specification.lines().any(|found| found == line), "{line}");
            }
        }
    }

    #[test]
    fn what_is_not_indexed_by_page_has_no_page_statistics() {
        // Each costs every reader memory; only times and durations are asked for by page.
        for column in COLUMNS {
            let is_by_page = column.statistics == Statistics::Page;
            let is_time = column.value == crate::table::ColumnType::Time;
            let is_asked = is_time || column.name == SpanColumn::Duration.name();
            assert_eq!(is_by_page, is_asked, "{}", column.name);
        }
    }
}
