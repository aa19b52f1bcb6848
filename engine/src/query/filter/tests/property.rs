//! Random filters: printed, parsed and evaluated by DataFusion, and evaluated
//! by the plainest means.

use std::cmp::Ordering;

use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use proptest::prelude::*;
use spanstore_format::otlp::Value as AttributeValue;
use spanstore_format::span::schema;

use super::evaluation::{Row, answers, batch, id};
use super::*;

/// A filter as a tree.
#[derive(Debug, Clone)]
enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Is(Box<Tree>, bool, bool),
    IsNull(Operand, bool),
    Compare(Operand, usize, Value),
    Swapped(Operand, usize, Value),
    Columns(usize),
    In(Operand, Vec<Value>, bool),
    Between(Operand, Value, Value, bool),
    Like(Operand, Vec<Piece>, bool, bool),
    Search(usize, Operand, String),
    Class(i32, bool),
    Cold,
    Has,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operand {
    Name,
    Session,
    LowerName,
    Length,
    AttributeText,
    AttributeNumber,
    Status,
    Duration,
    Start,
    Trace,
    Parent,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Value {
    Text(String),
    Number(f64),
    Id(u8),
}

/// A piece of a `like` pattern.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Any,
    One,
    Character(char),
}

const OPERATORS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];
const SEARCHES: [&str; 3] = ["starts_with", "ends_with", "contains"];

fn holds(ordering: Ordering, operator: usize) -> bool {
    match OPERATORS[operator] {
        "=" => ordering.is_eq(),
        "!=" => ordering.is_ne(),
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        ">" => ordering.is_gt(),
        _ => ordering.is_ge(),
    }
}

impl Operand {
    fn print(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Session => "\"session_id\"",
            Self::LowerName => "lower(name)",
            Self::Length => "length(name)",
            Self::AttributeText | Self::AttributeNumber => "attributes['k']",
            Self::Status => "Status_Code",
            Self::Duration => "duration",
            Self::Start => "start_time",
            Self::Trace => "trace_id",
            Self::Parent => "parent_span_id",
        }
    }

    fn of(self, row: &Row) -> Option<Value> {
        let attribute = || {
            row.attributes
                .iter()
                .find(|(key, _)| key == "k")
                .map(|(_, v)| v)
        };
        Some(match self {
            Self::Name => Value::Text(row.name.clone()),
            Self::Session => Value::Text(row.session.clone()?),
            Self::LowerName => Value::Text(row.name.to_lowercase()),
            Self::Length => Value::Number(row.name.chars().count() as f64),
            Self::AttributeText => Value::Text(match attribute()? {
                AttributeValue::StringValue(text) => text.clone(),
                AttributeValue::IntValue(number) => number.to_string(),
                other => panic!("{other:?}"),
            }),
            Self::AttributeNumber => Value::Number(match attribute()? {
                AttributeValue::StringValue(text) => text.parse().ok()?,
                AttributeValue::IntValue(number) => *number as f64,
                other => panic!("{other:?}"),
            }),
            Self::Status => Value::Number(f64::from(row.status?)),
            Self::Duration => Value::Number(row.duration as f64),
            Self::Start => Value::Number(row.start as f64),
            Self::Trace => Value::Id(row.trace),
            Self::Parent => Value::Id(row.parent?),
        })
    }

    fn print_value(self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Text(text)) => quoted(text),
            (_, Value::Id(last)) => format!("'0{last:X}'"),
            (Self::Duration, Value::Number(number)) if *number > 2.0 => format!("'{number}ns'"),
            (Self::Start, Value::Number(number)) if (3.0..10.0).contains(number) => {
                format!("'1970-01-01T00:00:00.00000000{number}Z'")
            }
            (Self::Status, Value::Number(number)) if *number > 5.0 => format!("'{number}'"),
            (_, Value::Number(number)) => number.to_string(),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn not(negated: bool) -> &'static str {
    if negated { "not " } else { "" }
}

impl Tree {
    /// The filter, with parentheses only where precedence asks for them.
    fn print(&self) -> String {
        let joined = |parts: &[Self], word: &str, level: u8| {
            let parts: Vec<_> = parts.iter().map(|part| part.print_above(level)).collect();
            parts.join(word)
        };
        match self {
            Self::Any(parts) => joined(parts, " or ", 1),
            Self::All(parts) => joined(parts, "\nAND ", 2),
            Self::Not(part) => format!("not {}", part.print_above(3)),
            Self::Is(part, truth, negated) => {
                format!("{} is {}{truth}", part.print_above(5), not(*negated))
            }
            Self::IsNull(operand, negated) => {
                format!("{} is {}null", operand.print(), not(*negated))
            }
            Self::Compare(operand, operator, value) => {
                let value = operand.print_value(value);
                format!("{} {} {value}", operand.print(), OPERATORS[*operator])
            }
            Self::Swapped(operand, operator, value) => {
                let value = operand.print_value(value);
                format!("{value}{}{}", OPERATORS[*operator], operand.print())
            }
            Self::Columns(operator) => format!("session_id {} name", OPERATORS[*operator]),
            Self::In(operand, values, negated) => {
                let values: Vec<_> = values.iter().map(|v| operand.print_value(v)).collect();
                format!(
                    "{} {}in ({})",
                    operand.print(),
                    not(*negated),
                    values.join(", ")
                )
            }
            Self::Between(operand, low, high, negated) => {
                let (low, high) = (operand.print_value(low), operand.print_value(high));
                format!(
                    "{} {}between {low} and {high}",
                    operand.print(),
                    not(*negated)
                )
            }
            Self::Like(operand, pieces, negated, ignore_case) => {
                let mut pattern = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Any => pattern.push('%'),
                        Piece::One => pattern.push('_'),
                        Piece::Character(character) => {
                            if "%_!".contains(*character) {
                                pattern.push('!');
                            }
                            pattern.push(*character);
                        }
                    }
                }
                let word = if *ignore_case { "ilike" } else { "like" };
                let (operand, pattern) = (operand.print(), quoted(&pattern));
                format!("{operand} {}{word} {pattern} escape '!'", not(*negated))
            }
            Self::Search(function, operand, text) => {
                format!(
                    "{}({}, {})",
                    SEARCHES[*function],
                    operand.print(),
                    quoted(text)
                )
            }
            Self::Class(class, negated) => {
                format!(
                    "status_code {} '{class}xx'",
                    if *negated { "<>" } else { "==" }
                )
            }
            Self::Cold => "cold_start".into(),
            Self::Has => "has(attributes, 'k')".into(),
        }
    }

    fn print_above(&self, level: u8) -> String {
        let own = match self {
            Self::Any(_) => 1,
            Self::All(_) => 2,
            Self::Not(_) => 3,
            Self::Is(..) | Self::IsNull(..) => 4,
            _ => 5,
        };
        // `not not a` needs no parentheses; the others do not chain.
        let text = self.print();
        if own > level || (own == 3 && level == 3) {
            text
        } else {
            format!("({text})")
        }
    }

    fn answer(&self, row: &Row) -> Option<bool> {
        match self {
            Self::All(parts) => {
                let answers: Vec<_> = parts.iter().map(|part| part.answer(row)).collect();
                all(&answers)
            }
            Self::Any(parts) => {
                let answers: Vec<_> = parts
                    .iter()
                    .map(|part| part.answer(row).map(|truth| !truth))
                    .collect();
                all(&answers).map(|truth| !truth)
            }
            Self::Not(part) => part.answer(row).map(|truth| !truth),
            Self::Is(part, truth, negated) => Some((part.answer(row) == Some(*truth)) != *negated),
            Self::IsNull(operand, negated) => Some(operand.of(row).is_none() != *negated),
            Self::Compare(operand, operator, value) => {
                Some(holds(operand.of(row)?.partial_cmp(value)?, *operator))
            }
            Self::Swapped(operand, operator, value) => {
                Some(holds(value.partial_cmp(&operand.of(row)?)?, *operator))
            }
            Self::Columns(operator) => Some(holds(row.session.as_ref()?.cmp(&row.name), *operator)),
            Self::In(operand, values, negated) => {
                Some(values.contains(&operand.of(row)?) != *negated)
            }
            Self::Between(operand, low, high, negated) => {
                let value = operand.of(row)?;
                Some((*low <= value && value <= *high) != *negated)
            }
            Self::Like(operand, pieces, negated, ignore_case) => {
                let Value::Text(text) = operand.of(row)? else {
                    panic!("{operand:?}")
                };
                let text: Vec<char> = text.chars().collect();
                Some(matches(&text, pieces, *ignore_case) != *negated)
            }
            Self::Search(function, operand, needle) => {
                let Value::Text(text) = operand.of(row)? else {
                    panic!("{operand:?}")
                };
                Some(match SEARCHES[*function] {
                    "starts_with" => text.starts_with(needle),
                    "ends_with" => text.ends_with(needle),
                    _ => text.contains(needle),
                })
            }
            Self::Class(class, negated) => Some((row.status? / 100 == *class) != *negated),
            Self::Cold => row.cold,
            Self::Has => Some(row.attributes.iter().any(|(key, _)| key == "k")),
        }
    }
}

impl Tree {
    /// Whether it has several lists or equalities of one column that may be
    /// null. DataFusion 55.2 simplifies those to what null is not
    /// (<https://github.com/apache/datafusion/pull/24258>); filters are not
    /// simplified.
    fn merges_nulls(&self) -> bool {
        let mut listed = Vec::new();
        self.listed(&mut listed);
        let count = listed.len();
        listed.sort_unstable();
        listed.dedup();
        listed.len() < count
    }

    /// The columns of lists and equalities.
    fn listed(&self, columns: &mut Vec<&'static str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.listed(columns);
                }
            }
            Self::Not(part) | Self::Is(part, ..) => part.listed(columns),
            Self::In(operand, ..)
            | Self::Compare(operand, ..)
            | Self::Swapped(operand, ..)
            | Self::Between(operand, ..) => {
                use Operand::{AttributeNumber, AttributeText, Parent, Session, Status};
                if matches!(
                    operand,
                    AttributeNumber | AttributeText | Parent | Session | Status
                ) {
                    columns.push(operand.print());
                }
            }
            Self::Class(..) => columns.push(Operand::Status.print()),
            _ => {}
        }
    }
}

/// SQL's `and`.
fn all(answers: &[Option<bool>]) -> Option<bool> {
    if answers.contains(&Some(false)) {
        Some(false)
    } else if answers.contains(&None) {
        None
    } else {
        Some(true)
    }
}

fn matches(text: &[char], pieces: &[Piece], ignore_case: bool) -> bool {
    match pieces.split_first() {
        None => text.is_empty(),
        Some((Piece::Any, rest)) => {
            (0..=text.len()).any(|skip| matches(&text[skip..], rest, ignore_case))
        }
        Some((piece, rest)) => text.split_first().is_some_and(|(first, text)| {
            let fits = match piece {
                Piece::Character(wanted) if ignore_case => {
                    first.to_lowercase().eq(wanted.to_lowercase())
                }
                Piece::Character(wanted) => first == wanted,
                _ => true,
            };
            fits && matches(text, rest, ignore_case)
        }),
    }
}

const CHARACTERS: &[char] = &[
    'a', 'b', 'A', '%', '_', '\\', '!', '\'', 'é', 'É', '.', '*', '\n',
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(CHARACTERS), 0..4)
        .prop_map(|characters| characters.into_iter().collect())
}

fn textual() -> impl Strategy<Value = Operand> {
    use Operand::{AttributeText, LowerName, Name, Session};
    prop::sample::select(vec![Name, Session, LowerName, AttributeText])
}

fn number() -> impl Strategy<Value = Value> {
    (0_i32..12).prop_map(|number| Value::Number(f64::from(number)))
}

/// A column and values that it can be compared with in order.
fn ordered() -> impl Strategy<Value = (Operand, Vec<Value>)> {
    use Operand::{AttributeNumber, Duration, Length, Start, Status};
    let numeric = prop::sample::select(vec![AttributeNumber, Duration, Length, Start, Status]);
    let texts = prop::collection::vec(text().prop_map(Value::Text), 2..6);
    prop_oneof![
        (numeric, prop::collection::vec(number(), 2..6)),
        (textual(), texts),
    ]
}

/// A column of ids and ids.
fn ids() -> impl Strategy<Value = (Operand, Vec<Value>)> {
    let ids = prop::collection::vec((1_u8..5).prop_map(Value::Id), 2..6);
    (
        prop::sample::select(vec![Operand::Trace, Operand::Parent]),
        ids,
    )
}

fn leaf() -> impl Strategy<Value = Tree> {
    let piece = prop_oneof![
        Just(Piece::Any),
        Just(Piece::One),
        prop::sample::select(CHARACTERS).prop_map(Piece::Character),
    ];
    prop_oneof![
        (ordered(), 0..6_usize).prop_map(|((o, v), op)| Tree::Compare(o, op, v[0].clone())),
        (ordered(), 0..6_usize).prop_map(|((o, v), op)| Tree::Swapped(o, op, v[0].clone())),
        (ids(), 0..2_usize).prop_map(|((o, v), op)| Tree::Compare(o, op, v[0].clone())),
        (prop_oneof![ordered(), ids()], any::<bool>()).prop_map(|((o, v), n)| Tree::In(o, v, n)),
        (ordered(), any::<bool>()).prop_map(|((o, v), n)| Tree::Between(
            o,
            v[0].clone(),
            v[1].clone(),
            n
        )),
        (
            textual(),
            prop::collection::vec(piece, 0..6),
            any::<bool>(),
            any::<bool>()
        )
            .prop_map(|(o, pieces, n, i)| Tree::Like(o, pieces, n, i)),
        (0..3_usize, textual(), text()).prop_map(|(f, o, t)| Tree::Search(f, o, t)),
        (prop_oneof![ordered(), ids()], any::<bool>()).prop_filter_map(
            "the number of an attribute has no form of its own",
            |((o, _), n)| (o != Operand::AttributeNumber).then_some(Tree::IsNull(o, n))
        ),
        (1..10_i32, any::<bool>()).prop_map(|(class, n)| Tree::Class(class, n)),
        (0..6_usize).prop_map(Tree::Columns),
        Just(Tree::Cold),
        Just(Tree::Has),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..5);
        prop_oneof![
            several.clone().prop_map(Tree::All),
            several.prop_map(Tree::Any),
            inner.clone().prop_map(|part| Tree::Not(Box::new(part))),
            (inner, any::<bool>(), any::<bool>()).prop_map(|(part, truth, n)| Tree::Is(
                Box::new(part),
                truth,
                n
            )),
        ]
    })
}

fn row() -> impl Strategy<Value = Row> {
    let attribute = prop_oneof![
        text().prop_map(AttributeValue::StringValue),
        (0..12_i64).prop_map(AttributeValue::IntValue),
        (0..12_i64).prop_map(|number| AttributeValue::StringValue(number.to_string())),
    ];
    let status = prop::option::of(prop_oneof![0..12_i32, 100..600_i32]);
    let ids = (1..5_u8, prop::option::of(1..5_u8));
    (
        ids,
        0..12_i64,
        0..12_i64,
        text(),
        prop::option::of(text()),
        status,
        prop::option::of(any::<bool>()),
        prop::option::of(attribute),
    )
        .prop_map(
            |((trace, parent), start, duration, name, session, status, cold, attribute)| {
                let attributes = attribute
                    .map(|value| ("k".to_owned(), value))
                    .into_iter()
                    .collect();
                let resource = Vec::new();
                Row {
                    trace,
                    parent,
                    start,
                    duration,
                    name,
                    session,
                    status,
                    cold,
                    attributes,
                    resource,
                    events: Vec::new(),
                }
            },
        )
}

fn simplified(expr: &Expr) -> Expr {
    let schema = datafusion::common::DFSchema::try_from(schema()).unwrap();
    let context = SimplifyContext::builder()
        .with_schema(schema.into())
        .build();
    ExprSimplifier::new(context).simplify(expr.clone()).unwrap()
}

proptest! {
    #[test]
    fn finds_what_the_plain_evaluation_finds(
        tree in tree(),
        rows in prop::collection::vec(row(), 1..12),
    ) {
        let text = tree.print();
        let filter = parse(&text).unwrap_or_else(|error| panic!("{}", error.render(&text)));
        let batch = batch(&rows);
        let expected: Vec<_> = rows.iter().map(|row| tree.answer(row)).collect();
        prop_assert_eq!(&answers(filter.expr(), &batch), &expected, "{}", text);

        // DataFusion pushes down what it has simplified.
        let mut exprs = vec![filter.expr().clone()];
        if !tree.merges_nulls() {
            let simplified = simplified(filter.expr());
            prop_assert_eq!(&answers(&simplified, &batch), &expected, "{} = {}", text, simplified);
            exprs.push(simplified);
        }
        for expr in exprs {
            let constraints = constraints(&[expr]);
            for (row, _) in rows.iter().zip(&expected).filter(|(_, found)| **found == Some(true)) {
                let fits = constraints.trace_ids.as_ref().is_none_or(|ids| ids.iter().any(|t| t.0 == id(row.trace)))
                    && constraints.session_ids.as_ref().is_none_or(|ids| {
                        row.session.as_ref().is_some_and(|session| ids.contains(session))
                    })
                    && constraints.starts.hold(row.start);
                prop_assert!(fits, "{} constrains {:?} away", text, constraints);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "[a-z_='\"()<>!~0-9.,\\[\\] \n;/*-]{0,40}|.{0,40}") {
        let _ = parse(&text).map_err(|error| error.render(&text));
    }

    #[test]
    fn no_row_of_words_panics(words in prop::collection::vec(prop::sample::select(vec![
        "and", "or", "not", "(", ")", "name", "cold_start", "status_code", "trace_id", "'a'", "5",
        "-", "true", "null", "is", "in", "between", "like", "escape", "=", "<", "~", ",", "[", "]",
        "attributes", "resource", "has", "lower", "contains", "'5xx'", "1.5",
    ]), 0..12)) {
        let text = words.join(" ");
        if let Err(error) = parse(&text) {
            prop_assert!(error.position() <= text.len());
        }
    }
}
