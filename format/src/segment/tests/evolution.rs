//! Segments of other versions: with columns and parts that this one does not know,
//! and without columns that it does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Schema;

use super::*;
use crate::error::FormatError;
use crate::month::Month;
use crate::segment::layout::order::arrange;
use crate::segment::promotion::choose::Sample;
use crate::span::table;
use crate::table::{Roles, SharedColumns, Table, TableColumn};

/// Where other columns have a column of this version, given by its place.
fn place_in(columns: &[TableColumn], of_this: usize) -> usize {
    let name = table().column(of_this).unwrap().name;
    let mut columns = columns.iter();
    columns.position(|column| column.name == name).unwrap()
}

/// The table of spans as another version has it: without `left_out`, and with
/// `colour` and `weight` in front.
pub(super) fn other_version(left_out: &[&str]) -> &'static Table {
    let mut columns = vec![
        TableColumn::text("colour").facet(),
        TableColumn::int64("weight"),
    ];
    let known = table().columns().iter();
    columns.extend(known.filter(|column| !left_out.contains(&column.name)));
    version_of(columns, 9)
}

/// The table of spans as a version with these columns and this mapping has it.
fn version_of(columns: Vec<TableColumn>, mapping: u32) -> &'static Table {
    let columns: &'static [TableColumn] = columns.leak();
    let place = |of_this| place_in(columns, of_this);
    let roles = table().roles();
    let ids: Vec<_> = roles
        .ids
        .iter()
        .map(|(id, column)| (*id, place(*column)))
        .collect();
    let order: Vec<usize> = roles.order.iter().map(|column| place(*column)).collect();
    let shared = roles.shared.iter().map(|shared| {
        let texts = shared.texts.iter();
        let texts: Vec<_> = texts.map(|(text, field)| (place(*text), *field)).collect();
        SharedColumns {
            message: place(shared.message),
            schema_url: place(shared.schema_url),
            texts: texts.leak(),
            ..*shared
        }
    });
    let shared: Vec<SharedColumns> = shared.collect();
    let roles = Roles {
        team: place(roles.team),
        start: place(roles.start),
        ids: ids.leak(),
        order: order.leak(),
        identity: &[],
        attributes: roles.attributes.map(&place),
        shared: shared.leak(),
        // The ids of parents as they are.
        parent: None,
    };
    Box::leak(Box::new(Table::new("spans", mapping, columns, roles)))
}

/// Rows as the other version has them.
fn of_other_version(table: &Table, rows: &RecordBatch) -> RecordBatch {
    let columns = table.columns().iter().map(|column| -> ArrayRef {
        match column.name {
            "colour" => Arc::new(StringViewArray::from_iter_values(vec![
                "red";
                rows.num_rows()
            ])),
            "weight" => Arc::new(Int64Array::from_value(4, rows.num_rows())),
            name => Arc::clone(rows.column_by_name(name).unwrap()),
        }
    });
    RecordBatch::try_new(table.schema(), columns.collect()).unwrap()
}

/// A segment that the other version wrote, with a part of the index more, and the
/// rows that went in.
pub(super) fn written(
    table: &'static Table,
    is_part_required: bool,
) -> (Bytes, SegmentSummary, Vec<RecordBatch>) {
    let batch = batch_with("a", 9_000, |n| {
        vec![
            attribute("http.route", Value::StringValue(format!("/r{}", n % 9))),
            attribute("own", Value::IntValue(n.cast_signed())),
        ]
    });
    let mut sample = Sample::default();
    sample.add(&batch, 3);
    let mut promotion = sample.choose();
    promotion.move_columns(|column| {
        let name = super::table().column(column).unwrap().name;
        table.place_of(name).unwrap()
    });
    let segment = NewSegment {
        id: SegmentId(9),
        month: Month::of(START as i64),
        origin: Origin::sealed(1..9),
        promotion,
    };
    let mut writer = SegmentWriter::new(Vec::new(), table, segment).unwrap();
    writer.add_part(77, is_part_required, b"something new".to_vec());
    let mut rows = Vec::new();
    arrange([vec![batch]], |batch| {
        rows.push(batch.clone());
        writer.write(&of_other_version(table, batch))
    })
    .unwrap();
    let (file, summary) = writer.finish().unwrap();
    (Bytes::from(file), summary, rows)
}

#[test]
fn what_is_unknown_is_skipped_and_what_is_missing_is_null() {
    let left_out = ["branch", "sequence", "level"];
    let other = other_version(&left_out);
    let (file, summary, expected) = written(other, false);
    assert_eq!(summarize(&file), Ok(summary.clone()));
    let reader = SegmentReader::open(file, summary).unwrap();
    assert_eq!(reader.verify(), []);
    assert_eq!(reader.columns().unwrap().mapping(), 9);
    let found = read(&reader, &[0..9_000]);
    let concat = |batches: &[RecordBatch]| {
        arrow::compute::concat_batches(&table().schema(), batches).unwrap()
    };
    let (found, expected) = (concat(&found), concat(&expected));
    for (place, column) in table().columns().iter().enumerate() {
        if !left_out.contains(&column.name) {
            assert_eq!(
                found.column(place),
                expected.column(place),
                "{}",
                column.name
            );
        }
    }
    // Null, zero, and the level of what says nothing.
    assert_eq!(
        SpanColumn::Branch.texts(&found).unwrap().null_count(),
        9_000
    );
    assert_eq!(
        SpanColumn::Sequence.int64s(&found).unwrap(),
        &Int64Array::from_value(0, 9_000)
    );
    let levels = SpanColumn::Level.texts(&found).unwrap();
    assert!(levels.iter().all(|level| level == Some("info")));
    // Indexes and promoted attributes are found at their other places.
    let partition = reader.directory().find(&team("a")).unwrap().unwrap();
    let facets = reader.facets(&partition).unwrap().unwrap();
    let columns = reader.columns().unwrap();
    let route = columns.place(SpanColumn::Route.place()).unwrap();
    assert_eq!(facets.facet(route).unwrap().unwrap().len(), 9);
    assert_eq!(columns.place(SpanColumn::Branch.place()), None);
    let layout = reader.layout().unwrap();
    let part = layout
        .parts
        .iter()
        .find(|part| part.name.contains("77"))
        .unwrap();
    assert_eq!(part.bytes, 13);
}

#[test]
fn a_part_that_must_be_known_is_named() {
    let (file, summary, _) = written(other_version(&[]), true);
    let error = SegmentReader::open(file, summary).unwrap_err();
    assert!(matches!(error, FormatError::UnknownParts { .. }), "{error}");
    assert!(
        error.to_string().contains("kind 77 of version 1"),
        "{error}"
    );
}

#[test]
fn a_column_that_must_be_there_is_named() {
    let (file, summary, _) = written(other_version(&["name"]), false);
    let reader = SegmentReader::open(file, summary).unwrap();
    let rows = reader.row_reader().unwrap();
    let name = rows.read(&[0..5], &[SpanColumn::Name.into()], 10).unwrap();
    let error = name.last().unwrap().unwrap_err().to_string();
    assert!(error.contains("the column name"), "{error}");
    // The others can be read.
    let kind = rows.read(&[0..5], &[SpanColumn::Kind.into()], 10).unwrap();
    assert!(kind.last().unwrap().is_ok());
}

/// A column of a known name and another type is damage, and no other value.
#[test]
fn a_column_of_another_type_is_refused() {
    let mut columns = table().columns().to_vec();
    columns[SpanColumn::Duration.place()] = TableColumn::text("duration");
    let columns: &'static [TableColumn] = columns.leak();
    let roles = *table().roles();
    let other: &'static Table = Box::leak(Box::new(Table::new("spans", 1, columns, roles)));
    let rows = batch("a", 10);
    let mut values = rows.columns().to_vec();
    values[SpanColumn::Duration.place()] =
        Arc::new(StringViewArray::from_iter_values(vec!["1 s"; 10]));
    let schema: Arc<Schema> = other.schema();
    let segment = NewSegment {
        id: SegmentId(9),
        month: Month::of(START as i64),
        origin: Origin::sealed(1..9),
        promotion: Promotion::default(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), other, segment).unwrap();
    writer
        .write(&RecordBatch::try_new(schema, values).unwrap())
        .unwrap();
    let (file, summary) = writer.finish().unwrap();
    let reader = SegmentReader::open(Bytes::from(file), summary).unwrap();
    let error = reader.row_reader().unwrap_err().to_string();
    assert!(error.contains("Int64 in duration, found Utf8"), "{error}");
}

/// A version that maps another attribute promotes it into a column that this one does
/// not know: the attribute comes back all the same.
#[test]
fn attributes_in_unknown_columns_come_back() {
    let (file, summary, expected) = written(other_version(&[]), false);
    // This version as it would be without the column `route`.
    let columns = table().columns().iter();
    let columns = columns.filter(|one| one.name != "route").copied();
    let older = version_of(columns.collect(), 1);
    let attributes = older.roles().attributes.unwrap();
    let reader = SegmentReader::open_of(older, file, summary).unwrap();
    let rows = reader.row_reader().unwrap();
    assert!(rows.columns().promoted().find("http.route").is_some());
    let mut first = 0;
    for batch in rows
        .read(&[0..9_000], &[Column::Stored(attributes)], 20_000)
        .unwrap()
    {
        let batch = batch.unwrap();
        let all = arrow::compute::concat_batches(&table().schema(), &expected).unwrap();
        let expected = SpanColumn::Attributes.of(&all).unwrap();
        assert_eq!(batch.column(0), &expected.slice(first, batch.num_rows()));
        first += batch.num_rows();
    }
    assert_eq!(first, 9_000);
}
