//! Arguments of `session` and `page-trace`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use spanstore::NewSession;

/// Arguments of `session`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore session start --user ada --environment preview --host shop.example.com
  spanstore session list --user ada --open
  spanstore session show SESSION_ID
  spanstore session restart SESSION_ID
  spanstore session stop SESSION_ID

A session is open until it is stopped. Its id is what the spans of its requests carry as `session.id`.")]
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
    /// List the spans of a session, oldest first, whether it was started here or not
    Show(SessionId),
    /// List the sessions that a user started, newest first
    List(ListArguments),
}

impl SessionCommand {
    /// Whether it may be the first thing that is written to a store.
    pub fn may_be_first(&self) -> bool {
        matches!(self, Self::Start(_))
    }
}

/// Arguments of `page-trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spanstore page-trace start --user ada --environment production

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

/// Arguments of `session list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Whose sessions
    #[arg(long, value_name = "USER")]
    pub user: String,
    /// Only those that nobody has stopped
    #[arg(long)]
    pub open: bool,
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
