//! A store as its promises describe it: maps and vectors, no files, no indexes.
//!
//! Simulation and property tests do to a store and to a [`Model`] the same and
//! compare the answers. What the promises leave open is open here too: rows
//! that a merge may have dropped are noted ([`Model::merges`]), and
//! [`Model::sees`] learns from what the store shows which of them are left.

pub mod append;
pub mod facts;
pub mod filter;
pub mod recent;
pub mod sessions;

use std::collections::BTreeMap;
use std::time::Duration;

use spanstore::{Limits, Month, Plan, PlanLimits};

use self::facts::Facts;
use self::filter::Filter;
use self::recent::{Recent, Remembered};
use self::sessions::{SessionChange, Started};

/// What the store was opened with, as far as answers depend on it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Limits of the plans.
    pub plans: PlanLimits,
    /// Limits of what is appended.
    pub limits: Limits,
}

/// A row of a team.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its place in the order of all appends.
    pub number: u64,
    /// The span.
    pub facts: Facts,
    /// Whether it is in a segment, or in memory and in the log.
    pub is_sealed: bool,
    /// Whether a merge may have dropped it.
    pub may_be_gone: bool,
}

/// What is said of a team.
#[derive(Debug, Clone, Default)]
pub struct Team {
    /// Its rows in the order of appends.
    pub rows: Vec<Row>,
    /// Spans accepted, by month.
    pub used: BTreeMap<Month, u64>,
    /// Its own limit.
    pub limit: Option<u64>,
    /// Its plan.
    pub plan: Plan,
    /// How long its spans are kept.
    pub retention: Option<Duration>,
    /// What is remembered of its appends.
    pub recent: Recent,
    /// The sessions that were started.
    pub sessions: Vec<Started>,
}

impl Team {
    /// Whether another says the same, but for numbers and what is remembered.
    fn is_like(&self, other: &Self) -> bool {
        let rows = |team: &Self| {
            let rows = team.rows.iter();
            rows.map(|row| (row.facts.clone(), row.is_sealed, row.may_be_gone))
                .collect::<Vec<_>>()
        };
        let used = |team: &Self| {
            let mut used = team.used.clone();
            used.retain(|_, used| *used > 0);
            used
        };
        let sessions = self.sessions.iter().zip(&other.sessions);
        rows(self) == rows(other)
            && self.sessions.len() == other.sessions.len()
            && { sessions }.all(|(one, other)| one.is_like(other))
            && used(self) == used(other)
            && (self.limit, self.plan, self.retention) == (other.limit, other.plan, other.retention)
    }
}

/// What is forgotten of a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// All.
    Team,
    /// A trace, by its number.
    Trace(u64),
    /// A session.
    Session(String),
}

impl Forgotten {
    fn holds(&self, facts: &Facts) -> bool {
        match self {
            Self::Team => true,
            Self::Trace(trace) => facts.trace == *trace,
            Self::Session(session) => facts.session.as_ref() == Some(session),
        }
    }
}

/// A change that a call asked for whose outcome nobody told.
#[derive(Debug, Clone)]
pub enum Change {
    /// Rows of an append, and what is remembered of it.
    Append {
        /// The team.
        team: String,
        /// The rows.
        rows: Vec<Facts>,
        /// What is remembered.
        remembered: Vec<Remembered>,
    },
    /// A session of a team.
    Session(String, SessionChange),
    /// A team's own limit.
    Limit(String, Option<u64>),
    /// A team's plan.
    Plan(String, Plan),
    /// How long a team's spans are kept.
    Retention(String, Option<Duration>),
    /// How long all spans are kept.
    StoreRetention(Option<Duration>),
    /// Forget the rows numbered below `before`.
    Forget {
        /// Teams, and which of their rows.
        rows: Vec<(String, Forgotten)>,
        /// The first number that is not meant.
        before: u64,
    },
}

impl Change {
    /// Whether this one decides what an earlier one of its kind tried to.
    pub fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Limit(one, _), Self::Limit(other, _))
            | (Self::Plan(one, _), Self::Plan(other, _))
            | (Self::Retention(one, _), Self::Retention(other, _)) => one == other,
            (Self::StoreRetention(_), Self::StoreRetention(_)) => true,
            _ => false,
        }
    }
}

/// A store.
#[derive(Debug, Clone)]
pub struct Model {
    /// What it was opened with.
    pub rules: Rules,
    /// Its teams.
    pub teams: BTreeMap<String, Team>,
    /// How long spans of teams are kept that have nothing set.
    pub retention: Option<Duration>,
    next_number: u64,
    /// The numbers of appends since all was known to be synced.
    unsynced: Vec<u64>,
    /// The latest time that rows may have been removed by: it advances with time
    /// that passes, and follows the wall clock at an open if that is at most
    /// [`MOST_LEAP`] ahead.
    removal: i64,
    /// Numbers of the next rows when seals failed that may have set rows apart.
    set_apart: Vec<u64>,
}

/// How far the wall clock may be ahead at an open, ns.
const MOST_LEAP: i64 = 31 * 86_400_000_000_000;

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Model {
    /// An empty store, made at a time.
    pub fn new(rules: Rules, now: i64) -> Self {
        Self {
            rules,
            teams: BTreeMap::new(),
            retention: None,
            next_number: 0,
            unsynced: Vec::new(),
            removal: now,
            set_apart: Vec::new(),
        }
    }

    /// The number that the next row gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    fn team_mut(&mut self, team: &str) -> &mut Team {
        self.teams.entry(team.to_owned()).or_default()
    }

    /// Spans that a team may write in a month.
    pub fn limit(&self, team: &str) -> u64 {
        let plans = &self.rules.plans;
        let of_plan = |plan| match plan {
            Plan::Hobby => plans.hobby,
            Plan::Pro => plans.pro,
            Plan::Enterprise => plans.enterprise,
        };
        match self.teams.get(team) {
            Some(team) => team.limit.unwrap_or_else(|| of_plan(team.plan)),
            None => plans.hobby,
        }
    }

    /// Spans that a team wrote in a month.
    pub fn used(&self, team: &str, month: Month) -> u64 {
        let team = self.teams.get(team);
        team.and_then(|team| team.used.get(&month).copied())
            .unwrap_or(0)
    }

    /// Makes a change true.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Append {
                team,
                rows,
                remembered,
            } => {
                let append = self.next_number;
                self.unsynced.push(append);
                self.next_number += 1;
                for facts in rows {
                    let number = self.next_number;
                    self.next_number += 1;
                    let team = self.team_mut(team);
                    *team.used.entry(Month::of(facts.start)).or_default() += 1;
                    team.rows.push(Row {
                        number,
                        facts: facts.clone(),
                        is_sealed: false,
                        may_be_gone: false,
                    });
                }
                let recent = &mut self.team_mut(team).recent;
                for one in remembered {
                    recent.remember(append, one);
                }
            }
            Change::Session(team, change) => {
                self.unsynced.push(self.next_number);
                self.next_number += 2;
                let number = self.next_number - 1;
                self.team_mut(team).change_session(change, number);
            }
            Change::Limit(team, limit) => self.team_mut(team).limit = *limit,
            Change::Plan(team, plan) => self.team_mut(team).plan = *plan,
            Change::Retention(team, kept) => self.team_mut(team).retention = *kept,
            Change::StoreRetention(kept) => self.retention = *kept,
            Change::Forget { rows, before } => {
                for (team, what) in rows {
                    let team = self.team_mut(team);
                    // A body that comes again is not there any more.
                    team.recent.forget();
                    team.rows
                        .retain(|row| row.number >= *before || !what.holds(&row.facts));
                    if let Forgotten::Session(id) = what {
                        team.forget_session(id);
                    }
                    if *what == Forgotten::Team {
                        team.sessions.clear();
                        team.limit = None;
                        team.plan = Plan::default();
                        team.retention = None;
                    }
                }
            }
        }
    }

    /// All that was appended is on disk.
    pub fn synced(&mut self) {
        self.unsynced.clear();
    }

    /// What a power cut may have left of appends that were acknowledged before
    /// they were synced: none, or the first of them in their order.
    pub fn after_power_cut(&self) -> Vec<Self> {
        let lost_from = |number: u64| {
            let mut model = self.clone();
            for team in model.teams.values_mut() {
                let used = &mut team.used;
                team.rows.retain(|row| {
                    let is_lost = !row.is_sealed && row.number > number;
                    if is_lost && let Some(used) = used.get_mut(&Month::of(row.facts.start)) {
                        *used -= 1;
                    }
                    !is_lost
                });
                team.recent.lose_from(number);
                team.lose_sessions_from(number);
            }
            model
        };
        self.unsynced.iter().map(|one| lost_from(*one)).collect()
    }

    /// Rows that are not in segments.
    pub fn unsealed(&self) -> u64 {
        self.unsealed_from(0)
    }

    fn unsealed_from(&self, number: u64) -> u64 {
        let rows = self.teams.values().flat_map(|team| &team.rows);
        let rows = rows.filter(|row| !row.is_sealed && row.number >= number);
        rows.count() as u64
    }

    /// A seal that may have failed has left so many rows in memory: all, none,
    /// or those that came after an earlier one failed.
    ///
    /// # Errors
    /// No seal could leave so many.
    pub fn sealed_to(&mut self, hot: u64) -> Result<(), String> {
        let unsealed = self.unsealed();
        if hot == unsealed {
            return Ok(());
        }
        let ends = self.set_apart.iter().copied().chain([self.next_number]);
        let end = { ends }.find(|end| self.unsealed_from(*end) == hot);
        match end {
            Some(end) => self.seal_before(end),
            None => return Err(format!("{hot} rows are hot, not {unsealed}")),
        }
        Ok(())
    }

    /// A seal was done: nothing is left in memory.
    pub fn sealed(&mut self) {
        self.seal_before(u64::MAX);
    }

    fn seal_before(&mut self, end: u64) {
        for team in self.teams.values_mut() {
            for row in &mut team.rows {
                row.is_sealed |= row.number < end;
            }
            team.seal_sessions_before(end);
        }
        self.set_apart.retain(|other| *other > end);
    }

    /// A seal failed: its rows stay in memory, apart from those to come.
    pub fn seal_failed(&mut self) {
        self.set_apart.push(self.next_number);
    }

    /// The store was opened at some time, and was last open at another.
    pub fn reopened(&mut self, before: i64, now: i64) {
        for team in self.teams.values_mut() {
            team.recent.reopened(before, now);
        }
        // A store keeps the time from its first seal on.
        let mut rows = self.teams.values().flat_map(|team| &team.rows);
        let is_kept = rows.any(|row| row.is_sealed);
        if !is_kept || now - self.removal <= MOST_LEAP {
            self.removal = self.removal.max(now);
        }
    }

    /// What was found at an open is what there is: all that is in the log is in
    /// memory, none of it apart.
    pub fn settled(&mut self) {
        self.set_apart.clear();
    }

    /// Time passes.
    pub fn passes(&mut self, time: Duration) {
        self.removal = self.removal.saturating_add(nanos(time));
    }

    /// A caller may have said that the wall clock is right.
    pub fn accept_clock(&mut self, now: i64) {
        self.removal = self.removal.max(now);
    }

    /// The next row gets this number.
    pub fn number_from(&mut self, next: u64) {
        self.next_number = next;
    }

    /// Whether another model says the same, but for the numbers of rows and what
    /// is remembered of appends.
    pub fn is_like(&self, other: &Self) -> bool {
        let empty = Team::default();
        let mut names = self.teams.keys().chain(other.teams.keys());
        self.retention == other.retention
            && names.all(|name| {
                let own = self.teams.get(name).unwrap_or(&empty);
                own.is_like(other.teams.get(name).unwrap_or(&empty))
            })
    }

    /// Takes in a model like this one: what one of both does not remember is in
    /// doubt.
    pub fn merge(&mut self, other: &Self) {
        self.removal = self.removal.max(other.removal);
        self.next_number = self.next_number.max(other.next_number);
        for (name, team) in &other.teams {
            self.team_mut(name).recent.merge(&team.recent);
        }
    }

    /// What the store remembers of appends may be lost: of a team, or of all.
    pub fn doubt_recent(&mut self, team: Option<&str>) {
        for (name, state) in &mut self.teams {
            if team.is_none_or(|team| team == name) {
                state.recent.doubt();
            }
        }
    }

    /// A call to forget rows of a team failed: what the store remembers of its appends, and its
    /// sessions, may be lost all the same.
    pub fn doubt_forgotten(&mut self, team: &str, what: &Forgotten) {
        self.doubt_recent(Some(team));
        self.team_mut(team).doubt_sessions(what);
    }

    fn horizon(&self, team: &Team, now: i64) -> i64 {
        let kept = team.retention.or(self.retention);
        kept.map_or(i64::MIN, |kept| now.saturating_sub(nanos(kept)))
    }

    /// A merge may have run: of rows that are there twice one stays, and of
    /// months that retention has let go none has to. No leap of the clock while
    /// the store is open lets any go. Rows that were in memory before are among them
    /// if a seal may have come first.
    pub fn merges(&mut self, now: i64, may_have_sealed: bool) {
        let now = now.min(self.removal);
        let horizons: Vec<i64> = self
            .teams
            .values()
            .map(|team| self.horizon(team, now))
            .collect();
        for (team, horizon) in self.teams.values_mut().zip(horizons) {
            let mut seen: Vec<Facts> = Vec::new();
            for row in &mut team.rows {
                if !row.is_sealed && !may_have_sealed {
                    continue;
                }
                let is_expired = Month::of(row.facts.start).end_nanos() <= horizon;
                row.may_be_gone |= is_expired || seen.contains(&row.facts);
                seen.push(row.facts.clone());
            }
            team.may_lose_sessions(horizon);
        }
    }

    /// What is seen of a team, in the order of appends.
    pub fn visible(&self, team: &str, now: i64) -> Vec<&Row> {
        let Some(team) = self.teams.get(team) else {
            return Vec::new();
        };
        let horizon = self.horizon(team, now);
        let rows = team.rows.iter();
        rows.filter(|row| row.facts.start >= horizon).collect()
    }

    /// The spans that are seen of a team and fulfil a filter.
    pub fn find(&self, team: &str, now: i64, filter: Option<&Filter>) -> Vec<Facts> {
        let holds = |facts: &Facts| filter.is_none_or(|filter| filter.holds(facts) == Some(true));
        self.visible(team, now)
            .into_iter()
            .filter(|row| holds(&row.facts))
            .map(|row| row.facts.clone())
            .collect()
    }

    /// The store shows these spans of a team: they are what is to be seen, and
    /// of what may be gone nothing else is left.
    ///
    /// # Errors
    /// What is missing or too much.
    pub fn sees(&mut self, team: &str, now: i64, mut found: Vec<Facts>) -> Result<(), String> {
        found.sort_unstable();
        let mut rows: Vec<Row> = self.visible(team, now).into_iter().cloned().collect();
        // Of equal rows those that are certain come first.
        rows.sort_by(|one, other| {
            let certain_first = one.may_be_gone.cmp(&other.may_be_gone);
            one.facts.cmp(&other.facts).then(certain_first)
        });
        let mut found = found.into_iter().peekable();
        let mut gone = Vec::new();
        for row in &rows {
            if found.peek() == Some(&row.facts) {
                found.next();
            } else if row.may_be_gone {
                gone.push(row.number);
            } else if found.peek().is_some_and(|one| *one < row.facts) {
                break;
            } else {
                return Err(format!("{team}: missing {:?}", row.facts));
            }
        }
        if let Some(facts) = found.next() {
            return Err(format!("{team}: too much: {facts:?}"));
        }
        let seen: Vec<u64> = rows.iter().map(|row| row.number).collect();
        if let Some(team) = self.teams.get_mut(team) {
            team.rows.retain(|row| !gone.contains(&row.number));
            for row in &mut team.rows {
                row.may_be_gone &= !seen.contains(&row.number);
            }
        }
        Ok(())
    }
}
