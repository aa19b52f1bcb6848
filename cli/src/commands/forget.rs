//! `forget`: spans that are not to be found again.

use std::io::{self, BufRead, IsTerminal, Write};

use spanstore::{Erased, Team};

use super::{Context, runtime};
use crate::arguments::{Forget, ForgetArguments};
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>, arguments: &ForgetArguments) -> Result<(), Error> {
    let team = &context.team;
    let (rows, names): (Vec<Erased>, Vec<String>) = match &arguments.what {
        Forget::Team => (vec![Erased::Team], vec![format!("team {}", team.id())]),
        Forget::Trace(traces) => {
            let ids = traces.trace_ids.iter();
            ids.map(|id| (Erased::Trace(*id), format!("trace {id} of {}", team.id())))
                .unzip()
        }
        Forget::Session(sessions) => {
            let ids = sessions.session_ids.iter();
            ids.map(|id| {
                let name = format!("session {id} of {}", team.id());
                (Erased::Session(id.clone()), name)
            })
            .unzip()
        }
    };
    // Also what is damaged, and therefore not counted, can be forgotten.
    let spans = rows.iter().map(|of| count(team, of));
    let spans = spans.sum::<Result<u64, Error>>().ok();
    if !arguments.yes {
        let count = spans.map_or("an unknown number of".into(), |spans| spans.to_string());
        confirm(&format!(
            "forget {count} spans ({}) for good",
            names.join(", ")
        ))?;
    }
    team.forget_many(rows)?;
    Report::new()
        .with("forgotten", names)
        .with("spans", spans)
        .with("in_files_until", "compact --erase")
        .write(context.format, &mut context.out)
}

/// How many spans there are to forget.
fn count(team: &Team, of: &Erased) -> Result<u64, Error> {
    let mut query = team.query();
    match of {
        Erased::Team => {}
        Erased::Trace(id) => query = query.filter(&format!("trace_id = '{id}'"))?,
        Erased::Session(id) => {
            query = query.filter(&format!("session_id = '{}'", id.replace('\'', "''")))?;
        }
    }
    Ok(runtime()?.block_on(query.count())?)
}

/// Asks the person at the terminal.
fn confirm(what: &str) -> Result<(), Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::Usage(format!("this would {what}; --yes does so")));
    }
    let mut errors = io::stderr();
    write!(errors, "spanstore: {what}? [y/N] ").map_err(Error::io("asking"))?;
    errors.flush().map_err(Error::io("asking"))?;
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.map_err(Error::io("the answer"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Error::Usage("nothing was forgotten".into()))
}
