//! Where the pages of a column chunk lie: Parquet's offset index, read column by column
//! when a column is asked for.

use std::ops::Range;

use super::thrift::{END, I32, I64, LIST, STRUCT, list, next_field, skip, zigzag};

/// The pages of a column chunk, in the order of their rows.
#[derive(Debug)]
pub(crate) struct PageLocations {
    pages: Box<[Page]>,
    /// Rows of the row group.
    rows: u32,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    offset: u64,
    bytes: u32,
    first_row: u32,
}

/// A page of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageLocation {
    /// Where it lies in the file, its header included.
    pub(crate) place: Range<u64>,
    /// Its rows, by their numbers in the row group.
    pub(crate) rows: Range<u32>,
}

impl PageLocations {
    /// Reads an `OffsetIndex` of `parquet.thrift`, of a column without repeated values in
    /// a row group of so many rows; none when it makes no sense. The pages hold all rows,
    /// none of them is empty.
    pub(crate) fn read(mut bytes: &[u8], rows: u32) -> Option<Self> {
        let (LIST, 1) = next_field(&mut bytes, &mut 0)? else {
            return None;
        };
        let (STRUCT, count) = list(&mut bytes)? else {
            return None;
        };
        let mut pages: Vec<Page> = Vec::new();
        for _ in 0..count {
            let page = Page::read(&mut bytes)?;
            let is_next = match pages.last() {
                Some(last) => last.first_row < page.first_row,
                None => page.first_row == 0,
            };
            if !is_next || page.first_row >= rows {
                return None;
            }
            pages.push(page);
        }
        if pages.is_empty() && rows > 0 {
            return None;
        }
        let pages = pages.into();
        Some(Self { pages, rows })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// A page by its number.
    pub(crate) fn get(&self, page: usize) -> Option<PageLocation> {
        let after = self.pages.get(page + 1);
        let page = self.pages.get(page)?;
        Some(PageLocation {
            place: page.offset..page.offset.saturating_add(u64::from(page.bytes)),
            rows: page.first_row..after.map_or(self.rows, |after| after.first_row),
        })
    }

    /// The number of the page that holds a row.
    pub(crate) fn page_of(&self, row: u32) -> usize {
        let after = self.pages.partition_point(|page| page.first_row <= row);
        after.saturating_sub(1)
    }
}

impl Page {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (mut offset, mut size, mut first_row) = (None, None, None);
        let mut field = 0;
        loop {
            let (kind, number) = next_field(bytes, &mut field)?;
            match (number, kind) {
                (_, END) => break,
                (1, I64) => offset = Some(zigzag(bytes)?),
                (2, I32) => size = Some(zigzag(bytes)?),
                (3, I64) => first_row = Some(zigzag(bytes)?),
                _ => skip(kind, bytes, 0)?,
            }
        }
        Some(Self {
            offset: u64::try_from(offset?).ok()?,
            bytes: u32::try_from(size?).ok()?,
            first_row: u32::try_from(first_row?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages as parquet.thrift's own encoding writes them: 100 bytes at 4 from row 0
    /// on, and 300 bytes at 104 from row 70 on.
    const TWO: [u8; 19] = [
        0x19, 0x2c, 0x16, 0x08, 0x15, 0xc8, 0x01, 0x16, 0x00, 0x00, 0x16, 0xd0, 0x01, 0x15, 0xd8,
        0x04, 0x16, 0x8c, 0x01,
    ];

    fn two() -> Vec<u8> {
        // The ends of the second page and of the whole.
        [TWO.as_slice(), &[0, 0]].concat()
    }

    #[test]
    fn pages_are_found_by_their_rows() {
        let pages = PageLocations::read(&two(), 100).unwrap();
        assert_eq!(pages.len(), 2);
        let location = |place, rows| Some(PageLocation { place, rows });
        assert_eq!(pages.get(0), location(4..104, 0..70));
        assert_eq!(pages.get(1), location(104..404, 70..100));
        assert_eq!(pages.get(2), None);
        for (row, page) in [(0, 0), (69, 0), (70, 1), (99, 1)] {
            assert_eq!(pages.page_of(row), page, "row {row}");
        }
    }

    #[test]
    fn pages_that_do_not_hold_all_rows_in_their_order_make_no_sense() {
        assert!(PageLocations::read(&two(), 70).is_none());
        for (at, byte) in [(1, 0x2b), (8, 0x02), (17, 0x00), (0, 0x29), (3, 0x07)] {
            let mut bytes = two();
            bytes[at] = byte;
            assert!(PageLocations::read(&bytes, 100).is_none(), "byte {at}");
        }
        for end in 0..TWO.len() {
            assert!(PageLocations::read(&TWO[..end], 100).is_none(), "{end}");
        }
        // No page at all.
        assert!(PageLocations::read(&[0x19, 0x0c, 0x00], 100).is_none());
        let many = [0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x16];
        assert!(PageLocations::read(&many, 100).is_none());
    }
}
