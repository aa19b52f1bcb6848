//! Lists of spans, requests or sessions.

use arrow::array::Array;
use spanstore::query::{Order, Query, Rows};

use super::{Context, rows, runtime};
use crate::arguments::Format;
use crate::error::Error;
use crate::output::{least_important, row_columns};

/// Rows of a table when no limit was given.
const TABLE_ROWS: usize = 50;

/// What a list shows of what a query finds.
pub(super) struct Listed<'a> {
    pub(super) rows: Rows,
    /// The columns; those of the format when none were asked for.
    pub(super) columns: Option<&'a [String]>,
    /// At most this many rows.
    pub(super) limit: Option<usize>,
}

/// Writes what a query finds in its order, says when a table is cut, and gives the number
/// of rows that were written.
pub(super) fn write(
    context: &mut Context<'_>,
    mut query: Query,
    listed: &Listed<'_>,
) -> Result<usize, Error> {
    let may_leave_out;
    (query, may_leave_out) = with_columns(query, listed.rows, listed.columns, context.format)?;
    let cut = (context.format == Format::Table && listed.limit.is_none()).then_some(TABLE_ROWS);
    if let Some(limit) = cut.map(|rows| rows + 1).or(listed.limit) {
        query = query.limit(limit);
    }
    let written = runtime()?.block_on(async {
        let stream = query.stream().await?;
        rows::write(stream, cut, may_leave_out, context).await
    })?;
    if written.is_cut {
        let rows = listed.rows.name();
        eprintln!("These are the first {TABLE_ROWS} {rows}; --limit N shows more.");
    }
    Ok(written.rows)
}

/// A query for the columns that were asked for, else for those of the format, of which a table may
/// leave some out where the terminal is narrow.
pub(super) fn with_columns(
    query: Query,
    rows: Rows,
    asked: Option<&[String]>,
    format: Format,
) -> Result<(Query, &'static [&'static str]), Error> {
    Ok(match asked {
        Some(names) => (query.columns(names.iter().map(String::as_str))?, &[]),
        None => {
            let columns = row_columns(rows, format);
            (query.columns(columns)?, least_important(rows))
        }
    })
}

/// Writes a session; for people without the columns that it lacks.
pub(super) fn write_session(context: &mut Context<'_>, id: &str) -> Result<(), Error> {
    let columns = row_columns(Rows::Sessions, Format::Json);
    let query = with_id(context, Rows::Sessions, "session_id", id)?;
    let found = runtime()?.block_on(query.columns(columns)?.collect())?;
    for rows in &found {
        let known = rows.columns().iter().enumerate();
        let known = known.filter(|(_, values)| values.null_count() < values.len());
        let known: Vec<usize> = known.map(|(place, _)| place).collect();
        context.write(&match context.format {
            Format::Table => rows.project(&known)?,
            _ => rows.clone(),
        })?;
    }
    Ok(())
}

fn with_id(context: &Context<'_>, rows: Rows, column: &str, id: &str) -> Result<Query, Error> {
    // A quote in a text is written twice, and nothing else in it has a meaning.
    let filter = format!("{column} = '{}'", id.replace('\'', "''"));
    Ok(context.query(rows).filter(&filter)?)
}

/// Writes the rows with an id, oldest first, and gives their number.
pub(super) fn write_with_id(
    context: &mut Context<'_>,
    rows: Rows,
    column: &str,
    id: &str,
) -> Result<usize, Error> {
    let query = with_id(context, rows, column, id)?;
    let (query, may_leave_out) = with_columns(query, rows, None, context.format)?;
    let written = runtime()?.block_on(async {
        let stream = query.order(Order::OldestFirst).stream().await?;
        rows::write(stream, None, may_leave_out, context).await
    })?;
    Ok(written.rows)
}
