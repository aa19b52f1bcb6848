//! `query`: a list of spans.

use spanstore::query::{self, Rows};

use super::Context;
use super::list::{self, Listed};
use crate::arguments::{Order, QueryArguments};
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &QueryArguments) -> Result<(), Error> {
    let query = context.select(Rows::Spans, &arguments.selection)?;
    let query = query.order(match arguments.order {
        Order::Newest => query::Order::NewestFirst,
        Order::Oldest => query::Order::OldestFirst,
        Order::Slowest => query::Order::SlowestFirst,
        Order::Fastest => query::Order::FastestFirst,
    });
    let listed = Listed {
        rows: Rows::Spans,
        columns: arguments.columns.as_deref(),
        limit: arguments.limit,
    };
    list::write(context, query, &listed)?;
    Ok(())
}
