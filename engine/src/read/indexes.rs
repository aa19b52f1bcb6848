//! What the indexes of a segment tell about rows of a partition: by ids, and by the values
//! of facets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringViewArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::facets::{FacetRows, Facets, integer_of};
use spanstore_format::segment::layout::encoding::ROW_GROUP_ROWS;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::segment::promotion::{Owner, PromotedType};
use spanstore_format::segment::{
    Column, FileColumns, Id, MOST_RESOURCE_BYTES, Partition, SegmentReader,
};
use spanstore_format::span::attribute::number_of_text;
use spanstore_format::table::{ColumnType, IndexedId, SharedKind};

use super::condition::Leaf;
use super::constraints::Constraints;
use super::interrupt::Interrupt;
use crate::error::Error;

/// One partition of a segment, and its indexes.
pub(crate) struct Indexes<'a> {
    pub(crate) reader: &'a SegmentReader,
    pub(crate) partition: &'a Partition,
    pub(crate) facets: Option<&'a Facets>,
    pub(crate) interrupt: &'a dyn Interrupt,
}

/// What indexes tell about a condition that only values tell.
#[derive(Debug)]
pub(crate) enum Answer {
    /// These rows and no others.
    Exactly(IndexRows),
    /// No rows but these.
    AtMost(IndexRows),
    /// Any rows.
    Unknown,
}

impl Answer {
    fn exactly(rows: FacetRows) -> Self {
        Self::Exactly(IndexRows::new(rows))
    }
}

/// Rows that an index tells, worked out as far as they are asked for.
#[derive(Debug)]
pub(crate) struct IndexRows {
    rows: FacetRows,
    /// All of them, once they were asked for.
    all: OnceLock<RoaringBitmap>,
    /// Those of row groups that were asked for alone.
    of_row_groups: Mutex<HashMap<u32, Arc<RoaringBitmap>>>,
}

impl IndexRows {
    fn new(rows: FacetRows) -> Self {
        Self {
            rows,
            all: OnceLock::new(),
            of_row_groups: Mutex::default(),
        }
    }

    /// Those that are among some rows.
    pub(crate) fn among(&self, within: RoaringBitmap) -> Result<RoaringBitmap, FormatError> {
        let groups = within.min().zip(within.max());
        let groups = groups.map(|(first, last)| (first / ROW_GROUP_ROWS, last / ROW_GROUP_ROWS));
        match (groups, self.all.get()) {
            (None, _) => return Ok(within),
            (Some((first, last)), None) if first == last => {
                return Ok(within & &*self.of_row_group(first)?);
            }
            _ => {}
        }
        let all = match self.all.get() {
            Some(all) => all,
            None => {
                let all = self.rows.all()?;
                self.all.get_or_init(|| all)
            }
        };
        Ok(within & all)
    }

    fn of_row_group(&self, group: u32) -> Result<Arc<RoaringBitmap>, FormatError> {
        let known = || {
            let known = self.of_row_groups.lock();
            known.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(rows) = known().get(&group) {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(self.rows.of_row_group(group)?);
        known().insert(group, Arc::clone(&rows));
        Ok(rows)
    }
}

/// Why indexes were not searched to the end.
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

/// The facet of a column.
struct Found<'a> {
    /// The place of its column in the file.
    place: usize,
    kind: ValueKind<'a>,
    /// Whether some rows of the partition have their value elsewhere.
    has_strays: bool,
    /// Whether rows without a value in the column have none at all.
    is_own: bool,
}

impl Indexes<'_> {
    /// The rows, among some, that have one of the ids of each kind that is constrained, or
    /// another id with the same hash. All may have ids that the table does not index.
    pub(crate) fn with_ids(
        &self,
        necessary: &Constraints,
        mut within: RoaringBitmap,
    ) -> Result<RoaringBitmap, Stop> {
        let Constraints {
            trace_ids,
            session_ids,
            request_ids,
            ..
        } = necessary;
        let indexed = self.reader.table().roles().ids;
        let has = |id| indexed.iter().any(|(indexed, _)| *indexed == id);
        if let Some(ids) = trace_ids.as_ref().filter(|_| has(IndexedId::Trace)) {
            within &= self.ids(ids.iter().map(|id| Id::Trace(*id)))?;
        }
        if let Some(ids) = session_ids.as_ref().filter(|_| has(IndexedId::Session)) {
            within &= self.ids(ids.iter().map(|id| Id::Session(id)))?;
        }
        if let Some(ids) = request_ids.as_ref().filter(|_| has(IndexedId::Request)) {
            within &= self.ids(ids.iter().map(|id| Id::Request(id)))?;
        }
        Ok(within)
    }

    fn ids<'a>(&self, ids: impl Iterator<Item = Id<'a>>) -> Result<RoaringBitmap, Stop> {
        let mut rows = RoaringBitmap::new();
        for id in ids {
            self.check()?;
            if let Some(found) = self.reader.find(self.partition, id)? {
                rows |= found;
            }
        }
        Ok(rows)
    }

    /// The rows for which a condition is true, or false if that is wanted.
    pub(crate) fn answer(&self, leaf: &Leaf, wanted: bool) -> Result<Answer, Stop> {
        if let Some(rows) = leaf.predicate.rows_in(self.reader.summary().id) {
            if wanted {
                return Ok(Answer::exactly(FacetRows::Some(rows.clone())));
            }
            let mut others = RoaringBitmap::new();
            others.insert_range(self.partition.rows.clone());
            return Ok(Answer::exactly(FacetRows::Some(others - rows)));
        }
        let [column] = leaf.columns.as_slice() else {
            return Ok(Answer::Unknown);
        };
        let Some(facets) = self.facets else {
            return Ok(Answer::Unknown);
        };
        let Some(found) = self.facet_of(facets, column)? else {
            return Ok(Answer::Unknown);
        };
        let Some(facet) = facets.facet(found.place)? else {
            return Ok(Answer::Unknown);
        };
        let mut values = Vec::with_capacity(facet.len());
        for place in 0..facet.len() {
            values.push(facet.value(place)?);
        }
        let bytes: Vec<&[u8]> = values.iter().map(|value| value.bytes.as_ref()).collect();
        let typed = match found.kind {
            ValueKind::Stored(value) => stored_values(value, &bytes),
            ValueKind::Promoted(aspect, value) => promoted_values(aspect, value, &bytes),
            ValueKind::Resource(attribute, shared) => {
                self.resource_values(attribute, shared, &bytes)?
            }
        };
        let Some(truth) = typed.and_then(|values| holds(leaf, values)) else {
            return Ok(Answer::Unknown);
        };
        self.check()?;
        let is_wanted = |place: usize| {
            place < truth.len() && truth.is_valid(place) && truth.value(place) == wanted
        };
        let nulls = values.len();
        let read = |range| {
            let postings = self.reader.postings(range)?;
            self.interrupt.meter().pages(0, postings.len() as u64);
            Ok(postings)
        };
        if !found.is_own {
            // The column holds the attribute's value in the rows that have the attribute
            // there; in others the attribute is absent or elsewhere.
            if !wanted || found.has_strays || is_wanted(nulls) {
                return Ok(Answer::Unknown);
            }
            return Ok(Answer::AtMost(IndexRows::new(
                facet.rows_of(is_wanted, &read)?,
            )));
        }
        if found.has_strays {
            // The value may be where no facet sees it.
            let rows = facet.rows_of(|place| place == nulls || is_wanted(place), &read)?;
            return Ok(Answer::AtMost(IndexRows::new(rows)));
        }
        Ok(Answer::exactly(facet.rows_of(is_wanted, &read)?))
    }

    /// Whether [`Indexes::answer`] is likely to know.
    pub(crate) fn may_answer(&self, leaf: &Leaf) -> Result<bool, Stop> {
        if leaf.predicate.rows_in(self.reader.summary().id).is_some() {
            return Ok(true);
        }
        let ([column], Some(facets)) = (leaf.columns.as_slice(), self.facets) else {
            return Ok(false);
        };
        let found = self.facet_of(facets, column)?;
        let place = found.filter(|found| found.is_own && !found.has_strays);
        let Some(found) = place else {
            return Ok(false);
        };
        Ok(facets.facet(found.place)?.is_some())
    }

    /// The facet of a column, as far as the columns of the file tell.
    fn facet_of<'a>(&self, facets: &Facets, column: &'a Column) -> Result<Option<Found<'a>>, Stop> {
        let columns = self.reader.columns()?;
        Ok(match column {
            Column::Stored(column) => {
                let description = self.reader.table().column(*column);
                let found = columns.place(*column).zip(description);
                found.map(|(place, description)| Found {
                    place,
                    kind: ValueKind::Stored(description.value),
                    has_strays: false,
                    is_own: true,
                })
            }
            Column::Attribute(attribute) if attribute.owner == Owner::Resource => {
                self.resources(&columns).map(|(shared, place)| Found {
                    place,
                    kind: ValueKind::Resource(attribute, shared),
                    has_strays: false,
                    is_own: true,
                })
            }
            Column::Attribute(attribute) => match columns.promoted().find(&attribute.key) {
                None => None,
                // What the column holds is not the value alone.
                Some((_, key)) if key.suffix.is_some() => None,
                Some((number, key)) => Some(Found {
                    place: key.column,
                    kind: ValueKind::Promoted(attribute.aspect, key.value),
                    // Of this partition: others in the segment do not matter.
                    has_strays: facets.has_strays(number)?,
                    is_own: key.is_own,
                }),
            },
            Column::OfFile(place, DataType::Utf8View) => Some(Found {
                place: *place,
                kind: ValueKind::Stored(ColumnType::Text),
                has_strays: false,
                is_own: true,
            }),
            Column::OfFile(..) => None,
        })
    }

    fn check(&self) -> Result<(), Stop> {
        self.interrupt.check().map_err(Stop::Interrupted)
    }

    /// The place of resources among what rows share, and that of the column of the file
    /// that has their numbers.
    pub(super) fn resources(&self, columns: &FileColumns) -> Option<(usize, usize)> {
        let mut shared = self.reader.table().roles().shared.iter();
        let shared = shared.position(|shared| shared.kind == SharedKind::Resources)?;
        Some((shared, columns.number(shared)?))
    }

    /// An attribute of resources given by their numbers, and that of no resource after
    /// them; none where the resources are so large that rows are read instead.
    pub(super) fn resource_values(
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
}

/// For each of some values of its one column, whether a condition is true, false or null;
/// none when that cannot be told: what fails for a value may not occur in the rows that are
/// read.
pub(crate) fn holds(leaf: &Leaf, values: ArrayRef) -> Option<BooleanArray> {
    let count = values.len();
    // A null is among the values even where no row has it.
    let fields = leaf.columns.iter().map(|column| column.field(leaf.table));
    let fields: Result<Vec<Field>, _> = fields.collect();
    let fields = fields
        .ok()?
        .into_iter()
        .map(|field| field.with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema, vec![values]).ok()?;
    let truth = leaf.predicate.holds(&batch).ok()?;
    (truth.len() == count).then_some(truth)
}

/// Values of a column of the table as an array, and a null after them.
fn stored_values(value: ColumnType, values: &[&[u8]]) -> Option<ArrayRef> {
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
                .map(|value| number_of_text(std::str::from_utf8(value).ok()?));
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
