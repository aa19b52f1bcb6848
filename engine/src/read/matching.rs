//! Which rows of a partition fulfil a condition.
//!
//! A condition is followed with the truth that is wanted of it, so `not` only changes that
//! and no complement is made that nobody asks for. `and` narrows the rows condition by
//! condition, the cheapest first; `or` looks only at rows that nothing has found yet. What
//! indexes do not tell is asked of the values ([`super::mask`]).

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::facets::Facets;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::segment::promotion::{Owner, PromotedType};
use spanstore_format::segment::{Column, FileColumns};

use super::bounded::{ANY, Bounded, Limits};
use super::condition::{Condition, Leaf, OfAnyAttribute, Predicate};
use super::constraints::Constraints;
use super::indexes::{Answer, IndexRows, Indexes, Stop};
use super::interrupt::Interrupt;
use super::plan::SealedPartition;
use super::scan::{row_groups, rows_of_group};
use super::visibility::hidden_rows;
use crate::error::Error;
use crate::view::Snapshot;

/// A partition of a segment in which conditions are looked for.
pub(crate) struct Matching {
    pub(crate) sealed: SealedPartition,
    pub(crate) interrupt: Arc<dyn Interrupt>,
    facets: OnceLock<Option<Facets>>,
    /// What the indexes told of a leaf and the truth that was wanted of it.
    answers: Mutex<HashMap<(usize, bool), Arc<Answer>>>,
    /// What a condition on any attribute is here.
    searches: Mutex<HashMap<usize, Arc<Condition>>>,
    /// Rows that are not to be seen.
    hidden: OnceLock<RoaringBitmap>,
    /// Row groups whose rows were seen to be the team's.
    pub(super) checked: Mutex<HashSet<u32>>,
}

/// Rows for which a condition has the wanted truth.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) rows: RoaringBitmap,
    /// Whether it has it for all of them.
    pub(crate) is_exact: bool,
}

/// What is asked for the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Indexes alone.
    Indexes,
    /// The values of rows too: what is found is exact.
    Rows,
}

impl Matching {
    pub(crate) fn new(sealed: SealedPartition, interrupt: &Arc<dyn Interrupt>) -> Self {
        Self {
            sealed,
            interrupt: Arc::clone(interrupt),
            facets: OnceLock::new(),
            answers: Mutex::default(),
            searches: Mutex::default(),
            hidden: OnceLock::new(),
            checked: Mutex::default(),
        }
    }

    /// The facets of the partition, if it has any. Look-ups by id need none.
    pub(crate) fn facets(&self) -> Result<Option<&Facets>, Error> {
        if let Some(facets) = self.facets.get() {
            return Ok(facets.as_ref());
        }
        let facets = self.sealed.reader.facets(&self.sealed.partition);
        let facets = facets.map_err(|error| self.corrupt(error))?;
        Ok(self.facets.get_or_init(|| facets).as_ref())
    }

    /// The rows for which a condition may be true, as far as indexes tell.
    pub(crate) fn may(&self, condition: &Condition, within: RoaringBitmap) -> Result<Found, Error> {
        self.rows(condition, true, within, Depth::Indexes)
    }

    /// The rows, among some, for which a condition is true.
    pub(crate) fn find(
        &self,
        condition: &Condition,
        within: RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        let found = self.rows(condition, true, within, Depth::Rows)?;
        Ok(found.rows)
    }

    fn rows(
        &self,
        condition: &Condition,
        wanted: bool,
        within: RoaringBitmap,
        depth: Depth,
    ) -> Result<Found, Error> {
        self.interrupt.check()?;
        if within.is_empty() {
            return Ok(Found::exactly(within));
        }
        match condition {
            Condition::And(all) if wanted => self.all(all, wanted, within, depth),
            Condition::Or(any) if !wanted => self.all(any, wanted, within, depth),
            Condition::And(parts) | Condition::Or(parts) => self.any(parts, wanted, within, depth),
            Condition::Not(one) => self.rows(one, !wanted, within, depth),
            Condition::Implying(one, necessary) => {
                let within = if wanted {
                    self.narrowed(necessary, within)?
                } else {
                    within
                };
                self.rows(one, wanted, within, depth)
            }
            Condition::Within(bounded, limits) => {
                self.within(*bounded, *limits, wanted, within, depth)
            }
            Condition::Leaf(leaf) => self.leaf(leaf, wanted, within, depth),
        }
    }

    /// The rows for which all conditions have the wanted truth.
    fn all(
        &self,
        conditions: &[Condition],
        wanted: bool,
        mut within: RoaringBitmap,
        depth: Depth,
    ) -> Result<Found, Error> {
        let mut is_exact = true;
        for condition in self.cheapest_first(conditions)? {
            let found = self.rows(condition, wanted, within, depth)?;
            is_exact &= found.is_exact;
            within = found.rows;
        }
        Ok(Found {
            is_exact: is_exact || within.is_empty(),
            rows: within,
        })
    }

    /// The rows for which one of the conditions has the wanted truth.
    fn any(
        &self,
        conditions: &[Condition],
        wanted: bool,
        mut within: RoaringBitmap,
        depth: Depth,
    ) -> Result<Found, Error> {
        let mut rows = RoaringBitmap::new();
        let mut is_exact = true;
        for condition in self.cheapest_first(conditions)? {
            let found = self.rows(condition, wanted, within.clone(), depth)?;
            is_exact &= found.is_exact;
            within -= &found.rows;
            rows |= found.rows;
        }
        Ok(Found { rows, is_exact })
    }

    fn cheapest_first<'c>(&self, conditions: &'c [Condition]) -> Result<Vec<&'c Condition>, Error> {
        let mut sorted = Vec::with_capacity(conditions.len());
        for condition in conditions {
            sorted.push((self.cost(condition)?, condition));
        }
        sorted.sort_by_key(|(cost, _)| *cost);
        Ok(sorted.into_iter().map(|(_, condition)| condition).collect())
    }

    /// How much work a condition is, as a rank: nothing for indexes, then by the columns
    /// whose values are asked.
    fn cost(&self, condition: &Condition) -> Result<usize, Error> {
        let most = |parts: &[Condition]| {
            let mut costs = parts.iter().map(|part| self.cost(part));
            costs.try_fold(0, |most, cost| Ok(most.max(cost?)))
        };
        match condition {
            Condition::And(parts) | Condition::Or(parts) => most(parts),
            Condition::Not(one) | Condition::Implying(one, _) => self.cost(one),
            // Few pages lie on both sides of a time, many of another number.
            Condition::Within(bounded, _) => Ok(match bounded {
                Bounded::Start => 1,
                _ => 2,
            }),
            // All columns of attributes may have to be read.
            Condition::Leaf(leaf) if leaf.predicate.of_any_attribute().is_some() => Ok(100),
            Condition::Leaf(leaf) => {
                let is_indexed = self.indexes(self.facets()?).may_answer(leaf);
                let is_indexed = is_indexed.map_err(|stop| self.stopped(stop))?;
                Ok(if is_indexed {
                    0
                } else {
                    1 + leaf.columns.len()
                })
            }
        }
    }

    fn indexes<'i>(&'i self, facets: Option<&'i Facets>) -> Indexes<'i> {
        Indexes {
            reader: &self.sealed.reader,
            partition: &self.sealed.partition,
            facets,
            interrupt: &*self.interrupt,
        }
    }

    /// The place of resources among what rows share, and that of the column of the file that
    /// has their numbers.
    pub(crate) fn resources(&self, columns: &FileColumns) -> Option<(usize, usize)> {
        self.indexes(None).resources(columns)
    }

    /// An attribute of resources given by their numbers as facets have them, and that of no
    /// resource after them; none where the resources are so large that rows are read instead.
    pub(crate) fn values_of_resources(
        &self,
        attribute: &Attribute,
        shared: usize,
        numbers: &[&[u8]],
    ) -> Result<Option<ArrayRef>, Error> {
        let values = self
            .indexes(None)
            .resource_values(attribute, shared, numbers);
        values.map_err(|stop| self.stopped(stop))
    }

    fn stopped(&self, stop: Stop) -> Error {
        match stop {
            Stop::Damaged(error) => self.sealed.segment.corrupt(error),
            Stop::Interrupted(error) => error,
        }
    }

    /// The rows, among some, that may fulfil what ids and times tell.
    pub(crate) fn narrowed(
        &self,
        necessary: &Constraints,
        within: RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        let partition = &self.sealed.partition;
        if !necessary
            .starts
            .overlap(partition.first_start, partition.last_start)
        {
            return Ok(RoaringBitmap::new());
        }
        let narrowed = self.indexes(None).with_ids(necessary, within);
        narrowed.map_err(|stop| self.stopped(stop))
    }

    fn leaf(
        &self,
        leaf: &Leaf,
        wanted: bool,
        mut within: RoaringBitmap,
        depth: Depth,
    ) -> Result<Found, Error> {
        if let Some(asked) = leaf.predicate.of_any_attribute() {
            let each = self.of_each_attribute(leaf, asked)?;
            return self.rows(&each, wanted, within, depth);
        }
        if wanted {
            within = self.narrowed(&leaf.necessary, within)?;
        }
        let among = |rows: &IndexRows, within| {
            let found = rows.among(within);
            found.map_err(|error| self.corrupt(error))
        };
        match &*self.answer(leaf, wanted)? {
            Answer::Exactly(rows) => return among(rows, within).map(Found::exactly),
            Answer::AtMost(rows) => within = among(rows, within)?,
            Answer::Unknown => {}
        }
        match depth {
            Depth::Rows => self.test(leaf, wanted, &within).map(Found::exactly),
            Depth::Indexes => Ok(Found {
                is_exact: within.is_empty(),
                rows: within,
            }),
        }
    }

    /// The condition on any attribute as one on each column that holds attributes, and on
    /// those without one.
    pub(super) fn of_each_attribute(
        &self,
        leaf: &Leaf,
        asked: &OfAnyAttribute,
    ) -> Result<Arc<Condition>, Error> {
        let known = || self.searches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(search) = known().get(&leaf.key()) {
            return Ok(Arc::clone(search));
        }
        let reader = self.sealed.segment.row_reader()?;
        let file = reader.columns();
        // A leaf is told from others by its predicate, so each has its own.
        let asks = |column, predicate: &Arc<dyn Predicate>| {
            Condition::Leaf(Leaf {
                table: leaf.table,
                columns: vec![column],
                predicate: Arc::new(Shared(Arc::clone(predicate))),
                necessary: Constraints::default(),
            })
        };
        let is_elsewhere = |place| {
            let mut elsewhere = asked.elsewhere.iter();
            elsewhere.any(|column| file.place(*column) == Some(place))
        };
        let mut each = Vec::new();
        for key in file.promoted().keys() {
            let is_text = key.value == PromotedType::Text;
            if !is_text && !asked.may_be_in_numbers || !key.is_own && is_elsewhere(key.column) {
                continue;
            }
            let whole = Column::Attribute(Attribute {
                owner: Owner::Span,
                key: key.key.clone(),
                aspect: Aspect::Text,
            });
            let own = Column::OfFile(key.column, key.value.data_type());
            each.push(match key.suffix {
                None if key.is_own => asks(own, &asked.of_values),
                // What lies behind the beginning is asked there.
                Some(suffix) if is_elsewhere(suffix) => Condition::And(vec![
                    asks(own, &asked.of_beginnings),
                    asks(whole, &asked.of_values),
                ]),
                _ => asks(whole, &asked.of_values),
            });
        }
        if let Some(others) = file.place(Owner::Span.column().place()) {
            let column = Column::OfFile(others, DataType::BinaryView);
            each.push(asks(column, &asked.of_messages));
        }
        let search = Arc::new(Condition::Or(each));
        let mut known = known();
        Ok(Arc::clone(known.entry(leaf.key()).or_insert(search)))
    }

    pub(super) fn answer(&self, leaf: &Leaf, wanted: bool) -> Result<Arc<Answer>, Error> {
        let key = (leaf.key(), wanted);
        let known = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known().get(&key) {
            return Ok(Arc::clone(answer));
        }
        let answer = self.indexes(self.facets()?).answer(leaf, wanted);
        let answer = Arc::new(answer.map_err(|stop| self.stopped(stop))?);
        known().insert(key, Arc::clone(&answer));
        Ok(answer)
    }

    /// The rows whose number lies within limits, or outside if `is_wanted` is false: by the
    /// bounds of row groups and pages, and by the values where these do not tell.
    fn within(
        &self,
        bounded: Bounded,
        limits: Limits,
        is_wanted: bool,
        mut within: RoaringBitmap,
        depth: Depth,
    ) -> Result<Found, Error> {
        let partition = &self.sealed.partition;
        if bounded == Bounded::Start {
            match limits.hold_all(partition.first_start, partition.last_start) {
                Some(hold) if hold == is_wanted => return Ok(Found::exactly(within)),
                Some(_) => return Ok(Found::exactly(RoaringBitmap::new())),
                None => {}
            }
        }
        let reader = self.sealed.segment.row_reader()?;
        let column = bounded.place(self.sealed.reader.table());
        let mut unsure_pages = RoaringBitmap::new();
        for group in row_groups(&within) {
            let (least, greatest) = reader.range(group, column).unwrap_or(ANY);
            match limits.hold_all(least, greatest) {
                Some(hold) if hold == is_wanted => continue,
                Some(_) => {
                    within.remove_range(rows_of_group(group));
                    continue;
                }
                None => {}
            }
            let pages = reader.page_ranges(group, column);
            let pages = pages.map_err(|error| self.corrupt(error))?;
            if pages.is_empty() {
                unsure_pages.insert_range(rows_of_group(group));
            }
            for (rows, least, greatest) in pages {
                match limits.hold_all(least, greatest) {
                    Some(hold) if hold == is_wanted => {}
                    Some(_) => drop(within.remove_range(rows)),
                    None => drop(unsure_pages.insert_range(rows)),
                }
            }
        }
        let mut unsure = unsure_pages & &within;
        if depth == Depth::Rows && !unsure.is_empty() {
            let found = self.numbers_within(bounded, limits, &unsure)?;
            within -= if is_wanted { &unsure - found } else { found };
            unsure.clear();
        }
        Ok(Found {
            is_exact: unsure.is_empty(),
            rows: within,
        })
    }

    pub(crate) fn corrupt(&self, error: FormatError) -> Error {
        self.sealed.segment.corrupt(error)
    }

    /// All rows of the partition.
    pub(crate) fn all_rows(&self) -> RoaringBitmap {
        let mut rows = RoaringBitmap::new();
        rows.insert_range(self.sealed.partition.rows.clone());
        rows
    }

    /// Those of some rows that are to be seen in a snapshot, which is always the same one.
    pub(crate) fn visible(
        &self,
        snapshot: &Snapshot,
        rows: RoaringBitmap,
    ) -> Result<RoaringBitmap, Error> {
        let SealedPartition {
            segment,
            reader,
            partition,
        } = &self.sealed;
        let rows = match snapshot.hidden.get(&segment.summary().id) {
            Some(hidden) => rows - hidden,
            None => rows,
        };
        if rows.is_empty() || !snapshot.may_hide(partition) {
            return Ok(rows);
        }
        if let Some(hidden) = self.hidden.get() {
            return Ok(rows - hidden);
        }
        let (horizon, erasures) = (snapshot.horizon, &snapshot.erasures);
        let interrupt = &*self.interrupt;
        let hidden = hidden_rows(segment, reader, partition, horizon, erasures, interrupt)?;
        Ok(rows - self.hidden.get_or_init(|| hidden))
    }
}

/// A predicate that several leaves have.
#[derive(Debug)]
struct Shared(Arc<dyn Predicate>);

impl Predicate for Shared {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        self.0.holds(rows)
    }

    fn text(&self) -> String {
        self.0.text()
    }
}

impl Found {
    fn exactly(rows: RoaringBitmap) -> Self {
        Self {
            rows,
            is_exact: true,
        }
    }
}

/// The rows that lie in a range.
pub(crate) fn part(rows: &RoaringBitmap, range: Range<u32>) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(range);
    all &= rows;
    all
}
