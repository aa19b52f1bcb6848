//! What tells two sets apart is what counting the values of every row finds, wherever the
//! rows lie; each filter finds the rows of its value.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::otlp::{Span, Value};
use spanstore::query::{Comparison, Query};
use spanstore::{Error, QueryLimits, StoreOptions, Team};
use spanstore_format::span::table;
use spanstore_test_support::spans::{attribute, integer, request, span, text};
use spanstore_test_support::{NOW, open, open_with, quiet, team};

use crate::requests::rows;

const MILLI: i64 = 1_000_000;

/// A row by its values: columns, and attributes as filters name them.
pub(crate) type Values = BTreeMap<String, String>;

/// A value as a naive look compares it: its column, itself, and how many rows of either set
/// have it.
type Compared = (String, Option<String>, u64, u64);

/// What a naive look at two sets finds, of columns in their order.
pub(crate) fn compared(
    one: &[&Values],
    other: &[&Values],
    columns: &[String],
    values_of: impl Fn(&Values, &str) -> Vec<Option<String>>,
) -> Vec<Compared> {
    let mut found = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        let mut counts: BTreeMap<(bool, Option<String>), [i128; 2]> = BTreeMap::new();
        for (set, rows) in [one, other].into_iter().enumerate() {
            for value in rows.iter().flat_map(|row| values_of(row, column)) {
                counts.entry((value.is_none(), value)).or_default()[set] += 1;
            }
        }
        if counts.keys().all(|(is_none, _)| *is_none) {
            continue;
        }
        for ((is_none, value), [of_one, of_other]) in counts {
            let sizes = [one, other].map(|rows| (rows.len() as i128).max(1));
            let difference = (of_one * sizes[1] - of_other * sizes[0]).abs();
            if difference > 0 {
                let key = (-difference, place, is_none, value.clone());
                found.push((key, (column.clone(), value, of_one, of_other)));
            }
        }
    }
    found.sort();
    let found = found.into_iter().map(|(_, found)| found);
    found
        .map(|(column, value, one, other)| (column, value, one as u64, other as u64))
        .collect()
}

/// What a comparison says, without the filters.
pub(crate) fn said(comparison: &Comparison) -> Vec<Compared> {
    let differences = comparison.differences.iter().map(|one| {
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        let difference =
            share(one.spans, comparison.spans) - share(one.other_spans, comparison.other_spans);
        assert!((one.difference - difference).abs() < 1e-9, "{one:?}");
        (
            one.column.clone(),
            one.value.clone(),
            one.spans,
            one.other_spans,
        )
    });
    differences.collect()
}

/// Asserts that each filter finds as many rows of each query as were counted.
pub(crate) async fn check_filters(comparison: &Comparison, one: &Query, other: &Query) {
    for difference in &comparison.differences {
        for (query, count) in [(one, difference.spans), (other, difference.other_spans)] {
            let query = query.clone().filter(&difference.filter).unwrap();
            assert_eq!(query.count().await.unwrap(), count, "{}", difference.filter);
        }
    }
}

/// The columns that are facets.
fn facets() -> Vec<String> {
    let columns = table().columns().iter();
    let facets = columns.filter(|column| column.is_facet);
    facets.map(|column| column.name.to_owned()).collect()
}

/// A span with random values in some columns and attributes.
fn random(random: &mut StdRng, id: u64) -> Span {
    let mut span = span(id);
    let few = |random: &mut StdRng| random.random_range(0..4_i64);
    let share = random.random_range(0.1..0.9);
    span.name = format!("operation {}", few(random));
    span.attributes = vec![
        text("http.route", &format!("/it's/{}", few(random))),
        integer("http.response.status_code", 100 * random.random_range(2..6)),
    ];
    for (key, value) in [
        (
            "db.system",
            Value::StringValue(format!("it's '{}'", few(random))),
        ),
        (
            "it's a key",
            Value::StringValue(if few(random) > 2 { "" } else { "value" }.into()),
        ),
        ("items", Value::IntValue(few(random) - 2)),
        ("cached", Value::BoolValue(few(random) > 0)),
        (
            "cloud.region",
            Value::StringValue(format!("region {}", few(random))),
        ),
        ("mixed", Value::StringValue(few(random).to_string())),
        (
            "user",
            Value::StringValue(random.random_range(0..400).to_string()),
        ),
    ] {
        if random.random_bool(share) {
            span.attributes.push(attribute(key, value));
        }
    }
    if random.random_bool(0.02) {
        span.attributes.push(integer("mixed", 3));
    }
    span
}

/// The text of an attribute.
fn text_of(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    }
}

const KEYS: [&str; 5] = ["cached", "db.system", "it's a key", "items", "mixed"];

fn named(key: &str) -> String {
    format!("attributes['{}']", key.replace('\'', "''"))
}

/// Appends spans; what the values of their rows are.
fn append(team: &Team, spans: &[Span]) -> BTreeMap<u64, Values> {
    for chunk in spans.chunks(5_000) {
        team.append(request(chunk.to_vec())).unwrap();
    }
    let values = spans.iter().map(|span| {
        let mut values = Values::new();
        for key in KEYS {
            let mut attributes = span.attributes.iter();
            let found = attributes.find(|attribute| attribute.key == key);
            let value = found.and_then(|found| found.value.as_ref()?.value.as_ref());
            values.extend(value.map(|value| (named(key), text_of(value))));
        }
        let id: [u8; 8] = span.span_id.as_slice().try_into().unwrap();
        (u64::from_be_bytes(id), values)
    });
    values.collect()
}

/// Adds the values of columns, read row by row.
async fn with_columns(team: &Team, known: &mut BTreeMap<u64, Values>) {
    let mut columns = facets();
    columns.extend(["span_id".to_owned(), "start_time".to_owned()]);
    let columns = columns.iter().map(String::as_str);
    let read = team
        .query()
        .columns(columns)
        .unwrap()
        .collect()
        .await
        .unwrap();
    for mut row in rows(&read) {
        let id = u64::from_str_radix(&row.remove("span_id").unwrap(), 16).unwrap();
        known.get_mut(&id).unwrap().extend(row);
    }
}

fn single(row: &Values, column: &str) -> Vec<Option<String>> {
    vec![row.get(column).cloned()]
}

/// A part of the spans: by a query, and by their values.
type Part = (fn(Query) -> Query, fn(&Values) -> bool);

const SPLIT: i64 = NOW - 3_600_000 * MILLI + 3_000 * MILLI;

fn filtered(query: Query, filter: &str) -> Query {
    query.filter(filter).unwrap()
}

const PARTS: [(Part, Part); 6] = [
    (
        (
            |all| filtered(all, "level = 'error'"),
            |row| row["level"] == "error",
        ),
        (
            |all| filtered(all, "level != 'error'"),
            |row| row["level"] != "error",
        ),
    ),
    (
        (
            |all| {
                filtered(
                    all,
                    "attributes['db.system'] = 'it''s ''2''' and status_code < 500",
                )
            },
            |row| {
                row.get("attributes['db.system']")
                    .is_some_and(|one| one == "it's '2'")
                    && row["status_code"] != "500"
            },
        ),
        (|all| all, |_| true),
    ),
    (
        (
            |all| all.since(SPLIT),
            |row| row["start_time"].parse::<i64>().unwrap() >= SPLIT,
        ),
        (
            |all| all.until(SPLIT),
            |row| row["start_time"].parse::<i64>().unwrap() < SPLIT,
        ),
    ),
    (
        (
            |all| filtered(all, "region is null"),
            |row| !row.contains_key("region"),
        ),
        (
            |all| filtered(all, "region like '%1'"),
            |row| {
                row.get("region")
                    .is_some_and(|region| region.ends_with('1'))
            },
        ),
    ),
    (
        (|all| filtered(all, "method = 'NONE'"), |_| false),
        (
            |all| filtered(all, "route like '%3'"),
            |row| row["route"].ends_with('3'),
        ),
    ),
    (
        (
            |all| filtered(all, "kind = 'server'"),
            |row| row["kind"] == "server",
        ),
        (
            |all| filtered(all, "kind = 'server'"),
            |row| row["kind"] == "server",
        ),
    ),
];

/// Compares parts of a team's spans in every way.
async fn check(team: &Team, all: &BTreeMap<u64, Values>, keys: &[&str], state: &str) {
    let mut columns = facets();
    columns.extend(keys.iter().map(|key| named(key)));
    for (number, ((query, holds), (other, other_holds))) in PARTS.into_iter().enumerate() {
        let (query, other) = (query(team.query()), other(team.query()));
        let of_one: Vec<&Values> = all.values().filter(|row| holds(row)).collect();
        let of_other: Vec<&Values> = all.values().filter(|row| other_holds(row)).collect();
        let compare = |most| query.clone().compare(other.clone(), most);
        let comparison = compare(1_000).await.unwrap();
        let sizes = (comparison.spans, comparison.other_spans);
        assert_eq!(
            sizes,
            (of_one.len() as u64, of_other.len() as u64),
            "{state}, {number}"
        );
        let expected = compared(&of_one, &of_other, &columns, single);
        assert_eq!(said(&comparison), expected, "{state}, {number}");
        assert_eq!(expected.is_empty(), number == 5, "{state}, {number}");
        check_filters(&comparison, &query, &other).await;
        let few = compare(3).await.unwrap();
        assert_eq!(
            few.differences,
            comparison.differences[..3.min(expected.len())]
        );
    }
}

#[tokio::test]
async fn differences_are_those_of_a_naive_look_at_every_span() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let mut source = StdRng::seed_from_u64(17);
    let mut spans = |ids: std::ops::Range<u64>| -> Vec<Span> {
        ids.map(|id| random(&mut source, id)).collect()
    };
    let mut all = append(&acme, &spans(0..2_000));
    append(&store.team(&team("other")), &spans(0..500));
    with_columns(&acme, &mut all).await;
    check(&acme, &all, &[], "in memory").await;
    store.seal().unwrap();
    check(&acme, &all, &KEYS, "sealed, without indexes").await;
    all.extend(append(&acme, &spans(2_000..12_000)));
    with_columns(&acme, &mut all).await;
    check(&acme, &all, &KEYS, "sealed and in memory").await;
    store.seal().unwrap();
    let layout = store.inspect(store.segments()[1].id).unwrap().unwrap();
    let promoted: BTreeSet<&str> = layout.promoted.iter().map(|one| one.key.as_str()).collect();
    assert!(
        KEYS.iter().all(|key| promoted.contains(key)),
        "{promoted:?}"
    );
    assert!(
        promoted.contains("user") && promoted.contains("http.route"),
        "{promoted:?}"
    );
    check(&acme, &all, &KEYS, "in two segments").await;
    store.compact().unwrap();
    all.extend(append(&acme, &spans(12_000..12_500)));
    with_columns(&acme, &mut all).await;
    check(&acme, &all, &KEYS, "merged, and in memory").await;
}

/// Which set has more does not matter for the order, but for the sign.
#[tokio::test]
async fn the_sign_says_which_set_has_more() {
    let directory = tempfile::tempdir().unwrap();
    let acme = open(directory.path()).team(&team("acme"));
    let named = |id: u64, name: &str| Span {
        name: name.into(),
        kind: 2,
        ..span(id)
    };
    let spans = [named(1, "a"), named(3, "b"), named(5, "b"), named(7, "c")];
    acme.append(request(spans)).unwrap();
    let query = |filter| acme.query().filter(filter).unwrap();
    let comparison = query("name = 'a'").compare(query("name != 'a'"), 10);
    let differences = comparison.await.unwrap().differences;
    let said: Vec<_> = differences
        .iter()
        .map(|one| {
            (
                one.filter.as_str(),
                one.spans,
                one.other_spans,
                one.difference,
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("name = 'a'", 1, 0, 1.0),
            ("name = 'b'", 0, 2, -2.0 / 3.0),
            ("name = 'c'", 0, 1, -1.0 / 3.0),
        ]
    );
}

/// No key of another team is named, and no value whose filter nobody could write.
#[tokio::test]
async fn what_no_span_has_is_not_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (acme, other) = (store.team(&team("acme")), store.team(&team("other")));
    let with = |id, key: &str, value: &str| {
        let mut span = span(id);
        span.attributes.push(text(key, value));
        span
    };
    acme.append(request((0..50).map(|id| with(id, "own", "value"))))
        .unwrap();
    other
        .append(request((0..500).map(|id| with(id, "secret", "value"))))
        .unwrap();
    let longest = "x".repeat(16 << 10);
    acme.append(request([with(50, "http.route", &longest)]))
        .unwrap();
    store.seal().unwrap();
    let none = acme.query().filter("name = 'none'").unwrap();
    let comparison = acme.query().compare(none, 1_000).await.unwrap();
    assert_eq!((comparison.spans, comparison.other_spans), (51, 0));
    let columns: BTreeSet<&str> = comparison
        .differences
        .iter()
        .map(|one| one.column.as_str())
        .collect();
    assert!(columns.contains("attributes['own']"), "{columns:?}");
    assert!(!columns.contains("attributes['secret']"), "{columns:?}");
    assert!(!columns.contains("region"), "{columns:?}");
    let routes = comparison.differences.iter();
    let routes: Vec<_> = routes.filter(|one| one.column == "route").collect();
    assert_eq!((routes.len(), &routes[0].value), (1, &None));
}

/// An attribute of too many values is let go as soon as that is seen: here all of them take
/// more memory than a query may.
#[tokio::test]
async fn too_many_values_take_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let query_limits = QueryLimits {
        memory_bytes: 3 << 20,
        ..QueryLimits::default()
    };
    let store = open_with(
        directory.path(),
        StoreOptions {
            query_limits,
            ..quiet()
        },
    );
    let acme = store.team(&team("acme"));
    for part in 0..4 {
        let spans = (0..5_000).map(|id| {
            let mut span = span(part * 5_000 + id);
            let unique = format!("{:0>200}", part * 5_000 + id);
            span.attributes.push(text("unique", &unique));
            span
        });
        acme.append(request(spans)).unwrap();
        store.seal().unwrap();
    }
    let failed = acme.query().filter("status_code = 500").unwrap();
    let comparison = failed.compare(acme.query(), 1_000).await.unwrap();
    assert_eq!(comparison.other_spans, 20_000);
    let columns = comparison.differences.iter().map(|one| &one.column);
    let columns: BTreeSet<&String> = columns.collect();
    assert!(columns.contains(&named("items")), "{columns:?}");
    assert!(!columns.contains(&named("unique")), "{columns:?}");
    let all = acme.query().top("attributes['unique']", 1).await;
    assert!(matches!(all, Err(Error::QueryMemory { .. })), "{all:?}");
}

#[tokio::test]
async fn what_has_nothing_in_common_is_refused() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [store, another] = [open(directories[0].path()), open(directories[1].path())];
    let acme = store.team(&team("acme"));
    for (other, expected) in [
        (store.team(&team("other")).query(), "of different teams"),
        (another.team(&team("acme")).query(), "of different stores"),
        (acme.requests(), "over different rows"),
    ] {
        let refused = acme.query().compare(other, 10).await.unwrap_err();
        let is_refused =
            matches!(refused, Error::NotComparable { cause } if cause.contains(expected));
        assert!(is_refused, "{refused}");
    }
    let empty = acme.query().compare(acme.query(), 10).await.unwrap();
    assert_eq!(
        (empty.spans, empty.other_spans, empty.differences),
        (0, 0, vec![])
    );
}
