//! Spans of the tests of requests, and the requests that a naive look makes of them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type};
use spanstore::Team;
use spanstore::otlp::{
    ExportTraceServiceRequest, Resource, ResourceSpans, ScopeSpans, Span as OtlpSpan, Value,
};
use spanstore_format::id;
use spanstore_test_support::spans::{attribute, integer, text, trace_id};

/// A span by what requests ask of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    pub(super) trace: u64,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) start: i64,
    pub(super) duration: i64,
    /// OpenTelemetry's number: 1 is internal, 2 a server span, 3 a client span.
    pub(super) kind: i32,
    pub(super) name: String,
    pub(super) service: Option<&'static str>,
    /// What the attribute `level` says.
    pub(super) level: Option<&'static str>,
    pub(super) code: Option<i64>,
    pub(super) cold_start: Option<bool>,
    /// Attributes with texts.
    pub(super) texts: BTreeMap<&'static str, String>,
}

/// Columns of texts and the attributes that they come from.
const TEXTS: [(&str, &str); 17] = [
    ("session_id", "session.id"),
    ("request_id", "request.id"),
    ("user_id", "user.id"),
    ("method", "http.request.method"),
    ("host", "server.address"),
    ("path", "url.path"),
    ("route", "http.route"),
    ("request_type", "vercel.path_type"),
    ("resource", "vercel.source"),
    ("function", "faas.name"),
    ("cache", "vercel.cache"),
    ("cache_reason", "vercel.cache_reason"),
    ("project_id", "project.id"),
    ("environment", "deployment.environment.name"),
    ("deployment_id", "deployment.id"),
    ("branch", "vcs.ref.head.name"),
    ("region", "cloud.region"),
];
/// More of them.
const CLIENT: [(&str, &str); 2] = [
    ("client_address", "client.address"),
    ("user_agent", "user_agent.original"),
];

fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXTS.into_iter().chain(CLIENT)
}

impl Span {
    pub(super) fn with(mut self, column: &'static str, value: &str) -> Self {
        self.texts.insert(column, value.into());
        self
    }

    pub(super) fn level(&self) -> &'static str {
        match (self.level, self.code) {
            (Some(level), _) => level,
            (None, Some(-1)) => "fatal",
            (None, Some(500..)) => "error",
            (None, Some(400..)) => "warning",
            _ => "info",
        }
    }

    fn otlp(&self) -> OtlpSpan {
        let of = |(column, key)| Some(text(key, self.texts.get(column)?));
        let mut attributes: Vec<_> = texts().filter_map(of).collect();
        attributes.extend(self.level.map(|level| text("level", level)));
        let code = |code| integer("http.response.status_code", code);
        attributes.extend(self.code.map(code));
        let cold = |cold| attribute("faas.coldstart", Value::BoolValue(cold));
        attributes.extend(self.cold_start.map(cold));
        let parent = self.parent.map(|parent| parent.to_be_bytes().to_vec());
        OtlpSpan {
            trace_id: trace_id(self.trace).to_vec(),
            span_id: self.id.to_be_bytes().to_vec(),
            parent_span_id: parent.unwrap_or_default(),
            name: self.name.clone(),
            kind: self.kind,
            start_time_unix_nano: self.start.cast_unsigned(),
            end_time_unix_nano: (self.start + self.duration).cast_unsigned(),
            attributes,
            ..OtlpSpan::default()
        }
    }
}

/// Appends spans in one batch.
pub(super) fn append(team: &Team, spans: &[Span]) {
    let services: BTreeSet<_> = spans.iter().map(|span| span.service).collect();
    let of_service = |service: Option<&'static str>| {
        let name = service.map(|service| text("service.name", service));
        let spans = spans.iter().filter(|span| span.service == service);
        ResourceSpans {
            resource: Some(Resource {
                attributes: name.into_iter().collect(),
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: spans.map(Span::otlp).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }
    };
    let resource_spans = services.into_iter().map(of_service).collect();
    let receipt = team.append(ExportTraceServiceRequest { resource_spans });
    assert_eq!(receipt.unwrap().accepted, spans.len() as u64);
}

/// A request: its columns as texts, and its spans.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) columns: BTreeMap<String, String>,
    pub(super) spans: Vec<Span>,
}

impl Request {
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        self.columns.get(column).map(String::as_str)
    }

    pub(super) fn number(&self, column: &str) -> i64 {
        self.columns[column].parse().unwrap()
    }

    pub(super) fn any(&self, is_asked: impl Fn(&Span) -> bool) -> bool {
        self.spans.iter().any(is_asked)
    }
}

/// The requests of spans, by the ids of their traces.
pub(super) fn requests(spans: &[Span], is_split: impl Fn(u64) -> bool) -> Vec<Request> {
    let mut traces: BTreeMap<u64, Vec<Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(span.trace).or_default().push(span.clone());
    }
    let mut requests: Vec<Request> = traces
        .into_iter()
        .map(|(trace, mut spans)| {
            spans.sort_by_key(|span| (span.start, span.id));
            request(trace, spans, is_split(trace))
        })
        .collect();
    requests.sort_by_key(|request| request.columns["trace_id"].clone());
    requests
}

/// The request of spans that are sorted by their start.
fn request(trace: u64, spans: Vec<Span>, is_split: bool) -> Request {
    let is_here = |id: u64| spans.iter().any(|span| span.id == id);
    let is_orphan = |span: &Span| span.parent.is_some_and(|parent| !is_here(parent));
    let root = spans.iter().find(|span| span.parent.is_none());
    let entry = spans.iter().find(|span| span.kind == 2 && is_orphan(span));
    let stands = root.or(entry).unwrap_or(&spans[0]);
    let first = spans[0].start;
    let ends = spans.iter().map(|span| span.start + span.duration);
    let end = ends.max().unwrap();
    let level = |level: &str| spans.iter().filter(|span| span.level() == level).count();
    let levels = ["fatal", "error", "warning", "info"];
    let worst = levels.into_iter().find(|one| level(one) > 0).unwrap();
    let list = |of: &dyn Fn(&Span) -> Option<String>| {
        let values: BTreeSet<String> = spans.iter().filter_map(of).collect();
        let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        format!("[{}]", values.join(","))
    };
    let mut columns: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |column: &str, value: Option<String>| {
        columns.extend(value.map(|value| (column.to_owned(), value)));
    };
    add("trace_id", Some(id::to_hex(&trace_id(trace))));
    add("start_time", Some(first.to_string()));
    add("end_time", Some(end.to_string()));
    add("duration", Some((end - first).to_string()));
    add("name", Some(stands.name.clone()));
    add("service", stands.service.map(str::to_owned));
    let service = |span: &Span| span.service.map(str::to_owned);
    add("services", Some(list(&service)));
    let resource = |span: &Span| span.texts.get("resource").cloned();
    add("resources", Some(list(&resource)));
    add("origin", Some("user".into()));
    add("status_code", stands.code.map(|code| code.to_string()));
    for (column, _) in texts() {
        let mut value = stands.texts.get(column);
        if ["session_id", "request_id", "user_id", "function"].contains(&column) {
            let mut others = spans.iter().filter_map(|span| span.texts.get(column));
            value = value.or_else(|| others.next());
        }
        add(column, value.cloned());
    }
    add("spans", Some(spans.len().to_string()));
    let errors = level("error") + level("fatal");
    add("errors", Some(errors.to_string()));
    add("warnings", Some(level("warning").to_string()));
    add("level", Some(worst.into()));
    let cold = |cold: bool| spans.iter().any(|span| span.cold_start == Some(cold));
    add("cold_start", cold(true).then(|| "true".into()));
    add(
        "cold_start",
        (!cold(true) && cold(false)).then(|| "false".into()),
    );
    add("has_root", Some(root.is_some().to_string()));
    let is_complete = root.is_some() && !spans.iter().any(is_orphan);
    add("complete", Some(is_complete.to_string()));
    add("split", Some(is_split.to_string()));
    Request { columns, spans }
}

/// Rows as a naive look has them: the columns with a value, as texts.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<BTreeMap<String, String>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns());
            let cell = |(field, values): (&arrow::datatypes::FieldRef, &ArrayRef)| {
                Some((field.name().clone(), cell(values, row)?))
            };
            rows.push(columns.filter_map(cell).collect());
        }
    }
    rows
}

fn cell(values: &ArrayRef, row: usize) -> Option<String> {
    if values.is_null(row) {
        return None;
    }
    Some(match values.data_type() {
        DataType::Utf8View => values.as_string_view().value(row).to_owned(),
        DataType::Int32 => values.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => values.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Boolean => values.as_boolean().value(row).to_string(),
        DataType::Timestamp(..) => {
            let times = values.as_primitive::<TimestampNanosecondType>();
            times.value(row).to_string()
        }
        DataType::UInt32 => values.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::BinaryView => id::to_hex(values.as_binary_view().value(row)),
        _ => id::to_hex(values.as_fixed_size_binary().value(row)),
    })
}
