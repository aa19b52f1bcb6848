//! `forget`: spans that are not to be found again.

use super::Context;
use crate::arguments::{Forget, ForgetArguments};
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>, arguments: &ForgetArguments) -> Result<(), Error> {
    let team = &context.team;
    let forgotten = match &arguments.what {
        Forget::Team => {
            team.forget()?;
            format!("team {}", team.id())
        }
        Forget::Trace(trace) => {
            team.forget_trace(trace.trace_id)?;
            format!("trace {} of {}", trace.trace_id, team.id())
        }
        Forget::Session(session) => {
            team.forget_session(&session.session_id)?;
            format!("session {} of {}", session.session_id, team.id())
        }
    };
    Report::new()
        .with("forgotten", forgotten)
        .with("in_files_until", "compact --erase")
        .write(context.format, &mut context.out)
}
