//! The traces of a sample application: a shop of one team.
//!
//! People visit it in browsers, each in a tracing session: page loads, API
//! calls and files, a few of them of previews, and some requests of the clock.
//! A trace has the platform's spans, the framework's, the application's own,
//! database statements and outgoing requests, about 12 attributes a span.
//! About 3 % of the spans fail, with exception events; some spans link to the
//! request before, some come late, in a later document than their trace. In a
//! few traces the root is lost, the session begins on the way, or the
//! application makes a request to itself, so that there are two request ids.
//!
//! Everything depends on the seed, the number of spans, the start and the
//! period alone. No choice depends on the times, so that another start moves
//! the same traces.

mod attribute;
mod catalog;
mod chance;
mod code;
mod document;
mod platform;
mod request;
mod trace;
mod unusual;
mod visitor;

use std::collections::VecDeque;

use spanstore_format::otlp::ExportTraceServiceRequest;

use self::catalog::{ROUTES, Serving};
use self::chance::Chance;
use self::document::Resources;
use self::request::Request;
use self::trace::Sent;
use self::visitor::{Deployment, Visitor, deployments, production_at};
use crate::time::{DAY, SECOND};

/// Spans of a trace, about.
const SPANS_OF_A_TRACE: u64 = 10;
/// Requests of a session, about.
const REQUESTS_OF_A_SESSION: u64 = 9;
/// How long a session lasts where there are many, in nanoseconds.
const SESSION_NANOS: i64 = 600 * SECOND;
/// Sessions that go on at the same time, at most.
const MOST_SESSIONS: i64 = 2_000;

/// A sample application.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    seed: u64,
    start_nanos: i64,
    period_nanos: i64,
}

impl Application {
    /// The application of a seed, visited for 24 hours from a time on
    /// (nanoseconds since 1970; one before that counts as 1970).
    pub fn new(seed: u64, start_nanos: i64) -> Self {
        Self {
            seed,
            start_nanos: start_nanos.max(0),
            period_nanos: DAY,
        }
    }

    /// The same application, visited for a period of other length
    /// (nanoseconds). All traces begin within it; a few spans of the last may
    /// end after it.
    pub fn over(self, period_nanos: i64) -> Self {
        Self {
            period_nanos: period_nanos.max(1),
            ..self
        }
    }

    /// Exactly so many spans, as requests of 100 to about 500 spans each.
    pub fn requests(self, spans: u64) -> Requests {
        let mut chance = Chance::new(self.seed);
        let deployments = deployments(&mut chance);
        let sessions = (spans / SPANS_OF_A_TRACE / REQUESTS_OF_A_SESSION) as i64;
        let at_once = sessions as f64 * SESSION_NANOS as f64 / self.period_nanos as f64;
        let at_once = (at_once as i64).clamp(1, MOST_SESSIONS);
        let visitors = (0..at_once).map(|_| Visitor::new(&mut chance)).collect();
        Requests {
            application: self,
            spans,
            made: 0,
            resources: Resources::of(&deployments),
            deployments,
            chance,
            visitors,
            late: VecDeque::new(),
        }
    }
}

/// The requests that an application sends, in about the order of their times.
#[derive(Debug)]
pub struct Requests {
    application: Application,
    /// How many spans there will be.
    spans: u64,
    /// How many spans there were, late ones included.
    made: u64,
    chance: Chance,
    deployments: Vec<Deployment>,
    resources: Resources,
    visitors: Vec<Visitor>,
    /// Spans that are held back, and for how many more documents.
    late: VecDeque<(u64, Sent)>,
}

impl Iterator for Requests {
    type Item = ExportTraceServiceRequest;

    fn next(&mut self) -> Option<Self::Item> {
        let mut sent = self.due();
        let target = 100 + self.chance.below(300) as usize;
        while sent.len() < target && self.made < self.spans {
            self.trace(&mut sent);
        }
        if self.made == self.spans && sent.len() < target {
            // Nothing else will come that the late spans could wait for.
            sent.extend(self.late.drain(..).map(|(_, sent)| sent));
        }
        (!sent.is_empty()).then(|| self.resources.document(sent))
    }
}

impl Requests {
    /// Takes out the late spans that have waited long enough.
    fn due(&mut self) -> Vec<Sent> {
        let mut due = Vec::new();
        for _ in 0..self.late.len() {
            match self.late.pop_front() {
                Some((0, sent)) => due.push(sent),
                Some((documents, sent)) => self.late.push_back((documents - 1, sent)),
                None => break,
            }
        }
        due
    }

    /// Makes one trace.
    fn trace(&mut self, sent: &mut Vec<Sent>) {
        let route = ROUTES.get(self.chance.zipf(ROUTES.len()));
        let Some(route) = route.or(ROUTES.first()) else {
            return;
        };
        let person = self.chance.below(self.visitors.len() as u64) as usize;
        let is_cron = route.serving == Serving::Cron;
        let visitor = self.visitors.get(person).filter(|_| !is_cron);
        let progress = i128::from(self.made) * i128::from(self.application.period_nanos);
        let start = self.application.start_nanos + (progress / i128::from(self.spans)) as i64;
        let production = production_at(self.made * 1_000 / self.spans);
        let request = Request {
            route,
            visitor,
            deployments: &self.deployments,
            deployment: visitor
                .and_then(|visitor| visitor.preview)
                .unwrap_or(production),
            start: start.cast_unsigned(),
        };
        let mut trace = request.trace(&mut self.chance);
        let root = trace.root();
        unusual::change(&mut trace, &mut self.chance, &request);

        if let Some(visitor) = self.visitors.get_mut(person).filter(|_| !is_cron) {
            visitor.previous = root;
            visitor.requests_left -= 1;
            if visitor.requests_left == 0 {
                *visitor = Visitor::new(&mut self.chance);
            }
        }

        trace.spans.truncate((self.spans - self.made) as usize);
        self.made += trace.spans.len() as u64;
        let has_late_spans = self.chance.per_mille(40);
        for (position, span) in trace.spans.into_iter().enumerate() {
            if has_late_spans && position > 0 && self.chance.per_mille(400) {
                self.late.push_back((self.chance.below(4), span));
            } else {
                sent.push(span);
            }
        }
    }
}

#[cfg(test)]
mod tests;
