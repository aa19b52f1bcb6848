//! Conditions as far as the indexes of a segment can tell, and the rows of a
//! partition that may fulfil them.
//!
//! A condition is true, false or null for a row, as in SQL. Evaluation finds
//! the rows for which it may be true and those for which it may be false; a
//! leaf that no index answers may be either for every row. So `not` needs no
//! more than to change the two, and what comes out is never too few.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringViewArray,
};
use roaring::RoaringBitmap;
use spanstore_format::segment::facets::{Facets, integer_of};
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::segment::promotion::{Owner, PromotedType};
use spanstore_format::segment::{FileColumns, Id, Partition, SegmentReader};
use spanstore_format::table::{ColumnType, SharedKind};
use spanstore_format::{FormatError, TraceId};

use super::interrupt::Interrupt;
use crate::error::Error;

/// A column whose values facets may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FacetColumn {
    /// A column of the table, by its place in it.
    Stored(usize),
    /// One aspect of an attribute.
    Attribute(Attribute),
}

/// A condition on one column.
pub(crate) trait Test: fmt::Debug + Send + Sync {
    /// For each value, whether the condition is true, false or null.
    fn holds(&self, values: ArrayRef) -> Option<BooleanArray>;
}

/// A condition on rows.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// All of these; true when there is none.
    And(Vec<Self>),
    /// One of these.
    Or(Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// The trace is one of these.
    Traces(BTreeSet<TraceId>),
    /// The session is one of these.
    Sessions(BTreeSet<String>),
    /// The request is one of these.
    Requests(BTreeSet<String>),
    /// The start lies at or after this, ns since 1970.
    Since(i64),
    /// The start lies before this, ns since 1970.
    Until(i64),
    /// A condition that holds only where this one holds.
    OnlyIf(Box<Self>),
    /// The first one, of which it is known that it holds only where the second
    /// one does.
    Implying(Box<Self>, Box<Self>),
    /// A condition on a column that may be a facet.
    Facet(FacetColumn, Arc<dyn Test>),
    /// A condition that no index knows of.
    Unknown,
}

impl Condition {
    /// Bounds of the start of rows that fulfil it.
    pub(crate) fn bounds(&self) -> Bounds {
        match self {
            Self::Since(time) => (Some(*time), None),
            Self::Until(time) => (None, Some(*time)),
            Self::And(all) => all.iter().map(Self::bounds).fold((None, None), both),
            Self::Implying(one, other) => both(one.bounds(), other.bounds()),
            Self::Or(any) => any
                .iter()
                .map(Self::bounds)
                .reduce(|one, other| {
                    (
                        one.0.zip(other.0).map(|(one, other)| one.min(other)),
                        one.1.zip(other.1).map(|(one, other)| one.max(other)),
                    )
                })
                .unwrap_or_default(),
            Self::OnlyIf(one) => one.bounds(),
            _ => (None, None),
        }
    }
}

/// At or after, and before; ns since 1970.
pub(crate) type Bounds = (Option<i64>, Option<i64>);

fn both(one: Bounds, other: Bounds) -> Bounds {
    let until = match (one.1, other.1) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    (one.0.max(other.0), until)
}

/// Some rows of a partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rows {
    All,
    None,
    Some(RoaringBitmap),
}

impl Rows {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, rows) | (rows, Self::All) => rows,
            (Self::Some(one), Self::Some(other)) => Self::Some(one & other),
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, rows) | (rows, Self::None) => rows,
            (Self::Some(one), Self::Some(other)) => Self::Some(one | other),
        }
    }

    /// As row numbers of a partition with these rows.
    pub(crate) fn within(self, rows: &Range<u32>) -> RoaringBitmap {
        match self {
            Self::All => all(rows),
            Self::None => RoaringBitmap::new(),
            Self::Some(rows) => rows,
        }
    }
}

fn all(rows: &Range<u32>) -> RoaringBitmap {
    let mut bitmap = RoaringBitmap::new();
    bitmap.insert_range(rows.clone());
    bitmap
}

/// What is known about a condition in a partition.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    /// Rows for which it may be true.
    pub(crate) may_hold: Rows,
    /// Rows for which it may be false.
    may_fail: Rows,
    /// Whether the two sets are exact, that is: it is true, or false, for
    /// each of their rows.
    pub(crate) is_exact: bool,
}

impl Truth {
    fn unknown() -> Self {
        Self {
            may_hold: Rows::All,
            may_fail: Rows::All,
            is_exact: false,
        }
    }

    fn always(holds: bool) -> Self {
        let (may_hold, may_fail) = if holds {
            (Rows::All, Rows::None)
        } else {
            (Rows::None, Rows::All)
        };
        Self {
            may_hold,
            may_fail,
            is_exact: true,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            may_hold: self.may_hold.and(other.may_hold),
            may_fail: self.may_fail.or(other.may_fail),
            is_exact: self.is_exact && other.is_exact,
        }
    }

    fn not(self) -> Self {
        Self {
            may_hold: self.may_fail,
            may_fail: self.may_hold,
            is_exact: self.is_exact,
        }
    }
}

/// One partition of a segment, and what its indexes say.
pub(crate) struct Indexes<'a> {
    pub(crate) reader: &'a SegmentReader,
    pub(crate) partition: &'a Partition,
    pub(crate) facets: Option<&'a Facets>,
    pub(crate) interrupt: &'a dyn Interrupt,
}

/// Why an evaluation came to no end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An index is damaged.
    Damaged(FormatError),
    /// The work is to end.
    Interrupted(Error),
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Damaged(error)
    }
}

impl Indexes<'_> {
    /// What is known about a condition.
    pub(crate) fn evaluate(&self, condition: &Condition) -> Result<Truth, Stop> {
        self.check()?;
        Ok(match condition {
            Condition::Unknown => Truth::unknown(),
            Condition::And(all) => {
                let mut truth = Truth::always(true);
                for one in all {
                    truth = truth.and(self.evaluate(one)?);
                }
                truth
            }
            Condition::Or(any) => {
                // It fails where all of them fail.
                let mut failure = Truth::always(true);
                for one in any {
                    failure = failure.and(self.evaluate(one)?.not());
                }
                failure.not()
            }
            Condition::Not(one) => self.evaluate(one)?.not(),
            Condition::OnlyIf(one) => Truth {
                may_hold: self.evaluate(one)?.may_hold,
                ..Truth::unknown()
            },
            Condition::Implying(one, other) => {
                // What follows from it makes it no less exact.
                let (truth, narrower) = (self.evaluate(one)?, self.evaluate(other)?);
                Truth {
                    may_hold: truth.may_hold.and(narrower.may_hold),
                    ..truth
                }
            }
            Condition::Traces(ids) => self.ids(ids.iter().map(|id| Id::Trace(*id)))?,
            Condition::Sessions(ids) => self.ids(ids.iter().map(|id| Id::Session(id)))?,
            Condition::Requests(ids) => self.ids(ids.iter().map(|id| Id::Request(id)))?,
            Condition::Since(time) => self.starts_before(*time, false),
            Condition::Until(time) => self.starts_before(*time, true),
            Condition::Facet(column, test) => self.facet(column, test.as_ref())?,
        })
    }

    /// Rows by ids. Their hashes may be shared, so this is not exact.
    fn ids<'a>(&self, ids: impl Iterator<Item = Id<'a>>) -> Result<Truth, Stop> {
        let mut rows = RoaringBitmap::new();
        for id in ids {
            self.check()?;
            if let Some(found) = self.reader.find(self.partition, id)? {
                rows |= found;
            }
        }
        Ok(Truth {
            may_hold: Rows::Some(rows),
            may_fail: Rows::All,
            is_exact: false,
        })
    }

    fn starts_before(&self, time: i64, holds: bool) -> Truth {
        if self.partition.last_start < time {
            Truth::always(holds)
        } else if self.partition.first_start >= time {
            Truth::always(!holds)
        } else {
            Truth::unknown()
        }
    }

    fn check(&self) -> Result<(), Stop> {
        self.interrupt.check().map_err(Stop::Interrupted)
    }

    /// The place of resources among what rows share, and that of the column of the file
    /// that has their numbers.
    fn resources(&self, columns: &FileColumns) -> Option<(usize, usize)> {
        let mut shared = self.reader.table().roles().shared.iter();
        let shared = shared.position(|shared| shared.kind == SharedKind::Resources)?;
        Some((shared, columns.number(shared)?))
    }

    /// An attribute of resources given by their numbers, and that of no resource after
    /// them; none where the resources are so large that rows are read instead.
    fn resource_values(
        &self,
        attribute: &Attribute,
        shared: usize,
        numbers: &[&[u8]],
    ) -> Result<Option<ArrayRef>, Stop> {
        let malformed = || FormatError::malformed("facets", 0, "numbers of resources", "others");
        let number = |bytes: &&[u8]| Some(Some(u32::try_from(integer_of(bytes)?).ok()?));
        let numbers: Option<Vec<Option<u32>>> = numbers.iter().map(number).collect();
        let numbers = numbers.ok_or_else(malformed)?.into_iter().chain([None]);
        let all = self.reader.shared()?;
        let messages = all.get(shared).and_then(Option::as_ref);
        let messages = messages.ok_or_else(malformed)?;
        if messages.bytes() > MOST_RESOURCE_BYTES {
            return Ok(None);
        }
        self.check()?;
        Ok(Some(
            messages.pick(&numbers.collect())?.attribute(attribute)?,
        ))
    }

    fn facet(&self, column: &FacetColumn, test: &dyn Test) -> Result<Truth, Stop> {
        let unknown = || Ok(Truth::unknown());
        let Some(facets) = self.facets else {
            return unknown();
        };
        let columns = self.reader.columns()?;
        let (place, kind, has_strays, is_named) = match column {
            FacetColumn::Stored(column) => {
                let table = self.reader.table();
                let found = columns.place(*column).zip(table.column(*column));
                let Some((place, column)) = found else {
                    return unknown();
                };
                (place, ValueKind::Stored(column.value), false, true)
            }
            FacetColumn::Attribute(attribute) if attribute.owner == Owner::Resource => {
                let Some((shared, place)) = self.resources(&columns) else {
                    return unknown();
                };
                (place, ValueKind::Resource(attribute, shared), false, true)
            }
            FacetColumn::Attribute(attribute) => {
                let Some((number, key)) = columns.promoted().find(&attribute.key) else {
                    return unknown();
                };
                // Of this partition: others in the segment do not matter.
                let has_strays = facets.has_strays(number)?;
                let kind = ValueKind::Promoted(attribute.aspect, key.value);
                (key.column, kind, has_strays, key.is_own)
            }
        };
        let Some(facet) = facets.facet(place)? else {
            return unknown();
        };
        let mut values = Vec::new();
        for place in 0..facet.len() {
            values.push(facet.value(place)?);
        }
        let bytes: Vec<&[u8]> = values.iter().map(|value| value.bytes.as_ref()).collect();
        let typed = match kind {
            ValueKind::Stored(value) => stored_values(value, &bytes),
            ValueKind::Promoted(aspect, value) => promoted_values(aspect, value, &bytes),
            ValueKind::Resource(attribute, shared) => {
                self.resource_values(attribute, shared, &bytes)?
            }
        };
        let Some(answers) = typed.and_then(|values| test.holds(values)) else {
            return unknown();
        };
        if answers.len() != values.len() + 1 {
            return unknown();
        }
        let read = |range| self.reader.postings(range);
        let rows_of = |wanted: bool| {
            self.check()?;
            let is_wanted = |place: usize| {
                place < values.len() && answers.is_valid(place) && answers.value(place) == wanted
            };
            facet.rows_of(is_wanted, &read).map_err(Stop::from)
        };
        let (mut holds, mut fails) = (rows_of(true)?, rows_of(false)?);
        // The last answer is that for rows without a value.
        let of_null = answers
            .is_valid(values.len())
            .then(|| answers.value(values.len()));
        let mut is_exact = true;
        if facet.null_rows() > 0 && (of_null.is_some() || has_strays) {
            let nulls = facet.nulls(&read)?;
            if has_strays {
                // The value may be where no posting sees it.
                is_exact = false;
                holds |= &nulls;
                fails |= nulls;
            } else if of_null == Some(true) {
                holds |= nulls;
            } else {
                fails |= nulls;
            }
        }
        if !is_named {
            // The column holds the attribute's value in the rows that have the
            // attribute there; in others the attribute is absent or elsewhere.
            if has_strays || of_null == Some(true) {
                return unknown();
            }
            return Ok(Truth {
                may_hold: Rows::Some(holds),
                may_fail: Rows::All,
                is_exact: false,
            });
        }
        Ok(Truth {
            may_hold: Rows::Some(holds),
            may_fail: Rows::Some(fails),
            is_exact,
        })
    }
}

/// Bytes of the resources of a segment up to which a condition looks at all of them.
const MOST_RESOURCE_BYTES: u64 = 16 << 20;

/// What the values of a facet are.
enum ValueKind<'a> {
    /// Those of a column of the table.
    Stored(ColumnType),
    /// One aspect of those of a promoted key.
    Promoted(Aspect, PromotedType),
    /// Numbers of resources, of which this attribute is asked for; and the place of
    /// resources among what rows share.
    Resource(&'a Attribute, usize),
}

/// Values of a column of the table as an array, and a null after them.
pub(crate) fn stored_values(value: ColumnType, values: &[&[u8]]) -> Option<ArrayRef> {
    match value {
        ColumnType::Text => {
            let texts: Option<Vec<&str>> = values
                .iter()
                .map(|value| std::str::from_utf8(value).ok())
                .collect();
            let texts = texts?.into_iter().map(Some).chain([None]);
            Some(Arc::new(texts.collect::<StringViewArray>()))
        }
        ColumnType::Int32 => {
            let numbers: Option<Vec<i32>> = values
                .iter()
                .map(|value| i32::try_from(integer_of(value)?).ok())
                .collect();
            let numbers = numbers?.into_iter().map(Some).chain([None]);
            Some(Arc::new(numbers.collect::<Int32Array>()))
        }
        _ => None,
    }
}

/// One aspect of values of a promoted key as an array, and that of no value
/// after them.
fn promoted_values(aspect: Aspect, value: PromotedType, values: &[&[u8]]) -> Option<ArrayRef> {
    if aspect == Aspect::Presence {
        let presence = std::iter::repeat_n(Some(true), values.len()).chain([Some(false)]);
        return Some(Arc::new(presence.collect::<BooleanArray>()));
    }
    match (value, aspect) {
        (PromotedType::Text, Aspect::Text) => {
            let texts: Option<Vec<&str>> = values
                .iter()
                .map(|value| std::str::from_utf8(value).ok())
                .collect();
            let texts = texts?.into_iter().map(Some).chain([None]);
            Some(Arc::new(texts.collect::<StringViewArray>()))
        }
        (PromotedType::Text, Aspect::Number) => {
            let numbers = values
                .iter()
                .map(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
            Some(Arc::new(numbers.chain([None]).collect::<Float64Array>()))
        }
        (PromotedType::Integer, _) => {
            let numbers: Option<Vec<i64>> = values.iter().map(|value| integer_of(value)).collect();
            let numbers = numbers?;
            Some(if aspect == Aspect::Text {
                let texts = numbers.iter().map(|number| Some(number.to_string()));
                Arc::new(texts.chain([None]).collect::<StringViewArray>())
            } else {
                let numbers = Int64Array::from(numbers);
                let numbers = numbers.values().iter().map(|number| Some(*number as f64));
                Arc::new(numbers.chain([None]).collect::<Float64Array>())
            })
        }
        (PromotedType::Boolean, Aspect::Text) => {
            let texts = values
                .iter()
                .map(|value| Some(if *value == [1] { "true" } else { "false" }));
            Some(Arc::new(texts.chain([None]).collect::<StringViewArray>()))
        }
        (PromotedType::Boolean, _) => Some(Arc::new(Float64Array::new_null(values.len() + 1))),
        (PromotedType::Text | PromotedType::Double, _) => None,
    }
}
