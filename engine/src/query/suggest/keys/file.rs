//! Keys of attributes in a segment's file.

use std::collections::{BTreeMap, HashMap as ByKey};
use std::sync::Arc;

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::{DataType, UInt32Type};
use hashbrown::HashSet;
use roaring::RoaringBitmap;
use spanstore_format::segment::promotion::rebuild::named;
use spanstore_format::segment::promotion::{Owner, PromotedKeys, PromotedType};
use spanstore_format::segment::{Column, FileColumns};
use spanstore_format::span::attribute::ValueType;

use super::counted::{Counted, Growing};
use crate::error::Error;
use crate::query::attribute_order::{OfOrder, order_column, other_columns, rows_by_order};
use crate::read::interrupt::Interrupt;
use crate::read::matching::Matching;

/// Resources that are read at once: each may be large.
const RESOURCES_AT_ONCE: usize = 256;

/// Where a segment's file has the attributes of its rows.
pub(super) struct File {
    columns: Arc<FileColumns>,
    /// The places of the columns with the order of attributes, with those that have no column,
    /// and with the numbers of resources.
    order: Option<usize>,
    others: Option<usize>,
    resources: Option<(usize, usize)>,
}

/// What is known of the keys of some rows without their attributes.
#[derive(Default)]
pub(super) struct InColumns {
    /// How many of the rows have each promoted key in its column, by the key's number.
    promoted: BTreeMap<usize, u64>,
    /// How many of the rows have each resource, by its number.
    resources: BTreeMap<u32, u64>,
    /// How many of the rows may have attributes in no column.
    pub(super) others: u64,
    held: Growing,
}

/// Memory of a number and how many rows have it, about.
const ENTRY_BYTES: usize = 2 * size_of::<(u64, u64)>();

impl InColumns {
    /// Adds what is known of other rows.
    pub(super) fn add(&mut self, other: Self, interrupt: &dyn Interrupt) -> Result<(), Error> {
        for (number, rows) in other.promoted {
            *self.promoted.entry(number).or_default() += rows;
        }
        for (number, rows) in other.resources {
            *self.resources.entry(number).or_default() += rows;
        }
        self.others += other.others;
        self.hold(interrupt)
    }

    fn hold(&mut self, interrupt: &dyn Interrupt) -> Result<(), Error> {
        let entries = self.promoted.len() + self.resources.len();
        self.held.hold(entries * ENTRY_BYTES, interrupt)
    }
}

impl File {
    pub(super) fn of(matching: &Matching) -> Result<Self, Error> {
        let reader = &matching.sealed.reader;
        let columns = reader.columns().map_err(|error| matching.corrupt(error))?;
        Ok(Self {
            order: columns.order(),
            others: columns.place(Owner::Span.column().place()),
            resources: matching.resources(&columns),
            columns,
        })
    }

    fn promoted(&self) -> &PromotedKeys {
        self.columns.promoted()
    }

    /// The keys that rows of the partition have in columns alone.
    pub(super) fn certain(&self, matching: &Matching) -> Result<HashSet<String>, Error> {
        let facets = matching.facets()?;
        let mut certain = HashSet::new();
        for (number, key) in self.promoted().keys().iter().enumerate() {
            let has_strays = match facets {
                Some(facets) => facets.has_strays(number),
                None => Ok(key.has_strays),
            };
            if !has_strays.map_err(|error| matching.corrupt(error))? {
                certain.insert(key.key.clone());
            }
        }
        Ok(certain)
    }

    /// What is known of the keys of some rows of a row group without their attributes.
    pub(super) fn in_columns(
        &self,
        matching: &Matching,
        rows: &RoaringBitmap,
    ) -> Result<InColumns, Error> {
        let mut found = InColumns::default();
        if let Some((_, place)) = self.resources {
            let numbers = Column::OfFile(place, DataType::UInt32);
            matching.each_value(&numbers, rows, |numbers, counts| {
                let numbers = numbers.as_primitive_opt::<UInt32Type>();
                let numbers = numbers.ok_or_else(other_columns)?.iter();
                for (number, count) in numbers.zip(counts).filter(|(_, count)| **count > 0) {
                    if let Some(number) = number {
                        *found.resources.entry(number).or_default() += count;
                    }
                }
                Ok(())
            })?;
        }
        match (self.others, self.order) {
            (None, _) => {}
            (Some(_), None) => found.others = rows.len(),
            (Some(_), Some(place)) => {
                matching.each_value(&order_column(place), rows, |orders, counts| {
                    let orders = orders.as_binary_view_opt().ok_or_else(other_columns)?;
                    for (order, count) in orders.iter().zip(counts) {
                        let (numbers, has_others) = named(order);
                        for number in numbers {
                            *found.promoted.entry(number).or_default() += count;
                        }
                        found.others += if has_others { *count } else { 0 };
                    }
                    Ok(())
                })?;
            }
        }
        found.hold(&*matching.interrupt)?;
        Ok(found)
    }

    /// Adds the keys that are known without the attributes of rows, and those of their resources.
    pub(super) fn add_columns(
        &self,
        matching: &Matching,
        found: &InColumns,
        counted: &mut Counted,
    ) -> Result<(), Error> {
        for (number, key) in self.promoted().keys().iter().enumerate() {
            let rows = found.promoted.get(&number).copied().unwrap_or_default();
            if rows > 0
                && let Some(of_key) = counted.of(Owner::Span, &key.key)
            {
                of_key.spans += rows;
                of_key.types.insert(value_type(key.value));
            }
        }
        let Some((shared, _)) = self.resources else {
            return Ok(());
        };
        let corrupt = |error| matching.corrupt(error);
        let all = matching.sealed.reader.shared().map_err(corrupt)?;
        let Some(messages) = all.get(shared).and_then(Option::as_ref) else {
            return Ok(());
        };
        let mut left = found.resources.iter();
        loop {
            let at_once = left.by_ref().take(RESOURCES_AT_ONCE);
            let (numbers, rows): (Vec<u32>, Vec<u64>) = at_once.unzip();
            if numbers.is_empty() {
                return Ok(());
            }
            matching.interrupt.check()?;
            let resources = messages.pick(&UInt32Array::from(numbers));
            let resources = resources.map_err(corrupt)?;
            let bytes = resources.of_rows().flatten().map(<[u8]>::len).sum();
            let _held = matching.interrupt.hold_bytes(bytes)?;
            for (message, rows) in resources.of_rows().zip(rows) {
                if let Some(message) = message {
                    counted.add_message(Owner::Resource, message, rows, |_| false);
                }
            }
            counted.hold(&*matching.interrupt)?;
        }
    }

    /// The rows, among some of a row group, that may have attributes in no column.
    pub(super) fn others(
        &self,
        matching: &Matching,
        rows: &RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        match (self.others, self.order) {
            (None, _) => Ok(RoaringBitmap::new()),
            (Some(_), None) => Ok(rows.clone()),
            (Some(_), Some(place)) => rows_by_order(matching, place, OfOrder::HasOthers, rows),
        }
    }

    /// Adds the keys that some rows of a row group have in no column.
    pub(super) fn add_others(
        &self,
        matching: &Matching,
        rows: &RoaringBitmap,
        counted: &mut Counted,
    ) -> Result<(), Error> {
        let Some(others) = self.others else {
            return Ok(());
        };
        let promoted: ByKey<&str, usize> = self
            .promoted()
            .keys()
            .iter()
            .zip(0..)
            .map(|(key, number)| (key.key.as_str(), number))
            .collect();
        let others = Column::OfFile(others, DataType::BinaryView);
        let columns = [others].into_iter().chain(self.order.map(order_column));
        let columns: Vec<Column> = columns.collect();
        matching.each_batch(rows, &columns, |_, batch| {
            let mut columns = batch
                .columns()
                .iter()
                .map(|column| column.as_binary_view_opt());
            let messages = columns.next().flatten().ok_or_else(other_columns)?;
            let orders = columns.next().flatten();
            // There are few different orders.
            let mut of_orders: ByKey<Option<&[u8]>, Vec<usize>> = ByKey::new();
            for (row, message) in messages.iter().enumerate() {
                let Some(message) = message else {
                    continue;
                };
                let order = orders.filter(|orders| orders.is_valid(row));
                let order = order.map(|orders| orders.value(row));
                let in_columns = of_orders.entry(order).or_insert_with(|| named(order).0);
                let is_counted = |key: &str| {
                    let number = promoted.get(key);
                    number.is_some_and(|number| in_columns.contains(number))
                };
                counted.add_message(Owner::Span, message, 1, is_counted);
            }
            counted.hold(&*matching.interrupt)
        })
    }
}

fn value_type(value: PromotedType) -> ValueType {
    match value {
        PromotedType::Text => ValueType::Text,
        PromotedType::Integer => ValueType::Integer,
        PromotedType::Double => ValueType::Double,
        PromotedType::Boolean => ValueType::Boolean,
    }
}
