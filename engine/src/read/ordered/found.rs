//! Rows that were found, and may be among the first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Rank;

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoundRow {
    pub(crate) rank: Rank,
    /// The number of its origin.
    pub(crate) origin: u32,
    /// Its number there.
    pub(crate) row: u32,
}

/// Rows that were found and are not settled.
pub(super) struct Found {
    pub(super) rows: BinaryHeap<FoundRow>,
    /// Rows with a greater rank are left out.
    pub(super) from: Option<Rank>,
    /// How many rows are wanted in all, those aside that equal the last of them.
    pub(super) wanted: usize,
    /// So many rows have at least this as what decides first. Those with less are left out.
    pub(super) least: i64,
}

impl Found {
    /// Adds rows of an origin, by their ranks and their numbers there.
    pub(super) fn add(&mut self, origin: u32, ranks: impl Iterator<Item = (Rank, u32)>) {
        let (from, least) = (self.from, self.least);
        let may_be_first = |rank: Rank| rank.0 >= least && from.is_none_or(|from| rank <= from);
        let mut rows: Vec<FoundRow> = ranks
            .filter(|(rank, _)| may_be_first(*rank))
            .map(|(rank, row)| FoundRow { rank, origin, row })
            .collect();
        if (1..rows.len()).contains(&self.wanted) {
            let by_first = |row: &FoundRow| Reverse(row.rank.0);
            let (_, last, _) = rows.select_nth_unstable_by_key(self.wanted - 1, by_first);
            let least = last.rank.0;
            rows.retain(|row| row.rank.0 >= least);
            self.least = least;
        }
        self.rows.extend(rows);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As many rows as are wanted, and those that equal the last of them in what decides
        /// first, are there, and little else.
        #[test]
        fn what_may_be_among_the_first_is_kept(
            parts in proptest::collection::vec(
                proptest::collection::vec((0i64..20, 0i64..3), 0..40),
                1..6,
            ),
            wanted in 0usize..30,
            from in proptest::option::of((0i64..20, 0i64..3)),
        ) {
            let mut found = Found {
                rows: BinaryHeap::new(),
                from,
                wanted,
                least: i64::MIN,
            };
            let mut all = Vec::new();
            for (origin, part) in (0..).zip(&parts) {
                found.add(origin, part.iter().copied().zip(0..));
                let rows = part.iter().copied().zip(0..);
                let rows = rows.filter(|(rank, _)| from.is_none_or(|from| *rank <= from));
                all.extend(rows.map(|(rank, row)| FoundRow { rank, origin, row }));
            }
            all.sort_unstable_by(|one, other| other.cmp(one));
            let mut rows = found.rows.into_vec();
            rows.sort_unstable_by(|one, other| other.cmp(one));
            let firsts = all.iter().map(|row| row.rank.0);
            let least = firsts.clone().nth(wanted.wrapping_sub(1)).unwrap_or(i64::MIN);
            let count = firsts.take_while(|first| *first >= least).count();
            prop_assert_eq!(&rows[..count], &all[..count]);
            let most = |part: &Vec<Rank>| {
                let mut firsts: Vec<i64> = part.iter().map(|rank| rank.0).collect();
                firsts.sort_unstable();
                let least = firsts.iter().nth_back(wanted.wrapping_sub(1)).copied();
                firsts.iter().filter(|first| least.is_none_or(|least| **first >= least)).count()
            };
            prop_assert!(from.is_some() || rows.len() <= parts.iter().map(most).sum());
        }
    }
}
