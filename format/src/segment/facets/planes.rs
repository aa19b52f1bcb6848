//! Bit planes: the codes of a partition's rows, bit by bit.
//!
//! ```text
//! end u32[chunks * planes] · pieces
//! ```
//! A chunk has those rows of the partition whose numbers have the same upper 16 bits,
//! extended to whole bytes: it begins and ends at row numbers that 8 divides. Each
//! chunk has a piece for each plane, that of the codes' lowest bit first. A piece that
//! has a bit for each row of the chunk has them in the order of the rows, the lowest
//! bit of a byte first. A shorter one is a list of u16: the rows, counted from the
//! chunk's first, whose bit is not that of the row before; before the first it is 0.
//! Ends count from the end of the last end.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use roaring::RoaringBitmap;

use super::decision::Decision;
use crate::error::FormatError;

const CHUNK_ROWS: u64 = 1 << 16;
/// A list is read more slowly than bits: it is written where it is this much shorter.
const LIST_SHARE: usize = 2;
const END_BYTES: u64 = 4;
/// Where one row in so many is asked for, each is looked up by itself.
const SPARSE_SHARE: u64 = 16;
const PART: &str = "bit planes";

/// The planes of a partition.
#[derive(Debug)]
pub(super) struct Planes {
    bytes: Bytes,
    rows: Range<u32>,
    count: usize,
    /// Where they stand, for errors.
    offset: u64,
}

/// Planes that so many codes need.
pub(super) fn planes_of(codes: usize) -> usize {
    codes.next_power_of_two().ilog2() as usize
}

/// The chunks of a partition: their rows, extended to whole bytes.
fn chunks(rows: &Range<u32>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (start, end) = (u64::from(rows.start), u64::from(rows.end));
    let last = if start < end {
        end.div_ceil(CHUNK_ROWS)
    } else {
        0
    };
    (start / CHUNK_ROWS..last).map(move |number| {
        let first = (number * CHUNK_ROWS).max(start / 8 * 8);
        first..((number + 1) * CHUNK_ROWS).min(end.next_multiple_of(8))
    })
}

/// The rows of a partition that are in one of its chunks.
fn rows_of(chunk: &Range<u64>, rows: &Range<u32>) -> Range<u64> {
    chunk.start.max(u64::from(rows.start))..chunk.end.min(u64::from(rows.end))
}

/// Planes of the codes of these rows.
pub(super) fn encode(codes: &[u8], rows: &Range<u32>, planes: usize) -> Vec<u8> {
    let (mut out, mut pieces) = (Vec::new(), Vec::new());
    let mut codes = codes;
    for chunk in chunks(rows) {
        let within = rows_of(&chunk, rows);
        let count = (within.end - within.start) as usize;
        let (now, later) = codes.split_at_checked(count).unwrap_or_default();
        codes = later;
        let mut of_chunk = vec![0; (within.start - chunk.start) as usize];
        of_chunk.extend_from_slice(now);
        of_chunk.resize((chunk.end - chunk.start) as usize, 0);
        for plane in 0..planes {
            let bits = pack(&of_chunk, plane);
            pieces.extend_from_slice(&changes(&bits).unwrap_or(bits));
            out.put_u32_le(pieces.len() as u32);
        }
    }
    out.extend_from_slice(&pieces);
    out
}

/// One bit of each code.
fn pack(codes: &[u8], plane: usize) -> Vec<u8> {
    let (eights, _) = codes.as_chunks::<8>();
    let byte = |codes: &[u8; 8]| {
        let bits = u64::from_le_bytes(*codes) >> plane & 0x0101_0101_0101_0101;
        // The bit of each byte goes to the highest one.
        (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    };
    eights.iter().map(byte).collect()
}

/// The list of changes, if it is shorter than the bits.
fn changes(bits: &[u8]) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    let mut last = 0;
    for (number, byte) in bits.iter().enumerate() {
        let mut changed = byte ^ (byte << 1 | last);
        last = byte >> 7;
        while changed != 0 {
            list.put_u16_le((number * 8) as u16 + changed.trailing_zeros() as u16);
            changed &= changed - 1;
        }
        if list.len() > bits.len() / LIST_SHARE {
            return None;
        }
    }
    Some(list)
}

impl Planes {
    /// Takes planes that stand at `offset` of the postings.
    pub(super) fn new(bytes: Bytes, rows: Range<u32>, count: usize, offset: u64) -> Self {
        Self {
            bytes,
            rows,
            count,
            offset,
        }
    }

    /// How many planes there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn malformed(&self, expected: &str) -> FormatError {
        let found = format!("{} bytes", self.bytes.len());
        FormatError::malformed(PART, self.offset, expected, found)
    }

    /// The rows whose codes are wanted.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense.
    pub(super) fn rows(&self, wanted: &Decision) -> Result<RoaringBitmap, FormatError> {
        let mut found = RoaringBitmap::new();
        for (number, chunk) in chunks(&self.rows).enumerate() {
            found |= self.rows_within(number, &chunk, wanted)?;
        }
        Ok(found)
    }

    /// Those with these upper 16 bits.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense.
    pub(super) fn rows_of_chunk(
        &self,
        upper: u32,
        wanted: &Decision,
    ) -> Result<RoaringBitmap, FormatError> {
        let upper = u64::from(upper);
        let mut chunks = chunks(&self.rows).enumerate();
        let found = chunks.find(|(_, chunk)| chunk.start / CHUNK_ROWS == upper);
        match found {
            Some((number, chunk)) => self.rows_within(number, &chunk, wanted),
            None => Ok(RoaringBitmap::new()),
        }
    }

    fn rows_within(
        &self,
        chunk_number: usize,
        chunk: &Range<u64>,
        wanted: &Decision,
    ) -> Result<RoaringBitmap, FormatError> {
        let bits = self.bits(chunk_number, chunk, |plane| wanted.asks(plane))?;
        let bits: Vec<&[u8]> = bits.iter().map(AsRef::as_ref).collect();
        let bits = wanted.evaluate(&bits, bytes_of(chunk));
        let rows = rows_of(chunk, &self.rows);
        let mut found = RoaringBitmap::new();
        // Many rows at once, so that rows that a directory makes up take no memory.
        if bits.iter().all(|byte| *byte == u8::MAX) {
            found.insert_range(rows.start as u32..=(rows.end - 1) as u32);
        } else if bits.iter().any(|byte| *byte != 0) {
            found = RoaringBitmap::from_lsb0_bytes(chunk.start as u32, &bits);
            found.remove_range(chunk.start as u32..rows.start as u32);
            if rows.end < chunk.end {
                found.remove_range(rows.end as u32..=(chunk.end - 1) as u32);
            }
        }
        Ok(found)
    }

    /// Of some rows, how many have each code.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the bytes make no sense.
    pub(super) fn counts(&self, rows: &RoaringBitmap) -> Result<[u64; 256], FormatError> {
        let mut counts = [0; 256];
        for (number, chunk) in chunks(&self.rows).enumerate() {
            let within = rows_of(&chunk, &self.rows);
            let within = within.start as u32..=(within.end - 1) as u32;
            let found = rows.range_cardinality(within.clone());
            if found == 0 {
                continue;
            }
            let places = rows.range(within);
            let places = places.map(|row| (u64::from(row) - chunk.start) as usize);
            let mut add = |code: u8| {
                if let Some(count) = counts.get_mut(usize::from(code)) {
                    *count += 1;
                }
            };
            let bits = self.bits(number, &chunk, |_| true)?;
            if found * SPARSE_SHARE < chunk.end - chunk.start {
                for place in places {
                    let code = bits.iter().rev().fold(0, |code, bits| {
                        let byte = bits.get(place / 8).copied().unwrap_or_default();
                        code << 1 | (byte >> (place % 8) & 1)
                    });
                    add(code);
                }
                continue;
            }
            let mut codes = vec![0u64; bytes_of(&chunk)];
            for (plane, bits) in bits.iter().enumerate() {
                for (codes, byte) in codes.iter_mut().zip(bits.iter()) {
                    *codes |= spread(*byte) << plane;
                }
            }
            if found == chunk.end - chunk.start {
                for codes in codes.iter().flat_map(|codes| codes.to_le_bytes()) {
                    add(codes);
                }
                continue;
            }
            for place in places {
                let codes = codes.get(place / 8).copied().unwrap_or_default();
                add((codes >> (place % 8 * 8)) as u8);
            }
        }
        Ok(counts)
    }

    /// The bits of a chunk in each plane; none of planes that are not asked for.
    fn bits(
        &self,
        chunk_number: usize,
        chunk: &Range<u64>,
        is_asked: impl Fn(usize) -> bool,
    ) -> Result<Vec<Cow<'_, [u8]>>, FormatError> {
        let bits = (0..self.count).map(|plane| {
            if !is_asked(plane) {
                return Ok(Cow::Borrowed(&[][..]));
            }
            let piece = self.piece(chunk_number * self.count + plane)?;
            if piece.len() == bytes_of(chunk) {
                return Ok(Cow::Borrowed(piece));
            }
            let bits = unlist(piece, bytes_of(chunk));
            let bits = bits.ok_or_else(|| self.malformed("rows of the chunk, rising"))?;
            Ok(Cow::Owned(bits))
        });
        bits.collect()
    }

    fn piece(&self, number: usize) -> Result<&[u8], FormatError> {
        let pieces = chunks(&self.rows).size_hint().0 * self.count * END_BYTES as usize;
        let end = |number: usize| {
            let at = number * END_BYTES as usize;
            let mut end = self.bytes.get(at..at + END_BYTES as usize)?;
            pieces.checked_add(end.get_u32_le() as usize)
        };
        let start = match number.checked_sub(1) {
            None => Some(pieces),
            Some(before) => end(before),
        };
        let piece = start.zip(end(number));
        piece
            .and_then(|(start, end)| self.bytes.get(start..end))
            .ok_or_else(|| self.malformed("a piece within the planes"))
    }
}

/// Bytes of the bits of a chunk's rows.
fn bytes_of(chunk: &Range<u64>) -> usize {
    ((chunk.end - chunk.start) / 8) as usize
}

/// The bits of a byte, each in a byte of its own.
fn spread(byte: u8) -> u64 {
    // The first seven bits, each copy a place further; the eighth has no room there.
    let low = u64::from(byte & 0x7f).wrapping_mul(0x0002_0408_1020_4081);
    (low & 0x0101_0101_0101_0101) | u64::from(byte >> 7) << 56
}

/// The bits that a list of changes stands for.
fn unlist(mut list: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut bits = vec![0; bytes];
    let rows = bytes * 8;
    let mut last = None;
    while list.len() >= 2 {
        let start = usize::from(list.get_u16_le());
        let end = if list.is_empty() {
            rows
        } else {
            usize::from(list.try_get_u16_le().ok()?)
        };
        if last.is_some_and(|last| start <= last) || start >= end || end > rows {
            return None;
        }
        last = Some(end);
        set(&mut bits, start..end);
    }
    list.is_empty().then_some(bits)
}

/// Sets some bits to 1.
fn set(bits: &mut [u8], rows: Range<usize>) {
    let (first, last) = (rows.start / 8, (rows.end - 1) / 8);
    let from_first = u8::MAX << (rows.start % 8);
    let to_last = u8::MAX >> (7 - (rows.end - 1) % 8);
    let Some(bytes) = bits.get_mut(first..=last) else {
        return;
    };
    match bytes {
        [byte] => *byte |= from_first & to_last,
        [first, between @ .., last] => {
            *first |= from_first;
            between.fill(u8::MAX);
            *last |= to_last;
        }
        [] => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roaring::MultiOps;

    use super::*;

    fn codes() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![1usize..4, 1usize..300, 1usize..20_000];
        let runs = prop::collection::vec((0u8..128, length), 1..40);
        runs.prop_map(|runs| {
            let runs = runs.into_iter();
            runs.flat_map(|(code, length)| std::iter::repeat_n(code, length))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn codes_come_back(
            codes in codes(),
            first in prop_oneof![Just(0u32), 0u32..200_000],
            wanted in any::<u128>(),
        ) {
            let rows = first..first + codes.len() as u32;
            let bytes = Bytes::from(encode(&codes, &rows, 7));
            let planes = Planes::new(bytes.clone(), rows.clone(), 7, 0);
            let is_wanted: Vec<bool> = (0..128).map(|code| wanted >> code & 1 == 1).collect();
            let expected: RoaringBitmap = rows
                .clone()
                .zip(&codes)
                .filter(|(_, code)| is_wanted[usize::from(**code)])
                .map(|(row, _)| row)
                .collect();
            let decision = Decision::of(&is_wanted);
            prop_assert_eq!(planes.rows(&decision), Ok(expected.clone()));
            let chunks = (0..8).map(|chunk| planes.rows_of_chunk(chunk, &decision).unwrap());
            prop_assert_eq!(chunks.union(), expected.clone());
            let mut counts = [0; 256];
            for row in &expected {
                counts[usize::from(codes[(row - first) as usize])] += 1;
            }
            prop_assert_eq!(planes.counts(&expected), Ok(counts));
            // Cut bytes are an error.
            let cut = Planes::new(bytes.slice(..bytes.len() - 1), rows, 7, 0);
            prop_assert!(cut.counts(&(first..first + codes.len() as u32).collect()).is_err());
        }

        #[test]
        fn any_bytes_are_rows_or_an_error(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(2), any::<u8>()], 0..300),
            first in 65_500u32..65_600,
            count in 1u32..200,
            planes in 1usize..4,
        ) {
            let rows = first..first + count;
            let planes = Planes::new(bytes.into(), rows.clone(), planes, 0);
            let wanted = Decision::of(&[false, true, true, false, true, false, false, true]);
            if let Ok(found) = planes.rows(&wanted) {
                prop_assert!(found.iter().all(|row| rows.contains(&row)));
            }
            drop(planes.counts(&rows.collect()));
        }
    }

    #[test]
    fn bits_are_spread_and_packed() {
        for byte in 0..=u8::MAX {
            let codes = spread(byte).to_le_bytes();
            let bits = (0..8).map(|bit| byte >> bit & 1);
            assert!(codes.into_iter().eq(bits));
            assert_eq!(pack(&codes, 0), [byte]);
        }
    }
}
