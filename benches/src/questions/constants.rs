//! What questions are asked with, drawn from what there is.

use std::collections::BTreeSet;

use spanstore::SpanRow;
use spanstore::otlp::Value;

/// How many constants a question has.
const CONSTANTS: usize = 16;

/// What a question is asked with.
#[derive(Debug)]
pub struct Constants {
    pub(super) level: &'static str,
    pub(super) status: i32,
    pub(super) route: String,
    /// Part of a name.
    pub(super) name: String,
    /// Part of a path, in capitals.
    pub(super) path: String,
    /// An attribute and a text that it has.
    pub(super) text: (&'static str, String),
    /// A number that `db.response.returned_rows` has.
    pub(super) number: i64,
    /// A duration that few spans reach, ns.
    pub(super) slow: i64,
    /// A quarter of the time, ns since 1970.
    pub(super) since: i64,
    pub(super) until: i64,
}

/// Constants drawn from all spans, the newest first.
///
/// # Panics
/// When there are too few.
pub fn constants(rows: &[SpanRow]) -> Vec<Constants> {
    let mut durations: Vec<i64> = rows.iter().map(|row| row.duration_nanos).collect();
    durations.sort_unstable();
    let routes: BTreeSet<&String> = rows.iter().filter_map(|row| row.route.as_ref()).collect();
    let routes: Vec<&String> = routes.into_iter().collect();
    let words = |texts: BTreeSet<String>| -> Vec<String> {
        let words = texts
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii_alphabetic()));
        let words = words.filter(|word| word.len() > 4).map(str::to_owned);
        words.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let names = words(rows.iter().map(|row| row.name.clone()).collect());
    let paths = words(rows.iter().filter_map(path).collect());
    let texts: BTreeSet<String> = rows
        .iter()
        .filter_map(|row| text(row, "db.operation.name"))
        .collect();
    let texts: Vec<String> = texts.into_iter().collect();
    let numbers: BTreeSet<i64> = rows.iter().filter_map(returned_rows).collect();
    let numbers: Vec<i64> = numbers.into_iter().collect();
    let last = rows.first().expect("spans").start_nanos;
    let first = rows.last().expect("spans").start_nanos;
    let quarter = (last - first) / 4;
    let draw = |n: usize| {
        let since = first + (last - first - quarter) / CONSTANTS as i64 * n as i64;
        Constants {
            level: if n.is_multiple_of(2) {
                "error"
            } else {
                "warning"
            },
            status: 400 + n as i32,
            route: (*at(&routes, n)).clone(),
            name: at(&names, n).clone(),
            path: at(&paths, n).to_uppercase(),
            text: ("db.operation.name", at(&texts, n).clone()),
            number: *at(&numbers, n),
            slow: durations[durations.len() - 1 - (n + 1) * rows.len() / 2_000],
            since,
            until: since + quarter,
        }
    };
    (0..CONSTANTS).map(draw).collect()
}

fn at<T>(values: &[T], n: usize) -> &T {
    &values[n * 7 % values.len()]
}

fn value<'a>(row: &'a SpanRow, key: &str) -> Option<&'a Value> {
    let mut attributes = row.otlp.attributes.iter();
    let attribute = attributes.find(|attribute| attribute.key == key)?;
    attribute.value.as_ref()?.value.as_ref()
}

/// The text of an attribute.
pub(super) fn text(row: &SpanRow, key: &str) -> Option<String> {
    match value(row, key)? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// The number of `db.response.returned_rows`.
pub(super) fn returned_rows(row: &SpanRow) -> Option<i64> {
    match value(row, "db.response.returned_rows")? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

/// The column `path` of the sample application.
pub(super) fn path(row: &SpanRow) -> Option<String> {
    let path = text(row, "url.path").or_else(|| text(row, "http.target"))?;
    path.split('?').next().map(str::to_owned)
}
