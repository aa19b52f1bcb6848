use proptest::prelude::*;

use super::columns::{Classified, ColumnsBuilder, ResourceContext, ScopeContext};
use super::encoded::EncodedSpan;
use super::request::RequestEncoder;
use super::restore::to_otlp;
use crate::TeamId;
use crate::otlp::{ExportTraceServiceRequest, Span, arbitrary, protobuf};

/// Spans as the checks let them through.
pub(crate) fn checked(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    for resource in &mut request.resource_spans {
        for scope in &mut resource.scope_spans {
            for span in &mut scope.spans {
                span.trace_id.resize(16, 1);
                span.span_id.resize(8, 1);
                if !span.parent_span_id.is_empty() {
                    span.parent_span_id.resize(8, 1);
                }
                span.start_time_unix_nano >>= 1;
            }
        }
        resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    request
        .resource_spans
        .retain(|resource| !resource.scope_spans.is_empty());
    request
}

/// Each span with what it shares with others.
fn flat(request: &ExportTraceServiceRequest) -> Vec<(String, Span)> {
    let mut spans = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            let shared = format!(
                "{:?} {} {:?} {}",
                resource.resource, resource.schema_url, scope.scope, scope.schema_url
            );
            spans.extend(
                scope
                    .spans
                    .iter()
                    .map(|span| (shared.clone(), span.clone())),
            );
        }
    }
    spans
}

proptest! {
    #[test]
    fn what_came_in_comes_out_equal(request in arbitrary::request()) {
        let request = checked(request);
        let mut columns = ColumnsBuilder::new(&TeamId::new("acme").unwrap(), 8);
        let mut encoder = RequestEncoder::default();
        let mut scratch = Vec::new();
        for resource_spans in &request.resource_spans {
            let resource =
                ResourceContext::new(resource_spans.resource.as_ref(), &resource_spans.schema_url);
            encoder.begin_resource();
            for scope_spans in &resource_spans.scope_spans {
                let scope = ScopeContext::new(scope_spans.scope.as_ref(), &scope_spans.schema_url);
                encoder.begin_scope();
                for span in &scope_spans.spans {
                    let classified = Classified::of(span, &resource, &scope);
                    let encoded = EncodedSpan::encode(span, &mut scratch);
                    columns.append(span, &classified, &encoded, &resource, &scope).unwrap();
                    encoder.put_span(encoded.bytes(), resource.shared(), scope.shared());
                }
            }
        }
        // Encodings are compared, since NaN is unequal to itself.
        let logged = protobuf::decode(&encoder.finish()).unwrap();
        prop_assert_eq!(protobuf::encode(&logged), protobuf::encode(&request));
        let restored = to_otlp(&columns.finish().unwrap()).unwrap();
        prop_assert_eq!(format!("{:?}", flat(&restored)), format!("{:?}", flat(&request)));
    }
}
