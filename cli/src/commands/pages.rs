//! `requests` and `sessions`: lists in pages.

use serde_json::json;
use spanstore::query::{self, Query, Rows};

use super::list::{self, Listed};
use super::{Context, runtime};
use crate::arguments::{Format, ListArguments, RowOrder, Selection};
use crate::error::Error;
use crate::output::{RowWriter, grouped};

/// Rows of a page of the store, at most.
const PAGE_ROWS: usize = 1_000;

pub(super) fn run(
    context: &mut Context<'_>,
    rows: Rows,
    selection: &Selection,
    arguments: &ListArguments,
) -> Result<(), Error> {
    let query = context.select(rows, selection)?;
    let query = query.order(match arguments.order {
        RowOrder::Newest => query::Order::NewestFirst,
        RowOrder::Oldest => query::Order::OldestFirst,
        RowOrder::Slowest => query::Order::SlowestFirst,
        RowOrder::Fastest => query::Order::FastestFirst,
        RowOrder::Spans => query::Order::MostSpansFirst,
        RowOrder::Errors => query::Order::MostErrorsFirst,
    });
    let is_paged = arguments.limit.is_some() || arguments.cursor.is_some();
    if is_paged && context.cost.is_none() {
        return runtime()?.block_on(pages(context, query, rows, arguments));
    }
    let total = arguments.total.then(|| query.clone());
    let listed = Listed {
        rows,
        columns: arguments.columns.as_deref(),
        limit: arguments.limit,
    };
    let written = list::write(context, query, &listed)?;
    if let Some(total) = total {
        let total = runtime()?.block_on(total.count())?;
        tell_total(written, total, rows);
    }
    Ok(())
}

fn tell_total(written: usize, total: u64, rows: Rows) {
    let (written, total) = (grouped(written as u64), grouped(total));
    eprintln!("{written} of {total} {}", rows.name());
}

/// Writes so many rows as the limit says, and the cursor of those that follow.
async fn pages(
    context: &mut Context<'_>,
    query: Query,
    rows: Rows,
    arguments: &ListArguments,
) -> Result<(), Error> {
    let asked = arguments.columns.as_deref();
    let (query, may_leave_out) = list::with_columns(query, rows, asked, context.format)?;
    let mut left = arguments.limit.unwrap_or(PAGE_ROWS);
    let first = query.clone().limit(left.min(PAGE_ROWS));
    let cursor = arguments.cursor.as_deref();
    let mut page = if arguments.total {
        first.page_with_total(cursor).await?
    } else {
        first.page(cursor).await?
    };
    let total = page.total;
    let mut written = 0;
    let writer = RowWriter::new(context.format, page.rows.schema(), &mut *context.out)?;
    let mut writer = writer.leaving_out(may_leave_out);
    let cursor = loop {
        writer.write(&page.rows)?;
        written += page.rows.num_rows();
        left = left.saturating_sub(page.rows.num_rows());
        if left == 0 || page.next.is_none() {
            break page.next;
        }
        let next = query.clone().limit(left.min(PAGE_ROWS));
        page = next.page(page.next.as_deref()).await?;
    };
    writer.finish()?;
    if context.format == Format::Json {
        let line = json!({ "next_cursor": cursor });
        writeln!(context.out, "{line}").map_err(Error::io("writing"))?;
    } else if let Some(cursor) = cursor {
        eprintln!("The next ones: --cursor {cursor}");
    }
    if let Some(total) = total {
        tell_total(written, total, rows);
    }
    Ok(())
}
