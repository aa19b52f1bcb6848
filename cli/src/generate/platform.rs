//! What the platform does in a request: routing, cache, middleware, functions.

use std::iter;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::attribute::{boolean, integer, text, texts};
use super::catalog::{CRON_USER_AGENT, FUNCTION_REGIONS, NOUNS, Serving};
use super::chance::Chance;
use super::code;
use super::request::Request;
use super::trace::{FAILURES, Failure, Header, NO_RESPONSE, Place, Source, Trace};

/// The scope of the platform's own spans.
const PLATFORM: &str = "vercel";
/// How many of a thousand runs of a function fail.
const FAILING: u64 = 120;
const MICROSECOND: u64 = 1_000;

/// A request while its spans are made.
#[derive(Debug)]
pub(crate) struct Run<'a, 'b> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) chance: &'b mut Chance,
    pub(crate) trace: Trace,
    /// Who sends the spans of the network.
    pub(crate) edge: Source,
    /// Place in `FUNCTION_REGIONS`.
    pub(crate) function_region: usize,
}

impl Run<'_, '_> {
    /// Makes the spans.
    pub(crate) fn make(mut self, path: &str) -> Trace {
        let Request {
            route,
            visitor,
            start,
            ..
        } = *self.request;
        let name = format!("{} {path}", route.method);
        let root = self.platform(self.edge, &name, SpanKind::Server, None, start);
        if let Some(previous) = visitor.and_then(|visitor| visitor.previous.clone())
            && self.chance.per_mille(250)
        {
            self.trace.link(root, previous, "previous_request");
        }

        let (cache, reason) = self.request.cache_answer(self.chance);
        let mut now = self.resolve(root, start + 50 * MICROSECOND, cache, reason);
        let served_by_cache = !matches!(cache, "MISS" | "BYPASS");
        let mut status_code = 200;
        if served_by_cache || route.serving == Serving::Static {
            now += self.chance.duration(400);
            if cache == "STALE" {
                // The page is rendered anew after the old one was sent.
                self.function(root, now, true);
            }
        } else {
            if self.chance.per_mille(400) {
                now = self.middleware(root, now, path);
            }
            (now, status_code) = self.function(root, now, false);
        }
        now += self.chance.duration(300);
        self.describe_root(root, cache, reason, status_code);
        self.trace.end(root, now);
        self.trace
    }

    /// Begins a span of the platform.
    fn platform(
        &mut self,
        source: Source,
        name: &str,
        kind: SpanKind,
        parent: Option<Place>,
        start: u64,
    ) -> Place {
        let header = Header {
            source,
            scope: PLATFORM,
            name,
            kind,
        };
        self.trace.begin(self.chance, header, parent, start)
    }

    /// A span of the platform that lasts about so long; gives its place and its end.
    fn short(
        &mut self,
        name: &str,
        source: Source,
        parent: Place,
        start: u64,
        typical_micros: u64,
    ) -> (Place, u64) {
        let place = self.platform(source, name, SpanKind::Internal, Some(parent), start);
        let end = start + self.chance.duration(typical_micros);
        self.trace.end(place, end);
        (place, end)
    }

    fn resolve(&mut self, root: Place, start: u64, cache: &str, reason: Option<&str>) -> u64 {
        let Request {
            route,
            deployments,
            deployment,
            ..
        } = *self.request;
        let mut now = start;
        if self.chance.per_mille(700) {
            let (place, end) = self.short("Resolve Deployment", self.edge, root, now, 350);
            if let Some(deployment) = deployments.get(deployment) {
                self.trace.add(
                    place,
                    [
                        text("vercel.deployment_id", &deployment.id),
                        text("vercel.branch", deployment.branch),
                        boolean("vercel.deployment.cached", true),
                        text("server.address", &deployment.host),
                    ],
                );
            }
            now = end;
        }
        let (place, end) = self.short("Resolve Route", self.edge, root, now, 220);
        self.trace.add(
            place,
            [
                text("vercel.matched_path", route.template),
                text("vercel.path_type", self.request.path_type()),
                integer(
                    "vercel.route.rules_checked",
                    1 + self.chance.below(40) as i64,
                ),
                boolean("vercel.route.rewritten", false),
            ],
        );
        now = end;
        if matches!(route.serving, Serving::Prerendered | Serving::Static) {
            let (place, end) = self.short("Resolve Cache", self.edge, root, now, 900);
            self.trace.add(
                place,
                [
                    text("vercel.cache", cache),
                    text(
                        "vercel.cache.key",
                        format!("{}:{}", route.method, route.template),
                    ),
                    integer("vercel.cache.age_seconds", self.chance.below(86_400) as i64),
                ],
            );
            self.trace.add(
                place,
                reason.map(|reason| text("vercel.cache_reason", reason)),
            );
            now = end;
        }
        now
    }

    fn middleware(&mut self, root: Place, start: u64, path: &str) -> u64 {
        let (place, end) = self.short("Invoke Middleware", self.edge, root, start, 2_400);
        self.trace.add(
            place,
            [
                text("http.request.method", self.request.route.method),
                text("vercel.middleware.internal", "false"),
                text(
                    "vercel.function.region",
                    FUNCTION_REGIONS.first().copied().unwrap_or_default(),
                ),
            ],
        );
        let source = self.application(false);
        code::middleware(
            &mut self.trace,
            self.chance,
            source,
            place,
            (start, end),
            self.request.route,
            path,
        );
        end
    }

    fn application(&self, python: bool) -> Source {
        Source::Application {
            region: self.function_region,
            deployment: self.request.deployment,
            python,
        }
    }

    /// Runs the function; gives its end and the status code of its answer.
    fn function(&mut self, root: Place, start: u64, in_background: bool) -> (u64, i64) {
        let Request {
            route, deployment, ..
        } = *self.request;
        let host = Source::Host {
            region: self.function_region,
            deployment,
        };
        let invoke = self.platform(
            host,
            "Invoke Function",
            SpanKind::Internal,
            Some(root),
            start,
        );
        let cold = self.chance.per_mille(60);
        let mut now = start + 200 * MICROSECOND;
        if cold {
            let spawn = if route.python {
                "Spawn Python"
            } else {
                "Spawn Node.js"
            };
            for (name, typical) in [
                ("Start VM", 120_000),
                (spawn, 70_000),
                ("Init User Code", 160_000),
            ] {
                let (place, end) = self.short(name, host, invoke, now, typical);
                self.trace.add(
                    place,
                    [
                        boolean("func.cold", true),
                        integer("vercel.function.memory_mb", 2_048),
                        text("vercel.function.architecture", "arm64"),
                    ],
                );
                now = end;
            }
        }
        let failure = if self.chance.per_mille(FAILING) {
            self.chance.weighted(FAILURES)
        } else {
            None
        };
        let status_code = match (&failure, route.serving) {
            (Some(Failure { status_code, .. }), _) => *status_code,
            (None, Serving::Cron) => 200,
            (None, _) => self.chance.weighted(&[
                (930, 200),
                (15, 304),
                (25, 404),
                (12, 401),
                (8, 402),
                (10, 429),
            ]),
        };
        let source = self.application(route.python);
        let work = code::Work {
            route,
            source,
            host: self.request.host(),
            failure,
            status_code,
        };
        let end = work.run(&mut self.trace, self.chance, invoke, now) + 300 * MICROSECOND;

        self.trace.add(
            invoke,
            [
                boolean("func.cold", cold),
                integer("vercel.function.memory_mb", 2_048),
                integer(
                    "vercel.function.memory_used_mb",
                    90 + self.chance.below(700) as i64,
                ),
                integer("http.response.status_code", status_code),
                text("faas.name", route.template),
                text("vercel.source", "serverless"),
            ],
        );
        if in_background {
            self.trace
                .add(invoke, [text("vercel.path_type", "background_func")]);
        }
        match &failure {
            Some(failure) => self.trace.fail(invoke, end, failure),
            None => self.trace.end(invoke, end),
        }
        if failure.is_none() && route.serving == Serving::Api && self.chance.per_mille(200) {
            // Work that goes on after the answer.
            let begin = end.saturating_sub(100 * MICROSECOND);
            let (place, end) = self.short("waitUntil", host, invoke, begin, 45_000);
            code::analytics(&mut self.trace, self.chance, source, place, (begin, end));
        }
        (
            end,
            if status_code == NO_RESPONSE {
                500
            } else {
                status_code
            },
        )
    }

    fn describe_root(&mut self, root: Place, cache: &str, reason: Option<&str>, status_code: i64) {
        let Request { route, visitor, .. } = *self.request;
        let user_agent = visitor.map_or(CRON_USER_AGENT, |visitor| visitor.user_agent);
        let address = visitor.map_or("192.0.2.250", |visitor| visitor.client_address.as_str());
        let source = if route.serving == Serving::Static {
            "static"
        } else {
            "serverless"
        };
        let host = self.request.host();
        let size = 400 + self.chance.duration(9_000) / MICROSECOND;
        let query = match route.template {
            "/api/search" => Some(text("url.query", format!("q={}", self.chance.pick(NOUNS)))),
            _ => None,
        };
        self.trace.add(
            root,
            [
                text("http.request.method", route.method),
                text("url.scheme", "https"),
                text("server.address", host),
                integer("http.response.status_code", status_code),
                integer("http.response.body.size", size as i64),
                text("client.address", address),
                text("user_agent.original", user_agent),
                text("vercel.path_type", self.request.path_type()),
                text("vercel.source", source),
                text("vercel.cache", cache),
                texts("http.response.header.server", &["Vercel"]),
            ],
        );
        let reason = reason.map(|reason| text("vercel.cache_reason", reason));
        self.trace.add(
            root,
            query
                .into_iter()
                .chain(reason)
                .chain(iter::once(text("network.protocol.version", "2"))),
        );
    }
}
