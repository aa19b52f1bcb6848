//! Requests of any size into requests of a size that suits an append.

use prost::Message;
use spanstore_format::otlp::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans};

/// Spans of a chunk.
const CHUNK_SPANS: usize = 4_096;
/// Bytes of the spans of a chunk, as protobuf.
const CHUNK_BYTES: usize = 8 << 20;

/// Gathers spans and sends them on in chunks, in their order.
#[derive(Debug)]
pub(crate) struct Chunks<F> {
    send: F,
    chunk: ExportTraceServiceRequest,
    spans: usize,
    bytes: usize,
}

impl<F: FnMut(ExportTraceServiceRequest) -> bool> Chunks<F> {
    /// Chunks that go to `send`, which tells whether it wants more.
    pub(crate) fn new(send: F) -> Self {
        Self {
            send,
            chunk: ExportTraceServiceRequest::default(),
            spans: 0,
            bytes: 0,
        }
    }

    /// Adds the spans of a request; tells whether more are wanted.
    pub(crate) fn add(&mut self, request: ExportTraceServiceRequest) -> bool {
        for ResourceSpans {
            resource,
            scope_spans,
            schema_url,
        } in request.resource_spans
        {
            // A resource is written once a chunk, and so is a scope.
            let mut has_resource = false;
            for ScopeSpans {
                scope,
                spans,
                schema_url: scope_schema_url,
            } in scope_spans
            {
                let mut has_scope = false;
                for span in spans {
                    self.spans += 1;
                    self.bytes += span.encoded_len();
                    if !has_resource {
                        self.chunk.resource_spans.push(ResourceSpans {
                            resource: resource.clone(),
                            scope_spans: Vec::new(),
                            schema_url: schema_url.clone(),
                        });
                        has_resource = true;
                    }
                    let Some(resource_spans) = self.chunk.resource_spans.last_mut() else {
                        continue;
                    };
                    if !has_scope {
                        resource_spans.scope_spans.push(ScopeSpans {
                            scope: scope.clone(),
                            spans: Vec::new(),
                            schema_url: scope_schema_url.clone(),
                        });
                        has_scope = true;
                    }
                    if let Some(scope_spans) = resource_spans.scope_spans.last_mut() {
                        scope_spans.spans.push(span);
                    }
                    if self.spans >= CHUNK_SPANS || self.bytes >= CHUNK_BYTES {
                        if !self.flush() {
                            return false;
                        }
                        (has_resource, has_scope) = (false, false);
                    }
                }
            }
        }
        true
    }

    /// Sends on what is gathered; tells whether more is wanted.
    pub(crate) fn flush(&mut self) -> bool {
        if self.spans == 0 {
            return true;
        }
        (self.spans, self.bytes) = (0, 0);
        (self.send)(std::mem::take(&mut self.chunk))
    }
}
