//! Pages of a list: all show what the first one saw.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::error::DataFusionError;
use futures::{StreamExt, pin_mut};
use spanstore_format::segment::Column;
use spanstore_format::table::Table;

use super::builder::Query;
use super::cursor::{Cursor, Signer};
use super::job::{Asked, Job};
use super::select::{Selection, Ties};
use crate::error::Error;
use crate::filter_error::FilterError;
use crate::read::bounded::Limits;
use crate::read::condition::Condition;
use crate::read::ordered::{Direction, Rank, identities};
use crate::read::scan::columns_error;

/// Rows of a page, at most.
const MOST_ROWS: usize = 1_000;
/// Rows of a page when no limit was given.
const ROWS: usize = 100;

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its rows, in the order of the query.
    pub rows: RecordBatch,
    /// The cursor of the next page; none at the end.
    pub next: Option<String>,
    /// How many rows all pages have together, where that was asked for.
    pub total: Option<u64>,
}

impl Query {
    /// A page of the query: the rows after a cursor, or the first ones, as many as the limit
    /// says, without one 100, and at least one.
    ///
    /// All pages show the spans that were there when the first one was asked for, and the
    /// requests as they were then: while spans are appended, sealed and merged, no row comes
    /// twice, none is left out and none changes. What was erased or has expired meanwhile is
    /// missing; a request that lost its first spans so starts later from then on, and may come
    /// again in the order of start. The column `split` says what is so at the moment. Filters and order are to be those of the first page; its times hold for all.
    /// A cursor is a text of hexadecimal digits. It survives reopening, and only this store
    /// can write it, so strangers may hold it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a limit of more than 1,000, [`Error::InvalidCursor`] for a
    /// cursor that is forged, or of another store, team, filter or order, or of a time that
    /// this copy of the store has not seen, [`Error::InvalidFilter`] for a filter on `split`,
    /// which merges change, and as [`Query::stream`].
    pub async fn page(self, cursor: Option<&str>) -> Result<Page, Error> {
        self.read_page(cursor, false).await
    }

    /// The same, and how many rows all pages have together, exactly.
    ///
    /// # Errors
    /// As [`Query::page`].
    pub async fn page_with_total(self, cursor: Option<&str>) -> Result<Page, Error> {
        self.read_page(cursor, true).await
    }

    async fn read_page(mut self, cursor: Option<&str>, is_counted: bool) -> Result<Page, Error> {
        let limit = self.question.limit.unwrap_or(ROWS).max(1);
        if limit > MOST_ROWS {
            return Err(Error::TooLarge {
                what: "rows of a page",
                limit: MOST_ROWS as u64,
                found: limit as u64,
            });
        }
        let signer = Signer::new(&*self.source, &self.question, "pages");
        let cursor = cursor.map(|cursor| signer.read(cursor)).transpose()?;
        if self
            .question
            .filters
            .iter()
            .any(|filter| filter.names("split"))
        {
            let expected = "a filter whose answer a merge does not change, for pages";
            return Err(FilterError::unexpected(0, expected, "`split`").into());
        }
        if let Some(cursor) = &cursor {
            self.question.below_sequence = Some(cursor.below_sequence);
            self.question.since = cursor.since;
            self.question.until = cursor.until;
        }
        let (execution, job, asked) = self.begin()?;
        let seen = i64::try_from(job.snapshot.next_sequence).unwrap_or(i64::MAX);
        if cursor
            .as_ref()
            .is_some_and(|cursor| cursor.below_sequence > seen)
        {
            let cause = "it knows spans that this store does not have";
            return Err(Error::InvalidCursor { cause });
        }
        let page = async move { job.page(&asked, (limit, is_counted), cursor, signer).await };
        execution.run(page).await
    }
}

/// What tells a row from all others: its rank, and its ids.
type RowKey = (Rank, Vec<u8>);

impl Job {
    async fn page(
        &self,
        asked: &Asked,
        (limit, is_counted): (usize, bool),
        cursor: Option<Cursor>,
        signer: Signer,
    ) -> Result<Page, Error> {
        let question = &asked.question;
        let direction = question.direction()?;
        let from = cursor.as_ref().map(|cursor| direction.start(cursor.rank));
        let (job, condition) = if is_counted {
            self.over(asked).await?
        } else {
            self.over_first(asked, limit + 1, from).await?
        };
        let total = if is_counted {
            Some(job.count(condition.clone()).await?)
        } else {
            None
        };
        let table = question.rows.table();
        let mut places = question.columns.clone();
        let keys = KeyColumns::new(direction, table, &mut places);
        let schema = table.schema().project(&places);
        let schema = Arc::new(schema.map_err(|error| columns_error("schema", &error))?);
        let columns: Vec<Column> = places.into_iter().map(Column::Stored).collect();
        let condition = match &cursor {
            Some(cursor) => direction.not_before(cursor.rank, condition),
            None => condition,
        };
        let mut selection =
            Selection::new(&job, condition, &columns, direction, Arc::clone(&schema))?;
        selection.in_batches_of(limit + 1);
        if let Some(cursor) = &cursor {
            selection.begin_at(cursor.rank);
        }
        let batches = selection.first(usize::MAX, Ties::ByIds);
        pin_mut!(batches);
        let mut rows = RecordBatch::new_empty(Arc::clone(&schema));
        let mut versions = cursor.as_ref().map_or(0, |cursor| cursor.versions);
        // One more tells whether there is a next page.
        while rows.num_rows() <= limit
            && let Some(batch) = batches.next().await
        {
            let batch = batch.map_err(error_of)?;
            let batch = match &cursor {
                Some(cursor) => keys.after(&batch, cursor, &mut versions)?,
                None => batch,
            };
            let all = concat_batches(&schema, [&rows, &batch]);
            rows = all.map_err(|error| columns_error("rows", &error))?;
        }
        let has_more = rows.num_rows() > limit;
        let rows = rows.slice(0, limit.min(rows.num_rows()));
        let next = match keys.of_rows(&rows)?.as_slice() {
            [others @ .., last] if has_more => {
                let (rank, ids) = last.clone();
                let same = others.iter().rev().take_while(|key| *key == last);
                let before = cursor.as_ref().filter(|cursor| cursor.is_at(last));
                let before = before.map_or(0, |cursor| cursor.versions);
                let seen = || i64::try_from(self.snapshot.next_sequence).unwrap_or(i64::MAX);
                Some(signer.write(&Cursor {
                    below_sequence: question.below_sequence.unwrap_or_else(seen),
                    since: question.since,
                    until: question.until,
                    rank,
                    ids,
                    versions: before + 1 + same.count() as u32,
                }))
            }
            _ => None,
        };
        let asked: Vec<usize> = (0..question.columns.len()).collect();
        let rows = rows.project(&asked);
        Ok(Page {
            rows: rows.map_err(|error| columns_error("rows", &error))?,
            next,
            total,
        })
    }
}

fn error_of(error: DataFusionError) -> Error {
    error.into()
}

impl Direction {
    /// The condition, of rows that come with or after those of a rank.
    fn not_before(self, rank: Rank, condition: Condition) -> Condition {
        let number = self.first_number(rank);
        let limits = if self.is_descending {
            // Beyond the greatest number, a bound says nothing.
            Limits {
                from: None,
                below: number.checked_add(1),
            }
        } else {
            Limits::from(number)
        };
        Condition::And(vec![condition, Condition::Within(self.by, limits)])
    }
}

/// Where the columns lie that make the key of a row.
struct KeyColumns {
    direction: Direction,
    rank: Vec<usize>,
    ids: Vec<usize>,
}

impl KeyColumns {
    /// Adds the columns to those that are read, where they are not among them.
    fn new(direction: Direction, table: &Table, read: &mut Vec<usize>) -> Self {
        let mut find = |wanted: usize| {
            let known = read.iter().position(|place| *place == wanted);
            known.unwrap_or_else(|| {
                read.push(wanted);
                read.len() - 1
            })
        };
        let rank = direction.places(table).into_iter().map(&mut find).collect();
        let ids = table.roles().identity.iter().copied().map(find).collect();
        Self {
            direction,
            rank,
            ids,
        }
    }

    /// The keys of rows.
    fn of_rows(&self, rows: &RecordBatch) -> Result<Vec<RowKey>, Error> {
        let corrupt = |error| Error::corrupt("rows", error);
        let ranked = rows.project(&self.rank);
        let ranked = ranked.map_err(|error| columns_error("rows", &error))?;
        let ranks = self.direction.ranks(&ranked).map_err(corrupt)?;
        let ids = rows.project(&self.ids);
        let ids = ids.map_err(|error| columns_error("rows", &error))?;
        let ids = identities(ids.columns())?;
        Ok(ranks.into_iter().zip(ids).collect())
    }

    /// The rows that come after a cursor, of rows in their order none of which has a rank
    /// before that of the cursor. So many `versions` of its row are left out.
    fn after(
        &self,
        rows: &RecordBatch,
        cursor: &Cursor,
        versions: &mut u32,
    ) -> Result<RecordBatch, Error> {
        let is_after = |key: &RowKey| {
            if cursor.is_at(key) {
                let is_given = *versions > 0;
                *versions = versions.saturating_sub(1);
                return !is_given;
            }
            let (rank, ids) = key;
            let by_ids = ids.cmp(&cursor.ids);
            *rank < cursor.rank || by_ids.is_lt() == self.direction.is_descending
        };
        let keys = self.of_rows(rows)?;
        let first = keys.iter().position(is_after).unwrap_or(keys.len());
        Ok(rows.slice(first, keys.len() - first))
    }
}

impl Cursor {
    /// Whether it ends at a row with this key.
    fn is_at(&self, (rank, ids): &RowKey) -> bool {
        *rank == self.rank && *ids == self.ids
    }
}
