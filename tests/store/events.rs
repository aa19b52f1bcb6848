//! `any_event(…)`: spans by their events, and requests by those of their spans, are what a naive
//! look at every event gives.

use std::collections::HashSet;

use arrow::array::{AsArray, RecordBatch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::otlp::{Event, KeyValue, Span, Value};
use spanstore::query::Query;
use spanstore::{Error, Team};
use spanstore_test_support::spans::{integer, request, span, text};
use spanstore_test_support::{open, team};

/// A span of which one in three has events.
fn random(random: &mut StdRng, id: u64) -> Span {
    let mut span = span(id);
    let count = [0, 0, 1, 2, 5, 0][random.random_range(0..6)];
    span.events = (0..count)
        .map(|number| {
            let mut attributes: Vec<KeyValue> = Vec::new();
            if random.random_bool(0.7) {
                let kind = format!("E{}", random.random_range(0..4));
                attributes.push(text("exception.type", &kind));
            }
            match random.random_range(0..3) {
                0 => attributes.push(integer("attempt", random.random_range(0..4))),
                1 => attributes.push(text("attempt", &random.random_range(0..4).to_string())),
                _ => {}
            }
            Event {
                name: ["exception", "retry", ""][random.random_range(0..3)].into(),
                time_unix_nano: match random.random_range(0..4) {
                    0 => 0,
                    _ => span.start_time_unix_nano + number * 1_000,
                },
                attributes,
                ..Event::default()
            }
        })
        .collect();
    span
}

fn attribute(event: &Event, key: &str) -> Option<String> {
    let found = event.attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

fn is(event: &Event, key: &str, value: &str) -> bool {
    attribute(event, key).is_some_and(|text| text == value)
}

type Condition = (&'static str, fn(&Span) -> bool);

const CONDITIONS: [Condition; 9] = [
    ("any_event(name = 'exception')", |span| {
        span.events.iter().any(|event| event.name == "exception")
    }),
    (
        "any_event(name = 'exception' and attributes['exception.type'] = 'E1')",
        |span| {
            let mut events = span.events.iter();
            events.any(|event| event.name == "exception" && is(event, "exception.type", "E1"))
        },
    ),
    (
        "any_event(name = 'retry') and not any_event(attributes['exception.type'] = 'E1')",
        |span| {
            let has = |holds: fn(&Event) -> bool| span.events.iter().any(holds);
            has(|event| event.name == "retry") && !has(|event| is(event, "exception.type", "E1"))
        },
    ),
    (
        "any_event(not (name = 'exception' or has('attempt')))",
        |span| {
            let mut events = span.events.iter();
            events.any(|event| event.name != "exception" && attribute(event, "attempt").is_none())
        },
    ),
    ("any_event(attributes['attempt'] >= 2)", |span| {
        span.events.iter().any(|event| {
            let attempt = attribute(event, "attempt");
            attempt.is_some_and(|attempt| attempt.parse::<i64>().unwrap() >= 2)
        })
    }),
    ("any_event(time is null)", |span| {
        span.events.iter().any(|event| event.time_unix_nano == 0)
    }),
    ("any_event(name = '') or duration < 1000", |span| {
        let is_short = span.end_time_unix_nano < span.start_time_unix_nano + 1_000;
        is_short || span.events.iter().any(|event| event.name.is_empty())
    }),
    ("not any_event(true) and method = 'GET'", |span| {
        let is_get = span.span_id[7] % 2 == 1;
        span.events.is_empty() && is_get
    }),
    ("any_event(name = 'none')", |_| false),
];

/// The ids in the first column of rows.
async fn ids(query: Query, column: &str) -> HashSet<Vec<u8>> {
    let batches: Vec<RecordBatch> = query.columns([column]).unwrap().collect().await.unwrap();
    let ids = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_fixed_size_binary().iter());
    ids.map(|id| id.unwrap().to_vec()).collect()
}

async fn check(acme: &Team, spans: &[Span]) {
    for (condition, holds) in CONDITIONS {
        let expected: Vec<&Span> = spans.iter().filter(|span| holds(span)).collect();
        let query = || acme.query().filter(condition).unwrap();
        let of_spans = expected.iter().map(|span| span.span_id.clone()).collect();
        assert_eq!(ids(query(), "span_id").await, of_spans, "{condition}");
        let count = query().count().await.unwrap();
        assert_eq!(count, expected.len() as u64, "{condition}");
        let requests = acme
            .requests()
            .filter(&format!("any({condition})"))
            .unwrap();
        let of_requests = expected.iter().map(|span| span.trace_id.clone()).collect();
        assert_eq!(ids(requests, "trace_id").await, of_requests, "{condition}");
    }
}

#[tokio::test]
async fn spans_and_requests_are_found_by_events() {
    let mut source = StdRng::seed_from_u64(5);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let spans: Vec<Span> = (0..9_500).map(|id| random(&mut source, id)).collect();
    let other = (20_000..20_500).map(|id| random(&mut source, id));
    let mut other: Vec<Span> = other.collect();
    other
        .iter_mut()
        .flat_map(|span| &mut span.events)
        .for_each(|event| {
            event.name = "none".into();
        });
    store.team(&team("other")).append(request(other)).unwrap();
    for (number, part) in [0..8_500, 8_500..9_300, 9_300..9_500]
        .into_iter()
        .enumerate()
    {
        acme.append(request(spans[part.clone()].to_vec())).unwrap();
        check(&acme, &spans[..part.end]).await;
        if number < 2 {
            store.seal().unwrap();
        }
    }
    check(&acme, &spans).await;
    store.seal().unwrap();
    store.compact().unwrap();
    check(&acme, &spans).await;
    // What `search` finds in events, they have.
    let found = acme.query().filter("search('E3')").unwrap();
    let by_event = "any_event(attributes['exception.type'] = 'E3')";
    let by_event = acme.query().filter(by_event).unwrap();
    assert_eq!(ids(found, "span_id").await, ids(by_event, "span_id").await);
    let groups = acme
        .query()
        .top("any_event(name = 'retry')", 5)
        .await
        .unwrap();
    assert_eq!(groups.iter().map(|one| one.spans).sum::<u64>(), 9_500);
}

#[test]
fn over_requests_events_are_those_of_some_span() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for query in [acme.requests(), acme.sessions()] {
        let refused = query.filter("any_event(name = 'exception')");
        assert!(
            matches!(refused, Err(Error::InvalidFilter(_))),
            "{refused:?}"
        );
    }
}
