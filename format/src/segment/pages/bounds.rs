//! Least and greatest values of pages: Parquet's column index, of columns of 64-bit
//! numbers.

use super::thrift::{END, LIST, list, next_field, skip};
use crate::wire::take_varint;

/// Element types of lists in the column index.
const BOOLEANS: [u8; 2] = [1, 2];
const BINARY: u8 = 8;

/// Reads a `ColumnIndex` of `parquet.thrift`: the least and the greatest value of each of
/// so many pages; none when it makes no sense, or a page has no value.
pub(crate) fn read(mut bytes: &[u8], pages: usize) -> Option<Vec<(i64, i64)>> {
    let (mut least, mut greatest) = (None, None);
    let mut field = 0;
    loop {
        let (kind, number) = next_field(&mut bytes, &mut field)?;
        match (number, kind) {
            (_, END) => break,
            (1, LIST) => {
                let (element, count) = list(&mut bytes)?;
                let (empty, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
                bytes = rest;
                // True is 1.
                if !BOOLEANS.contains(&element) || empty.contains(&1) {
                    return None;
                }
            }
            (2, LIST) => least = Some(numbers(&mut bytes, pages)?),
            (3, LIST) => greatest = Some(numbers(&mut bytes, pages)?),
            // What follows is not asked for.
            _ if greatest.is_some() => break,
            _ => skip(kind, &mut bytes, 0)?,
        }
    }
    Some(least?.into_iter().zip(greatest?).collect())
}

fn numbers(bytes: &mut &[u8], pages: usize) -> Option<Vec<i64>> {
    let (BINARY, count) = list(bytes)? else {
        return None;
    };
    if count != pages as u64 {
        return None;
    }
    let numbers = (0..count).map(|_| {
        let length = usize::try_from(take_varint(bytes)?).ok()?;
        let (number, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(i64::from_le_bytes(number.try_into().ok()?))
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages as parquet.thrift's own encoding writes them: from -1 to 5 and from 6 to
    /// 7, in rising order, without nulls.
    fn two() -> Vec<u8> {
        let number = |number: i64| [[8].as_slice(), &number.to_le_bytes()].concat();
        let lists = [
            vec![0x19, 0x22, 2, 2],
            [vec![0x19, 0x28], number(-1), number(6)].concat(),
            [vec![0x19, 0x28], number(5), number(7)].concat(),
            vec![0x15, 0x02, 0x19, 0x26, 0, 0, 0],
        ];
        lists.concat()
    }

    #[test]
    fn bounds_are_read_page_by_page() {
        assert_eq!(read(&two(), 2), Some(vec![(-1, 5), (6, 7)]));
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        assert_eq!(read(&two(), 3), None);
        let end = two().len() - 7;
        for end in 0..end {
            assert_eq!(read(&two()[..end], 2), None, "{end}");
        }
        let mut empty = two();
        empty[3] = 1;
        assert_eq!(read(&empty, 2), None, "a page of nulls");
        let mut short = two();
        short[6] = 7;
        assert_eq!(read(&short, 2), None, "a number of seven bytes");
    }
}
