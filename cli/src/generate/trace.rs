//! The spans of one trace while it is being made.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use spanstore_format::otlp::{Event, KeyValue, Link, Span, Status, Value};

use super::attribute::text;
use super::chance::Chance;

/// What sends a span: one resource each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The platform's network, in a region.
    Edge {
        /// Place in `REGIONS`.
        region: usize,
        /// Place among the deployments.
        deployment: usize,
    },
    /// The platform's function host.
    Host {
        /// Place in `FUNCTION_REGIONS`.
        region: usize,
        /// Place among the deployments.
        deployment: usize,
    },
    /// The application.
    Application {
        /// Place in `FUNCTION_REGIONS`.
        region: usize,
        /// Place among the deployments.
        deployment: usize,
        /// Whether the function is in Python.
        python: bool,
    },
}

/// A span and who sends it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) source: Source,
    pub(crate) scope: &'static str,
    pub(crate) span: Span,
}

/// What stands at the head of a new span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) source: Source,
    pub(crate) scope: &'static str,
    pub(crate) name: &'a str,
    pub(crate) kind: SpanKind,
}

/// The spans of a trace; the first is its root, until that is lost.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) id: Vec<u8>,
    pub(crate) spans: Vec<Sent>,
    /// Attributes of every span of the trace.
    pub(crate) common: Vec<KeyValue>,
}

/// The place of a span in its trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

impl Trace {
    /// Begins a span. `start` is in nanoseconds since 1970.
    pub(crate) fn begin(
        &mut self,
        chance: &mut Chance,
        header: Header<'_>,
        parent: Option<Place>,
        start: u64,
    ) -> Place {
        let parent = parent.and_then(|place| self.spans.get(place.0));
        let parent_span_id = parent
            .map(|sent| sent.span.span_id.clone())
            .unwrap_or_default();
        let mut attributes = Vec::with_capacity(16);
        attributes.extend_from_slice(&self.common);
        self.spans.push(Sent {
            source: header.source,
            scope: header.scope,
            span: Span {
                trace_id: self.id.clone(),
                span_id: chance.span_id(),
                parent_span_id,
                // Sampled.
                flags: 1,
                name: header.name.to_owned(),
                kind: header.kind.into(),
                start_time_unix_nano: start,
                end_time_unix_nano: start,
                attributes,
                ..Span::default()
            },
        });
        Place(self.spans.len() - 1)
    }

    /// Adds attributes to a span.
    pub(crate) fn add(&mut self, place: Place, attributes: impl IntoIterator<Item = KeyValue>) {
        if let Some(sent) = self.spans.get_mut(place.0) {
            sent.span.attributes.extend(attributes);
        }
    }

    /// Adds a link to the root of another trace.
    pub(crate) fn link(&mut self, place: Place, to: (Vec<u8>, Vec<u8>), relation: &str) {
        if let Some(sent) = self.spans.get_mut(place.0) {
            sent.span.links.push(Link {
                trace_id: to.0,
                span_id: to.1,
                attributes: vec![text("link.relation", relation)],
                flags: 1,
                ..Link::default()
            });
        }
    }

    /// Ends a span at a time in nanoseconds since 1970.
    pub(crate) fn end(&mut self, place: Place, end: u64) {
        if let Some(sent) = self.spans.get_mut(place.0) {
            sent.span.end_time_unix_nano = end;
        }
    }

    /// Ends a span by an error that came from below.
    pub(crate) fn fail(&mut self, place: Place, end: u64, failure: &Failure) {
        if let Some(Sent { span, .. }) = self.spans.get_mut(place.0) {
            span.end_time_unix_nano = end;
            span.attributes.push(text("error.type", failure.error_type));
            span.status = Some(Status {
                code: StatusCode::Error.into(),
                message: failure.message.to_owned(),
            });
        }
    }

    /// Ends a span by an error that it throws itself.
    pub(crate) fn throw(&mut self, place: Place, end: u64, failure: &Failure) {
        self.fail(place, end, failure);
        let Some(Sent { span, .. }) = self.spans.get_mut(place.0) else {
            return;
        };
        let Failure {
            error_type,
            message,
            ..
        } = failure;
        let (file, column) = (span.name.len() * 37, span.attributes.len() * 211);
        span.events.push(Event {
            time_unix_nano: end,
            name: "exception".to_owned(),
            attributes: vec![
                text("exception.type", *error_type),
                text("exception.message", *message),
                text(
                    "exception.stacktrace",
                    format!(
                        "{error_type}: {message}\n    at handler (/var/task/chunks/{file}.js:1:{column})\n    at async run (/var/task/index.js:88:14)"
                    ),
                ),
            ],
            ..Event::default()
        });
    }

    /// Puts a span below a parent, and the spans of another trace below the span. The span
    /// ends with the root of these.
    pub(crate) fn answer(&mut self, place: Place, parent_span_id: Vec<u8>, mut below: Self) {
        let Some(Sent { span, .. }) = self.spans.get_mut(place.0) else {
            return;
        };
        span.parent_span_id = parent_span_id;
        if let Some(root) = below.spans.first_mut() {
            root.span.parent_span_id.clone_from(&span.span_id);
            span.end_time_unix_nano = root.span.end_time_unix_nano;
        }
        for sent in &mut below.spans {
            sent.span.trace_id.clone_from(&self.id);
        }
        self.spans.append(&mut below.spans);
    }

    /// Takes an attribute away that does not fit a span.
    pub(crate) fn remove(&mut self, place: Place, key: &str) {
        if let Some(sent) = self.spans.get_mut(place.0) {
            sent.span
                .attributes
                .retain(|attribute| attribute.key != key);
        }
    }

    /// The status code that the root answers; 200 if it says none.
    pub(crate) fn status_code(&self) -> i64 {
        let root = self.spans.first();
        let mut attributes = root.iter().flat_map(|sent| &sent.span.attributes);
        let status = attributes.find(|one| one.key == "http.response.status_code");
        match status.and_then(|status| status.value.as_ref()?.value.as_ref()) {
            Some(Value::IntValue(status)) => *status,
            _ => 200,
        }
    }

    /// Trace id and span id of the root.
    pub(crate) fn root(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.spans
            .first()
            .map(|sent| (self.id.clone(), sent.span.span_id.clone()))
    }
}

/// Something that goes wrong in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error_type: &'static str,
    pub(crate) message: &'static str,
    pub(crate) status_code: i64,
}

/// The status code of a function that crashed before it answered.
pub(crate) const NO_RESPONSE: i64 = -1;

/// What goes wrong, by how often in a thousand failures.
pub(crate) const FAILURES: &[(u64, Option<Failure>)] = &[
    (
        330,
        Some(Failure {
            error_type: "DatabaseTimeout",
            message: "canceling statement due to statement timeout",
            status_code: 500,
        }),
    ),
    (
        260,
        Some(Failure {
            error_type: "UpstreamError",
            message: "upstream answered 503 Service Unavailable",
            status_code: 502,
        }),
    ),
    (
        300,
        Some(Failure {
            error_type: "TypeError",
            message: "Cannot read properties of undefined (reading 'price')",
            status_code: 500,
        }),
    ),
    (
        70,
        Some(Failure {
            error_type: "FunctionInvocationTimeout",
            message: "the function did not answer in time",
            status_code: 504,
        }),
    ),
    (
        40,
        Some(Failure {
            error_type: "FunctionCrashed",
            message: "the process ended with code 137: out of memory",
            status_code: NO_RESPONSE,
        }),
    ),
];
