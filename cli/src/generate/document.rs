//! Spans into documents, grouped by resource and scope.

use spanstore_format::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
};

use super::attribute::{integer, text};
use super::catalog::{FUNCTION_REGIONS, REGIONS};
use super::trace::{Sent, Source};
use super::visitor::Deployment;

const PROJECT: &str = "prj_acme_store";
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Knows the resource of every source.
#[derive(Debug)]
pub(crate) struct Resources {
    deployments: Vec<Deployment>,
}

impl Resources {
    pub(crate) fn of(deployments: &[Deployment]) -> Self {
        Self {
            deployments: deployments.to_vec(),
        }
    }

    /// Puts spans into one request.
    pub(crate) fn document(&self, spans: Vec<Sent>) -> ExportTraceServiceRequest {
        let mut sources: Vec<Source> = Vec::new();
        let mut resource_spans: Vec<ResourceSpans> = Vec::new();
        for Sent {
            source,
            scope,
            span,
        } in spans
        {
            let place = sources
                .iter()
                .position(|known| *known == source)
                .unwrap_or_else(|| {
                    sources.push(source);
                    resource_spans.push(self.resource_spans(source));
                    sources.len() - 1
                });
            let Some(resource) = resource_spans.get_mut(place) else {
                continue;
            };
            let known = resource
                .scope_spans
                .iter_mut()
                .find(|spans| is_scope(spans, scope));
            match known {
                Some(known) => known.spans.push(span),
                None => resource.scope_spans.push(ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: scope.to_owned(),
                        version: "1.0.0".to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    spans: vec![span],
                    schema_url: String::new(),
                }),
            }
        }
        ExportTraceServiceRequest { resource_spans }
    }

    fn resource_spans(&self, source: Source) -> ResourceSpans {
        ResourceSpans {
            resource: Some(Resource {
                attributes: self.attributes(source),
                ..Resource::default()
            }),
            scope_spans: Vec::new(),
            schema_url: SCHEMA_URL.to_owned(),
        }
    }

    fn attributes(&self, source: Source) -> Vec<KeyValue> {
        let name =
            |names: &[&'static str], place: usize| names.get(place).copied().unwrap_or_default();
        let (service, region, deployment) = match source {
            Source::Edge { region, deployment } => {
                ("vercel.edge-network", name(REGIONS, region), deployment)
            }
            Source::Host { region, deployment } => (
                "vercel.serverless-runtime",
                name(FUNCTION_REGIONS, region),
                deployment,
            ),
            Source::Application {
                region, deployment, ..
            } => ("acme-store", name(FUNCTION_REGIONS, region), deployment),
        };
        let mut attributes = vec![
            text("service.name", service),
            text("vercel.projectId", PROJECT),
            text("cloud.provider", "vercel"),
            text("cloud.region", region),
        ];
        if let Some(deployment) = self.deployments.get(deployment) {
            attributes.extend([
                text("vercel.deploymentId", &deployment.id),
                text("deployment.environment.name", deployment.environment),
                text("vcs.ref.head.name", deployment.branch),
                text("vcs.ref.head.revision", &deployment.sha),
            ]);
        }
        if let Source::Application { python, .. } = source {
            attributes.extend([
                text(
                    "process.runtime.name",
                    if python { "python" } else { "nodejs" },
                ),
                text(
                    "telemetry.sdk.language",
                    if python { "python" } else { "nodejs" },
                ),
                text("telemetry.sdk.name", "opentelemetry"),
                integer("process.pid", 8),
            ]);
        }
        attributes
    }
}

fn is_scope(spans: &ScopeSpans, name: &str) -> bool {
    spans.scope.as_ref().is_some_and(|scope| scope.name == name)
}
