//! Which attribute keys a segment promotes, from a sample of its rows.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};
use twox_hash::XxHash3_64;

use super::entry::{self, Plain};
use super::{ChosenKey, PromotedType, Promotion};
use crate::span::attribute::SPAN_FIELD;
use crate::span::{SpanColumn, mapping};

/// Columns that keys get, at most.
pub(super) const MOST_COLUMNS: usize = 48;
/// A key is promoted when at least one row in this many has it: each column
/// costs every look-up some microseconds, a rare key little where it is.
const MOST_ROWS_PER_VALUE: u64 = 100;
/// Share of a key's values, in percent, that must be of one type.
const LEAST_AGREEMENT: u64 = 90;
/// Share of a key's values, in percent, that must equal those of the mapped
/// column to be kept there.
const LEAST_EQUALITY: u64 = 98;
/// Keys that are counted, at most: who makes up keys shall not fill memory.
const MOST_CANDIDATES: usize = 10_000;
/// Keys that one team brings in, at most: others shall have room.
const MOST_CANDIDATES_OF_TEAM: usize = 1_000;
/// Columns that keys of a single team get at least, if they are worth it,
/// however few of the rows are the team's.
const LEAST_COLUMNS_OF_TEAM: usize = 4;
/// Different values of a key that are told apart.
const MOST_DISTINCT: usize = 1_024;
/// Different texts before the ends of values that are told apart.
const MOST_BEFORE: usize = 64;
/// Rows of a sample, at most, about.
pub const SAMPLE_ROWS: u64 = 16_384;

/// Counts the attributes of some rows. The choice depends on nothing but the
/// rows that are added.
#[derive(Debug, Default)]
pub struct Sample {
    rows: u64,
    /// Rows of the next batch before the first that is counted.
    skipped: usize,
    /// Chooses the rows.
    choices: u64,
    candidates: HashMap<Vec<u8>, Candidate>,
    /// The teams of the counted rows, by hashes of their ids.
    teams: HashMap<u64, Seen>,
}

/// What was seen of a team.
#[derive(Debug, Default)]
struct Seen {
    rows: u64,
    /// Keys that its rows brought in.
    keys: usize,
}

/// What was seen of a key.
#[derive(Debug, Default)]
struct Candidate {
    /// The team that has most of the key's bytes, if one has more than half,
    /// and how many bytes it has ahead of all others (Boyer and Moore's vote).
    owner: u64,
    ahead: u64,
    values: u64,
    bytes: u64,
    /// Values of each [`PromotedType`] in its order.
    types: [u64; 4],
    /// Columns that the mapping may fill from the key.
    mapped: Vec<MappedColumn>,
    /// Hashes of values, the first [`MOST_DISTINCT`] different ones.
    distinct: HashSet<u64>,
}

/// A column that the mapping may fill from a key.
#[derive(Debug)]
struct MappedColumn {
    place: usize,
    /// Values of the key that equal that of the column.
    equal: u64,
    /// Those that end with it.
    ending: u64,
    /// Hashes of what comes before, the first [`MOST_BEFORE`] different ones.
    before: HashSet<u64>,
}

impl Sample {
    /// Adds one row in `step` of a batch with the columns of spans, on average:
    /// at equal steps the rows of traces of one shape would be the same ones.
    pub fn add(&mut self, batch: &RecordBatch, step: usize) {
        let attributes = SpanColumn::Attributes.bytes(batch).ok();
        let teams = SpanColumn::TeamId.texts(batch).ok();
        let mut next = self.skipped;
        while next < batch.num_rows() {
            let row = next;
            next += self.gap(step);
            self.rows += 1;
            let team = teams.filter(|teams| teams.is_valid(row));
            let team = XxHash3_64::oneshot(team.map_or("", |teams| teams.value(row)).as_bytes());
            let seen = self.teams.entry(team).or_default();
            seen.rows += 1;
            if let Some(attributes) = attributes.filter(|one| one.is_valid(row)) {
                let message = attributes.value(row);
                count(&mut self.candidates, message, (team, seen), (batch, row));
            }
        }
        self.skipped = next - batch.num_rows();
    }

    /// Rows from a counted one to the next: the same for the same rows before.
    fn gap(&mut self, step: usize) -> usize {
        // The linear congruential generator of Knuth's MMIX.
        self.choices = self
            .choices
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        1 + (self.choices >> 33) as usize % (2 * step.max(1) - 1)
    }

    /// The keys worth promoting: common ones whose values agree in type, those
    /// that take most bytes first. Columns are dealt out among the teams: keys
    /// of a single team get as many as it has rows, of what others leave more.
    pub fn choose(&self) -> Promotion {
        let candidates = self.candidates.iter();
        let mut ranked: Vec<_> = candidates
            .filter_map(|(key, seen)| {
                let value = self.worth(seen)?;
                Some((std::str::from_utf8(key).ok()?, value, seen))
            })
            .collect();
        ranked.sort_unstable_by_key(|(key, _, seen)| (std::cmp::Reverse(seen.bytes), *key));
        let unmapped = ranked.iter().filter(|(_, _, seen)| seen.column().is_none());
        let with_columns = self.assign_columns(unmapped.map(|(key, _, seen)| (*key, *seen)));
        let keys = ranked.into_iter().filter_map(|(key, value, seen)| {
            let mapped = seen.column();
            let suffix = seen.suffix().filter(|_| mapped.is_none());
            let is_varied =
                seen.distinct.len() as u64 * 4 >= seen.values.min(2 * MOST_DISTINCT as u64);
            (mapped.is_some() || with_columns.contains(key)).then(|| ChosenKey {
                key: key.to_owned(),
                value,
                mapped,
                suffix,
                // What comes before repeats.
                is_varied: is_varied && suffix.is_none(),
            })
        });
        Promotion {
            keys: keys.collect(),
        }
    }

    /// The keys that get columns, of keys by rank: first a few of each team, then
    /// those within the share of their team, then others while there is room.
    fn assign_columns<'a>(
        &self,
        ranked: impl Iterator<Item = (&'a str, &'a Candidate)>,
    ) -> HashSet<&'a str> {
        let mut of_team: HashMap<u64, usize> = HashMap::new();
        let mut first = Vec::new();
        let mut within = Vec::new();
        let mut others = Vec::new();
        for (key, seen) in ranked {
            let Some(team) = seen.team() else {
                within.push(key);
                continue;
            };
            let rows = self.teams.get(&team).map_or(0, |team| team.rows);
            let share = (MOST_COLUMNS as u64 * rows).div_ceil(self.rows.max(1)) as usize;
            let taken = of_team.entry(team).or_default();
            *taken += 1;
            if *taken <= LEAST_COLUMNS_OF_TEAM {
                first.push(key);
            } else if *taken <= share {
                within.push(key);
            } else {
                others.push(key);
            }
        }
        let keys = first.into_iter().chain(within).chain(others);
        keys.take(MOST_COLUMNS).collect()
    }

    /// The type that a key is promoted with, if it is worth it.
    fn worth(&self, seen: &Candidate) -> Option<PromotedType> {
        let types = [
            PromotedType::Text,
            PromotedType::Integer,
            PromotedType::Double,
            PromotedType::Boolean,
        ];
        let (value, values) = types
            .into_iter()
            .zip(seen.types)
            .max_by_key(|(_, values)| *values)?;
        let is_common = values * MOST_ROWS_PER_VALUE >= self.rows;
        let agrees = values * 100 >= seen.values * LEAST_AGREEMENT;
        (values > 0 && is_common && agrees).then_some(value)
    }
}

impl MappedColumn {
    fn of(column: SpanColumn) -> Self {
        Self {
            place: column.place(),
            equal: 0,
            ending: 0,
            before: HashSet::new(),
        }
    }
}

impl Candidate {
    fn add_bytes(&mut self, team: u64, bytes: u64) {
        self.bytes += bytes;
        if self.owner == team {
            self.ahead += bytes;
        } else if self.ahead >= bytes {
            self.ahead -= bytes;
        } else {
            (self.owner, self.ahead) = (team, bytes - self.ahead);
        }
    }

    /// The mapped column that has its values, if there is one.
    fn column(&self) -> Option<usize> {
        let mut mapped = self.mapped.iter();
        let mapped = mapped.find(|one| one.equal * 100 >= self.values * LEAST_EQUALITY);
        mapped.map(|one| one.place)
    }

    /// The mapped column that has the ends of its values, if there is one, and what
    /// comes before repeats.
    fn suffix(&self) -> Option<usize> {
        let mut mapped = self.mapped.iter();
        let mapped = mapped.find(|one| {
            let is_ending = one.ending * 100 >= self.values * LEAST_EQUALITY;
            is_ending && one.before.len() < MOST_BEFORE
        });
        mapped.map(|one| one.place)
    }

    /// The team whose key it is, if it is one's.
    fn team(&self) -> Option<u64> {
        (self.ahead * 2 >= self.bytes).then_some(self.owner)
    }
}

fn count(
    candidates: &mut HashMap<Vec<u8>, Candidate>,
    message: &[u8],
    (team, seen): (u64, &mut Seen),
    (batch, row): (&RecordBatch, usize),
) {
    for (entry, whole) in entry::all(message, SPAN_FIELD) {
        let Some((key, value)) = entry::read(entry) else {
            continue;
        };
        let is_full = candidates.len() >= MOST_CANDIDATES || seen.keys >= MOST_CANDIDATES_OF_TEAM;
        let candidate = match candidates.entry_ref(key) {
            EntryRef::Occupied(seen) => seen.into_mut(),
            EntryRef::Vacant(_) if is_full => continue,
            EntryRef::Vacant(new) => {
                seen.keys += 1;
                let key = std::str::from_utf8(key).unwrap_or_default();
                let mapped = mapping::columns_of(key);
                new.insert(Candidate {
                    mapped: mapped.map(MappedColumn::of).collect(),
                    ..Candidate::default()
                })
            }
        };
        candidate.values += 1;
        candidate.add_bytes(team, whole.len() as u64);
        if candidate.distinct.len() < MOST_DISTINCT {
            candidate.distinct.insert(XxHash3_64::oneshot(entry));
        }
        let place = match value {
            Plain::Text(_) => 0,
            Plain::Integer(_) => 1,
            Plain::Double(_) => 2,
            Plain::Boolean(_) => 3,
        };
        if let Some(values) = candidate.types.get_mut(place) {
            *values += 1;
        }
        for mapped in &mut candidate.mapped {
            if let Some(column) = batch.columns().get(mapped.place) {
                mapped.equal += u64::from(is_equal(column, row, value));
                if let Some(before) = before(column, row, value) {
                    mapped.ending += 1;
                    if mapped.before.len() < MOST_BEFORE {
                        mapped.before.insert(XxHash3_64::oneshot(before.as_bytes()));
                    }
                }
            }
        }
    }
}

/// What comes before the value of a mapped column in a text that ends with it. A value
/// of no bytes ends nothing.
pub(super) fn before<'a>(column: &ArrayRef, row: usize, value: Plain<'a>) -> Option<&'a str> {
    let column = column.as_string_view_opt()?;
    let Plain::Text(text) = value else {
        return None;
    };
    let end = column.is_valid(row).then(|| column.value(row))?;
    text.strip_suffix(end).filter(|_| !end.is_empty())
}

/// Whether a mapped column holds exactly this value, so that the value can be
/// had from it.
pub(super) fn is_equal(column: &ArrayRef, row: usize, value: Plain<'_>) -> bool {
    if column.is_null(row) {
        return false;
    }
    match value {
        Plain::Text(text) => column
            .as_string_view_opt()
            .is_some_and(|column| column.value(row) == text),
        Plain::Integer(number) => column
            .as_primitive_opt::<Int32Type>()
            .is_some_and(|column| i64::from(column.value(row)) == number),
        Plain::Boolean(truth) => column
            .as_boolean_opt()
            .is_some_and(|column| column.value(row) == truth),
        Plain::Double(_) => false,
    }
}
