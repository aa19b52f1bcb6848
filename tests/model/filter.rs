//! Random filters, their text, and what they mean for one span.

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use super::facts::{Facts, SERVICES, Value};

/// A filter.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Both hold.
    And(Box<Filter>, Box<Filter>),
    /// One holds.
    Or(Box<Filter>, Box<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A comparison of a column with a literal.
    Compare(&'static str, Comparison, Value),
    /// A column is one of some literals.
    In(&'static str, Vec<Value>),
    /// A column lies between two numbers.
    Between(&'static str, i64, i64),
    /// A column begins with a text.
    Like(&'static str, String),
    /// A column has no value.
    IsNull(&'static str),
    /// A trace, by its id.
    Trace(u64),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

const COMPARISONS: [Comparison; 6] = [
    Comparison::Equal,
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::AtMost,
    Comparison::More,
    Comparison::AtLeast,
];

/// The levels, the least grave first.
const LEVELS: [&str; 4] = ["info", "warning", "error", "fatal"];

/// Columns of text, with values that spans have and one that none has.
const TEXTS: [(&str, &[&str]); 12] = [
    (
        "name",
        &["render", "pay", "checkout 100%", "ça va_1", "none"],
    ),
    ("kind", &["server", "client", "internal", "consumer"]),
    ("status", &["ok", "error", "unset"]),
    ("level", &LEVELS),
    ("service", &SERVICES),
    ("scope_name", &["model", "none"]),
    (
        "session_id",
        &["session-0", "session-1", "session-2", "none"],
    ),
    ("request_id", &["request-0", "request-3", "none"]),
    ("method", &["GET", "POST", "PATCH"]),
    ("path", &["/api/0", "/api/3", "/api/"]),
    ("attributes['db.system']", &["redis", "mysql", "none"]),
    ("resource['service.name']", &SERVICES),
];

const NUMBERS: [&str; 4] = [
    "status_code",
    "duration",
    "start_time",
    "attributes['items']",
];

impl Filter {
    /// A random filter over spans like these.
    pub fn random(random: &mut dyn RngCore, spans: &[Facts], depth: u32) -> Self {
        if depth > 0 && random.random_bool(0.5) {
            let mut deeper = || Box::new(Self::random(random, spans, depth - 1));
            let (one, other) = (deeper(), deeper());
            return match random.random_range(0..3) {
                0 => Self::And(one, other),
                1 => Self::Or(one, other),
                _ => Self::Not(one),
            };
        }
        match random.random_range(0..8) {
            0..=3 => {
                let (column, values) = TEXTS.choose(random).copied().unwrap_or(TEXTS[0]);
                let value = |random: &mut dyn RngCore| {
                    Value::Text((*values.choose(random).unwrap_or(&"")).into())
                };
                match random.random_range(0..5) {
                    0 => Self::In(column, vec![value(random), value(random)]),
                    1 => {
                        let Value::Text(text) = value(random) else {
                            return Self::IsNull(column);
                        };
                        Self::Like(column, text.chars().take(5).collect())
                    }
                    2 => Self::IsNull(column),
                    _ => {
                        let comparison = COMPARISONS.choose(random).copied();
                        let value = value(random);
                        Self::Compare(column, comparison.unwrap_or(Comparison::Equal), value)
                    }
                }
            }
            4 => Self::Trace(random.random_range(0..12)),
            _ => {
                let column = NUMBERS.choose(random).copied().unwrap_or(NUMBERS[0]);
                let number = |random: &mut dyn RngCore| {
                    let seen = spans.choose(random).and_then(|one| one.value(column));
                    match seen {
                        Some(Value::Number(number)) => number + random.random_range(-1..2),
                        _ => 200,
                    }
                };
                let is_range = column != "attributes['items']" && random.random_bool(0.3);
                if is_range {
                    Self::Between(column, number(random), number(random))
                } else {
                    let comparison = COMPARISONS.choose(random).copied();
                    let value = Value::Number(number(random));
                    Self::Compare(column, comparison.unwrap_or(Comparison::Equal), value)
                }
            }
        }
    }

    /// The text of the filter.
    pub fn text(&self) -> String {
        match self {
            Self::And(one, other) => format!("({} and {})", one.text(), other.text()),
            Self::Or(one, other) => format!("({} or {})", one.text(), other.text()),
            Self::Not(one) => format!("not ({})", one.text()),
            Self::Compare(column, comparison, value) => {
                format!("{column} {} {}", comparison.text(), literal(value))
            }
            Self::In(column, values) => {
                let values: Vec<String> = values.iter().map(literal).collect();
                format!("{column} in ({})", values.join(", "))
            }
            Self::Between(column, low, high) => format!("{column} between {low} and {high}"),
            Self::Like(column, start) => {
                let start = start.replace('%', "\\%").replace('_', "\\_");
                format!("{column} like '{start}%'")
            }
            Self::IsNull(column) => format!("{column} is null"),
            Self::Trace(trace) => {
                let id = u128::from_be_bytes(crate::spans::trace_id(*trace));
                format!("trace_id = '{id:032x}'")
            }
        }
    }

    /// Whether SQL means the same by the text.
    pub fn is_sql(&self) -> bool {
        let is_sql = |column: &str| !matches!(column, "start_time" | "attributes['items']");
        match self {
            Self::And(one, other) | Self::Or(one, other) => one.is_sql() && other.is_sql(),
            Self::Not(one) => one.is_sql(),
            // SQL compares the bytes of levels.
            Self::Compare("level", comparison, _) => comparison.is_equality(),
            Self::Compare(column, ..) | Self::In(column, _) | Self::Between(column, ..) => {
                is_sql(column)
            }
            Self::Like(..) | Self::IsNull(_) => true,
            Self::Trace(_) => false,
        }
    }

    /// Whether a span fulfils it; none when neither can be said.
    pub fn holds(&self, span: &Facts) -> Option<bool> {
        match self {
            Self::And(one, other) => match (one.holds(span), other.holds(span)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(one, other) => match (one.holds(span), other.holds(span)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(one) => one.holds(span).map(|holds| !holds),
            Self::Compare(column, comparison, value) => {
                let found = span.value(column)?;
                let order = match *column {
                    "level" => gravity(&found).cmp(&gravity(value)),
                    _ => found.cmp(value),
                };
                Some(match comparison {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::AtMost => order.is_le(),
                    Comparison::More => order.is_gt(),
                    Comparison::AtLeast => order.is_ge(),
                })
            }
            Self::In(column, values) => Some(values.contains(&span.value(column)?)),
            Self::Between(column, low, high) => {
                let found = span.value(column)?;
                Some(found >= Value::Number(*low) && found <= Value::Number(*high))
            }
            Self::Like(column, start) => match span.value(column)? {
                Value::Text(text) => Some(text.starts_with(start)),
                Value::Number(_) => None,
            },
            Self::IsNull(column) => Some(span.value(column).is_none()),
            Self::Trace(trace) => Some(span.trace == *trace),
        }
    }
}

impl Comparison {
    fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// How grave a level is.
fn gravity(level: &Value) -> Option<usize> {
    match level {
        Value::Text(text) => LEVELS.iter().position(|level| level == text),
        Value::Number(_) => None,
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Number(number) => number.to_string(),
    }
}
