//! What a caller appends.

use bytes::Bytes;
use spanstore_format::otlp::compression::{DecompressLimits, decompress};
use spanstore_format::otlp::{ExportTraceServiceRequest, json, protobuf};

use crate::error::Error;

/// Spans to append, with their resources and scopes.
#[derive(Debug, Clone, Default)]
pub struct SpanBatch {
    pub(crate) request: ExportTraceServiceRequest,
    pub(crate) idempotency_key: Option<Bytes>,
    pub(crate) is_any_time: bool,
}

impl SpanBatch {
    /// The spans of a decoded OTLP request.
    pub fn from_otlp(request: ExportTraceServiceRequest) -> Self {
        Self {
            request,
            ..Self::default()
        }
    }

    /// The spans of an OTLP request in protobuf, plain, gzip or zstd.
    ///
    /// # Errors
    /// [`Error::Otlp`] when the bytes are not one, or exceed the limits of
    /// decompression.
    pub fn from_otlp_protobuf(body: &[u8]) -> Result<Self, Error> {
        let body = decompress(body, DecompressLimits::default())?;
        Ok(Self::from_otlp(protobuf::decode(&body)?))
    }

    /// The spans of an OTLP request in JSON, plain, gzip or zstd. A document of
    /// metrics or logs has no spans.
    ///
    /// # Errors
    /// [`Error::Otlp`] when the bytes are not one, or exceed the limits of
    /// decompression.
    pub fn from_otlp_json(body: &[u8]) -> Result<Self, Error> {
        let body = decompress(body, DecompressLimits::default())?;
        match json::decode(&body)? {
            json::Document::Traces(request) => Ok(Self::from_otlp(request)),
            json::Document::Other(_) => Ok(Self::default()),
        }
    }

    /// Names the append. An append with a key that is still in the log answers
    /// with the receipt of the first and stores nothing. Keys are a team's own.
    pub fn with_idempotency_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.idempotency_key = Some(Bytes::from(key.into()));
        self
    }

    /// Switches the window of accepted starts off, for imports.
    pub fn any_time(mut self) -> Self {
        self.is_any_time = true;
        self
    }

    /// Spans of the batch.
    pub fn len(&self) -> usize {
        super::prepare::span_count(&self.request)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<ExportTraceServiceRequest> for SpanBatch {
    fn from(request: ExportTraceServiceRequest) -> Self {
        Self::from_otlp(request)
    }
}
