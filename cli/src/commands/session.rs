//! `session` and `page-trace`: sessions that people start and stop, and the spans of one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewArray, TimestampNanosecondArray};
use spanstore::{Session, SessionKind};
use spanstore_format::span::schema;

use super::Context;
use crate::arguments::{
    Format, PageTraceArguments, PageTraceCommand, Rows, SessionArguments, SessionCommand,
};
use crate::error::Error;
use crate::output::{RowWriter, pick, row_columns};

pub(super) fn run(context: &mut Context<'_>, arguments: &SessionArguments) -> Result<(), Error> {
    let team = &context.team;
    let sessions = match &arguments.command {
        SessionCommand::Start(new) => vec![team.start_session(new.session())?],
        SessionCommand::Stop(one) => vec![team.stop_session(&one.session_id)?],
        SessionCommand::Restart(one) => vec![team.restart_session(&one.session_id)?],
        SessionCommand::List(list) if list.open => team.active_sessions(&list.user)?,
        SessionCommand::List(list) => team.sessions_of_user(&list.user)?,
        SessionCommand::Show(one) => return show(context, &one.session_id),
    };
    write(context, &sessions)
}

/// Writes sessions; for people without columns that no session has.
fn write(context: &mut Context<'_>, sessions: &[Session]) -> Result<(), Error> {
    let mut rows = batch(sessions)?;
    if context.format == Format::Table && !sessions.is_empty() {
        let columns = rows.columns().iter().enumerate();
        let known = columns.filter(|(_, column)| column.null_count() < column.len());
        rows = rows.project(&known.map(|(place, _)| place).collect::<Vec<_>>())?;
    }
    context.write(&rows)
}

pub(super) fn page_trace(
    context: &mut Context<'_>,
    arguments: &PageTraceArguments,
) -> Result<(), Error> {
    let PageTraceCommand::Start(new) = &arguments.command;
    let session = context.team.start_page_trace(new.session())?;
    write(context, &[session])
}

/// Writes the spans of a session.
fn show(context: &mut Context<'_>, id: &str) -> Result<(), Error> {
    let spans = context.team.session_spans(id)?;
    let columns = row_columns(Rows::Spans, context.format);
    let none = pick(&RecordBatch::new_empty(schema()), &columns)?;
    let mut writer = RowWriter::new(context.format, none.schema(), &mut *context.out)?;
    for batch in spans.batches() {
        writer.write(&pick(batch, &columns)?)?;
    }
    writer.finish()?;
    Ok(())
}

fn batch(sessions: &[Session]) -> Result<RecordBatch, Error> {
    let text = |of: fn(&Session) -> Option<&str>| -> ArrayRef {
        let texts = sessions.iter().map(of);
        // A text that the service did not know is none.
        let known = texts.map(|text| text.filter(|text| !text.is_empty()));
        Arc::new(known.collect::<StringViewArray>())
    };
    let time = |of: fn(&Session) -> Option<i64>| -> ArrayRef {
        let times: TimestampNanosecondArray = sessions.iter().map(of).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let kind = |session: &Session| match session.kind {
        SessionKind::Session => "session",
        SessionKind::PageTrace => "page trace",
    };
    let kinds = StringViewArray::from_iter_values(sessions.iter().map(kind));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("session_id", text(|one| Some(&one.id)), false),
        ("kind", Arc::new(kinds) as ArrayRef, false),
        ("user", text(|one| Some(&one.of.user)), true),
        ("started", time(|one| Some(one.started_nanos)), false),
        ("stopped", time(|one| one.stopped_nanos), true),
        ("environment", text(|one| Some(&one.of.environment)), true),
        ("host", text(|one| Some(&one.of.host)), true),
        ("project", text(|one| Some(&one.of.project)), true),
        ("deployment", text(|one| Some(&one.of.deployment)), true),
        ("browser", text(|one| Some(&one.of.browser)), true),
        ("predecessor", text(|one| one.predecessor.as_deref()), true),
    ])?)
}
