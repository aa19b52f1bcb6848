//! The index of an id: sorted keys with the rows of each, a block for each
//! partition.
//!
//! ```text
//! block: entries u32, bucket bits u8, start bits u8, length bits u8, entry bytes u8,
//!        bucket end u32[2^bucket bits - 1], entry[entries], posting[...]
//! entry: a number of `entry bytes` bytes; from its highest bit: key, start, length
//! ```
//! The hash of an id is the XXH3 (64 bits, seed 0) of its bytes. Its first `bucket
//! bits` bits are the number of its bucket, those that follow are the key of its entry:
//! as many as the entry has room for. The entries are sorted by bucket and key. A
//! bucket ends before the entry whose number is its end; the last one ends with
//! the entries.
//!
//! An entry whose length is not 0 has that many rows, of which `start` is the first,
//! counted from the partition's first. Else `start` is the number of a
//! [posting](super::postings) behind the entries.
//!
//! Buckets are small, so a look-up reads a few neighbouring entries. Two ids may
//! have the same bits: a reader compares the column of the rows that it finds. Keys
//! are so long that an id which is not there finds rows hardly ever.

pub(super) mod build;
mod entries;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Buf;
use twox_hash::XxHash3_64;

use super::postings::{POSTING_BYTES, Posting};
use crate::error::FormatError;

pub use entries::{Entries, Side};

const KEY_BYTES: usize = 8;
const HEAD_BYTES: usize = 8;
const BUCKET_BYTES: u64 = 4;
const MOST_BUCKET_BITS: u32 = 32;
const MOST_START_BITS: u32 = 32;
const MOST_LENGTH_BITS: u32 = 8;
const MOST_ENTRY_BYTES: u32 = 8;
const PART: &str = "key index";

/// The hash of an id.
pub type Key = [u8; KEY_BYTES];

/// The key of a trace id, or of the text of a session or request id.
pub fn key_of(id: &[u8]) -> Key {
    XxHash3_64::oneshot(id).to_be_bytes()
}

/// What the head of a block says.
#[derive(Debug, Clone, Copy)]
struct Layout {
    entries: u32,
    bucket_bits: u32,
    start_bits: u32,
    length_bits: u32,
    entry_bytes: u32,
}

impl Layout {
    fn decode(mut head: &[u8]) -> Option<Self> {
        if head.len() != HEAD_BYTES {
            return None;
        }
        let entries = head.get_u32_le();
        let [bucket_bits, start_bits, length_bits, entry_bytes] =
            std::array::from_fn(|_| u32::from(head.get_u8()));
        let is_possible = bucket_bits <= MOST_BUCKET_BITS
            && start_bits <= MOST_START_BITS
            && length_bits <= MOST_LENGTH_BITS
            && entry_bytes <= MOST_ENTRY_BYTES
            && start_bits + length_bits < entry_bytes * 8;
        is_possible.then_some(Self {
            entries,
            bucket_bits,
            start_bits,
            length_bits,
            entry_bytes,
        })
    }

    /// The number of the bucket of a hash, and its key in the bucket.
    fn bucket_and_key(&self, hash: Key) -> (u64, u64) {
        let hash = u64::from_be_bytes(hash);
        let key_bits = self.key_bits();
        let bucket = hash.checked_shr(64 - self.bucket_bits).unwrap_or(0);
        (bucket, hash << self.bucket_bits >> (64 - key_bits))
    }

    /// Bits of the key of an entry.
    fn key_bits(&self) -> u32 {
        self.entry_bytes * 8 - self.start_bits - self.length_bits
    }

    /// The posting of an entry of a partition with these rows; `read` hands out those behind
    /// the entries.
    fn posting<B: AsRef<[u8]>>(
        &self,
        entry: u64,
        rows: &Range<u32>,
        read: impl Fn(u64) -> Result<B, FormatError>,
    ) -> Result<Posting, FormatError> {
        let start = entry >> self.length_bits & ((1 << self.start_bits) - 1);
        let length = entry & ((1 << self.length_bits) - 1);
        if length == 0 {
            let words = read(self.entry_start(self.entries) + start * POSTING_BYTES as u64)?;
            let mut words = words.as_ref();
            return Ok(Posting::of_words(words.get_u32_le(), words.get_u32_le()));
        }
        // Both are numbers of at most 32 bits.
        let start = rows.start.saturating_add(start as u32);
        Ok(Posting::Run(start..start.saturating_add(length as u32)))
    }

    /// Where the entries begin in the block.
    fn entries_start(&self) -> u64 {
        HEAD_BYTES as u64 + ((1 << self.bucket_bits) - 1) * BUCKET_BYTES
    }

    /// Where an entry begins in the block.
    fn entry_start(&self, number: u32) -> u64 {
        self.entries_start() + u64::from(number) * u64::from(self.entry_bytes)
    }
}

/// Finds a key in a block of so many bytes, of a partition with these rows. `read`
/// hands out a range of the block; only what the search needs is asked for.
///
/// # Errors
/// What `read` answers, and [`FormatError::Malformed`] when the block makes no sense.
pub fn find<B: AsRef<[u8]>>(
    key: Key,
    rows: &Range<u32>,
    block_bytes: u64,
    read: impl Fn(Range<u64>) -> Result<B, FormatError>,
) -> Result<Option<Posting>, FormatError> {
    let malformed = |at: u64, expected: &str| {
        let found = format!("a block of {block_bytes} bytes");
        FormatError::malformed(PART, at, expected, found)
    };
    let bytes = |range: Range<u64>| {
        if range.end > block_bytes {
            return Err(malformed(range.start, "bytes within the block"));
        }
        let bytes = read(range.clone())?;
        if bytes.as_ref().len() as u64 != range.end - range.start {
            return Err(malformed(range.start, "all bytes of the block"));
        }
        Ok(bytes)
    };
    if block_bytes == 0 {
        return Ok(None);
    }
    let layout = Layout::decode(bytes(0..HEAD_BYTES as u64)?.as_ref());
    let layout = layout.ok_or_else(|| malformed(0, "widths of entries"))?;
    let (bucket, key) = layout.bucket_and_key(key);
    let entries = bucket_entries(&layout, bucket, &bytes)?;
    if entries.start > entries.end || entries.end > layout.entries {
        return Err(malformed(HEAD_BYTES as u64, "buckets one after the other"));
    }
    let found = bytes(layout.entry_start(entries.start)..layout.entry_start(entries.end))?;
    let Some(entry) = search(&layout, found.as_ref(), key) else {
        return Ok(None);
    };
    let posting = layout.posting(entry, rows, |at| bytes(at..at + POSTING_BYTES as u64));
    posting.map(Some)
}

/// The entries of a bucket, by their numbers.
fn bucket_entries<B: AsRef<[u8]>>(
    layout: &Layout,
    bucket: u64,
    bytes: &impl Fn(Range<u64>) -> Result<B, FormatError>,
) -> Result<Range<u32>, FormatError> {
    let ends = (1 << layout.bucket_bits) - 1;
    let first = bucket.saturating_sub(1);
    let last = (bucket + 1).min(ends);
    let at = |number: u64| HEAD_BYTES as u64 + number * BUCKET_BYTES;
    let found = bytes(at(first)..at(last))?;
    let mut found = found.as_ref();
    let start = if bucket == 0 { 0 } else { found.get_u32_le() };
    let end = if bucket == ends {
        layout.entries
    } else {
        found.get_u32_le()
    };
    Ok(start..end)
}

/// The entry of a key among those of a bucket.
fn search(layout: &Layout, entries: &[u8], key: u64) -> Option<u64> {
    let width = layout.entry_bytes as usize;
    let (mut low, mut high) = (0, entries.len() / width);
    while low < high {
        let middle = low.midpoint(high);
        let mut entry = entries.get(middle * width..)?.get(..width)?;
        let entry = entry.get_uint_le(width);
        match (entry >> (layout.start_bits + layout.length_bits)).cmp(&key) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(entry),
        }
    }
    None
}
