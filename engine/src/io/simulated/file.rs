//! Files and names as they are seen and as they are durable, and what a power
//! cut leaves of the difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::Effect;
use super::random::Choices;

/// What a disk writes wholly or not at all, in bytes.
const SECTOR: usize = 512;

/// Where a torn write may end, in bytes from its start.
const TORN_AT: [usize; 5] = [0, 1, 7, 512, 4_096];

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// All of it, and it is durable.
    KeepAll,
    /// None of it.
    DropAll,
    /// Some of it, in no order: names, writes, sectors of writes. A sector that
    /// held nothing durable may hold garbage, the last write of a file may end
    /// at any byte. By this seed.
    Some(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    /// As it is seen.
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    pub(super) is_locked: bool,
}

/// A change, and what the store was doing when it was made.
#[derive(Debug, Clone)]
struct Unsynced {
    change: Change,
    activity: &'static str,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write { offset, data } => put(bytes, *offset, data),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(data);
    }
}

impl File {
    /// A file that is on the medium.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            ..Self::default()
        }
    }

    pub(super) fn change(&mut self, change: Change, activity: &'static str) {
        change.apply(&mut self.bytes);
        self.unsynced.push(Unsynced { change, activity });
    }

    /// Makes durable what was written.
    pub(super) fn sync(&mut self) {
        for one in std::mem::take(&mut self.unsynced) {
            one.change.apply(&mut self.durable);
        }
    }

    /// The system takes what was written for durable, and it is not.
    pub(super) fn lose_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// What was not durable is not seen any more either.
    pub(super) fn drop_unsynced(&mut self) {
        self.unsynced.clear();
        self.bytes.clone_from(&self.durable);
    }

    /// The power goes and comes back.
    pub(super) fn cut(
        &mut self,
        cut: PowerCut,
        choices: &mut Choices,
        count: &mut impl FnMut(Effect, &'static str),
    ) {
        self.is_locked = false;
        let changes = std::mem::take(&mut self.unsynced);
        let last = changes.len().saturating_sub(1);
        for (number, Unsynced { change, activity }) in changes.into_iter().enumerate() {
            match cut {
                PowerCut::KeepAll => change.apply(&mut self.durable),
                PowerCut::DropAll => count(Effect::LostWrite, activity),
                PowerCut::Some(_) => {
                    let effect = self.cut_change(change, number == last, choices);
                    if let Some(effect) = effect {
                        count(effect, activity);
                    }
                }
            }
        }
        self.bytes.clone_from(&self.durable);
    }

    fn cut_change(
        &mut self,
        change: Change,
        is_last: bool,
        choices: &mut Choices,
    ) -> Option<Effect> {
        let (offset, mut data) = match change {
            Change::Length(_) => {
                let is_kept = choices.coin();
                if is_kept {
                    change.apply(&mut self.durable);
                }
                return (!is_kept).then_some(Effect::LostWrite);
            }
            Change::Write { offset, data } => (offset, data),
        };
        match choices.below(4) {
            0 => {
                // The length may be there without the data.
                if choices.one_in(4) && self.durable.len() < offset + data.len() {
                    self.durable.resize(offset + data.len(), 0);
                    return Some(Effect::TornWrite);
                }
                Some(Effect::LostWrite)
            }
            1 => {
                put(&mut self.durable, offset, &data);
                None
            }
            2 if is_last => {
                let place = choices.below(TORN_AT.len() + 1);
                let random = choices.below(data.len() + 1);
                data.truncate(TORN_AT.get(place).copied().unwrap_or(random));
                put(&mut self.durable, offset, &data);
                Some(Effect::TornWrite)
            }
            _ => self.cut_sectors(offset, &data, choices),
        }
    }

    /// Of each sector, the new contents, the old ones, or garbage where nothing
    /// was durable.
    fn cut_sectors(&mut self, offset: usize, data: &[u8], choices: &mut Choices) -> Option<Effect> {
        let durable = self.durable.len();
        let has_garbage = choices.one_in(3);
        let (mut is_torn, mut is_garbage) = (false, false);
        let mut start = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let here = (SECTOR - start % SECTOR).min(rest.len());
            let (sector, after) = rest.split_at(here);
            if choices.coin() {
                put(&mut self.durable, start, sector);
            } else if has_garbage && start.next_multiple_of(SECTOR) == start && start >= durable {
                let garbage: Vec<u8> = sector.iter().map(|_| choices.next() as u8).collect();
                put(&mut self.durable, start, &garbage);
                is_garbage = true;
            } else {
                is_torn = true;
            }
            start += here;
            rest = after;
        }
        if is_garbage {
            Some(Effect::Garbage)
        } else {
            is_torn.then_some(Effect::TornWrite)
        }
    }
}

/// Names as they are seen, those that are durable, and the changes between.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) seen: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    unsynced: Vec<(NameChange, &'static str)>,
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Names {
    /// Gives a file a name, durably.
    pub(super) fn put(&mut self, path: &Path, file: usize) {
        self.seen.insert(path.to_path_buf(), file);
        self.durable.insert(path.to_path_buf(), file);
    }

    pub(super) fn change(&mut self, change: NameChange, activity: &'static str) {
        change.apply(&mut self.seen);
        self.unsynced.push((change, activity));
    }

    /// Makes the names of a directory durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        for (change, activity) in std::mem::take(&mut self.unsynced) {
            if change.directory() == Some(directory) {
                change.apply(&mut self.durable);
            } else {
                self.unsynced.push((change, activity));
            }
        }
    }

    /// The power goes and comes back.
    pub(super) fn cut(
        &mut self,
        cut: PowerCut,
        choices: &mut Choices,
        count: &mut impl FnMut(Effect, &'static str),
    ) {
        for (change, activity) in std::mem::take(&mut self.unsynced) {
            let is_kept = match cut {
                PowerCut::KeepAll => true,
                PowerCut::DropAll => false,
                PowerCut::Some(_) => choices.coin(),
            };
            if is_kept {
                change.apply(&mut self.durable);
            } else {
                count(Effect::LostName, activity);
            }
        }
        self.seen.clone_from(&self.durable);
    }
}
