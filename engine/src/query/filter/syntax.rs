//! The syntax tree of a filter. Names and types are not checked yet.

use std::cmp::Ordering;

/// A part of a filter and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Byte offset into the text.
    pub(super) position: usize,
    /// What it is.
    pub(super) kind: NodeKind,
}

impl Node {
    /// The part as an error shows it.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            NodeKind::Literal(literal) => literal.describe(),
            NodeKind::Column(name) => name.describe(),
            NodeKind::Subscript { name, .. } => format!("an attribute of {}", name.describe()),
            NodeKind::Call { function, .. } => format!("`{}(…)`", function.name()),
            _ => "a condition".into(),
        }
    }
}

/// What a part of a filter is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeKind {
    /// `a and b and …`: at least two.
    All(Vec<Node>),
    /// `a or b or …`: at least two.
    Any(Vec<Node>),
    /// `not a`
    Not(Box<Node>),
    /// `a = b`
    Compare {
        left: Box<Node>,
        comparison: Comparison,
        right: Box<Node>,
    },
    /// `a in (1, 2)`: literals, at least one.
    In {
        value: Box<Node>,
        list: Vec<Node>,
        negated: bool,
    },
    /// `a between b and c`
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        negated: bool,
    },
    /// `a like 'p' escape 'e'`
    Like {
        value: Box<Node>,
        pattern: Text,
        escape: Option<Text>,
        negated: bool,
        ignore_case: bool,
    },
    /// `a ~ 'p'`
    Matches {
        value: Box<Node>,
        pattern: Text,
        negated: bool,
    },
    /// `a is null`
    IsNull { value: Box<Node>, negated: bool },
    /// `a is true`
    Is {
        condition: Box<Node>,
        truth: bool,
        negated: bool,
    },
    /// `any(a)`: of the spans of a request
    SomeSpan(Box<Node>),
    /// `any_event(a)`: of the events of a span
    SomeEvent(Box<Node>),
    /// `name`
    Column(Name),
    /// `name['key']`
    Subscript { name: Name, key: String },
    /// `function(a, b)`
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
    /// A constant.
    Literal(Literal),
}

/// A text literal in a place that takes nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    /// Byte offset into the filter.
    pub(super) position: usize,
    /// What it says.
    pub(super) content: String,
}

/// The name of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    /// The name as it stands, without quotes.
    pub(super) text: String,
    /// Whether it was quoted, so that its case counts.
    pub(super) quoted: bool,
}

impl Name {
    /// A name as it stands without quotes.
    pub(super) fn unquoted(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            quoted: false,
        }
    }

    /// The name as an error shows it.
    pub(super) fn describe(&self) -> String {
        if self.quoted {
            format!("\"{}\"", self.text)
        } else {
            format!("`{}`", self.text)
        }
    }

    /// Whether it means a column.
    pub(super) fn is(&self, column: &str) -> bool {
        self.text == column || !self.quoted && self.text.eq_ignore_ascii_case(column)
    }
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    /// `'text'`
    Text(String),
    /// `-5`
    Integer(i64),
    /// `0.5`, always finite.
    Decimal(f64),
    /// `true`
    Boolean(bool),
    /// `null`
    Null,
}

impl Literal {
    /// The literal as an error shows it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(content) => format!("the text '{content}'"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Decimal(number) => format!("the number {number}"),
            Self::Boolean(truth) => format!("`{truth}`"),
            Self::Null => "`null`".into(),
        }
    }
}

/// An operator that compares two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// The operator of this symbol.
    pub(super) fn of(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "=" | "==" => Self::Equal,
            "!=" | "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// The symbol of this operator.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The operator that says the same with its sides swapped.
    pub(super) fn swapped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    /// Whether it holds of a left side that is so much less or more than the right one.
    pub(super) fn holds(self, left: Ordering) -> bool {
        match self {
            Self::Equal => left.is_eq(),
            Self::NotEqual => left.is_ne(),
            Self::Less => left.is_lt(),
            Self::LessOrEqual => left.is_le(),
            Self::Greater => left.is_gt(),
            Self::GreaterOrEqual => left.is_ge(),
        }
    }

    /// Whether it asks for equality, not for an order.
    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// The functions that a filter may call, and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// `lower(text)`
    Lower,
    /// `upper(text)`
    Upper,
    /// `length(text)`, in characters.
    Length,
    /// `starts_with(text, 'start')`
    StartsWith,
    /// `ends_with(text, 'end')`
    EndsWith,
    /// `contains(text, 'part')`
    Contains,
    /// `has('key')`, `has(attributes, 'key')`
    Has,
    /// `status_class(5)`
    StatusClass,
    /// `search('text')`
    Search,
}

impl Function {
    /// The names of the functions.
    pub(super) const NAMES: &[(&str, Self)] = &[
        ("lower", Self::Lower),
        ("upper", Self::Upper),
        ("length", Self::Length),
        ("starts_with", Self::StartsWith),
        ("ends_with", Self::EndsWith),
        ("contains", Self::Contains),
        ("has", Self::Has),
        ("status_class", Self::StatusClass),
        ("search", Self::Search),
    ];

    /// The function of this name in any case.
    pub(super) fn of(name: &str) -> Option<Self> {
        let found = Self::NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, function)| *function)
    }

    fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, function)| *function == self);
        found.map_or("", |(name, _)| name)
    }
}
