//! What a segment is made of, in bytes.

use parquet::file::statistics::Statistics;

use crate::error::FormatError;
use crate::segment::SegmentReader;
use crate::segment::promotion::PromotedKey;

/// What a segment is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentLayout {
    /// Rows of each row group.
    pub row_groups: Vec<u64>,
    /// The columns of the file, in their order.
    pub columns: Vec<ColumnLayout>,
    /// The parts of the index, in their order.
    pub parts: Vec<PartLayout>,
    /// Index header and block checksums, in bytes.
    pub header_bytes: u64,
    /// Page index and Parquet footer, in bytes.
    pub tail_bytes: u64,
    /// The promoted keys.
    pub promoted: Vec<PromotedKey>,
    /// The facets, all partitions together.
    pub facets: Vec<FacetLayout>,
    /// The table of requests, which is a part of the index; none when it has none.
    pub requests: Option<Box<Self>>,
}

/// A column of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Its name in the file.
    pub name: String,
    /// Its encodings.
    pub encodings: Vec<String>,
    /// Its codec.
    pub codec: String,
    /// Pages of values.
    pub pages: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes decompressed.
    pub decompressed_bytes: u64,
    /// Rows without a value, where the file tells.
    pub null_rows: Option<u64>,
}

/// A part of a segment's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartLayout {
    /// What it is.
    pub name: String,
    /// Bytes in the file.
    pub bytes: u64,
}

/// A facet of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetLayout {
    /// The name of its column in the file.
    pub column: String,
    /// Partitions that have it.
    pub partitions: u64,
    /// Values, counted in each partition.
    pub values: u64,
    /// Bytes of its bitmaps.
    pub posting_bytes: u64,
}

impl SegmentReader {
    /// Takes the segment apart.
    ///
    /// # Errors
    /// [`FormatError`] when it is damaged.
    pub fn layout(&self) -> Result<SegmentLayout, FormatError> {
        let rows = self.row_reader()?;
        let metadata = rows.metadata()?;
        let names = rows.columns().names();
        let name = |column: usize| names.get(column).cloned().unwrap_or_default();
        let columns = (0..names.len()).map(|column| -> Result<ColumnLayout, FormatError> {
            let mut layout = ColumnLayout {
                name: name(column),
                encodings: Vec::new(),
                codec: String::new(),
                pages: 0,
                bytes: 0,
                decompressed_bytes: 0,
                null_rows: Some(0),
            };
            for (number, row_group) in metadata.row_groups().iter().enumerate() {
                let Some(chunk) = row_group.columns().get(column) else {
                    continue;
                };
                layout.bytes += chunk.compressed_size().max(0) as u64;
                layout.decompressed_bytes += chunk.uncompressed_size().max(0) as u64;
                layout.codec = chunk.compression().to_string();
                for encoding in chunk.encodings() {
                    let encoding = encoding.to_string();
                    if !layout.encodings.contains(&encoding) {
                        layout.encodings.push(encoding);
                    }
                }
                let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
                layout.null_rows = layout.null_rows.zip(nulls).map(|(one, more)| one + more);
                layout.pages += rows.locations(number, column)?.len() as u64;
            }
            Ok(layout)
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut facets: Vec<FacetLayout> = Vec::new();
        for partition in self.directory().partitions() {
            let partition = partition?;
            let Some(of_partition) = self.facets(&partition)? else {
                continue;
            };
            for column in of_partition.columns()? {
                let Some(facet) = of_partition.facet(column)? else {
                    continue;
                };
                let (column, posting_bytes) = (name(column), facet.posting_bytes()?);
                let values = facet.len() as u64;
                match facets.iter_mut().find(|one| one.column == column) {
                    Some(one) => {
                        one.partitions += 1;
                        one.values += values;
                        one.posting_bytes += posting_bytes;
                    }
                    None => facets.push(FacetLayout {
                        column,
                        partitions: 1,
                        values,
                        posting_bytes,
                    }),
                }
            }
        }
        let summary = self.summary();
        let requests = self.requests()?.map(|requests| requests.layout());
        Ok(SegmentLayout {
            requests: requests.transpose()?.map(Box::new),
            row_groups: metadata
                .row_groups()
                .iter()
                .map(|group| group.num_rows().max(0) as u64)
                .collect(),
            columns,
            parts: self
                .header()
                .parts
                .iter()
                .map(|part| PartLayout {
                    name: part.name(),
                    bytes: part.range.end - part.range.start,
                })
                .collect(),
            header_bytes: summary.tail_offset - summary.index_offset,
            tail_bytes: summary.bytes - summary.tail_offset,
            promoted: rows.columns().promoted().keys().to_vec(),
            facets,
        })
    }
}
