//! The Parquet footer, parsed row group by row group: a look-up asks for one of many.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
    RowGroupMetaData,
};

use super::stock::{damaged, without_panic};
use super::thrift::{END, I64, LIST, STRUCT, list, next_field, skip, zigzag};

/// What follows the Thrift of the footer: its length, and the magic number.
const TRAILER_BYTES: usize = 8;
/// A list of no structs.
const NO_STRUCTS: u8 = STRUCT;
/// A `FileMetaData` of `parquet.thrift` up to its only row group: version 1, no rows.
const BEFORE_ROW_GROUP: [u8; 6] = [0x15, 0x02, 0x26, 0x00, 0x19, 0x10 | STRUCT];

/// A Parquet footer. What it says of a row group is parsed when that is asked for, and
/// kept.
#[derive(Debug)]
pub(crate) struct Footer {
    thrift: Bytes,
    /// What it says of the whole file.
    file: ParquetMetaData,
    row_groups: Vec<RowGroup>,
}

#[derive(Debug)]
struct RowGroup {
    /// Where it is in the Thrift.
    place: Range<usize>,
    rows: i64,
    /// A file of this row group alone; none where it makes no sense.
    parsed: OnceLock<Option<ParquetMetaData>>,
}

impl Footer {
    /// Reads the footer at the end of these bytes.
    ///
    /// # Errors
    /// When there is none that makes sense.
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, ParquetError> {
        let footer = || damaged("a Parquet footer");
        let thrift = thrift(bytes).ok_or_else(footer)?;
        let (list, row_groups) = row_groups(&thrift).ok_or_else(footer)?;
        let before = thrift.get(..list.start).unwrap_or_default();
        let behind = thrift.get(list.end..).unwrap_or_default();
        let file = parse(&[before, &[NO_STRUCTS], behind].concat(), options())?;
        Ok(Self {
            thrift,
            file,
            row_groups,
        })
    }

    /// What it says of the whole file; of its row groups nothing.
    pub(crate) fn file(&self) -> &ParquetMetaData {
        &self.file
    }

    /// All of it, parsed anew.
    pub(crate) fn whole(&self) -> Result<ParquetMetaData, ParquetError> {
        parse(&self.thrift, options())
    }

    /// The rows of each row group.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = i64> {
        self.row_groups.iter().map(|row_group| row_group.rows)
    }

    /// What it says of a row group; none when there is no such one, or it makes no sense.
    pub(crate) fn row_group(&self, number: usize) -> Option<&RowGroupMetaData> {
        self.alone(number)?.row_groups().first()
    }

    fn alone(&self, number: usize) -> Option<&ParquetMetaData> {
        let row_group = self.row_groups.get(number)?;
        let parse = || {
            let thrift = self.thrift.get(row_group.place.clone())?;
            let options = options().with_schema(self.file.file_metadata().schema_descr_ptr());
            let parsed = parse(&[&BEFORE_ROW_GROUP, thrift, &[END]].concat(), options).ok()?;
            let rows = parsed.row_groups().first()?.num_rows();
            (rows == row_group.rows).then_some(parsed)
        };
        row_group.parsed.get_or_init(parse).as_ref()
    }

    /// Memory that it may come to take, in bytes, as far as the first row group tells.
    pub(crate) fn memory(&self) -> usize {
        let file = self.file.memory_size();
        let first = self.alone(0).map_or(0, ParquetMetaData::memory_size);
        let row_groups = self.row_groups.len() * first.saturating_sub(file);
        file + row_groups + self.row_groups.len() * size_of::<RowGroup>()
    }
}

fn options() -> ParquetMetaDataOptions {
    // Nothing here asks for sizes of values.
    ParquetMetaDataOptions::new().with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
}

fn parse(thrift: &[u8], options: ParquetMetaDataOptions) -> Result<ParquetMetaData, ParquetError> {
    without_panic(|| ParquetMetaDataReader::decode_metadata_with_options(thrift, Some(&options)))
}

/// The Thrift of the footer at the end of these bytes.
fn thrift(bytes: &Bytes) -> Option<Bytes> {
    let end = bytes.len().checked_sub(TRAILER_BYTES)?;
    let (length, magic) = bytes.get(end..)?.split_first_chunk()?;
    if magic != b"PAR1" {
        return None;
    }
    let start = end.checked_sub(u32::from_le_bytes(*length) as usize)?;
    Some(bytes.slice(start..end))
}

/// Where the list of row groups is, and each of them: field 4 of `FileMetaData`.
fn row_groups(thrift: &[u8]) -> Option<(Range<usize>, Vec<RowGroup>)> {
    let mut rest = thrift;
    let mut field = 0;
    let mut found = None;
    loop {
        let (kind, number) = next_field(&mut rest, &mut field)?;
        match (number, kind) {
            (_, END) => return found,
            (4, LIST) if found.is_none() => {
                let start = thrift.len() - rest.len();
                let (STRUCT, count) = list(&mut rest)? else {
                    return None;
                };
                let mut row_groups = Vec::new();
                for _ in 0..count {
                    let start = thrift.len() - rest.len();
                    let rows = rows_of(&mut rest)?;
                    row_groups.push(RowGroup {
                        place: start..thrift.len() - rest.len(),
                        rows,
                        parsed: OnceLock::new(),
                    });
                }
                found = Some((start..thrift.len() - rest.len(), row_groups));
            }
            (4, _) => return None,
            _ => skip(kind, &mut rest, 0)?,
        }
    }
}

/// The rows of a row group: field 3 of `RowGroup`.
fn rows_of(bytes: &mut &[u8]) -> Option<i64> {
    let mut field = 0;
    let mut rows = None;
    loop {
        match next_field(bytes, &mut field)? {
            (END, _) => return rows,
            (I64, 3) => rows = Some(zigzag(bytes)?),
            (kind, _) => skip(kind, bytes, 0)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// A file of three row groups.
    fn file() -> Bytes {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..25));
        let texts: ArrayRef = Arc::new(
            (0..25)
                .map(|n| Some(n.to_string()))
                .collect::<StringArray>(),
        );
        let batch = RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10));
        let mut out = Vec::new();
        let properties = Some(properties.build());
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), properties).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        out.into()
    }

    #[test]
    fn row_groups_are_those_of_the_whole_footer() {
        let file = file();
        let footer = Footer::read(&file).unwrap();
        let whole = ParquetMetaDataReader::new().with_metadata_options(Some(options()));
        let whole = whole.parse_and_finish(&file).unwrap();
        assert_eq!(footer.whole().unwrap(), whole);
        assert_eq!(footer.file().file_metadata(), whole.file_metadata());
        assert_eq!(footer.file().num_row_groups(), 0);
        assert!(footer.rows().eq([10, 10, 5]));
        for (number, row_group) in whole.row_groups().iter().enumerate() {
            assert_eq!(footer.row_group(number), Some(row_group));
        }
        assert_eq!(footer.row_group(3), None);
        let memory = footer.memory().abs_diff(whole.memory_size());
        assert!(memory < whole.memory_size() / 4, "{memory}");
    }

    #[test]
    fn garbage_is_an_error() {
        let file = file();
        for end in 0..file.len() {
            assert!(Footer::read(&file.slice(..end)).is_err(), "{end}");
        }
        let thrift = thrift(&file).unwrap();
        let start = file.len() - TRAILER_BYTES - thrift.len();
        for at in start..file.len() {
            for bits in [0x01, 0x10, 0x80, 0xff] {
                let mut bytes = file.to_vec();
                bytes[at] ^= bits;
                // Whatever it says, it is read or refused.
                if let Ok(footer) = Footer::read(&bytes.into()) {
                    for (number, rows) in footer.rows().enumerate() {
                        let found = footer.row_group(number).map(RowGroupMetaData::num_rows);
                        assert!(found.is_none_or(|found| found == rows));
                    }
                }
            }
        }
    }
}
