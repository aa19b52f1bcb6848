//! Headers of Parquet pages.

use parquet::basic::Encoding;

use super::thrift::{END, I32, STRUCT, next_field, skip, zigzag};

/// What a page header says, as far as these files need it.
pub(crate) struct PageHeader {
    pub(crate) uncompressed_bytes: usize,
    pub(crate) compressed_bytes: usize,
    pub(crate) values: u32,
    pub(crate) encoding: Encoding,
}

impl PageHeader {
    /// Reads a `PageHeader` of `parquet.thrift`, of a dictionary page or a data page of
    /// version 1; and its length.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let mut sizes = [None; 2];
        let mut page = None;
        let mut field = 0i64;
        loop {
            let (kind, number) = next_field(&mut rest, &mut field)?;
            match (number, kind) {
                (_, END) => break,
                (2, I32) => sizes[0] = Some(zigzag(&mut rest)?),
                (3, I32) => sizes[1] = Some(zigzag(&mut rest)?),
                // DataPageHeader and DictionaryPageHeader begin alike.
                (5 | 7, STRUCT) => {
                    let (mut values, mut encoding, mut inner) = (None, None, 0);
                    loop {
                        let (kind, number) = next_field(&mut rest, &mut inner)?;
                        match (number, kind) {
                            (_, END) => break,
                            (1, I32) => values = Some(zigzag(&mut rest)?),
                            (2, I32) => encoding = Some(zigzag(&mut rest)?),
                            _ => skip(kind, &mut rest, 0)?,
                        }
                    }
                    page = values.zip(encoding);
                }
                _ => skip(kind, &mut rest, 0)?,
            }
        }
        let [uncompressed, compressed] = sizes;
        let (values, encoding) = page?;
        let header = Self {
            uncompressed_bytes: usize::try_from(uncompressed?).ok()?,
            compressed_bytes: usize::try_from(compressed?).ok()?,
            values: u32::try_from(values).ok()?,
            encoding: match encoding {
                0 => Encoding::PLAIN,
                2 => Encoding::PLAIN_DICTIONARY,
                3 => Encoding::RLE,
                5 => Encoding::DELTA_BINARY_PACKED,
                8 => Encoding::RLE_DICTIONARY,
                _ => return None,
            },
        };
        Some((header, bytes.len() - rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page as parquet.thrift's own encoding writes it: 300 bytes, 200
    /// compressed, 1,000 values by dictionary, with statistics to be skipped.
    const DATA_PAGE: [u8; 29] = [
        0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x90, 0x03, 0x2c, 0x15, 0xd0, 0x0f, 0x15, 0x10, 0x15,
        0x06, 0x15, 0x06, 0x1c, 0x18, 0x01, b'z', 0x18, 0x01, b'a', 0x16, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn reads_a_data_page_and_skips_what_it_does_not_need() {
        let mut bytes = DATA_PAGE.to_vec();
        bytes.extend([0x00, 0xff, 0xff]);
        let (header, length) = PageHeader::read(&bytes).unwrap();
        assert_eq!(length, DATA_PAGE.len() + 1);
        assert_eq!(header.uncompressed_bytes, 300);
        assert_eq!(header.compressed_bytes, 200);
        assert_eq!(
            (header.values, header.encoding),
            (1_000, Encoding::RLE_DICTIONARY)
        );
    }

    #[test]
    fn garbage_is_none() {
        for end in 0..DATA_PAGE.len() {
            assert!(PageHeader::read(&DATA_PAGE[..end]).is_none(), "{end}");
        }
        assert!(PageHeader::read(&[0xff; 64]).is_none());
        assert!(PageHeader::read(&[0x1c; 64]).is_none());
    }
}
