use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch, StringViewArray};
use arrow::array::{Int32Array, new_null_array};
use proptest::prelude::*;
use prost::Message;

use super::access::{Aspect, Attribute};
use super::choose::Sample;
use super::split::Splitter;
use super::*;
use crate::otlp::{AnyValue, ArrayValue, KeyValue, Span, Value};
use crate::segment::layout::columns::FileColumns;
use crate::span::{SpanColumn, schema, table};
use arrow::datatypes::{DataType, Schema};

/// Rows that have attributes and two mapped columns, and nothing else.
fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = SpanColumn::ALL
        .iter()
        .map(|column| -> ArrayRef {
            match column {
                SpanColumn::Attributes => Arc::new(
                    rows.iter()
                        .map(|row| row.attributes.clone())
                        .collect::<BinaryViewArray>(),
                ),
                SpanColumn::Route => Arc::new(
                    rows.iter()
                        .map(|row| row.route.clone())
                        .collect::<StringViewArray>(),
                ),
                SpanColumn::StatusCode => {
                    Arc::new(rows.iter().map(|row| row.status).collect::<Int32Array>())
                }
                _ => new_null_array(&column.description().value.data_type(), rows.len()),
            }
        })
        .collect();
    // The other columns are null here although they may not be in a segment.
    let spans = schema();
    let fields = spans
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let nullable = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(nullable, columns).unwrap()
}

/// The columns of the file for some rows, and what they are.
fn split(splitter: &mut Splitter, batch: &RecordBatch) -> (Vec<ArrayRef>, FileColumns) {
    let attributes = SpanColumn::Attributes.place();
    let split = splitter.split(batch, attributes).unwrap();
    let file = FileColumns::written(table(), splitter.promotion(), splitter.has_strays());
    let rows = batch.num_rows();
    // Nothing looks at what rows share here.
    let mut columns = vec![new_null_array(&DataType::UInt32, rows); file.names().len()];
    for (place, column) in batch.columns().iter().enumerate() {
        if let Some(place) = file.place(place) {
            columns[place] = Arc::clone(column);
        }
    }
    columns[file.place(attributes).unwrap()] = split.residual;
    columns[file.order().unwrap()] = split.order;
    let first_own = columns.len() - split.own.len();
    columns.truncate(first_own);
    columns.extend(split.own);
    (columns, file)
}

#[derive(Debug, Clone)]
struct Row {
    attributes: Option<Vec<u8>>,
    route: Option<String>,
    status: Option<i32>,
}

fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        5 => "[a-c]{0,3}".prop_map(|text| Some(Value::StringValue(text))),
        3 => (-3i64..300).prop_map(|number| Some(Value::IntValue(number))),
        1 => any::<i64>().prop_map(|number| Some(Value::IntValue(number))),
        2 => prop_oneof![Just(0.5), Just(-0.0), Just(f64::NAN), any::<f64>()]
            .prop_map(|number| Some(Value::DoubleValue(number))),
        1 => any::<bool>().prop_map(|truth| Some(Value::BoolValue(truth))),
        1 => Just(Some(Value::BytesValue(vec![1, 2]))),
        1 => Just(Some(Value::ArrayValue(ArrayValue { values: vec![AnyValue::default()] }))),
        1 => Just(None),
    ]
}

const KEYS: [&str; 6] = [
    "http.route",
    "http.response.status_code",
    "a",
    "b",
    "",
    "k'\"é",
];

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let attribute = (prop::sample::select(KEYS.to_vec()), value(), any::<bool>());
    let attribute = attribute.prop_map(|(key, value, has_value)| KeyValue {
        key: key.into(),
        value: has_value.then_some(AnyValue { value }),
        ..KeyValue::default()
    });
    prop::collection::vec(attribute, 0..7)
}

fn row() -> impl Strategy<Value = Row> {
    (attributes(), any::<bool>(), any::<bool>(), 0u8..12).prop_map(
        |(span, mapped_route, has_status, kind)| {
            // As the mapping would fill them, and not.
            let text = |key: &str| {
                span.iter()
                    .find_map(|one| match one.value.as_ref()?.value.as_ref()? {
                        Value::StringValue(text) if one.key == key => Some(text.clone()),
                        _ => None,
                    })
            };
            let route = if mapped_route {
                text("http.route")
            } else {
                Some("other".into())
            };
            let status = has_status.then_some(200);
            let encoded = Span {
                attributes: span,
                ..Span::default()
            }
            .encode_to_vec();
            let attributes = match kind {
                0 => None,
                // Not what this store encodes: a name beside the attributes.
                1 => Some([&encoded[..], &[0x2a, 1, b'x']].concat()),
                _ => Some(encoded).filter(|bytes| !bytes.is_empty()),
            };
            Row {
                attributes,
                route,
                status,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn attributes_come_back_byte_for_byte(rows in prop::collection::vec(row(), 1..40), sampled in 1usize..8) {
        check(&rows, sampled)?;
    }
}

/// Writes rows and reads them again; answers the columns of the file.
fn check(rows: &[Row], sampled: usize) -> Result<FileColumns, TestCaseError> {
    let batch = batch(rows);
    let mut sample = Sample::default();
    sample.add(&batch, sampled);
    let mut splitter = Splitter::new(sample.choose());
    let (split, file) = split(&mut splitter, &batch);
    let promoted = file.promoted();
    let column = |place: usize| split.get(place);
    let rebuilt = rebuild::attributes(
        promoted,
        &split[file.place(SpanColumn::Attributes.place()).unwrap()],
        &split[file.order().unwrap()],
        column,
    )
    .unwrap();
    let rebuilt = rebuilt.as_binary_view();
    for (number, row) in rows.iter().enumerate() {
        let found = rebuilt.is_valid(number).then(|| rebuilt.value(number));
        prop_assert_eq!(
            found,
            row.attributes.as_deref(),
            "row {} of {:?}",
            number,
            promoted
        );
    }
    // Each aspect of each key, promoted or not, is that of the messages.
    let messages = SpanColumn::Attributes.bytes(&batch).unwrap();
    for key in KEYS.into_iter().chain(["absent"]) {
        for aspect in [Aspect::Text, Aspect::Number, Aspect::Presence] {
            let attribute = Attribute {
                owner: Owner::Span,
                key: key.into(),
                aspect,
            };
            let wanted = attribute.file_columns(&file);
            let only_wanted = |place: usize| column(place).filter(|_| wanted.contains(&place));
            let found = attribute
                .read_promoted(&file, rows.len(), true, only_wanted)
                .unwrap();
            let (found, expected) = (
                format!("{found:?}"),
                format!("{:?}", attribute.read(messages)),
            );
            prop_assert_eq!(found, expected, "{:?} of {:?}", attribute, promoted);
        }
    }
    // The part of the index says the same.
    let read = FileColumns::decode(&file.encode(table()), 0, table());
    prop_assert_eq!(read.as_ref(), Ok(&file));
    Ok(file)
}

proptest! {
    /// As request ids do, which begin with regions that their column leaves out.
    #[test]
    fn what_ends_with_a_column_is_stored_without_its_end(
        ids in prop::collection::vec(("[a-d]{2}::", 0u32..1_000), 100..130),
        stray in 0usize..100,
        is_empty in any::<bool>(),
    ) {
        let row = |(place, (prefix, id)): (usize, &(String, u32))| Row {
            route: match (place == stray, is_empty) {
                (false, _) => Some(id.to_string()),
                (true, true) => Some(String::new()),
                (true, false) => None,
            },
            ..span(vec![text("a", "b"), text("http.route", &format!("{prefix}{id}"))])
        };
        let rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
        let file = check(&rows, 1)?;
        let key = file.promoted().find("http.route").unwrap().1;
        prop_assert_eq!(key.suffix, file.place(SpanColumn::Route.place()));
        prop_assert!(key.is_own && key.has_strays);
        // Its column has beginnings, which are no values of anything.
        prop_assert!(!file.facets(table()).contains(&key.column));
    }
}

fn span(attributes: Vec<KeyValue>) -> Row {
    let span = Span {
        attributes,
        ..Span::default()
    };
    Row {
        attributes: Some(span.encode_to_vec()),
        route: None,
        status: None,
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue {
        value: Some(Value::StringValue(value.into())),
    });
    KeyValue {
        key: key.into(),
        value,
        ..KeyValue::default()
    }
}

#[test]
fn the_choice_is_by_presence_and_size_and_never_changes() {
    let rows: Vec<Row> = (0..1_000)
        .map(|n| {
            let mut attributes = vec![text("common", "x"), text("large", &"y".repeat(n % 50 + 20))];
            if n % 200 == 0 {
                attributes.push(text("rare", "z"));
            }
            attributes.extend((0..60).map(|key| text(&format!("key-{key:02}"), "v")));
            span(attributes)
        })
        .collect();
    let choose = || {
        let mut sample = Sample::default();
        sample.add(&batch(&rows), 1);
        sample.choose()
    };
    let promotion = choose();
    assert_eq!(promotion, choose());
    let keys: Vec<&str> = promotion
        .keys()
        .iter()
        .map(|key| key.key.as_str())
        .collect();
    assert_eq!(keys.len(), 48, "{keys:?}");
    // What takes most comes first, equal ones in the order of their keys.
    assert_eq!(keys[..3], ["large", "common", "key-00"]);
    assert!(!keys.contains(&"rare") && !keys.contains(&"key-59"));
}

/// Rows of two teams: `rows` of them with attributes of each.
fn of_teams(teams: [(&str, usize, Vec<KeyValue>); 2]) -> RecordBatch {
    let mut rows = Vec::new();
    let mut names = Vec::new();
    for (team, count, attributes) in teams {
        rows.extend(vec![span(attributes); count]);
        names.extend(vec![team; count]);
    }
    let batch = batch(&rows);
    let mut columns = batch.columns().to_vec();
    let place = SpanColumn::TeamId.place();
    columns[place] = Arc::new(names.into_iter().map(Some).collect::<StringViewArray>());
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn keys(prefix: &str, count: usize, value: &str) -> Vec<KeyValue> {
    let key = |n| text(&format!("{prefix}-{n:03}"), value);
    (0..count).map(key).collect()
}

#[test]
fn the_large_keys_of_one_team_leave_columns_for_the_others() {
    let large = "v".repeat(500);
    let choose = |rows: [usize; 2], own: usize| {
        let batch = of_teams([
            ("large", rows[0], keys("large", 80, &large)),
            ("other", rows[1], keys("other", own, "v")),
        ]);
        let mut sample = Sample::default();
        sample.add(&batch, 1);
        let chosen = sample.choose();
        let of = |prefix: &str| {
            let keys = chosen.keys().iter();
            keys.filter(|key| key.key.starts_with(prefix)).count()
        };
        (of("large"), of("other"))
    };
    // In proportion to its rows, and never nothing.
    assert_eq!(choose([500, 500], 40), (24, 24));
    assert_eq!(choose([250, 750], 60), (12, 36));
    assert_eq!(choose([980, 20], 60), (44, 4));
    // What the others leave.
    assert_eq!(choose([100, 900], 5), (43, 5));
    assert_eq!(choose([1_000, 0], 0), (48, 0));
}

#[test]
fn a_team_that_makes_up_keys_leaves_room_to_count_those_of_others() {
    let mut rows = Vec::new();
    for n in 0..2_000 {
        rows.push(span(keys(&format!("made-up-{n}"), 10, "v")));
    }
    rows.extend(vec![span(vec![text("common", "v")]); 2_000]);
    let batch = batch(&rows);
    let mut columns = batch.columns().to_vec();
    let names = (0..4_000).map(|n| Some(if n < 2_000 { "large" } else { "other" }));
    columns[SpanColumn::TeamId.place()] = Arc::new(names.collect::<StringViewArray>());
    let mut sample = Sample::default();
    sample.add(&RecordBatch::try_new(batch.schema(), columns).unwrap(), 1);
    let chosen = sample.choose();
    assert_eq!(chosen.keys().len(), 1);
    assert_eq!(chosen.keys()[0].key, "common");
}

/// What a column would show for null is a value of its own: empty, zero, false.
#[test]
fn a_value_beside_a_null_column_stays() {
    let row = |route: &str, status: i64| Row {
        route: Some(route.into()),
        status: i32::try_from(status).ok(),
        ..span(vec![
            text("http.route", route),
            KeyValue {
                key: "http.response.status_code".into(),
                value: Some(AnyValue {
                    value: Some(Value::IntValue(status)),
                }),
                ..KeyValue::default()
            },
        ])
    };
    let mut rows = vec![row("/a", 200); 300];
    rows[100] = Row {
        route: None,
        status: None,
        ..row("", 0)
    };
    let file = check(&rows, 1).unwrap();
    for (key, column) in [
        ("http.route", SpanColumn::Route),
        ("http.response.status_code", SpanColumn::StatusCode),
    ] {
        let (_, found) = file.promoted().find(key).unwrap();
        assert_eq!(Some(found.column), file.place(column.place()), "{key}");
        assert!(found.has_strays, "{key}");
    }
}

/// Strays are told row by row.
#[test]
fn strays_are_found_where_they_are() {
    let number = |key: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::IntValue(1)),
        }),
        ..KeyValue::default()
    };
    let plain = Row {
        route: Some("/a".into()),
        ..span(vec![text("k", "v"), text("http.route", "/a")])
    };
    let mut rows = vec![plain.clone(); 100];
    rows[20] = Row {
        route: Some("/a".into()),
        ..span(vec![number("k"), text("http.route", "/a")])
    };
    rows[60] = Row {
        route: Some("/b".into()),
        ..plain
    };
    let batch = batch(&rows);
    let mut sample = Sample::default();
    sample.add(&batch.slice(0, 20), 1);
    let mut splitter = Splitter::new(sample.choose());
    let (_, file) = split(&mut splitter, &batch);
    for (key, row) in [("k", 20), ("http.route", 60)] {
        let (number, key) = file.promoted().find(key).unwrap();
        assert!(key.has_strays);
        let has = |rows| splitter.strays(rows).any(|one| one == number as u32);
        assert!(has(row..row + 1) && has(0..100), "{key:?}");
        assert!(!has(0..row) && !has(row + 1..100), "{key:?}");
    }
    // Of the next batch nothing is known of this one's; of the segment it is.
    let (_, file) = split(&mut splitter, &batch.slice(0, 20));
    assert_eq!(splitter.strays(0..100).count(), 0);
    assert!(file.promoted().find("k").unwrap().1.has_strays);
}

#[test]
fn who_makes_up_keys_fills_no_memory() {
    let rows: Vec<Row> = (0..30_000)
        .map(|n| span(vec![text(&format!("key-{n}"), "v")]))
        .collect();
    let mut sample = Sample::default();
    sample.add(&batch(&rows), 1);
    assert_eq!(sample.choose(), Promotion::default());
}

#[test]
fn a_key_that_is_named_twice_in_a_row_is_damage() {
    let batch = batch(&vec![span(vec![text("a", "x")]); 10]);
    let mut sample = Sample::default();
    sample.add(&batch, 1);
    let mut splitter = Splitter::new(sample.choose());
    let (split, file) = split(&mut splitter, &batch);
    let rebuild = |order: &[u8]| {
        let order: ArrayRef = Arc::new(
            vec![Some(order); 10]
                .into_iter()
                .collect::<BinaryViewArray>(),
        );
        let attributes = file.place(SpanColumn::Attributes.place()).unwrap();
        rebuild::attributes(file.promoted(), &split[attributes], &order, |place| {
            split.get(place)
        })
    };
    assert!(rebuild(&[1]).is_ok());
    assert!(rebuild(&[1, 1]).is_err());
}

#[test]
fn a_sample_sees_every_span_of_traces_of_one_shape() {
    let rows: Vec<Row> = (0..4_096)
        .map(|n| {
            span(if n % 16 == 7 {
                vec![text("k", "v")]
            } else {
                vec![]
            })
        })
        .collect();
    let rows = batch(&rows);
    // Whole, and a span at a time.
    for batch_rows in [4_096, 1] {
        let mut sample = Sample::default();
        for start in (0..4_096).step_by(batch_rows) {
            sample.add(&rows.slice(start, batch_rows), 16);
        }
        let keys = sample.choose();
        assert_eq!(keys.keys().len(), 1, "batches of {batch_rows}");
    }
}
