//! Unsealed rows of a team: which of them fulfil a condition, and what they hold.
//!
//! As with sealed rows ([`super::matching`]), a condition is followed with the truth that is
//! wanted of it, and a condition on one column in codes is evaluated once for each different
//! value. There are no indexes: the rows are few.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch, take_record_batch};
use spanstore_format::segment::Column;
use spanstore_format::table::Table;

use super::bounded::{Bounded, Limits};
use super::condition::{Condition, Leaf};
use super::indexes::holds;
use super::interrupt::Interrupt;
use super::meter::Stage;
use super::scan::columns_error;
use crate::error::Error;
use crate::hot::HotRows;
use crate::hot::values::Coded;
use crate::view::Snapshot;

/// Rows of a batch in memory, as far as they are to be seen.
#[derive(Debug, Clone)]
pub(crate) struct HotPart {
    rows: HotRows,
    table: &'static Table,
    /// Rows that start before are not to be seen, ns since 1970.
    horizon: Option<i64>,
}

impl HotPart {
    pub(crate) fn new(rows: HotRows, snapshot: &Snapshot) -> Self {
        let first = rows.batch.starts.0;
        Self {
            table: snapshot.table,
            horizon: snapshot.horizon.filter(|horizon| first < *horizon),
            rows,
        }
    }

    /// How many rows there are, those that are not to be seen included.
    pub(crate) fn len(&self) -> usize {
        self.rows.rows.len()
    }

    /// The earliest and the latest start that a row may have, ns since 1970.
    pub(crate) fn starts(&self) -> (i64, i64) {
        self.rows.batch.starts
    }

    /// The least and the greatest of the rows' numbers; none when they are not known.
    pub(crate) fn range(&self, bounded: Bounded) -> Option<(i64, i64)> {
        let numbers = bounded.numbers(&self.rows.batch.rows).ok()?;
        let least = numbers.iter().min()?;
        Some((*least, *numbers.iter().max()?))
    }

    fn column(&self, column: &Column) -> Result<ArrayRef, Error> {
        let values = self.rows.batch.column(column)?;
        let Range { start, .. } = self.rows.rows;
        Ok(values.slice(start, self.len()))
    }

    /// Columns of all its rows, those that are not to be seen included.
    fn all(&self, columns: &[Column]) -> Result<RecordBatch, Error> {
        let schema = Column::schema(columns, self.table);
        let schema = schema.map_err(|error| Error::corrupt("columns", error))?;
        let arrays: Result<Vec<ArrayRef>, Error> =
            columns.iter().map(|column| self.column(column)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let rows = RecordBatch::try_new_with_options(schema, arrays?, &options);
        rows.map_err(|error| columns_error("hot rows", &error))
    }

    /// Columns of the rows that are to be seen.
    pub(crate) fn visible(&self, columns: &[Column]) -> Result<RecordBatch, Error> {
        let rows = self.all(columns)?;
        match self.horizon {
            None => Ok(rows),
            Some(horizon) => filtered(
                &rows,
                &self.within(Bounded::Start, Limits::from(horizon), true)?,
            ),
        }
    }

    /// Columns of some rows, as [`HotPart::find`] tells them.
    pub(crate) fn some(
        &self,
        columns: &[Column],
        rows: &BooleanBuffer,
    ) -> Result<RecordBatch, Error> {
        let all = self.all(columns)?;
        if rows.count_set_bits() == rows.len() {
            return Ok(all);
        }
        filtered(&all, rows)
    }

    /// The values of a column in some rows, as [`HotPart::find`] tells them.
    pub(crate) fn values(&self, column: &Column, rows: &BooleanBuffer) -> Result<ArrayRef, Error> {
        let all = self.column(column)?;
        if rows.count_set_bits() == rows.len() {
            return Ok(all);
        }
        let some = filter(&all, &BooleanArray::new(rows.clone(), None));
        some.map_err(|error| columns_error("hot rows", &error))
    }

    /// Columns of rows by their numbers.
    pub(crate) fn take(&self, columns: &[Column], numbers: Vec<u32>) -> Result<RecordBatch, Error> {
        let taken = take_record_batch(&self.all(columns)?, &UInt32Array::from(numbers));
        taken.map_err(|error| columns_error("hot rows", &error))
    }

    /// The values of a column in codes, row by row; none when they are to be read.
    pub(crate) fn coded(&self, column: &Column) -> Result<Option<Arc<Coded>>, Error> {
        if self.len() == self.rows.batch.rows.num_rows() {
            self.rows.batch.coded(column)
        } else {
            Ok(None)
        }
    }

    /// Whether its values may be had in codes.
    pub(crate) fn has_codes(&self) -> bool {
        self.len() == self.rows.batch.rows.num_rows() && self.rows.batch.has_codes()
    }

    /// The rows to be seen for which a condition is true.
    pub(crate) fn find(
        &self,
        condition: &Condition,
        interrupt: &dyn Interrupt,
    ) -> Result<BooleanBuffer, Error> {
        interrupt.meter().time(Stage::Values, || {
            let within = match self.horizon {
                None => BooleanBuffer::new_set(self.len()),
                Some(horizon) => self.within(Bounded::Start, Limits::from(horizon), true)?,
            };
            self.rows(condition, true, within, interrupt)
        })
    }

    /// How many rows to be seen there are for which a condition is true.
    pub(crate) fn count(
        &self,
        condition: &Condition,
        interrupt: &dyn Interrupt,
    ) -> Result<u64, Error> {
        match condition {
            Condition::And(parts) | Condition::Or(parts) if let [one] = parts.as_slice() => {
                return self.count(one, interrupt);
            }
            Condition::Implying(one, _) => return self.count(one, interrupt),
            // How many rows each value has is known.
            Condition::Leaf(leaf) if self.horizon.is_none() => {
                let values = || self.wanted_values(leaf, true);
                if let Some((coded, wanted)) = interrupt.meter().time(Stage::Values, values)? {
                    let counts = wanted.set_indices();
                    let counts = counts.filter_map(|value| coded.counts.get(value));
                    return Ok(counts.map(|count| u64::from(*count)).sum());
                }
            }
            _ => {}
        }
        let rows = self.find(condition, interrupt)?;
        Ok(rows.count_set_bits() as u64)
    }

    /// The rows, among some, for which a condition has the wanted truth.
    fn rows(
        &self,
        condition: &Condition,
        wanted: bool,
        within: BooleanBuffer,
        interrupt: &dyn Interrupt,
    ) -> Result<BooleanBuffer, Error> {
        if within.count_set_bits() == 0 {
            return Ok(within);
        }
        interrupt.check()?;
        match condition {
            Condition::And(parts) if wanted => self.of_all(parts, wanted, within, interrupt),
            Condition::Or(parts) if !wanted => self.of_all(parts, wanted, within, interrupt),
            Condition::And(parts) | Condition::Or(parts) => {
                let mut found = BooleanBuffer::new_unset(within.len());
                for part in self.cheapest_first(parts) {
                    let rest = &within & &!&found;
                    found = &found | &self.rows(part, wanted, rest, interrupt)?;
                }
                Ok(found)
            }
            Condition::Not(one) => self.rows(one, !wanted, within, interrupt),
            Condition::Implying(one, _) => self.rows(one, wanted, within, interrupt),
            Condition::Within(bounded, limits) => {
                Ok(&within & &self.within(*bounded, *limits, wanted)?)
            }
            Condition::Leaf(leaf) => {
                interrupt.meter().rows(within.count_set_bits());
                self.leaf(leaf, wanted, &within)
            }
        }
    }

    /// The rows for which all conditions have the wanted truth.
    fn of_all(
        &self,
        parts: &[Condition],
        wanted: bool,
        mut within: BooleanBuffer,
        interrupt: &dyn Interrupt,
    ) -> Result<BooleanBuffer, Error> {
        for part in self.cheapest_first(parts) {
            within = self.rows(part, wanted, within, interrupt)?;
        }
        Ok(within)
    }

    fn cheapest_first<'c>(&self, parts: &'c [Condition]) -> Vec<&'c Condition> {
        let mut sorted: Vec<&Condition> = parts.iter().collect();
        sorted.sort_by_cached_key(|part| self.cost(part));
        sorted
    }

    /// How much work a condition is, as a rank: least for times and codes, then by the
    /// columns whose values are asked.
    fn cost(&self, condition: &Condition) -> usize {
        match condition {
            Condition::And(parts) | Condition::Or(parts) => {
                let costs = parts.iter().map(|part| self.cost(part));
                costs.max().unwrap_or(0)
            }
            Condition::Not(one) | Condition::Implying(one, _) => self.cost(one),
            Condition::Within(..) => 0,
            Condition::Leaf(leaf) => match leaf.columns.as_slice() {
                [column] if self.rows.batch.is_coded(column) => 0,
                columns => {
                    let cost = |column: &Column| match column {
                        Column::Stored(_) => 1,
                        // It has to be looked for in each message.
                        Column::Attribute(_) | Column::OfFile(..) => 100,
                    };
                    columns.iter().map(cost).sum()
                }
            },
        }
    }

    /// The rows whose number lies within limits, or outside if `is_wanted` is false.
    fn within(
        &self,
        bounded: Bounded,
        limits: Limits,
        is_wanted: bool,
    ) -> Result<BooleanBuffer, Error> {
        let numbers = bounded.numbers(&self.rows.batch.rows);
        let numbers = numbers.map_err(|error| Error::corrupt("hot rows", error))?;
        let numbers = numbers.get(self.rows.rows.clone());
        let numbers = numbers.unwrap_or_default().iter();
        Ok(numbers
            .map(|number| limits.hold(*number) == is_wanted)
            .collect())
    }

    fn leaf(
        &self,
        leaf: &Leaf,
        wanted: bool,
        within: &BooleanBuffer,
    ) -> Result<BooleanBuffer, Error> {
        if let Some((coded, is_wanted)) = self.wanted_values(leaf, wanted)? {
            let is_wanted: Vec<bool> = is_wanted.iter().collect();
            let found = BooleanBuffer::collect_bool(within.len(), |row| {
                let code = coded.codes.get(row).copied().map(usize::from);
                let is_wanted = code.and_then(|code| is_wanted.get(code)).copied();
                is_wanted.unwrap_or(false)
            });
            return Ok(within & &found);
        }
        let rows = self.some(&leaf.columns, within)?;
        let truth = leaf.predicate.holds(&rows)?;
        if truth.len() != rows.num_rows() {
            return Err(Error::internal("a condition", &"not a truth for each row"));
        }
        let found = has(&truth, wanted);
        if found.len() == within.len() {
            return Ok(found);
        }
        let mut all = vec![false; within.len()];
        for (row, is_found) in within.set_indices().zip(&found) {
            if let Some(of_row) = all.get_mut(row) {
                *of_row = is_found;
            }
        }
        Ok(all.into())
    }

    /// The values in codes of the column that a condition is on, and for which of them it has
    /// the wanted truth; none when rows are to be looked at.
    fn wanted_values(
        &self,
        leaf: &Leaf,
        wanted: bool,
    ) -> Result<Option<(Arc<Coded>, BooleanBuffer)>, Error> {
        let [column] = leaf.columns.as_slice() else {
            return Ok(None);
        };
        let Some(coded) = self.coded(column)? else {
            return Ok(None);
        };
        let truth = holds(leaf, coded.values.clone());
        Ok(truth.map(|truth| (coded, has(&truth, wanted))))
    }
}

/// The rows whose truth is the wanted one.
fn has(truth: &BooleanArray, wanted: bool) -> BooleanBuffer {
    let values = if wanted {
        truth.values().clone()
    } else {
        !truth.values()
    };
    match truth.nulls() {
        Some(nulls) => &values & nulls.inner(),
        None => values,
    }
}

fn filtered(rows: &RecordBatch, mask: &BooleanBuffer) -> Result<RecordBatch, Error> {
    let rows = filter_record_batch(rows, &BooleanArray::new(mask.clone(), None));
    rows.map_err(|error| columns_error("hot rows", &error))
}
