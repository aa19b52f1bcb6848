//! Which attribute keys a segment promotes, from a sample of its rows.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};
use twox_hash::XxHash3_64;

use super::entry::{self, Plain};
use super::{Owner, PromotedKey, PromotedType, Promotion, order_column};
use crate::span::attribute::{RESOURCE_FIELD, SPAN_FIELD};
use crate::span::mapping;
use crate::span::schema::{ATTRIBUTES, RESOURCE_ATTRIBUTES};

/// Columns that keys of spans get, at most.
const MOST_SPAN_COLUMNS: usize = 48;
/// Columns that keys of resources get, at most.
const MOST_RESOURCE_COLUMNS: usize = 16;
/// A key is promoted when at least one row in this many has it: each column
/// costs every look-up some microseconds, a rare key little where it is.
const RAREST: u64 = 100;
/// Share of a key's values, in percent, that must be of one type.
const LEAST_AGREEMENT: u64 = 90;
/// Share of a key's values, in percent, that must equal those of the mapped
/// column to be kept there.
const LEAST_EQUALITY: u64 = 98;
/// Keys that are counted, at most: who makes up keys shall not fill memory.
const MOST_CANDIDATES: usize = 10_000;
/// Different values of a key that are told apart.
const MOST_DISTINCT: usize = 1_024;
/// Rows of a sample, at most, about.
pub const SAMPLE_ROWS: u64 = 16_384;

/// Counts the attributes of some rows. The choice depends on nothing but the
/// rows that are added.
#[derive(Debug, Default)]
pub struct Sample {
    rows: u64,
    /// Rows of the next batch before the first that is counted.
    skipped: usize,
    /// Chooses the rows.
    choices: u64,
    span: HashMap<Vec<u8>, Candidate>,
    resource: HashMap<Vec<u8>, Candidate>,
}

/// What was seen of a key.
#[derive(Debug, Default)]
struct Candidate {
    values: u64,
    bytes: u64,
    /// Values of each [`PromotedType`] in its order.
    types: [u64; 4],
    /// Columns that the mapping may fill from the key, and the values that
    /// equal theirs.
    mapped: Vec<(usize, u64)>,
    /// Hashes of values, the first [`MOST_DISTINCT`] different ones.
    distinct: HashSet<u64>,
}

impl Sample {
    /// Adds one row in `step` of a batch with the columns of spans, on average:
    /// at equal steps the rows of traces of one shape would be the same ones.
    pub fn add(&mut self, batch: &RecordBatch, step: usize) {
        let bytes = |name| {
            batch
                .column_by_name(name)
                .and_then(|column| column.as_binary_view_opt())
        };
        let (attributes, resources) = (bytes(ATTRIBUTES), bytes(RESOURCE_ATTRIBUTES));
        let mut next = self.skipped;
        while next < batch.num_rows() {
            let row = next;
            next += self.gap(step);
            self.rows += 1;
            if let Some(attributes) = attributes.filter(|one| one.is_valid(row)) {
                let message = attributes.value(row);
                count(&mut self.span, message, SPAN_FIELD, (batch, row));
            }
            if let Some(resources) = resources.filter(|one| one.is_valid(row)) {
                let message = resources.value(row);
                count(&mut self.resource, message, RESOURCE_FIELD, (batch, row));
            }
        }
        self.skipped = next - batch.num_rows();
    }

    /// Rows from a counted one to the next: the same for the same rows before.
    fn gap(&mut self, step: usize) -> usize {
        // The linear congruential generator of Knuth's MMIX.
        self.choices = self
            .choices
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        1 + (self.choices >> 33) as usize % (2 * step.max(1) - 1)
    }

    /// The keys worth promoting: common ones whose values agree in type, those
    /// that take most bytes first.
    pub fn choose(&self) -> Promotion {
        let mut keys = Vec::new();
        let mut next_column = order_column() + 1;
        for (owner, candidates, mut most) in [
            (Owner::Span, &self.span, MOST_SPAN_COLUMNS),
            (Owner::Resource, &self.resource, MOST_RESOURCE_COLUMNS),
        ] {
            let mut ranked: Vec<_> = candidates
                .iter()
                .filter_map(|(key, seen)| {
                    let value = self.worth(seen)?;
                    Some((std::str::from_utf8(key).ok()?, value, seen))
                })
                .collect();
            ranked.sort_unstable_by_key(|(key, _, seen)| (std::cmp::Reverse(seen.bytes), *key));
            for (key, value, seen) in ranked {
                let mapped = seen.mapped.iter().find(|(_, equal)| match owner {
                    Owner::Span => equal * 100 >= seen.values * LEAST_EQUALITY,
                    Owner::Resource => *equal == self.rows,
                });
                let column = match mapped {
                    Some((column, _)) => *column,
                    None if most > 0 => {
                        most -= 1;
                        next_column += 1;
                        next_column - 1
                    }
                    None => continue,
                };
                keys.push(PromotedKey {
                    owner,
                    key: key.to_owned(),
                    value,
                    column,
                    has_strays: false,
                    is_varied: seen.distinct.len() as u64 * 4
                        >= seen.values.min(2 * MOST_DISTINCT as u64),
                });
            }
        }
        Promotion { keys }
    }

    /// The type that a key is promoted with, if it is worth it.
    fn worth(&self, seen: &Candidate) -> Option<PromotedType> {
        let types = [
            PromotedType::Text,
            PromotedType::Integer,
            PromotedType::Double,
            PromotedType::Boolean,
        ];
        let (value, values) = types
            .into_iter()
            .zip(seen.types)
            .max_by_key(|(_, values)| *values)?;
        let is_common = values * RAREST >= self.rows;
        let agrees = values * 100 >= seen.values * LEAST_AGREEMENT;
        (values > 0 && is_common && agrees).then_some(value)
    }
}

fn count(
    candidates: &mut HashMap<Vec<u8>, Candidate>,
    message: &[u8],
    field: u32,
    (batch, row): (&RecordBatch, usize),
) {
    for (entry, whole) in entry::all(message, field) {
        let Some((key, value)) = entry::read(entry) else {
            continue;
        };
        let is_full = candidates.len() >= MOST_CANDIDATES;
        let candidate = match candidates.entry_ref(key) {
            EntryRef::Occupied(seen) => seen.into_mut(),
            EntryRef::Vacant(_) if is_full => continue,
            EntryRef::Vacant(new) => {
                let mapped = std::str::from_utf8(key).map_or(Vec::new(), mapping::columns_of);
                new.insert(Candidate {
                    mapped: mapped.into_iter().map(|column| (column, 0)).collect(),
                    ..Candidate::default()
                })
            }
        };
        candidate.values += 1;
        candidate.bytes += whole.len() as u64;
        if candidate.distinct.len() < MOST_DISTINCT {
            candidate.distinct.insert(XxHash3_64::oneshot(entry));
        }
        let place = match value {
            Plain::Text(_) => 0,
            Plain::Integer(_) => 1,
            Plain::Double(_) => 2,
            Plain::Boolean(_) => 3,
        };
        if let Some(values) = candidate.types.get_mut(place) {
            *values += 1;
        }
        for (column, equal) in &mut candidate.mapped {
            let column = batch.columns().get(*column);
            let is_equal = column.is_some_and(|column| is_equal(column, row, value));
            *equal += u64::from(is_equal);
        }
    }
}

/// Whether a mapped column holds exactly this value, so that the value can be
/// had from it.
pub(super) fn is_equal(column: &ArrayRef, row: usize, value: Plain<'_>) -> bool {
    if column.is_null(row) {
        return false;
    }
    match value {
        Plain::Text(text) => column
            .as_string_view_opt()
            .is_some_and(|column| column.value(row) == text),
        Plain::Integer(number) => column
            .as_primitive_opt::<Int32Type>()
            .is_some_and(|column| i64::from(column.value(row)) == number),
        Plain::Boolean(truth) => column
            .as_boolean_opt()
            .is_some_and(|column| column.value(row) == truth),
        Plain::Double(_) => false,
    }
}
