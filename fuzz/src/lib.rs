//! What several targets share.

use std::panic;

use spanstore_format::otlp::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, protobuf};

/// Lets the code under test catch panics of the libraries that it calls: libFuzzer
/// would end at each of them.
pub fn allow_caught_panics() {
    panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}

/// The spans of a request, each encoded as a request of its own with its
/// resource and its scope, in the order of their bytes.
pub fn single_spans(request: &ExportTraceServiceRequest) -> Vec<Vec<u8>> {
    let mut spans = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let single = ExportTraceServiceRequest {
                    resource_spans: vec![ResourceSpans {
                        resource: resource.resource.clone(),
                        scope_spans: vec![ScopeSpans {
                            scope: scope.scope.clone(),
                            spans: vec![span.clone()],
                            schema_url: scope.schema_url.clone(),
                        }],
                        schema_url: resource.schema_url.clone(),
                    }],
                };
                spans.push(protobuf::encode(&single));
            }
        }
    }
    spans.sort_unstable();
    spans
}
