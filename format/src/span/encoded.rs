//! A span's OTLP encoding, and where its attributes, events and links lie in it.

use std::ops::Range;

use prost::encoding;

use crate::otlp::Span;

/// A span's OTLP encoding and where its pieces lie in it.
#[derive(Debug)]
pub struct EncodedSpan<'a> {
    bytes: &'a [u8],
    attributes: Range<usize>,
    events: Range<usize>,
    links: Range<usize>,
}

impl<'a> EncodedSpan<'a> {
    /// Encodes a span at the end of `out`, which is cleared before.
    ///
    /// Fields come in the order of their numbers, repeated ones together; so
    /// the attributes, the events and the links are each one slice.
    pub fn encode(span: &Span, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        if !span.trace_id.is_empty() {
            encoding::bytes::encode(1, &span.trace_id, out);
        }
        if !span.span_id.is_empty() {
            encoding::bytes::encode(2, &span.span_id, out);
        }
        if !span.trace_state.is_empty() {
            encoding::string::encode(3, &span.trace_state, out);
        }
        if !span.parent_span_id.is_empty() {
            encoding::bytes::encode(4, &span.parent_span_id, out);
        }
        if !span.name.is_empty() {
            encoding::string::encode(5, &span.name, out);
        }
        if span.kind != 0 {
            encoding::int32::encode(6, &span.kind, out);
        }
        if span.start_time_unix_nano != 0 {
            encoding::fixed64::encode(7, &span.start_time_unix_nano, out);
        }
        if span.end_time_unix_nano != 0 {
            encoding::fixed64::encode(8, &span.end_time_unix_nano, out);
        }
        let attributes = out.len();
        encoding::message::encode_repeated(9, &span.attributes, out);
        let attributes = attributes..out.len();
        encode_count(10, span.dropped_attributes_count, out);
        let events = out.len();
        encoding::message::encode_repeated(11, &span.events, out);
        let events = events..out.len();
        encode_count(12, span.dropped_events_count, out);
        let links = out.len();
        encoding::message::encode_repeated(13, &span.links, out);
        let links = links..out.len();
        encode_count(14, span.dropped_links_count, out);
        if let Some(status) = &span.status {
            encoding::message::encode(15, status, out);
        }
        if span.flags != 0 {
            encoding::fixed32::encode(16, &span.flags, out);
        }
        Self {
            bytes: out,
            attributes,
            events,
            links,
        }
    }

    /// The whole encoding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Field 9, all occurrences; none when there are none.
    pub(crate) fn attributes(&self) -> Option<&'a [u8]> {
        self.piece(&self.attributes)
    }

    /// Field 11, likewise.
    pub(crate) fn events(&self) -> Option<&'a [u8]> {
        self.piece(&self.events)
    }

    /// Field 13, likewise.
    pub(crate) fn links(&self) -> Option<&'a [u8]> {
        self.piece(&self.links)
    }

    fn piece(&self, range: &Range<usize>) -> Option<&'a [u8]> {
        self.bytes
            .get(range.clone())
            .filter(|piece| !piece.is_empty())
    }
}

fn encode_count(field: u32, count: u32, out: &mut Vec<u8>) {
    if count != 0 {
        encoding::uint32::encode(field, &count, out);
    }
}
