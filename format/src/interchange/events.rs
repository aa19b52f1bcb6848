//! The column of events.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StructArray, UInt32Builder};

use super::attributes::{Attributes, Written};
use super::lists::Ends;
use super::schema::{element, event_fields};
use super::texts::Texts;
use super::times::Times;
use super::{InterchangeOptions, columns_error};
use crate::error::FormatError;
use crate::otlp::Event;

/// Builds the column.
#[derive(Debug)]
pub(super) struct Events {
    options: InterchangeOptions,
    ends: Ends,
    time: Times,
    name: Texts,
    attributes: Attributes,
    dropped_attributes: UInt32Builder,
}

impl Events {
    pub(super) fn new(options: InterchangeOptions) -> Self {
        Self {
            options,
            ends: Ends::default(),
            time: Times::new(options.times),
            name: Texts::default(),
            attributes: Attributes::default(),
            dropped_attributes: UInt32Builder::new(),
        }
    }

    /// Adds the events of a span.
    pub(super) fn append(&mut self, events: &[Event]) -> Result<(), FormatError> {
        for event in events {
            self.time.append(event.time_unix_nano);
            self.name.append(Some(&event.name))?;
            self.attributes.append(&Written::of(&event.attributes))?;
            self.dropped_attributes
                .append_value(event.dropped_attributes_count);
        }
        self.ends.append(events.len())
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, FormatError> {
        let fields = event_fields(self.options);
        let [maps, json] = self.attributes.finish()?;
        let columns = vec![
            self.time.finish(),
            self.name.finish(),
            maps,
            json,
            Arc::new(self.dropped_attributes.finish()),
        ];
        let events = StructArray::try_new(fields.clone(), columns, None)
            .and_then(|all| {
                ListArray::try_new(element(fields), self.ends.finish(), Arc::new(all), None)
            })
            .map_err(columns_error)?;
        Ok(Arc::new(events))
    }
}
