//! `retain`: how long spans are kept.

use super::Context;
use crate::arguments::{RetainArguments, Retention};
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>, arguments: &RetainArguments) -> Result<(), Error> {
    let kept = match (arguments.kept, arguments.every_team) {
        (Retention::For(kept), _) => Some(kept),
        (Retention::Default, true) => {
            return Err(Error::Usage("`default` is for one team".into()));
        }
        // Longer than any span can be old, so that it holds against the store's.
        (Retention::Forever, false) => Some(std::time::Duration::MAX),
        (Retention::Forever, true) | (Retention::Default, false) => None,
    };
    let who = if arguments.every_team {
        context.store.set_retention(kept)?;
        "every team without its own".to_owned()
    } else {
        context.team.set_retention(kept)?;
        context.team.id().as_str().to_owned()
    };
    let kept = match arguments.kept {
        Retention::For(kept) => format!("{} s", kept.as_secs()),
        Retention::Forever => "forever".into(),
        Retention::Default => "as every team".into(),
    };
    Report::new()
        .with("teams", who)
        .with("kept", kept)
        .write(context.format, &mut context.out)
}
