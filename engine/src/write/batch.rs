//! What a caller appends.

use bytes::Bytes;
use spanstore_format::otlp::compression::{DecompressLimits, decompress};
use spanstore_format::otlp::{ExportTraceServiceRequest, Measured, json};

use super::memory;
use super::prepare::{Source, span_count};
use crate::error::Error;
use crate::options::Limits;

/// Spans to append, with their resources and scopes.
#[derive(Debug, Clone, Default)]
pub struct SpanBatch {
    pub(crate) content: Content,
    pub(crate) idempotency_key: Option<Bytes>,
    pub(crate) is_any_time: bool,
}

/// The spans of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// As they were made.
    Request(ExportTraceServiceRequest),
    /// A body in protobuf that was counted and is whole. It is decoded span by span
    /// when it is appended.
    Protobuf { body: Bytes, measured: Measured },
}

impl Default for Content {
    fn default() -> Self {
        Self::Request(ExportTraceServiceRequest::default())
    }
}

impl Content {
    /// Checks the content before anything is made of it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], with what was counted.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Error> {
        match self {
            Self::Request(request) => memory::check_request(request, limits),
            Self::Protobuf { body, measured } => {
                memory::check_protobuf(measured, body.len(), limits)
            }
        }
    }

    /// What is prepared.
    pub(crate) fn into_source(self) -> Source {
        match self {
            Self::Request(request) => Source::Request(request),
            Self::Protobuf { body, measured } => Source::Body {
                body,
                spans: measured.spans as usize,
                groups: (measured.resources + measured.scopes) as usize,
            },
        }
    }
}

impl SpanBatch {
    /// The spans of a decoded OTLP request.
    pub fn from_otlp(request: ExportTraceServiceRequest) -> Self {
        Self {
            content: Content::Request(request),
            ..Self::default()
        }
    }

    /// The spans of an OTLP request in protobuf, plain, gzip or zstd.
    ///
    /// # Errors
    /// As [`SpanBatch::from_otlp_protobuf_within`] with the default limits.
    pub fn from_otlp_protobuf(body: &[u8]) -> Result<Self, Error> {
        Self::from_otlp_protobuf_within(body, &Limits::default())
    }

    /// The spans of an OTLP request in protobuf, plain, gzip or zstd. The body is
    /// checked and counted before anything of it is decoded.
    ///
    /// # Errors
    /// [`Error::Otlp`] when the bytes are not a request, or have more than
    /// [`Limits::batch_bytes`] when they are decompressed, or more than 200 for each
    /// compressed one. [`Error::TooLarge`] when it has more spans, or takes more
    /// memory, than [`Limits`] say.
    pub fn from_otlp_protobuf_within(body: &[u8], limits: &Limits) -> Result<Self, Error> {
        let body = decompress(body, decompress_limits(limits))?;
        let measured = Measured::of_protobuf(&body)?;
        memory::check_protobuf(&measured, body.len(), limits)?;
        Ok(Self::from_measured(body.into_owned(), measured))
    }

    fn from_measured(body: Vec<u8>, measured: Measured) -> Self {
        let body = Bytes::from(body);
        Self {
            content: Content::Protobuf { body, measured },
            ..Self::default()
        }
    }

    /// The spans of an OTLP request in JSON, plain, gzip or zstd. A document of
    /// metrics or logs has no spans.
    ///
    /// # Errors
    /// As [`SpanBatch::from_otlp_json_within`] with the default limits.
    pub fn from_otlp_json(body: &[u8]) -> Result<Self, Error> {
        Self::from_otlp_json_within(body, &Limits::default())
    }

    /// The spans of an OTLP request in JSON, plain, gzip or zstd. A document of
    /// metrics or logs has no spans. The text is counted before anything of it is
    /// decoded.
    ///
    /// # Errors
    /// As [`SpanBatch::from_otlp_protobuf_within`].
    pub fn from_otlp_json_within(body: &[u8], limits: &Limits) -> Result<Self, Error> {
        let body = decompress(body, decompress_limits(limits))?;
        let measured = Measured::of_json(&body)?;
        memory::check_json(&measured, limits)?;
        let Some(encoded) = json::to_protobuf(&body, &measured)? else {
            return Ok(Self::default());
        };
        drop(body);
        let measured = Measured::of_protobuf(&encoded)?;
        memory::check_protobuf(&measured, encoded.len(), limits)?;
        Ok(Self::from_measured(encoded, measured))
    }

    /// Names the append, with at most 256 bytes. An append with a key that is
    /// remembered ([`StoreOptions::idempotency`](crate::StoreOptions::idempotency))
    /// answers with the receipt of the first and stores nothing; with other content
    /// it is an error. Keys are a team's own. The first receipt is the answer also
    /// where it refused spans for quota: these go in under another key. An empty key
    /// is none.
    pub fn with_idempotency_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        let key = Bytes::from(key.into());
        self.idempotency_key = (!key.is_empty()).then_some(key);
        self
    }

    /// Switches the window of accepted starts off, for imports. What lies beyond
    /// the team's retention is refused all the same: nobody could find it.
    pub fn any_time(mut self) -> Self {
        self.is_any_time = true;
        self
    }

    /// Spans of the batch.
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Request(request) => span_count(request),
            Content::Protobuf { measured, .. } => measured.spans as usize,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn decompress_limits(limits: &Limits) -> DecompressLimits {
    DecompressLimits {
        max_bytes: limits.most_batch_bytes(),
        ..DecompressLimits::default()
    }
}

impl From<ExportTraceServiceRequest> for SpanBatch {
    fn from(request: ExportTraceServiceRequest) -> Self {
        Self::from_otlp(request)
    }
}
