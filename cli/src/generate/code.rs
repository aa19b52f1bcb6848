//! What the application itself does in a request: framework, user code,
//! database and outgoing requests.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::attribute::{boolean, double, integer, text};
use super::catalog::{Call, Route, Serving, Statement, Step};
use super::chance::Chance;
use super::trace::{Failure, Header, Place, Source, Trace};

/// The scope of the framework.
pub(crate) const FRAMEWORK: &str = "next.js";
/// The scope of outgoing requests.
pub(crate) const FETCH: &str = "@vercel/otel/fetch";
const DATABASE: &str = "@opentelemetry/instrumentation-pg";
const MICROSECOND: u64 = 1_000;

/// Adds the framework's span of a middleware.
pub(crate) fn middleware(
    trace: &mut Trace,
    chance: &mut Chance,
    source: Source,
    parent: Place,
    (start, end): (u64, u64),
    route: &Route,
    path: &str,
) {
    let name = format!("middleware {} {path}", route.method);
    let header = Header {
        source,
        scope: FRAMEWORK,
        name: &name,
        kind: SpanKind::Internal,
    };
    let place = trace.begin(chance, header, Some(parent), start + (end - start) / 10);
    trace.add(
        place,
        [
            text("next.span_name", &name),
            text("next.span_type", "Middleware.execute"),
            text("http.method", route.method),
            text("http.target", path),
            text("operation.name", "next_js.Middleware.execute"),
        ],
    );
    trace.end(place, end - (end - start) / 10);
}

/// Adds what runs after the answer.
pub(crate) fn analytics(
    trace: &mut Trace,
    chance: &mut Chance,
    source: Source,
    parent: Place,
    (start, end): (u64, u64),
) {
    let header = Header {
        source,
        scope: "analytics",
        name: "analytics.flush",
        kind: SpanKind::Producer,
    };
    let place = trace.begin(chance, header, Some(parent), start + (end - start) / 20);
    trace.add(
        place,
        [
            text("messaging.system", "kafka"),
            text("messaging.destination.name", "page-views"),
            integer("messaging.batch.message_count", 1 + chance.below(20) as i64),
            text("messaging.operation.type", "send"),
            boolean("analytics.sampled", false),
        ],
    );
    trace.end(place, end - (end - start) / 20);
}

/// One run of a function's code.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) route: &'static Route,
    pub(crate) source: Source,
    pub(crate) host: &'a str,
    pub(crate) failure: Option<Failure>,
    pub(crate) status_code: i64,
}

impl Work<'_> {
    /// Adds the spans below `parent`; gives the end of the run.
    pub(crate) fn run(
        &self,
        trace: &mut Trace,
        chance: &mut Chance,
        parent: Place,
        start: u64,
    ) -> u64 {
        let Route {
            method,
            template,
            serving,
            python,
            ..
        } = *self.route;
        let name = format!("{method} {template}");
        let (handler, mut now) = if python {
            let header = self.header(
                "opentelemetry.instrumentation.asgi",
                &name,
                SpanKind::Server,
            );
            let handler = trace.begin(chance, header, Some(parent), start);
            trace.add(handler, [text("asgi.event.type", "http.request")]);
            (handler, start + 150 * MICROSECOND)
        } else {
            let header = self.header(FRAMEWORK, &name, SpanKind::Server);
            let handler = trace.begin(chance, header, Some(parent), start);
            trace.add(
                handler,
                [
                    text("next.span_name", &name),
                    text("next.span_type", "BaseServer.handleRequest"),
                    text("next.route", template),
                    boolean(
                        "next.rsc",
                        serving == Serving::Dynamic && chance.per_mille(500),
                    ),
                    text("operation.name", "web.request"),
                ],
            );
            let now = self.framework(
                trace,
                chance,
                "resolve page components",
                "NextNodeServer.findPageComponents",
                (handler, start + 80 * MICROSECOND, 350),
            );
            (handler, now)
        };
        trace.add(
            handler,
            [
                text("http.method", method),
                text("http.target", template),
                text("http.host", self.host),
                integer("http.status_code", self.status_code),
            ],
        );

        let is_page = matches!(serving, Serving::Prerendered | Serving::Dynamic);
        let wrapper = if python {
            handler
        } else {
            let (name, span_type) = if is_page {
                (
                    format!("render route (app) {template}"),
                    "AppRender.getBodyResult",
                )
            } else {
                (
                    format!("executing api route (app) {template}"),
                    "AppRouteRouteHandlers.runHandler",
                )
            };
            let header = self.header(FRAMEWORK, &name, SpanKind::Internal);
            let place = trace.begin(chance, header, Some(handler), now);
            trace.add(
                place,
                [
                    text("next.span_name", &name),
                    text("next.span_type", span_type),
                    text("next.route", template),
                    text("operation.name", format!("next_js.{span_type}")),
                ],
            );
            place
        };
        if is_page {
            let name = format!("generateMetadata {template}");
            let metadata = (wrapper, now + 40 * MICROSECOND, 500);
            now = self.framework(
                trace,
                chance,
                &name,
                "ResolveMetadata.generateMetadata",
                metadata,
            );
        }
        let last = self.route.steps.len().saturating_sub(1);
        for (position, step) in self.route.steps.iter().enumerate() {
            let failure = self.failure.filter(|_| position == last);
            now = self.step(
                trace,
                chance,
                step,
                failure,
                wrapper,
                now + 60 * MICROSECOND,
            );
        }
        if is_page && self.failure.is_none() {
            let first_byte = (wrapper, now, 0);
            self.framework(
                trace,
                chance,
                "start response",
                "NextNodeServer.startResponse",
                first_byte,
            );
            now += chance.duration(2_500);
        }
        match &self.failure {
            Some(failure) if python => trace.fail(handler, now, failure),
            Some(failure) => {
                trace.fail(wrapper, now, failure);
                trace.fail(handler, now, failure);
            }
            None => {
                trace.end(wrapper, now);
                trace.end(handler, now + 120 * MICROSECOND);
            }
        }
        now + 120 * MICROSECOND
    }

    fn header<'a>(&self, scope: &'static str, name: &'a str, kind: SpanKind) -> Header<'a> {
        Header {
            source: self.source,
            scope,
            name,
            kind,
        }
    }

    /// Adds a span of the framework below a parent, from a time on, of a
    /// typical length in microseconds (0 is exactly none); gives its end.
    fn framework(
        &self,
        trace: &mut Trace,
        chance: &mut Chance,
        name: &str,
        span_type: &str,
        (parent, start, typical_micros): (Place, u64, u64),
    ) -> u64 {
        let header = self.header(FRAMEWORK, name, SpanKind::Internal);
        let place = trace.begin(chance, header, Some(parent), start);
        trace.add(
            place,
            [
                text("next.span_name", name),
                text("next.span_type", span_type),
                text("next.route", self.route.template),
                text("operation.name", format!("next_js.{span_type}")),
            ],
        );
        let end = start + chance.duration(typical_micros);
        trace.end(place, end);
        end
    }

    /// Adds a step of the user's code with its statements and calls; gives its end.
    fn step(
        &self,
        trace: &mut Trace,
        chance: &mut Chance,
        step: &Step,
        failure: Option<Failure>,
        parent: Place,
        start: u64,
    ) -> u64 {
        let header = self.header(step.scope, step.name, SpanKind::Internal);
        let place = trace.begin(chance, header, Some(parent), start);
        trace.add(
            place,
            [
                text("code.function.name", step.name.replace(['.', ' '], "_")),
                text("code.file.path", format!("src/{}.ts", step.scope)),
                boolean("feature.new_prices", chance.per_mille(300)),
            ],
        );
        match step.scope {
            "cart" | "checkout" => trace.add(
                place,
                [
                    integer("cart.items", 1 + chance.below(9) as i64),
                    double("cart.total", chance.below(40_000) as f64 / 100.0),
                    text("cart.currency", chance.pick(&["EUR", "USD", "JPY"])),
                ],
            ),
            _ => trace.add(
                place,
                [
                    text("acme.module", step.scope),
                    integer("acme.batch_size", 1 + chance.below(48) as i64),
                ],
            ),
        }

        let is = |error_type| failure.is_some_and(|failure| failure.error_type == error_type);
        let last = |position: usize, count: usize| position + 1 == count;
        let mut now = start + chance.duration(300);
        for (position, statement) in step.statements.iter().enumerate() {
            let fails = is("DatabaseTimeout") && last(position, step.statements.len());
            now = self.statement(
                trace,
                chance,
                statement,
                failure.filter(|_| fails),
                place,
                now,
            );
            now += chance.duration(80);
        }
        for (position, call) in step.calls.iter().enumerate() {
            let fails = is("UpstreamError") && last(position, step.calls.len());
            now = self.call(trace, chance, call, failure.filter(|_| fails), place, now);
            now += chance.duration(120);
        }
        if is("FunctionInvocationTimeout") {
            now += chance.duration(10_000_000);
        }
        match &failure {
            Some(failure) => trace.throw(place, now, failure),
            None => trace.end(place, now),
        }
        now
    }

    fn statement(
        &self,
        trace: &mut Trace,
        chance: &mut Chance,
        statement: &Statement,
        failure: Option<Failure>,
        parent: Place,
        start: u64,
    ) -> u64 {
        let name = format!("{} {}", statement.operation, statement.collection);
        let header = self.header(DATABASE, &name, SpanKind::Client);
        let place = trace.begin(chance, header, Some(parent), start);
        trace.add(
            place,
            [
                text("db.system", "postgresql"),
                text("db.namespace", "acme_store"),
                text("db.operation.name", statement.operation),
                text("db.collection.name", statement.collection),
                text("db.query.text", statement.text),
                text("server.address", "db.acme.internal"),
                integer("server.port", 5_432),
            ],
        );
        if let Some(failure) = failure {
            let end = start + 3_000_000 * MICROSECOND;
            trace.throw(place, end, &failure);
            return end;
        }
        trace.add(
            place,
            [integer(
                "db.response.returned_rows",
                chance.below(49) as i64,
            )],
        );
        let end = start + chance.duration(statement.typical_micros);
        trace.end(place, end);
        end
    }

    fn call(
        &self,
        trace: &mut Trace,
        chance: &mut Chance,
        call: &Call,
        failure: Option<Failure>,
        parent: Place,
        start: u64,
    ) -> u64 {
        let Call {
            method,
            host,
            path,
            typical_micros,
        } = *call;
        let url = format!("https://{host}{path}");
        let name = format!("fetch {method} {url}");
        let header = self.header(FETCH, &name, SpanKind::Client);
        let place = trace.begin(chance, header, Some(parent), start);
        let duration = chance.duration(typical_micros);
        let status_code = match failure {
            Some(_) => 503,
            None => chance.weighted(&[(930, 200), (40, 404), (30, 429)]),
        };
        // The path of the request that the function answers is not this one's.
        trace.remove(place, "url.path");
        trace.add(
            place,
            [
                text("http.request.method", method),
                text("url.full", &url),
                text("server.address", host),
                integer("http.response.status_code", status_code),
                double("http.response_time", duration as f64 / 1e6),
                integer(
                    "http.response_content_length_uncompressed",
                    120 + chance.below(9_000) as i64,
                ),
                text("operation.name", format!("fetch.{method}")),
                text("resource.name", host),
            ],
        );
        let end = start + duration;
        match &failure {
            Some(failure) => trace.throw(place, end, failure),
            None => trace.end(place, end),
        }
        end
    }
}
