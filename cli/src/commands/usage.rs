//! `usage`: how much of a month's quota is used.

use spanstore::{Month, Team};
use spanstore_format::month::rfc3339;

use super::Context;
use crate::arguments::UsageArguments;
use crate::error::Error;
use crate::output::Report;
use crate::time::now_nanos;

pub(super) fn run(context: &mut Context<'_>, arguments: &UsageArguments) -> Result<(), Error> {
    let month = arguments.month.unwrap_or_else(|| Month::of(now_nanos()));
    report(&context.team, month)?.write(context.format, &mut context.out)
}

/// A team's quota of a month.
pub(super) fn report(team: &Team, month: Month) -> Result<Report, Error> {
    let usage = team.usage(month)?;
    Ok(Report::new()
        .with("team", team.id().as_str())
        .with("month", usage.month.to_string())
        .with("used", usage.used)
        .with("limit", usage.limit)
        .with("remaining", usage.remaining)
        .with("resets_at", rfc3339(usage.resets_at_nanos)))
}
