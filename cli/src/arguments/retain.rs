//! Arguments of `retain`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::commands::Access;

/// Arguments of `retain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Older spans are refused and not found from now on. They are found again when the time is set longer, as long as they are in a file. They leave the files when all of their month lies beyond it: with `compact`, or by themselves within about a day. It says how many spans and stopped sessions are older, and asks; if there are none it does not ask.

When the clock has gone on by more than 31 days since the store last kept the time, nothing is removed until --accept-clock says that the clock is right.

Examples:
  spanstore retain
  spanstore retain 30d --every-team
  spanstore retain 400d --team acme
  spanstore retain default --team acme
  spanstore retain --accept-clock"
)]
pub struct RetainArguments {
    /// How long from their start: 12h, 30d, 8w; `forever`; or `default` for what holds for every team
    #[arg(value_name = "TIME")]
    pub kept: Option<Retention>,
    /// For every team that has nothing else set, instead of for --team
    #[arg(long)]
    pub every_team: bool,
    /// Remove by what the clock shows, although it has leapt
    #[arg(long)]
    pub accept_clock: bool,
    /// Do it without asking; needed without a terminal where something is older
    #[arg(long)]
    pub yes: bool,
}

impl RetainArguments {
    /// What it does with the store.
    pub fn access(&self) -> Access {
        if self.kept.is_some() || self.accept_clock {
            Access::Write
        } else {
            Access::Read
        }
    }
}

/// How long spans are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// So long.
    For(Duration),
    /// For ever.
    Forever,
    /// As long as what holds for every team.
    Default,
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => return Ok(Self::Forever),
            "default" => return Ok(Self::Default),
            _ => {}
        }
        let expected =
            || "expected a time such as 12h, 30d or 8w, `forever` or `default`".to_owned();
        let unit = text.chars().last().ok_or_else(expected)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(expected()),
        };
        let number = text.strip_suffix(unit).unwrap_or_default();
        let number: u64 = number.parse().map_err(|_| expected())?;
        let seconds = number.checked_mul(seconds).ok_or_else(expected)?;
        Ok(Self::For(Duration::from_secs(seconds)))
    }
}
