//! `forget`: spans that are not to be found again.

use std::collections::BTreeSet;

use spanstore::query::Query;
use spanstore::{Erased, Team, TraceId};

use super::confirm::{self, confirm};
use super::{Context, runtime};
use crate::arguments::{Forget, ForgetArguments};
use crate::error::Error;
use crate::output::Report;

/// Names that a question shows.
const SHOWN: usize = 5;

pub(super) fn run(context: &mut Context<'_>, arguments: &ForgetArguments) -> Result<(), Error> {
    let team = &context.team;
    let (rows, names): (Vec<Erased>, Vec<String>) = match &arguments.what {
        Forget::Team => (vec![Erased::Team], vec![format!("team {}", team.id())]),
        Forget::Trace(traces) => {
            let ids: BTreeSet<_> = traces.trace_ids.iter().collect();
            let of = |id: &TraceId| (Erased::Trace(*id), format!("trace {id} of {}", team.id()));
            ids.into_iter().map(of).unzip()
        }
        Forget::Session(sessions) => {
            let ids: BTreeSet<_> = sessions.session_ids.iter().collect();
            let of = |id: &String| {
                let name = format!("session {id} of {}", team.id());
                (Erased::Session(id.clone()), name)
            };
            ids.into_iter().map(of).unzip()
        }
        Forget::User(one) => {
            let name = format!("user {} of {}", one.user, team.id());
            (team.rows_of_user(&one.user)?, vec![name])
        }
    };
    // Also what is damaged, and therefore not counted, can be forgotten.
    let spans = match &arguments.what {
        // All spans of the user's sessions are in the traces too.
        Forget::User(_) => {
            let traces = rows.iter().filter(|of| matches!(of, Erased::Trace(_)));
            count(team, traces).ok()
        }
        _ => count(team, &rows).ok(),
    };
    if !arguments.yes {
        confirm(&question(team, spans, &names))?;
    }
    team.forget_many(rows)?;
    Report::new()
        .with("forgotten", names)
        .with("spans", spans)
        .with("in_files_until", "compact --erase")
        .write(context.format, &mut context.out)
}

/// How many spans there are to forget, as far as they are to be seen.
fn count<'r>(team: &Team, rows: impl IntoIterator<Item = &'r Erased>) -> Result<u64, Error> {
    let runtime = runtime()?;
    let count = |query: Query| Ok(runtime.block_on(query.count())?);
    let counts = rows.into_iter().map(|of| match of {
        Erased::Team => count(team.query()),
        Erased::Trace(id) => count(team.query().filter(&format!("trace_id = '{id}'"))?),
        Erased::Session(id) => {
            let id = id.replace('\'', "''");
            count(team.query().filter(&format!("session_id = '{id}'"))?)
        }
    });
    counts.sum()
}

fn question(team: &Team, spans: Option<u64>, names: &[String]) -> String {
    let spans = confirm::spans(spans);
    let mut shown: Vec<String> = names.iter().take(SHOWN).cloned().collect();
    if names.len() > SHOWN {
        shown.push(format!("{} others", names.len() - SHOWN));
    }
    let shown = shown.join(", ");
    let hidden = match team.retention() {
        Some(_) => ", and those that retention hides",
        None => "",
    };
    format!("forget {spans} ({}){hidden} for good", shown.escape_debug())
}
