//! Postings: sets of rows, as the other parts of the index name them.
//!
//! ```text
//! posting (8 bytes): start u32, length u32
//! ```
//! A posting whose length has its highest bit clear stands for one run of rows.
//! Else `start` is where in the part of the postings a roaring bitmap lies
//! (portable format, <https://github.com/RoaringBitmap/RoaringFormatSpec>), and
//! the other 31 bits of `length` are its bytes. Rows are those of the segment.

use std::ops::{Bound, Range};

use bytes::Bytes;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use twox_hash::XxHash3_128;

use crate::error::FormatError;

/// Bytes of a posting.
pub(super) const POSTING_BYTES: usize = 8;
const IS_BITMAP: u32 = 1 << 31;
const PART: &str = "postings";

/// Hands out a range of the postings.
pub type ReadPostings<'a> = &'a dyn Fn(Range<u64>) -> Result<Bytes, FormatError>;

/// Where some rows are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posting {
    /// They are one run.
    Run(Range<u32>),
    /// They are in a bitmap, at this range of the postings.
    Bitmap(Range<u64>),
}

impl Posting {
    /// The posting that two words stand for.
    pub(super) fn of_words(start: u32, length: u32) -> Self {
        if length & IS_BITMAP == 0 {
            Self::Run(start..start.saturating_add(length))
        } else {
            let start = u64::from(start);
            Self::Bitmap(start..start + u64::from(length & !IS_BITMAP))
        }
    }

    /// How many of some rows it has; all of its own lie within `all`.
    ///
    /// # Errors
    /// As [`Posting::rows`].
    pub fn count(
        &self,
        rows: &RoaringBitmap,
        all: &Range<u32>,
        read: ReadPostings<'_>,
    ) -> Result<u64, FormatError> {
        match self {
            Self::Run(run) if all.start <= run.start && run.end <= all.end => {
                Ok(rows.range_cardinality(run.clone()))
            }
            _ => {
                let mut found = self.rows(all, read)?;
                let Some((first, last)) = rows.min().zip(rows.max()) else {
                    return Ok(0);
                };
                found.remove_range(..first);
                found.remove_range((Bound::Excluded(last), Bound::Unbounded));
                // In runs each row would be looked for.
                found.remove_run_compression();
                Ok(found.intersection_len(rows))
            }
        }
    }

    /// Its rows, all of which lie within `rows`.
    ///
    /// # Errors
    /// What `read` answers, and [`FormatError::Malformed`] when it hands out no
    /// bitmap or a row lies elsewhere.
    pub fn rows(
        &self,
        rows: &Range<u32>,
        read: ReadPostings<'_>,
    ) -> Result<RoaringBitmap, FormatError> {
        let (offset, found) = match self {
            Self::Run(run) => {
                let mut found = RoaringBitmap::new();
                // A run is checked before it is made: it may be very long.
                if run.is_empty() || (rows.start <= run.start && run.end <= rows.end) {
                    found.insert_range(run.clone());
                    return Ok(found);
                }
                (u64::from(run.start), run.clone())
            }
            Self::Bitmap(range) => {
                let found = RoaringBitmap::deserialize_from(&*read(range.clone())?);
                let found = found.map_err(|error| {
                    let found = error.to_string();
                    FormatError::malformed(PART, range.start, "a roaring bitmap", found)
                })?;
                match found.min().zip(found.max()) {
                    Some((first, last)) if first < rows.start || rows.end <= last => {
                        (range.start, first..last.saturating_add(1))
                    }
                    _ => return Ok(found),
                }
            }
        };
        let (expected, found) = (format!("rows within {rows:?}"), format!("{found:?}"));
        Err(FormatError::malformed(PART, offset, expected, found))
    }
}

/// Rows on their way to a posting. Most ids have one run of rows, and there are
/// many ids: those take no bitmap.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RowSet {
    Run(Range<u32>),
    Bitmap(Box<RoaringBitmap>),
}

impl RowSet {
    /// Adds a run of rows that lie after those so far.
    pub(super) fn add(&mut self, run: Range<u32>) {
        match self {
            Self::Run(rows) if rows.end == run.start => rows.end = run.end,
            Self::Run(rows) => {
                let mut bitmap = bitmap_of(rows.clone());
                bitmap.insert_range(run);
                *self = Self::Bitmap(Box::new(bitmap));
            }
            Self::Bitmap(bitmap) => {
                bitmap.insert_range(run);
            }
        }
    }

    /// Adds rows that lie anywhere.
    pub(super) fn unite(&mut self, other: Self) {
        let bitmap = |rows| match rows {
            Self::Run(run) => bitmap_of(run),
            Self::Bitmap(bitmap) => *bitmap,
        };
        let rows = bitmap(std::mem::replace(self, Self::Run(0..0))) | bitmap(other);
        *self = Self::Bitmap(Box::new(rows));
    }
}

/// Whether they are one run of rows.
fn is_run(rows: &RoaringBitmap) -> bool {
    let mut ranges = rows.iter();
    ranges.next_range().is_some() && ranges.next().is_none()
}

fn bitmap_of(run: Range<u32>) -> RoaringBitmap {
    let mut rows = RoaringBitmap::new();
    rows.insert_range(run);
    rows
}

/// What the bitmap of some rows takes, as far as containers were added.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BitmapSize {
    rows: u64,
    runs: u64,
    containers: u64,
    has_runs: bool,
    of_containers: u64,
}

impl BitmapSize {
    /// Adds a container with so many rows in so many runs, of which so many begin there:
    /// the first may go on from the container before.
    pub(super) fn add(&mut self, rows: u32, runs: u32, begun: u32) {
        if rows == 0 {
            return;
        }
        let as_rows = u64::from(rows * 2).min(8_192);
        let as_runs = 2 + 4 * u64::from(runs);
        self.rows += u64::from(rows);
        self.runs += u64::from(begun);
        self.containers += 1;
        self.has_runs |= as_runs < as_rows;
        self.of_containers += as_rows.min(as_runs);
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the bitmap; none where the rows are one run.
    pub(super) fn bytes(&self) -> u64 {
        if self.runs <= 1 {
            return 0;
        }
        let offsets = self.containers * 4;
        let head = match self.has_runs {
            true if self.containers < 4 => 4 + self.containers.div_ceil(8),
            true => 4 + self.containers.div_ceil(8) + offsets,
            false => 8 + offsets,
        };
        head + self.containers * 4 + self.of_containers
    }
}

/// The part of the postings on its way.
#[derive(Debug, Default)]
pub(super) struct PostingsBuilder {
    pub(super) bytes: Vec<u8>,
}

/// Bitmaps that were stored, by their hashes.
pub(super) type Stored = HashMap<u128, [u32; 2]>;

impl PostingsBuilder {
    /// The words of a posting of these rows. A bitmap is added where they are not
    /// one run.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the postings would exceed 4 GiB.
    pub(super) fn put(&mut self, rows: RowSet) -> Result<[u32; 2], FormatError> {
        match rows {
            RowSet::Run(run) => Ok([run.start, run.end - run.start]),
            RowSet::Bitmap(mut rows) => self.put_bitmap(&mut rows),
        }
    }

    /// As [`put`](Self::put).
    fn put_bitmap(&mut self, rows: &mut RoaringBitmap) -> Result<[u32; 2], FormatError> {
        if let Some((first, last)) = rows.min().zip(rows.max()).filter(|_| is_run(rows)) {
            return Ok([first, last + 1 - first]);
        }
        let start = self.bytes.len();
        rows.optimize();
        rows.serialize_into(&mut self.bytes).map_err(|error| {
            FormatError::malformed(PART, start as u64, "a bitmap", error.to_string())
        })?;
        let [start, bytes] = self.added(start)?;
        Ok([start, bytes | IS_BITMAP])
    }

    /// Adds other bytes; answers where they begin, and how many they are.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<[u32; 2], FormatError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.added(start)
    }

    fn added(&self, start: usize) -> Result<[u32; 2], FormatError> {
        let bytes = self.bytes.len() - start;
        match (u32::try_from(start), u32::try_from(bytes)) {
            (Ok(start), Ok(bytes)) if bytes & IS_BITMAP == 0 => Ok([start, bytes]),
            _ => {
                let found = format!("{} bytes", self.bytes.len());
                let expected = "at most 4 GiB of postings";
                Err(FormatError::malformed(PART, start as u64, expected, found))
            }
        }
    }

    /// As [`put`](Self::put), of rows that rise; equal bitmaps among those `stored` are
    /// added once.
    pub(super) fn put_once(
        &mut self,
        rows: &[u32],
        stored: &mut Stored,
    ) -> Result<[u32; 2], FormatError> {
        let end = self.bytes.len();
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok([0, 0]);
        };
        if (last - first) as usize == rows.len() - 1 {
            return Ok([*first, rows.len() as u32]);
        }
        let rows = RoaringBitmap::from_sorted_iter(rows.iter().copied());
        let mut rows = rows.map_err(|error| {
            FormatError::malformed(PART, end as u64, "rising rows", error.to_string())
        })?;
        let words = self.put_bitmap(&mut rows)?;
        let bytes = self.bytes.get(end..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(words);
        }
        // A hash, then a look at the bytes: two may share one.
        let hash = XxHash3_128::oneshot(bytes);
        let same = stored.get(&hash).copied();
        if let Some(same) = same.filter(|[start, length]| {
            matches!(Posting::of_words(*start, *length), Posting::Bitmap(range)
                if self.bytes.get(range.start as usize..range.end as usize) == Some(bytes))
        }) {
            self.bytes.truncate(end);
            return Ok(same);
        }
        stored.insert(hash, words);
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_bitmap_is_known_before_it_is_made() {
        // Rows of each run, and rows between two, from a row on.
        let shapes = [
            (0, 1, 1, 9),
            (65_500, 1, 1, 9_000),
            (65_500, 40, 3, 9_000),
            (3, 2, 5, 90_000),
            (131_000, 1, 70_000, 2),
            (131_000, 1, 70_000, 6),
            (9, 200_000, 1, 2),
            (65_536, 5, 1, 1),
            (65_530, 10, 1, 1),
        ];
        for shape in shapes {
            let (first, rows, between, runs) = shape;
            let starts = (0..runs).map(|run| first + run * (rows + between));
            let all: Vec<u32> = starts.flat_map(|start| start..start + rows).collect();
            let mut size = BitmapSize::default();
            let mut last = None;
            for container in all.chunk_by(|one, next| one >> 16 == next >> 16) {
                let runs = container.chunk_by(|one, next| one + 1 == *next).count() as u32;
                let goes_on = container.first().copied() == last;
                last = container.last().map(|last| last + 1);
                size.add(container.len() as u32, runs, runs - u32::from(goes_on));
            }
            let mut postings = PostingsBuilder::default();
            let posting = postings.put_once(&all, &mut Stored::new()).unwrap();
            assert_eq!(size.rows(), all.len() as u64);
            assert_eq!(size.bytes(), postings.bytes.len() as u64, "{shape:?}");
            let bytes = Bytes::from(postings.bytes);
            let read =
                |range: Range<u64>| Ok(bytes.slice(range.start as usize..range.end as usize));
            let [start, length] = posting;
            let found = Posting::of_words(start, length).rows(&(0..u32::MAX), &read);
            assert!(found.unwrap().iter().eq(all), "{shape:?}");
        }
    }
}
