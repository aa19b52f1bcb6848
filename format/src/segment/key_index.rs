//! The index of an id: sorted keys of 8 bytes, each with its rows.
//!
//! ```text
//! entry[count]: key [u8; 8], start u32, length u32     (16 bytes)
//! ```
//! Within a partition the entries are sorted by key and searched in place. An
//! entry whose length has its highest bit clear stands for one run of rows.
//! Else `start` is where in the postings a roaring bitmap lies (portable
//! format, <https://github.com/RoaringBitmap/RoaringFormatSpec>), and the other
//! 31 bits of `length` are its bytes.
//!
//! The key of an id is the XXH3 hash (64 bits, seed 0, big-endian) of its bytes,
//! so two ids may share one: a reader compares the column of the rows that it
//! finds. Hashes lie evenly, so a search guesses where a key stands
//! (interpolation search, Perl, Itai and Avni 1978) and needs few steps.

use std::ops::Range;

use bytes::{Buf, BufMut};
use roaring::RoaringBitmap;
use twox_hash::XxHash3_64;

use crate::error::FormatError;

const ENTRY_BYTES: usize = 16;
const KEY_BYTES: usize = 8;
const IS_BITMAP: u32 = 1 << 31;
const PART: &str = "key index";

/// The hash of an id.
pub type Key = [u8; KEY_BYTES];

/// The key of a trace id, or of the text of a session or request id.
pub fn key_of(id: &[u8]) -> Key {
    XxHash3_64::oneshot(id).to_be_bytes()
}

/// Rows on their way to a posting. Most ids have one run of rows, and there are
/// many ids: those take no bitmap.
#[derive(Debug, Clone)]
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
                let mut bitmap = RoaringBitmap::new();
                bitmap.insert_range(rows.clone());
                bitmap.insert_range(run);
                *self = Self::Bitmap(Box::new(bitmap));
            }
            Self::Bitmap(bitmap) => {
                bitmap.insert_range(run);
            }
        }
    }
}

/// Adds an entry for a key, and its bitmap to the postings unless its rows
/// are one run.
pub(super) fn put_rows(
    key: Key,
    rows: RowSet,
    index: &mut Vec<u8>,
    postings: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let (start, length) = match rows {
        RowSet::Run(run) => (run.start, run.end - run.start),
        RowSet::Bitmap(mut rows) => put_posting(&mut rows, postings)?,
    };
    index.put_slice(&key);
    index.put_u32_le(start);
    index.put_u32_le(length);
    Ok(())
}

/// The two words that stand for some rows: a run, or the place of a bitmap
/// that is added to the postings.
pub(super) fn put_posting(
    rows: &mut RoaringBitmap,
    postings: &mut Vec<u8>,
) -> Result<(u32, u32), FormatError> {
    let mut ranges = rows.iter();
    if let Some(run) = ranges.next_range().filter(|_| ranges.next().is_none()) {
        return Ok((*run.start(), run.end() + 1 - run.start()));
    }
    let start = postings.len();
    rows.optimize();
    rows.serialize_into(&mut *postings).map_err(|error| {
        FormatError::malformed("postings", start as u64, "a bitmap", error.to_string())
    })?;
    let bytes = postings.len() - start;
    match (u32::try_from(start), u32::try_from(bytes)) {
        (Ok(start), Ok(bytes)) if bytes & IS_BITMAP == 0 => Ok((start, bytes | IS_BITMAP)),
        _ => Err(FormatError::malformed(
            "postings",
            start as u64,
            "at most 4 GiB of postings",
            format!("{} bytes", postings.len()),
        )),
    }
}

/// Where the rows of a key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posting {
    /// In one run of rows.
    Run(Range<u32>),
    /// In a bitmap, at this range of the postings.
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

    /// Reads the bitmap of a posting.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes are not one bitmap.
    pub fn decode_bitmap(bytes: &[u8], offset: u64) -> Result<RoaringBitmap, FormatError> {
        RoaringBitmap::deserialize_from(bytes).map_err(|error| {
            FormatError::malformed("postings", offset, "a roaring bitmap", error.to_string())
        })
    }
}

/// Finds a key among the entries `partition`. `read` hands out bytes of the
/// index by their range; only those that the search needs are asked for.
///
/// # Errors
/// What `read` answers, and [`FormatError::Malformed`] when it hands out less.
pub fn find<B: AsRef<[u8]>>(
    key: Key,
    partition: Range<u32>,
    read: impl Fn(Range<u64>) -> Result<B, FormatError>,
) -> Result<Option<Posting>, FormatError> {
    let wanted = u64::from_be_bytes(key);
    let (mut low, mut high) = (u64::from(partition.start), u64::from(partition.end));
    // All keys of the entries `low..high` lie within these.
    let (mut least, mut most) = (0, u64::MAX);
    for step in 0u32.. {
        if low >= high || wanted < least || wanted > most {
            break;
        }
        // Every third step halves, so that keys that lie unevenly cost a
        // logarithm too.
        let place = if step % 3 == 2 || most == least {
            low.midpoint(high)
        } else {
            let part = u128::from(wanted - least) * u128::from(high - low);
            low + ((part / (u128::from(most - least) + 1)) as u64).min(high - low - 1)
        };
        let (found, posting) = entry(place, &read)?;
        let found = u64::from_be_bytes(found);
        match found.cmp(&wanted) {
            std::cmp::Ordering::Less => (low, least) = (place + 1, found),
            std::cmp::Ordering::Greater => (high, most) = (place, found),
            std::cmp::Ordering::Equal => return Ok(Some(posting)),
        }
    }
    Ok(None)
}

/// The entry at a place of the index.
///
/// # Errors
/// What `read` answers, and [`FormatError::Malformed`] when it hands out less.
pub fn entry<B: AsRef<[u8]>>(
    place: u64,
    read: impl Fn(Range<u64>) -> Result<B, FormatError>,
) -> Result<(Key, Posting), FormatError> {
    let offset = place * ENTRY_BYTES as u64;
    let bytes = read(offset..offset + ENTRY_BYTES as u64)?;
    let bytes = bytes.as_ref();
    let malformed = || {
        let found = format!("{} bytes", bytes.len());
        FormatError::malformed(PART, offset, format!("{ENTRY_BYTES} bytes"), found)
    };
    let (key, mut rows) = bytes
        .split_first_chunk::<KEY_BYTES>()
        .ok_or_else(malformed)?;
    if rows.len() != ENTRY_BYTES - KEY_BYTES {
        return Err(malformed());
    }
    let (start, length) = (rows.get_u32_le(), rows.get_u32_le());
    Ok((*key, Posting::of_words(start, length)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ranges(rows: &RoaringBitmap) -> Vec<Range<u32>> {
        let mut rows = rows.iter();
        std::iter::from_fn(|| rows.next_range())
            .map(|range| *range.start()..range.end() + 1)
            .collect()
    }

    proptest! {
        #[test]
        fn finds_what_a_map_finds(
            rows in proptest::collection::btree_map(
                any::<Key>(),
                proptest::collection::btree_set(0u32..200_000, 1..50),
                0..40,
            ),
            absent in any::<Key>(),
        ) {
            let entries: Vec<_> = rows
                .iter()
                .map(|(key, rows)| (*key, rows.iter().copied().collect::<RoaringBitmap>()))
                .collect();
            let (mut index, mut postings) = (vec![0; ENTRY_BYTES], Vec::new());
            for (key, rows) in &entries {
                let mut runs = ranges(rows).into_iter();
                let mut set = RowSet::Run(runs.next().unwrap());
                runs.for_each(|run| set.add(run));
                put_rows(*key, set, &mut index, &mut postings).unwrap();
            }
            let read = |range: Range<u64>| {
                Ok(&index[range.start as usize..range.end as usize])
            };
            let partition = 1..1 + entries.len() as u32;
            let model: BTreeMap<Key, RoaringBitmap> = entries.into_iter().collect();
            for key in model.keys().chain([&absent]) {
                let found = find(*key, partition.clone(), read).unwrap().map(|posting| match posting {
                    Posting::Run(run) => run.collect::<RoaringBitmap>(),
                    Posting::Bitmap(range) => {
                        let bytes = &postings[range.start as usize..range.end as usize];
                        Posting::decode_bitmap(bytes, 0).unwrap()
                    }
                });
                prop_assert_eq!(found.as_ref(), model.get(key));
            }
        }
    }

    #[test]
    fn keys_never_change() {
        // The XXH3 specification's value for the empty input.
        assert_eq!(key_of(b""), 0x2d06_8005_38d3_94c2_u64.to_be_bytes());
    }
}
