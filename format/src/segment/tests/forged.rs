//! Segments whose checksums hold and whose content makes no sense, as a bug of
//! another writer, or malice, would leave them: each read ends in an answer or
//! an error.

use std::sync::LazyLock;

use arrow::compute::concat_batches;
use parquet::file::metadata::RowGroupMetaData;
use proptest::prelude::*;

use super::*;
use crate::segment::checksum::BLOCK_BYTES;
use crate::segment::header::{HEADER_BYTES, IndexHeader, Part};
use crate::segment::layout::PAGE_ROWS;
use crate::segment::promotion::Owner;
use crate::segment::promotion::access::{Aspect, Attribute};

/// A segment with something of everything, and where its pages begin.
static SEGMENT: LazyLock<(Bytes, SegmentSummary, Vec<u64>)> = LazyLock::new(|| {
    let (file, summary) = segment_of([("large", 9_000), ("small", 30)].map(|(name, rows)| {
        batch_with(name, rows, |n| {
            let varied = if n % 50 == 0 {
                Value::IntValue(1)
            } else {
                Value::StringValue("v".into())
            };
            let mut attributes = vec![
                attribute("text", Value::StringValue(format!("text {}", n % 20))),
                attribute("http.route", Value::StringValue(format!("/r{}", n % 9))),
                attribute("number", Value::IntValue(n as i64 % 300)),
                attribute("double", Value::DoubleValue(n as f64 / 3.0)),
                attribute("flag", Value::BoolValue(n % 3 == 0)),
                attribute("varied", varied),
                attribute("url.path", Value::StringValue(format!("/path/{n}"))),
            ];
            attributes.retain(|one| n % 7 != one.key.len() as u64 % 7);
            attributes
        })
    }));
    let reader = SegmentReader::open(file.clone(), summary.clone()).unwrap();
    let rows = reader.row_reader().unwrap();
    let chunks = rows
        .metadata()
        .row_groups()
        .iter()
        .flat_map(RowGroupMetaData::columns);
    let mut pages: Vec<u64> = chunks
        .flat_map(|chunk| {
            [
                chunk.dictionary_page_offset(),
                Some(chunk.data_page_offset()),
            ]
        })
        .flatten()
        .map(|offset| offset as u64)
        .collect();
    pages.extend(reader.header().parts.iter().map(|part| part.start));
    (file, summary, pages)
});

/// A change of a few bytes.
#[derive(Debug, Clone)]
struct Change {
    place: Place,
    bytes: Vec<u8>,
}

/// Where the change is.
#[derive(Debug, Clone)]
enum Place {
    /// Behind the start of a page or of a part of the index.
    Start(prop::sample::Index, u64),
    /// Somewhere in a part of the index.
    Part(prop::sample::Index, prop::sample::Index),
    /// Somewhere in the tail, from the page index on.
    Tail(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let place = prop_oneof![
        (any::<prop::sample::Index>(), 0u64..80).prop_map(|(at, by)| Place::Start(at, by)),
        any::<(prop::sample::Index, prop::sample::Index)>()
            .prop_map(|(part, at)| Place::Part(part, at)),
        any::<prop::sample::Index>().prop_map(Place::Tail),
    ];
    let byte = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xff),
        any::<u8>()
    ];
    let bytes = prop_oneof![
        proptest::collection::vec(byte, 1..4),
        (1usize..12, any::<u8>()).prop_map(|(times, byte)| vec![byte; times]),
    ];
    (place, bytes).prop_map(|(place, bytes)| Change { place, bytes })
}

/// The segment with changes, and with checksums that hold again.
fn forged(changes: &[Change]) -> (Bytes, SegmentSummary) {
    let (file, summary, pages) = &*SEGMENT;
    let mut summary = summary.clone();
    let index = summary.index_offset as usize;
    let header = &file[index..index + HEADER_BYTES];
    let mut header = IndexHeader::decode(header, index as u64).unwrap();
    let mut file = file.to_vec();
    for change in changes {
        let at = match &change.place {
            Place::Start(page, by) => page.get(pages) + by,
            Place::Part(part, at) => {
                let part = header.part(*part.get(&Part::ALL));
                part.start + at.index((part.end - part.start).max(1) as usize) as u64
            }
            Place::Tail(at) => {
                let tail = summary.tail_offset as usize..file.len();
                (tail.start + at.index(tail.len())) as u64
            }
        };
        for (to, from) in file[at as usize..].iter_mut().zip(&change.bytes) {
            *to = *from;
        }
    }
    let (content, rest) = file.split_at_mut(index);
    let blocks = content.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c);
    let blocks: Vec<u8> = blocks.flat_map(u32::to_le_bytes).collect();
    header.blocks_crc = crc32c::crc32c(&blocks);
    rest[..HEADER_BYTES].copy_from_slice(&header.encode());
    rest[HEADER_BYTES..HEADER_BYTES + blocks.len()].copy_from_slice(&blocks);
    summary.tail_crc = crc32c::crc32c(&file[summary.tail_offset as usize..]);
    (Bytes::from(file), summary)
}

/// Reads everything in every way.
fn read_all(file: Bytes, summary: SegmentSummary) {
    drop(summarize(&file));
    let rows = summary.rows;
    let Ok(reader) = SegmentReader::open(file, summary) else {
        return;
    };
    drop(reader.verify());
    drop(reader.layout());
    let names = ["large", "small"];
    for partition in names.map(|name| reader.directory().find(&team(name))) {
        let Ok(Some(partition)) = partition else {
            continue;
        };
        for trace in [1u64, 2, 700] {
            let id = u128::from(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
            drop(reader.find(&partition, Id::Trace(TraceId(id))));
        }
        drop(reader.find(&partition, Id::Session("s3")));
        drop(reader.find(&partition, Id::Request("r1")));
        let Ok(Some(facets)) = reader.facets(&partition) else {
            continue;
        };
        let read = |range| reader.postings(range);
        for column in facets.columns().unwrap_or_default().into_iter().take(100) {
            let Ok(Some(facet)) = facets.facet(column) else {
                continue;
            };
            drop(facet.find(b"GET"));
            drop(facet.nulls(&read));
            for value in (0..facet.len().min(8)).filter_map(|place| facet.value(place).ok()) {
                drop(facet.rows(&value, &read));
            }
        }
    }
    let Ok(row_reader) = reader.row_reader() else {
        return;
    };
    let columns = columns();
    for (rows, batch_rows) in [(0..rows, 4_096), (5..9, 10), (8_995..9_010, 100)] {
        if let Ok(batches) = row_reader.read(&[rows], &columns, batch_rows) {
            drop(batches.take(16).collect::<Vec<_>>());
        }
    }
}

/// Few rows are read by other code than many: all columns, equal.
#[test]
fn look_ups_read_what_scans_read() {
    let (file, summary, _) = SEGMENT.clone();
    let rows = summary.rows;
    let reader = SegmentReader::open(file, summary).unwrap();
    let all = read_columns(&reader, &[0..rows], 100_000);
    let all = concat_batches(&all[0].schema(), &all).unwrap();
    let mut ranges: Vec<Vec<std::ops::Range<u32>>> = (0..rows - 60)
        .step_by(97)
        .map(|start| vec![start..start + 1 + start % 60])
        .collect();
    let page = PAGE_ROWS as u32;
    // One row of the next page.
    let borders = (page..rows - 1).step_by(PAGE_ROWS);
    ranges.extend(borders.map(|border| vec![border - 2..border + 1]));
    ranges.push(vec![3..5, 1_270..1_300, 2_600..2_601, 8_990..9_030]);
    for ranges in ranges {
        let few = read_columns(&reader, &ranges, 1_000);
        let slices = ranges
            .iter()
            .map(|rows| all.slice(rows.start as usize, rows.len()));
        let expected = concat_batches(&all.schema(), &slices.collect::<Vec<_>>()).unwrap();
        assert_eq!(few, [expected], "{ranges:?}");
    }
}

fn read_columns(
    reader: &SegmentReader,
    rows: &[std::ops::Range<u32>],
    batch_rows: usize,
) -> Vec<RecordBatch> {
    let rows = reader
        .row_reader()
        .unwrap()
        .read(rows, &columns(), batch_rows);
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// All columns, and attributes of each type.
fn columns() -> Vec<Column> {
    let mut columns = all_columns();
    for key in ["text", "number", "double", "flag", "varied", "absent"] {
        for aspect in [Aspect::Text, Aspect::Number] {
            columns.push(Column::Attribute(Attribute {
                owner: Owner::Span,
                key: key.into(),
                aspect,
            }));
        }
    }
    columns
}

proptest! {
    #[test]
    fn nonsense_with_checksums_that_hold_is_no_panic(changes in proptest::collection::vec(change(), 1..4)) {
        let (file, summary) = forged(&changes);
        read_all(file, summary);
    }
}

#[test]
fn unchanged_it_reads() {
    let (file, summary) = forged(&[]);
    assert_eq!((&file, &summary), (&SEGMENT.0, &SEGMENT.1));
    let reader = SegmentReader::open(file, summary).unwrap();
    assert_eq!(reader.verify(), []);
}
