//! Which spans may be stored at all, quota aside.

use prost::Message;
use spanstore_format::otlp::body::{MOST_DECODED_BYTES, SMALL_BYTES};
use spanstore_format::otlp::{
    AnyValue, InstrumentationScope, KeyValue, Measured, Resource, Span, Value, is_shallow,
};
use spanstore_format::span::SpanColumn;
use spanstore_format::span::columns::Classified;

use super::receipt::RefusalReason;
use crate::options::Limits;

/// The window of accepted starts, ns since 1970, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Spans that start before are beyond the team's retention; none when all
    /// are kept.
    pub(crate) kept_from: Option<i64>,
}

impl Window {
    /// Every time there is.
    pub(crate) const ALL: Self = Self {
        first: 0,
        last: i64::MAX,
        kept_from: None,
    };

    /// The window that the limits say at a time.
    pub(crate) fn at(now_nanos: i64, limits: &Limits) -> Self {
        let nanos =
            |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let first = limits
            .oldest
            .map_or(0, |oldest| now_nanos.saturating_sub(nanos(oldest)));
        let last = limits.furthest_ahead;
        let last = last.map_or(i64::MAX, |ahead| now_nanos.saturating_add(nanos(ahead)));
        Self {
            first,
            last,
            kept_from: None,
        }
    }

    /// The same window, without what retention does not keep.
    pub(crate) fn kept_from(self, horizon: Option<i64>) -> Self {
        Self {
            kept_from: horizon,
            ..self
        }
    }
}

/// Checks what stands in the span itself.
///
/// # Errors
/// The first reason to refuse it.
pub(crate) fn check_span(
    span: &Span,
    limits: &Limits,
    window: Window,
) -> Result<(), RefusalReason> {
    use RefusalReason as Reason;
    let refuse_if = |condition: bool, reason| if condition { Err(reason) } else { Ok(()) };
    let is_id = |id: &[u8], bytes: usize| id.len() == bytes && id.iter().any(|byte| *byte != 0);
    // First, since it is all that is known of what cannot be decoded.
    let is_span_shallow = is_shallow(&span.attributes)
        && span
            .events
            .iter()
            .all(|event| is_shallow(&event.attributes))
        && span.links.iter().all(|link| is_shallow(&link.attributes));
    refuse_if(!is_span_shallow, Reason::AttributeTooDeep)?;
    refuse_if(!is_id(&span.trace_id, 16), Reason::InvalidTraceId)?;
    refuse_if(!is_id(&span.span_id, 8), Reason::InvalidSpanId)?;
    refuse_if(
        !matches!(span.parent_span_id.len(), 0 | 8),
        Reason::InvalidParentSpanId,
    )?;
    let start = i64::try_from(span.start_time_unix_nano).map_err(|_| Reason::StartOutOfRange)?;
    // First: a wider window would not help.
    let is_kept = window.kept_from.is_none_or(|kept_from| start >= kept_from);
    refuse_if(!is_kept, Reason::BeyondRetention)?;
    refuse_if(start < window.first, Reason::TooOld)?;
    refuse_if(start > window.last, Reason::TooFarAhead)?;
    refuse_if(span.name.len() > limits.name_bytes, Reason::NameTooLong)?;
    refuse_if(span.events.len() > limits.events, Reason::TooManyEvents)?;
    refuse_if(span.links.len() > limits.links, Reason::TooManyLinks)?;
    check_attributes(&span.attributes, limits)?;
    for event in &span.events {
        refuse_if(event.name.len() > limits.name_bytes, Reason::NameTooLong)?;
        check_attributes(&event.attributes, limits)?;
    }
    for link in &span.links {
        let is_valid = matches!(link.trace_id.len(), 0 | 16) && matches!(link.span_id.len(), 0 | 8);
        refuse_if(!is_valid, Reason::InvalidLinkId)?;
        check_attributes(&link.attributes, limits)?;
    }
    Ok(())
}

/// Checks what the attributes mean; the longest text of a column has `longest_text`
/// bytes.
///
/// # Errors
/// The first reason to refuse the span.
pub(crate) fn check_meaning(
    classified: &Classified<'_>,
    longest_text: usize,
    limits: &Limits,
) -> Result<(), RefusalReason> {
    if classified.is_custom_edge_span() {
        return Err(RefusalReason::EdgeCustomSpan);
    }
    for column in [SpanColumn::SessionId, SpanColumn::RequestId] {
        if classified
            .text(column)
            .is_some_and(|id| id.len() > limits.id_bytes)
        {
            return Err(RefusalReason::IdTooLong);
        }
    }
    if longest_text > limits.mapped_text_bytes {
        return Err(RefusalReason::MappedTextTooLong);
    }
    Ok(())
}

/// Checks the encoding of a span.
///
/// # Errors
/// The reason to refuse it.
pub(crate) fn check_size(encoded: &[u8], limits: &Limits) -> Result<(), RefusalReason> {
    // A span that the log's reader would not decode is none.
    let is_small = encoded.len() <= SMALL_BYTES
        || Measured::of_span(encoded).is_ok_and(|span| span.decoded_bytes <= MOST_DECODED_BYTES);
    if encoded.len() > limits.most_span_bytes() || !is_small {
        return Err(RefusalReason::SpanTooLarge);
    }
    Ok(())
}

/// Checks what the spans of a resource share.
///
/// # Errors
/// The first reason to refuse them.
pub(crate) fn check_resource(
    resource: Option<&Resource>,
    schema_url: &str,
    limits: &Limits,
) -> Result<(), RefusalReason> {
    check_shallow(resource.map(|resource| resource.attributes.as_slice()))?;
    check_schema_url(schema_url, limits)?;
    let Some(resource) = resource else {
        return Ok(());
    };
    check_attributes(&resource.attributes, limits)?;
    if resource.encoded_len() > limits.most_resource_bytes() {
        return Err(RefusalReason::ResourceTooLarge);
    }
    Ok(())
}

/// Checks what the spans of a scope share.
///
/// # Errors
/// The first reason to refuse them.
pub(crate) fn check_scope(
    scope: Option<&InstrumentationScope>,
    schema_url: &str,
    limits: &Limits,
) -> Result<(), RefusalReason> {
    check_shallow(scope.map(|scope| scope.attributes.as_slice()))?;
    check_schema_url(schema_url, limits)?;
    let Some(scope) = scope else {
        return Ok(());
    };
    check_attributes(&scope.attributes, limits)?;
    if scope.encoded_len() > limits.most_scope_bytes() {
        return Err(RefusalReason::ScopeTooLarge);
    }
    Ok(())
}

fn check_shallow(attributes: Option<&[KeyValue]>) -> Result<(), RefusalReason> {
    if attributes.is_some_and(|attributes| !is_shallow(attributes)) {
        return Err(RefusalReason::AttributeTooDeep);
    }
    Ok(())
}

fn check_schema_url(schema_url: &str, limits: &Limits) -> Result<(), RefusalReason> {
    if schema_url.len() > limits.schema_url_bytes {
        return Err(RefusalReason::SchemaUrlTooLong);
    }
    Ok(())
}

/// Checks attributes, of a span, a resource, a scope, an event or a link.
///
/// # Errors
/// The first reason to refuse the span.
fn check_attributes(attributes: &[KeyValue], limits: &Limits) -> Result<(), RefusalReason> {
    if attributes.len() > limits.attributes {
        return Err(RefusalReason::TooManyAttributes);
    }
    for attribute in attributes {
        if attribute.key.len() > limits.attribute_key_bytes {
            return Err(RefusalReason::AttributeKeyTooLong);
        }
        if let Some(value) = &attribute.value {
            let bytes = value_bytes(value, limits.most_attribute_depth())?;
            if bytes > limits.attribute_value_bytes {
                return Err(RefusalReason::AttributeValueTooLarge);
            }
        }
    }
    Ok(())
}

/// Bytes of an element of an array or key-value list beside its content.
const ELEMENT_BYTES: usize = 2;

/// Bytes of a value, about.
fn value_bytes(value: &AnyValue, depth: usize) -> Result<usize, RefusalReason> {
    let deeper = || depth.checked_sub(1).ok_or(RefusalReason::AttributeTooDeep);
    Ok(match &value.value {
        None => 0,
        Some(Value::StringValue(text)) => text.len(),
        Some(Value::BytesValue(bytes)) => bytes.len(),
        Some(Value::ArrayValue(array)) => {
            let depth = deeper()?;
            let bytes = array
                .values
                .iter()
                .map(|value| Ok(value_bytes(value, depth)? + ELEMENT_BYTES));
            bytes.sum::<Result<usize, _>>()?
        }
        Some(Value::KvlistValue(list)) => {
            let depth = deeper()?;
            let bytes = list.values.iter().map(|entry| {
                let value = entry
                    .value
                    .as_ref()
                    .map_or(Ok(0), |value| value_bytes(value, depth));
                value.map(|bytes| bytes + entry.key.len() + ELEMENT_BYTES)
            });
            bytes.sum::<Result<usize, _>>()?
        }
        Some(_) => 8,
    })
}
