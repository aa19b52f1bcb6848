//! Puts encoded spans together to one encoded OTLP request, without encoding
//! any of them again.

use prost::encoding::{WireType, encode_key, encode_varint};

/// Builds an encoded `ExportTraceServiceRequest` from encoded parts.
///
/// Spans go to the scope that was begun last, scopes to the resource that was
/// begun last. A scope without spans and a resource without scopes are left out.
#[derive(Debug, Default)]
pub struct RequestEncoder {
    request: Vec<u8>,
    resource: Message,
    scope: Message,
}

/// `ResourceSpans` and `ScopeSpans` look alike: what the elements share in
/// field 1, elements in field 2, the schema URL in field 3.
#[derive(Debug, Default)]
struct Message {
    elements: Vec<u8>,
    shared: Option<Vec<u8>>,
    schema_url: String,
}

impl Message {
    fn begin(&mut self, shared: Option<&[u8]>, schema_url: &str) {
        self.elements.clear();
        self.shared = shared.map(<[u8]>::to_vec);
        schema_url.clone_into(&mut self.schema_url);
    }

    /// Adds the message to another as field `field`, unless it has no elements.
    fn put(&mut self, field: u32, out: &mut Vec<u8>) {
        if self.elements.is_empty() {
            return;
        }
        let mut body = Vec::with_capacity(self.elements.len() + 256);
        if let Some(shared) = &self.shared {
            put_bytes(1, shared, &mut body);
        }
        body.append(&mut self.elements);
        if !self.schema_url.is_empty() {
            put_bytes(3, self.schema_url.as_bytes(), &mut body);
        }
        put_bytes(field, &body, out);
    }
}

impl RequestEncoder {
    /// Begins a resource.
    pub fn begin_resource(&mut self, resource: Option<&[u8]>, schema_url: &str) {
        self.end_resource();
        self.resource.begin(resource, schema_url);
    }

    /// Begins a scope of the resource.
    pub fn begin_scope(&mut self, scope: Option<&[u8]>, schema_url: &str) {
        self.scope.put(2, &mut self.resource.elements);
        self.scope.begin(scope, schema_url);
    }

    /// Adds an encoded span to the scope.
    pub fn put_span(&mut self, span: &[u8]) {
        put_bytes(2, span, &mut self.scope.elements);
    }

    fn end_resource(&mut self) {
        self.scope.put(2, &mut self.resource.elements);
        self.resource.put(1, &mut self.request);
    }

    /// The encoded request.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_resource();
        self.request
    }
}

fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
