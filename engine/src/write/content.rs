//! What tells that two batches are the same: a hash of their content.

use prost::Message;
use spanstore_format::otlp::check_nesting;
use twox_hash::XxHash3_128;

use super::batch::Content;
use super::prepare::Prepared;

/// Hashes content with a seed that the store keeps: the same content has the same
/// hash after it was opened again, and nobody can prepare two that collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContentHash {
    seed: u64,
    is_any_time: bool,
}

/// In what form content came. The same bytes in two forms are two contents.
#[derive(Debug, Clone, Copy)]
enum Form {
    Body,
    Made,
    Prepared,
}

impl ContentHash {
    /// `is_any_time` switches a check off, so it is a part of the content.
    pub(crate) fn new(seed: u64, is_any_time: bool) -> Self {
        Self { seed, is_any_time }
    }

    fn of(self, form: Form, bytes: &[u8]) -> u128 {
        let form = [form as u8, u8::from(self.is_any_time)];
        let seed = XxHash3_128::oneshot_with_seed(self.seed, &form) as u64;
        XxHash3_128::oneshot_with_seed(seed, bytes)
    }

    /// The hash of what a batch came as: a body, decompressed and in protobuf, or a
    /// request; none of a request whose values are too deep to encode.
    pub(crate) fn of_batch(self, content: &Content) -> Option<u128> {
        match content {
            Content::Protobuf { body, .. } => Some(self.of(Form::Body, body)),
            Content::Request(request) => check_nesting(request)
                .is_ok()
                .then(|| self.of(Form::Made, &request.encode_to_vec())),
        }
    }

    /// The hash of a batch that has no other: of its spans that passed the checks, and
    /// of what was refused.
    pub(crate) fn of_prepared(self, prepared: &Prepared) -> u128 {
        let request = XxHash3_128::oneshot_with_seed(self.seed, &prepared.request);
        let mut content = request.to_le_bytes().to_vec();
        for refusal in &prepared.refused {
            content.extend_from_slice(&refusal.index.to_le_bytes());
            content.extend_from_slice(&refusal.reason.number().to_le_bytes());
        }
        self.of(Form::Prepared, &content)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use spanstore_format::otlp::ExportTraceServiceRequest;

    use super::*;
    use crate::write::batch::SpanBatch;
    use crate::write::receipt::{Refusal, RefusalReason};

    #[test]
    fn seed_window_and_bytes_tell_bodies_apart() {
        let hash = |seed, is_any_time, team: &str| {
            let request = spanstore_format::otlp::ResourceSpans {
                schema_url: team.to_owned(),
                ..Default::default()
            };
            let body = ExportTraceServiceRequest {
                resource_spans: vec![request],
            };
            let batch = SpanBatch::from_otlp_protobuf(&body.encode_to_vec()).unwrap();
            let hash = ContentHash::new(seed, is_any_time).of_batch(&batch.content);
            hash.unwrap()
        };
        let first = hash(1, false, "a");
        assert_eq!(hash(1, false, "a"), first);
        for other in [hash(2, false, "a"), hash(1, true, "a"), hash(1, false, "b")] {
            assert_ne!(other, first);
        }
        // The same bytes in another form are another content.
        let made = SpanBatch::default();
        let body = SpanBatch::from_otlp_protobuf(&[]).unwrap();
        let hash = |batch: &SpanBatch| ContentHash::new(1, false).of_batch(&batch.content);
        assert_ne!(hash(&made), hash(&body));
    }

    #[test]
    fn a_batch_that_is_too_deep_is_told_by_its_spans_and_refusals() {
        let hash = |request: &'static [u8], refused: &[(u32, RefusalReason)]| {
            let refusals = refused.iter().map(|(index, reason)| Refusal {
                index: *index,
                reason: *reason,
            });
            ContentHash::new(1, false).of_prepared(&Prepared {
                request: Bytes::from_static(request),
                parts: Vec::new(),
                refused: refusals.collect(),
            })
        };
        let refused = [(1, RefusalReason::NameTooLong)];
        assert_eq!(hash(b"spans", &refused), hash(b"spans", &refused));
        assert_ne!(hash(b"spans", &refused), hash(b"spans", &[]));
        assert_ne!(hash(b"spans", &refused), hash(b"other", &refused));
        let other = [(1, RefusalReason::TooOld)];
        assert_ne!(hash(b"spans", &refused), hash(b"spans", &other));
    }
}
