//! Rows of a segment by the order of their attributes, which says what they have in columns and
//! what elsewhere. There are few different orders, so they are mostly looked at once each.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;
use roaring::RoaringBitmap;
use spanstore_format::FormatError;
use spanstore_format::segment::Column;
use spanstore_format::segment::promotion::rebuild::named;

use crate::error::Error;
use crate::read::condition::{Condition, Leaf, Predicate};
use crate::read::constraints::Constraints;
use crate::read::matching::Matching;

/// What is asked of an order.
#[derive(Debug, Clone, Copy)]
pub(super) enum OfOrder {
    /// Whether some attributes may lie in no column.
    HasOthers,
    /// Whether the promoted key of this number lies in its column.
    Names(usize),
}

/// The column of the file at this place, which has the orders.
pub(super) fn order_column(place: usize) -> Column {
    Column::OfFile(place, DataType::BinaryView)
}

/// The rows, among some, for whose order it is true; the column of orders is at this place of
/// the file.
pub(super) fn rows_by_order(
    matching: &Matching,
    place: usize,
    asked: OfOrder,
    rows: &RoaringBitmap,
) -> Result<RoaringBitmap, Error> {
    let condition = Condition::Leaf(Leaf {
        table: matching.sealed.reader.table(),
        columns: vec![order_column(place)],
        predicate: Arc::new(asked),
        necessary: Constraints::default(),
    });
    matching.find(&condition, rows.clone())
}

/// Columns that hold no attributes where they should.
pub(super) fn other_columns() -> Error {
    let error = FormatError::malformed("columns", 0, "columns of attributes", "others");
    Error::corrupt("segment", error)
}

impl Predicate for OfOrder {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        let orders = rows.columns().first();
        let orders = orders.and_then(|orders| orders.as_binary_view_opt());
        let orders = orders.ok_or_else(other_columns)?.iter();
        let holds = orders.map(|order| {
            let (numbers, has_others) = named(order);
            Some(match self {
                Self::HasOthers => has_others,
                Self::Names(number) => numbers.contains(number),
            })
        });
        Ok(holds.collect())
    }

    fn text(&self) -> String {
        match self {
            Self::HasOthers => "the span has attributes in no column".into(),
            Self::Names(number) => format!("the span has key {number} in its column"),
        }
    }
}
