//! Which value each row of a partition has: the numbers of the values, row after row, on
//! their way into bitmaps or codes.

/// Rows of a chunk: those whose numbers have the same upper 16 bits.
const CHUNK_ROWS: u32 = 1 << 16;

/// The numbers of the values of a partition's rows.
#[derive(Debug)]
pub(super) struct RowNumbers {
    first_row: u32,
    next_row: u32,
    /// The chunks that are complete.
    chunks: Vec<Chunk>,
    /// The runs of the chunk at work.
    open: Vec<Run>,
}

/// Rows that follow one another and have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    number: u16,
    /// Rows but the first.
    more: u16,
}

/// The numbers of the rows of a chunk, in the form that takes fewer bytes.
#[derive(Debug)]
enum Chunk {
    Runs(Box<[Run]>),
    Rows(Box<[u8]>),
}

impl RowNumbers {
    /// Of a partition whose first row has this number in the segment.
    pub(super) fn new(first_row: u32) -> Self {
        Self {
            first_row,
            next_row: first_row,
            chunks: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Adds rows of the same number.
    pub(super) fn push(&mut self, number: u16, mut rows: u32) {
        while rows > 0 {
            let left = CHUNK_ROWS - self.next_row % CHUNK_ROWS;
            let count = rows.min(left);
            match self.open.last_mut() {
                Some(last) if last.number == number => last.more += count as u16,
                _ => self.open.push(Run {
                    number,
                    more: (count - 1) as u16,
                }),
            }
            self.next_row = self.next_row.wrapping_add(count);
            rows -= count;
            if count == left {
                let chunk = Chunk::of(&self.open);
                self.chunks.push(chunk);
                self.open.clear();
            }
        }
    }

    /// Completes the last chunk.
    pub(super) fn finish(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push(Chunk::of(&self.open));
            self.open = Vec::new();
        }
    }

    /// How many complete chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The runs of each complete chunk: numbers, and how many rows have them.
    pub(super) fn runs(&self) -> impl Iterator<Item = impl Iterator<Item = (u16, u32)>> {
        self.chunks.iter().map(Chunk::runs)
    }

    /// The first row.
    pub(super) fn first_row(&self) -> u32 {
        self.first_row
    }

    /// What `codes` has for the numbers of the rows of a chunk.
    pub(super) fn codes(&self, chunk: usize, codes: &[u8]) -> Vec<u8> {
        let code = |number: usize| codes.get(number).copied().unwrap_or_default();
        match self.chunks.get(chunk) {
            None => Vec::new(),
            Some(Chunk::Rows(rows)) => rows.iter().map(|one| code(usize::from(*one))).collect(),
            Some(Chunk::Runs(runs)) => {
                let mut out = Vec::with_capacity(CHUNK_ROWS as usize);
                for run in runs {
                    let end = out.len() + usize::from(run.more) + 1;
                    out.resize(end, code(usize::from(run.number)));
                }
                out
            }
        }
    }
}

impl Chunk {
    fn of(runs: &[Run]) -> Self {
        let rows: usize = runs.iter().map(|run| usize::from(run.more) + 1).sum();
        if rows < size_of_val(runs)
            && let Some(numbers) = rows_of(runs, rows)
        {
            return Self::Rows(numbers);
        }
        Self::Runs(runs.into())
    }

    fn runs(&self) -> impl Iterator<Item = (u16, u32)> {
        let (runs, rows): (&[Run], &[u8]) = match self {
            Self::Runs(runs) => (runs, &[]),
            Self::Rows(rows) => (&[], rows),
        };
        let runs = runs.iter().map(|run| (run.number, u32::from(run.more) + 1));
        let rows = rows.chunk_by(|one, next| one == next);
        let rows = rows.filter_map(|run| Some((u16::from(*run.first()?), run.len() as u32)));
        runs.chain(rows)
    }
}

/// The number of each row, if all take a byte.
fn rows_of(runs: &[Run], rows: usize) -> Option<Box<[u8]>> {
    let mut numbers = Vec::with_capacity(rows);
    for run in runs {
        let number = u8::try_from(run.number).ok()?;
        numbers.resize(numbers.len() + usize::from(run.more) + 1, number);
    }
    Some(numbers.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            runs in prop::collection::vec(
                (prop_oneof![0u16..4, 250u16..300], prop_oneof![1u32..3, 1u32..90_000]),
                1..60,
            ),
            repeated in 1usize..400,
            first_row in prop_oneof![Just(0u32), 0u32..200_000],
        ) {
            // Short runs are many.
            let short = runs.iter().filter(|(_, rows)| *rows < 3).copied();
            let short: Vec<_> = short.cycle().take(repeated * 100).collect();
            let mut numbers = RowNumbers::new(first_row);
            let mut expected = Vec::new();
            for (number, rows) in runs.into_iter().chain(short) {
                numbers.push(number, rows);
                expected.resize(expected.len() + rows as usize, number);
            }
            numbers.finish();
            let codes: Vec<u8> = (0..300u32).map(|number| (number * 7 % 256) as u8).collect();
            let mut rest = expected.as_slice();
            let mut chunk_end = first_row;
            prop_assert_eq!(numbers.runs().count(), numbers.chunks());
            for (chunk, runs) in numbers.runs().enumerate() {
                chunk_end = (chunk_end / CHUNK_ROWS + 1) * CHUNK_ROWS;
                let mut found = Vec::new();
                for (number, rows) in runs {
                    prop_assert_ne!(found.last(), Some(&number), "runs are whole");
                    found.resize(found.len() + rows as usize, number);
                }
                let (now, later) = rest.split_at(found.len());
                prop_assert_eq!(&found, now);
                let of_codes: Vec<u8> = now.iter().map(|one| codes[usize::from(*one)]).collect();
                prop_assert_eq!(numbers.codes(chunk, &codes), of_codes);
                let so_far = first_row as usize + expected.len() - later.len();
                prop_assert!(later.is_empty() || so_far == chunk_end as usize);
                rest = later;
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn numbers_take_a_byte_a_row_where_runs_take_more() {
        let chunk = |values: u16, rows: u32| {
            let mut numbers = RowNumbers::new(0);
            for run in 0..CHUNK_ROWS / rows {
                numbers.push(run as u16 % values, rows);
            }
            assert_eq!(numbers.chunks(), 1);
            numbers.chunks.remove(0)
        };
        assert!(matches!(chunk(2, 4), Chunk::Runs(_)), "as many bytes");
        assert!(matches!(chunk(2, 2), Chunk::Rows(_)));
        assert!(matches!(chunk(256, 1), Chunk::Rows(_)));
        assert!(matches!(chunk(257, 1), Chunk::Runs(_)), "not all in a byte");
    }
}
