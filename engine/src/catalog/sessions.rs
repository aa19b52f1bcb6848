//! The sessions that were started, and what finds them: by their user, and by when they were
//! stopped.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use spanstore_format::catalog::SessionRecord;
use spanstore_format::{Month, TeamId};

use super::guard::CallError;
use super::{Catalog, corrupt, malformed, month, team};
use crate::error::Error;

/// Team and session id; `format::catalog::SessionRecord`.
pub(super) const SESSIONS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("sessions");
/// Team, user and session id.
pub(super) const USER_SESSIONS: TableDefinition<'_, (&str, &str, &str), ()> =
    TableDefinition::new("user_sessions");
/// Month when it was stopped, team and session id.
pub(super) const STOPPED_SESSIONS: TableDefinition<'_, (u16, &str, &str), ()> =
    TableDefinition::new("stopped_sessions");

/// What becomes of sessions of teams.
pub(crate) type SessionChanges = HashMap<TeamId, TeamChanges>;

/// What becomes of sessions of a team.
#[derive(Debug, Default)]
pub(crate) struct TeamChanges {
    /// Whether sessions that are not below are removed.
    pub(crate) removes_others: bool,
    /// What each session is from now on; none when it is removed.
    pub(crate) sessions: BTreeMap<String, Option<SessionRecord>>,
}

/// Sessions of teams, by their ids.
pub(crate) type AllSessions = BTreeMap<TeamId, BTreeMap<String, SessionRecord>>;

/// The tables, open in a transaction.
pub(super) struct SessionTables<'t> {
    sessions: Table<'t, (&'static str, &'static str), &'static [u8]>,
    of_users: Table<'t, (&'static str, &'static str, &'static str), ()>,
    stopped: Table<'t, (u16, &'static str, &'static str), ()>,
}

impl<'t> SessionTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, CallError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            of_users: transaction.open_table(USER_SESSIONS)?,
            stopped: transaction.open_table(STOPPED_SESSIONS)?,
        })
    }

    pub(super) fn insert(
        &mut self,
        team: &str,
        id: &str,
        session: &SessionRecord,
    ) -> Result<(), CallError> {
        self.remove(team, id)?;
        let record = session.encode_to_vec();
        self.sessions.insert((team, id), record.as_slice())?;
        self.of_users
            .insert((team, session.user.as_str(), id), ())?;
        if let Some(stopped) = session.stopped_at {
            let month = Month::of(stopped).number();
            self.stopped.insert((month, team, id), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, team: &str, id: &str) -> Result<(), CallError> {
        let before = match self.sessions.remove((team, id))? {
            Some(record) => SessionRecord::read(id, record.value()).map_err(corrupt)?,
            None => return Ok(()),
        };
        self.of_users.remove((team, before.user.as_str(), id))?;
        if let Some(stopped) = before.stopped_at {
            let month = Month::of(stopped).number();
            self.stopped.remove((month, team, id))?;
        }
        Ok(())
    }

    /// Makes changes true.
    pub(super) fn apply(&mut self, changes: &SessionChanges) -> Result<(), CallError> {
        for (team, changes) in changes {
            let team = team.as_str();
            if changes.removes_others {
                let mut gone = Vec::new();
                each_of_team(&self.sessions, team, |id| gone.push(id.to_owned()))?;
                for id in gone {
                    self.remove(team, &id)?;
                }
            }
            for (id, session) in &changes.sessions {
                match session {
                    Some(session) => self.insert(team, id, session)?,
                    None => self.remove(team, id)?,
                }
            }
        }
        Ok(())
    }
}

/// Does something with the id of each session of a team.
fn each_of_team(
    sessions: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    team: &str,
    mut work: impl FnMut(&str),
) -> Result<(), CallError> {
    for entry in sessions.range((team, "")..)? {
        let key = entry?.0;
        let (of, id) = key.value();
        if of != team {
            break;
        }
        work(id);
    }
    Ok(())
}

fn session(
    read: &ReadTransaction,
    team: &str,
    id: &str,
) -> Result<Option<SessionRecord>, CallError> {
    let record = read.open_table(SESSIONS)?.get((team, id))?;
    let record = record.map(|record| SessionRecord::read(id, record.value()));
    record.transpose().map_err(corrupt)
}

impl Catalog {
    /// A session of a team.
    pub(crate) fn session(&self, team: &TeamId, id: &str) -> Result<Option<SessionRecord>, Error> {
        self.guard.read(|read| session(read, team.as_str(), id))
    }

    /// How many sessions a team has with some changes.
    pub(crate) fn count_sessions(
        &self,
        team: &TeamId,
        changes: &TeamChanges,
    ) -> Result<u64, Error> {
        self.guard.read(|read| {
            let sessions = read.open_table(SESSIONS)?;
            let mut count = 0;
            if !changes.removes_others {
                each_of_team(&sessions, team.as_str(), |id| {
                    count += u64::from(!changes.sessions.contains_key(id));
                })?;
            }
            let changed = changes.sessions.values().flatten().count();
            Ok(count + changed as u64)
        })
    }

    /// The sessions of a team that a user has started, by id.
    pub(crate) fn sessions_of_user(
        &self,
        team: &TeamId,
        user: &str,
    ) -> Result<BTreeMap<String, SessionRecord>, Error> {
        self.guard.read(|read| {
            let mut sessions = BTreeMap::new();
            for entry in read
                .open_table(USER_SESSIONS)?
                .range((team.as_str(), user, "")..)?
            {
                let key = entry?.0;
                let (of, by, id) = key.value();
                if (of, by) != (team.as_str(), user) {
                    break;
                }
                let session = session(read, of, id)?;
                let session = session.ok_or_else(|| malformed("a session of a user", id))?;
                sessions.insert(id.to_owned(), session);
            }
            Ok(sessions)
        })
    }

    /// The sessions of a team, by id.
    #[cfg(feature = "query")]
    pub(crate) fn sessions_of_team(
        &self,
        team: &TeamId,
    ) -> Result<BTreeMap<String, SessionRecord>, Error> {
        self.guard.read(|read| {
            let mut sessions = BTreeMap::new();
            for entry in read.open_table(SESSIONS)?.range((team.as_str(), "")..)? {
                let (key, record) = entry?;
                let (of, id) = key.value();
                if of != team.as_str() {
                    break;
                }
                let record = SessionRecord::read(id, record.value()).map_err(corrupt)?;
                sessions.insert(id.to_owned(), record);
            }
            Ok(sessions)
        })
    }

    /// All sessions.
    pub(crate) fn all_sessions(&self) -> Result<AllSessions, Error> {
        self.guard.read(|read| {
            let mut sessions = BTreeMap::new();
            for entry in read.open_table(SESSIONS)?.iter()? {
                let (key, record) = entry?;
                let (name, id) = key.value();
                let record = SessionRecord::read(id, record.value()).map_err(corrupt)?;
                let of_team: &mut BTreeMap<_, _> = sessions.entry(team(name)?).or_default();
                of_team.insert(id.to_owned(), record);
            }
            Ok(sessions)
        })
    }

    /// Reads all sessions, and what finds them.
    pub(crate) fn check_sessions(&self) -> Result<(), Error> {
        self.guard.read(|read| {
            let of_users = read.open_table(USER_SESSIONS)?;
            let stopped = read.open_table(STOPPED_SESSIONS)?;
            let (mut all, mut all_stopped) = (0, 0);
            for entry in read.open_table(SESSIONS)?.iter()? {
                let (key, record) = entry?;
                let (name, id) = key.value();
                let session = SessionRecord::read(id, record.value()).map_err(corrupt)?;
                all += 1;
                let mut is_found = of_users.get((name, session.user.as_str(), id))?.is_some();
                if let Some(at) = session.stopped_at {
                    all_stopped += 1;
                    let month = Month::of(at).number();
                    is_found &= stopped.get((month, name, id))?.is_some();
                }
                if !is_found {
                    let expected = "a session that its user and its end lead to";
                    return Err(malformed(expected, format!("{name} {id}")));
                }
            }
            let found = (of_users.len()?, stopped.len()?);
            if found != (all, all_stopped) {
                let expected = format!("{all} sessions, {all_stopped} of them stopped");
                return Err(malformed(expected, format!("{found:?}")));
            }
            Ok(())
        })
    }

    /// The ids of sessions that were stopped in months that end before a time, ns since 1970,
    /// and of which `is_gone` says so for their team: the first of them, at most so many.
    pub(crate) fn stopped_sessions(
        &self,
        before: i64,
        most: usize,
        is_gone: impl Fn(Month, &TeamId) -> bool,
    ) -> Result<Vec<(TeamId, String)>, Error> {
        self.guard.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(STOPPED_SESSIONS)?.iter()? {
                let key = entry?.0;
                let (number, name, id) = key.value();
                let (month, team) = (month(number)?, team(name)?);
                if month.end_nanos() > before || found.len() == most {
                    break;
                }
                if is_gone(month, &team) {
                    found.push((team, id.to_owned()));
                }
            }
            Ok(found)
        })
    }

    /// Removes sessions, durably.
    pub(crate) fn remove_sessions(&self, gone: &[(TeamId, String)]) -> Result<(), Error> {
        self.guard.commit(|transaction| {
            let mut tables = SessionTables::open(transaction)?;
            gone.iter()
                .try_for_each(|(team, id)| tables.remove(team.as_str(), id))
        })
    }
}
