//! The syntax tree as an expression over the columns of a span.

use datafusion::common::ScalarValue;
use datafusion::functions::{string, unicode};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use datafusion::prelude::lit;

use super::columns::{self, Kind};
use super::literal;
use super::pattern;
use super::syntax::{Comparison, Function, Literal, Name, Node, NodeKind, Text};
use super::{FilterError, FilterLimits};
use crate::query::functions::{Aspect, Owner, attribute_expr};

/// The condition that `node` is.
///
/// # Errors
/// [`FilterError`] when it names what there is not, or compares what does not
/// compare.
pub(super) fn condition(node: &Node, limits: &FilterLimits) -> Result<Expr, FilterError> {
    Lowering { limits }.condition(node)
}

/// A value, and what it can be compared with.
struct Value {
    expr: Expr,
    kind: Kind,
    /// The attribute that it is: text, but compared with a number, a number.
    attribute: Option<(Owner, String)>,
}

impl Value {
    fn new(expr: Expr, kind: Kind) -> Self {
        Self {
            expr,
            kind,
            attribute: None,
        }
    }
}

struct Lowering<'a> {
    limits: &'a FilterLimits,
}

type Lowered<T = Expr> = Result<T, FilterError>;

impl Lowering<'_> {
    fn condition(&self, node: &Node) -> Lowered {
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
            } => one_of(&self.value(value)?, list, *negated),
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
                let condition = self.condition(condition)?;
                Ok(match (truth, negated) {
                    (true, false) => condition.is_true(),
                    (true, true) => condition.is_not_true(),
                    (false, false) => condition.is_false(),
                    (false, true) => condition.is_not_false(),
                })
            }
            NodeKind::Literal(Literal::Boolean(truth)) => Ok(lit(*truth)),
            NodeKind::Literal(literal) => Err(FilterError::unexpected(
                node.position,
                "a condition",
                literal::describe(literal),
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

    fn conditions(&self, nodes: &[Node]) -> Lowered<Vec<Expr>> {
        nodes.iter().map(|node| self.condition(node)).collect()
    }

    /// A value that is no literal.
    fn value(&self, node: &Node) -> Lowered<Value> {
        let position = node.position;
        match &node.kind {
            NodeKind::Column(name) => column(name, position),
            NodeKind::Subscript { name, key } => {
                let owner = owner(name, position)?;
                let expr = attribute(owner, Aspect::Text, key);
                Ok(Value {
                    expr,
                    kind: Kind::Text,
                    attribute: Some((owner, key.clone())),
                })
            }
            NodeKind::Call {
                function,
                arguments,
            } => self.call(*function, arguments, position),
            NodeKind::Literal(literal) => Err(FilterError::unexpected(
                position,
                "a column",
                literal::describe(literal),
            )),
            _ => Ok(Value::new(self.condition(node)?, Kind::Boolean)),
        }
    }

    /// A value that is text.
    fn text(&self, node: &Node) -> Lowered {
        let value = self.value(node)?;
        match value.kind {
            Kind::Text => Ok(value.expr),
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
            Function::Has => {
                let [
                    Node {
                        position,
                        kind: NodeKind::Column(name),
                    },
                    key,
                ] = arguments
                else {
                    return Err(wrong(
                        "`attributes` or `resource`, and a key in single quotes",
                    ));
                };
                let owner = owner(name, *position)?;
                let key = text_literal(key)?.content;
                Ok(Value::new(
                    attribute(owner, Aspect::Presence, &key),
                    Kind::Boolean,
                ))
            }
        }
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
                compare_literal(&value, comparison.swapped(), literal, left.position)
            }
            (_, NodeKind::Literal(literal)) => {
                compare_literal(&self.value(left)?, comparison, literal, right.position)
            }
            _ => {
                let (left, right, position) =
                    (self.value(left)?, self.value(right)?, right.position);
                compare_values(left, comparison, right, position)
            }
        }
    }
}

fn column(name: &Name, position: usize) -> Lowered<Value> {
    let (column, kind) = columns::resolve(name, position)?;
    if column == Owner::Span.column() {
        let expected = "a key, as in attributes['key'] or has(attributes, 'key')";
        return Err(FilterError::unexpected(
            position,
            expected,
            "`attributes` without one",
        ));
    }
    Ok(Value::new(Expr::Column(column.into()), kind))
}

fn owner(name: &Name, position: usize) -> Lowered<Owner> {
    let folded = if name.quoted {
        name.text.clone()
    } else {
        name.text.to_ascii_lowercase()
    };
    Owner::of(&folded).ok_or_else(|| {
        let expected = "`attributes` or `resource`, which have keys";
        FilterError::unexpected(position, expected, format!("`{}`", name.text))
    })
}

fn attribute(owner: Owner, aspect: Aspect, key: &str) -> Expr {
    attribute_expr(owner, aspect, Expr::Column(owner.column().into()), key)
}

fn text_literal(node: &Node) -> Lowered<Text> {
    match &node.kind {
        NodeKind::Literal(Literal::Text(content)) => Ok(Text {
            position: node.position,
            content: content.clone(),
        }),
        NodeKind::Literal(other) => {
            let found = literal::describe(other);
            Err(FilterError::unexpected(
                node.position,
                "a text in single quotes",
                found,
            ))
        }
        _ => {
            let expected = "a text in single quotes";
            Err(FilterError::unexpected(
                node.position,
                expected,
                "something else",
            ))
        }
    }
}

/// What a value is compared with.
enum Operand {
    /// The value, perhaps read as a number, and the constant.
    Constant(Expr, ScalarValue),
    /// A range: the first number, and the first beyond it.
    Range(i32, i32),
}

fn operand(value: &Value, literal: &Literal, position: usize) -> Lowered<Operand> {
    let number = match literal {
        Literal::Integer(number) => Some(*number as f64),
        Literal::Decimal(number) => Some(*number),
        _ => None,
    };
    match (&value.attribute, value.kind, literal) {
        (Some((owner, key)), _, _) if number.is_some() => {
            let value = attribute(*owner, Aspect::Number, key);
            Ok(Operand::Constant(value, ScalarValue::Float64(number)))
        }
        (Some(_), _, Literal::Boolean(truth)) => {
            let text = if *truth { "true" } else { "false" };
            Ok(Operand::Constant(value.expr.clone(), literal::text(text)))
        }
        (_, Kind::StatusCode, Literal::Text(text)) if literal::status_class(text).is_some() => {
            let (low, high) = literal::status_class(text).unwrap_or_default();
            Ok(Operand::Range(low, high))
        }
        (_, kind, literal) => {
            let constant = literal::constant(kind, literal, position)?;
            Ok(Operand::Constant(value.expr.clone(), constant))
        }
    }
}

fn compare_literal(
    value: &Value,
    comparison: Comparison,
    literal: &Literal,
    position: usize,
) -> Lowered {
    let operand = operand(value, literal, position)?;
    let is_class = matches!(operand, Operand::Range(..));
    let is_boolean = matches!(literal, Literal::Boolean(_));
    if !comparison.is_equality() && (is_class || is_boolean || !value.kind.is_ordered()) {
        let found = literal::describe(literal);
        return Err(FilterError::unexpected(
            position,
            "`=` or `!=` before it",
            found,
        ));
    }
    Ok(match operand {
        Operand::Constant(expr, constant) => binary(expr, operator(comparison), lit(constant)),
        Operand::Range(low, high) => negate(
            within(&value.expr, low, high),
            comparison == Comparison::NotEqual,
        ),
    })
}

fn compare_values(left: Value, comparison: Comparison, right: Value, position: usize) -> Lowered {
    let comparable = match (left.kind, right.kind) {
        (Kind::Encoded, _) | (_, Kind::Encoded) => false,
        (Kind::StatusCode | Kind::Int32, Kind::StatusCode | Kind::Int32) => true,
        (left, right) => left == right,
    };
    if !comparable || !(comparison.is_equality() || left.kind.is_ordered()) {
        let expected = match comparable {
            true => "`=` or `!=` before it".into(),
            false => format!("something to compare with {}", left.kind.describe()),
        };
        return Err(FilterError::unexpected(
            position,
            expected,
            right.kind.describe(),
        ));
    }
    Ok(binary(left.expr, operator(comparison), right.expr))
}

/// `value in (…)`. Constants of one type are one list; classes of status codes
/// are ranges beside it.
fn one_of(value: &Value, list: &[Node], negated: bool) -> Lowered {
    let mut lists: Vec<(Expr, Vec<Expr>)> = Vec::new();
    let mut alternatives = Vec::new();
    for node in list {
        let NodeKind::Literal(literal) = &node.kind else {
            return Err(FilterError::unexpected(
                node.position,
                "a literal",
                "something else",
            ));
        };
        match operand(value, literal, node.position)? {
            Operand::Constant(expr, constant) => {
                match lists.iter_mut().find(|(known, _)| *known == expr) {
                    Some((_, constants)) => constants.push(lit(constant)),
                    None => lists.push((expr, vec![lit(constant)])),
                }
            }
            Operand::Range(low, high) => alternatives.push(within(&value.expr, low, high)),
        }
    }
    // The negation goes into the list: DataFusion prunes by `not in`.
    if let (true, [(_, _)]) = (alternatives.is_empty(), lists.as_slice()) {
        let list = lists
            .pop()
            .map(|(expr, list)| InList::new(Box::new(expr), list, negated));
        return Ok(list.map_or_else(|| lit(negated), Expr::InList));
    }
    let lists = lists
        .into_iter()
        .map(|(expr, list)| expr.in_list(list, false));
    Ok(negate(
        join(lists.chain(alternatives).collect(), Operator::Or),
        negated,
    ))
}

fn within(value: &Expr, low: i32, high: i32) -> Expr {
    value
        .clone()
        .gt_eq(lit(low))
        .and(value.clone().lt(lit(high)))
}

fn negate(expr: Expr, negated: bool) -> Expr {
    if negated {
        Expr::Not(Box::new(expr))
    } else {
        expr
    }
}

fn binary(left: Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
    }
}

/// The operands joined as a balanced tree, so that nothing that recurses over
/// the expression (dropping it, too) goes deep; of none, what is neutral.
fn join(mut operands: Vec<Expr>, operator: Operator) -> Expr {
    while operands.len() > 1 {
        let mut rest = operands.into_iter();
        let mut pairs = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => binary(left, operator, right),
                None => left,
            });
        }
        operands = pairs;
    }
    operands
        .pop()
        .unwrap_or_else(|| lit(operator == Operator::And))
}
