//! Sessions as callers see them.

use spanstore_format::catalog::SessionRecord;

use crate::error::Error;

/// What a session is started with ([`Team::start_session`](crate::Team::start_session)).
/// Texts may be empty where the service does not know them, and have at most 1,024 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewSession {
    /// Who starts it.
    pub user: String,
    /// The browser that is traced.
    pub browser: String,
    /// The project.
    pub project: String,
    /// The deployment.
    pub deployment: String,
    /// The environment of the deployment: `preview` or `production`.
    pub environment: String,
    /// The host name whose requests are traced.
    pub host: String,
}

/// How much a session traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// All requests until it is stopped.
    Session,
    /// One page load.
    PageTrace,
}

/// A session of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, which spans carry: 32 hexadecimal digits of 128 random bits.
    pub id: String,
    /// How much it traces.
    pub kind: SessionKind,
    /// What it was started with.
    pub of: NewSession,
    /// When it was started, ns since 1970.
    pub started_nanos: i64,
    /// When it was stopped, ns since 1970; none while it is open. Only a caller stops a
    /// session: silence does not.
    pub stopped_nanos: Option<i64>,
    /// The session that was restarted as this one.
    pub predecessor: Option<String>,
}

/// Bytes of a text of a session.
const MOST_TEXT_BYTES: usize = 1_024;

/// Whether retention has not let go of a session, where spans are kept that start at the
/// horizon or later.
pub(crate) fn is_kept(session: &SessionRecord, horizon: Option<i64>) -> bool {
    let stopped = session.stopped_at.zip(horizon);
    stopped.is_none_or(|(stopped, horizon)| horizon <= stopped)
}

impl NewSession {
    /// The record of a session that starts now.
    ///
    /// # Errors
    /// [`Error::LocalDeployment`], [`Error::TooLarge`].
    pub(crate) fn start(self, kind: SessionKind, now: i64) -> Result<SessionRecord, Error> {
        if !matches!(self.environment.as_str(), "preview" | "production") {
            return Err(Error::LocalDeployment {
                environment: self.environment.chars().take(80).collect(),
            });
        }
        let texts = [
            ("bytes of the user of a session", &self.user),
            ("bytes of the browser of a session", &self.browser),
            ("bytes of the project of a session", &self.project),
            ("bytes of the deployment of a session", &self.deployment),
            ("bytes of the host of a session", &self.host),
        ];
        for (what, text) in texts {
            if text.len() > MOST_TEXT_BYTES {
                return Err(Error::TooLarge {
                    what,
                    limit: MOST_TEXT_BYTES as u64,
                    found: text.len() as u64,
                });
            }
        }
        Ok(SessionRecord {
            is_page_trace: kind == SessionKind::PageTrace,
            user: self.user,
            browser: self.browser,
            project: self.project,
            deployment: self.deployment,
            environment: self.environment,
            host: self.host,
            started_at: now,
            stopped_at: None,
            predecessor: None,
        })
    }
}

impl Session {
    /// The session of a record.
    pub(crate) fn of_record(id: String, record: SessionRecord) -> Self {
        Self {
            id,
            kind: if record.is_page_trace {
                SessionKind::PageTrace
            } else {
                SessionKind::Session
            },
            of: NewSession {
                user: record.user,
                browser: record.browser,
                project: record.project,
                deployment: record.deployment,
                environment: record.environment,
                host: record.host,
            },
            started_nanos: record.started_at,
            stopped_nanos: record.stopped_at,
            predecessor: record.predecessor,
        }
    }

    /// Whether it is open: nobody has stopped it.
    pub fn is_open(&self) -> bool {
        self.stopped_nanos.is_none()
    }
}
