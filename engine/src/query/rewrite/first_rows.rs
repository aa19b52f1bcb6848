//! SQL's `order by start_time` or `duration` with a limit: only rows that may be among the
//! first are read.
//!
//! The leaf takes the place of the scan, and the sort above it stays: the leaf gives all
//! rows that no other row comes before but those that it gives too.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, Sort};
use futures::StreamExt;
use spanstore_format::segment::Column;
use spanstore_format::span::SpanColumn;

use super::input::Input;
use super::{Batches, Work};
use crate::query::job::Job;
use crate::query::select::{Selection, Ties};
use crate::query::watched::external;
use crate::read::bounded::Bounded;
use crate::read::condition::Condition;
use crate::read::ordered::Direction;

/// More rows than these, the offset among them, are rather sorted by DataFusion.
const MOST_ROWS: usize = 10_000;

/// The rows that may be among the first.
#[derive(Debug)]
pub(super) struct FirstRows {
    job: Job,
    condition: Condition,
    columns: Vec<Column>,
    direction: Direction,
    limit: usize,
    ties: Ties,
}

impl FirstRows {
    /// The rows that a sort needs of the table, and their columns, if that is what it sorts.
    pub(super) fn of(sort: &Sort, job: &Job, state: &SessionState) -> Option<(Self, DFSchemaRef)> {
        let limit = sort.fetch.filter(|fetch| *fetch <= MOST_ROWS)?;
        let input = Input::of(&sort.input)?;
        let mut keys = sort.expr.iter();
        let first = keys.next()?;
        let by = Bounded::of(column(&input, &first.expr)?.name())?;
        let ties = match (by, keys.next(), keys.next()) {
            (_, None, _) => Ties::Any,
            (Bounded::Duration, Some(second), third)
                if second.asc == first.asc
                    && column(&input, &second.expr) == Some(SpanColumn::StartTime) =>
            {
                third.map_or(Ties::Any, |_| Ties::OfRank)
            }
            // Many spans may have one duration; few have one start.
            (Bounded::Start, ..) => Ties::OfFirst,
            _ => return None,
        };
        let compile = |expr, schema: &DFSchema| state.create_physical_expr(expr, schema);
        let condition = input.condition(&compile)?;
        let names = input.schema.fields().iter();
        let columns = names.map(|field| SpanColumn::of_name(field.name()).map(Column::from));
        let rows = Self {
            job: job.clone(),
            condition,
            columns: columns.collect::<Option<_>>()?,
            direction: Direction {
                by,
                is_descending: !first.asc,
            },
            limit,
            ties,
        };
        Some((rows, input.schema))
    }
}

/// The column of the table that an expression over an input is.
fn column(input: &Input, expr: &Expr) -> Option<SpanColumn> {
    match input.over_table(expr)? {
        Expr::Column(column) => SpanColumn::of_name(&column.name),
        _ => None,
    }
}

#[async_trait]
impl Work for FirstRows {
    fn describe(&self) -> String {
        let Direction { by, is_descending } = self.direction;
        let by = by.name();
        let order = if is_descending {
            "descending"
        } else {
            "ascending"
        };
        let (limit, condition) = (self.limit, &self.condition);
        format!("FirstRows: by {by}, {order}, limit={limit}, of {condition}")
    }

    async fn begin(&self, schema: SchemaRef) -> Result<Batches> {
        let (condition, direction) = (self.condition.clone(), self.direction);
        let selection = Selection::new(&self.job, condition, &self.columns, direction, schema);
        let selection = selection.map_err(external)?;
        Ok(selection.first(self.limit, self.ties).boxed())
    }
}
