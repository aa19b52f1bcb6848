//! Suggestions are what a naive look at every span gives: columns, keys of attributes and values
//! that begin with a text, of sealed, merged and unsealed spans of several teams.

mod spans;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use spanstore::otlp::Value;
use spanstore::query::{
    AttributeKey, AttributeKeys, Owner, Query, SuggestedValue, SuggestedValues, ValueType,
};
use spanstore::{Error, Meter, Team, TraceId};
use spanstore_test_support::spans::{attribute, integer, request, span, text, trace_id};
use spanstore_test_support::{NOW, open, team};

use self::spans::{Item, append, random};

/// A filter, and the spans that it finds.
type Filter = (&'static str, fn(&Item) -> bool);

const FILTERS: [Filter; 5] = [
    ("true", |_| true),
    ("method = 'GET'", |one| {
        one.text("method").as_deref() == Some("GET")
    }),
    ("duration >= 5000 and not (status_code = 500)", |one| {
        one.duration() >= 5_000 && one.text("status_code").is_some_and(|code| code != "500")
    }),
    ("attributes['items'] = 3 or has('rare.1')", |one| {
        one.text("attributes['items']").as_deref() == Some("3") || one.has("rare.1")
    }),
    ("resource['cloud.region'] = 'region-1'", |one| {
        one.text("resource['cloud.region']").as_deref() == Some("region-1")
    }),
];

/// Names of values, and texts that some of these begin with.
const VALUES: [(&str, &[&str]); 19] = [
    ("method", &["", "g", "po", "none"]),
    ("status_code", &["", "5", "20"]),
    ("name", &["", "OPERATION 1", "%"]),
    ("path", &["", "/API/1", "/api/none"]),
    ("duration", &["", "9"]),
    ("trace_id", &["", "9"]),
    ("service", &["", "S"]),
    ("lower(path)", &["/api/2"]),
    ("attributes['db.system']", &["", "POST", "r"]),
    ("attributes['items']", &["", "1"]),
    ("attributes['mixed']", &["", "t", "1"]),
    ("attributes['varied']", &["VALUE 11"]),
    ("attributes['http.request.method']", &["", "g"]),
    ("attributes['zone']", &["", "z"]),
    ("attributes['list']", &["", "["]),
    ("attributes['none']", &["", "a"]),
    ("resource['cloud.region']", &["", "REGION-", "x"]),
    ("has('db.system')", &["", "T"]),
    ("has(resource, 'cloud.region')", &["", "f"]),
];

fn begins(text: &str, prefix: &str) -> bool {
    text.to_lowercase().starts_with(&prefix.to_lowercase())
}

/// The most frequent values, of a value for each row.
fn first(values: impl Iterator<Item = String>, prefix: &str, limit: usize) -> SuggestedValues {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for value in values.filter(|value| begins(value, prefix)) {
        *counts.entry(value).or_default() += 1;
    }
    let total = counts.len() as u64;
    let values = counts.into_iter();
    let mut values: Vec<SuggestedValue> = values
        .map(|(value, rows)| SuggestedValue { value, rows })
        .collect();
    values.sort_by_key(|one| Reverse(one.rows));
    values.truncate(limit);
    SuggestedValues { values, total }
}

/// All keys of some spans that begin with a text.
fn keys(items: &[&Item], prefix: &str) -> AttributeKeys {
    let mut counts: BTreeMap<(Owner, String), (BTreeSet<ValueType>, u64)> = BTreeMap::new();
    for item in items {
        for (owner, attributes) in [
            (Owner::Span, &item.span.attributes),
            (Owner::Resource, &item.resource),
        ] {
            let mut seen = HashSet::new();
            for one in attributes {
                if seen.insert(&one.key) && begins(&one.key, prefix) {
                    let known = counts.entry((owner, one.key.clone())).or_default();
                    known.0.insert(spans::value_type(one));
                    known.1 += 1;
                }
            }
        }
    }
    let keys = counts.into_iter().map(|((owner, key), (types, spans))| {
        let of = if owner == Owner::Span {
            "attributes"
        } else {
            "resource"
        };
        AttributeKey {
            name: format!("{of}['{}']", key.replace('\'', "''")),
            owner,
            key,
            types: types.into_iter().collect(),
            spans,
            is_exact: true,
        }
    });
    let mut keys: Vec<AttributeKey> = keys.collect();
    keys.sort_by_key(|one| Reverse(one.spans));
    AttributeKeys {
        total: keys.len() as u64,
        keys,
        unread_spans: 0,
    }
}

async fn suggested(query: Query, name: &str, prefix: &str, limit: usize) -> SuggestedValues {
    query.suggest_values(name, prefix, limit).await.unwrap()
}

async fn all_keys(query: Query, prefix: &str) -> AttributeKeys {
    let keys = query.attribute_keys(prefix, usize::MAX, u64::MAX);
    keys.await.unwrap()
}

/// Asks a team for suggestions over spans, some of which are to be seen.
async fn check_spans(acme: &Team, items: &[Item], step: usize) {
    for (number, (filter, holds)) in FILTERS.iter().enumerate() {
        let found: Vec<&Item> = items.iter().filter(|one| holds(one)).collect();
        let query = || acme.query().filter(filter).unwrap();
        for (name, prefixes) in VALUES.iter().skip(number % step).step_by(step) {
            for (turn, prefix) in prefixes.iter().enumerate() {
                let limit = [usize::MAX, 3, 1, 0][turn];
                let values = found.iter().filter_map(|one| one.text(name));
                let expected = first(values, prefix, limit);
                let found = suggested(query(), name, prefix, limit).await;
                assert_eq!(found, expected, "{name} {prefix} where {filter}");
            }
        }
        for prefix in ["", "DB", "r", "none"] {
            let expected = keys(&found, prefix);
            let found = all_keys(query(), prefix).await;
            assert_eq!(found, expected, "{prefix} where {filter}");
        }
    }
}

/// A filter of requests, and what one of the spans of these has.
const OF_REQUESTS: [Filter; 3] = [
    ("true", |_| true),
    ("any(attributes['items'] = 3)", |one| {
        one.text("attributes['items']").as_deref() == Some("3")
    }),
    ("service = 'shop'", |one| {
        one.text("service").as_deref() == Some("shop")
    }),
];

/// Asks a team for suggestions over requests.
async fn check_requests(acme: &Team, items: &[Item]) {
    for (filter, has) in OF_REQUESTS {
        let traces = items.iter().filter(|one| has(one)).map(Item::trace);
        let traces: HashSet<&[u8]> = traces.collect();
        let spans = items.iter().filter(|one| traces.contains(one.trace()));
        let spans: Vec<&Item> = spans.collect();
        let query = || acme.requests().filter(filter).unwrap();
        for (name, prefix) in [
            ("attributes['db.system']", ""),
            ("attributes['items']", "1"),
            ("resource['cloud.region']", "region"),
            ("service", "s"),
        ] {
            let values = spans.iter().filter_map(|one| {
                let value = one.text(name)?;
                Some((one.trace(), value))
            });
            // Each value once a request.
            let values: BTreeSet<(&[u8], String)> = values.collect();
            let expected = first(values.into_iter().map(|(_, value)| value), prefix, 9);
            let found = suggested(query(), name, prefix, 9).await;
            assert_eq!(found, expected, "{name} {prefix} where {filter}");
        }
        let mut sizes: BTreeMap<&[u8], u64> = BTreeMap::new();
        for one in &spans {
            *sizes.entry(one.trace()).or_default() += 1;
        }
        let expected = first(sizes.into_values().map(|size| size.to_string()), "1", 9);
        assert_eq!(suggested(query(), "spans", "1", 9).await, expected);
        assert_eq!(all_keys(query(), "D").await, keys(&spans, "D"), "{filter}");
    }
}

#[tokio::test]
async fn suggestions_are_what_a_naive_look_gives() {
    let mut source = StdRng::seed_from_u64(11);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acme, other) = (store.team(&team("acme")), store.team(&team("other")));
    let mut all: Vec<Item> = Vec::new();
    let mut of_other: Vec<Item> = Vec::new();
    // The first part has facets and stored requests, the second one these alone.
    for (number, count) in [9_000, 1_500, 300].into_iter().enumerate() {
        let ids = all.len() as u64..all.len() as u64 + count;
        let items: Vec<Item> = ids.map(|id| random(&mut source, id)).collect();
        for items in items.chunks(700) {
            append(&acme, items);
            let few: Vec<Item> = items[..20].iter().map(Item::of_another_team).collect();
            append(&other, &few);
            of_other.extend(few);
        }
        all.extend(items);
        if number < 2 {
            store.seal().unwrap();
        }
    }
    check_spans(&acme, &all, 1).await;
    check_requests(&acme, &all).await;
    check_spans(&other, &of_other, 3).await;
    // What is hidden by retention.
    let kept = Duration::from_nanos((NOW - all[4_000].start()).cast_unsigned());
    acme.set_retention(Some(kept)).unwrap();
    let (horizon, seen) = (all[4_000].start(), all.clone());
    let seen: Vec<Item> = seen
        .into_iter()
        .filter(|one| one.start() >= horizon)
        .collect();
    check_spans(&acme, &seen, 4).await;
    acme.set_retention(None).unwrap();
    // What was forgotten and lies in the files.
    for trace in [3, 200, 880] {
        acme.forget_trace(TraceId(trace_id(trace))).unwrap();
        all.retain(|one| one.trace() != trace_id(trace));
    }
    check_spans(&acme, &all, 4).await;
    check_requests(&acme, &all).await;
    store.seal().unwrap();
    store.compact().unwrap();
    check_spans(&acme, &all, 1).await;
    check_requests(&acme, &all).await;
    check_spans(&other, &of_other, 3).await;
}

#[tokio::test]
async fn keys_beyond_what_is_decoded_are_said_to_be_so() {
    let mut source = StdRng::seed_from_u64(12);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let items: Vec<Item> = (0..9_300).map(|id| random(&mut source, id)).collect();
    append(&acme, &items[..9_000]);
    store.seal().unwrap();
    append(&acme, &items[9_000..]);
    let all: Vec<&Item> = items.iter().collect();
    let exact = keys(&all, "");
    let none = acme.query().attribute_keys("", usize::MAX, 0);
    let unread = none.await.unwrap().unread_spans;
    assert!(
        (300..6_000).contains(&unread),
        "most have their attributes in columns"
    );
    for decoded in [0, 100, 300, 1_000, 9_300, 20_000] {
        let query = || acme.query();
        let found = query()
            .attribute_keys("", usize::MAX, decoded)
            .await
            .unwrap();
        assert!(found.total <= exact.total);
        assert_eq!(found.unread_spans, unread.saturating_sub(decoded));
        assert_eq!(found.unread_spans == 0, found == exact, "{decoded}");
        for key in &found.keys {
            let of_exact = |one: &&AttributeKey| (one.owner, &one.key) == (key.owner, &key.key);
            let exact = exact.keys.iter().find(of_exact).unwrap();
            if key.is_exact {
                assert_eq!(key, exact, "{decoded}");
            } else {
                assert!(key.spans <= exact.spans, "{decoded}: {key:?}");
                assert!(key.types.iter().all(|one| exact.types.contains(one)));
            }
        }
        let is_exact = |key: &str| {
            let mut keys = found.keys.iter();
            keys.find(|one| one.key == key)
                .is_some_and(|one| one.is_exact)
        };
        assert!(is_exact("cloud.region"));
        // A column tells it where it is sealed, and unsealed spans are decoded first.
        assert_eq!(is_exact("db.system"), decoded >= 300, "{decoded}");
    }
    let few = acme.query().attribute_keys("", 2, u64::MAX).await.unwrap();
    assert_eq!(
        (few.keys.as_slice(), few.total),
        (&exact.keys[..2], exact.total)
    );
}

#[tokio::test]
async fn keys_are_those_of_the_latest_spans_and_once_a_span() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let items: Vec<Item> = (0..9_000)
        .map(|id| {
            let mut span = span(id);
            match id {
                0..10 => span.attributes.push(text("early", "yes")),
                8_990.. => span.attributes.push(text("late", "yes")),
                _ => {}
            }
            if id % 100 == 7 {
                span.attributes.push(integer("items", 1));
            }
            let resource = vec![text("pod", &format!("pod {}", id % 700))];
            Item { span, resource }
        })
        .collect();
    append(&acme, &items);
    store.seal().unwrap();
    let all: Vec<&Item> = items.iter().collect();
    assert_eq!(all_keys(acme.query(), "").await, keys(&all, ""));
    let few = acme.query().attribute_keys("", usize::MAX, 10);
    let few = few.await.unwrap();
    let spans = |key: &str| {
        few.keys
            .iter()
            .find(|one| one.key == key)
            .map(|one| one.spans)
    };
    assert_eq!([spans("late"), spans("early")], [Some(10), None]);
    assert_eq!([spans("pod"), spans("items")], [Some(9_000), Some(9_000)]);
}

#[tokio::test]
async fn values_of_facets_are_counted_without_a_row() {
    let mut source = StdRng::seed_from_u64(13);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let items: Vec<Item> = (0..9_000).map(|id| random(&mut source, id)).collect();
    append(&acme, &items);
    store.seal().unwrap();
    let filters = ["true", "status_code = 200"];
    for (name, prefix, filters) in [
        ("method", "g", &filters[..]),
        ("name", "operation", &filters),
        ("attributes['db.system']", "post", &filters),
        ("attributes['db.system']", "", &filters),
        // Of some rows the numbers of so many resources are rather counted than compared.
        ("resource['cloud.region']", "region", &filters[..1]),
    ] {
        for filter in filters {
            let meter = Meter::default();
            let query = acme.metered(&meter).query().filter(filter).unwrap();
            let found = suggested(query, name, prefix, 9).await;
            assert!(found.total > 0, "{name}");
            assert_eq!(meter.stats().rows, 0, "{name} where {filter}");
        }
    }
}

#[tokio::test]
async fn columns_are_those_that_filters_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let names = |query: &Query, prefix: &str| -> Vec<&str> {
        let columns = query.suggest_columns(prefix).into_iter();
        columns.map(|column| column.name).collect()
    };
    let start = ["start_time", "status", "status_message", "status_code"];
    assert_eq!(names(&acme.query(), "ST"), start);
    assert_eq!(names(&acme.requests(), "has_r"), ["has_root"]);
    assert_eq!(names(&acme.sessions(), "stop"), ["stopped_time"]);
    assert!(names(&acme.query(), "team").is_empty());
    let all = acme.query().suggest_columns("");
    assert!(
        all.iter()
            .copied()
            .eq(spanstore::query::Rows::Spans.filter_columns())
    );
}

#[tokio::test]
async fn sessions_have_values_and_no_attributes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for user in ["ada", "adam", "eve"] {
        let new = spanstore::NewSession {
            user: user.into(),
            environment: "preview".into(),
            ..spanstore::NewSession::default()
        };
        acme.start_session(new).unwrap();
    }
    append(&acme, &[random(&mut StdRng::seed_from_u64(1), 0)]);
    let users = suggested(acme.sessions(), "user_id", "ADA", 9).await;
    let users: Vec<&str> = users.values.iter().map(|one| one.value.as_str()).collect();
    assert_eq!(users, ["ada", "adam"]);
    let open = acme.sessions().filter("user_id = 'eve'").unwrap();
    let states = suggested(open, "state", "", 9).await;
    assert_eq!((states.total, states.values[0].rows), (1, 1));
    let keys = acme
        .sessions()
        .attribute_keys("", 9, u64::MAX)
        .await
        .unwrap();
    assert!(keys.keys.is_empty() && keys.unread_spans == 0);
    let refused = acme
        .sessions()
        .suggest_values("attributes['a']", "", 9)
        .await;
    assert!(
        matches!(refused, Err(Error::InvalidFilter(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_unknown_name_is_refused_with_the_nearest_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for (query, name, hint) in [
        (acme.query(), "metod", "method"),
        (acme.query(), "team_id", "columns"),
        (acme.query(), "attributes", "key"),
        (acme.query(), "attributes[db]", "key in single quotes"),
        (acme.query(), "", "column"),
        (acme.query(), "method or name", "end of the value"),
        (acme.query(), "events", "value that can be shown"),
        (acme.requests(), "servce", "service"),
        (acme.requests(), "span['a']", "attributes"),
        (acme.sessions(), "usr_id", "user_id"),
    ] {
        match query.suggest_values(name, "", 5).await {
            Err(Error::InvalidFilter(error)) => {
                assert!(error.to_string().contains(hint), "{name}: {error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// A team that has nothing, and rows that a filter does not find.
#[tokio::test]
async fn nothing_is_suggested_of_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let long = "x".repeat(100_000);
    for _ in 0..2 {
        let query = || acme.query().filter("name = 'none'").unwrap();
        assert_eq!(suggested(query(), "method", "", 9).await.total, 0);
        assert_eq!(suggested(acme.query(), "method", &long, 9).await.total, 0);
        assert_eq!(all_keys(query(), "").await.total, 0);
        assert_eq!(all_keys(acme.query(), &long).await.total, 0);
        let mut one = span(0);
        one.attributes
            .push(attribute("'quoted", Value::BoolValue(true)));
        one.attributes.push(text("", "no key"));
        acme.append(request([one])).unwrap();
    }
    let keys = all_keys(acme.query(), "'").await.keys;
    assert_eq!(keys[0].name, "attributes['''quoted']");
    let value = suggested(acme.query(), &keys[0].name, "T", 9).await;
    assert_eq!(value.values[0].value, "true");
    let search = acme.query().search("method:GET").unwrap();
    let found = suggested(search.since(NOW), "name", "", 9).await;
    assert_eq!(found.total, 0);
    let search = acme.query().search("-method:GET").unwrap();
    assert_eq!(suggested(search, "name", "", 9).await.total, 0);
    let of_unsealed = all_keys(acme.query(), "").await;
    assert!(of_unsealed.keys.iter().any(|key| key.key.is_empty()));
    let long = "(".repeat(10_000);
    let wrong = acme.query().suggest_values(&long, "", 1);
    assert!(matches!(wrong.await, Err(Error::InvalidFilter(_))));
}
