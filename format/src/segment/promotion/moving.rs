//! Rows on their way from segments into another, their promoted attributes apart.
//!
//! Such rows have the columns of their table, of which `attributes` holds what is not
//! promoted; behind them [`ATTRIBUTE_ORDER`](super::ATTRIBUTE_ORDER) and a column for
//! each promoted key that has one of its own. A segment that promotes the same keys
//! hands them out as it has them. Of another the attributes are put together and taken
//! apart again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewBuilder, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use hashbrown::HashMap;

use super::split::{Split, Splitter};
use super::{PromotedKey, PromotedKeys, Promotion, rebuild};
use crate::error::FormatError;
use crate::segment::FileColumns;
use crate::segment::layout::columns::order_field;
use crate::table::{Table, TableColumn};
use crate::wire;

/// What rows look like on their way into a segment that promotes some keys.
#[derive(Debug)]
pub struct SplitRows {
    table: &'static Table,
    attributes: usize,
    promotion: Promotion,
    schema: SchemaRef,
    /// The keys, by the places of their columns in these rows.
    keys: PromotedKeys,
}

impl SplitRows {
    /// Rows of a table on their way into a segment with this promotion; none when the
    /// table has no attributes that could be promoted.
    pub fn new(table: &'static Table, promotion: Promotion) -> Option<Self> {
        let attributes = table.roles().attributes?;
        let mut fields: Vec<Field> = table.columns().iter().map(TableColumn::field).collect();
        fields.push(order_field());
        let mut keys = Vec::with_capacity(promotion.keys().len());
        for key in promotion.keys() {
            if key.mapped.is_none() {
                fields.push(Field::new(key.column_name(), key.value.data_type(), true));
            }
            keys.push(PromotedKey {
                key: key.key.clone(),
                value: key.value,
                column: key.mapped.unwrap_or(fields.len() - 1),
                is_own: key.mapped.is_none(),
                suffix: key.suffix,
                has_strays: false,
                is_varied: key.is_varied,
            });
        }
        Some(Self {
            table,
            attributes,
            schema: Arc::new(Schema::new(fields)),
            keys: PromotedKeys::of(keys),
            promotion,
        })
    }

    /// The keys that are promoted.
    pub fn promotion(&self) -> &Promotion {
        &self.promotion
    }

    /// The columns of such rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows of the table out of such rows.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the rows are others, or their order of
    /// attributes names what is not there.
    pub fn whole(&self, rows: &RecordBatch) -> Result<RecordBatch, FormatError> {
        let column = |place: usize| rows.columns().get(place);
        let count = self.table.columns().len();
        let (Some(residual), Some(order)) = (column(self.attributes), column(count)) else {
            return Err(malformed(&format!("{} columns", rows.num_columns())));
        };
        let attributes = rebuild::attributes(&self.keys, residual, order, column)?;
        let fields = self.schema.fields().iter().take(count).cloned();
        let mut columns: Vec<ArrayRef> = rows.columns().iter().take(count).cloned().collect();
        if let Some(column) = columns.get_mut(self.attributes) {
            *column = attributes;
        }
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns).map_err(|error| malformed(&error.to_string()))
    }

    /// Such rows out of rows of the table.
    pub(in crate::segment) fn split(
        &self,
        splitter: &mut Splitter,
        rows: &RecordBatch,
    ) -> Result<RecordBatch, FormatError> {
        let split = splitter.split(rows, self.attributes)?;
        self.join(rows.columns().to_vec(), split)
    }

    /// Such rows out of the columns of the table and what was split off.
    fn join(&self, mut columns: Vec<ArrayRef>, split: Split) -> Result<RecordBatch, FormatError> {
        if let Some(column) = columns.get_mut(self.attributes) {
            *column = split.residual;
        }
        columns.push(split.order);
        columns.extend(split.own);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| malformed(&error.to_string()))
    }
}

fn malformed(found: &str) -> FormatError {
    FormatError::malformed("columns", 0, "the columns of rows and their keys", found)
}

/// How rows of one file become rows on their way.
#[derive(Debug)]
pub(in crate::segment) struct Moving {
    to: Arc<SplitRows>,
    /// Takes attributes apart where they cannot be handed on.
    splitter: Splitter,
    /// For each key of the file, its number among those that are promoted; none when
    /// these are other keys.
    numbers: Option<Vec<usize>>,
}

impl Moving {
    pub(in crate::segment) fn new(from: &FileColumns, to: &Arc<SplitRows>) -> Self {
        Self {
            splitter: Splitter::new(to.promotion.clone()),
            numbers: numbers(from, to),
            to: Arc::clone(to),
        }
    }

    /// Whether attributes are handed on as the file has them.
    pub(in crate::segment) fn is_as_stored(&self) -> bool {
        self.numbers.is_some()
    }

    /// Rows on their way out of the columns of the table: `attributes` is as in the
    /// file where it is handed on so, else whole. `read` answers a column of the file.
    pub(in crate::segment) fn rows<'a>(
        &mut self,
        from: &FileColumns,
        columns: &RecordBatch,
        read: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<RecordBatch, FormatError> {
        let Some(numbers) = &self.numbers else {
            return self.to.split(&mut self.splitter, columns);
        };
        let missing = || malformed("a column that was not read");
        let residual = columns.columns().get(self.to.attributes);
        let order = from.order().and_then(&read).ok_or_else(missing)?;
        let mut own = Vec::new();
        for (number, key) in self.to.keys.keys().iter().enumerate() {
            if key.is_own {
                let place = numbers.iter().position(|one| *one == number);
                let column = place.and_then(|place| from.promoted().keys().get(place));
                let values = column.and_then(|key| read(key.column));
                own.push(Arc::clone(values.ok_or_else(missing)?));
            }
        }
        let is_same = numbers.iter().enumerate().all(|(one, other)| one == *other);
        let split = Split {
            residual: Arc::clone(residual.ok_or_else(missing)?),
            order: if is_same {
                Arc::clone(order)
            } else {
                renumbered(order, numbers)?
            },
            own,
        };
        self.to.join(columns.columns().to_vec(), split)
    }
}

/// For each key of a file, its number among those that are promoted; none unless the
/// same keys are, in the same columns.
fn numbers(from: &FileColumns, to: &SplitRows) -> Option<Vec<usize>> {
    from.order()?;
    let promotion = from.promotion(to.table)?;
    let keys = promotion.keys().iter();
    let numbers: Vec<usize> = keys
        .map(|key| {
            let mut keys = to.promotion.keys().iter();
            keys.position(|one| one.is_same_column(key))
        })
        .collect::<Option<_>>()?;
    (numbers.len() == to.promotion.keys().len()).then_some(numbers)
}

/// Orders of attributes, by other numbers of the keys.
fn renumbered(order: &ArrayRef, numbers: &[usize]) -> Result<ArrayRef, FormatError> {
    let orders = order.as_binary_view_opt();
    let orders = orders.ok_or_else(|| malformed("an order of another type"))?;
    let mut out = BinaryViewBuilder::with_capacity(orders.len()).with_deduplicate_strings();
    // Few orders repeat over and over.
    let mut known: HashMap<&[u8], Vec<u8>> = HashMap::new();
    for row in 0..orders.len() {
        if orders.is_null(row) {
            out.append_null();
            continue;
        }
        let codes = orders.value(row);
        if let Some(renumbered) = known.get(codes) {
            out.append_value(renumbered);
            continue;
        }
        let mut renumbered = Vec::with_capacity(codes.len());
        let mut rest = codes;
        while !rest.is_empty() {
            let code =
                wire::take_shortest_varint(&mut rest).and_then(|code| match code.checked_sub(1) {
                    None => Some(0),
                    Some(number) => Some(*numbers.get(usize::try_from(number).ok()?)? as u64 + 1),
                });
            let code = code.ok_or_else(|| {
                let expected = "the number of a promoted key";
                FormatError::malformed("attribute order", row as u64, expected, "another")
            })?;
            wire::put_varint(code, &mut renumbered);
        }
        out.append_value(&renumbered);
        known.insert(codes, renumbered);
    }
    Ok(Arc::new(out.finish()))
}
