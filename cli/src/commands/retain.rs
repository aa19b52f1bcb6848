//! `retain`: how long spans are kept.

use std::time::Duration;

use spanstore::Team;
use spanstore::query::Query;

use super::confirm::{self, confirm};
use super::{Context, runtime};
use crate::arguments::{RetainArguments, Retention};
use crate::error::Error;
use crate::output::Report;
use crate::time::{now_nanos, short};

pub(super) fn run(context: &mut Context<'_>, arguments: &RetainArguments) -> Result<(), Error> {
    if let Some(kept) = arguments.kept {
        set(context, kept, arguments)?;
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

fn set(context: &Context<'_>, kept: Retention, arguments: &RetainArguments) -> Result<(), Error> {
    let is_every_team = arguments.every_team;
    let kept = match (kept, is_every_team) {
        (Retention::For(kept), _) => Some(kept),
        (Retention::Default, true) => {
            return Err(Error::Usage("`default` is for one team".into()));
        }
        // Longer than any span can be old, so that it holds against the store's.
        (Retention::Forever, false) => Some(Duration::MAX),
        (Retention::Forever, true) | (Retention::Default, false) => None,
    };
    if !arguments.yes {
        // A team without its own is under what holds for every team.
        let of_every_team = context.store.retention().filter(|_| !is_every_team);
        if let Some(holds) = kept.or(of_every_team) {
            ask(context, holds, is_every_team)?;
        }
    }
    if is_every_team {
        context.store.set_retention(kept)?;
    } else {
        context.team.set_retention(kept)?;
    }
    Ok(())
}

/// Asks whether the spans and stopped sessions that are older are to be hidden and then removed, if there
/// are any.
fn ask(context: &Context<'_>, kept: Duration, is_every_team: bool) -> Result<(), Error> {
    let kept_nanos = i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX);
    let first_kept = now_nanos().saturating_sub(kept_nanos);
    let runtime = runtime()?;
    let count = |query: Query, time| -> Result<u64, Error> {
        let older = query.filter(&format!("{time} < {first_kept}"))?;
        Ok(runtime.block_on(older.count())?)
    };
    let teams: Vec<Team> = if is_every_team {
        let teams = context.store.teams()?.into_iter();
        let teams = teams.map(|id| context.store.team(&id));
        teams.filter(|team| team.retention().is_none()).collect()
    } else {
        vec![context.team.clone()]
    };
    // What is damaged cannot be counted; the time can be set all the same.
    let spans = teams.iter().map(|team| count(team.query(), "start_time"));
    let spans = spans.sum::<Result<u64, Error>>().ok();
    let sessions = teams
        .iter()
        .map(|team| count(team.sessions(), "stopped_time"));
    let sessions = sessions.sum::<Result<u64, Error>>().ok();
    let sessions = match sessions {
        Some(0) if spans == Some(0) => return Ok(()),
        Some(0) | None => String::new(),
        Some(1) => " and a session that was stopped".into(),
        Some(sessions) => format!(" and {sessions} sessions that were stopped"),
    };
    let spans = confirm::spans(spans);
    let before = short(first_kept);
    confirm(&format!(
        "hide {spans} that started{sessions} before {before}, and remove them later"
    ))
}

/// A time that spans are kept, in words.
fn spelled(kept: Option<Duration>) -> String {
    // The longest that a store keeps is 584 years.
    match kept.filter(|kept| kept.as_nanos() < u128::from(u64::MAX)) {
        Some(kept) => format!("{} s", kept.as_secs()),
        None => "forever".into(),
    }
}
