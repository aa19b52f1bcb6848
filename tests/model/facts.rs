//! What the model knows of a span, the span that says so, and the values of its
//! columns.

use rand::Rng;
use rand::seq::IndexedRandom;
use spanstore::otlp::{Event, Link};
use spanstore::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Span,
    Status,
};

use crate::spans::{integer, text, trace_id};

/// Services, and whether their spans also carry a version of the scope.
pub const SERVICES: [&str; 3] = ["shop", "payments", "edge"];
const NAMES: [&str; 6] = [
    "GET /cart",
    "render",
    "fetch price",
    "pay",
    "checkout 100%",
    "ça va_1",
];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const SYSTEMS: [&str; 3] = ["postgresql", "redis", "mysql"];
const STATUS_CODES: [i32; 6] = [200, 204, 301, 404, 500, 503];

/// All that is said of a span. Two spans are equal when this is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facts {
    /// Start, ns since 1970.
    pub start: i64,
    /// Number of the trace.
    pub trace: u64,
    /// Number of the span.
    pub span: u64,
    /// Number of the parent.
    pub parent: Option<u64>,
    /// End less start, ns.
    pub duration: i64,
    /// The name.
    pub name: String,
    /// OpenTelemetry's number of the kind.
    pub kind: i32,
    /// OpenTelemetry's number of the status; none when it is not said.
    pub status: Option<i32>,
    /// The session.
    pub session: Option<String>,
    /// The request.
    pub request: Option<String>,
    /// The HTTP method.
    pub method: Option<&'static str>,
    /// The path.
    pub path: Option<String>,
    /// The HTTP status code.
    pub status_code: Option<i32>,
    /// Attribute `db.system`.
    pub system: Option<&'static str>,
    /// Attribute `items`.
    pub items: Option<i64>,
    /// Events and links.
    pub events: u8,
    /// The service, in the resource.
    pub service: &'static str,
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl Value {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// Where a random span may lie.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Traces are numbered below this.
    pub traces: u64,
    /// The earliest start, ns since 1970.
    pub first: i64,
    /// The latest start.
    pub last: i64,
}

impl Facts {
    /// A random span with a number.
    pub fn random(random: &mut impl Rng, span: u64, range: Range) -> Self {
        let trace = random.random_range(0..range.traces);
        let some = |random: &mut dyn rand::RngCore, of: f64| random.random_bool(of);
        Self {
            start: random.random_range(range.first..=range.last),
            trace,
            span,
            parent: some(random, 0.7).then(|| random.random_range(0..=span)),
            duration: random.random_range(0..5) * 1_000 + random.random_range(0..3),
            name: NAMES.choose(random).copied().unwrap_or_default().into(),
            kind: random.random_range(0..6),
            status: some(random, 0.6).then(|| random.random_range(0..3)),
            session: some(random, 0.8).then(|| format!("session-{}", trace % 3)),
            request: some(random, 0.5).then(|| format!("request-{}", trace % 5)),
            method: some(random, 0.8)
                .then(|| METHODS.choose(random).copied())
                .flatten(),
            path: some(random, 0.7).then(|| format!("/api/{}", random.random_range(0..4))),
            status_code: some(random, 0.7)
                .then(|| STATUS_CODES.choose(random).copied())
                .flatten(),
            system: some(random, 0.4)
                .then(|| SYSTEMS.choose(random).copied())
                .flatten(),
            items: some(random, 0.5).then(|| random.random_range(-3..10)),
            events: random.random_range(0..4),
            service: SERVICES.choose(random).copied().unwrap_or_default(),
        }
    }

    /// The bytes of the span's id.
    pub fn span_id(&self) -> [u8; 8] {
        (self.span + 1).to_be_bytes()
    }

    /// The bytes of the trace's id.
    pub fn trace_id(&self) -> [u8; 16] {
        trace_id(self.trace)
    }

    /// The span in OTLP.
    pub fn span(&self) -> Span {
        let mut attributes = Vec::new();
        let mut add = |key: &str, value: Option<&str>| {
            attributes.extend(value.map(|value| text(key, value)));
        };
        add("session.id", self.session.as_deref());
        add("request.id", self.request.as_deref());
        add("http.request.method", self.method);
        add("url.path", self.path.as_deref());
        add("db.system", self.system);
        let code = self.status_code.map(i64::from);
        attributes.extend(code.map(|code| integer("http.response.status_code", code)));
        attributes.extend(self.items.map(|items| integer("items", items)));
        let start = self.start.cast_unsigned();
        Span {
            trace_id: self.trace_id().to_vec(),
            span_id: self.span_id().to_vec(),
            parent_span_id: self
                .parent
                .map(|parent| (parent + 1).to_be_bytes().to_vec())
                .unwrap_or_default(),
            name: self.name.clone(),
            kind: self.kind,
            start_time_unix_nano: start,
            end_time_unix_nano: start + self.duration.cast_unsigned(),
            attributes,
            status: self.status.map(|code| Status {
                code,
                message: if code == 2 {
                    "failed".into()
                } else {
                    String::new()
                },
            }),
            events: (0..self.events / 2)
                .map(|number| Event {
                    time_unix_nano: start + u64::from(number),
                    name: format!("event {number}"),
                    attributes: vec![integer("number", i64::from(number))],
                    ..Event::default()
                })
                .collect(),
            links: (0..self.events % 2)
                .map(|number| Link {
                    trace_id: trace_id(u64::from(number)).to_vec(),
                    span_id: self.span_id().to_vec(),
                    ..Link::default()
                })
                .collect(),
            ..Span::default()
        }
    }

    /// The resource of the span.
    pub fn resource(&self) -> Resource {
        Resource {
            attributes: vec![text("service.name", self.service)],
            ..Resource::default()
        }
    }

    /// The scope of the span.
    pub fn scope(&self) -> Option<InstrumentationScope> {
        (self.service != "edge").then(|| InstrumentationScope {
            name: "model".into(),
            version: "1".into(),
            ..InstrumentationScope::default()
        })
    }

    /// The value of the column `level`.
    pub fn level(&self) -> &'static str {
        match self.status_code {
            Some(500..) => "error",
            _ if self.status == Some(2) => "error",
            Some(400..) => "warning",
            _ => "info",
        }
    }

    /// The value of a column that a filter names; none when there is none.
    ///
    /// # Panics
    /// When the model does not know the column.
    pub fn value(&self, column: &str) -> Option<Value> {
        let text = |value: Option<&str>| value.map(Value::text);
        match column {
            "name" => text(Some(&self.name)),
            "kind" => text(Some(
                [
                    "unspecified",
                    "internal",
                    "server",
                    "client",
                    "producer",
                    "consumer",
                ]
                .get(self.kind as usize)
                .copied()
                .unwrap_or_default(),
            )),
            "status" => text(Some(match self.status {
                Some(1) => "ok",
                Some(2) => "error",
                _ => "unset",
            })),
            "level" => text(Some(self.level())),
            "service" | "resource['service.name']" => text(Some(self.service)),
            "scope_name" => text(self.scope().is_some().then_some("model")),
            "session_id" => text(self.session.as_deref()),
            "request_id" => text(self.request.as_deref()),
            "method" => text(self.method),
            "path" => text(self.path.as_deref()),
            "attributes['db.system']" => text(self.system),
            "status_code" => self.status_code.map(|code| Value::Number(code.into())),
            "duration" => Some(Value::Number(self.duration)),
            "start_time" => Some(Value::Number(self.start)),
            "attributes['items']" => self.items.map(Value::Number),
            other => panic!("the model has no column {other}"),
        }
    }
}

/// A request with these spans, neighbours of one service together.
pub fn request<'a>(facts: impl IntoIterator<Item = &'a Facts>) -> ExportTraceServiceRequest {
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    for one in facts {
        let resource = Some(one.resource());
        if resource_spans
            .last()
            .is_none_or(|last| last.resource != resource)
        {
            resource_spans.push(ResourceSpans {
                resource,
                scope_spans: vec![ScopeSpans {
                    scope: one.scope(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            });
        }
        let scope = resource_spans
            .last_mut()
            .and_then(|last| last.scope_spans.last_mut());
        if let Some(scope) = scope {
            scope.spans.push(one.span());
        }
    }
    ExportTraceServiceRequest { resource_spans }
}
