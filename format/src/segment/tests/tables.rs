//! Another table than that of spans, through the same writer and reader.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int32Array, RecordBatch, StringViewArray};
use arrow::array::{AsArray, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use bytes::Bytes;

use super::*;
use crate::month::Month;
use crate::segment::PROMOTED_KEY;
use crate::table::{IndexedId, Roles, Table, TableColumn};

const TEAM: usize = 0;
const TRACE: usize = 1;
const START: usize = 2;
const PATH: usize = 3;
const VIEWS: usize = 4;

/// Views of pages: one row a view.
fn views() -> &'static Table {
    static COLUMNS: [TableColumn; 5] = [
        TableColumn::text("team_id").hidden(),
        TableColumn::id("trace_id", 16),
        TableColumn::time("start_time"),
        TableColumn::text("path").nullable().facet(),
        TableColumn::int32("views").facet(),
    ];
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let roles = Roles {
            team: TEAM,
            start: START,
            ids: &[(IndexedId::Trace, TRACE)],
            order: &[TEAM, START],
            identity: &[TRACE],
            attributes: None,
            shared: &[],
            parent: None,
        };
        Table::new("views", 3, &COLUMNS, roles)
    });
    &TABLE
}

fn rows(team: &str, count: i32) -> RecordBatch {
    let numbers = || 0..count;
    let ids = numbers().map(|n| u128::from(n.unsigned_abs() / 3).to_be_bytes());
    let times = numbers().map(|n| super::START as i64 + i64::from(n));
    let paths = numbers().map(|n| (n % 5 != 0).then(|| format!("/{}", n % 7)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers().map(|_| Some(team)).collect::<StringViewArray>()),
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap()),
        Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(paths.collect::<StringViewArray>()),
        Arc::new(
            numbers()
                .map(|n| Some(n % 300 - 100))
                .collect::<Int32Array>(),
        ),
    ];
    RecordBatch::try_new(views().schema(), columns).unwrap()
}

fn segment(batches: &[RecordBatch]) -> (Bytes, SegmentSummary) {
    let segment = NewSegment {
        id: SegmentId(3),
        month: Month::of(super::START as i64),
        origin: Origin::sealed(1..2),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), views(), segment).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    (Bytes::from(file), summary)
}

#[test]
fn rows_come_back_and_are_found() {
    let (large, small) = (rows("a", 9_000), rows("b", 40));
    let (file, summary) = segment(&[large.slice(0, 100), large.slice(100, 8_900), small.clone()]);
    assert_eq!(summarize(&file), Ok(summary.clone()));
    let reader = SegmentReader::open_of(views(), file, summary).unwrap();
    assert_eq!(reader.verify(), []);
    let columns = Column::all(views());
    let all = reader.row_reader().unwrap();
    assert_eq!(all.columns().mapping(), 3);
    let read = |range: std::ops::Range<u32>| {
        let batches = all.read(&[range], &columns, 100_000).unwrap();
        batches.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(read(0..9_000), [large]);
    assert_eq!(read(9_000..9_040), [small]);
    // By trace, and by nothing that the table does not index.
    let partition = reader.directory().find(&team("b")).unwrap().unwrap();
    let found = reader.find(&partition, Id::Trace(TraceId(2u128.to_be_bytes())));
    let found: Vec<u32> = found.unwrap().unwrap().iter().collect();
    assert_eq!(found, [9_006, 9_007, 9_008]);
    assert!(reader.find(&partition, Id::Session("s")).is_err());
    // By facets, integers in the order of numbers.
    let partition = reader.directory().find(&team("a")).unwrap().unwrap();
    let facets = reader.facets(&partition).unwrap().unwrap();
    assert_eq!(facets.columns(), Ok(vec![PATH, VIEWS]));
    let views = facets.facet(VIEWS).unwrap().unwrap();
    let numbers = (0..views.len()).map(|place| {
        let value = views.value(place).unwrap();
        assert_eq!(value.rows, 30);
        facets::integer_of(&value.bytes).unwrap()
    });
    assert!(numbers.eq(-100..200));
    let paths = facets.facet(PATH).unwrap().unwrap();
    assert_eq!((paths.len(), paths.null_rows()), (7, 1_800));
    // Of pages of few rows too.
    let few = all
        .read(&[9_010..9_012], &[Column::Stored(VIEWS)], 10)
        .unwrap();
    let few: Vec<RecordBatch> = few.map(Result::unwrap).collect();
    assert_eq!(
        few[0].column(0).as_primitive::<Int32Type>().values(),
        &[-90, -89]
    );
}

#[test]
fn rows_of_another_table_are_refused() {
    let (file, summary) = segment(&[rows("a", 10)]);
    let reader = SegmentReader::open(file, summary).unwrap();
    let error = reader.row_reader().unwrap_err().to_string();
    assert!(error.contains("the table spans, found views"), "{error}");
}

#[test]
fn rows_that_are_not_the_table_s_are_not_written() {
    let segment = NewSegment {
        id: SegmentId(3),
        month: Month::of(super::START as i64),
        origin: Origin::sealed(1..2),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), views(), segment).unwrap();
    assert!(writer.write(&batch("a", 10)).is_err());
}

/// What other readers see: the order of rows, and which column holds what.
#[test]
fn the_footer_tells_the_order_and_the_promoted_keys() {
    let (file, summary) = super::segment(&[("a", 100)]);
    let reader = SegmentReader::open(file, summary).unwrap();
    let rows = reader.row_reader().unwrap();
    let metadata = rows.metadata().unwrap();
    let sorting = metadata.row_group(0).sorting_columns().unwrap();
    let names = sorting.iter().map(|one| {
        assert!(!one.descending);
        rows.columns().names()[one.column_idx as usize].as_str()
    });
    let names: Vec<&str> = names.collect();
    assert_eq!(
        names,
        [
            "team_id",
            "trace_start",
            "trace_id",
            "start_time",
            "span_id"
        ]
    );
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let pair = pairs.iter().find(|pair| pair.key == PROMOTED_KEY).unwrap();
    let json: serde_json::Value = serde_json::from_str(pair.value.as_ref().unwrap()).unwrap();
    assert_eq!(json["table"], "spans");
    let key = &json["promoted"][0];
    assert_eq!(key["key"], "session.id");
    assert_eq!(key["column"], "session_id");
    assert_eq!(key["type"], "text");
}

/// What rows share comes back for each row: messages, URLs, the texts in them, and
/// attributes.
#[test]
fn what_rows_share_comes_back() {
    use crate::segment::promotion::Owner;
    use crate::segment::promotion::access::{Aspect, Attribute};

    let batch = batch("a", 9_000);
    let (file, summary) = segment_of([batch.clone()]);
    let reader = SegmentReader::open(file, summary).unwrap();
    let counts = reader.shared().unwrap();
    let counts = counts.iter().map(|one| one.as_ref().unwrap().len());
    // Of resources with and without a URL, the one with nothing but a URL among them.
    assert_eq!(counts.collect::<Vec<_>>(), [7, 2]);
    let instance = Attribute {
        owner: Owner::Resource,
        key: "instance".into(),
        aspect: Aspect::Text,
    };
    let columns = [
        SpanColumn::SpanId,
        SpanColumn::ResourceAttributes,
        SpanColumn::ResourceSchemaUrl,
        SpanColumn::Scope,
        SpanColumn::ScopeName,
        SpanColumn::ScopeVersion,
        SpanColumn::ScopeSchemaUrl,
    ];
    let mut wanted: Vec<Column> = columns.map(Column::from).to_vec();
    wanted.push(Column::Attribute(instance.clone()));
    let rows = reader.row_reader().unwrap();
    let expected = instance.read(SpanColumn::ResourceAttributes.bytes(&batch).unwrap());
    let mut seen = 0;
    for range in [0..9_000, 4_000..4_003] {
        for read in rows.read(&[range], &wanted, 1_000).unwrap() {
            let read = read.unwrap();
            let ids = SpanColumn::SpanId.ids(&read).unwrap();
            for row in 0..read.num_rows() {
                let id = u64::from_be_bytes(ids.value(row).try_into().unwrap());
                // The sample has its rows the other way round.
                let at = 9_000 - id as usize;
                for column in columns {
                    let (found, expected) = (column.of(&read).unwrap(), column.of(&batch).unwrap());
                    assert_eq!(
                        &found.slice(row, 1),
                        &expected.slice(at, 1),
                        "{}",
                        column.name()
                    );
                }
                let found = read.columns().last().unwrap().slice(row, 1);
                assert_eq!(&found, &expected.slice(at, 1));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 9_003);
}
