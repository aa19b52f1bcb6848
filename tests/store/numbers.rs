//! What attributes of mixed types are, compared with a number: each span is found by the
//! comparison, by its opposite, or by neither, as the rules say, wherever its value lies.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::Team;
use spanstore::otlp::{AnyValue, ArrayValue, KeyValue, Span, Value};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open, team};

/// Keys of which most values are of one type, and one that few spans have.
const KEYS: [&str; 5] = ["integers", "texts", "doubles", "truths", "rare"];

fn text(text: &str) -> Value {
    Value::StringValue(text.into())
}

/// A value of any type, and its number by the rules of filters.
fn unusual(random: &mut StdRng) -> (Option<Value>, Option<f64>) {
    match random.random_range(0..16) {
        0 => (Some(text("250")), Some(250.0)),
        1 => (Some(text(" 2.5e2\t")), Some(250.0)),
        2 => (Some(text("-0")), Some(0.0)),
        3 => (Some(text("3.0")), Some(3.0)),
        4 => (Some(text("many")), None),
        5 => (Some(text("")), None),
        6 => (Some(text("inf")), Some(f64::INFINITY)),
        7 => (Some(text("-NaN")), Some(f64::NAN)),
        8 => (Some(Value::DoubleValue(-0.0)), Some(0.0)),
        9 => (Some(Value::DoubleValue(-f64::NAN)), Some(f64::NAN)),
        10 => (Some(Value::DoubleValue(3.0)), Some(3.0)),
        11 => (
            Some(Value::IntValue((1 << 53) + 1)),
            Some(9_007_199_254_740_992.0),
        ),
        12 => (Some(Value::BoolValue(true)), None),
        13 => (Some(Value::BytesValue(b"3".to_vec())), None),
        14 => {
            let values = vec![AnyValue {
                value: Some(Value::IntValue(3)),
            }];
            (Some(Value::ArrayValue(ArrayValue { values })), None)
        }
        _ => (None, None),
    }
}

/// A value of a key as most have it.
fn usual(key: &str, few: i64) -> (Option<Value>, Option<f64>) {
    match key {
        "integers" => (Some(Value::IntValue(few)), Some(few as f64)),
        "texts" => (Some(text(&few.to_string())), Some(few as f64)),
        "doubles" => (Some(Value::DoubleValue(few as f64)), Some(few as f64)),
        _ => (Some(Value::BoolValue(few > 0)), None),
    }
}

/// A span, and for each key the number of its value.
fn random(random: &mut StdRng, id: u64) -> (Span, Vec<Option<f64>>) {
    let mut span = span(id);
    let mut numbers = Vec::new();
    for key in KEYS {
        let is_there = random.random_bool(if key == "rare" { 0.008 } else { 0.95 });
        if !is_there {
            numbers.push(None);
            continue;
        }
        let (value, number) = if key == "rare" || random.random_bool(0.05) {
            unusual(random)
        } else {
            usual(key, random.random_range(-1..5))
        };
        span.attributes.push(KeyValue {
            key: key.into(),
            value: Some(AnyValue { value }),
            ..KeyValue::default()
        });
        numbers.push(number);
    }
    (span, numbers)
}

/// Comparisons with a number; NaN is above all numbers.
fn holds(number: f64, operator: &str, literal: f64) -> bool {
    let order = if number.is_nan() {
        std::cmp::Ordering::Greater
    } else {
        number.partial_cmp(&literal).unwrap()
    };
    match operator {
        "=" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

async fn count(acme: &Team, filter: &str) -> u64 {
    acme.query().filter(filter).unwrap().count().await.unwrap()
}

async fn check(acme: &Team, numbers: &[Vec<Option<f64>>], state: &str) {
    for (place, key) in KEYS.into_iter().enumerate() {
        for (text, literal) in [
            ("3", 3.0),
            ("0", 0.0),
            ("-0.0", 0.0),
            ("2.5e2", 250.0),
            ("9007199254740992", 9_007_199_254_740_992.0),
        ] {
            for operator in ["=", "!=", "<", "<=", ">", ">="] {
                let condition = format!("attributes['{key}'] {operator} {text}");
                let truth = |one: &Vec<Option<f64>>| {
                    one[place].map(|number| holds(number, operator, literal))
                };
                let with = |wanted| {
                    let found = numbers.iter().filter(|one| truth(one) == wanted);
                    found.count() as u64
                };
                for (filter, expected) in [
                    (condition.clone(), with(Some(true))),
                    (format!("not ({condition})"), with(Some(false))),
                    (
                        format!("({condition}) is not true and ({condition}) is not false"),
                        with(None),
                    ),
                ] {
                    assert_eq!(count(acme, &filter).await, expected, "{state}: {filter}");
                }
            }
        }
        let three = |one: &&Vec<Option<f64>>| one[place] == Some(3.0);
        let threes = numbers.iter().filter(three).count() as u64;
        let list = format!("attributes['{key}'] in (3, -0.0)");
        let zeros = numbers.iter().filter(|one| one[place] == Some(0.0)).count() as u64;
        assert_eq!(count(acme, &list).await, threes + zeros, "{state}: {list}");
        let known = numbers.iter().filter(|one| one[place].is_some()).count() as u64;
        let others = format!("attributes['{key}'] not in (3, 0)");
        let expected = known - threes - zeros;
        assert_eq!(count(acme, &others).await, expected, "{state}: {others}");
        for zero in ["= -0.0", "in (-0.0)"] {
            let sql = format!("SELECT count(*) FROM spans WHERE attributes['{key}'] {zero}");
            let rows = acme.sql(&sql).await.unwrap();
            let rows: Vec<_> = rows.try_collect().await.unwrap();
            let found = rows[0].column(0).as_primitive::<Int64Type>();
            assert_eq!(found.value(0) as u64, zeros, "{state}: {sql}");
        }
    }
}

#[tokio::test]
async fn each_span_is_found_by_a_comparison_its_opposite_or_neither() {
    let mut source = StdRng::seed_from_u64(9);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let all = (0..10_000).map(|id| random(&mut source, id));
    let (spans, numbers): (Vec<Span>, Vec<_>) = all.unzip();
    // One part has facets, one has none.
    acme.append(request(spans[..8_500].to_vec())).unwrap();
    store.seal().unwrap();
    acme.append(request(spans[8_500..9_500].to_vec())).unwrap();
    store.seal().unwrap();
    acme.append(request(spans[9_500..].to_vec())).unwrap();
    let layouts = store
        .segments()
        .into_iter()
        .map(|one| store.inspect(one.id));
    let promoted = layouts.flat_map(|layout| layout.unwrap().unwrap().promoted);
    let promoted: Vec<_> = promoted.collect();
    for key in &KEYS[..4] {
        let is_it = promoted
            .iter()
            .any(|one| one.key == **key && one.has_strays);
        assert!(is_it, "{key}");
    }
    assert!(promoted.iter().all(|one| one.key != "rare"));
    check(&acme, &numbers, "in part unsealed").await;
    store.seal().unwrap();
    store.compact().unwrap();
    check(&acme, &numbers, "merged").await;
}
