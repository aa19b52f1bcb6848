//! Parquet's hybrid of run lengths and packed bits
//! (<https://parquet.apache.org/docs/file-format/data-pages/encodings/>), read
//! at any place: what lies before is skipped run by run.

use std::ops::Range;

use arrow::array::BooleanBufferBuilder;

use crate::wire::take_varint;

/// A run of values.
#[derive(Debug, Clone, Copy)]
enum Run<'a> {
    Repeated(u32),
    Packed(&'a [u8]),
}

/// Reads ranges of values, one after the other: a run is looked at once.
#[derive(Debug, Clone)]
pub(crate) struct Hybrid<'a> {
    /// What lies behind the run.
    rest: &'a [u8],
    bit_width: u32,
    run: Run<'a>,
    /// The numbers of the values of the run.
    numbers: Range<usize>,
    /// How many values before the run are 1, where values take one bit.
    ones: usize,
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

impl<'a> Hybrid<'a> {
    /// Values of so many bits each.
    pub(crate) fn new(bytes: &'a [u8], bit_width: u32) -> Self {
        Self {
            rest: bytes,
            bit_width,
            run: Run::Repeated(0),
            numbers: 0..0,
            ones: 0,
        }
    }

    /// Goes on to the next run; none when there is none, or the bytes make no sense: then
    /// nothing has changed.
    fn advance(&mut self) -> Option<()> {
        let mut rest = self.rest;
        let header = take_varint(&mut rest)?;
        let count = usize::try_from(header >> 1).ok()?;
        let (run, rest, values) = if header & 1 == 1 {
            let length = count.checked_mul(self.bit_width as usize)?;
            // The last run of a page may be cut.
            let (packed, rest) = rest.split_at(length.min(rest.len()));
            (Run::Packed(packed), rest, count.checked_mul(8)?)
        } else {
            let bytes = self.bit_width.div_ceil(8) as usize;
            let (value, rest) = rest.split_at_checked(bytes)?;
            let value = value
                .iter()
                .rev()
                .fold(0u32, |value, byte| value << 8 | u32::from(*byte));
            (Run::Repeated(value), rest, count)
        };
        let end = self.numbers.end;
        let numbers = end..end.checked_add(values)?;
        if self.bit_width == 1 {
            self.ones += ones_of(self.run, self.numbers.len());
        }
        (self.run, self.rest, self.numbers) = (run, rest, numbers);
        Some(())
    }

    /// Calls `take` with each run that has values of a range, and with their places in it;
    /// none when there are not so many values, where `take` answers none, and where the range
    /// begins before that of the call before.
    fn each(
        &mut self,
        wanted: Range<usize>,
        mut take: impl FnMut(&Self, Range<usize>) -> Option<()>,
    ) -> Option<()> {
        let mut at = wanted.start;
        while at < wanted.end {
            while self.numbers.end <= at {
                self.advance()?;
            }
            let end = wanted.end.min(self.numbers.end);
            let start = at.checked_sub(self.numbers.start)?;
            take(self, start..end - self.numbers.start)?;
            at = end;
        }
        Some(())
    }

    /// Adds the values of a range, which begins behind those that were read.
    pub(crate) fn read(&mut self, wanted: Range<usize>, values: &mut Vec<u32>) -> Option<()> {
        let bit_width = Some(self.bit_width).filter(|width| *width <= 32)?;
        self.each(wanted, |this, places| {
            match this.run {
                Run::Repeated(value) => values.extend(std::iter::repeat_n(value, places.len())),
                Run::Packed(bytes) => unpack(bytes, bit_width, places, values)?,
            }
            Some(())
        })
    }

    /// Adds a bit for each value of a range, which begins behind those that were read, where
    /// values take one bit.
    pub(crate) fn bits(
        &mut self,
        wanted: Range<usize>,
        bits: &mut BooleanBufferBuilder,
    ) -> Option<()> {
        self.each(wanted, |this, places| {
            match this.run {
                Run::Repeated(value) if value < 2 => bits.append_n(places.len(), value == 1),
                Run::Packed(bytes) if places.end <= bytes.len() * 8 => {
                    bits.append_packed_range(places, bytes);
                }
                _ => return None,
            }
            Some(())
        })
    }

    /// How many values before a range are 1, and how many in it, where values take one bit.
    /// The range begins behind those that were read, and is not empty.
    pub(crate) fn ones(&mut self, wanted: Range<usize>) -> Option<(usize, usize)> {
        let mut before = None;
        let mut until = 0;
        self.each(wanted, |this, places| {
            let is_whole = match this.run {
                Run::Repeated(value) => value < 2,
                Run::Packed(bytes) => places.end <= bytes.len() * 8,
            };
            before.get_or_insert_with(|| this.ones + ones_of(this.run, places.start));
            until = this.ones + ones_of(this.run, places.end);
            is_whole.then_some(())
        })?;
        before.map(|before| (before, until.saturating_sub(before)))
    }
}

/// How many of the first values of a run are 1, where they take one bit.
fn ones_of(run: Run<'_>, count: usize) -> usize {
    match run {
        Run::Repeated(value) => count * (value & 1) as usize,
        Run::Packed(bytes) => first_ones(bytes, count),
    }
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
            // One range after the other, and a range by itself.
            let between = range.start.midpoint(range.end);
            let ranges = [range.start..between, between..between, between..range.end];
            let mut found = Vec::new();
            let mut hybrid = Hybrid::new(&bytes, bit_width);
            for range in ranges.clone() {
                hybrid.read(range, &mut found).unwrap();
            }
            prop_assert_eq!(&found, &values[range.clone()]);
            found.clear();
            Hybrid::new(&bytes, bit_width).read(range.clone(), &mut found).unwrap();
            prop_assert_eq!(&found, &values[range.clone()]);
            if bit_width == 1 {
                let mut hybrid = Hybrid::new(&bytes, 1);
                let of = |values: &[u32]| values.iter().filter(|value| **value == 1).count();
                for range in ranges.into_iter().filter(|range| !range.is_empty()) {
                    let expected = (of(&values[..range.start]), of(&values[range.clone()]));
                    prop_assert_eq!(hybrid.ones(range), Some(expected));
                }
                let mut found = BooleanBufferBuilder::new(0);
                found.append(true);
                Hybrid::new(&bytes, 1).bits(range.clone(), &mut found).unwrap();
                let found: Vec<u32> = found.finish().iter().skip(1).map(u32::from).collect();
                prop_assert_eq!(&found, &values[range]);
            }
        }

        #[test]
        fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), width in 0u32..40) {
            let mut found = Vec::new();
            let is_read = Hybrid::new(&bytes, width).read(3..50, &mut found).is_some();
            prop_assert!(!is_read || found.len() == 47);
            let mut found = BooleanBufferBuilder::new(0);
            let is_read = Hybrid::new(&bytes, 1).bits(3..50, &mut found).is_some();
            prop_assert!(!is_read || found.len() == 47);
            let mut hybrid = Hybrid::new(&bytes, 1);
            for _ in 0..2 {
                let ones = hybrid.ones(7..40);
                prop_assert!(ones.is_none_or(|(before, within)| before <= 7 && within <= 33));
            }
        }
    }

    #[test]
    fn too_few_values_are_none() {
        let bytes = encode(&[1, 1, 0, 1], 1, &[0]);
        let ones = |bytes: &[u8], range| Hybrid::new(bytes, 1).ones(range);
        assert_eq!(ones(&[0x04, 0x01], 1..3), None);
        // A run that is no bit, and packed bits that are cut.
        assert_eq!(ones(&[0x08, 0x03], 0..4), None);
        assert_eq!(ones(&[0x05, 0xff], 0..8), Some((0, 8)));
        assert_eq!(ones(&[0x05, 0xff], 0..9), None);
        for (bytes, count) in [([0x08, 0x03], 4), ([0x05, 0xff], 9), ([0x04, 0x01], 3)] {
            let mut none = BooleanBufferBuilder::new(0);
            let bits = Hybrid::new(&bytes, 1).bits(0..count, &mut none);
            assert_eq!(bits, None, "{bytes:?}");
        }
        let mut found = Vec::new();
        assert_eq!(Hybrid::new(&bytes[..0], 1).read(0..1, &mut found), None);
    }

    #[test]
    fn what_makes_no_sense_is_none_each_time() {
        // Eight values, four of them ones, and then a number that does not end.
        let mut hybrid = Hybrid::new(&[0x03, 0x2b, 0x80], 1);
        assert_eq!(hybrid.ones(7..9), None);
        assert_eq!(hybrid.ones(7..9), None);
        assert_eq!(hybrid.ones(7..8), Some((4, 0)));
    }

    #[test]
    fn ranges_before_those_that_were_read_are_none() {
        // Eight ones, then eight zeros.
        let mut hybrid = Hybrid::new(&[0x10, 0x01, 0x10, 0x00], 1);
        assert_eq!(hybrid.ones(9..10), Some((8, 0)));
        assert_eq!(hybrid.ones(7..9), None);
    }
}
