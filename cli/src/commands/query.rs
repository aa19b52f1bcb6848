//! `query`: a list of spans.

use spanstore::query;

use super::{Context, rows, runtime};
use crate::arguments::{Format, Order, QueryArguments};
use crate::error::Error;
use crate::output::span_columns;

/// Rows of a table when no limit was given.
const TABLE_ROWS: usize = 50;

pub(super) fn run(context: &mut Context<'_>, arguments: &QueryArguments) -> Result<(), Error> {
    let mut query = context.select(&arguments.selection)?;
    query = match &arguments.columns {
        Some(names) => query.columns(names.iter().map(String::as_str))?,
        None => query.columns(span_columns(context.format))?,
    };
    query = query.order(match arguments.order {
        Order::Newest => query::Order::NewestFirst,
        Order::Oldest => query::Order::OldestFirst,
        Order::Slowest => query::Order::SlowestFirst,
        Order::Fastest => query::Order::FastestFirst,
    });
    let cut = (context.format == Format::Table && arguments.limit.is_none()).then_some(TABLE_ROWS);
    if let Some(limit) = cut.map(|rows| rows + 1).or(arguments.limit) {
        query = query.limit(limit);
    }
    let is_cut = runtime()?.block_on(async {
        let stream = query.stream().await?;
        rows::write(stream, cut, context).await
    })?;
    if is_cut {
        eprintln!("These are the first {TABLE_ROWS} spans; --limit N shows more.");
    }
    Ok(())
}
