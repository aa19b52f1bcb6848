//! `sql`: a SELECT over the team's spans.

use super::{Context, rows, runtime};
use crate::arguments::SqlArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &SqlArguments) -> Result<(), Error> {
    runtime()?.block_on(async {
        let stream = context.team.sql(&arguments.text).await?;
        rows::write(stream, None, context.format, context.out).await
    })?;
    Ok(())
}
