//! How deeply attribute values may hold each other.

use super::{AnyValue, ExportTraceServiceRequest, KeyValue, OtlpError, Value};

/// Deepest nesting of attribute values, in levels. The value of an attribute is
/// at level 1, the values in its array or list at level 2.
pub const MAX_VALUE_NESTING: usize = 16;

/// Checks every attribute value of a request.
///
/// The decoders do so themselves. A request that was built by hand needs it
/// before it is encoded, since encoding calls itself for each level.
///
/// # Errors
/// [`OtlpError::TooDeep`] when values nest deeper than [`MAX_VALUE_NESTING`].
pub fn check_nesting(request: &ExportTraceServiceRequest) -> Result<(), OtlpError> {
    let is_shallow = request.resource_spans.iter().all(|resource_spans| {
        resource_spans
            .resource
            .iter()
            .all(|resource| fits(&resource.attributes))
            && resource_spans.scope_spans.iter().all(|scope_spans| {
                scope_spans
                    .scope
                    .iter()
                    .all(|scope| fits(&scope.attributes))
                    && scope_spans.spans.iter().all(|span| {
                        fits(&span.attributes)
                            && span.events.iter().all(|event| fits(&event.attributes))
                            && span.links.iter().all(|link| fits(&link.attributes))
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

fn fits(attributes: &[KeyValue]) -> bool {
    attributes
        .iter()
        .filter_map(|attribute| attribute.value.as_ref())
        .all(|value| fits_in(value, 1))
}

fn fits_in(value: &AnyValue, level: usize) -> bool {
    level <= MAX_VALUE_NESTING
        && match &value.value {
            Some(Value::ArrayValue(array)) => {
                array.values.iter().all(|value| fits_in(value, level + 1))
            }
            Some(Value::KvlistValue(list)) => list
                .values
                .iter()
                .filter_map(|entry| entry.value.as_ref())
                .all(|value| fits_in(value, level + 1)),
            _ => true,
        }
}
