//! `sessions`: the team's sessions, newest first.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray, TimestampNanosecondArray, UInt64Array};
use spanstore::SessionSummary;

use super::Context;
use crate::arguments::SessionsArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &SessionsArguments) -> Result<(), Error> {
    let sessions = batch(&context.team.sessions(arguments.limit)?)?;
    context.write(&sessions)
}

fn batch(sessions: &[SessionSummary]) -> Result<RecordBatch, Error> {
    let count = |of: fn(&SessionSummary) -> u64| -> ArrayRef {
        Arc::new(sessions.iter().map(of).collect::<UInt64Array>())
    };
    let time = |of: fn(&SessionSummary) -> i64| -> ArrayRef {
        let times = TimestampNanosecondArray::from_iter_values(sessions.iter().map(of));
        Arc::new(times.with_timezone("UTC"))
    };
    let ids = StringViewArray::from_iter_values(sessions.iter().map(|it| &it.session_id));
    Ok(RecordBatch::try_from_iter([
        ("session_id", Arc::new(ids) as ArrayRef),
        ("first_start", time(|session| session.first_start_nanos)),
        ("last_start", time(|session| session.last_start_nanos)),
        ("traces", count(|session| session.traces)),
        ("spans", count(|session| session.spans)),
        ("errors", count(|session| session.errors)),
    ])?)
}
