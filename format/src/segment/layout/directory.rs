//! The partition directory: which rows of a segment are whose.
//!
//! ```text
//! count u32 · entry[count] · team ids, one after the other
//! entry: team offset u32, team bytes u32, rows u32..u32, traces u32..u32,
//!        sessions u32..u32, requests u32..u32, facets u32..u32,
//!        earliest start i64, latest start i64                       (64 bytes)
//! ```
//! Entries are sorted by the bytes of the team id and searched in place.
//! Offsets of team ids count from the end of the entries.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};

use crate::error::FormatError;
use crate::id::TeamId;
use crate::table::IndexedId;

const ENTRY_BYTES: usize = 64;
const PART: &str = "partition directory";

/// What a segment holds of one team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The team.
    pub team: TeamId,
    /// Its rows, by number.
    pub rows: Range<u32>,
    /// Its block of the trace index, in bytes of that part.
    pub traces: Range<u32>,
    /// Its block of the session index, in bytes of that part.
    pub sessions: Range<u32>,
    /// Its block of the request index, in bytes of that part.
    pub requests: Range<u32>,
    /// Its block of the facets, in bytes of that part; empty when it has none.
    pub facets: Range<u32>,
    /// Earliest start of a span, ns since 1970.
    pub first_start: i64,
    /// Latest start of a span, ns since 1970.
    pub last_start: i64,
}

impl Partition {
    /// Its block of the index of an id, in bytes of that part; empty when it has none.
    pub fn block(&self, id: IndexedId) -> &Range<u32> {
        match id {
            IndexedId::Trace => &self.traces,
            IndexedId::Session => &self.sessions,
            IndexedId::Request => &self.requests,
        }
    }

    pub(crate) fn block_mut(&mut self, id: IndexedId) -> &mut Range<u32> {
        match id {
            IndexedId::Trace => &mut self.traces,
            IndexedId::Session => &mut self.sessions,
            IndexedId::Request => &mut self.requests,
        }
    }

    fn ranges(&self) -> [&Range<u32>; 5] {
        [
            &self.rows,
            &self.traces,
            &self.sessions,
            &self.requests,
            &self.facets,
        ]
    }
}

/// Encodes partitions that are sorted by team.
pub(crate) fn encode(partitions: &[Partition]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + partitions.len() * (ENTRY_BYTES + 16));
    out.put_u32_le(partitions.len() as u32);
    let mut offset = 0;
    for partition in partitions {
        let bytes = partition.team.as_str().len() as u32;
        out.put_u32_le(offset);
        out.put_u32_le(bytes);
        offset += bytes;
        for range in partition.ranges() {
            out.put_u32_le(range.start);
            out.put_u32_le(range.end);
        }
        out.put_i64_le(partition.first_start);
        out.put_i64_le(partition.last_start);
    }
    for partition in partitions {
        out.put_slice(partition.team.as_str().as_bytes());
    }
    out
}

/// An encoded directory, searched in place.
#[derive(Debug, Clone)]
pub struct Directory {
    entries: Bytes,
    teams: Bytes,
    /// Where the directory stands in its file, for errors.
    offset: u64,
    /// Rows of the segment.
    rows: u32,
}

impl Directory {
    /// Takes the directory that stands at `offset` of the file of a segment with
    /// these rows.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when it is shorter than its entries.
    pub fn new(bytes: Bytes, offset: u64, rows: u32) -> Result<Self, FormatError> {
        let count = bytes.get(..4).map(|mut count| count.get_u32_le() as usize);
        let end = count.and_then(|count| count.checked_mul(ENTRY_BYTES)?.checked_add(4));
        match end {
            Some(end) if end <= bytes.len() => Ok(Self {
                entries: bytes.slice(4..end),
                teams: bytes.slice(end..),
                offset,
                rows,
            }),
            _ => Err(FormatError::malformed(
                PART,
                offset,
                format!("{count:?} entries"),
                format!("{} bytes", bytes.len()),
            )),
        }
    }

    /// Partitions of the segment.
    pub fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn team(&self, place: usize) -> Result<&[u8], FormatError> {
        let mut entry = self.entry(place)?;
        let start = entry.get_u32_le() as usize;
        let bytes = entry.get_u32_le() as usize;
        self.teams
            .get(start..start.saturating_add(bytes))
            .ok_or_else(|| {
                self.malformed(
                    place,
                    "a team id within the directory",
                    format!("{start}+{bytes}"),
                )
            })
    }

    fn entry(&self, place: usize) -> Result<&[u8], FormatError> {
        self.entries
            .get(place * ENTRY_BYTES..(place + 1) * ENTRY_BYTES)
            .ok_or_else(|| self.malformed(place, "an entry", format!("{} entries", self.len())))
    }

    fn malformed(&self, place: usize, expected: &str, found: String) -> FormatError {
        let offset = self.offset + 4 + (place * ENTRY_BYTES) as u64;
        FormatError::malformed(PART, offset, expected, found)
    }

    /// The partition at a place of the directory.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when there is none or its bytes make no sense.
    pub fn partition(&self, place: usize) -> Result<Partition, FormatError> {
        let team = std::str::from_utf8(self.team(place)?)
            .ok()
            .and_then(|team| TeamId::new(team).ok())
            .ok_or_else(|| self.malformed(place, "a team id", "other bytes".into()))?;
        self.partition_of(team, place)
    }

    /// The same, of a team that is known.
    fn partition_of(&self, team: TeamId, place: usize) -> Result<Partition, FormatError> {
        let mut entry = self.entry(place)?;
        entry.advance(8);
        let mut range = || entry.get_u32_le()..entry.get_u32_le();
        let (rows, traces, sessions) = (range(), range(), range());
        let (requests, facets) = (range(), range());
        let partition = Partition {
            team,
            rows,
            traces,
            sessions,
            requests,
            facets,
            first_start: entry.get_i64_le(),
            last_start: entry.get_i64_le(),
        };
        if partition
            .ranges()
            .iter()
            .any(|range| range.end < range.start)
            || partition.rows.end > self.rows
        {
            let found = format!("{:?}", partition.ranges());
            let expected = format!("ranges that go up, and at most {} rows", self.rows);
            return Err(self.malformed(place, &expected, found));
        }
        Ok(partition)
    }

    /// The rows of the partition that a row lies in, found by binary search.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the directory makes no sense, or no partition has
    /// the row.
    pub(crate) fn rows_around(&self, row: u32) -> Result<Range<u32>, FormatError> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let rows = self.partition(middle)?.rows;
            if rows.contains(&row) {
                return Ok(rows);
            }
            if rows.end <= row {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Err(self.malformed(
            low,
            "a partition for each row",
            format!("none of row {row}"),
        ))
    }

    /// The partition of a team, found by binary search.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the directory makes no sense.
    pub fn find(&self, team: &TeamId) -> Result<Option<Partition>, FormatError> {
        let wanted = team.as_str().as_bytes();
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.team(middle)?.cmp(wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return self.partition_of(team.clone(), middle).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// All partitions, by team.
    pub fn partitions(&self) -> impl Iterator<Item = Result<Partition, FormatError>> + '_ {
        (0..self.len()).map(|place| self.partition(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(count: u32) -> Vec<Partition> {
        (0..count)
            .map(|n| Partition {
                team: TeamId::new(&format!("team-{n:04}")).unwrap(),
                rows: n * 10..n * 10 + 10,
                traces: n..n + 1,
                sessions: 0..0,
                requests: n..n + 2,
                facets: 0..0,
                first_start: i64::from(n),
                last_start: i64::MAX,
            })
            .collect()
    }

    #[test]
    fn finds_every_team_and_no_other() {
        for count in [0, 1, 2, 7, 100] {
            let partitions = partitions(count);
            let directory = Directory::new(Bytes::from(encode(&partitions)), 0, u32::MAX).unwrap();
            for partition in &partitions {
                assert_eq!(
                    directory.find(&partition.team).unwrap().as_ref(),
                    Some(partition)
                );
            }
            for absent in ["team-", "a", "z", "team-00000"] {
                assert_eq!(directory.find(&TeamId::new(absent).unwrap()), Ok(None));
            }
            let all: Result<Vec<_>, _> = directory.partitions().collect();
            assert_eq!(all.unwrap(), partitions);
        }
    }

    #[test]
    fn cut_bytes_are_an_error() {
        let bytes = Bytes::from(encode(&partitions(3)));
        for end in 0..bytes.len() {
            let Ok(directory) = Directory::new(bytes.slice(..end), 0, u32::MAX) else {
                continue;
            };
            assert!(
                directory.partitions().any(|partition| partition.is_err()),
                "{end}"
            );
        }
    }
}
