//! What decoding a body would allocate, counted before anything is.

mod json;
mod protobuf;

use super::OtlpError;
use super::delayed_length::HEADER_BYTES;
use super::shape::Kind;

/// The elements of a body, and the memory that decoding it takes.
///
/// Both are upper bounds: a body never decodes to more than was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Messages `ResourceSpans`.
    pub resources: u64,
    /// Messages `ScopeSpans`.
    pub scopes: u64,
    /// Spans.
    pub spans: u64,
    /// Attributes, of spans, events, links, resources and scopes.
    pub attributes: u64,
    /// Events of spans.
    pub events: u64,
    /// Links of spans.
    pub links: u64,
    /// Values within arrays and key-value lists.
    pub values: u64,
    /// Bytes of texts, ids and other bytes.
    pub text_bytes: u64,
    /// Bytes of memory that the decoded request takes as a whole, with what
    /// growing its lists and reading its texts takes for a moment.
    pub decoded_bytes: u64,
    /// The same of the largest single span, resource or scope.
    pub largest_bytes: u64,
    /// Bytes of the longest text or number, or the deepest nesting of what is skipped:
    /// what the decoder may copy as a whole. In JSON alone.
    pub longest_token_bytes: u64,
    /// Whether values nest deeper than [`MAX_VALUE_NESTING`](super::MAX_VALUE_NESTING).
    /// In protobuf alone.
    pub is_too_deep: bool,
    /// Elements of lists that are none of those above.
    others: u64,
    /// The most that a list or a text takes beside its final size while it grows.
    growth_bytes: u64,
}

impl Measured {
    /// Counts a protobuf body, which it checks whole: what passes decodes,
    /// unless it is too deep. It allocates nothing.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when the bytes are not a request.
    pub fn of_protobuf(bytes: &[u8]) -> Result<Self, OtlpError> {
        protobuf::measure(bytes)
    }

    /// Counts the encoded spans of one resource, as [`Measured::of_protobuf`] does a
    /// request.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when the bytes are not that.
    pub fn of_resource_spans(bytes: &[u8]) -> Result<Self, OtlpError> {
        protobuf::measure_message(Kind::ResourceSpans, std::iter::once(Ok(bytes)))
    }

    /// Counts an encoded span, as [`Measured::of_protobuf`] does a request.
    ///
    /// # Errors
    /// [`OtlpError::Protobuf`] when the bytes are not a span.
    pub fn of_span(bytes: &[u8]) -> Result<Self, OtlpError> {
        protobuf::measure_message(Kind::Span, std::iter::once(Ok(bytes)))
    }

    /// Counts a JSON body, as far as it is JSON. What else is wrong with it, the
    /// decoder says.
    ///
    /// # Errors
    /// [`OtlpError::Json`] when an array stands where a message is expected.
    pub fn of_json(text: &[u8]) -> Result<Self, OtlpError> {
        json::measure(text)
    }

    /// Bytes that a JSON text of this length takes at most in protobuf.
    pub(super) fn most_encoded_bytes(&self, text_bytes: usize) -> u64 {
        // A message is shorter in protobuf, unless its length is written with room to
        // spare; and it has nothing but texts and some numbers.
        let messages = self.resources + self.scopes + self.spans;
        let by_text = text_bytes as u64 + messages * HEADER_BYTES as u64;
        by_text.min(self.text_bytes + 32 * self.elements() + 96 * self.spans)
    }

    /// All elements that decoding allocates.
    pub fn elements(&self) -> u64 {
        self.resources
            + self.scopes
            + self.spans
            + self.attributes
            + self.events
            + self.links
            + self.values
            + self.others
    }

    /// Counts a list of so many elements that grew one by one.
    fn add_list(&mut self, kind: Kind, within: Kind, count: u64) {
        match kind {
            Kind::ResourceSpans => self.resources += count,
            Kind::ScopeSpans => self.scopes += count,
            Kind::Span => self.spans += count,
            Kind::Event => self.events += count,
            Kind::Link => self.links += count,
            Kind::AnyValue => self.values += count,
            Kind::KeyValue if within.is_container() => self.values += count,
            Kind::KeyValue => self.attributes += count,
            _ => self.others += count,
        }
        let growth_bytes = self.growth_bytes;
        self.add_growing(count, kind.element_bytes());
        if matches!(kind, Kind::ResourceSpans | Kind::ScopeSpans | Kind::Span) {
            // Read one by one they are in no list: that one grows is no matter of
            // the largest of them.
            self.decoded_bytes += self.growth_bytes - growth_bytes;
            self.growth_bytes = growth_bytes;
        }
    }

    /// Counts the memory of a list that doubles when it is full, from 4 on.
    fn add_growing(&mut self, count: u64, element_bytes: usize) {
        if count > 0 {
            let bytes = count.next_power_of_two().max(4) * element_bytes as u64;
            self.decoded_bytes += allocation(bytes);
            if count > 4 {
                self.growth_bytes = self.growth_bytes.max(bytes / 2);
            }
        }
    }

    /// Counts a text or bytes of this length.
    fn add_text(&mut self, bytes: usize) {
        self.text_bytes += bytes as u64;
        self.decoded_bytes += allocation(bytes as u64);
    }
}

/// Counts the occurrences of an encoded message.
///
/// # Errors
/// [`OtlpError::Protobuf`] when the bytes are not the message.
pub(super) fn of_message<'a>(
    kind: Kind,
    pieces: impl Iterator<Item = Result<&'a [u8], OtlpError>>,
) -> Result<Measured, OtlpError> {
    protobuf::measure_message(kind, pieces)
}

/// What prost says of the bytes of a message.
pub(super) fn malformed(kind: Kind, error: &prost::DecodeError) -> OtlpError {
    protobuf::malformed(kind, None, error)
}

/// What an allocator takes for so many bytes.
fn allocation(bytes: u64) -> u64 {
    if bytes == 0 {
        0
    } else {
        (bytes + 8).next_multiple_of(16).max(32)
    }
}
