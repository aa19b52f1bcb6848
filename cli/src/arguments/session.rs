//! Arguments of `session`, `sessions` and `page-trace`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use spanstore::NewSession;

use super::{ListArguments, Selection, WaitArguments};
use crate::commands::Access;

/// Arguments of `session`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore session start --user ada --environment preview --host shop.example.com
  spanstore session wait SESSION_ID --timeout 30
  spanstore session show SESSION_ID
  spanstore session restart SESSION_ID
  spanstore session stop SESSION_ID

A session is open until it is stopped. Its id is what the spans of its requests carry as `session.id`.
A trace is ready when its root is there, and all its spans ended, or the last one came, 2 seconds ago.
`sessions` lists them.")]
pub struct SessionArguments {
    /// What to do with it.
    #[command(subcommand)]
    pub command: SessionCommand,
}

/// What `session` does.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Start a session, and show it with its id
    Start(NewSessionArguments),
    /// Stop a session; one that is stopped stays as it is
    Stop(SessionId),
    /// Stop a session, if it is open, and start another one of the same user in its place
    Restart(SessionId),
    /// Show a session and list the spans that carry its id, oldest first, whether it was started here or not
    Show(SessionId),
    /// Wait until the first trace that carries the session's id is ready, and list the requests of the session
    Wait(WaitArguments),
}

impl SessionCommand {
    /// What it does with the store.
    pub fn access(&self) -> Access {
        match self {
            Self::Start(_) => Access::Create,
            Self::Stop(_) | Self::Restart(_) => Access::Write,
            Self::Show(_) => Access::Read,
            Self::Wait(_) => Access::Follow,
        }
    }
}

/// Arguments of `sessions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore sessions
  spanstore sessions --search \"user:ada state:open\"
  spanstore sessions --filter \"kind is null and errors > 0\" --order errors --limit 10 --total
  spanstore sessions --since 24h --columns session_id,user_id,requests,last_seen --format json

A session that was not started here, but is that of a request, has neither kind nor state; its start is \
that of its first request. requests, spans and errors count its requests, at any time; --since and --until are about the start of \
the session. A request belongs to the session of its root, else of its earliest span that has one. \
--search looks for other words in the columns of sessions. What was started is shown as it is now, on \
later pages too.

A table shows the first 50 rows unless --limit says otherwise; other formats give every row. With --limit or --cursor the last line of JSON is {\"next_cursor\": …}, null at the end; other formats say it on standard error.")]
pub struct SessionsArguments {
    /// Which sessions.
    #[command(flatten)]
    pub selection: Selection,
    /// Which rows of the list.
    #[command(flatten)]
    pub list: ListArguments,
}

/// Arguments of `page-trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore page-trace start --user ada --environment production
  spanstore page-trace wait SESSION_ID

Like other sessions it is open until `session stop` stops it.")]
pub struct PageTraceArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: PageTraceCommand,
}

/// What `page-trace` does.
#[derive(Debug, Subcommand)]
pub enum PageTraceCommand {
    /// Start a session of one page load, and show it with its id
    Start(NewSessionArguments),
    /// Wait until the trace of the page load is ready, and show it
    Wait(WaitArguments),
}

impl PageTraceCommand {
    /// What it does with the store.
    pub fn access(&self) -> Access {
        match self {
            Self::Start(_) => Access::Create,
            Self::Wait(_) => Access::Follow,
        }
    }
}

/// The id of a session.
#[derive(Debug, Args)]
pub struct SessionId {
    /// The session's id
    #[arg(value_name = "SESSION_ID")]
    pub session_id: String,
}

/// What a session is started with.
#[derive(Debug, Args)]
pub struct NewSessionArguments {
    /// Who starts it
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "USER")]
    pub user: String,
    /// Where the deployment runs; local ones are not traced
    #[arg(long, value_enum, value_name = "ENVIRONMENT")]
    pub environment: Environment,
    /// The browser that is traced
    #[arg(long, default_value = "", value_name = "NAME")]
    pub browser: String,
    /// The project
    #[arg(long, default_value = "", value_name = "NAME")]
    pub project: String,
    /// The deployment
    #[arg(long, default_value = "", value_name = "ID")]
    pub deployment: String,
    /// The host name whose requests are traced
    #[arg(long, default_value = "", value_name = "HOST")]
    pub host: String,
}

/// Environments of deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// A deployment to look at
    Preview,
    /// The deployment that everybody uses
    Production,
}

impl NewSessionArguments {
    /// What a session is started with.
    pub fn session(&self) -> NewSession {
        let environment = match self.environment {
            Environment::Preview => "preview",
            Environment::Production => "production",
        };
        NewSession {
            user: self.user.clone(),
            browser: self.browser.clone(),
            project: self.project.clone(),
            deployment: self.deployment.clone(),
            environment: environment.to_owned(),
            host: self.host.clone(),
        }
    }
}
