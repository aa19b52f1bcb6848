//! Random conditions on events, as filters have them and as the plainest look at them tells.

use proptest::prelude::*;
use spanstore_format::otlp::Value;

use super::evaluation::{Row, RowEvent, answers, batch};
use super::*;

/// A condition on an event.
#[derive(Debug, Clone)]
enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Name(char),
    /// `time <` this.
    Before(u64),
    /// The number of `attributes['k']` is at least this.
    Number(i8),
    /// Its text is that of this number.
    Text(i8),
    Has,
    IsNull,
}

impl Tree {
    fn print(&self) -> String {
        let joined = |parts: &[Self], word: &str| {
            let parts: Vec<_> = parts.iter().map(Self::print).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::All(parts) => joined(parts, " and "),
            Self::Any(parts) => joined(parts, " or "),
            Self::Not(part) => format!("not ({})", part.print()),
            Self::Name(name) => format!("name = '{name}'"),
            Self::Before(time) => format!("time < {time}"),
            Self::Number(number) => format!("attributes['k'] >= {number}"),
            Self::Text(number) => format!("attributes['k'] = '{number}'"),
            Self::Has => "has('k')".into(),
            Self::IsNull => "attributes['k'] is null".into(),
        }
    }

    fn answer(&self, event: &RowEvent) -> Option<bool> {
        let (name, time, attributes) = event;
        let value = attributes.iter().find(|(key, _)| key == "k");
        let value = value.map(|(_, value)| value);
        let is_all = |parts: &[Self], truth: bool| {
            let answers: Vec<_> = parts.iter().map(|part| part.answer(event)).collect();
            if answers.contains(&Some(!truth)) {
                Some(!truth)
            } else if answers.contains(&None) {
                None
            } else {
                Some(truth)
            }
        };
        match self {
            Self::All(parts) => is_all(parts, true),
            Self::Any(parts) => is_all(parts, false),
            Self::Not(part) => part.answer(event).map(|truth| !truth),
            Self::Name(wanted) => Some(*name == wanted.to_string()),
            Self::Before(end) => (*time > 0).then_some(time < end),
            Self::Number(least) => match value? {
                Value::IntValue(number) => Some(*number >= i64::from(*least)),
                Value::StringValue(text) => Some(text.parse::<i8>().ok()? >= *least),
                other => panic!("{other:?}"),
            },
            Self::Text(number) => match value? {
                Value::IntValue(found) => Some(*found == i64::from(*number)),
                Value::StringValue(text) => Some(*text == number.to_string()),
                other => panic!("{other:?}"),
            },
            Self::Has => Some(value.is_some()),
            Self::IsNull => Some(value.is_none()),
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop::char::range('a', 'c').prop_map(Tree::Name),
        (0..4u64).prop_map(Tree::Before),
        (-1..3i8).prop_map(Tree::Number),
        (-1..3i8).prop_map(Tree::Text),
        Just(Tree::Has),
        Just(Tree::IsNull),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Tree::Any),
            inner.prop_map(|part| Tree::Not(Box::new(part))),
        ]
    })
}

fn events() -> impl Strategy<Value = Vec<RowEvent>> {
    let value = prop_oneof![
        (-1..3i64).prop_map(Value::IntValue),
        (-1..3i64).prop_map(|number| Value::StringValue(number.to_string())),
        Just(Value::StringValue("many".into())),
    ];
    let attributes = prop::collection::vec((prop_oneof![Just("k"), Just("l")], value), 0..3);
    let event = (prop::char::range('a', 'c'), 0..4u64, attributes);
    let event = event.prop_map(|(name, time, attributes)| {
        let attributes = attributes.into_iter();
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value));
        (name.to_string(), time, attributes.collect())
    });
    prop::collection::vec(event, 0..4)
}

proptest! {
    #[test]
    fn some_event_fulfils_all_of_the_condition(
        tree in trees(),
        spans in prop::collection::vec(events(), 1..8),
    ) {
        let text = format!("any_event({})", tree.print());
        let filter = parse(&text).unwrap();
        let expected = spans.iter().map(|events| {
            Some(events.iter().any(|event| tree.answer(event) == Some(true)))
        });
        let expected: Vec<Option<bool>> = expected.collect();
        let rows = spans.iter().map(|events| Row {
            events: events.clone(),
            ..Row::default()
        });
        let batch = batch(&rows.collect::<Vec<_>>());
        prop_assert_eq!(answers(filter.expr(), &batch), expected, "{}", text);
    }
}

/// More events than are looked at together.
#[test]
fn spans_with_many_events_are_looked_at_piece_by_piece() {
    let event = |number: u64| (format!("event {number}"), number + 1, Vec::new());
    let rows: Vec<Row> = (0..40)
        .map(|row| Row {
            events: (0..row * 40).map(event).collect(),
            ..Row::default()
        })
        .collect();
    let batch = batch(&rows);
    for wanted in [0, 39, 40, 800, 1_559] {
        let filter = parse(&format!("any_event(name = 'event {wanted}')")).unwrap();
        let expected = rows.iter().map(|row| Some(row.events.len() > wanted));
        assert!(
            answers(filter.expr(), &batch).into_iter().eq(expected),
            "{wanted}"
        );
    }
}
