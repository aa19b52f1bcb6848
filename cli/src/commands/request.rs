//! `request`: the requests that have one request id, oldest first.

use spanstore::query::Order;

use super::{Context, rows, runtime};
use crate::arguments::{RequestArguments, Rows};
use crate::error::Error;
use crate::output::row_columns;

pub(super) fn run(context: &mut Context<'_>, arguments: &RequestArguments) -> Result<(), Error> {
    // As the header has it, the regions that the request passed stand before the id.
    let id = arguments.request_id.rsplit("::").next().unwrap_or_default();
    // A quote in a text is written twice, and nothing else in it has a meaning.
    let filter = format!("request_id = '{}'", id.replace('\'', "''"));
    let query = context.query(Rows::Requests).filter(&filter)?;
    let query = query.columns(row_columns(Rows::Requests, context.format))?;
    let written = runtime()?.block_on(async {
        let stream = query.order(Order::OldestFirst).stream().await?;
        rows::write(stream, None, context).await
    })?;
    if written.rows == 0 {
        eprintln!("The team has no request of the id {id}.");
    }
    Ok(())
}
