//! Reads everything of a segment in every way.

use bytes::Bytes;

use super::samples::team;
use crate::id::TraceId;
use crate::segment::facets::CodeCounts;
use crate::segment::promotion::Owner;
use crate::segment::promotion::access::{Aspect, Attribute};
use crate::segment::summarize;
use crate::segment::{Column, Id, Partition, RowReader, SegmentReader, SegmentSummary};
use crate::span::table;

/// Reads everything of a segment in every way. What it reads is dropped: each
/// read ends in an answer or an error.
///
/// # Panics
/// When more rows are read than were asked for.
pub fn read_all(file: Bytes, summary: SegmentSummary) {
    drop(summarize(&file));
    let rows = summary.rows;
    let Ok(reader) = SegmentReader::open(file, summary) else {
        return;
    };
    drop(reader.verify());
    drop(reader.layout());
    let listed = reader.directory().partitions().take(4).flatten();
    let named = ["large", "small"].map(|name| reader.directory().find(&team(name)));
    for partition in listed.chain(named.into_iter().flatten().flatten()) {
        read_indexes(&reader, &partition);
    }
    let Ok(row_reader) = reader.row_reader() else {
        return;
    };
    let columns = columns();
    for (rows, batch_rows) in [(0..rows, 4_096), (5..9, 10), (8_995..9_010, 100)] {
        let asked = rows.len();
        if let Ok(batches) = row_reader.read(&[rows], &columns, batch_rows) {
            let read: usize = batches
                .take(16)
                .flatten()
                .map(|batch| batch.num_rows())
                .sum();
            assert!(read <= asked, "{read} rows of {asked}");
        }
    }
    for column in &columns {
        read_codes(&row_reader, column);
    }
}

/// Reads a column of the first row group as codes, and the bounds of its pages.
fn read_codes(reader: &RowReader, column: &Column) {
    if let Column::Stored(place) = column {
        drop(reader.page_ranges(0, *place));
    }
    let Ok(Some(coded)) = reader.coded(0, column, None) else {
        return;
    };
    let values = coded.values().len();
    let are_of = |codes: &[u16]| codes.iter().all(|code| usize::from(*code) < values);
    let mut codes = Vec::new();
    for page in 0..coded.pages().unwrap_or_default().min(4) {
        drop(coded.rows(page));
        drop(coded.bytes(page));
        if coded
            .read(page, &mut codes)
            .is_ok_and(|are_codes| are_codes)
        {
            assert!(are_of(&codes), "codes of values");
        }
    }
    if let Ok(Some(codes)) = coded.read_all() {
        assert!(are_of(&codes), "codes of values");
        assert_eq!(codes.len(), coded.all_rows().len());
    }
}

fn read_indexes(reader: &SegmentReader, partition: &Partition) {
    for trace in [1u64, 2, 700] {
        let id = u128::from(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        drop(reader.find(partition, Id::Trace(TraceId(id))));
    }
    drop(reader.find(partition, Id::Session("s3")));
    drop(reader.find(partition, Id::Request("r1")));
    let Ok(Some(facets)) = reader.facets(partition) else {
        return;
    };
    let read = |range| reader.postings(range);
    for column in facets.columns().unwrap_or_default().into_iter().take(100) {
        let Ok(Some(facet)) = facets.facet(column) else {
            continue;
        };
        drop(facet.find(b"GET"));
        drop(facet.nulls(&read));
        let rows = facet.rows_of(|place| place % 2 == 0, &read);
        drop(rows.map(|rows| (rows.all(), rows.of_row_group(0))));
        let some = partition.rows.clone().take(1_000).step_by(3).collect();
        drop(facet.postings_of(|place| place % 2 == 0));
        drop(facet.counts(&some, |_| true, &mut CodeCounts::default(), &read));
        drop(facet.counts(&some, |place| place < 3, &mut CodeCounts::default(), &read));
        for value in (0..facet.len().min(8)).filter_map(|place| facet.value(place).ok()) {
            drop(facet.rows(&value, &read));
        }
    }
}

/// All columns of spans, and attributes of each type, of spans and of resources.
pub fn columns() -> Vec<Column> {
    let mut columns: Vec<Column> = Column::all(table());
    let of_spans = ["text", "number", "double", "flag", "varied", "absent"];
    let of_spans = of_spans.map(|key| (Owner::Span, key));
    let of_resources = ["instance", "number", "absent"].map(|key| (Owner::Resource, key));
    for (owner, key) in of_spans.into_iter().chain(of_resources) {
        for aspect in [Aspect::Text, Aspect::Number, Aspect::Presence] {
            columns.push(Column::Attribute(Attribute {
                owner,
                key: key.into(),
                aspect,
            }));
        }
    }
    columns
}
