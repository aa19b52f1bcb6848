//! `search('text')`: where it looks, hot, sealed and merged, over spans and requests.

use arrow::array::{AsArray, RecordBatch};
use spanstore::otlp::{AnyValue, ArrayValue, Event, KeyValueList, Span, Status, Value};
use spanstore::{Error, Store, Team};
use spanstore_test_support::spans::{attribute, integer, request, span, text, trace_id};
use spanstore_test_support::{open, team};

/// Spans, each a trace of its own, with a text in one place.
fn spans() -> Vec<Span> {
    let value = |value| AnyValue { value: Some(value) };
    let string = |text: &str| value(Value::StringValue(text.into()));
    let mut all: Vec<Span> = (0..14)
        .map(|n| Span {
            trace_id: trace_id(n).to_vec(),
            ..span(n)
        })
        .collect();
    all[1].name = "Checkout of Alpha".into();
    all[2].status = Some(Status {
        code: 2,
        message: "card DECLINED".into(),
    });
    all[3].events = vec![Event {
        name: "exception".into(),
        attributes: vec![text("exception.message", "Timed out: 100%_a\\b's")],
        ..Event::default()
    }];
    let list = ArrayValue {
        values: vec![string("one"), string("Bravo")],
    };
    all[4]
        .attributes
        .push(attribute("list", Value::ArrayValue(list)));
    let pairs = KeyValueList {
        values: vec![text("inner", "CHARLIE")],
    };
    all[5]
        .attributes
        .push(attribute("pairs", Value::KvlistValue(pairs)));
    // Bytes are no text, and keys are not looked at.
    all[6]
        .attributes
        .push(attribute("raw", Value::BytesValue(b"alpha bravo".to_vec())));
    all[7].attributes.push(text("alpha.bravo", "x"));
    all[8].attributes.push(integer("order", 4_711));
    all[9].attributes.push(text("order", "NO-4711"));
    all[10]
        .attributes
        .push(text("place", "STRASSE ÜBER Straße"));
    all[11]
        .attributes
        .push(attribute("is_late", Value::BoolValue(true)));
    all[5]
        .attributes
        .push(attribute("is_early", Value::BoolValue(false)));
    let infinite = Value::DoubleValue(f64::NEG_INFINITY);
    all[11].attributes.push(attribute("depth", infinite));
    all[12].attributes.push(text("user.id", "Delta"));
    // The second value of a key is one too.
    all[13]
        .attributes
        .extend([text("order", "first"), text("order", "alphabet")]);
    all
}

const SEARCHES: [(&str, &[u64]); 21] = [
    ("alpha", &[1, 13]),
    ("CHECKOUT OF", &[1]),
    ("declined", &[2]),
    ("Exception", &[3]),
    ("timed OUT", &[3]),
    ("100%_a\\b''s", &[3]),
    ("%", &[3]),
    ("bravo", &[4]),
    ("charlie", &[5]),
    ("4711", &[8, 9]),
    ("no-4711", &[9]),
    ("über strasse", &[]),
    ("straße", &[10]),
    ("tru", &[11]),
    ("-inf", &[11]),
    ("-in", &[11]),
    ("Trüe", &[]),
    ("fal\u{17f}e", &[5]),
    ("delta", &[12]),
    ("alphabet", &[13]),
    ("nowhere", &[]),
];

async fn check(acme: &Team) {
    let ids = |batches: Vec<RecordBatch>| {
        let mut ids = Vec::new();
        for batch in batches {
            ids.extend(
                batch
                    .column(0)
                    .as_fixed_size_binary()
                    .iter()
                    .flatten()
                    .map(<[u8]>::to_vec),
            );
        }
        ids.sort_unstable();
        ids
    };
    for (needle, expected) in SEARCHES {
        let mut expected: Vec<_> = expected.iter().map(|n| trace_id(*n).to_vec()).collect();
        expected.sort_unstable();
        let filter = format!("search('{needle}')");
        for query in [acme.query(), acme.requests()] {
            let found = query
                .filter(&filter)
                .unwrap()
                .columns(["trace_id"])
                .unwrap();
            assert_eq!(ids(found.collect().await.unwrap()), expected, "{filter}");
        }
        let others = acme.query().filter(&format!("not {filter}")).unwrap();
        assert_eq!(
            others.count().await.unwrap(),
            14 - expected.len() as u64,
            "{filter}"
        );
        let both = format!("{filter} and method = 'GET' or {filter} and method != 'GET'");
        let found = acme.query().filter(&both).unwrap().count().await.unwrap();
        assert_eq!(found, expected.len() as u64, "{both}");
    }
}

fn seal(store: &Store) {
    store.seal().unwrap();
}

#[tokio::test]
async fn a_search_looks_where_texts_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let all = spans();
    store.team(&team("other")).append(request(spans())).unwrap();
    acme.append(request(all[..7].to_vec())).unwrap();
    seal(&store);
    acme.append(request(all[7..].to_vec())).unwrap();
    check(&acme).await;
    seal(&store);
    check(&acme).await;
    store.compact().unwrap();
    check(&acme).await;
}

#[test]
fn what_is_no_search_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let many = vec!["search('a')"; 100].join(" or ");
    let long = format!("search('{}')", "x".repeat(2_000));
    for filter in [
        "search('a') = true",
        "cold_start = search('a')",
        "search('a') is true",
    ] {
        match acme.requests().filter(filter) {
            Err(Error::InvalidFilter(error)) => {
                assert!(
                    error.to_string().contains("`and`, `or` and `not`"),
                    "{error}"
                );
            }
            other => panic!("{filter}: {other:?}"),
        }
    }
    for (filter, hint) in [
        ("search('')", "a text to look for, found an empty one"),
        ("search(name)", "a text in single quotes"),
        (
            "search('a', 'b')",
            "a text in single quotes, found 2 arguments",
        ),
        ("search(5)", "a text in single quotes"),
        ("search('a') = 'b'", "`true` or `false`"),
        (&long, "1024"),
        (&many, "4096"),
    ] {
        match acme.query().filter(filter) {
            Err(Error::InvalidFilter(error)) => {
                assert!(error.to_string().contains(hint), "{filter}: {error}");
            }
            other => panic!("{filter}: {other:?}"),
        }
    }
}
