//! What becomes of sessions that are started, stopped, restarted or forgotten.

use std::collections::BTreeSet;

use spanstore_format::TeamId;
use spanstore_format::catalog::SessionRecord;
use spanstore_format::log::record::{AppendRecord, SessionChange};

use super::Writer;
use crate::error::Error;
use crate::registry::{MOST_SESSIONS, Session, is_kept};
use crate::write::message::SessionCommand;

impl Writer {
    /// Decides what a command changes, and what the session is then, where so many other
    /// sessions of the team are about to be started. A record without changes is not to be
    /// written.
    pub(super) fn change_session(
        &self,
        team: &TeamId,
        command: SessionCommand,
        started: u64,
    ) -> Result<(AppendRecord, Session), Error> {
        self.tools.health.check()?;
        let mut record = AppendRecord {
            team: team.as_str().to_owned(),
            ..AppendRecord::default()
        };
        let (id, session) = match command {
            SessionCommand::Start(id, session) => {
                self.has_room_for_another(team, started)?;
                record.sessions.push(change(&id, &session));
                (id, *session)
            }
            SessionCommand::Stop(id) => {
                let before = self.session(team, &id)?;
                let after = self.stopped(&before);
                if after != before {
                    record.sessions.push(change(&id, &after));
                }
                (id, after)
            }
            SessionCommand::Restart(id, successor) => {
                let before = self.session(team, &id)?;
                self.has_room_for_another(team, started)?;
                let stopped = self.stopped(&before);
                if stopped != before {
                    record.sessions.push(change(&id, &stopped));
                }
                let session = SessionRecord {
                    started_at: self.tools.clock.now_nanos(),
                    stopped_at: None,
                    predecessor: Some(id),
                    ..before
                };
                record.sessions.push(change(&successor, &session));
                (successor, session)
            }
        };
        Ok((record, Session::of_record(id, session)))
    }

    /// What changes where some sessions are forgotten: those that are known go, and their
    /// successors do not name them any more.
    pub(super) fn without_sessions(
        &self,
        team: &TeamId,
        ids: &[String],
    ) -> Result<Vec<SessionChange>, Error> {
        let registry = &self.tools.registry;
        let (mut gone, mut users) = (BTreeSet::new(), BTreeSet::new());
        for id in ids {
            if let Some(session) = registry.session(team, id)? {
                gone.insert(id);
                users.insert(session.user);
            }
        }
        let mut changes = Vec::new();
        for user in users {
            for (id, session) in registry.of_user(team, &user)? {
                let predecessor = session.predecessor.as_ref();
                if predecessor.is_some_and(|one| gone.contains(one)) && !gone.contains(&id) {
                    let without = SessionRecord {
                        predecessor: None,
                        ..session
                    };
                    changes.push(change(&id, &without));
                }
            }
        }
        changes.extend(gone.into_iter().map(|id| SessionChange {
            id: id.clone(),
            session: None,
        }));
        Ok(changes)
    }

    /// A session that retention has not let go.
    fn session(&self, team: &TeamId, id: &str) -> Result<SessionRecord, Error> {
        let horizon = (self.tools.settings).horizon(team, self.tools.clock.now_nanos());
        let known = self.tools.registry.session(team, id)?;
        let known = known.filter(|session| is_kept(session, horizon));
        known.ok_or_else(|| Error::UnknownSession {
            id: id.chars().take(80).collect(),
        })
    }

    /// A session when it is stopped. One that is stays as it is.
    fn stopped(&self, session: &SessionRecord) -> SessionRecord {
        let now = self.tools.clock.now_nanos();
        SessionRecord {
            // The clock may have been set back.
            stopped_at: session.stopped_at.or(Some(now.max(session.started_at))),
            ..session.clone()
        }
    }

    fn has_room_for_another(&self, team: &TeamId, started: u64) -> Result<(), Error> {
        let count = self.tools.registry.count(team)? + started;
        if count >= MOST_SESSIONS {
            return Err(Error::TooLarge {
                what: "sessions of a team",
                limit: MOST_SESSIONS,
                found: count + 1,
            });
        }
        Ok(())
    }
}

fn change(id: &str, session: &SessionRecord) -> SessionChange {
    SessionChange {
        id: id.to_owned(),
        session: Some(session.clone()),
    }
}
