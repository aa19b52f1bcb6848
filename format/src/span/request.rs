//! Puts encoded spans together to one encoded OTLP request, without encoding
//! any of them again.

use prost::encoding::{WireType, encode_key, encode_varint};

use crate::otlp::delayed_length;

/// What the spans of a resource or of a scope share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceOrScope<'a> {
    /// The encoded `Resource` or `InstrumentationScope`, if there is one.
    pub encoded: Option<&'a [u8]>,
    /// Its schema URL; empty for none.
    pub schema_url: &'a str,
}

/// Builds an encoded `ExportTraceServiceRequest` from encoded parts, in one buffer.
///
/// Scopes without spans and resources without scopes are left out.
#[derive(Debug, Default)]
pub struct RequestEncoder {
    request: Vec<u8>,
    /// Bytes that the request takes, about.
    room: usize,
    /// Where the messages begin that are not finished.
    resource: Option<usize>,
    scope: Option<usize>,
}

impl RequestEncoder {
    /// Encodes a request of about this size. It allocates with the first span, so
    /// that a request whose spans are all refused takes no memory.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            room: bytes,
            ..Self::default()
        }
    }

    /// Bytes that a request takes at most that had so many elsewhere, with so many
    /// resources and scopes.
    pub fn room(bytes: usize, groups: usize) -> usize {
        bytes + groups * delayed_length::HEADER_BYTES
    }

    /// The next span belongs to another resource.
    pub fn begin_resource(&mut self) {
        self.begin_scope();
        if let Some(at) = self.resource.take() {
            delayed_length::end(at, &mut self.request);
        }
    }

    /// The next span belongs to another scope.
    pub fn begin_scope(&mut self) {
        if let Some(at) = self.scope.take() {
            delayed_length::end(at, &mut self.request);
        }
    }

    /// Adds an encoded span. Resource and scope count with the first span since
    /// they began.
    pub fn put_span(
        &mut self,
        span: &[u8],
        resource: ResourceOrScope<'_>,
        scope: ResourceOrScope<'_>,
    ) {
        if self.request.is_empty() {
            self.request.reserve_exact(self.room);
        }
        if self.resource.is_none() {
            self.resource = Some(delayed_length::begin(1, &mut self.request));
            self.put_shared(resource);
        }
        if self.scope.is_none() {
            self.scope = Some(delayed_length::begin(2, &mut self.request));
            self.put_shared(scope);
        }
        self.put_bytes(2, span);
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.request.len()
    }

    /// The encoded request.
    pub fn finish(mut self) -> Vec<u8> {
        self.begin_resource();
        self.request
    }

    fn put_shared(&mut self, shared: ResourceOrScope<'_>) {
        if let Some(encoded) = shared.encoded {
            self.put_bytes(1, encoded);
        }
        if !shared.schema_url.is_empty() {
            self.put_bytes(3, shared.schema_url.as_bytes());
        }
    }

    fn put_bytes(&mut self, field: u32, bytes: &[u8]) {
        encode_key(field, WireType::LengthDelimited, &mut self.request);
        encode_varint(bytes.len() as u64, &mut self.request);
        self.request.extend_from_slice(bytes);
    }
}
