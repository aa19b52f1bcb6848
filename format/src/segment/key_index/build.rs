//! Makes the block of a partition.

use std::ops::Range;

use bytes::BufMut;

use super::{Key, Layout, MOST_ENTRY_BYTES, MOST_LENGTH_BITS};
use crate::error::FormatError;
use crate::segment::postings::{POSTING_BYTES, PostingsBuilder, RowSet};

/// Entries that a bucket has at least, on average.
const BUCKET_ENTRIES: usize = 16;
/// Of 2 to the power of this many ids that are not there, about one finds rows.
const ABSENT_BITS: u32 = 16;

/// The block of a partition with these rows: runs of its rows with the hash of the id
/// that they have, in any order. Bitmaps go to the postings. Without runs it is empty.
///
/// # Errors
/// [`FormatError::Malformed`] when the postings would exceed 4 GiB.
pub(in crate::segment) fn encode(
    runs: Vec<(Key, Range<u32>)>,
    rows: &Range<u32>,
    postings: &mut PostingsBuilder,
) -> Result<Vec<u8>, FormatError> {
    let sets = by_key(runs);
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let layout = Layout::of(&sets, rows);
    let mut entries: Vec<((u64, u64), RowSet)> = Vec::with_capacity(sets.len());
    for (key, rows) in sets {
        let key = layout.bucket_and_key(key);
        match entries.last_mut() {
            Some((last, united)) if *last == key => united.unite(rows),
            _ => entries.push((key, rows)),
        }
    }
    let layout = Layout {
        entries: entries.len() as u32,
        ..layout
    };
    let mut out = layout.encode();
    let mut end = 0;
    for bucket in 0..(1 << layout.bucket_bits) - 1 {
        let after = entries.get(end..).unwrap_or_default();
        end += after.partition_point(|((of, _), _)| *of <= bucket);
        out.put_u32_le(end as u32);
    }
    let mut others = Vec::new();
    for ((_, key), set) in entries {
        let (start, length) = match set {
            RowSet::Run(run) if run.len() >> layout.length_bits == 0 => {
                (run.start - rows.start, run.len() as u64)
            }
            set => {
                let number = others.len() / POSTING_BYTES;
                for word in postings.put(set)? {
                    others.put_u32_le(word);
                }
                (number as u32, 0)
            }
        };
        let key_and_start = key << layout.start_bits | u64::from(start);
        let entry = key_and_start << layout.length_bits | length;
        out.put_uint_le(entry, layout.entry_bytes as usize);
    }
    out.extend_from_slice(&others);
    Ok(out)
}

/// The rows of each key. Most have one run.
fn by_key(mut runs: Vec<(Key, Range<u32>)>) -> Vec<(Key, RowSet)> {
    runs.sort_unstable_by_key(|(key, run)| (*key, run.start));
    let mut sets: Vec<(Key, RowSet)> = Vec::with_capacity(runs.len());
    for (key, run) in runs {
        match sets.last_mut() {
            Some((last, rows)) if *last == key => rows.add(run),
            _ => sets.push((key, RowSet::Run(run))),
        }
    }
    sets
}

impl Layout {
    /// The layout that takes the fewest bytes.
    fn of(sets: &[(Key, RowSet)], rows: &Range<u32>) -> Self {
        let bucket_bits = (sets.len() / BUCKET_ENTRIES).checked_ilog2().unwrap_or(0);
        let bits = |most: usize| usize::BITS - most.leading_zeros();
        let key_bits = ABSENT_BITS + bits(sets.len() >> bucket_bits);
        let start_bits = bits(rows.len().saturating_sub(1));
        // How many runs have a length of so many bits; the last are all other sets.
        let mut lengths = [0; MOST_LENGTH_BITS as usize + 2];
        for (_, set) in sets {
            let bits = match set {
                RowSet::Run(run) => bits(run.len()).min(MOST_LENGTH_BITS + 1),
                RowSet::Bitmap(_) => MOST_LENGTH_BITS + 1,
            };
            if let Some(count) = lengths.get_mut(bits as usize) {
                *count += 1;
            }
        }
        let entry_bytes = |length_bits: u32| {
            (key_bits + start_bits + length_bits)
                .div_ceil(8)
                .min(MOST_ENTRY_BYTES)
        };
        let bytes = |length_bits: &u32| {
            let others = lengths
                .iter()
                .skip(*length_bits as usize + 1)
                .sum::<usize>();
            sets.len() * entry_bytes(*length_bits) as usize + others * POSTING_BYTES
        };
        let length_bits = (0..=MOST_LENGTH_BITS).min_by_key(bytes).unwrap_or(0);
        Self {
            entries: sets.len() as u32,
            bucket_bits,
            start_bits,
            length_bits,
            entry_bytes: entry_bytes(length_bits),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut head = Vec::new();
        head.put_u32_le(self.entries);
        for width in [
            self.bucket_bits,
            self.start_bits,
            self.length_bits,
            self.entry_bytes,
        ] {
            head.put_u8(width as u8);
        }
        head
    }
}
