//! `requests`: a list of requests, one a trace.

use spanstore::query;

use super::list::{self, Listed};
use super::{Context, runtime};
use crate::arguments::{RequestOrder, RequestsArguments, Rows};
use crate::error::Error;
use crate::output::grouped;

pub(super) fn run(context: &mut Context<'_>, arguments: &RequestsArguments) -> Result<(), Error> {
    let query = context.select(Rows::Requests, &arguments.selection)?;
    let total = arguments.total.then(|| query.clone());
    let query = query.order(match arguments.order {
        RequestOrder::Newest => query::Order::NewestFirst,
        RequestOrder::Oldest => query::Order::OldestFirst,
        RequestOrder::Slowest => query::Order::SlowestFirst,
        RequestOrder::Fastest => query::Order::FastestFirst,
        RequestOrder::Spans => query::Order::MostSpansFirst,
        RequestOrder::Errors => query::Order::MostErrorsFirst,
    });
    let listed = Listed {
        rows: Rows::Requests,
        columns: arguments.columns.as_deref(),
        limit: arguments.limit,
    };
    let written = list::write(context, query, &listed)?;
    if let Some(total) = total {
        let total = runtime()?.block_on(total.count())?;
        let written = grouped(written as u64);
        eprintln!("{written} of {} requests", grouped(total));
    }
    Ok(())
}
