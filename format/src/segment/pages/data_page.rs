//! A data page of version 1.

use std::ops::Range;

use bytes::{Buf, Bytes};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::{damaged, decompress, find_page};
use crate::segment::layout::checksum::VerifiedBytes;

/// A page of a column without repetition, decompressed.
pub(super) struct DataPage {
    pub(super) encoding: Encoding,
    data: Bytes,
    /// Where the levels lie that tell which rows have a value; none where all have.
    levels: Option<Range<usize>>,
    /// Where the values begin.
    values: usize,
}

impl DataPage {
    /// Reads the page that lies at a place of the file.
    pub(super) fn read(
        bytes: &VerifiedBytes,
        chunk: &ColumnChunkMetaData,
        place: Range<u64>,
    ) -> Result<Self, ParquetError> {
        let (header, data) = find_page(bytes, place)?;
        let data = decompress(chunk.compression(), data, header.uncompressed_bytes)?;
        let (mut levels, mut values) = (None, 0);
        if chunk.column_descr().max_def_level() == 1 {
            let mut length: &[u8] = &data;
            let length = length.try_get_u32_le().map_err(|_| damaged("levels"))?;
            values = size_of::<u32>().saturating_add(length as usize);
            if values > data.len() {
                return Err(damaged("levels within their page"));
            }
            levels = Some(size_of::<u32>()..values);
        }
        Ok(Self {
            encoding: header.encoding,
            data,
            levels,
            values,
        })
    }

    /// Which rows have a value, a bit each, as [`hybrid`](super::hybrid) reads them; none
    /// where all have one.
    pub(super) fn levels(&self) -> Option<&[u8]> {
        self.data.get(self.levels.clone()?)
    }

    /// The values of the rows that have one, as they are encoded.
    pub(super) fn values(&self) -> &[u8] {
        self.data.get(self.values..).unwrap_or_default()
    }

    /// The bits of each code, and the codes, of a page that holds codes. A page without any
    /// value has no codes.
    pub(super) fn codes(&self) -> (u32, &[u8]) {
        let codes = self.values().split_first();
        codes.map_or((0, &[]), |(width, codes)| (u32::from(*width), codes))
    }
}
