//! Parquet's hybrid of run lengths and packed bits
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>), read
//! at any place: what lies before is skipped run by run.

use std::ops::Range;

use crate::wire::take_varint;

/// A run of values.
#[derive(Debug, Clone, Copy)]
enum Run<'a> {
    Repeated(u32),
    Packed(&'a [u8]),
}

/// Calls `take` with each run and the numbers of its values, as long as it
/// answers that it wants more; none when the bytes make no sense.
fn runs<'a>(
    mut bytes: &'a [u8],
    bit_width: u32,
    mut take: impl FnMut(Run<'a>, Range<usize>) -> bool,
) -> Option<()> {
    let mut start = 0usize;
    while !bytes.is_empty() {
        let header = take_varint(&mut bytes)?;
        let count = usize::try_from(header >> 1).ok()?;
        let (run, values) = if header & 1 == 1 {
            let length = count.checked_mul(bit_width as usize)?;
            // The last run of a page may be cut.
            let (packed, rest) = bytes.split_at(length.min(bytes.len()));
            bytes = rest;
            (Run::Packed(packed), count.checked_mul(8)?)
        } else {
            let (value, rest) = bytes.split_at_checked(bit_width.div_ceil(8) as usize)?;
            bytes = rest;
            let value = value
                .iter()
                .rev()
                .fold(0u32, |value, byte| value << 8 | u32::from(*byte));
            (Run::Repeated(value), count)
        };
        let end = start.checked_add(values)?;
        if values > 0 && !take(run, start..end) {
            break;
        }
        start = end;
    }
    Some(())
}

/// The value at a place of packed bits.
fn packed(bytes: &[u8], bit_width: u32, place: usize) -> Option<u32> {
    let bit = place * bit_width as usize;
    let mut word = 0u64;
    for (shift, byte) in bytes.get(bit / 8..)?.iter().take(5).enumerate() {
        word |= u64::from(*byte) << (shift * 8);
    }
    let mask = (1u64 << bit_width) - 1;
    Some(((word >> (bit % 8)) & mask) as u32)
}

const EIGHT: usize = 8;

/// Eight values of packed bits from a place on that eight divides: they are as many bytes
/// as a value has bits. None for wide ones, and near the end.
fn eight(bytes: &[u8], width: usize, place: usize) -> Option<[u32; EIGHT]> {
    let group = bytes.get(place / EIGHT * width..)?;
    match width {
        1..=8 => {
            let (word, mask) = (u64::from_le_bytes(*group.first_chunk()?), (1 << width) - 1);
            Some(std::array::from_fn(|number| {
                (word >> (number * width) & mask) as u32
            }))
        }
        9..=16 => {
            let (word, mask) = (u128::from_le_bytes(*group.first_chunk()?), (1 << width) - 1);
            Some(std::array::from_fn(|number| {
                (word >> (number * width) & mask) as u32
            }))
        }
        _ => None,
    }
}

/// Adds the values at some places of packed bits, eight by eight where they are whole.
fn unpack(bytes: &[u8], bit_width: u32, wanted: Range<usize>, values: &mut Vec<u32>) -> Option<()> {
    let mut place = wanted.start;
    while place < wanted.end && !place.is_multiple_of(EIGHT) {
        values.push(packed(bytes, bit_width, place)?);
        place += 1;
    }
    while wanted.end.saturating_sub(place) >= EIGHT
        && let Some(values_of_group) = eight(bytes, bit_width as usize, place)
    {
        values.extend_from_slice(&values_of_group);
        place += EIGHT;
    }
    // What is left are wider ones, and those at the end of the page.
    for place in place..wanted.end {
        values.push(packed(bytes, bit_width, place)?);
    }
    Some(())
}

/// Adds the values of a range.
pub(crate) fn read(
    bytes: &[u8],
    bit_width: u32,
    wanted: Range<usize>,
    values: &mut Vec<u32>,
) -> Option<()> {
    if bit_width > 32 {
        return None;
    }
    let before = values.len();
    let mut is_whole = true;
    runs(bytes, bit_width, |run, numbers| {
        let range = wanted.start.max(numbers.start)..wanted.end.min(numbers.end);
        match run {
            Run::Repeated(value) if !range.is_empty() => {
                values.extend(std::iter::repeat_n(value, range.len()));
            }
            Run::Packed(bytes) => {
                let range = range.start - numbers.start..range.end.max(range.start) - numbers.start;
                is_whole &= unpack(bytes, bit_width, range, values).is_some();
            }
            Run::Repeated(_) => {}
        }
        numbers.end < wanted.end
    })?;
    (is_whole && values.len() - before == wanted.len()).then_some(())
}

/// How many values before a range are 1, and how many in it, where values take one bit; none
/// when the bytes make no sense.
pub(crate) fn ones(bytes: &[u8], range: Range<usize>) -> Option<(usize, usize)> {
    let (mut before, mut within) = (0, 0);
    let mut covered = 0;
    let mut are_bits = true;
    runs(bytes, 1, |run, numbers| {
        let until = |end: usize| end.min(numbers.end).saturating_sub(numbers.start);
        let (start, end) = (until(range.start), until(range.end));
        covered += end;
        match run {
            Run::Repeated(value) => {
                are_bits &= value < 2;
                before += start * (value & 1) as usize;
                within += (end - start) * (value & 1) as usize;
            }
            Run::Packed(bytes) => {
                are_bits &= end <= bytes.len() * 8;
                let of_start = first_ones(bytes, start);
                before += of_start;
                // Most runs end before the range.
                if end > start {
                    within += first_ones(bytes, end).saturating_sub(of_start);
                }
            }
        }
        numbers.end < range.end
    })?;
    (are_bits && covered == range.end).then_some((before, within))
}

/// How many of the first bits are 1.
fn first_ones(bytes: &[u8], count: usize) -> usize {
    let whole = bytes.get(..count / 8).unwrap_or(bytes);
    let (words, rest) = whole.as_chunks();
    let words = words
        .iter()
        .map(|word| u64::from_le_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    let last = bytes.get(count / 8).copied().unwrap_or(0);
    let mask = (1u8 << (count % 8)) - 1;
    (words.chain(rest).sum::<u32>() + (last & mask).count_ones()) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes values as runs of random kinds and lengths.
    fn encode(values: &[u32], bit_width: u32, cuts: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = values;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let same = rest.iter().take_while(|value| **value == rest[0]).count();
            let cut = *cuts.next().unwrap();
            if same > cut % 5 {
                bytes.push((same.min(60) as u8) << 1);
                let value = rest[0].to_le_bytes();
                bytes.extend_from_slice(&value[..bit_width.div_ceil(8) as usize]);
                rest = &rest[same.min(60)..];
            } else {
                let groups = (1 + cut % 3).min(rest.len().div_ceil(8));
                // Packed runs are whole but for the last of a page.
                let groups = if rest.len() < groups * 8 && rest.len() >= 8 {
                    rest.len() / 8
                } else {
                    groups
                };
                bytes.push((groups as u8) << 1 | 1);
                let mut bits = vec![0u8; groups * bit_width as usize];
                for (place, value) in rest.iter().take(groups * 8).enumerate() {
                    for bit in 0..bit_width as usize {
                        if value >> bit & 1 == 1 {
                            let at = place * bit_width as usize + bit;
                            bits[at / 8] |= 1 << (at % 8);
                        }
                    }
                }
                bytes.extend_from_slice(&bits);
                rest = &rest[rest.len().min(groups * 8)..];
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn reads_any_range(
            bit_width in 1u32..20,
            seeds in proptest::collection::vec((any::<u32>(), 1usize..40), 1..20),
            cuts in proptest::collection::vec(0usize..10, 1..8),
            range in (0usize..300, 0usize..300),
        ) {
            let mask = (1u32 << bit_width) - 1;
            let values: Vec<u32> = seeds
                .iter()
                .flat_map(|(seed, count)| {
                    (0..*count as u32).map(move |n| if count % 2 == 0 { seed & mask } else { seed.wrapping_mul(n + 1) & mask })
                })
                .collect();
            let bytes = encode(&values, bit_width, &cuts);
            let (start, end) = (range.0.min(range.1) % (values.len() + 1), range.0.max(range.1) % (values.len() + 1));
            let range = start.min(end)..start.max(end);
            let mut found = Vec::new();
            read(&bytes, bit_width, range.clone(), &mut found).unwrap();
            prop_assert_eq!(&found, &values[range.clone()]);
            if bit_width == 1 {
                let of = |values: &[u32]| values.iter().filter(|value| **value == 1).count();
                let expected = (of(&values[..range.start]), of(&values[range.clone()]));
                prop_assert_eq!(ones(&bytes, range), Some(expected));
            }
        }

        #[test]
        fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), width in 0u32..40) {
            let mut found = Vec::new();
            let is_read = read(&bytes, width, 3..50, &mut found).is_some();
            prop_assert!(!is_read || found.len() == 47);
            prop_assert!(ones(&bytes, 7..40).is_none_or(|(before, within)| before <= 7 && within <= 33));
        }
    }

    #[test]
    fn too_few_values_are_none() {
        let bytes = encode(&[1, 1, 0, 1], 1, &[0]);
        assert_eq!(ones(&[0x04, 0x01], 1..3), None);
        // A run that is no bit, and packed bits that are cut.
        assert_eq!(ones(&[0x08, 0x03], 0..4), None);
        assert_eq!(ones(&[0x05, 0xff], 0..8), Some((0, 8)));
        assert_eq!(ones(&[0x05, 0xff], 0..9), None);
        let mut found = Vec::new();
        assert_eq!(read(&bytes[..0], 1, 0..1, &mut found), None);
    }
}
