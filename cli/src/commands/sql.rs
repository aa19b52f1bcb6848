//! `sql`: a SELECT over the team's spans.

use super::{Context, rows, runtime};
use crate::arguments::SqlArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &SqlArguments) -> Result<(), Error> {
    runtime()?.block_on(async {
        if arguments.explain {
            let explained = context.team.explain_sql(&arguments.text).await?;
            context.explain(&explained)?;
        }
        let stream = context.team.sql(&arguments.text).await?;
        rows::write(stream, None, &[], context).await
    })?;
    Ok(())
}
