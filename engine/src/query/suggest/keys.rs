//! Keys of attributes: what there is to ask for, of which types, and how many spans have it.
//!
//! Which promoted keys a row has is said by the order of its attributes, of which there are few
//! different ones: these are counted in codes, and no value is read. What lies in no column is
//! decoded span by span, of a bounded number of spans. Resources are looked at once each.

use std::collections::{BTreeSet, HashMap as ByKey};
use std::sync::Arc;

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, UInt32Type};
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};
use roaring::RoaringBitmap;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::segment::promotion::rebuild::named;
use spanstore_format::segment::promotion::{Owner, PromotedKeys, PromotedType};
use spanstore_format::segment::{Column, FileColumns};
use spanstore_format::span::attribute::{ValueType, keys};
use spanstore_format::span::first_views;

use super::Prefix;
use crate::error::Error;
use crate::query::attribute_order::{OfOrder, order_column, other_columns, rows_by_order};
use crate::query::builder::Query;
use crate::query::filter::Rows;
use crate::query::job::{Job, on_each, on_each_row_group};
use crate::read::condition::Condition;
use crate::read::hot::HotPart;
use crate::read::interrupt::{Held, Interrupt};
use crate::read::matching::Matching;
use crate::read::meter::Stage;

/// Keys of attributes to choose from, as [`Query::attribute_keys`] gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeKeys {
    /// The most frequent first, equally frequent ones by owner and key.
    pub keys: Vec<AttributeKey>,
    /// How many different keys begin with the prefix, those beyond the limit included.
    pub total: u64,
    /// Spans that were not looked at, since there were more than were to be decoded, and that may
    /// have attributes in no column; those without any attribute are among them. With 0 all is
    /// exact and no key is missing.
    pub unread_spans: u64,
}

impl AttributeKeys {
    /// How many spans a search bar may well have decoded while somebody types.
    pub const DECODED_SPANS: u64 = 65_536;
}

/// A key of attributes, and how many spans have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeKey {
    /// The attribute in the words of [`Filter`](crate::query::Filter): `attributes['db.system']`.
    pub name: String,
    /// Whether spans have it or their resources.
    pub owner: Owner,
    /// The key: `db.system`.
    pub key: String,
    /// What its values are, each once. Of a key that a span has twice the first counts.
    pub types: Vec<ValueType>,
    /// Spans that have it, with a value or without.
    pub spans: u64,
    /// Whether so many have it; else at least so many, and `types` may lack some.
    pub is_exact: bool,
}

impl Query {
    /// The keys of attributes that begin with a text, in any case, in the spans that the query
    /// finds: the `limit` most frequent ones, of spans and of resources, with the types of their
    /// values and the number of spans that have them. An empty text asks for all keys. Of a query
    /// over requests the spans are all those of the requests that it finds; sessions have no
    /// attributes. Columns, order and limit of the query do not matter.
    ///
    /// Keys of resources, and keys that segments keep in columns of their own (common ones whose
    /// values agree in type), are counted exactly without their values. What else a span has is
    /// decoded, of unsealed spans all of it: of at most `decoded_spans` spans, unsealed ones
    /// first, then those of the latest segments, of each those of the latest traces first
    /// ([`AttributeKeys::DECODED_SPANS`]; [`u64::MAX`] for all). If there are more,
    /// [`AttributeKeys::unread_spans`] says how many, rare keys may be missing, and
    /// [`AttributeKey::is_exact`] says which counts are exact all the same.
    ///
    /// # Errors
    /// [`Error::QueryMemory`] when the keys take more memory than a query may; and as
    /// [`Query::stream`].
    pub async fn attribute_keys(
        self,
        prefix: &str,
        limit: usize,
        decoded_spans: u64,
    ) -> Result<AttributeKeys, Error> {
        let prefix = Arc::new(Prefix::new(prefix));
        let (execution, job, asked) = self.begin()?;
        let keys = async move {
            let condition = match asked.question.rows {
                Rows::Spans => asked.condition(&[])?,
                Rows::Requests => job.spans_of_requests(&asked).await?,
                Rows::Sessions => return Ok(Counted::new(&prefix)),
            };
            job.keys(condition, &prefix, decoded_spans).await
        };
        Ok(execution.run(keys).await?.first(limit))
    }
}

/// What was counted of a key.
#[derive(Debug, Default)]
struct OfKey {
    spans: u64,
    types: BTreeSet<ValueType>,
    /// The message in which it was seen last, by its number.
    message: u64,
}

/// Keys, counted.
struct Counted {
    prefix: Arc<Prefix>,
    of_spans: HashMap<String, OfKey>,
    of_resources: HashMap<String, OfKey>,
    /// How many messages were looked at.
    messages: u64,
    unread_spans: u64,
    /// The keys that no unread span has; none where all were read.
    certain: Option<HashSet<String>>,
    /// Memory of the keys, in bytes, about, and what accounts for it.
    bytes: usize,
    held_bytes: usize,
    held: Option<Held>,
}

/// Memory of a key beside its bytes, about.
const KEY_BYTES: usize = 2 * size_of::<(String, OfKey)>();

/// Memory is accounted for in steps of so many bytes.
const HELD_STEP: usize = 64 << 10;

/// Rows in memory that are decoded before it is asked whether the query is to end.
const ROWS_A_CHECK: usize = 8_192;

impl Counted {
    fn new(prefix: &Arc<Prefix>) -> Self {
        Self {
            prefix: Arc::clone(prefix),
            of_spans: HashMap::new(),
            of_resources: HashMap::new(),
            messages: 0,
            unread_spans: 0,
            certain: None,
            bytes: 0,
            held_bytes: 0,
            held: None,
        }
    }

    /// What is known of a key; none of one that is not asked for.
    fn of(&mut self, owner: Owner, key: &str) -> Option<&mut OfKey> {
        let known = match owner {
            Owner::Span => &mut self.of_spans,
            Owner::Resource => &mut self.of_resources,
        };
        match known.entry_ref(key) {
            EntryRef::Occupied(known) => Some(known.into_mut()),
            EntryRef::Vacant(_) if !self.prefix.is_of(key) => None,
            EntryRef::Vacant(new) => {
                self.bytes += KEY_BYTES + key.len();
                Some(new.insert(OfKey::default()))
            }
        }
    }

    /// Adds the keys of a message that so many spans have; `is_counted` says of which it is
    /// known already that they have them.
    fn add_message(
        &mut self,
        owner: Owner,
        message: &[u8],
        spans: u64,
        is_counted: impl Fn(&str) -> bool,
    ) {
        self.messages += 1;
        let number = self.messages;
        for (key, value) in keys(message, owner.field()) {
            if let Some(of_key) = self.of(owner, key)
                && of_key.message != number
            {
                of_key.message = number;
                if !is_counted(key) {
                    of_key.spans += spans;
                    of_key.types.insert(value);
                }
            }
        }
    }

    /// Adds what was counted elsewhere.
    fn add(&mut self, other: Self) {
        let of_spans = other.of_spans.into_iter();
        let of_spans = of_spans.map(|(key, of_key)| (Owner::Span, key, of_key));
        let of_resources = other.of_resources.into_iter();
        let of_resources = of_resources.map(|(key, of_key)| (Owner::Resource, key, of_key));
        for (owner, key, of_key) in of_spans.chain(of_resources) {
            if let Some(known) = self.of(owner, &key) {
                known.spans += of_key.spans;
                known.types.extend(of_key.types);
            }
        }
    }

    /// Notes spans that are not looked at, which may have any key but some.
    fn leave_out(&mut self, spans: u64, certain: HashSet<String>) {
        if spans > 0 {
            self.unread_spans += spans;
            self.certain = Some(match self.certain.take() {
                Some(known) => known.intersection(&certain).cloned().collect(),
                None => certain,
            });
        }
    }

    /// Accounts for the memory.
    fn hold(&mut self, interrupt: &dyn Interrupt) -> Result<(), Error> {
        if self.bytes > self.held_bytes {
            self.held = None;
            self.held_bytes = self.bytes.next_multiple_of(HELD_STEP);
            self.held = Some(interrupt.hold_bytes(self.held_bytes)?);
        }
        Ok(())
    }

    /// The most frequent keys.
    fn first(self, limit: usize) -> AttributeKeys {
        let Self {
            of_spans,
            of_resources,
            certain,
            unread_spans,
            ..
        } = self;
        let is_certain = |key: &str| {
            let certain = certain.as_ref();
            certain.is_none_or(|certain| certain.contains(key))
        };
        let key = |owner, key: String, of_key: OfKey| {
            let attribute = Attribute {
                owner,
                key,
                aspect: Aspect::Text,
            };
            AttributeKey {
                name: attribute.to_string(),
                is_exact: owner == Owner::Resource || is_certain(&attribute.key),
                owner,
                key: attribute.key,
                types: of_key.types.into_iter().collect(),
                spans: of_key.spans,
            }
        };
        let of_spans = of_spans.into_iter();
        let of_spans = of_spans.map(|(name, of_key)| key(Owner::Span, name, of_key));
        let of_resources = of_resources.into_iter();
        let of_resources = of_resources.map(|(name, of_key)| key(Owner::Resource, name, of_key));
        let found = of_spans.chain(of_resources).filter(|key| key.spans > 0);
        let mut keys: Vec<AttributeKey> = found.collect();
        let total = keys.len() as u64;
        keys.sort_unstable_by(|one, other| {
            let most = other.spans.cmp(&one.spans);
            most.then_with(|| (one.owner, &one.key).cmp(&(other.owner, &other.key)))
        });
        keys.truncate(limit);
        AttributeKeys {
            keys,
            total,
            unread_spans,
        }
    }
}

impl Job {
    /// The keys of the spans that fulfil a condition.
    async fn keys(
        &self,
        condition: Condition,
        prefix: &Arc<Prefix>,
        decoded_spans: u64,
    ) -> Result<Counted, Error> {
        let (condition, interrupt) = (Arc::new(condition), self.interrupt());
        let mut counted = Counted::new(prefix);
        let mut rest = decoded_spans;
        self.keys_of_hot(&condition, &mut counted, &mut rest)
            .await?;
        let mut partitions = self.sealed(&condition, &interrupt)?;
        partitions.sort_by_key(|matching| {
            let sealed = &matching.sealed;
            std::cmp::Reverse((sealed.partition.last_start, sealed.segment.summary().id))
        });
        for matching in partitions {
            self.keys_of_partition(&matching, &condition, &mut counted, &mut rest)
                .await?;
            counted.hold(&*interrupt)?;
            self.next_batch().await?;
        }
        Ok(counted)
    }

    /// Adds the keys of rows in memory, the latest of which are decoded.
    async fn keys_of_hot(
        &self,
        condition: &Arc<Condition>,
        counted: &mut Counted,
        rest: &mut u64,
    ) -> Result<(), Error> {
        let interrupt = self.interrupt();
        let parts = self.hot(condition, &interrupt)?.into_iter().enumerate();
        let found = on_each(parts, |(number, parts)| {
            let (condition, interrupt) = (Arc::clone(condition), Arc::clone(&interrupt));
            move || {
                let found = parts.into_iter().map(|part| {
                    let rows = part.find(&condition, &*interrupt)?;
                    Ok((part, rows))
                });
                Ok((number, found.collect::<Result<Vec<_>, Error>>()?))
            }
        });
        let mut found = found.await?;
        found.sort_by_key(|(number, _)| *number);
        let mut work = Vec::new();
        for (part, rows) in found
            .into_iter()
            .rev()
            .flat_map(|(_, part)| part.into_iter().rev())
        {
            let count = rows.count_set_bits() as u64;
            let left_out = count.saturating_sub(*rest);
            *rest -= count - left_out;
            counted.leave_out(left_out, HashSet::new());
            work.push((part, rows, left_out as usize));
        }
        let prefix = Arc::clone(&counted.prefix);
        let counts = on_each(work, |(part, rows, left_out)| {
            let (interrupt, prefix) = (Arc::clone(&interrupt), Arc::clone(&prefix));
            move || {
                let mut counted = Counted::new(&prefix);
                let count = || add_hot(&part, &rows, left_out, &mut counted, &*interrupt);
                interrupt.meter().time(Stage::Answer, count)?;
                counted.hold(&*interrupt)?;
                Ok(counted)
            }
        });
        for one in counts.await? {
            counted.add(one);
            counted.hold(&*interrupt)?;
        }
        Ok(())
    }

    /// Adds the keys of the rows of a partition.
    async fn keys_of_partition(
        &self,
        matching: &Arc<Matching>,
        condition: &Arc<Condition>,
        counted: &mut Counted,
        rest: &mut u64,
    ) -> Result<(), Error> {
        let rows = self.exactly(matching, condition).await?;
        let of_file = Arc::new(File::of(matching)?);
        let prefix = Arc::clone(&counted.prefix);
        let found = on_each_row_group(&rows, |rows| {
            let (matching, of_file) = (Arc::clone(matching), Arc::clone(&of_file));
            let prefix = Arc::clone(&prefix);
            move || {
                let mut counted = Counted::new(&prefix);
                let count = || of_file.add_columns(&matching, &rows, &mut counted);
                let others = matching.interrupt.meter().time(Stage::Answer, count)?;
                counted.hold(&*matching.interrupt)?;
                Ok((counted, others))
            }
        });
        let mut others = RoaringBitmap::new();
        for (one, of_group) in found.await? {
            counted.add(one);
            others |= of_group;
        }
        let left_out = others.len().saturating_sub(*rest);
        *rest -= others.len() - left_out;
        counted.leave_out(left_out, of_file.certain(matching)?);
        others.remove_smallest(left_out);
        let found = on_each_row_group(&others, |rows| {
            let (matching, of_file) = (Arc::clone(matching), Arc::clone(&of_file));
            let prefix = Arc::clone(&prefix);
            move || {
                let mut counted = Counted::new(&prefix);
                let count = || of_file.add_others(&matching, &rows, &mut counted);
                matching.interrupt.meter().time(Stage::Answer, count)?;
                Ok(counted)
            }
        });
        for one in found.await? {
            counted.add(one);
        }
        Ok(())
    }
}

/// Adds the keys of rows in memory; the first ones, of which so many are left out, have only
/// their resources looked at.
fn add_hot(
    part: &HotPart,
    rows: &BooleanBuffer,
    left_out: usize,
    counted: &mut Counted,
    interrupt: &dyn Interrupt,
) -> Result<(), Error> {
    let read = |owner: Owner| part.values(&owner.column().into(), rows);
    let messages = read(Owner::Span)?;
    let messages = messages.as_binary_view().iter();
    for (row, message) in messages.enumerate().skip(left_out) {
        if row.is_multiple_of(ROWS_A_CHECK) {
            interrupt.check()?;
            counted.hold(interrupt)?;
        }
        if let Some(message) = message {
            counted.add_message(Owner::Span, message, 1, |_| false);
        }
    }
    let resources = read(Owner::Resource)?;
    let resources = resources.as_binary_view();
    let (firsts, places) = first_views(resources);
    let mut spans = vec![0; firsts.len()];
    for place in places.values() {
        if let Some(spans) = spans.get_mut(*place as usize) {
            *spans += 1;
        }
    }
    for (first, spans) in firsts.values().iter().zip(spans) {
        let row = *first as usize;
        if resources.is_valid(row) {
            counted.add_message(Owner::Resource, resources.value(row), spans, |_| false);
        }
    }
    Ok(())
}

/// Where a segment's file has the attributes of its rows.
struct File {
    columns: Arc<FileColumns>,
    /// The places of the columns with the order of attributes, with those that have no column,
    /// and with the numbers of resources.
    order: Option<usize>,
    others: Option<usize>,
    resources: Option<(usize, usize)>,
}

impl File {
    fn of(matching: &Matching) -> Result<Self, Error> {
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
    fn certain(&self, matching: &Matching) -> Result<HashSet<String>, Error> {
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

    /// Adds the keys that some rows of a row group have in columns, and those of their
    /// resources. Answers the rows that may have others.
    fn add_columns(
        &self,
        matching: &Matching,
        rows: &RoaringBitmap,
        counted: &mut Counted,
    ) -> Result<RoaringBitmap, Error> {
        self.add_resources(matching, rows, counted)?;
        if self.others.is_none() {
            return Ok(RoaringBitmap::new());
        }
        let Some(place) = self.order else {
            return Ok(rows.clone());
        };
        let mut of_keys = vec![0; self.promoted().keys().len()];
        matching.each_value(&order_column(place), rows, |orders, spans| {
            let orders = orders.as_binary_view_opt().ok_or_else(other_columns)?;
            for (order, spans) in orders.iter().zip(spans) {
                let (numbers, _) = named(order);
                for number in numbers {
                    if let Some(of_key) = of_keys.get_mut(number) {
                        *of_key += spans;
                    }
                }
            }
            Ok(())
        })?;
        for (key, spans) in self.promoted().keys().iter().zip(of_keys) {
            if spans > 0
                && let Some(of_key) = counted.of(Owner::Span, &key.key)
            {
                of_key.spans += spans;
                of_key.types.insert(value_type(key.value));
            }
        }
        rows_by_order(matching, place, OfOrder::HasOthers, rows)
    }

    /// Adds the keys of the resources of some rows of a row group.
    fn add_resources(
        &self,
        matching: &Matching,
        rows: &RoaringBitmap,
        counted: &mut Counted,
    ) -> Result<(), Error> {
        let Some((shared, place)) = self.resources else {
            return Ok(());
        };
        let mut of_numbers: ByKey<u32, u64> = ByKey::new();
        let numbers = Column::OfFile(place, DataType::UInt32);
        matching.each_value(&numbers, rows, |numbers, spans| {
            let numbers = numbers.as_primitive_opt::<UInt32Type>();
            let numbers = numbers.ok_or_else(other_columns)?.iter();
            for (number, spans) in numbers.zip(spans).filter(|(_, spans)| **spans > 0) {
                if let Some(number) = number {
                    *of_numbers.entry(number).or_default() += spans;
                }
            }
            Ok(())
        })?;
        let corrupt = |error| matching.corrupt(error);
        let all = matching.sealed.reader.shared().map_err(corrupt)?;
        let Some(messages) = all.get(shared).and_then(Option::as_ref) else {
            return Ok(());
        };
        let _held = matching.interrupt.hold_bytes(messages.bytes() as usize)?;
        let (numbers, spans): (Vec<u32>, Vec<u64>) = of_numbers.into_iter().unzip();
        let resources = messages.pick(&UInt32Array::from(numbers));
        let resources = resources.map_err(corrupt)?;
        for (message, spans) in resources.of_rows().zip(spans) {
            if let Some(message) = message {
                counted.add_message(Owner::Resource, message, spans, |_| false);
            }
        }
        Ok(())
    }

    /// Adds the keys that some rows of a row group have in no column.
    fn add_others(
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
            for (row, message) in messages.iter().enumerate() {
                let Some(message) = message else {
                    continue;
                };
                let order = orders.filter(|orders| orders.is_valid(row));
                let (in_columns, _) = named(order.map(|orders| orders.value(row)));
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
