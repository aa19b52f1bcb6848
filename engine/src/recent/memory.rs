//! Appends of all teams within a time and a number of bytes, oldest out first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use spanstore_format::TeamId;

use crate::clock::nanos;
use crate::options::Remembered;

/// Memory that an append takes beside its key and its receipt, in bytes, about:
/// slots of a hash table and of two trees, and the heap's own.
const APPEND_BYTES: usize = 320;
/// Memory that a team takes beside its name, in bytes, about.
const TEAM_BYTES: usize = 320;
/// The part of all bytes that one team may have.
const TEAM_SHARE: usize = 16;

/// An append that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    /// When it was accepted, ns.
    pub(super) at: i64,
    /// Hash of its content.
    pub(super) content: u128,
    /// The encoded receipt.
    pub(super) receipt: Arc<[u8]>,
}

/// Appends by team and by something that names them.
#[derive(Debug)]
pub(super) struct Memory<K> {
    limits: Remembered,
    teams: HashMap<TeamId, OfTeam<K>>,
    /// By number: oldest first. They are not with their teams, most of which have one, as a
    /// node of a tree has room for eleven.
    appends: BTreeMap<u64, Append<K>>,
    bytes: usize,
}

#[derive(Debug)]
struct OfTeam<K> {
    numbers: HashMap<K, u64>,
    /// The numbers again: oldest first.
    order: BTreeSet<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Append<K> {
    team: TeamId,
    key: K,
    noted: Noted,
    bytes: usize,
}

impl<K: Hash + Eq + Clone> Memory<K> {
    pub(super) fn new(limits: Remembered) -> Self {
        Self {
            limits,
            teams: HashMap::new(),
            appends: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Whether it keeps anything at all.
    pub(super) fn is_on(&self) -> bool {
        !self.limits.time.is_zero() && self.limits.bytes > 0
    }

    /// Bytes that are counted.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_over(&self, at: i64, now: i64) -> bool {
        now.saturating_sub(at).max(0).cast_unsigned() >= nanos(self.limits.time)
    }

    /// The append of a key, unless its time is over.
    pub(super) fn get(&self, team: &TeamId, key: &K, now: i64) -> Option<&Noted> {
        let number = self.teams.get(team)?.numbers.get(key)?;
        let append = self.appends.get(number)?;
        (!self.is_over(append.noted.at, now)).then_some(&append.noted)
    }

    /// Keeps an append under a number above all before, in place of one of the
    /// same key; `key_bytes` is what the key takes on the heap. What is too old,
    /// or exceeds the bytes, goes.
    pub(super) fn insert(
        &mut self,
        number: u64,
        team: &TeamId,
        key: K,
        key_bytes: usize,
        noted: Noted,
    ) {
        if !self.is_on() {
            return;
        }
        self.expire(noted.at);
        let before = self.teams.get(team);
        if let Some(number) = before.and_then(|team| team.numbers.get(&key)).copied() {
            self.remove(number);
        }
        let bytes = APPEND_BYTES + key_bytes + noted.receipt.len();
        let most = self.limits.bytes / TEAM_SHARE;
        if bytes + TEAM_BYTES + team.as_str().len() > most {
            return;
        }
        while let Some(of_team) = self.teams.get(team)
            && of_team.bytes + bytes > most
            && let Some(oldest) = of_team.order.first().copied()
        {
            self.remove(oldest);
        }
        let of_team = self.teams.entry(team.clone()).or_insert_with(|| {
            let bytes = TEAM_BYTES + team.as_str().len();
            self.bytes += bytes;
            OfTeam {
                numbers: HashMap::new(),
                order: BTreeSet::new(),
                bytes,
            }
        });
        of_team.numbers.insert(key.clone(), number);
        of_team.order.insert(number);
        of_team.bytes += bytes;
        self.bytes += bytes;
        let append = Append {
            team: team.clone(),
            key,
            noted,
            bytes,
        };
        self.appends.insert(number, append);
        while self.bytes > self.limits.bytes
            && let Some(oldest) = self.appends.first_key_value().map(|(number, _)| *number)
        {
            self.remove(oldest);
        }
    }

    /// Lets go of what is too old.
    pub(super) fn expire(&mut self, now: i64) {
        while let Some((number, append)) = self.appends.first_key_value()
            && self.is_over(append.noted.at, now)
        {
            let number = *number;
            self.remove(number);
        }
    }

    /// Lets go of a team's appends.
    pub(super) fn forget(&mut self, team: &TeamId) {
        let Some(of_team) = self.teams.remove(team) else {
            return;
        };
        for number in &of_team.order {
            self.appends.remove(number);
        }
        self.bytes -= of_team.bytes;
        self.shrink();
    }

    fn remove(&mut self, number: u64) {
        let Some(append) = self.appends.remove(&number) else {
            return;
        };
        let Some(of_team) = self.teams.get_mut(&append.team) else {
            return;
        };
        of_team.order.remove(&number);
        of_team.numbers.remove(&append.key);
        of_team.bytes -= append.bytes;
        self.bytes -= append.bytes;
        shrink(&mut of_team.numbers);
        if of_team.order.is_empty() {
            self.bytes -= of_team.bytes;
            self.teams.remove(&append.team);
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        shrink(&mut self.teams);
    }

    /// The oldest appends from a number on and below another one, at most `most`
    /// of them, with their numbers.
    pub(super) fn range(
        &self,
        from: u64,
        before: u64,
        most: usize,
    ) -> Vec<(u64, TeamId, K, Noted)> {
        let appends = self.appends.range(from..before.max(from)).take(most);
        appends
            .map(|(number, append)| {
                let Append {
                    team, key, noted, ..
                } = append;
                (*number, team.clone(), key.clone(), noted.clone())
            })
            .collect()
    }
}

/// Gives back the room of a table that has become mostly empty.
fn shrink<K: Hash + Eq, V>(table: &mut HashMap<K, V>) {
    if table.is_empty() {
        *table = HashMap::new();
    } else if table.capacity() > 4 * table.len().max(4) {
        table.shrink_to(2 * table.len());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn memory(bytes: usize) -> Memory<u128> {
        Memory::new(Remembered {
            time: Duration::from_secs(10),
            bytes,
        })
    }

    fn team(n: usize) -> TeamId {
        TeamId::new(&format!("{n:04}")).unwrap()
    }

    fn noted(at: i64) -> Noted {
        Noted {
            at,
            content: 0,
            receipt: Arc::from([0; 30]),
        }
    }

    #[test]
    fn an_append_is_known_for_its_time() {
        let mut memory = memory(1 << 20);
        memory.insert(1, &team(1), 5, 0, noted(3));
        let last = 3 + 10 * SECOND - 1;
        assert!(memory.get(&team(1), &5, 3).is_some());
        assert!(memory.get(&team(1), &5, last).is_some());
        assert!(memory.get(&team(1), &5, last + 1).is_none());
        assert!(memory.get(&team(2), &5, 3).is_none());
        assert!(memory.get(&team(1), &6, 3).is_none());
        // Before its time, as after a step of the clock: its time has not begun.
        assert!(memory.get(&team(1), &5, -SECOND).is_some());
        memory.expire(last);
        assert!(memory.bytes() > 0);
        memory.expire(last + 1);
        assert_eq!((memory.bytes(), memory.teams.capacity()), (0, 0));
    }

    #[test]
    fn the_oldest_of_a_team_go_at_its_sixteenth_and_those_of_all_at_the_end() {
        let one = APPEND_BYTES + 30;
        let team_bytes = TEAM_BYTES + 4;
        // Four appends of a team fit into its sixteenth.
        let mut memory = memory(16 * (team_bytes + 4 * one));
        for n in 0..6 {
            memory.insert(n, &team(0), u128::from(n), 0, noted(0));
        }
        let known: Vec<_> = (0..6)
            .filter(|n| memory.get(&team(0), n, 0).is_some())
            .collect();
        assert_eq!(known, [2, 3, 4, 5]);
        assert_eq!(memory.bytes(), team_bytes + 4 * one);
        let most = memory.limits.bytes;
        for n in 6..1_000 {
            memory.insert(n, &team(n as usize), 0, 0, noted(0));
            assert!(memory.bytes() <= most);
        }
        assert!(memory.bytes() > most - team_bytes - one);
        assert!(memory.get(&team(0), &5, 0).is_none());
        assert!(memory.get(&team(999), &0, 0).is_some());
        // One that takes more than a team may have is not kept.
        let large = Noted {
            receipt: vec![0; most / 16].into(),
            ..noted(0)
        };
        memory.insert(1_000, &team(999), 7, 0, large);
        assert!(memory.get(&team(999), &7, 0).is_none());
        assert!(memory.get(&team(999), &0, 0).is_some());
    }

    #[test]
    fn a_key_that_comes_again_begins_anew() {
        let mut memory = memory(1 << 20);
        memory.insert(1, &team(1), 5, 0, noted(0));
        let bytes = memory.bytes();
        memory.insert(2, &team(1), 5, 0, noted(SECOND));
        assert_eq!(memory.bytes(), bytes);
        assert_eq!(memory.get(&team(1), &5, SECOND), Some(&noted(SECOND)));
        memory.expire(10 * SECOND);
        assert!(memory.get(&team(1), &5, 10 * SECOND).is_some());
    }

    #[test]
    fn teams_that_nothing_is_kept_of_take_no_memory() {
        let mut memory = memory(1 << 30);
        for n in 0..10_000 {
            memory.insert(n, &team(n as usize), 1, 0, noted(0));
        }
        memory.forget(&team(7));
        assert!(memory.get(&team(7), &1, 0).is_none());
        assert!(memory.get(&team(8), &1, 0).is_some());
        memory.expire(10 * SECOND);
        assert_eq!((memory.bytes(), memory.teams.capacity()), (0, 0));
        assert!(memory.appends.is_empty());
        let mut off = Memory::new(Remembered {
            time: Duration::ZERO,
            bytes: 1 << 20,
        });
        off.insert(1, &team(1), 1, 0, noted(0));
        assert_eq!((off.bytes(), off.is_on()), (0, false));
    }
}
