//! What is different in a few traces: a request of the application to itself, a session
//! that begins within the trace, a root that is lost.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::attribute::{integer, text};
use super::catalog::{ROUTES, Serving};
use super::chance::Chance;
use super::code::{FETCH, FRAMEWORK};
use super::request::Request;
use super::trace::{Header, Sent, Source, Trace};

/// Traces of a thousand in which the application makes a request to itself, if it runs.
const INNER_REQUEST: u64 = 40;
/// Traces of a thousand whose session begins when the platform's network has passed them on.
const SESSION_WITHIN: u64 = 30;
/// Traces of a thousand whose root never comes.
const WITHOUT_ROOT: u64 = 10;
/// Nanoseconds until a call begins, and until it arrives. No two spans of the sample start
/// at the same time.
const CALLED_AFTER: u64 = 21_007;

/// Changes the trace of a request, if chance wants it.
pub(crate) fn change(trace: &mut Trace, chance: &mut Chance, request: &Request<'_>) {
    if chance.per_mille(INNER_REQUEST) {
        add_inner_request(trace, chance, request);
    }
    if chance.per_mille(SESSION_WITHIN) {
        begin_session_within(trace);
    }
    if chance.per_mille(WITHOUT_ROOT) && trace.spans.len() > 1 {
        trace.spans.remove(0);
    }
}

/// Adds an outgoing request to the application itself, and the spans that answer it. These
/// have a request id of their own. Nobody waits for the answer.
fn add_inner_request(trace: &mut Trace, chance: &mut Chance, request: &Request<'_>) {
    let route = ROUTES.iter().find(|route| route.serving == Serving::Api);
    let caller = trace.spans.iter().rev().find(|sent| is_step(sent));
    let (Some(route), Some(caller)) = (route, caller) else {
        return;
    };
    let (source, parent) = (caller.source, caller.span.span_id.clone());
    let start = caller.span.start_time_unix_nano + CALLED_AFTER;
    let inner = Request {
        route,
        start: start + CALLED_AFTER,
        ..*request
    };
    let inner = inner.trace(chance);
    let url = format!("https://{}{}", request.host(), route.template);
    let header = Header {
        source,
        scope: FETCH,
        name: &format!("fetch {} {url}", route.method),
        kind: SpanKind::Client,
    };
    let call = trace.begin(chance, header, None, start);
    trace.remove(call, "url.path");
    trace.add(
        call,
        [
            text("http.request.method", route.method),
            text("url.full", url),
            text("server.address", request.host()),
            integer("http.response.status_code", inner.status_code()),
        ],
    );
    trace.answer(call, parent, inner);
}

/// Whether a span is a step of the application's own code.
fn is_step(sent: &Sent) -> bool {
    matches!(sent.source, Source::Application { .. })
        && sent.span.kind == i32::from(SpanKind::Internal)
        && sent.scope != FRAMEWORK
}

/// Takes session and user away from the spans of the platform's network, where others have
/// them.
fn begin_session_within(trace: &mut Trace) {
    let is_of_network = |sent: &Sent| matches!(sent.source, Source::Edge { .. });
    if trace.spans.iter().all(is_of_network) {
        return;
    }
    for sent in trace.spans.iter_mut().filter(|sent| is_of_network(sent)) {
        let attributes = &mut sent.span.attributes;
        attributes.retain(|one| !matches!(one.key.as_str(), "session.id" | "user.id"));
    }
}
