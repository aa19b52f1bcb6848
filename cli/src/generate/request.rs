//! One request to the application.

use super::attribute::text;
use super::catalog::{
    ADJECTIVES, CATEGORIES, FUNCTION_REGIONS, NOUNS, REGIONS, Route, Serving, Slug,
};
use super::chance::Chance;
use super::platform::Run;
use super::trace::{Source, Trace};
use super::visitor::{Deployment, Visitor};

/// A request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) route: &'static Route,
    /// None when the clock made the request.
    pub(crate) visitor: Option<&'a Visitor>,
    pub(crate) deployments: &'a [Deployment],
    /// Place among the deployments.
    pub(crate) deployment: usize,
    /// When it arrives, in nanoseconds since 1970.
    pub(crate) start: u64,
}

/// How the cache answered, and why.
pub(crate) type CacheAnswer = (&'static str, Option<&'static str>);

impl Request<'_> {
    /// Makes the spans of the request.
    pub(crate) fn trace(&self, chance: &mut Chance) -> Trace {
        let region = self.visitor.map_or(0, |visitor| visitor.region);
        let function_region = usize::from(region % 4 == 1);
        let path = self.path(chance);
        let request_id = self.request_id(chance, region, function_region);
        let mut trace = Trace {
            id: chance.trace_id(),
            spans: Vec::new(),
            common: Vec::new(),
        };
        if let Some(visitor) = self.visitor {
            trace.common.push(text("session.id", &visitor.session_id));
            trace
                .common
                .extend(visitor.user_id.iter().map(|id| text("user.id", id)));
        }
        trace.common.extend([
            text("vercel.request_id", request_id),
            text("http.route", self.route.template),
            text("url.path", &path),
        ]);
        let edge = Source::Edge {
            region,
            deployment: self.deployment,
        };
        Run {
            request: self,
            chance,
            trace,
            edge,
            function_region,
        }
        .make(&path)
    }

    fn path(&self, chance: &mut Chance) -> String {
        let template = self.route.template;
        match self.route.slug {
            Slug::None => template.to_owned(),
            Slug::Product => {
                let product = chance.zipf(ADJECTIVES.len() * NOUNS.len());
                let adjective = ADJECTIVES.get(product % ADJECTIVES.len());
                let noun = NOUNS.get(product / ADJECTIVES.len());
                let slug = [adjective, noun]
                    .map(|word| word.copied().unwrap_or_default())
                    .join("-");
                template.replace("[slug]", &slug)
            }
            Slug::Category => {
                let category = CATEGORIES.get(chance.zipf(CATEGORIES.len())).copied();
                template.replace("[slug]", category.unwrap_or_default())
            }
            Slug::Order => template.replace("[id]", &format!("ord_{}", chance.letters(12))),
            Slug::File => {
                let file = chance.zipf(200);
                template.replace("[file]", &format!("{:016x}.js", (file + 1) * 0x9e37_79b9))
            }
        }
    }

    /// The regions that the request passes, then an id with its time in it.
    fn request_id(&self, chance: &mut Chance, edge: usize, function: usize) -> String {
        let name = |names: &[&'static str], place| names.get(place).copied().unwrap_or_default();
        format!(
            "{}::{}::{}-{}-{}",
            name(REGIONS, edge),
            name(FUNCTION_REGIONS, function),
            chance.letters(5),
            self.start / 1_000_000,
            chance.hex(12)
        )
    }

    pub(crate) fn cache_answer(&self, chance: &mut Chance) -> CacheAnswer {
        match self.route.serving {
            Serving::Static => {
                chance.weighted(&[(970, ("HIT", None)), (30, ("MISS", Some("cold")))])
            }
            Serving::Prerendered => chance.weighted(&[
                (560, ("HIT", None)),
                (80, ("PRERENDER", None)),
                (90, ("STALE", Some("stale_time"))),
                (30, ("STALE", Some("stale_tag"))),
                (150, ("MISS", Some("cold"))),
                (30, ("MISS", Some("collapsed"))),
                (30, ("REVALIDATED", None)),
                (20, ("BYPASS", Some("draft_mode"))),
                (10, ("BYPASS", Some("crawler"))),
            ]),
            Serving::Dynamic | Serving::Api | Serving::Cron => ("MISS", None),
        }
    }

    pub(crate) fn host(&self) -> &str {
        let deployment = self.deployments.get(self.deployment);
        deployment.map_or("", |deployment| deployment.host.as_str())
    }

    /// What kind of request the platform says it is.
    pub(crate) fn path_type(&self) -> &'static str {
        match self.route.serving {
            Serving::Prerendered => "prerender",
            Serving::Dynamic => "streaming_func",
            Serving::Api => "api",
            Serving::Static => "static",
            Serving::Cron => "cron",
        }
    }
}
