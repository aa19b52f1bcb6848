//! Rows on their way from segments into another, their promoted attributes apart.
//!
//! Such rows have the columns of their table, of which `attributes` holds what is not
//! promoted; behind them [`ATTRIBUTE_ORDER`](super::ATTRIBUTE_ORDER) and a column for
//! each promoted key that has one of its own. A segment hands out the columns of keys that
//! it promotes in the same way as it has them. Where it promotes one in another column, the
//! attributes are put together and taken apart again.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::adapting::{Adapting, Apart};
use super::split::{Split, Splitter};
use super::{PromotedKey, PromotedKeys, Promotion, rebuild};
use crate::error::FormatError;
use crate::segment::FileColumns;
use crate::segment::layout::columns::order_field;
use crate::table::{Table, TableColumn};

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
    /// Puts attributes that lie apart by the keys of the file where they belong; none
    /// where they have to be whole before.
    adapting: Option<Adapting>,
    /// Takes whole attributes apart.
    splitter: Splitter,
}

impl Moving {
    pub(in crate::segment) fn new(from: &FileColumns, to: &Arc<SplitRows>) -> Self {
        let promotion = from.order().and_then(|_| from.promotion(to.table));
        Self {
            adapting: promotion.and_then(|from| Adapting::new(&from, &to.promotion)),
            splitter: Splitter::new(to.promotion.clone()),
            to: Arc::clone(to),
        }
    }

    /// Whether attributes are taken as they lie in the file.
    pub(in crate::segment) fn is_as_stored(&self) -> bool {
        self.adapting.is_some()
    }

    /// Rows on their way out of the columns of the table: `attributes` is as in the
    /// file where it is taken so, else whole. `read` answers a column of the file.
    pub(in crate::segment) fn rows<'a>(
        &mut self,
        from: &FileColumns,
        columns: &'a RecordBatch,
        read: impl Fn(usize) -> Option<&'a ArrayRef>,
    ) -> Result<RecordBatch, FormatError> {
        let Some(adapting) = &self.adapting else {
            return self.to.split(&mut self.splitter, columns);
        };
        let missing = || malformed("a column that was not read");
        let apart = Apart {
            rows: columns,
            residual: columns
                .columns()
                .get(self.to.attributes)
                .ok_or_else(missing)?,
            order: from.order().and_then(&read).ok_or_else(missing)?,
            column: read,
        };
        let split = adapting.adapt(from.promoted(), &self.to.promotion, &apart)?;
        self.to.join(columns.columns().to_vec(), split)
    }
}
