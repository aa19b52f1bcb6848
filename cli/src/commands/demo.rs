//! `demo`: the main job in one command.

use arrow::array::{Array, AsArray};
use spanstore::{Month, SpanBatch, Team, TraceId};

use super::{Access, Context, Out, query, runtime, trace, usage};
use crate::arguments::{Format, GlobalOptions, Order, QueryArguments, Selection};
use crate::error::Error;
use crate::generate::Application;
use crate::time::{SECOND, now_nanos};

const SPANS: u64 = 2_000;
const SEED: u64 = 1;
/// The traces lie in the last hour.
const PERIOD: i64 = 3_600 * SECOND;
const FILTER: &str = "level = 'error' and path like '/api/%'";

/// Works in the store that was named, or in a temporary one.
pub(super) fn run(options: &GlobalOptions, out: Out<'_>) -> Result<(), Error> {
    if options.store.is_some() {
        return Context::open(options, Access::Create, Format::Table, out)?.run(show);
    }
    let directory = tempfile::tempdir().map_err(Error::io("temporary directory"))?;
    let options = GlobalOptions {
        store: Some(directory.path().to_owned()),
        team: options.team.clone(),
        format: None,
        time_limit: options.time_limit,
    };
    Context::open(&options, Access::Create, Format::Table, out)?.run(show)
}

fn show(context: &mut Context<'_>) -> Result<(), Error> {
    let now = now_nanos();
    let month = Month::of(now);
    // Within the present month, for the quota shown to be the one used.
    let start = (now - PERIOD).max(month.start_nanos());
    let application = Application::new(SEED, start).over(now - start);
    let mut accepted = 0;
    for request in application.requests(SPANS) {
        accepted += context.team.append(SpanBatch::from_otlp(request))?.accepted;
    }
    writeln!(
        context.out,
        "{accepted} spans of a sample application were appended.\n"
    )?;

    writeln!(
        context.out,
        "spanstore query --limit 10 --filter \"{FILTER}\""
    )?;
    let filtered = QueryArguments {
        selection: Selection {
            filter: Some(FILTER.to_owned()),
            search: None,
            since: None,
            until: None,
            explain: false,
        },
        limit: Some(10),
        order: Order::Newest,
        columns: None,
    };
    query::run(context, &filtered)?;

    if let Some(trace_id) = newest_trace(&context.team)? {
        writeln!(context.out, "\nspanstore trace {trace_id}")?;
        trace::write_tree(trace_id, &context.team.trace(trace_id)?, context.out)?;
    }

    writeln!(context.out, "\nspanstore usage")?;
    usage::report(&context.team, month)?.write(Format::Table, &mut context.out)
}

/// The trace of the newest span that the filter finds.
fn newest_trace(team: &Team) -> Result<Option<TraceId>, Error> {
    let query = team.query().filter(FILTER)?.columns(["trace_id"])?.limit(1);
    let batches = runtime()?.block_on(query.collect())?;
    let first = batches.iter().find(|batch| batch.num_rows() > 0);
    let ids = first.and_then(|batch| batch.column(0).as_fixed_size_binary_opt());
    let id = ids
        .filter(|ids| ids.is_valid(0))
        .map(|ids| TraceId::from_bytes(ids.value(0)));
    Ok(id.transpose().map_err(spanstore::Error::from)?)
}
