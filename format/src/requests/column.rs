//! The one table of the columns of a request: name, type, encoding, and which span each
//! comes from.

use std::sync::LazyLock;

use crate::span::SpanColumn;
use crate::span::origin::{LEVELS, Origin};
use crate::table::{
    Codec, Encoding, Roles, Statistics, Table, TableColumn, ValueSet, table_columns,
};

/// Where the value of a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From all spans of the trace.
    Trace,
    /// From the root, or the span that stands for it.
    Root(SpanColumn),
    /// From the root, else from the earliest span that has a value.
    RootOrEarliest(SpanColumn),
}

macro_rules! request_columns {
    ($($(#[doc = $doc:literal])* $variant:ident: $column:expr, $source:expr;)*) => {
        table_columns! {
            /// A column of a request.
            ///
            /// The root is the earliest span without a parent. If there is none, the
            /// earliest server span whose parent is not in the trace stands for it; if there
            /// is none either, the earliest span. Of spans that start together the one with
            /// the lesser id comes first, of versions of a span the one that came first.
            RequestColumn;
            $($(#[doc = $doc])* $variant: $column;)*
        }

        impl RequestColumn {
            /// Where its values come from.
            pub fn source(self) -> Source {
                match self {
                    $(Self::$variant => $source,)*
                }
            }
        }
    };
}

/// A column of texts that a request may lack.
const fn text(name: &'static str) -> TableColumn {
    TableColumn::text(name).nullable()
}

/// A column of numbers that each request has, and that requests may be ordered by.
const fn number(name: &'static str) -> TableColumn {
    TableColumn::int64(name)
        .encoded(Encoding::Delta)
        .with_statistics(Statistics::Page)
}

request_columns! {
    /// The tenant.
    TeamId: TableColumn::text("team_id").hidden(), Source::Trace;
    /// The trace.
    TraceId: TableColumn::id("trace_id", 16), Source::Trace;
    /// The request; null when no span has one.
    RequestId: text("request_id").compressed(Codec::Zstd),
        Source::RootOrEarliest(SpanColumn::RequestId);
    /// The tracing session; null when no span has one.
    SessionId: text("session_id"), Source::RootOrEarliest(SpanColumn::SessionId);
    /// The user; null when no span has one.
    UserId: text("user_id"), Source::RootOrEarliest(SpanColumn::UserId);
    /// When the earliest span started, ns UTC.
    StartTime: TableColumn::time("start_time").encoded(Encoding::Delta), Source::Trace;
    /// When the last span ended, ns UTC.
    EndTime: TableColumn::time("end_time")
        .encoded(Encoding::Delta).with_statistics(Statistics::RowGroup), Source::Trace;
    /// End minus start, ns.
    Duration: number("duration"), Source::Trace;
    /// The name of the root.
    Name: TableColumn::text("name").facet(), Source::Root(SpanColumn::Name);
    /// The service of the root.
    Service: text("service").facet(), Source::Root(SpanColumn::Service);
    /// The services of all spans: a JSON array of texts, sorted.
    Services: TableColumn::text("services").facet(), Source::Trace;
    /// Who made the root.
    Origin: TableColumn::text("origin")
        .with_values(ValueSet::of(Origin::NAMES)).facet(),
        Source::Root(SpanColumn::Origin);
    /// The HTTP method of the root.
    Method: text("method").facet(), Source::Root(SpanColumn::Method);
    /// The host of the root.
    Host: text("host").facet(), Source::Root(SpanColumn::Host);
    /// The path of the root.
    Path: text("path"), Source::Root(SpanColumn::Path);
    /// The route of the root.
    Route: text("route").facet(), Source::Root(SpanColumn::Route);
    /// The HTTP status code of the root.
    StatusCode: TableColumn::int32("status_code").nullable().facet(),
        Source::Root(SpanColumn::StatusCode);
    /// What kind of thing the root asked for.
    RequestType: text("request_type").facet(), Source::Root(SpanColumn::RequestType);
    /// What answered, as the root says.
    Resource: text("resource").facet(), Source::Root(SpanColumn::Resource);
    /// What answered, as all spans say: a JSON array of texts, sorted.
    Resources: TableColumn::text("resources").facet(), Source::Trace;
    /// The function that ran; null when no span has one.
    Function: text("function").facet(), Source::RootOrEarliest(SpanColumn::Function);
    /// What the cache answered, as the root says.
    Cache: text("cache").facet(), Source::Root(SpanColumn::Cache);
    /// Why it did.
    CacheReason: text("cache_reason"), Source::Root(SpanColumn::CacheReason);
    /// The project of the root.
    ProjectId: text("project_id"), Source::Root(SpanColumn::ProjectId);
    /// The environment of the root.
    Environment: text("environment").facet(), Source::Root(SpanColumn::Environment);
    /// The deployment of the root.
    DeploymentId: text("deployment_id").facet(), Source::Root(SpanColumn::DeploymentId);
    /// The branch of the root.
    Branch: text("branch").facet(), Source::Root(SpanColumn::Branch);
    /// The region of the root.
    Region: text("region").facet(), Source::Root(SpanColumn::Region);
    /// The address of the client, as the root says.
    ClientAddress: text("client_address"), Source::Root(SpanColumn::ClientAddress);
    /// The user agent of the client, as the root says.
    UserAgent: text("user_agent"), Source::Root(SpanColumn::UserAgent);
    /// How many spans there are.
    Spans: number("spans"), Source::Trace;
    /// How many of them have the level `error` or `fatal`.
    Errors: number("errors"), Source::Trace;
    /// How many of them have the level `warning`.
    Warnings: number("warnings"), Source::Trace;
    /// The level of the worst span: `info`, `warning`, `error`, `fatal`.
    Level: TableColumn::text("level")
        .with_values(ValueSet::ordered(LEVELS)).facet(), Source::Trace;
    /// Whether a function had to be started: true if a span says so, false if one denies it
    /// and none says so, else null.
    ColdStart: TableColumn::boolean("cold_start").nullable(), Source::Trace;
    /// Whether there is a span without a parent.
    HasRoot: TableColumn::boolean("has_root"), Source::Trace;
    /// Whether there is a span without a parent, and the parent of each other span.
    Complete: TableColumn::boolean("complete"), Source::Trace;
    /// Whether the spans lie in several segments, or in one and in memory, at the moment.
    Split: TableColumn::boolean("split"), Source::Trace;
    /// In a segment the number of the row of the first span; the others follow it.
    FirstSpan: TableColumn::uint32("first_span").encoded(Encoding::Delta).hidden(),
        Source::Trace;
    /// The greatest sequence of a span.
    LastSequence: number("last_sequence").hidden(), Source::Trace;
}

/// The columns of spans that columns of requests have values of.
pub fn sources() -> impl Iterator<Item = SpanColumn> {
    let columns = RequestColumn::ALL.iter();
    columns.filter_map(|column| match column.source() {
        Source::Root(column) | Source::RootOrEarliest(column) => Some(column),
        Source::Trace => None,
    })
}

/// The table of requests.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        const ORDER: &[usize] = &[
            RequestColumn::TeamId.place(),
            RequestColumn::StartTime.place(),
            RequestColumn::TraceId.place(),
        ];
        const IDENTITY: &[usize] = &[RequestColumn::TraceId.place()];
        // The spans of an id tell which requests have it.
        let (team, start) = (
            RequestColumn::TeamId.place(),
            RequestColumn::StartTime.place(),
        );
        let roles = Roles::plain(team, start, ORDER, IDENTITY);
        Table::new("requests", 1, COLUMNS, roles)
    });
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_one_name_hold_values_of_one_type() {
        for column in RequestColumn::ALL {
            assert_eq!(RequestColumn::of_name(column.name()), Some(*column));
            if let Some(of_spans) = SpanColumn::of_name(column.name()) {
                let (one, other) = (column.description(), of_spans.description());
                assert_eq!(one.value, other.value, "{}", column.name());
            }
        }
    }

    #[test]
    fn a_column_of_the_root_is_that_of_the_span() {
        for column in RequestColumn::ALL {
            let (Source::Root(span) | Source::RootOrEarliest(span)) = column.source() else {
                continue;
            };
            let (one, other) = (column.description(), span.description());
            assert_eq!((one.name, one.value), (other.name, other.value));
            assert_eq!(one.values, other.values, "{}", one.name);
            assert!(one.is_nullable || !other.is_nullable, "{}", column.name());
        }
    }
}
