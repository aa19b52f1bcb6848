//! Sessions that a run starts, stops and restarts.

use rand::Rng;
use rand::seq::IndexedRandom;
use spanstore::{Durability, Error, NewSession, SessionKind};
use spanstore_test_support::model::Change;
use spanstore_test_support::model::sessions::{SessionChange, Started};

use super::run::{Outcome, Run};

impl Run {
    /// Starts, stops or restarts a session.
    pub(crate) fn change_session(&mut self) -> Outcome {
        self.disk.set_activity("append");
        let name = self.any_team();
        let number = self.random.random_range(0..4);
        match self.any_session(&name) {
            Some((name, id)) if number == 0 => self.stop_session(name, id),
            Some((name, id)) if number == 1 => self.restart_session(name, id),
            _ => self.start_session(name, number == 2),
        }
    }

    /// A team with a session that was started, and that session.
    pub(crate) fn any_session(&mut self, name: &str) -> Option<(String, String)> {
        let sessions = self.worlds.any().started_sessions(name, self.now());
        let id = sessions.choose(&mut self.random)?;
        Some((name.to_owned(), id.clone()))
    }

    fn start_session(&mut self, name: String, is_page_trace: bool) -> Outcome {
        self.sessions += 1;
        let user = format!("user-{}", self.sessions);
        self.tell(format!("{name}: {user} starts a session"));
        let now = self.now();
        let handle = self.handle(&name);
        let new = NewSession {
            user: user.clone(),
            environment: "preview".to_owned(),
            ..NewSession::default()
        };
        let done = if is_page_trace {
            handle.start_page_trace(new)
        } else {
            handle.start_session(new)
        };
        drop(handle);
        let started = |id| {
            let started = Started {
                id,
                user: user.clone(),
                is_page_trace,
                started: now,
                stopped: None,
                predecessor: None,
                numbers: (0, None),
                are_sealed: (false, false),
                may_be_gone: false,
                may_lack_predecessor: false,
            };
            Change::Session(name.clone(), SessionChange::Start(started))
        };
        match done {
            Ok(session) => {
                let kind = if is_page_trace {
                    SessionKind::PageTrace
                } else {
                    SessionKind::Session
                };
                if (session.kind, session.started_nanos) != (kind, now) {
                    return Err(format!("another session than asked for: {session:?}"));
                }
                self.session_changed(&started(Some(session.id)));
                Ok(())
            }
            Err(error) => self.session_failed(started(None), &error),
        }
    }

    fn stop_session(&mut self, name: String, id: String) -> Outcome {
        self.tell(format!("{name}: stop the session {id}"));
        let stopped = self.handle(&name).stop_session(&id);
        let change = SessionChange::Stop(id.clone(), self.now());
        let change = Change::Session(name.clone(), change);
        match stopped {
            Ok(_) => {
                self.knows_session(&name, &id, true)?;
                self.session_changed(&change);
                Ok(())
            }
            Err(Error::UnknownSession { .. }) => self.knows_session(&name, &id, false),
            Err(error) => self.session_failed(change, &error),
        }
    }

    fn restart_session(&mut self, name: String, id: String) -> Outcome {
        self.tell(format!("{name}: restart the session {id}"));
        let restarted = self.handle(&name).restart_session(&id);
        let now = self.now();
        let change = |new| {
            let change = SessionChange::Restart(id.clone(), now, new);
            Change::Session(name.clone(), change)
        };
        match restarted {
            Ok(session) => {
                self.knows_session(&name, &id, true)?;
                self.session_changed(&change(Some(session.id)));
                Ok(())
            }
            Err(Error::UnknownSession { .. }) => self.knows_session(&name, &id, false),
            Err(error) => self.session_failed(change(None), &error),
        }
    }

    fn session_changed(&mut self, change: &Change) {
        let is_synced = self.options.durability == Durability::Sync;
        self.worlds.each(|model| {
            model.apply(change);
            if is_synced {
                model.synced();
            }
        });
    }

    /// Nobody told what became of a change.
    fn session_failed(&mut self, change: Change, error: &Error) -> Outcome {
        self.excuse("session", error)?;
        // Promised: then nothing has changed.
        if !matches!(error, Error::NoSpace { .. }) {
            self.unknown.push(change);
        }
        Ok(())
    }

    /// The store knows a session, or does not.
    fn knows_session(&mut self, name: &str, id: &str, is_known: bool) -> Outcome {
        let now = self.now();
        self.worlds.keep(|model| {
            let knows = model
                .started_sessions(name, now)
                .iter()
                .any(|one| one == id);
            let fits = knows == is_known || model.may_have_lost_session(name, id);
            fits.then_some(())
                .ok_or_else(|| format!("{name}: is {id} known? {is_known}"))
        })
    }
}
