//! Which spans may be stored at all, quota aside.

use spanstore_format::otlp::{AnyValue, KeyValue, Span, Value};
use spanstore_format::span::columns::Classified;

use super::receipt::RefusalReason;
use crate::options::Limits;

/// The window of accepted starts, ns since 1970, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Window {
    /// Every time there is.
    pub(crate) const ALL: Self = Self {
        first: 0,
        last: i64::MAX,
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
        Self { first, last }
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
    refuse_if(!is_id(&span.trace_id, 16), Reason::InvalidTraceId)?;
    refuse_if(!is_id(&span.span_id, 8), Reason::InvalidSpanId)?;
    refuse_if(
        !matches!(span.parent_span_id.len(), 0 | 8),
        Reason::InvalidParentSpanId,
    )?;
    let start = i64::try_from(span.start_time_unix_nano).map_err(|_| Reason::StartOutOfRange)?;
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
        check_attributes(&link.attributes, limits)?;
    }
    Ok(())
}

/// Checks what the attributes mean.
///
/// # Errors
/// The first reason to refuse the span.
pub(crate) fn check_meaning(
    classified: &Classified<'_>,
    limits: &Limits,
) -> Result<(), RefusalReason> {
    if classified.is_custom_edge_span() {
        return Err(RefusalReason::EdgeCustomSpan);
    }
    for column in ["session_id", "request_id"] {
        if classified
            .text(column)
            .is_some_and(|id| id.len() > limits.id_bytes)
        {
            return Err(RefusalReason::IdTooLong);
        }
    }
    Ok(())
}

/// Checks attributes, of a span, a resource, a scope, an event or a link.
///
/// # Errors
/// The first reason to refuse the span.
pub(crate) fn check_attributes(
    attributes: &[KeyValue],
    limits: &Limits,
) -> Result<(), RefusalReason> {
    if attributes.len() > limits.attributes {
        return Err(RefusalReason::TooManyAttributes);
    }
    for attribute in attributes {
        if attribute.key.len() > limits.attribute_key_bytes {
            return Err(RefusalReason::AttributeKeyTooLong);
        }
        if let Some(value) = &attribute.value {
            let bytes = value_bytes(value, limits.attribute_depth)?;
            if bytes > limits.attribute_value_bytes {
                return Err(RefusalReason::AttributeValueTooLarge);
            }
        }
    }
    Ok(())
}

/// Bytes of a value, about.
fn value_bytes(value: &AnyValue, depth: usize) -> Result<usize, RefusalReason> {
    let deeper = || depth.checked_sub(1).ok_or(RefusalReason::AttributeTooDeep);
    Ok(match &value.value {
        None => 0,
        Some(Value::StringValue(text)) => text.len(),
        Some(Value::BytesValue(bytes)) => bytes.len(),
        Some(Value::ArrayValue(array)) => {
            let depth = deeper()?;
            let bytes = array.values.iter().map(|value| value_bytes(value, depth));
            bytes.sum::<Result<usize, _>>()?
        }
        Some(Value::KvlistValue(list)) => {
            let depth = deeper()?;
            let bytes = list.values.iter().map(|entry| {
                let value = entry
                    .value
                    .as_ref()
                    .map_or(Ok(0), |value| value_bytes(value, depth));
                value.map(|bytes| bytes + entry.key.len())
            });
            bytes.sum::<Result<usize, _>>()?
        }
        Some(_) => 8,
    })
}
