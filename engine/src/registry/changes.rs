//! Changes of sessions that the catalog does not have yet.

use std::collections::BTreeMap;

use spanstore_format::TeamId;
use spanstore_format::catalog::SessionRecord;
use spanstore_format::log::record::AppendRecord;

use crate::catalog::{AllSessions, SessionChanges, TeamChanges};

/// Adds what a log record says of a team.
pub(crate) fn add(changes: &mut SessionChanges, team: &TeamId, record: &AppendRecord) {
    if !record.removes_sessions && record.sessions.is_empty() {
        return;
    }
    let changes = changes.entry(team.clone()).or_default();
    if record.removes_sessions {
        *changes = TeamChanges::removing_all();
    }
    let sessions = record.sessions.iter();
    let sessions = sessions.map(|change| (change.id.clone(), change.session.clone()));
    changes.sessions.extend(sessions);
}

/// What older sessions of all teams are with changes.
pub(crate) fn over_all(mut all: AllSessions, changes: SessionChanges) -> AllSessions {
    for (team, changes) in changes {
        let older = all.remove(&team).unwrap_or_default();
        all.insert(team, changes.over(older));
    }
    all
}

impl TeamChanges {
    fn removing_all() -> Self {
        Self {
            removes_others: true,
            sessions: BTreeMap::new(),
        }
    }

    /// What a session is from now on, which may be removed; none when it has not changed.
    pub(super) fn find(&self, id: &str) -> Option<&Option<SessionRecord>> {
        let removed = self.removes_others.then_some(&None);
        self.sessions.get(id).or(removed)
    }

    /// Adds changes that came later, but for sessions that are not wanted.
    pub(super) fn add(&mut self, newer: &Self, is_wanted: impl Fn(&SessionRecord) -> bool) {
        if newer.removes_others {
            *self = Self::removing_all();
        }
        for (id, session) in &newer.sessions {
            if session.as_ref().is_none_or(&is_wanted) {
                self.sessions.insert(id.clone(), session.clone());
            }
        }
    }

    /// What older sessions are with these changes.
    pub(super) fn over(
        self,
        older: BTreeMap<String, SessionRecord>,
    ) -> BTreeMap<String, SessionRecord> {
        let mut all = if self.removes_others {
            BTreeMap::new()
        } else {
            older
        };
        for (id, session) in self.sessions {
            match session {
                Some(session) => all.insert(id, session),
                None => all.remove(&id),
            };
        }
        all
    }
}
