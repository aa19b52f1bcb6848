//! `forget`: spans that are not to be found again.

use spanstore::Erased;

use super::Context;
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
    team.forget_many(rows)?;
    Report::new()
        .with("forgotten", names)
        .with("in_files_until", "compact --erase")
        .write(context.format, &mut context.out)
}
