//! The syntax tree as an expression over the columns of a table.

use std::cell::RefCell;
use std::sync::Arc;

use datafusion::functions::{string, unicode};
use datafusion::logical_expr::{Expr, Like, Operator};
use datafusion::prelude::lit;

use super::columns::{self, Kind, Scope};
use super::comparison::{self, Value, attribute, binary, join, negate};
use super::literal;
use super::pattern;
use super::requests::SomeSpan;
use super::syntax::{Comparison, Function, Literal, Name, Node, NodeKind, Text};
use super::{FilterError, FilterLimits, Rows};
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::Aspect;
use spanstore_format::span::SpanColumn;

use crate::query::events;
use crate::query::functions;
use crate::query::search::Needle;

/// The condition on rows of a table that `node` is, and what it asks of the spans of
/// requests.
///
/// # Errors
/// [`FilterError`] when it names what there is not, or compares what does not
/// compare.
pub(super) fn condition(
    node: &Node,
    rows: Rows,
    limits: &FilterLimits,
) -> Result<(Expr, Vec<SomeSpan>), FilterError> {
    let lowering = Lowering::new(rows, limits);
    let condition = lowering.condition(node)?;
    Ok((condition, lowering.some_spans.into_inner()))
}

/// The value of rows of a table that `node` is, no literal.
///
/// # Errors
/// As [`condition`].
pub(super) fn value(node: &Node, rows: Rows, limits: &FilterLimits) -> Result<Value, FilterError> {
    Lowering::new(rows, limits).value(node)
}

pub(super) struct Lowering<'a> {
    pub(super) scope: Scope,
    pub(super) limits: &'a FilterLimits,
    /// What is asked of the spans of requests.
    pub(super) some_spans: RefCell<Vec<SomeSpan>>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(scope: impl Into<Scope>, limits: &'a FilterLimits) -> Self {
        Self {
            scope: scope.into(),
            limits,
            some_spans: RefCell::default(),
        }
    }
}

type Lowered<T = Expr> = Result<T, FilterError>;

impl Lowering<'_> {
    pub(super) fn condition(&self, node: &Node) -> Lowered {
        if self.scope == Scope::Rows(Rows::Requests)
            && let Some(asked) = self.of_some_span(node)?
        {
            return Ok(asked);
        }
        match &node.kind {
            NodeKind::All(parts) => Ok(join(self.conditions(parts)?, Operator::And)),
            NodeKind::Any(parts) => Ok(join(self.conditions(parts)?, Operator::Or)),
            NodeKind::Not(part) => Ok(negate(self.condition(part)?, true)),
            NodeKind::Compare {
                left,
                comparison,
                right,
            } => self.compare(left, *comparison, right),
            NodeKind::In {
                value,
                list,
                negated,
            } => comparison::one_of(&self.value(value)?, list, *negated),
            NodeKind::Between {
                value,
                low,
                high,
                negated,
            } => {
                let low = self.compare(value, Comparison::GreaterOrEqual, low)?;
                let high = self.compare(value, Comparison::LessOrEqual, high)?;
                Ok(negate(low.and(high), *negated))
            }
            NodeKind::Like {
                value,
                pattern,
                escape,
                negated,
                ignore_case,
            } => {
                let value = self.text(value)?;
                let pattern = pattern::like(pattern, escape.as_ref(), self.limits)?;
                let pattern = lit(literal::text(&pattern));
                let (value, pattern) = (Box::new(value), Box::new(pattern));
                Ok(Expr::Like(Like::new(
                    *negated,
                    value,
                    pattern,
                    None,
                    *ignore_case,
                )))
            }
            NodeKind::Matches {
                value,
                pattern,
                negated,
            } => {
                let value = self.text(value)?;
                pattern::check_regex(pattern, self.limits)?;
                let operator = if *negated {
                    Operator::RegexNotMatch
                } else {
                    Operator::RegexMatch
                };
                Ok(binary(
                    value,
                    operator,
                    lit(literal::text(&pattern.content)),
                ))
            }
            NodeKind::IsNull { value, negated } => {
                let value = self.value(value)?.expr;
                Ok(if *negated {
                    value.is_not_null()
                } else {
                    value.is_null()
                })
            }
            NodeKind::Is {
                condition,
                truth,
                negated,
            } => {
                let position = condition.position;
                let condition = self.condition(condition)?;
                alone(&condition, position)?;
                Ok(match (truth, negated) {
                    (true, false) => condition.is_true(),
                    (true, true) => condition.is_not_true(),
                    (false, false) => condition.is_false(),
                    (false, true) => condition.is_not_false(),
                })
            }
            NodeKind::SomeSpan(_) => {
                let found = "`any`, which asks for a span of a request";
                Err(self.other_scope(node.position, found))
            }
            NodeKind::SomeEvent(condition) => self.some_event(condition, node.position),
            NodeKind::Literal(Literal::Boolean(truth)) => Ok(lit(*truth)),
            NodeKind::Literal(literal) => Err(FilterError::unexpected(
                node.position,
                "a condition",
                literal.describe(),
            )),
            NodeKind::Column(_) | NodeKind::Subscript { .. } | NodeKind::Call { .. } => {
                let value = self.value(node)?;
                match value.kind {
                    Kind::Boolean => Ok(value.expr),
                    kind => {
                        let found = kind.describe();
                        Err(FilterError::unexpected(node.position, "a condition", found))
                    }
                }
            }
        }
    }

    /// The condition that some event of a span fulfils one.
    fn some_event(&self, condition: &Node, position: usize) -> Lowered {
        if self.scope != Scope::Rows(Rows::Spans) {
            return Err(
                self.other_scope(position, "`any_event`, which asks for an event of a span")
            );
        }
        let of_event = Self::new(Scope::Event, self.limits).condition(condition)?;
        let any_event = events::any_event(of_event);
        any_event.map_err(|error| {
            let expected = "a condition on an event";
            FilterError::unexpected(condition.position, expected, error.to_string())
        })
    }

    /// The error for a condition on something else than the scope.
    fn other_scope(&self, position: usize, found: &'static str) -> FilterError {
        let expected = match self.scope {
            Scope::Rows(Rows::Sessions) => "a condition on the columns of a session",
            Scope::Rows(Rows::Requests) => {
                "a condition on a request: what asks for a span stands within `any`, such as \
                 any(any_event(name = 'exception'))"
            }
            Scope::Rows(Rows::Spans) => "a condition on one span",
            Scope::Event => "a condition on one event",
        };
        FilterError::unexpected(position, expected, found)
    }

    fn conditions(&self, nodes: &[Node]) -> Lowered<Vec<Expr>> {
        nodes.iter().map(|node| self.condition(node)).collect()
    }

    /// A value that is no literal.
    fn value(&self, node: &Node) -> Lowered<Value> {
        let position = node.position;
        match &node.kind {
            NodeKind::Column(name) => self.column(name, position),
            NodeKind::Subscript { name, key } => {
                let owner = self.owner(name, position)?;
                Ok(Value::attribute(owner, key))
            }
            NodeKind::Call {
                function,
                arguments,
            } => self.call(*function, arguments, position),
            NodeKind::Literal(literal) => Err(FilterError::unexpected(
                position,
                "a column",
                literal.describe(),
            )),
            _ => {
                let condition = self.condition(node)?;
                alone(&condition, position)?;
                Ok(Value::new(condition, Kind::Boolean))
            }
        }
    }

    /// A value that is text.
    fn text(&self, node: &Node) -> Lowered {
        let value = self.value(node)?;
        match value.kind {
            kind if kind.is_text() => Ok(value.expr),
            kind => Err(FilterError::unexpected(
                node.position,
                "a text column",
                kind.describe(),
            )),
        }
    }

    fn call(&self, function: Function, arguments: &[Node], position: usize) -> Lowered<Value> {
        let wrong = |expected: &str| {
            let found = match arguments.len() {
                1 => "one argument".into(),
                several => format!("{several} arguments"),
            };
            FilterError::unexpected(position, expected, found)
        };
        match function {
            Function::Lower | Function::Upper | Function::Length => {
                let [argument] = arguments else {
                    return Err(wrong("one text column"));
                };
                let text = vec![self.text(argument)?];
                Ok(match function {
                    Function::Lower => Value::new(string::lower().call(text), Kind::Text),
                    Function::Upper => Value::new(string::upper().call(text), Kind::Text),
                    _ => Value::new(unicode::character_length().call(text), Kind::Int32),
                })
            }
            Function::StartsWith | Function::EndsWith | Function::Contains => {
                let [haystack, needle] = arguments else {
                    return Err(wrong("a text column and a text in single quotes"));
                };
                let needle = text_literal(needle)?;
                pattern::check_length(&needle, self.limits)?;
                let arguments = vec![self.text(haystack)?, lit(literal::text(&needle.content))];
                let function = match function {
                    Function::StartsWith => string::starts_with(),
                    Function::EndsWith => string::ends_with(),
                    _ => string::contains(),
                };
                Ok(Value::new(function.call(arguments), Kind::Boolean))
            }
            Function::StatusClass => {
                let expected = "a class of status codes from 1 to 5, such as status_class(5)";
                let [argument] = arguments else {
                    return Err(wrong(expected));
                };
                let position = &argument.position;
                let NodeKind::Literal(Literal::Integer(class @ 1..=5)) = argument.kind else {
                    let found = argument.describe();
                    return Err(FilterError::unexpected(*position, expected, found));
                };
                let status = Name::unquoted(SpanColumn::StatusCode.name());
                let class = Literal::Text(format!("{class}xx"));
                let condition = comparison::with_literal(
                    &self.column(&status, *position)?,
                    Comparison::Equal,
                    &class,
                    *position,
                )?;
                Ok(Value::new(condition, Kind::Boolean))
            }
            Function::Search => {
                let [text] = arguments else {
                    return Err(wrong("a text in single quotes"));
                };
                let text = text_literal(text)?;
                if self.scope == Scope::Rows(Rows::Requests) {
                    return Err(not_alone(position));
                }
                Ok(Value::new(self.search(&text, position)?, Kind::Boolean))
            }
            Function::Has => {
                if let [key] = arguments {
                    let attributes = Name::unquoted(Owner::Span.column().name());
                    let owner = self.owner(&attributes, position)?;
                    return has(owner, key);
                }
                let [
                    Node {
                        position,
                        kind: NodeKind::Column(name),
                    },
                    key,
                ] = arguments
                else {
                    return Err(wrong(
                        "a key in single quotes, after `attributes` or `resource` or alone",
                    ));
                };
                has(self.owner(name, *position)?, key)
            }
        }
    }

    /// Whether a text is in the name, the status message, a column that is made of attributes,
    /// an attribute or an event of a span, or in any text of a session; never null.
    fn search(&self, text: &Text, position: usize) -> Lowered {
        pattern::check_length(text, self.limits)?;
        let unexpected =
            |found| FilterError::unexpected(text.position, "a text to look for", found);
        if text.content.is_empty() {
            return Err(unexpected("an empty one"));
        }
        let needle = Needle::new(&text.content);
        let needle = needle.ok_or_else(|| unexpected("one that is too long"))?;
        let needle = Arc::new(needle);
        let places = match self.scope {
            Scope::Rows(Rows::Sessions) => needle.in_texts(Rows::Sessions.table()),
            Scope::Rows(Rows::Spans | Rows::Requests) => needle.in_span(),
            Scope::Event => {
                let found = "`search`, which looks at a whole span";
                return Err(self.other_scope(position, found));
            }
        };
        Ok(join(places, Operator::Or))
    }

    fn compare(&self, left: &Node, comparison: Comparison, right: &Node) -> Lowered {
        match (&left.kind, &right.kind) {
            (NodeKind::Literal(_), NodeKind::Literal(_)) => {
                let expected = "a column on one side of the comparison";
                Err(FilterError::unexpected(
                    left.position,
                    expected,
                    "two literals",
                ))
            }
            (NodeKind::Literal(literal), _) => {
                let value = self.value(right)?;
                comparison::with_literal(&value, comparison.swapped(), literal, left.position)
            }
            (_, NodeKind::Literal(literal)) => {
                comparison::with_literal(&self.value(left)?, comparison, literal, right.position)
            }
            _ => {
                let left = self.value(left)?;
                let position = right.position;
                if let NodeKind::Column(name) = &right.kind
                    && left.kind.takes_texts()
                {
                    columns::resolve(name, self.scope, position)
                        .map_err(|_| columns::without_quotes(name, self.scope, position))?;
                }
                comparison::with_value(left, comparison, self.value(right)?, position)
            }
        }
    }

    fn column(&self, name: &Name, position: usize) -> Lowered<Value> {
        if self.scope == Scope::Rows(Rows::Requests) && name.is("has_trace") {
            return Ok(Value::new(lit(true), Kind::Boolean));
        }
        let (column, kind) = columns::resolve(name, self.scope, position)?;
        check_column(column, position)?;
        Ok(Value::new(Expr::Column(column.into()), kind))
    }

    fn owner(&self, name: &Name, position: usize) -> Lowered<Owner> {
        let owner = owner(name, position)?;
        let (expected, of) = match self.scope {
            Scope::Rows(Rows::Spans) => return Ok(owner),
            Scope::Event if owner == Owner::Span => return Ok(owner),
            Scope::Event => ("`attributes`, which an event has", "an event"),
            Scope::Rows(Rows::Requests) => (
                "attributes within `any`, such as any(attributes['key'] = 'value')",
                "a request",
            ),
            Scope::Rows(Rows::Sessions) => (
                "a column of sessions, which have no attributes",
                "a session",
            ),
        };
        let found = format!("`{}` of {of}", name.text);
        Err(FilterError::unexpected(position, expected, found))
    }
}

/// Whether an attribute is there.
fn has(owner: Owner, key: &Node) -> Lowered<Value> {
    let key = text_literal(key)?.content;
    let has = attribute(owner, Aspect::Presence, &key);
    Ok(Value::new(has, Kind::Boolean))
}

/// `any` is true or false, and stands only where conditions are joined.
fn alone(condition: &Expr, position: usize) -> Result<(), FilterError> {
    let columns = condition.column_refs();
    if columns
        .iter()
        .any(|column| SomeSpan::number(column).is_some())
    {
        return Err(not_alone(position));
    }
    Ok(())
}

fn not_alone(position: usize) -> FilterError {
    let expected = "a condition on the columns of a request: what asks for its spans is only \
                    joined by `and`, `or` and `not`";
    FilterError::unexpected(position, expected, "one that asks for its spans")
}

fn check_column(column: &str, position: usize) -> Result<(), FilterError> {
    if column == Owner::Span.column().name() {
        let expected = "a key, as in attributes['key'] or has(attributes, 'key')";
        return Err(FilterError::unexpected(
            position,
            expected,
            "`attributes` without one",
        ));
    }
    Ok(())
}

fn owner(name: &Name, position: usize) -> Lowered<Owner> {
    let folded = if name.quoted {
        name.text.clone()
    } else {
        name.text.to_ascii_lowercase()
    };
    functions::owner(&folded).ok_or_else(|| {
        let expected = "`attributes` or `resource`, which have keys";
        FilterError::unexpected(position, expected, format!("`{}`", name.text))
    })
}

fn text_literal(node: &Node) -> Lowered<Text> {
    match &node.kind {
        NodeKind::Literal(Literal::Text(content)) => Ok(Text {
            position: node.position,
            content: content.clone(),
        }),
        _ => {
            let expected = "a text in single quotes";
            Err(FilterError::unexpected(
                node.position,
                expected,
                node.describe(),
            ))
        }
    }
}
