//! `tail`, and waiting for a trace: what another process writes.

use std::time::{Duration, Instant};

use serde_json::json;
use spanstore::query::Tail;
use spanstore::{Team, TraceId, TraceStatus};

use super::{Access, Context, open, runtime};
use crate::arguments::{Format, TailArguments, WaitArguments};
use crate::error::Error;
use crate::output::{RowWriter, row_columns};

/// The time between two looks at the log.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn run(context: &mut Context<'_>, arguments: &TailArguments) -> Result<(), Error> {
    runtime()?.block_on(tail(context, arguments))
}

async fn tail(context: &mut Context<'_>, arguments: &TailArguments) -> Result<(), Error> {
    let Context {
        options,
        store,
        team,
        format,
        out,
        ..
    } = context;
    let end = arguments.timeout.and_then(after);
    let mut left = arguments.limit.unwrap_or(usize::MAX);
    let mut tail = begin(team, *format, arguments, arguments.cursor.as_deref())?;
    let mut writer = RowWriter::following(*format, tail.schema(), &mut *out)?;
    writer.flush()?;
    loop {
        if let Ok(arrivals) = tokio::time::timeout(PAUSE, tail.next()).await {
            let rows = arrivals?.rows;
            writer.write(&rows)?;
            writer.flush()?;
            left = left.saturating_sub(rows.num_rows());
        }
        if left == 0 || end.is_some_and(|end| end <= Instant::now()) {
            break;
        }
        if !store.refresh()? {
            let cursor = tail.cursor();
            (*store, *team) = open(options, Access::Read)?;
            tail = begin(team, *format, arguments, Some(&cursor))?;
        }
    }
    writer.finish()?;
    let cursor = tail.cursor();
    if *format == Format::Json {
        writeln!(out, "{}", json!({ "next_cursor": cursor }))?;
    } else {
        eprintln!("The next ones: --cursor {cursor}");
    }
    Ok(())
}

fn after(seconds: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds))
}

fn begin(
    team: &Team,
    format: Format,
    arguments: &TailArguments,
    cursor: Option<&str>,
) -> Result<Tail, Error> {
    let rows = arguments.rows();
    let mut query = if arguments.requests {
        team.requests()
    } else {
        team.query()
    };
    if let Some(filter) = &arguments.filter {
        query = query.filter(filter).map_err(Error::of_filter(filter))?;
    }
    if let Some(text) = &arguments.search {
        query = query.search(text).map_err(Error::of_filter(text))?;
    }
    query = match &arguments.columns {
        Some(names) => query.columns(names.iter().map(String::as_str))?,
        None => query.columns(row_columns(rows, format))?,
    };
    Ok(match cursor {
        Some(cursor) => query.tail_from(cursor)?,
        None => query.tail()?,
    })
}

/// Waits until the first trace of a session is ready.
pub(super) fn wait(context: &mut Context<'_>, arguments: &WaitArguments) -> Result<TraceId, Error> {
    let end = after(arguments.timeout);
    loop {
        let what = match context.team.page_trace(&arguments.session_id)? {
            None => "no span of the session is here".to_owned(),
            Some((trace, _)) => match context.team.trace_status(trace)? {
                TraceStatus::Ready => return Ok(trace),
                TraceStatus::Unknown => format!("trace {trace} is not here"),
                TraceStatus::Partial { spans, has_root } => {
                    let root = if has_root {
                        "spans still come"
                    } else {
                        "its root is not here"
                    };
                    format!("trace {trace} has {spans} spans and is not ready: {root}")
                }
            },
        };
        if end.is_some_and(|end| end <= Instant::now()) {
            return Err(Error::NotReady {
                what,
                seconds: arguments.timeout,
            });
        }
        std::thread::sleep(PAUSE);
        if !context.store.refresh()? {
            (context.store, context.team) = open(context.options, Access::Read)?;
        }
    }
}
