use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use spanstore_format::otlp::{AnyValue, KeyValue, Resource, Span, Value};
use spanstore_format::segment::Column;
use spanstore_format::segment::key_index::key_of;
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::span::columns::{
    Classified, ColumnsBuilder, ResourceContext, ScopeContext, memory_of, with_sequence,
};
use spanstore_format::span::encoded::EncodedSpan;

use super::gather::Loose;
use super::*;

const START: u64 = 1_794_700_800_000_000_000;

fn text(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

fn trace_of(trace: u64) -> [u8; 16] {
    u128::from(trace).to_be_bytes()
}

fn month_of(number: u64) -> Month {
    Month::of((START + number * 31 * 86_400_000_000_000).cast_signed())
}

/// An append of spans of a trace, which has a session, to a month.
pub(crate) fn append(team: &TeamId, month: u64, trace: u64, numbers: &[u64]) -> Appended {
    let mut builder = ColumnsBuilder::new(team, numbers.len());
    let mut encoded = Vec::new();
    let resource = Resource {
        attributes: vec![
            text("service.name", "a shop that sells things".into()),
            text("long", "long ".repeat(2_000)),
        ],
        ..Resource::default()
    };
    let resource = ResourceContext::new(Some(&resource), "");
    let scope = ScopeContext::new(None, "");
    for number in numbers {
        let start = START + number * 1_000 + month * 31 * 86_400_000_000_000;
        let span = Span {
            trace_id: trace_of(trace).to_vec(),
            span_id: (number + 1).to_be_bytes().to_vec(),
            name: format!("span {}", number % 3),
            start_time_unix_nano: start,
            end_time_unix_nano: start + number,
            attributes: vec![
                // Nothing, an empty text, or one of two.
                text(
                    if number % 5 == 0 { "other" } else { "some" },
                    ["", "a", "b"][*number as usize % 3].into(),
                ),
                text("route", format!("/a/route/with/a/long/name/{}", number % 2)),
                text("session.id", format!("session {trace}")),
                text("most", format!("most {}", number * 2 / 3)),
            ],
            ..Span::default()
        };
        let encoded = EncodedSpan::encode(&span, &mut encoded);
        let classified = Classified::of(&span, &resource, &scope);
        builder
            .append(&span, &classified, &encoded, &resource, &scope)
            .unwrap();
    }
    let rows = with_sequence(&builder.finish().unwrap(), 7).unwrap();
    let bytes = memory_of(&rows) + 8_192;
    Appended {
        batch: Arc::new(HotBatch::appended(month_of(month), rows, bytes)),
        traces: vec![trace_of(trace)],
        sessions: vec![key_of(format!("session {trace}").as_bytes())],
        arrived: None,
    }
}

/// The numbers of spans in some rows, in their order.
fn numbers(rows: &[HotRows]) -> Vec<u64> {
    let of_rows = |rows: &HotRows| {
        let durations = SpanColumn::Duration.int64s(&rows.batch.rows).unwrap();
        let durations = &durations.values()[rows.rows.clone()];
        durations
            .iter()
            .map(|number| number.cast_unsigned())
            .collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_rows).collect()
}

fn gather_all(hot: &mut HotBuffer) -> usize {
    let mut count = 0;
    while let Some(loose) = hot.loose() {
        let batch = loose.gather().unwrap();
        hot.gathered(&loose, &batch);
        count += 1;
    }
    count
}

/// A batch of so many spans that came five at a time.
fn gathered(rows: u64) -> Arc<HotBatch> {
    let (acme, mut hot) = (team(0), HotBuffer::new(rows as usize));
    for first in (0..rows).step_by(5) {
        let of_append: Vec<u64> = (first..first + 5).collect();
        hot.push(&acme, append(&acme, 0, 1, &of_append));
    }
    gather_all(&mut hot);
    let all = hot.all(&acme);
    assert_eq!((all.len(), all[0].rows.clone()), (1, 0..rows as usize));
    Arc::clone(&all[0].batch)
}

pub(crate) fn team(name: u8) -> TeamId {
    TeamId::new(&format!("team-{name}")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is put together when: a team's rows of a month come in the order of their
    /// appends, and traces and sessions are found.
    #[test]
    fn rows_stay_where_they_are_found(
        appends in proptest::collection::vec((0u8..2, 0u64..3, 0u64..5, 1usize..9, 0u8..40), 1..200),
        gather_rows in prop_oneof![2usize..40, 400usize..1_000],
    ) {
        let mut hot = HotBuffer::new(gather_rows);
        let mut model: Vec<(TeamId, u64, u64, u64)> = Vec::new();
        for (name, month, trace, rows, turn) in appends {
            let first = model.len() as u64;
            let of_append: Vec<u64> = (first..first + rows as u64).collect();
            // Most spans are of one month.
            let (team, month) = (team(name), month / 2);
            hot.push(&team, append(&team, month, trace, &of_append));
            model.extend(of_append.iter().map(|number| (team.clone(), month, trace, *number)));
            if turn == 0 {
                gather_all(&mut hot);
                prop_assert!(!hot.has_loose());
            }
        }
        gather_all(&mut hot);
        prop_assert_eq!(hot.rows(), model.len() as u64);
        let mut bytes = 0;
        for team in [team(0), team(1)] {
            let all = hot.all(&team);
            bytes += all.iter().map(|rows| rows.batch.bytes).sum::<usize>();
            for month in 0..2 {
                let of_month = |rows: &&HotRows| rows.batch.month == month_of(month);
                let found: Vec<HotRows> = all.iter().filter(of_month).cloned().collect();
                let expected = model.iter().filter(|row| row.0 == team && row.1 == month);
                let expected: Vec<u64> = expected.map(|row| row.3).collect();
                prop_assert_eq!(numbers(&found), expected.clone());
                prop_assert_eq!(hot.has(month_of(month), &team), !expected.is_empty());
                // What is left apart is little.
                let small = found.iter().filter(|rows| rows.rows.len() < gather_rows);
                let small = small.filter(|rows| !rows.batch.is_gathered).count();
                prop_assert!(small < 64, "{small} small appends");
            }
            for trace in 0..5 {
                let expected = model.iter().filter(|row| row.0 == team && row.2 == trace);
                let expected: Vec<u64> = expected.map(|row| row.3).collect();
                prop_assert_eq!(numbers(&hot.trace(&team, trace_of(trace))), expected.clone());
                let session = key_of(format!("session {trace}").as_bytes());
                prop_assert_eq!(numbers(&hot.session(&team, session)), expected);
            }
        }
        prop_assert_eq!(hot.bytes(), bytes);
        let sealed = hot.partitions();
        let rows = sealed.iter().flat_map(|(_, rows)| rows).map(RecordBatch::num_rows);
        prop_assert_eq!(rows.sum::<usize>(), model.len());
    }
}

#[test]
fn batches_that_a_seal_has_set_apart_are_left_alone() {
    let (acme, mut hot) = (team(0), HotBuffer::new(4));
    for number in 0..3 {
        hot.push(&acme, append(&acme, 0, 1, &[2 * number, 2 * number + 1]));
    }
    let loose = hot.loose().unwrap();
    let batch = loose.gather().unwrap();
    let apart = hot.take();
    hot.push(&acme, append(&acme, 0, 1, &[6]));
    hot.gathered(&loose, &batch);
    assert_eq!(numbers(&hot.all(&acme)), [6]);
    assert_eq!(hot.rows(), 1);
    assert_eq!(numbers(&apart.all(&acme)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(apart.all(&acme).len(), 3);
}

#[test]
fn batches_that_two_threads_put_together_come_once() {
    let (acme, mut hot) = (team(0), HotBuffer::new(6));
    let push = |hot: &mut HotBuffer, number: u64| {
        hot.push(&acme, append(&acme, 0, 1, &[2 * number, 2 * number + 1]));
    };
    (0..3).for_each(|number| push(&mut hot, number));
    let first = hot.loose().unwrap();
    (3..7).for_each(|number| push(&mut hot, number));
    let second = hot.loose().unwrap();
    assert_eq!((first.batches.len(), second.batches.len()), (3, 3));
    for loose in [&second, &first, &second] {
        hot.gathered(loose, &loose.gather().unwrap());
    }
    gather_all(&mut hot);
    assert_eq!(numbers(&hot.all(&acme)), (0..14).collect::<Vec<_>>());
    assert_eq!(
        numbers(&hot.trace(&acme, trace_of(1))),
        (0..14).collect::<Vec<_>>()
    );
    // One that begins before the others, of which some are not there any more.
    let mut hot = HotBuffer::new(1_000);
    (0..64).for_each(|number| push(&mut hot, number));
    let wide = hot.loose().unwrap();
    let narrow = Loose {
        team: acme.clone(),
        batches: wide.batches[3..5].to_vec(),
    };
    for loose in [&narrow, &wide] {
        hot.gathered(loose, &loose.gather().unwrap());
    }
    assert_eq!(numbers(&hot.all(&acme)), (0..128).collect::<Vec<_>>());
    let bytes = hot
        .all(&acme)
        .iter()
        .map(|rows| rows.batch.bytes)
        .sum::<usize>();
    assert_eq!(hot.bytes(), bytes);
}

#[test]
fn many_small_appends_are_one_although_their_rows_are_few() {
    let (acme, mut hot) = (team(0), HotBuffer::new(1_000_000));
    for number in 0..63 {
        hot.push(&acme, append(&acme, 0, number, &[number]));
    }
    assert!(!hot.has_loose());
    let before = hot.bytes();
    hot.push(&acme, append(&acme, 0, 63, &[63]));
    assert_eq!(gather_all(&mut hot), 1);
    let all = hot.all(&acme);
    assert_eq!((all.len(), all[0].rows.len()), (1, 64));
    // Columns without any value and texts that repeat take no memory of their own.
    assert!(
        hot.bytes() < before / 8,
        "{} of {before} bytes",
        hot.bytes()
    );
    let trace = hot.trace(&acme, trace_of(9));
    assert_eq!((trace.len(), trace[0].rows.clone()), (1, 9..10));
    assert_eq!(all[0].batch.starts.1 - all[0].batch.starts.0, 63_000);
}

#[test]
fn teams_whose_rows_are_read_come_first() {
    let (one, other, mut hot) = (team(0), team(1), HotBuffer::new(4));
    let mut next = 0;
    let mut push = |hot: &mut HotBuffer, team: &TeamId, appends: u64| {
        for number in next..next + appends {
            hot.push(team, append(team, 0, 1, &[2 * number, 2 * number + 1]));
        }
        next += appends;
    };
    push(&mut hot, &one, 4);
    push(&mut hot, &other, 4);
    assert!(hot.has_loose() && !hot.has_read_loose());
    // Of a team that is due already, of one that is not yet, and of one without rows.
    let none = team(2);
    assert_eq!(
        [&one, &other, &none].map(|team| hot.is_read(team)),
        [false, false, true]
    );
    for team in [&other, &other, &none] {
        hot.set_read(team);
    }
    assert!(hot.is_read(&other) && !hot.is_read(&one) && hot.has_read_loose());
    let mut gathered = Vec::new();
    while let Some(loose) = hot.loose() {
        hot.gathered(&loose, &loose.gather().unwrap());
        gathered.push(loose.team);
    }
    assert_eq!(gathered, [&other, &other, &one, &one].map(TeamId::clone));
    assert!(!hot.has_loose() && !hot.has_read_loose());
    push(&mut hot, &one, 2);
    assert!(hot.has_loose() && !hot.has_read_loose());
    push(&mut hot, &other, 2);
    assert!(hot.has_read_loose());
    assert_eq!(hot.loose().unwrap().team, other);
    // What comes after a seal began is not read.
    hot.take();
    push(&mut hot, &other, 1);
    assert!(!hot.is_read(&other));
}

#[test]
fn values_are_kept_in_codes_where_rows_have_few() {
    let acme = team(0);
    let small = append(&acme, 0, 1, &[0]);
    assert!(!small.batch.has_codes());
    let name = Column::from(SpanColumn::Name);
    assert!(small.batch.coded(&name).unwrap().is_none());
    let batch = gathered(100);
    let rows = batch.rows.num_rows();
    let coded = batch.coded(&name).unwrap().unwrap();
    let values = coded.values.as_string_view();
    let of_rows = coded
        .codes
        .iter()
        .map(|code| values.value(usize::from(*code)));
    let expected = (0..rows).map(|row| format!("span {}", row % 3));
    assert!(of_rows.eq(expected));
    assert!(values.is_null(values.len() - 1));
    assert_eq!(coded.counts.iter().sum::<u32>(), rows as u32);
    assert_eq!(coded.counts.last(), Some(&0));
    // A column without values has one, null.
    let none = batch.coded(&SpanColumn::Method.into()).unwrap().unwrap();
    assert_eq!(
        (none.counts.as_slice(), none.values.len()),
        ([rows as u32].as_slice(), 1)
    );
    // Each row has its own copy of a long text, of which there are two.
    let route = attribute(Owner::Span, "route", Aspect::Text);
    let routes = batch.coded(&route).unwrap().unwrap();
    assert_eq!(routes.counts, [50, 50, 0]);
    // Most rows have another value, and each another trace would.
    let most = attribute(Owner::Span, "most", Aspect::Text);
    assert!(batch.coded(&most).unwrap().is_none());
    assert!(batch.coded(&SpanColumn::TraceId.into()).unwrap().is_none());
    let values = batch.column(&most).unwrap();
    assert_eq!(values.as_string_view().value(7), "most 4");
    // What was made is kept.
    let again = batch.coded(&name).unwrap().unwrap();
    assert!(Arc::ptr_eq(&coded, &again));
    let durations = batch.column(&SpanColumn::Duration.into()).unwrap();
    assert_eq!(durations.as_primitive::<Int64Type>().value(3), 3);
}

#[test]
fn a_large_append_has_codes_and_is_charged_with_their_room() {
    let rows: Vec<u64> = (0..ROWS_WITH_CODES as u64).collect();
    let large = append(&team(0), 0, 1, &rows).batch;
    let coded = large.coded(&SpanColumn::Name.into()).unwrap().unwrap();
    assert_eq!(coded.counts.iter().sum::<u32>(), rows.len() as u32);
    let bytes = memory_of(&large.rows) + 8_192;
    assert_eq!(large.bytes, bytes + bytes / 4);
    let (_, fewer) = rows.split_last().unwrap();
    assert!(!append(&team(0), 0, 1, fewer).batch.has_codes());
}

fn attribute(owner: Owner, key: &str, aspect: Aspect) -> Column {
    Column::Attribute(Attribute {
        owner,
        key: key.into(),
        aspect,
    })
}

#[test]
fn values_of_attributes_are_the_same_in_codes_and_after_others_took_their_room() {
    let batch = gathered(60);
    let some = attribute(Owner::Span, "some", Aspect::Text);
    let expected = (0..60).map(|row| (row % 5 != 0).then(|| ["", "a", "b"][row % 3].to_owned()));
    let expected: Vec<Option<String>> = expected.collect();
    let check = || {
        let values = batch.column(&some).unwrap();
        let texts = values.as_string_view().iter();
        let texts: Vec<Option<String>> = texts.map(|text| text.map(str::to_owned)).collect();
        assert_eq!(texts, expected);
        let coded = batch.coded(&some).unwrap().unwrap();
        let values = coded.values.as_string_view();
        let of_code = |code: &u16| {
            let code = usize::from(*code);
            values.is_valid(code).then(|| values.value(code).to_owned())
        };
        assert_eq!(
            coded.codes.iter().map(of_code).collect::<Vec<_>>(),
            expected
        );
        assert_eq!((coded.counts.len(), coded.counts.last()), (4, Some(&12)));
    };
    check();
    assert!(batch.is_coded(&some));
    for number in 0..1_000 {
        let key = format!("{number} {}", "x".repeat(500));
        let none = batch.column(&attribute(Owner::Span, &key, Aspect::Text));
        assert_eq!(none.unwrap().null_count(), 60);
        assert!(batch.kept.bytes() <= batch.kept.room);
    }
    assert!(!batch.is_coded(&some));
    check();
}

#[test]
fn what_rows_share_of_a_resource_is_read_once() {
    let batch = gathered(200);
    let long = batch
        .column(&attribute(Owner::Resource, "long", Aspect::Text))
        .unwrap();
    assert_eq!(long.len(), 200);
    assert!(
        long.as_string_view()
            .iter()
            .all(|text| text.unwrap().len() == 10_000)
    );
    // 200 times 10,000 bytes would be two million, and the resource of each append 400,000.
    let bytes = [long.get_array_memory_size(), batch.bytes];
    assert!(bytes.iter().all(|bytes| *bytes < 300_000), "{bytes:?}");
}
