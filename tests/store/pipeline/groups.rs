//! Groups of rows as a naive look at every row gives them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use futures::TryStreamExt;
use spanstore::query::{Aggregate, Key, Query};
use spanstore::{Team, TraceId};

use spanstore_test_support::spans::trace_id;

use super::spans::{MILLI, Row};

/// A key: how it is asked for, in SQL too, and its value in a row.
struct NaiveKey {
    key: Key<'static>,
    sql: &'static str,
    of: fn(&Row) -> Option<String>,
}

const SECOND: i64 = 1_000 * MILLI;

const KEYS: [NaiveKey; 10] = [
    NaiveKey {
        key: Key::Value("route"),
        sql: "route",
        of: |row| row.column("route"),
    },
    NaiveKey {
        key: Key::Value("status_code"),
        sql: "status_code",
        of: |row| row.column("status_code"),
    },
    NaiveKey {
        key: Key::Value("upper(kind)"),
        sql: "upper(kind)",
        of: |row| row.column("kind").map(|kind| kind.to_uppercase()),
    },
    NaiveKey {
        key: Key::Value("host"),
        sql: "host",
        of: |row| row.column("host"),
    },
    NaiveKey {
        key: Key::Value("attributes['retries']"),
        sql: "attributes['retries']",
        of: |row| row.attribute("retries"),
    },
    NaiveKey {
        key: Key::Value("resource['replica']"),
        sql: "resource['replica']",
        of: |row| row.of_resource("replica"),
    },
    NaiveKey {
        key: Key::Value("trace_id"),
        sql: "hex(trace_id)",
        of: |row| Some(TraceId(trace_id(row.trace)).to_string()),
    },
    NaiveKey {
        key: Key::Time(Duration::from_secs(20)),
        sql: "cast(start_time as bigint) / 20000000000 * 20000000000",
        of: |row| Some((row.start() - row.start().rem_euclid(20 * SECOND)).to_string()),
    },
    NaiveKey {
        key: Key::Value("cold_start"),
        sql: "cold_start",
        of: |row| row.column("cold_start"),
    },
    NaiveKey {
        key: Key::Value("length(path)"),
        sql: "character_length(path)",
        of: |row| row.column("path").map(|path| path.len().to_string()),
    },
];

const AGGREGATES: [Aggregate<'static>; 10] = [
    Aggregate::Count,
    Aggregate::Distinct("path"),
    Aggregate::Distinct("host"),
    Aggregate::Sum("duration"),
    Aggregate::Avg("duration"),
    Aggregate::Min("start_time"),
    Aggregate::Max("duration"),
    Aggregate::Percentile("duration", 0.9),
    Aggregate::Sum("status_code"),
    Aggregate::Avg("attributes['ratio']"),
];

const IN_SQL: &str = "count(*), count(distinct path), count(distinct host), sum(duration), \
    avg(duration), min(start_time), max(duration), percentile_cont(duration, 0.9), \
    sum(status_code), count(route)";

/// Keys as texts, and values as numbers.
type Groups = HashMap<Vec<Option<String>>, Vec<Option<f64>>>;

/// What groups are made of, for each row.
pub(super) struct Naive {
    keys: Vec<Vec<Option<String>>>,
    values: Vec<Values>,
}

struct Values {
    path: Option<String>,
    host: Option<String>,
    has_route: bool,
    duration: i64,
    start: i64,
    code: Option<i64>,
    ratio: Option<f64>,
}

impl Naive {
    pub(super) fn new(rows: &[Row]) -> Self {
        let keys = KEYS.iter().map(|key| rows.iter().map(key.of).collect());
        let values = rows.iter().map(|row| Values {
            path: row.column("path"),
            host: row.column("host"),
            has_route: row.column("route").is_some(),
            duration: row.duration(),
            start: row.start(),
            code: row.code(),
            ratio: row.number("ratio"),
        });
        Self {
            keys: keys.collect(),
            values: values.collect(),
        }
    }

    fn groups(&self, rows: &[usize], keys: &[usize]) -> Groups {
        let mut groups: HashMap<Vec<Option<&str>>, Vec<&Values>> = HashMap::new();
        if keys.is_empty() {
            groups.entry(Vec::new()).or_default();
        }
        for row in rows {
            let key = keys.iter().map(|key| self.keys[*key][*row].as_deref());
            groups
                .entry(key.collect())
                .or_default()
                .push(&self.values[*row]);
        }
        let owned = |key: Vec<Option<&str>>| key.iter().map(|one| one.map(str::to_owned)).collect();
        groups
            .into_iter()
            .map(|(key, rows)| (owned(key), values(&rows)))
            .collect()
    }
}

fn values(rows: &[&Values]) -> Vec<Option<f64>> {
    let distinct = |of: fn(&Values) -> Option<&String>| {
        let values: HashSet<&String> = rows.iter().filter_map(|row| of(row)).collect();
        Some(values.len() as f64)
    };
    let mut durations: Vec<i64> = rows.iter().map(|row| row.duration).collect();
    durations.sort_unstable();
    let count = rows.len() as f64;
    let sum: i64 = durations.iter().sum();
    let some = |value: f64| (!rows.is_empty()).then_some(value);
    let codes: Vec<i64> = rows.iter().filter_map(|row| row.code).collect();
    let ratios: Vec<f64> = rows.iter().filter_map(|row| row.ratio).collect();
    let percentile = || {
        let place = 0.9 * (count - 1.0);
        let at = |place: f64| durations[place as usize] as f64;
        at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
    };
    vec![
        Some(count),
        distinct(|row| row.path.as_ref()),
        distinct(|row| row.host.as_ref()),
        some(sum as f64),
        some(sum as f64 / count),
        rows.iter().map(|row| row.start as f64).reduce(f64::min),
        durations.last().map(|duration| *duration as f64),
        (!rows.is_empty()).then(percentile),
        (!codes.is_empty()).then(|| codes.iter().sum::<i64>() as f64),
        (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64),
        Some(rows.iter().filter(|row| row.has_route).count() as f64),
    ]
}

fn text_at(values: &ArrayRef, row: usize) -> Option<String> {
    if values.is_null(row) {
        return None;
    }
    Some(match values.data_type() {
        DataType::FixedSizeBinary(_) => {
            let id = values.as_fixed_size_binary().value(row);
            TraceId(id.try_into().unwrap()).to_string()
        }
        DataType::Timestamp(..) => {
            let numbers = cast(values, &DataType::Int64).unwrap();
            numbers.as_primitive::<Int64Type>().value(row).to_string()
        }
        _ => {
            let texts = cast(values, &DataType::Utf8View).unwrap();
            texts.as_string_view().value(row).to_owned()
        }
    })
}

fn number_at(values: &ArrayRef, row: usize) -> Option<f64> {
    let is_time = matches!(values.data_type(), DataType::Timestamp(..));
    let values = if is_time {
        cast(values, &DataType::Int64).unwrap()
    } else {
        ArrayRef::clone(values)
    };
    let numbers = cast(&values, &DataType::Float64).unwrap();
    let numbers = numbers.as_primitive::<Float64Type>();
    numbers.is_valid(row).then(|| numbers.value(row))
}

/// Compares groups with rows of keys and values; `columns` says which values are there.
fn compare(expected: &Groups, batches: &[RecordBatch], keys: usize, columns: &[usize], of: &str) {
    let mut found = 0;
    for batch in batches {
        for row in 0..batch.num_rows() {
            let key: Vec<_> = (0..keys)
                .map(|key| text_at(batch.column(key), row))
                .collect();
            let values = expected.get(&key);
            let values = values.unwrap_or_else(|| panic!("no group {key:?} of {of}"));
            for (place, column) in columns.iter().enumerate() {
                let value = number_at(batch.column(keys + place), row);
                let is_equal = match (value, values[*column]) {
                    (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * other.abs(),
                    (one, other) => one == other,
                };
                assert!(
                    is_equal,
                    "{value:?}, not {:?}: {column} of {key:?} of {of}",
                    values[*column]
                );
            }
            found += 1;
        }
    }
    assert_eq!(found, expected.len(), "groups of {of}");
}

/// Places of keys: none, one, two or three.
fn keys(turn: usize) -> Vec<usize> {
    let key = |step: usize| (turn * step + step) % KEYS.len();
    let mut keys = match turn % 5 {
        0 => Vec::new(),
        1 | 2 => vec![key(3)],
        3 => vec![key(1), key(7)],
        _ => vec![0, key(3), 7],
    };
    let mut seen = HashSet::new();
    keys.retain(|key| seen.insert(*key));
    keys
}

impl Naive {
    /// Asks for groups of the rows that a query finds.
    pub(super) async fn check(&self, query: Query, rows: &[usize], turn: usize, of: &str) {
        let keys = keys(turn);
        let asked = keys.iter().map(|key| KEYS[*key].key);
        let found = query.aggregate(asked, AGGREGATES).await.unwrap();
        assert_eq!(found.num_columns(), keys.len() + AGGREGATES.len());
        let columns: Vec<usize> = (0..AGGREGATES.len()).collect();
        let groups = self.groups(rows, &keys);
        compare(
            &groups,
            &[found],
            keys.len(),
            &columns,
            &format!("{keys:?} of {of}"),
        );
    }

    /// Asks for the same by SQL, under a condition.
    pub(super) async fn check_sql(
        &self,
        team: &Team,
        condition: &str,
        rows: &[usize],
        turn: usize,
    ) {
        let keys = keys(turn);
        let names = keys.iter().map(|key| KEYS[*key].sql).chain([IN_SQL]);
        let names: Vec<&str> = names.collect();
        let mut text = format!("select {} from spans where {condition}", names.join(", "));
        let numbers: Vec<String> = (1..=keys.len()).map(|number| number.to_string()).collect();
        if !keys.is_empty() {
            text = format!("{text} group by {}", numbers.join(", "));
        }
        let found: Vec<RecordBatch> = team.sql(&text).await.unwrap().try_collect().await.unwrap();
        let columns = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10];
        compare(
            &self.groups(rows, &keys),
            &found,
            keys.len(),
            &columns,
            &text,
        );
    }
}
