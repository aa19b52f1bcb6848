//! `quota set`: another limit for the team.

use spanstore::Month;

use super::{Context, usage};
use crate::arguments::{QuotaArguments, QuotaCommand};
use crate::error::Error;
use crate::time::now_nanos;

pub(super) fn run(context: &mut Context<'_>, arguments: &QuotaArguments) -> Result<(), Error> {
    let QuotaCommand::Set { limit } = arguments.command;
    context.team.set_quota(Some(limit))?;
    let report = usage::report(&context.team, Month::of(now_nanos()))?;
    report.write(context.format, &mut context.out)
}
