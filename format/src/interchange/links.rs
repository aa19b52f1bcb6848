//! The column of links.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StructArray, UInt32Builder};

use super::attributes::{Attributes, Written};
use super::ids::Ids;
use super::lists::Ends;
use super::schema::{SPAN_ID_BYTES, TRACE_ID_BYTES, element, link_fields};
use super::texts::Texts;
use super::{InterchangeOptions, columns_error};
use crate::error::FormatError;
use crate::otlp::Link;

/// Builds the column.
#[derive(Debug)]
pub(super) struct Links {
    options: InterchangeOptions,
    ends: Ends,
    trace_id: Ids,
    span_id: Ids,
    trace_state: Texts,
    flags: UInt32Builder,
    attributes: Attributes,
    dropped_attributes: UInt32Builder,
}

impl Links {
    pub(super) fn new(options: InterchangeOptions) -> Self {
        Self {
            options,
            ends: Ends::default(),
            trace_id: Ids::new(options.ids, TRACE_ID_BYTES),
            span_id: Ids::new(options.ids, SPAN_ID_BYTES),
            trace_state: Texts::default(),
            flags: UInt32Builder::new(),
            attributes: Attributes::default(),
            dropped_attributes: UInt32Builder::new(),
        }
    }

    /// Adds the links of a span.
    pub(super) fn append(&mut self, links: &[Link]) -> Result<(), FormatError> {
        for link in links {
            self.trace_id.append(&link.trace_id)?;
            self.span_id.append(&link.span_id)?;
            let trace_state = Some(link.trace_state.as_str()).filter(|text| !text.is_empty());
            self.trace_state.append(trace_state)?;
            self.flags.append_value(link.flags);
            self.attributes.append(&Written::of(&link.attributes))?;
            self.dropped_attributes
                .append_value(link.dropped_attributes_count);
        }
        self.ends.append(links.len())
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, FormatError> {
        let fields = link_fields(self.options);
        let [maps, json] = self.attributes.finish()?;
        let columns = vec![
            self.trace_id.finish(),
            self.span_id.finish(),
            self.trace_state.finish(),
            Arc::new(self.flags.finish()),
            maps,
            json,
            Arc::new(self.dropped_attributes.finish()),
        ];
        let links = StructArray::try_new(fields.clone(), columns, None)
            .and_then(|all| {
                ListArray::try_new(element(fields), self.ends.finish(), Arc::new(all), None)
            })
            .map_err(columns_error)?;
        Ok(Arc::new(links))
    }
}
