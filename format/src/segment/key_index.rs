//! The index of an id: sorted keys of 16 bytes, each with its rows.
//!
//! ```text
//! entry[count]: key [u8; 16], start u32, length u32     (24 bytes)
//! ```
//! Within a partition the entries are sorted by key and searched in place. An
//! entry whose length has its highest bit clear stands for one run of rows.
//! Else `start` is where in the postings a roaring bitmap lies (portable
//! format, <https://github.com/RoaringBitmap/RoaringFormatSpec>), and the other
//! 31 bits of `length` are its bytes.
//!
//! The key of a trace is its id. The key of a session is the XXH3 hash
//! (128 bits, seed 0) of its id, so two sessions may share one: a reader
//! compares the column `session_id` of the rows it finds.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use roaring::RoaringBitmap;
use twox_hash::XxHash3_128;

use crate::error::FormatError;

const ENTRY_BYTES: usize = 24;
const KEY_BYTES: usize = 16;
const IS_BITMAP: u32 = 1 << 31;
const PART: &str = "key index";

/// A key: a trace id, or the hash of a session id.
pub type Key = [u8; KEY_BYTES];

/// The key of a session id.
pub fn session_key(session: &str) -> Key {
    XxHash3_128::oneshot(session.as_bytes()).to_le_bytes()
}

/// Adds an entry for a key whose rows are one run.
pub(super) fn put_run(key: &Key, run: Range<u32>, index: &mut Vec<u8>) {
    index.put_slice(key);
    index.put_u32_le(run.start);
    index.put_u32_le(run.end - run.start);
}

/// Adds an entry for a key, and its bitmap to the postings unless its rows
/// are one run.
pub(super) fn put_rows(
    key: &Key,
    rows: &mut RoaringBitmap,
    index: &mut Vec<u8>,
    postings: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let mut ranges = rows.iter();
    if let Some(run) = ranges.next_range().filter(|_| ranges.next().is_none()) {
        put_run(key, *run.start()..run.end() + 1, index);
        return Ok(());
    }
    let start = postings.len();
    rows.optimize();
    rows.serialize_into(&mut *postings).map_err(|error| {
        FormatError::malformed("postings", start as u64, "a bitmap", error.to_string())
    })?;
    let bytes = postings.len() - start;
    match (u32::try_from(start), u32::try_from(bytes)) {
        (Ok(start), Ok(bytes)) if bytes & IS_BITMAP == 0 => {
            index.put_slice(key);
            index.put_u32_le(start);
            index.put_u32_le(bytes | IS_BITMAP);
            Ok(())
        }
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
pub fn find(
    key: &Key,
    partition: Range<u32>,
    read: impl Fn(Range<u64>) -> Result<Bytes, FormatError>,
) -> Result<Option<Posting>, FormatError> {
    let (mut low, mut high) = (u64::from(partition.start), u64::from(partition.end));
    while low < high {
        let middle = low.midpoint(high);
        let (found, posting) = entry(middle, &read)?;
        match found.cmp(key) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Ok(Some(posting)),
        }
    }
    Ok(None)
}

/// The entry at a place of the index.
///
/// # Errors
/// What `read` answers, and [`FormatError::Malformed`] when it hands out less.
pub fn entry(
    place: u64,
    read: impl Fn(Range<u64>) -> Result<Bytes, FormatError>,
) -> Result<(Key, Posting), FormatError> {
    let offset = place * ENTRY_BYTES as u64;
    let bytes = read(offset..offset + ENTRY_BYTES as u64)?;
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
    let posting = if length & IS_BITMAP == 0 {
        Posting::Run(start..start.saturating_add(length))
    } else {
        let start = u64::from(start);
        Posting::Bitmap(start..start + u64::from(length & !IS_BITMAP))
    };
    Ok((*key, posting))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

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
                put_rows(key, &mut rows.clone(), &mut index, &mut postings).unwrap();
            }
            let read = |range: Range<u64>| {
                Ok(Bytes::copy_from_slice(&index[range.start as usize..range.end as usize]))
            };
            let partition = 1..1 + entries.len() as u32;
            let model: BTreeMap<Key, RoaringBitmap> = entries.into_iter().collect();
            for key in model.keys().chain([&absent]) {
                let found = find(key, partition.clone(), read).unwrap().map(|posting| match posting {
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
    fn session_keys_never_change() {
        // The XXH3 specification's value for the empty input.
        assert_eq!(
            session_key(""),
            0x99aa_06d3_0147_98d8_6001_c324_468d_497f_u128.to_le_bytes()
        );
    }
}
