//! How deeply attribute values may hold each other.

use super::{AnyValue, ExportTraceServiceRequest, KeyValue, OtlpError, Value};

/// Most arrays and key-value lists within each other in the value of an attribute.
/// A value that is neither is in none.
pub const MAX_VALUE_NESTING: usize = 16;

/// Checks every attribute value of a request.
///
/// A request that was built by hand needs it before it is encoded, since encoding
/// calls itself for each level.
///
/// # Errors
/// [`OtlpError::TooDeep`] when values nest deeper than [`MAX_VALUE_NESTING`].
pub fn check_nesting(request: &ExportTraceServiceRequest) -> Result<(), OtlpError> {
    let is_shallow = request.resource_spans.iter().all(|resource_spans| {
        resource_spans
            .resource
            .iter()
            .all(|resource| is_shallow(&resource.attributes))
            && resource_spans.scope_spans.iter().all(|scope_spans| {
                scope_spans
                    .scope
                    .iter()
                    .all(|scope| is_shallow(&scope.attributes))
                    && scope_spans.spans.iter().all(|span| {
                        is_shallow(&span.attributes)
                            && span
                                .events
                                .iter()
                                .all(|event| is_shallow(&event.attributes))
                            && span.links.iter().all(|link| is_shallow(&link.attributes))
                    })
            })
    });
    if is_shallow {
        Ok(())
    } else {
        Err(OtlpError::TooDeep {
            limit: MAX_VALUE_NESTING,
        })
    }
}

/// Whether no value of these attributes nests deeper than [`MAX_VALUE_NESTING`].
pub fn is_shallow(attributes: &[KeyValue]) -> bool {
    attributes
        .iter()
        .filter_map(|attribute| attribute.value.as_ref())
        .all(|value| fits(value, MAX_VALUE_NESTING))
}

/// Whether a value lies in at most so many containers.
fn fits(value: &AnyValue, containers: usize) -> bool {
    match &value.value {
        Some(Value::ArrayValue(array)) => containers
            .checked_sub(1)
            .is_some_and(|rest| array.values.iter().all(|value| fits(value, rest))),
        Some(Value::KvlistValue(list)) => containers.checked_sub(1).is_some_and(|rest| {
            list.values
                .iter()
                .filter_map(|entry| entry.value.as_ref())
                .all(|value| fits(value, rest))
        }),
        _ => true,
    }
}
