//! `retain`: how long spans are kept.

use std::time::Duration;

use super::Context;
use crate::arguments::{RetainArguments, Retention};
use crate::error::Error;
use crate::output::Report;
use crate::time::short;

pub(super) fn run(context: &mut Context<'_>, arguments: &RetainArguments) -> Result<(), Error> {
    if let Some(kept) = arguments.kept {
        set(context, kept, arguments.every_team)?;
    }
    if arguments.accept_clock {
        context.store.accept_clock()?;
    }
    let of_store = context.store.retention();
    let of_team = context.team.retention();
    let report = if arguments.every_team {
        Report::new()
            .with("teams", "every team without its own")
            .with("kept", spelled(of_store))
    } else {
        let from = if of_team.is_some() {
            "the team"
        } else {
            "every team"
        };
        Report::new()
            .with("teams", context.team.id().as_str())
            .with("kept", spelled(of_team.or(of_store)))
            .with("set_for", from)
    };
    let report = match context.store.health().clock_leap {
        None => report,
        Some(leap) => report.with(
            "removal",
            format!(
                "waits for `retain --accept-clock`: the store's time is {}, the clock shows {}",
                short(leap.kept_nanos),
                short(leap.clock_nanos)
            ),
        ),
    };
    report.write(context.format, &mut context.out)
}

fn set(context: &Context<'_>, kept: Retention, is_every_team: bool) -> Result<(), Error> {
    let kept = match (kept, is_every_team) {
        (Retention::For(kept), _) => Some(kept),
        (Retention::Default, true) => {
            return Err(Error::Usage("`default` is for one team".into()));
        }
        // Longer than any span can be old, so that it holds against the store's.
        (Retention::Forever, false) => Some(Duration::MAX),
        (Retention::Forever, true) | (Retention::Default, false) => None,
    };
    if is_every_team {
        context.store.set_retention(kept)?;
    } else {
        context.team.set_retention(kept)?;
    }
    Ok(())
}

/// A time that spans are kept, in words.
fn spelled(kept: Option<Duration>) -> String {
    // The longest that a store keeps is 584 years.
    match kept.filter(|kept| kept.as_nanos() < u128::from(u64::MAX)) {
        Some(kept) => format!("{} s", kept.as_secs()),
        None => "forever".into(),
    }
}
