//! `session` and `page-trace`: sessions that people start and stop, and the spans of one.

use spanstore::Session;
use spanstore::query::Rows;

use super::{Context, follow, list, trace};
use crate::arguments::{
    Format, PageTraceArguments, PageTraceCommand, SessionArguments, SessionCommand, TraceArguments,
};
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &SessionArguments) -> Result<(), Error> {
    let team = &context.team;
    let session = match &arguments.command {
        SessionCommand::Start(new) => team.start_session(new.session())?,
        SessionCommand::Stop(one) => team.stop_session(&one.session_id)?,
        SessionCommand::Restart(one) => team.restart_session(&one.session_id)?,
        SessionCommand::Show(one) => return show(context, &one.session_id),
        SessionCommand::Wait(one) => {
            follow::wait(context, one)?;
            list::write_with_id(context, Rows::Requests, "session_id", &one.session_id)?;
            return Ok(());
        }
    };
    write(context, &session);
    Ok(())
}

pub(super) fn page_trace(
    context: &mut Context<'_>,
    arguments: &PageTraceArguments,
) -> Result<(), Error> {
    match &arguments.command {
        PageTraceCommand::Start(new) => {
            let session = context.team.start_page_trace(new.session())?;
            write(context, &session);
            Ok(())
        }
        PageTraceCommand::Wait(one) => {
            let trace_id = follow::wait(context, one)?;
            trace::run(context, &TraceArguments { trace_id })
        }
    }
}

/// Writes a session as `sessions` does.
fn write(context: &mut Context<'_>, session: &Session) {
    let id = &session.id;
    if let Err(error) = list::write_session(context, id) {
        // It is done, and nobody else knows the id.
        eprintln!("The session is {id}; it cannot be shown: {error}");
    }
}

/// Writes the spans of a session; for people below the session.
fn show(context: &mut Context<'_>, id: &str) -> Result<(), Error> {
    if context.format == Format::Table {
        list::write_session(context, id)?;
    }
    let spans = list::write_with_id(context, Rows::Spans, "session_id", id)?;
    if spans == 0 {
        eprintln!("The team has no span of the session {id}.");
    }
    Ok(())
}
