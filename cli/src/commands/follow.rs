//! `tail`, and waiting for a trace: what another process writes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use spanstore::query::Tail;
use spanstore::{Spans, Store, StoreOptions, Team, TraceId, TraceStatus};

use super::{Access, Context, open, runtime};
use crate::arguments::{Format, TailArguments, WaitArguments};
use crate::error::Error;
use crate::output::{RowWriter, row_columns};
use crate::time::now_nanos;

/// The time between two looks at the log.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a look at what has come may go on when the store is to be opened again.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Rows that a tail gives at a time, at most, and those of the append that brought the last.
const MOST_ROWS: usize = 1_000;

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
    let end = End {
        time: arguments.timeout.and_then(after),
        is_interrupted: interrupted()?,
    };
    let mut left = arguments.limit.unwrap_or(usize::MAX);
    let format = *format;
    let begin = |team: &Team, left: usize, cursor: Option<&str>| {
        begin(team, format, arguments, left, cursor)
    };
    let mut tail = begin(team, left, arguments.cursor.as_deref())?;
    let mut writer = RowWriter::following(format, tail.schema(), &mut *out)?;
    writer.flush()?;
    let ended = loop {
        match next(store, &mut tail, &end).await {
            Ok(Next::Rows(rows)) => {
                left = left.saturating_sub(rows.num_rows());
                let written = writer.write(&rows).and_then(|()| writer.flush());
                if written.is_err() || left == 0 || end.is_now() {
                    break written;
                }
                if left < MOST_ROWS {
                    tail = begin(team, left, Some(&tail.cursor()))?;
                }
            }
            Ok(Next::Outdated) => match open(options, Access::Follow) {
                // The next look says so again.
                Err(Error::Store(spanstore::Error::Changing { .. })) => {}
                Err(error) => break Err(error),
                Ok(opened) => {
                    (*store, *team) = opened;
                    let cursor = tail.cursor();
                    tail = match begin(team, left, Some(&cursor)) {
                        Err(Error::Store(spanstore::Error::InvalidCursor { .. })) => {
                            eprintln!(
                                "Another store lies there now, or its last spans were taken back as the disk is full. What comes from now on is shown."
                            );
                            begin(team, left, None)?
                        }
                        begun => begun?,
                    };
                }
            },
            Ok(Next::End) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    writer.finish()?;
    let cursor = tail.cursor();
    if format == Format::Json {
        writeln!(out, "{}", json!({ "next_cursor": cursor }))?;
        out.flush()?;
    } else {
        eprintln!("The next ones: --cursor {cursor}");
    }
    ended
}

/// What happens next to a tail.
enum Next {
    /// Something has come.
    Rows(RecordBatch),
    /// The store is to be opened again.
    Outdated,
    /// The time is over.
    End,
}

/// When a tail ends.
struct End {
    time: Option<Instant>,
    is_interrupted: Arc<AtomicBool>,
}

impl End {
    fn is_now(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
            || self.time.is_some_and(|time| time <= Instant::now())
    }
}

/// What is true once the process is asked to end; asked again, it ends at once.
fn interrupted() -> Result<Arc<AtomicBool>, Error> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let status = 128 + signal;
        flag::register_conditional_shutdown(signal, status, Arc::clone(&is_interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&is_interrupted)))
            .map_err(Error::io("waiting for signals"))?;
    }
    Ok(is_interrupted)
}

async fn next(store: &Store, tail: &mut Tail, end: &End) -> Result<Next, Error> {
    // One look goes on for as long as it takes: begun anew each time it might never end.
    let mut coming = pin!(tail.next());
    loop {
        if let Ok(arrivals) = tokio::time::timeout(PAUSE, &mut coming).await {
            return Ok(Next::Rows(arrivals?.rows));
        }
        if end.is_now() {
            return Ok(Next::End);
        }
        if !store.refresh()? {
            let last = tokio::time::timeout(LAST_LOOK, &mut coming).await;
            return match last {
                Ok(arrivals) => Ok(Next::Rows(arrivals?.rows)),
                Err(_) => Ok(Next::Outdated),
            };
        }
    }
}

fn after(seconds: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds))
}

fn begin(
    team: &Team,
    format: Format,
    arguments: &TailArguments,
    left: usize,
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
    query = query.limit(left.min(MOST_ROWS));
    Ok(match cursor {
        Some(cursor) => query.tail_from(cursor)?,
        None => query.tail()?,
    })
}

/// Waits until the first trace of a session is ready.
pub(super) fn wait(context: &mut Context<'_>, arguments: &WaitArguments) -> Result<TraceId, Error> {
    let end = after(arguments.timeout);
    let quiet_time = StoreOptions::default().trace_quiet_time;
    // The trace and the number of its spans, and since when it is so.
    let mut seen = None;
    loop {
        let what = match context.team.page_trace(&arguments.session_id)? {
            None => "no span of the session is here".to_owned(),
            Some((trace, spans)) => {
                let now = (trace, spans.len());
                let (_, since) = seen
                    .filter(|(before, _)| *before == now)
                    .unwrap_or((now, Instant::now()));
                seen = Some((now, since));
                let is_quiet = since.elapsed() >= quiet_time || is_over(&spans, quiet_time)?;
                match context.team.trace_status(trace)? {
                    TraceStatus::Ready if is_quiet => return Ok(trace),
                    TraceStatus::Partial {
                        has_root: false, ..
                    } => format!("the root of trace {trace} is not here"),
                    _ => format!("spans of trace {trace} still come"),
                }
            }
        };
        if end.is_some_and(|end| end <= Instant::now()) {
            return Err(Error::NotReady {
                what,
                seconds: arguments.timeout,
            });
        }
        std::thread::sleep(PAUSE);
        if !context.store.refresh()? {
            match open(context.options, Access::Follow) {
                Err(Error::Store(spanstore::Error::Changing { .. })) => {}
                opened => (context.store, context.team) = opened?,
            }
        }
    }
}

/// Whether all spans ended some time ago. Who reads beside a writer does not know when they came.
fn is_over(spans: &Spans, quiet_time: Duration) -> Result<bool, Error> {
    let rows = spans.rows()?;
    let ends = rows
        .iter()
        .map(|span| span.start_nanos.saturating_add(span.duration_nanos));
    let passed = now_nanos().saturating_sub(ends.max().unwrap_or(i64::MAX));
    Ok(u128::try_from(passed).is_ok_and(|passed| passed >= quiet_time.as_nanos()))
}
