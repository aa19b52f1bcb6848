//! Groups rows by keys, and measures each group.
//!
//! A row group is worked on by itself ([`part`]): a key in codes is evaluated once for each
//! different value, and rows are counted and summed up by numbers of groups. Only groups are
//! put together by their values ([`merge`]). So what a row costs does not depend on how
//! long its values are.

mod keys;
mod measures;
pub(crate) mod merge;
pub(crate) mod part;
mod stepped;

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use spanstore_format::segment::Column;
use spanstore_format::table::Table;

use super::scan::columns_error;
use crate::error::Error;

/// Something that is worked out for each row.
pub(crate) trait Expression: fmt::Debug + Send + Sync {
    /// Its values for a batch with the columns that it is over.
    ///
    /// # Errors
    /// What its evaluation answers.
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, Error>;

    /// Whether it is over one column alone, a greater value of which never has a lesser value.
    fn rises(&self) -> bool;
}

/// A value of each row: of a column, or of an expression over columns.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    /// The table that its columns are of.
    pub(crate) table: &'static Table,
    /// The columns, in the order in which the expression expects them.
    pub(crate) columns: Vec<Column>,
    /// None when the value is that of the one column.
    pub(crate) expression: Option<Arc<dyn Expression>>,
    pub(crate) data_type: DataType,
}

impl Term {
    /// The values of a column of a table.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the table has no such column.
    pub(crate) fn column(column: Column, table: &'static Table) -> Result<Self, Error> {
        let field = column.field(table);
        let field = field.map_err(|error| Error::corrupt("columns", error))?;
        Ok(Self {
            table,
            columns: vec![column],
            expression: None,
            data_type: field.data_type().clone(),
        })
    }

    /// Its values for a batch with its columns.
    ///
    /// # Errors
    /// What its expression answers.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, Error> {
        match (&self.expression, rows.columns()) {
            (Some(expression), _) => expression.evaluate(rows),
            (None, [values]) => Ok(Arc::clone(values)),
            (None, _) => Err(Error::internal("groups", &"a term without its one column")),
        }
    }

    /// Its values for a batch with other columns too.
    fn of(&self, rows: &RecordBatch, columns: &[Column]) -> Result<ArrayRef, Error> {
        let places = self.columns.iter().map(|column| {
            let place = columns.iter().position(|other| other == column);
            place.ok_or_else(|| Error::internal("groups", &"a term whose column was not read"))
        });
        let places: Vec<usize> = places.collect::<Result<_, _>>()?;
        let own = rows.project(&places);
        self.evaluate(&own.map_err(|error| columns_error("rows", &error))?)
    }

    /// Its values for some values of its one column.
    fn of_values(&self, values: ArrayRef, column: &Column) -> Result<ArrayRef, Error> {
        let schema = Column::schema(std::slice::from_ref(column), self.table);
        let schema = schema.map_err(|error| Error::corrupt("columns", error))?;
        let field = schema.field(0).clone().with_nullable(true);
        let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values]);
        self.evaluate(&rows.map_err(|error| columns_error("segment", &error))?)
    }
}

/// What is worked out for each group.
#[derive(Debug, Clone)]
pub(crate) enum Measure {
    /// How many rows there are.
    Rows,
    /// How many rows have a value.
    Values(Term),
    /// The sum of numbers: of integers an `i64`, else an `f64`.
    Sum(Term),
    /// The mean of numbers.
    Mean(Term),
    /// The least number or time.
    Least(Term),
    /// The greatest number or time.
    Greatest(Term),
    /// How many different values there are, exactly.
    Distinct(Term),
    /// The number at a share of all of them, between 0 and 1, in their order: exactly, or
    /// in proportion between the two beside it.
    Percentile(Term, f64),
}

impl Measure {
    /// What it is over.
    pub(crate) fn term(&self) -> Option<&Term> {
        match self {
            Self::Rows => None,
            Self::Values(term)
            | Self::Sum(term)
            | Self::Mean(term)
            | Self::Least(term)
            | Self::Greatest(term)
            | Self::Distinct(term)
            | Self::Percentile(term, _) => Some(term),
        }
    }

    /// Whether it can be worked out of such values.
    pub(crate) fn fits(&self) -> bool {
        match self {
            Self::Rows | Self::Values(_) | Self::Distinct(_) => true,
            Self::Sum(term) | Self::Mean(term) | Self::Percentile(term, _) => {
                is_integer(&term.data_type) || term.data_type == DataType::Float64
            }
            Self::Least(term) | Self::Greatest(term) => {
                is_integer(&term.data_type)
                    || matches!(
                        term.data_type,
                        DataType::Float64 | DataType::Timestamp(TimeUnit::Nanosecond, _)
                    )
            }
        }
    }

    /// The type of its values.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Rows | Self::Values(_) | Self::Distinct(_) => DataType::Int64,
            Self::Sum(term) if is_integer(&term.data_type) => DataType::Int64,
            Self::Sum(_) | Self::Mean(_) | Self::Percentile(..) => DataType::Float64,
            Self::Least(term) | Self::Greatest(term) => term.data_type.clone(),
        }
    }
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int64 | DataType::Int32 | DataType::UInt32
    )
}

/// What is asked of all rows that are found.
#[derive(Debug, Clone)]
pub(crate) struct Grouping {
    /// Rows with equal values of all keys are one group. Without keys all rows are.
    pub(crate) keys: Vec<Term>,
    pub(crate) measures: Vec<Measure>,
}

impl Grouping {
    /// The types of the values of keys and measures.
    pub(crate) fn types(&self) -> impl Iterator<Item = DataType> {
        let keys = self.keys.iter().map(|term| term.data_type.clone());
        keys.chain(self.measures.iter().map(Measure::data_type))
    }

    /// Whether any value is asked for, not only how many rows there are.
    fn is_of_values(&self) -> bool {
        let mut measures = self.measures.iter();
        !self.keys.is_empty() || measures.any(|measure| measure.term().is_some())
    }

    /// The columns that all is worked out of.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let measures = self.measures.iter().filter_map(Measure::term);
        columns(self.keys.iter().chain(measures))
    }
}

/// The columns of some terms, each once.
fn columns<'t>(terms: impl Iterator<Item = &'t Term>) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for column in terms.flat_map(|term| &term.columns) {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    columns
}
