//! Which facets of a partition share codes.
//!
//! Columns of spans depend on each other: a resource has one service, one host and one
//! region, an operation has one kind. So a group of facets has few different
//! combinations of values, and a code for each combination takes hardly more bits than
//! one facet alone.

use std::ops::Range;

use hashbrown::HashSet;

use super::numbers::RowNumbers;
use super::planes::planes_of;

/// Codes that a group may have: a bit plane is needed for each doubling, and a value
/// takes the longer to read the more there are.
pub(super) const MOST_CODES: usize = 128;
/// Combinations of values that are looked at in order to choose.
const MOST_COMBINATIONS: usize = 1 << 14;
const NO_CODE: u8 = u8::MAX;

/// A facet that may share codes.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// The value of each row of the partition.
    pub(super) numbers: &'a RowNumbers,
    /// For each number its set: that of a value, or, at last, that of the rows without one.
    pub(super) sets: &'a [u8],
    /// How many sets have rows.
    pub(super) count: usize,
    /// Bytes of its bitmaps, were each value to have its own.
    pub(super) bytes: u64,
}

/// Facets with common codes.
#[derive(Debug)]
pub(super) struct Group {
    /// The facets, and for each code the number of the set that its rows are in.
    pub(super) facets: Vec<(usize, Vec<u8>)>,
    /// Codes that there are.
    pub(super) count: usize,
    /// The code of each row of the partition.
    pub(super) codes: Vec<u8>,
}

/// Groups of facets that seem to take fewer bytes as codes. Each is made when it is
/// asked for: its codes take a byte a row.
pub(super) fn choose<'a>(
    candidates: &'a [Candidate<'a>],
    rows: &'a Range<u32>,
) -> impl Iterator<Item = Group> + 'a {
    let numbers = (0..candidates.len()).filter(|number| {
        let sets = candidates.get(*number).map_or(0, |one| one.count);
        (2..=MOST_CODES).contains(&sets)
    });
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_by_key(|number| std::cmp::Reverse(candidates.get(*number).map(|one| one.bytes)));
    let of = |number: &usize| candidates.get(*number);
    let facets: Vec<&Candidate<'_>> = numbers.iter().filter_map(of).collect();
    let combinations = combinations(&facets);
    let mut drafts: Vec<Draft> = Vec::new();
    for ((number, facet), values) in numbers.iter().zip(&facets).zip(&combinations) {
        let one = Draft {
            members: vec![*number],
            codes: values.clone(),
            count: facet.count,
            bytes: facet.bytes.min(plane_bytes(facet.count, rows)),
        };
        let joined = drafts.iter().enumerate().filter_map(|(place, draft)| {
            let joined = draft.join(&one, rows)?;
            let saved = (draft.bytes + one.bytes).checked_sub(joined.bytes)?;
            (saved > 0).then_some((saved, place, joined))
        });
        match joined.max_by_key(|(saved, ..)| *saved) {
            Some((_, place, joined)) => {
                if let Some(draft) = drafts.get_mut(place) {
                    *draft = joined;
                }
            }
            None => drafts.push(one),
        }
    }
    drafts.into_iter().filter_map(move |draft| {
        let mut members = draft.members;
        loop {
            let of = |number: &usize| Some((*number, candidates.get(*number)?));
            let facets: Vec<_> = members.iter().filter_map(of).collect();
            let bytes: u64 = facets.iter().map(|(_, facet)| facet.bytes).sum();
            if bytes <= draft.bytes {
                return None;
            }
            match group(facets) {
                Ok(group) => return Some(group),
                // Rows that were not looked at have more combinations.
                Err(place) => drop(members.remove(place)),
            }
        }
    })
}

/// A group as far as the combinations tell.
struct Draft {
    members: Vec<usize>,
    /// A code for each combination.
    codes: Vec<u8>,
    count: usize,
    bytes: u64,
}

impl Draft {
    /// This one with a facet more; none when it would have too many codes.
    fn join(&self, facet: &Self, rows: &Range<u32>) -> Option<Self> {
        let mut level = Level::new(facet.count);
        let pairs = self.codes.iter().zip(&facet.codes);
        let codes = pairs.map(|(code, value)| level.code(*code, *value));
        let codes: Vec<u8> = codes.collect::<Option<_>>()?;
        let count = level.pairs.len();
        let bytes = if count == self.count {
            self.bytes
        } else {
            plane_bytes(count, rows)
        };
        let members = self.members.iter().chain(&facet.members);
        Some(Self {
            members: members.copied().collect(),
            codes,
            count,
            bytes,
        })
    }
}

/// Bytes of the bit planes of so many codes, at most.
fn plane_bytes(codes: usize, rows: &Range<u32>) -> u64 {
    planes_of(codes) as u64 * (rows.len() as u64).div_ceil(8)
}

/// Codes for pairs of a code and a value.
struct Level {
    values: usize,
    /// The code of each pair.
    codes: Vec<u8>,
    /// The pair of each code.
    pairs: Vec<(u8, u8)>,
}

impl Level {
    fn new(values: usize) -> Self {
        Self {
            values,
            codes: vec![NO_CODE; MOST_CODES * values],
            pairs: Vec::new(),
        }
    }

    /// None when there are too many.
    fn code(&mut self, code: u8, value: u8) -> Option<u8> {
        let place = usize::from(code) * self.values + usize::from(value);
        let found = self.codes.get_mut(place)?;
        if *found == NO_CODE {
            if self.pairs.len() == MOST_CODES {
                return None;
            }
            *found = self.pairs.len() as u8;
            self.pairs.push((code, value));
        }
        Some(*found)
    }
}

/// For each facet its values in the different combinations that there are.
fn combinations(facets: &[&Candidate<'_>]) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new(); facets.len()];
    let mut seen = HashSet::new();
    for chunk in 0..chunks(facets.iter().copied()) {
        let values: Vec<Vec<u8>> = facets.iter().map(|facet| facet.values(chunk)).collect();
        let mut hashes = vec![0u64; values.first().map_or(0, Vec::len)];
        for values in &values {
            for (hash, value) in hashes.iter_mut().zip(values) {
                // What matters is that combinations hardly ever share one.
                *hash =
                    (hash.rotate_left(5) ^ u64::from(*value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
        }
        let mut last = None;
        for (row, hash) in hashes.into_iter().enumerate() {
            if last.replace(hash) == Some(hash) || !seen.insert(hash) {
                continue;
            }
            for (found, values) in found.iter_mut().zip(&values) {
                found.extend(values.get(row));
            }
            if seen.len() == MOST_COMBINATIONS {
                return found;
            }
        }
    }
    found
}

/// Chunks of the rows of facets of one partition.
fn chunks<'a>(mut facets: impl Iterator<Item = &'a Candidate<'a>>) -> usize {
    facets.next().map_or(0, |facet| facet.numbers.chunks())
}

impl Candidate<'_> {
    /// The sets of the rows of a chunk.
    fn values(&self, chunk: usize) -> Vec<u8> {
        self.numbers.codes(chunk, self.sets)
    }
}

/// The group of some facets; the place of one that is too many as an error.
fn group(facets: Vec<(usize, &Candidate<'_>)>) -> Result<Group, usize> {
    let mut levels: Vec<Level> = facets
        .iter()
        .map(|(_, one)| Level::new(one.count))
        .collect();
    let mut codes = Vec::new();
    for chunk in 0..chunks(facets.iter().map(|(_, facet)| *facet)) {
        let mut of_chunk = Vec::new();
        for (place, ((_, facet), level)) in facets.iter().zip(&mut levels).enumerate() {
            let values = facet.values(chunk);
            of_chunk.resize(values.len(), 0);
            for (code, value) in of_chunk.iter_mut().zip(values) {
                *code = level.code(*code, value).ok_or(place)?;
            }
        }
        codes.extend_from_slice(&of_chunk);
    }
    let count = levels.last().map_or(0, |level| level.pairs.len());
    // The values of each code, those of the last facet first.
    let mut values: Vec<Vec<u8>> = (0..count)
        .map(|code| {
            let mut code = code as u8;
            let pairs = levels.iter().rev().map(|level| {
                let pair = level
                    .pairs
                    .get(usize::from(code))
                    .copied()
                    .unwrap_or_default();
                code = pair.0;
                pair.1
            });
            let mut values: Vec<u8> = pairs.collect();
            values.reverse();
            values
        })
        .collect();
    // In the order of the values, codes of equal ones are neighbours: fewer steps.
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_unstable_by_key(|code| values.get(*code));
    let mut places = vec![0; count];
    for (place, code) in order.into_iter().enumerate() {
        if let Some(to) = places.get_mut(code) {
            *to = place as u8;
        }
    }
    for code in &mut codes {
        *code = places.get(usize::from(*code)).copied().unwrap_or_default();
    }
    values.sort_unstable();
    let facets = facets.iter().enumerate().map(|(place, (number, _))| {
        let of_facet = values
            .iter()
            .filter_map(|values| values.get(place).copied());
        (*number, of_facet.collect())
    });
    Ok(Group {
        facets: facets.collect(),
        count,
        codes,
    })
}
