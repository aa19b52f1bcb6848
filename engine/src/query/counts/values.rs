//! Values, counted.

use std::borrow::Cow;

use hashbrown::HashMap;
use spanstore_format::FormatError;

use super::{FacetColumn, FacetCount};
use crate::error::Error;
use crate::query::aggregate::most_first;
use crate::query::job::{Holding, Job};
use crate::query::suggest::Prefix;

/// Values of a facet, counted.
pub(in crate::query) struct Counts {
    pub(in crate::query) spans: HashMap<String, u64>,
    /// Spans without a value.
    pub(in crate::query) none: u64,
    /// Different values that are counted, at most.
    pub(in crate::query) most_values: usize,
    /// Whether there are more; then no value is.
    pub(in crate::query) are_too_many: bool,
    /// What the values begin with that are counted.
    prefix: Prefix,
    /// Memory that they take, and for how much of it was accounted.
    bytes: usize,
    held_bytes: usize,
    held: Holding,
}

/// Memory is accounted for in steps of so many bytes at most.
const HELD_STEP: usize = 64 << 10;

impl Counts {
    pub(super) fn new(job: &Job, column: &FacetColumn) -> Self {
        Self {
            spans: HashMap::new(),
            none: 0,
            most_values: column.most_values,
            are_too_many: false,
            prefix: column.prefix.clone(),
            bytes: 0,
            held_bytes: 0,
            held: job.held("values of a facet"),
        }
    }

    pub(super) fn add(&mut self, value: Option<Cow<'_, str>>, spans: u64) -> Result<(), Error> {
        let Some(value) = value else {
            self.none += spans;
            return Ok(());
        };
        if let Some(counted) = self.spans.get_mut(&*value) {
            *counted += spans;
        } else if spans == 0 || self.are_too_many || !self.prefix.is_of(&value) {
            return Ok(());
        } else if self.spans.len() == self.most_values {
            self.drop_values()?;
        } else {
            // About as much again for the place in the table.
            self.bytes += 2 * size_of::<(String, u64)>() + value.len();
            if self.bytes > self.held_bytes {
                // Twice as much each time at first.
                let step = self.bytes.next_power_of_two().min(HELD_STEP);
                self.held_bytes = self.bytes.next_multiple_of(step);
                self.held.set(self.held_bytes)?;
            }
            self.spans.insert(value.into_owned(), spans);
        }
        Ok(())
    }

    /// Lets the values go: there are too many.
    fn drop_values(&mut self) -> Result<(), Error> {
        self.spans = HashMap::new();
        self.are_too_many = true;
        (self.bytes, self.held_bytes) = (0, 0);
        self.held.set(0)
    }

    pub(super) fn add_all(&mut self, other: Self) -> Result<(), Error> {
        if other.are_too_many {
            self.drop_values()?;
        }
        if self.spans.is_empty() && !self.are_too_many {
            let none = self.none + other.none;
            *self = Self { none, ..other };
            return Ok(());
        }
        self.none += other.none;
        let mut spans = other.spans.into_iter();
        spans.try_for_each(|(value, spans)| self.add(Some(value.into()), spans))
    }

    /// The counts of the values of lists of texts, of which these are the counts.
    pub(super) fn of_lists(self) -> Result<Self, Error> {
        let mut of_values = Self {
            spans: HashMap::new(),
            ..self
        };
        for (list, rows) in self.spans {
            let values: Vec<String> = serde_json::from_str(&list).map_err(|error| {
                let found = error.to_string();
                let error = FormatError::malformed("columns", 0, "arrays of texts", found);
                Error::corrupt("requests", error)
            })?;
            if values.is_empty() {
                of_values.none += rows;
            }
            for value in values {
                of_values.add(Some(value.into()), rows)?;
            }
        }
        Ok(of_values)
    }

    /// How many rows have a value or none, where a row has one at most.
    pub(in crate::query) fn total(&self) -> u64 {
        self.none + self.spans.values().sum::<u64>()
    }

    /// The values with their rows, in any order.
    pub(in crate::query) fn into_values(self) -> impl Iterator<Item = (String, u64)> {
        self.spans.into_iter()
    }

    /// The values, the most frequent first.
    pub(super) fn finish(self) -> Vec<FacetCount> {
        let none = (self.none > 0).then_some((None, self.none));
        let some = self.spans.into_iter();
        let all = some.map(|(value, spans)| (Some(value), spans)).chain(none);
        let mut counts: Vec<FacetCount> = all
            .map(|(value, spans)| FacetCount { value, spans })
            .collect();
        counts.sort_unstable_by(|one, other| {
            most_first(
                (one.value.as_deref(), one.spans),
                (other.value.as_deref(), other.spans),
            )
        });
        counts
    }
}
