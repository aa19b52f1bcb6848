//! What the indexes answer alone is what reading every row gives: filters,
//! counts and facets over partitions large enough to have postings, with
//! attributes that are promoted, of mixed types, and rare.

use std::sync::Arc;

use arrow::array::AsArray;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spanstore::io::SimulatedDisk;
use spanstore::otlp::{Span, Value};
use spanstore::{Store, Team};
use spanstore_test_support::spans::{attribute, integer, request, span, text};
use spanstore_test_support::{open, open_on, quiet, team};

const SPANS: u64 = 20_000;

/// A span with attributes that test promotion: one of a type for each span,
/// one of mixed types, one that repeats, one that is rare, an empty one.
fn rich(n: u64) -> Span {
    let mut span = span(n);
    let attributes = &mut span.attributes;
    attributes.push(text("request.id", &format!("iad1::request-{}", n / 10)));
    // The column may have its value from another attribute.
    let route = if n.is_multiple_of(9) {
        "next.route"
    } else {
        "http.route"
    };
    attributes.push(text(route, &format!("/api/{}", n % 5)));
    attributes.push(match n % 40 {
        0 => text("retries", "many"),
        n => integer("retries", n.cast_signed() % 3),
    });
    attributes.push(attribute(
        "ratio",
        Value::DoubleValue((n % 10) as f64 / 4.0),
    ));
    attributes.push(attribute("cached", Value::BoolValue(n.is_multiple_of(2))));
    if n.is_multiple_of(7) {
        attributes.push(text("zone", &format!("z{}", n % 3)));
        attributes.push(text("zone", "second"));
    }
    if n.is_multiple_of(1_000) {
        attributes.push(text("rare", "yes"));
    }
    if n.is_multiple_of(11) {
        attributes.push(attribute("nothing", Value::StringValue(String::new())));
    }
    if n.is_multiple_of(13) {
        attributes.insert(0, text("vercel.cache", "HIT"));
    }
    // Values that neighbours share, and that some neighbours lack.
    let trace = n / 10;
    if !trace.is_multiple_of(4) {
        attributes.push(text("cloud.region", &format!("region-{}", trace % 3)));
    }
    if !(trace / 10).is_multiple_of(3) {
        let tenant = (trace / 10).cast_signed() % 3;
        attributes.push(integer("tenant", tenant));
        attributes.push(attribute("trial", Value::BoolValue(tenant == 1)));
    }
    span
}

const FILTERS: [&str; 47] = [
    "region is null",
    "region = 'region-1' or region is null",
    "not (region in ('region-1', 'region-2'))",
    "attributes['tenant'] is null",
    "attributes['tenant'] is null and region != 'region-0'",
    "attributes['tenant'] != 1 or attributes['trial'] is null",
    "not (attributes['trial'] = true)",
    "request_id = 'request-7'",
    "request_id in ('request-7', 'request-1900', 'none') and method = 'GET'",
    "not (request_id = 'request-7')",
    "request_id = 'request-7' or session_id = 'session-3'",
    "session_id != 'session-3' and session_id in ('session-3', 'session-4')",
    "request_id = 'iad1::request-7'",
    "method = 'GET'",
    "method != 'GET'",
    "not (method = 'GET')",
    "method in ('GET', 'PUT') and status_code = 500",
    "status_code >= 400 or kind = 'server'",
    "status_code = '5xx'",
    "cache is null",
    "cache is not null and method = 'POST'",
    "not (cache = 'HIT')",
    "not (cache = 'HIT' or method = 'GET')",
    "(cache = 'HIT') is not true",
    "name like 'operation %' and name != 'operation 3'",
    "level = 'error'",
    "route = '/api/2' and attributes['http.route'] = '/api/2'",
    "attributes['http.route'] != '/api/2'",
    "attributes['db.system'] = 'redis'",
    "attributes['db.system'] like 'post%' and attributes['items'] = 5",
    "attributes['items'] > 10",
    "attributes['items'] = '5'",
    "attributes['items'] is null",
    "attributes['retries'] = 1",
    "attributes['retries'] = 'many'",
    "attributes['retries'] != '1'",
    "not (attributes['retries'] = 'many')",
    "attributes['ratio'] = 0.25",
    "attributes['cached'] = true",
    "attributes['zone'] = 'z1'",
    "attributes['zone'] = 'second'",
    "has(attributes, 'zone') and not has(attributes, 'rare')",
    "attributes['rare'] = 'yes'",
    "has(attributes, 'nothing') and attributes['nothing'] = ''",
    "resource['service.name'] = 'shop' and service = 'shop'",
    "resource['service.name'] is null",
    "attributes['absent'] is null and method = 'POST'",
];

async fn found(team: &Team, filter: &str) -> Vec<u64> {
    let query = team.query().filter(filter).unwrap();
    let batches = query.columns(["span_id"]).unwrap().collect().await.unwrap();
    let id = |id: &[u8]| u64::from_be_bytes(id.try_into().unwrap()) - 1;
    let mut ids: Vec<u64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_fixed_size_binary().iter().flatten())
        .map(id)
        .collect();
    ids.sort_unstable();
    ids
}

fn filled(store: &Store, spans: impl Iterator<Item = u64>) -> Team {
    let acme = store.team(&team("acme"));
    let spans: Vec<u64> = spans.collect();
    for chunk in spans.chunks(5_000) {
        acme.append(request(chunk.iter().map(|n| rich(*n))))
            .unwrap();
    }
    acme
}

#[tokio::test]
async fn indexes_answer_what_reading_answers() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store, 0..SPANS);
    // Rows in memory have no index: every answer is read.
    let mut expected = Vec::new();
    for filter in FILTERS {
        expected.push(found(&acme, filter).await);
    }
    let expected_facets = facets(&acme).await;
    let exported = exported(&acme);
    store.seal().unwrap();
    let layout = store.inspect(store.segments()[0].id).unwrap().unwrap();
    assert!(layout.facets.len() > 15, "{layout:?}");
    let promoted = |key: &str| layout.promoted.iter().find(|one| one.key == key).unwrap();
    assert!(!promoted("http.route").is_own);
    assert!(promoted("retries").has_strays && promoted("zone").has_strays);
    assert!(layout.promoted.iter().all(|one| one.key != "rare"));
    for (filter, expected) in FILTERS.iter().zip(&expected) {
        assert_eq!(&found(&acme, filter).await, expected, "{filter}");
        let query = || acme.query().filter(filter).unwrap();
        assert_eq!(
            query().count().await.unwrap(),
            expected.len() as u64,
            "{filter}"
        );
        let by_method = query().facet("method").await.unwrap();
        let sum: u64 = by_method.iter().map(|one| one.spans).sum();
        assert_eq!(sum, expected.len() as u64, "{filter}");
    }
    assert_eq!(facets(&acme).await, expected_facets);
    assert_eq!(self::exported(&acme), exported);
}

type Facets = Vec<(String, Vec<(Option<String>, u64)>)>;

async fn facets(team: &Team) -> Facets {
    let mut all = Vec::new();
    for column in [
        "method",
        "status_code",
        "cache",
        "route",
        "kind",
        "name",
        "region",
    ] {
        for filter in ["true", "method = 'GET'", "attributes['items'] > 3"] {
            let query = team.query().filter(filter).unwrap();
            let values = query.facet(column).await.unwrap();
            let values = values.into_iter().map(|one| (one.value, one.spans));
            all.push((format!("{column} where {filter}"), values.collect()));
        }
    }
    all
}

/// All spans as they came, by id.
fn exported(team: &Team) -> Vec<(Vec<u8>, Span)> {
    let mut spans: Vec<(Vec<u8>, Span)> = Vec::new();
    for chunk in team.export().unwrap() {
        for resource in chunk.unwrap().to_otlp().unwrap().resource_spans {
            for scope in resource.scope_spans {
                spans.extend(
                    scope
                        .spans
                        .into_iter()
                        .map(|span| (span.span_id.clone(), span)),
                );
            }
        }
    }
    spans.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    spans
}

#[test]
fn attributes_come_back_in_their_order_out_of_promoted_columns() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store, 0..SPANS);
    store.seal().unwrap();
    for (number, (_, span)) in exported(&acme).into_iter().enumerate() {
        assert_eq!(span.attributes, rich(number as u64).attributes, "{number}");
    }
}

#[tokio::test]
async fn a_facet_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let acme = filled(&open(directory.path()), 0..10);
    for column in ["trace_id", "attributes", "cold_start"] {
        let error = acme.query().facet(column).await.unwrap_err();
        let is_named = matches!(error, spanstore::Error::NoFacet { name } if name == column);
        assert!(is_named, "{error}");
    }
    for column in ["team_id", "none"] {
        let error = acme.query().facet(column).await.unwrap_err();
        let is_unknown = matches!(error, spanstore::Error::UnknownColumn { .. });
        assert!(is_unknown, "{error}");
    }
    let error = acme.query().facet("servce").await.unwrap_err();
    assert!(error.to_string().contains("such as service"), "{error}");
    let in_any_case = acme.query().facet("Level").await.unwrap();
    assert_eq!(in_any_case, acme.query().facet("level").await.unwrap());
    assert_eq!(acme.query().count().await.unwrap(), 10);
}

/// SQL texts that take single attributes, in conditions, groups and orders,
/// answer the same out of promoted columns as out of rows in memory.
#[tokio::test]
async fn sql_takes_attributes_out_of_promoted_columns() {
    use arrow::util::pretty::pretty_format_batches;
    use futures::TryStreamExt;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store, 0..12_000);
    let texts = [
        "select attributes['db.system'] s, count(*) n from spans group by 1 order by 1",
        "select attributes['retries'] r, attributes['zone'] z, count(*) n from spans
         where attributes['items'] > 7 group by 1, 2 order by 1, 2",
        "select hex(span_id) i, attributes['ratio'] r from spans
         where attributes['http.route'] = '/api/2' and method = 'GET' order by i limit 20",
        "select count(*) from spans where attributes['rare'] is not null",
        "select hex(span_id) i, name from spans order by attributes['items'] desc, i limit 9",
        "select resource['service.name'] s, max(duration) from spans group by 1",
        "select a, count(*) from (select attributes['cached'] a, attributes from spans) t
         where length(hex(attributes)) > 0 group by 1 order by 1",
        "select sum(length(hex(attributes))) from spans where has_attribute(attributes, 'nothing')",
    ];
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut all = Vec::new();
        for text in texts {
            let stream = acme.sql(text).await.unwrap();
            let batches: Vec<_> = stream.try_collect().await.unwrap();
            all.push(pretty_format_batches(&batches).unwrap().to_string());
        }
        answers.push(all);
        store.seal().unwrap();
    }
    for (text, (hot, sealed)) in texts.iter().zip(answers[0].iter().zip(&answers[1])) {
        assert_eq!(hot, sealed, "{text}");
    }
}

#[test]
fn requests_are_found_by_their_id() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store, 0..300);
    store
        .team(&team("other"))
        .append(request((0..50).map(rich)))
        .unwrap();
    let check = |state: &str| {
        for (id, spans) in [
            ("request-7", 10),
            ("request-29", 10),
            ("request-30", 0),
            ("", 0),
        ] {
            let found = acme.request_spans(id).unwrap().rows().unwrap();
            assert_eq!(found.len(), spans, "{id}, {state}");
        }
    };
    check("hot");
    store.seal().unwrap();
    check("sealed");
    acme.append(request((300..310).map(rich))).unwrap();
    store.seal().unwrap();
    store.compact().unwrap();
    assert_eq!(acme.request_spans("request-30").unwrap().len(), 10);
}

/// Conditions put together at random, of those above.
#[tokio::test]
async fn any_combination_of_conditions_counts_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = filled(&store, 0..12_000);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut combinations = Vec::new();
    for _ in 0..80 {
        let mut one = || {
            let filter = FILTERS[random.random_range(0..FILTERS.len())];
            match random.random_range(0..3) {
                0 => format!("not ({filter})"),
                _ => format!("({filter})"),
            }
        };
        let filters = [one(), one(), one()];
        let operators = ["and", "or"];
        let mut operator = || operators[random.random_range(0..2)];
        combinations.push(format!(
            "{} {} not ({} {} {})",
            filters[0],
            operator(),
            filters[1],
            operator(),
            filters[2]
        ));
    }
    let mut expected = Vec::new();
    for filter in &combinations {
        expected.push(found(&acme, filter).await);
    }
    store.seal().unwrap();
    for (filter, expected) in combinations.iter().zip(&expected) {
        let query = || acme.query().filter(filter).unwrap();
        assert_eq!(
            query().count().await.unwrap(),
            expected.len() as u64,
            "{filter}"
        );
        assert_eq!(&found(&acme, filter).await, expected, "{filter}");
    }
}

/// Damages every page of the only segment, and nothing of its indexes.
fn damage_rows(disk: &SimulatedDisk, store: Store) {
    let layout = store.inspect(store.segments()[0].id).unwrap().unwrap();
    let pages: u64 = layout.columns.iter().map(|column| column.bytes).sum();
    drop(store);
    let path = disk
        .paths()
        .into_iter()
        .find(|path| path.extension().is_some_and(|one| one == "parquet"))
        .unwrap();
    // The file begins with its pages.
    let damage = |bytes: &mut Vec<u8>| bytes[4..pages as usize].fill(0xee);
    disk.corrupt(&path, damage).unwrap();
}

/// A value of another type, or a column that differs from its resource, is the
/// matter of the team whose it is.
#[tokio::test]
async fn what_one_team_mistypes_the_indexes_of_others_still_answer() {
    let disk = SimulatedDisk::new();
    let open = || open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    let store = open();
    let acme = filled(&store, 0..SPANS);
    let filters = [
        "attributes['tenant'] = 1",
        "attributes['tenant'] is null",
        "not (attributes['trial'] = true)",
        "resource['service.name'] = 'shop'",
    ];
    let mut expected = Vec::new();
    for filter in filters {
        let count = acme.query().filter(filter).unwrap().count().await.unwrap();
        expected.push(count);
    }
    let other = store.team(&team("other"));
    let mut spans: Vec<Span> = (0..9_000).map(rich).collect();
    spans[10]
        .attributes
        .retain(|one| one.key != "tenant" && one.key != "trial");
    spans[10].attributes.push(text("tenant", "mistyped"));
    spans[10].attributes.push(integer("trial", 7));
    let last = spans.pop().unwrap();
    other.append(request(spans)).unwrap();
    let mut without_name = request([last]);
    let resource = &mut without_name.resource_spans[0].resource;
    resource.as_mut().unwrap().attributes[0] = integer("service.name", 5);
    other.append(without_name).unwrap();
    store.seal().unwrap();
    assert_eq!(store.segments().len(), 1);
    let mistyped = || {
        other
            .query()
            .filter("attributes['tenant'] = 'mistyped'")
            .unwrap()
    };
    assert_eq!(mistyped().count().await.unwrap(), 1);
    drop((acme, other));
    damage_rows(&disk, store);
    let store = open();
    let acme = store.team(&team("acme"));
    assert!(acme.query().collect().await.is_err());
    for (filter, expected) in filters.into_iter().zip(expected) {
        let count = acme.query().filter(filter).unwrap().count().await;
        assert_eq!(count.ok(), Some(expected), "{filter}");
    }
    // The team itself is read.
    let other = store.team(&team("other"));
    let mistyped = other.query().filter("attributes['tenant'] = 1").unwrap();
    assert!(mistyped.count().await.is_err());
}

/// Counts and facets come out of the indexes alone: they are right although
/// every row is damaged.
#[tokio::test]
async fn counts_and_facets_read_no_row() {
    let disk = SimulatedDisk::new();
    let open = || open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    let store = open();
    let acme = filled(&store, 0..SPANS);
    let end = i64::MAX - 1;
    let filters = [
        "true".to_owned(),
        "method = 'POST' or not false".to_owned(),
        "method = 'GET'".to_owned(),
        "not (method = 'POST') and status_code >= 400".to_owned(),
        "region is null or cache = 'HIT'".to_owned(),
        "attributes['tenant'] in (1, 2) and attributes['trial'] is not null".to_owned(),
        format!("method = 'GET' and start_time < {end}"),
    ];
    let mut expected = Vec::new();
    for filter in &filters {
        let query = || acme.query().filter(filter).unwrap();
        let count = query().count().await.unwrap();
        assert!(count > 0, "{filter}");
        expected.push((count, query().facet("region").await.unwrap()));
    }
    store.seal().unwrap();
    drop(acme);
    damage_rows(&disk, store);
    let store = open();
    let acme = store.team(&team("acme"));
    assert!(acme.query().collect().await.is_err());
    for (filter, (count, regions)) in filters.iter().zip(&expected) {
        let query = || acme.query().filter(filter).unwrap();
        assert_eq!(query().count().await.ok(), Some(*count), "{filter}");
        assert_eq!(&query().facet("region").await.unwrap(), regions, "{filter}");
    }
}
