//! All entries of a block, in their order.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::{Buf, Bytes};

use super::{HEAD_BYTES, Key, Layout, PART};
use crate::error::FormatError;
use crate::segment::postings::{POSTING_BYTES, Posting};

/// The entries of a block.
#[derive(Debug)]
pub struct Entries {
    /// By their hashes, of which the first bits are known; the others are zero.
    entries: Vec<(u64, Posting)>,
    bits: u32,
}

impl Entries {
    /// Those of a block of a partition with these rows; an empty block has none.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the block makes no sense.
    pub fn of(block: &Bytes, rows: &Range<u32>) -> Result<Self, FormatError> {
        if block.is_empty() {
            return Ok(Self {
                entries: Vec::new(),
                bits: u64::BITS,
            });
        }
        let malformed = || {
            let found = format!("a block of {} bytes", block.len());
            FormatError::malformed(PART, 0, "sorted entries within their block", found)
        };
        let layout = block.get(..HEAD_BYTES).and_then(Layout::decode);
        let layout = layout.ok_or_else(malformed)?;
        let bytes = |range: Range<u64>| {
            let (start, end) = (range.start.try_into().ok()?, range.end.try_into().ok()?);
            block.get(Range::<usize> { start, end })
        };
        let others = layout.entry_start(layout.entries);
        let ends = bytes(HEAD_BYTES as u64..layout.entries_start()).ok_or_else(malformed)?;
        let all = bytes(layout.entries_start()..others).ok_or_else(malformed)?;
        let key_bits = layout.key_bits();
        let mut buckets = ends.chunks(4).map(|mut end| end.get_u32_le());
        let mut bucket = 0u64;
        let mut bucket_end = buckets.next();
        let mut entries = Vec::with_capacity(layout.entries as usize);
        for (number, mut entry) in (0..).zip(all.chunks_exact(layout.entry_bytes as usize)) {
            while bucket_end.is_some_and(|end| end <= number) {
                bucket += 1;
                bucket_end = buckets.next();
            }
            let entry = entry.get_uint_le(layout.entry_bytes as usize);
            let key = entry >> (layout.start_bits + layout.length_bits);
            let of_bucket = bucket.checked_shl(64 - layout.bucket_bits).unwrap_or(0);
            let hash = of_bucket | key << (64 - key_bits) >> layout.bucket_bits;
            let posting = layout.posting(entry, rows, |at| {
                bytes(at..at + POSTING_BYTES as u64).ok_or_else(malformed)
            })?;
            entries.push((hash, posting));
        }
        if !entries.is_sorted_by_key(|(hash, _)| *hash) {
            return Err(malformed());
        }
        Ok(Self {
            entries,
            bits: (layout.bucket_bits + key_bits).min(u64::BITS),
        })
    }

    /// Entries of keys alone, in any order.
    pub fn of_keys(keys: impl IntoIterator<Item = Key>) -> Self {
        let keys = keys.into_iter().map(u64::from_be_bytes);
        let mut entries: Vec<(u64, Posting)> = keys.map(|key| (key, Posting::Run(0..0))).collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.dedup_by_key(|(key, _)| *key);
        Self {
            entries,
            bits: u64::BITS,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(u64, Posting)>()
    }

    /// The hashes, as far as they are known.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.entries.iter().map(|(hash, _)| hash.to_be_bytes())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Hands out the postings whose ids may be among those of the other, of either: all that
    /// are, each once, and hardly any other.
    ///
    /// # Errors
    /// What `found` answers.
    pub fn common<E>(
        &self,
        other: &Self,
        mut found: impl FnMut(Side<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let shift = u64::BITS - self.bits.min(other.bits);
        let key = |entry: &(u64, Posting)| entry.0.checked_shr(shift).unwrap_or(0);
        let (mut ones, mut others) = (
            self.entries.iter().peekable(),
            other.entries.iter().peekable(),
        );
        while let (Some(one), Some(two)) = (ones.peek(), others.peek()) {
            let (of_one, of_two) = (key(one), key(two));
            match of_one.cmp(&of_two) {
                Ordering::Less => drop(ones.next()),
                Ordering::Greater => drop(others.next()),
                Ordering::Equal => {
                    while let Some((_, posting)) = ones.next_if(|one| key(one) == of_one) {
                        found(Side::One(posting))?;
                    }
                    while let Some((_, posting)) = others.next_if(|two| key(two) == of_two) {
                        found(Side::Other(posting))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A posting of one of two blocks that are compared.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// Of the one.
    One(&'a Posting),
    /// Of the other.
    Other(&'a Posting),
}
