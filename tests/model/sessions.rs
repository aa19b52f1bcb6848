//! Sessions: those that were started, and those that spans name.

use std::collections::BTreeMap;

use spanstore::Month;

use super::facts::Facts;
use super::{Forgotten, Model, Team};

/// A session that was started.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its id; none where the call that started it failed.
    pub id: Option<String>,
    /// Who started it.
    pub user: String,
    /// Whether it is of one page load.
    pub is_page_trace: bool,
    /// When it was started, ns since 1970.
    pub started: i64,
    /// When it was stopped.
    pub stopped: Option<i64>,
    /// The session that was restarted as this one.
    pub predecessor: Option<String>,
    /// Places of its start and of its stop in the order of all changes.
    pub numbers: (u64, Option<u64>),
    /// Whether the start and the stop are in the catalog.
    pub are_sealed: (bool, bool),
    /// Whether retention, or a call to forget it that failed, may have removed it.
    pub may_be_gone: bool,
    /// Whether such a call may have made it forget its predecessor.
    pub may_lack_predecessor: bool,
}

/// What a call asked for.
#[derive(Debug, Clone)]
pub enum SessionChange {
    /// A new one.
    Start(Started),
    /// No more requests, at some time.
    Stop(String, i64),
    /// The end of one, at some time, and another one of the same user with this id.
    Restart(String, i64, Option<String>),
}

/// A session of a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// Its id.
    pub id: Option<String>,
    /// Who started it.
    pub user: Option<String>,
    /// `session` or `page_trace`.
    pub kind: Option<String>,
    /// `open` or `stopped`.
    pub state: Option<String>,
    /// When it was started, or first seen, and when it was stopped, ns since 1970.
    pub times: (i64, Option<i64>),
    /// The session that was restarted as this one.
    pub predecessor: Option<String>,
    /// First start and last end of a span.
    pub seen: Option<(i64, i64)>,
    /// Requests, spans, spans of the level `error`.
    pub counts: (i64, i64, i64),
}

impl Started {
    /// Whether retention hides it.
    fn is_hidden(&self, horizon: i64) -> bool {
        self.stopped.is_some_and(|stopped| stopped < horizon)
    }

    /// Whether another one is the same, but for its place in the order.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let said = |one: &Self| {
            let texts = (one.id.clone(), one.user.clone(), one.predecessor.clone());
            let times = (one.started, one.stopped);
            let doubts = (one.may_be_gone, one.may_lack_predecessor);
            (texts, times, one.is_page_trace, doubts)
        };
        said(self) == said(other)
    }

    /// As a list shows it.
    fn listed(&self) -> Session {
        let kind = if self.is_page_trace {
            "page_trace"
        } else {
            "session"
        };
        let state = if self.stopped.is_some() {
            "stopped"
        } else {
            "open"
        };
        Session {
            id: self.id.clone(),
            user: Some(self.user.clone()),
            kind: Some(kind.to_owned()),
            state: Some(state.to_owned()),
            times: (self.started, self.stopped),
            predecessor: self.predecessor.clone(),
            seen: None,
            counts: (0, 0, 0),
        }
    }
}

impl Team {
    /// Makes a change true.
    pub(super) fn change_session(&mut self, change: &SessionChange, number: u64) {
        let sessions = &mut self.sessions;
        let (id, at) = match change {
            SessionChange::Start(started) => {
                let mut started = started.clone();
                started.numbers = (number, None);
                sessions.push(started);
                return;
            }
            SessionChange::Stop(id, at) | SessionChange::Restart(id, at, _) => (id, *at),
        };
        let is_it = |one: &&mut Started| one.id.as_ref() == Some(id);
        let Some(session) = sessions.iter_mut().find(is_it) else {
            return;
        };
        if session.stopped.is_none() {
            session.stopped = Some(at.max(session.started));
            session.numbers.1 = Some(number);
        }
        if let SessionChange::Restart(_, _, new) = change {
            let new = Started {
                id: new.clone(),
                started: at,
                stopped: None,
                predecessor: Some(id.clone()),
                numbers: (number, None),
                are_sealed: (false, false),
                may_be_gone: false,
                may_lack_predecessor: false,
                ..session.clone()
            };
            sessions.push(new);
        }
    }

    /// Changes after a number are lost.
    pub(super) fn lose_sessions_from(&mut self, number: u64) {
        self.sessions
            .retain(|one| one.are_sealed.0 || one.numbers.0 <= number);
        for one in &mut self.sessions {
            let is_lost = one.numbers.1.is_some_and(|stopped| stopped > number);
            if is_lost && !one.are_sealed.1 {
                one.stopped = None;
                one.numbers.1 = None;
            }
        }
    }

    /// Changes before a number are in the catalog.
    pub(super) fn seal_sessions_before(&mut self, end: u64) {
        for one in &mut self.sessions {
            one.are_sealed.0 |= one.numbers.0 < end;
            one.are_sealed.1 |= one.numbers.1.is_some_and(|stopped| stopped < end);
        }
    }

    /// A session is forgotten, and by those that came after it too.
    pub(super) fn forget_session(&mut self, id: &str) {
        self.sessions.retain(|one| one.id.as_deref() != Some(id));
        for one in &mut self.sessions {
            one.predecessor.take_if(|predecessor| *predecessor == id);
        }
    }

    /// A call to forget rows failed: their sessions may be gone all the same.
    pub(super) fn doubt_sessions(&mut self, what: &Forgotten) {
        for one in &mut self.sessions {
            let is_meant = |id: &Option<String>| match what {
                Forgotten::Team => true,
                Forgotten::Trace(_) => false,
                Forgotten::Session(session) => id.as_ref() == Some(session),
            };
            one.may_be_gone |= is_meant(&one.id);
            one.may_lack_predecessor |= one.predecessor.is_some() && is_meant(&one.predecessor);
        }
    }

    /// Retention may have removed what was stopped in months that end before a horizon.
    pub(super) fn may_lose_sessions(&mut self, horizon: i64) {
        for one in &mut self.sessions {
            let stopped = one.stopped.map(|stopped| Month::of(stopped).end_nanos());
            one.may_be_gone |= stopped.is_some_and(|end| end <= horizon);
        }
    }
}

impl Model {
    /// The ids of the sessions of a team that were started and can be seen.
    pub fn started_sessions(&self, team: &str, now: i64) -> Vec<String> {
        let Some(team) = self.teams.get(team) else {
            return Vec::new();
        };
        let horizon = self.horizon(team, now);
        let seen = team.sessions.iter().filter(|one| !one.is_hidden(horizon));
        seen.filter_map(|one| one.id.clone()).collect()
    }

    /// Whether retention may have removed a session.
    pub fn may_have_lost_session(&self, team: &str, id: &str) -> bool {
        let sessions = self.teams.get(team).into_iter();
        let mut sessions = sessions.flat_map(|team| &team.sessions);
        sessions.any(|one| one.id.as_deref() == Some(id) && one.may_be_gone)
    }

    /// The store lists these sessions: they are what is to be seen, and the ids of those are
    /// known from now on whose calls failed.
    ///
    /// # Errors
    /// What is missing or too much.
    pub fn lists_sessions(
        &mut self,
        team: &str,
        now: i64,
        mut found: Vec<Session>,
    ) -> Result<(), String> {
        let mut seen = self.seen_sessions(team, now);
        let horizon = match self.teams.get(team) {
            Some(state) => self.horizon(state, now),
            None => i64::MIN,
        };
        let mut gone = Vec::new();
        let sessions = self.teams.get_mut(team).into_iter();
        for session in sessions.flat_map(|team| &mut team.sessions) {
            if session.is_hidden(horizon) {
                continue;
            }
            let mut expected = session.listed();
            let of_requests = session.id.as_ref().and_then(|id| seen.get(id));
            if let Some(of_requests) = of_requests {
                expected.seen = of_requests.seen;
                expected.counts = of_requests.counts;
            }
            let place = found.iter().position(|one| {
                let mut one = one.clone();
                one.id.take_if(|_| expected.id.is_none());
                if session.may_lack_predecessor && one.predecessor.is_none() {
                    one.predecessor.clone_from(&expected.predecessor);
                }
                one == expected
            });
            match place {
                Some(place) => {
                    let found = found.swap_remove(place);
                    found.id.as_ref().and_then(|id| seen.remove(id));
                    session.id = found.id;
                    session.predecessor = found.predecessor;
                    session.may_be_gone = false;
                    session.may_lack_predecessor = false;
                }
                None if session.may_be_gone => gone.push(session.numbers),
                None => return Err(format!("{team}: missing {expected:?} of {found:?}")),
            }
        }
        if let Some(team) = self.teams.get_mut(team) {
            team.sessions.retain(|one| !gone.contains(&one.numbers));
        }
        // The others are those that only requests name.
        for session in seen.into_values() {
            let place = found.iter().position(|one| *one == session);
            let place = place.ok_or_else(|| format!("{team}: missing {session:?} of {found:?}"))?;
            found.swap_remove(place);
        }
        match found.first() {
            Some(session) => Err(format!("{team}: too much: {session:?}")),
            None => Ok(()),
        }
    }

    /// The sessions that requests name, by their ids.
    fn seen_sessions(&self, team: &str, now: i64) -> BTreeMap<String, Session> {
        let mut traces: BTreeMap<u64, Vec<&Facts>> = BTreeMap::new();
        for row in self.visible(team, now) {
            traces.entry(row.facts.trace).or_default().push(&row.facts);
        }
        let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
        for spans in traces.values_mut() {
            spans.sort_by_key(|one| (one.start, one.span));
            let Some(id) = session_of(spans) else {
                continue;
            };
            let first = spans.iter().map(|one| one.start).min().unwrap_or_default();
            let ends = spans.iter().map(|one| one.start + one.duration);
            let last = ends.max().unwrap_or_default();
            let errors = spans.iter().filter(|one| one.level() == "error").count();
            let session = sessions.entry(id.to_owned()).or_insert_with(|| Session {
                id: Some(id.to_owned()),
                user: None,
                kind: None,
                state: None,
                times: (first, None),
                predecessor: None,
                seen: Some((first, last)),
                counts: (0, 0, 0),
            });
            session.times.0 = session.times.0.min(first);
            let seen = |(one, other): (i64, i64)| (one.min(first), other.max(last));
            session.seen = session.seen.map(seen);
            let (requests, all, bad) = &mut session.counts;
            *requests += 1;
            *all += spans.len() as i64;
            *bad += errors as i64;
        }
        sessions
    }
}

/// The session of a request, of whose spans the earliest comes first: that of the root, else of
/// the earliest span that has one.
fn session_of<'a>(spans: &[&'a Facts]) -> Option<&'a str> {
    let is_here = |parent: u64| spans.iter().any(|one| one.span == parent);
    let is_server = |one: &Facts| one.kind == 2;
    let root = spans.iter().find(|one| one.parent.is_none());
    let orphan =
        |one: &&&Facts| is_server(one) && one.parent.is_some_and(|parent| !is_here(parent));
    let root = root.or_else(|| spans.iter().find(orphan));
    let of_root = root.or(spans.first())?.session.as_deref();
    of_root.or_else(|| spans.iter().find_map(|one| one.session.as_deref()))
}
