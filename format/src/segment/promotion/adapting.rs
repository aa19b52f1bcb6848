//! Rows whose attributes were taken apart by some keys, by others: what only one side
//! promotes is put back or taken out, all else stays where it is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewBuilder, RecordBatch};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::entry;
use super::rebuild::Values;
use super::split::{OwnColumn, Split, take};
use super::{PromotedKeys, Promotion};
use crate::error::FormatError;
use crate::span::attribute::{self, SPAN_FIELD};
use crate::wire;

/// How rows by the keys of a file become rows by those of a promotion.
#[derive(Debug)]
pub(super) struct Adapting {
    /// For each key of the file its number in the promotion; none for those that are put
    /// back.
    numbers: Vec<Option<usize>>,
    /// The numbers of the keys that are taken out, by their names.
    taken: HashMap<Vec<u8>, usize>,
}

/// The columns that attributes lie in.
pub(super) struct Apart<'a, F> {
    /// The rows with the columns of the table.
    pub(super) rows: &'a RecordBatch,
    pub(super) residual: &'a ArrayRef,
    pub(super) order: &'a ArrayRef,
    /// A column of the file.
    pub(super) column: F,
}

/// What becomes of rows with some order of attributes.
struct Reordered {
    order: Vec<u8>,
    /// Whether what is not promoted stays as it is.
    is_all: bool,
}

impl Adapting {
    /// None when both promote a key, but in different columns.
    pub(super) fn new(from: &Promotion, to: &Promotion) -> Option<Self> {
        let numbers = from.keys().iter().map(|key| {
            let keys = to.keys().iter().enumerate();
            let mut same = keys.filter(|(_, one)| one.key == key.key);
            match same.next() {
                None => Some(None),
                Some((number, one)) => {
                    let is_one = one.is_same_column(key) && same.next().is_none();
                    is_one.then_some(Some(number))
                }
            }
        });
        let numbers: Vec<Option<usize>> = numbers.collect::<Option<_>>()?;
        let keys = to.keys().iter().enumerate();
        let taken = keys.filter(|(number, _)| !numbers.contains(&Some(*number)));
        Some(Self {
            taken: taken
                .map(|(number, key)| (key.key.clone().into_bytes(), number))
                .collect(),
            numbers,
        })
    }

    /// Whether both promote the same keys and number them alike.
    fn is_nothing(&self) -> bool {
        let mut numbers = self.numbers.iter().enumerate();
        self.taken.is_empty() && numbers.all(|(number, other)| *other == Some(number))
    }

    /// The attributes of rows by the keys of `to`; they lie apart by those of a file.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the order names what is not there.
    pub(super) fn adapt<'a>(
        &self,
        from: &PromotedKeys,
        to: &Promotion,
        apart: &Apart<'a, impl Fn(usize) -> Option<&'a ArrayRef>>,
    ) -> Result<Split, FormatError> {
        let rows = apart.rows.num_rows();
        let mut own: Vec<Option<OwnColumn>> = vec![];
        own.resize_with(to.keys().len(), || None);
        for number in self.taken.values() {
            if let (Some(own), Some(key)) = (own.get_mut(*number), to.keys().get(*number)) {
                *own = key
                    .mapped
                    .is_none()
                    .then(|| OwnColumn::new(key.value, rows));
            }
        }
        let (residual, order) = if self.is_nothing() {
            (Arc::clone(apart.residual), Arc::clone(apart.order))
        } else {
            self.rows(from, to, apart, &mut own)?
        };
        let own = to.keys().iter().zip(own).enumerate();
        let own = own.filter(|(_, (key, _))| key.mapped.is_none());
        let own = own.map(|(number, (_, taken))| match taken {
            Some(taken) => Ok(taken.finish(rows)),
            None => {
                let place = self.numbers.iter().position(|one| *one == Some(number));
                let key = place.and_then(|place| from.keys().get(place));
                let values = key.and_then(|key| (apart.column)(key.column));
                values
                    .map(Arc::clone)
                    .ok_or_else(|| malformed(0, "a column that was not read"))
            }
        });
        Ok(Split {
            own: own.collect::<Result<_, _>>()?,
            residual,
            order,
        })
    }

    /// What is left of attributes, and their order.
    fn rows<'a>(
        &self,
        from: &PromotedKeys,
        to: &Promotion,
        apart: &Apart<'a, impl Fn(usize) -> Option<&'a ArrayRef>>,
        own: &mut [Option<OwnColumn>],
    ) -> Result<(ArrayRef, ArrayRef), FormatError> {
        let residual = apart.residual.as_binary_view_opt();
        let (Some(residual), Some(order)) = (residual, apart.order.as_binary_view_opt()) else {
            return Err(malformed(0, "columns of other types"));
        };
        let keys = from.keys().iter().zip(&self.numbers);
        let put_back: Vec<Option<ArrayRef>> = keys
            .map(|(key, number)| match number {
                Some(_) => None,
                None => key.values(&apart.column),
            })
            .collect();
        let mut residuals = BinaryViewBuilder::with_capacity(order.len());
        let mut orders = BinaryViewBuilder::with_capacity(order.len()).with_deduplicate_strings();
        // Few orders repeat over and over.
        let mut known: HashMap<&[u8], Reordered> = HashMap::new();
        let mut work = Work {
            adapting: self,
            to,
            rows: apart.rows,
            own,
            seen: vec![None; to.keys().len()],
            residual: Vec::new(),
            order: Vec::new(),
        };
        for row in 0..order.len() {
            let message = residual.is_valid(row).then(|| residual.value(row));
            let mut entries = entry::all(message.unwrap_or_default(), SPAN_FIELD);
            work.residual.clear();
            work.order.clear();
            if order.is_null(row) {
                let message = message.unwrap_or_default();
                if !self.taken.is_empty() && is_covered(message) {
                    entries.for_each(|(entry, whole)| work.add(row, entry, whole));
                }
            } else {
                let mut codes = order.value(row);
                let reordered = match known.entry(codes) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(self.reordered(row, codes)?),
                };
                if reordered.is_all {
                    residuals.append_option(message);
                    orders.append_value(&reordered.order);
                    continue;
                }
                while !codes.is_empty() {
                    let Some(number) = next_code(row, &mut codes)? else {
                        let next = entries.next();
                        let (entry, whole) = next.ok_or_else(|| malformed(row, "too few"))?;
                        work.add(row, entry, whole);
                        continue;
                    };
                    if let Some(Some(number)) = self.numbers.get(number) {
                        wire::put_varint(*number as u64 + 1, &mut work.order);
                        continue;
                    }
                    let values = put_back.get(number).and_then(Option::as_ref);
                    let value = values.and_then(Values::of).and_then(|one| one.get(row));
                    let (Some(key), Some(value)) = (from.keys().get(number), value) else {
                        return Err(malformed(row, &format!("no value of key {number}")));
                    };
                    entry::put(SPAN_FIELD, &key.key, value, &mut work.residual);
                    work.order.push(0);
                }
                if entries.next().is_some() {
                    return Err(malformed(row, "attributes left over"));
                }
            }
            if work.order.iter().all(|code| *code == 0) {
                let is_put_back = order.is_valid(row);
                let all = if is_put_back {
                    Some(work.residual.as_slice())
                } else {
                    message
                };
                residuals.append_option(all);
                orders.append_null();
                continue;
            }
            let left = Some(&work.residual).filter(|left| !left.is_empty());
            residuals.append_option(left);
            orders.append_value(&work.order);
        }
        Ok((Arc::new(residuals.finish()), Arc::new(orders.finish())))
    }

    /// What becomes of rows with an order of attributes.
    fn reordered(&self, row: usize, mut codes: &[u8]) -> Result<Reordered, FormatError> {
        let mut order = Vec::with_capacity(codes.len());
        let mut is_all = true;
        while !codes.is_empty() {
            let number = match next_code(row, &mut codes)? {
                None => {
                    is_all &= self.taken.is_empty();
                    None
                }
                Some(number) => {
                    let number = self.numbers.get(number);
                    let number = *number.ok_or_else(|| malformed(row, "another key"))?;
                    is_all &= number.is_some();
                    number
                }
            };
            wire::put_varint(number.map_or(0, |number| number as u64 + 1), &mut order);
        }
        Ok(Reordered { order, is_all })
    }
}

/// The row at work.
struct Work<'a> {
    adapting: &'a Adapting,
    to: &'a Promotion,
    rows: &'a RecordBatch,
    own: &'a mut [Option<OwnColumn>],
    /// The row at which each key was last seen: of keys that repeat only the first may be
    /// promoted.
    seen: Vec<Option<usize>>,
    residual: Vec<u8>,
    order: Vec<u8>,
}

impl Work<'_> {
    /// Adds the next attribute that the file does not promote.
    fn add(&mut self, row: usize, entry: &[u8], whole: &[u8]) {
        let number = attribute::key_of(entry).and_then(|key| self.adapting.taken.get(key));
        let taken = number.filter(|number| {
            let seen = self.seen.get_mut(**number);
            let is_first = seen.is_some_and(|last| last.replace(row) != Some(row));
            let key = self.to.keys().get(**number);
            let own = self.own.get_mut(**number).and_then(Option::as_mut);
            is_first
                && key
                    .zip(entry::read(entry))
                    .is_some_and(|(key, (_, value))| take(self.rows, row, key, value, own))
        });
        match taken {
            Some(number) => wire::put_varint(*number as u64 + 1, &mut self.order),
            None => {
                self.residual.extend_from_slice(whole);
                self.order.push(0);
            }
        }
    }
}

/// The next number of an order: that of a promoted key, or none for the next attribute
/// that is not promoted.
fn next_code(row: usize, codes: &mut &[u8]) -> Result<Option<usize>, FormatError> {
    let code = wire::take_shortest_varint(codes);
    let code = code.ok_or_else(|| malformed(row, "no number"))?;
    Ok(code.checked_sub(1).map(|number| number as usize))
}

/// Whether a message has attributes and nothing else.
fn is_covered(message: &[u8]) -> bool {
    let entries = entry::all(message, SPAN_FIELD);
    entries.map(|(_, whole)| whole.len()).sum::<usize>() == message.len()
}

fn malformed(row: usize, found: &str) -> FormatError {
    FormatError::malformed("attribute order", row as u64, "an attribute's place", found)
}
