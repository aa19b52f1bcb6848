//! The wire format of protobuf
//! (<https://protobuf.dev/programming-guides/encoding/>), as far as encoded messages are
//! read and written without decoding them. Other formats share its numbers of variable
//! length.

/// Reads a number of variable length.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Reads a number of variable length; none unless [`put_varint`] would write the same
/// bytes.
pub(crate) fn take_shortest_varint(bytes: &mut &[u8]) -> Option<u64> {
    let before = bytes.len();
    let value = take_varint(bytes)?;
    (varint_bytes(value) == before - bytes.len()).then_some(value)
}

/// Adds a number of variable length.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] adds.
pub(crate) fn varint_bytes(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// What a field of a message holds.
pub(crate) enum Payload<'a> {
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
    /// A number.
    Number,
}

/// The fields of a message in their order; ends where the bytes make no sense.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Payload<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = take_varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).ok()?;
        let payload = match tag & 7 {
            0 => {
                take_varint(&mut self.0)?;
                Payload::Number
            }
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(take_varint(&mut self.0)?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Payload::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some((number, payload))
    }
}

impl<'a> Fields<'a> {
    fn skip(&mut self, bytes: usize) -> Option<Payload<'a>> {
        self.0 = self.0.get(bytes..)?;
        Some(Payload::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let edges = (0..64).flat_map(|bits| [1u64 << bits, (1u64 << bits) - 1]);
        for number in edges.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            assert_eq!(bytes.len(), varint_bytes(number), "{number}");
            let mut rest = bytes.as_slice();
            assert_eq!(take_shortest_varint(&mut rest), Some(number));
            assert!(rest.is_empty());
            // One byte more, which says nothing.
            let last = bytes.last_mut().unwrap();
            *last |= 0x80;
            bytes.push(0);
            assert_eq!(
                take_shortest_varint(&mut bytes.as_slice()),
                None,
                "{number}"
            );
        }
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(take_shortest_varint(&mut beyond.as_slice()), None);
        assert_eq!(take_varint(&mut [0x80; 11].as_slice()), None);
        assert_eq!(take_varint(&mut [0x80].as_slice()), None);
    }

    #[test]
    fn fields_end_where_the_bytes_make_no_sense() {
        // Field 1 a number, 2 of 64 bits, 3 of 32 bits, 4 bytes; then a length beyond the end.
        let bytes = [
            0x08, 7, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0x22, 1, 9, 0x22, 2, 9,
        ];
        let numbers = Fields(&bytes).map(|(number, _)| number);
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(Fields(&[0x0b, 0]).next().is_none());
    }
}
