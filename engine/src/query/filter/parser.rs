//! Tokens as a syntax tree.
//!
//! From loose to tight: `or`, `and`, `not`, `is`, comparisons. Comparisons and
//! `is` do not chain. What nests is counted against the limits before it is
//! parsed, so that no text makes this recursion, or one over the tree, deep.

use super::lexer::{self, Token, TokenKind};
use super::nearest::nearest;
use super::syntax::{Comparison, Function, Literal, Name, Node, NodeKind, Text};
use super::{FilterError, FilterLimits};

/// Nodes that a `search` counts as, beside itself and its text: it is asked of many columns.
const NODES_OF_SEARCH: usize = 62;

/// Nodes that an `any_event` counts as, beside its condition: it decodes all events of a span.
const NODES_OF_ANY_EVENT: usize = 30;

/// What asks for a span of a request, and for an event of a span.
const ANY: &str = "any";
const ANY_EVENT: &str = "any_event";

/// Words that are no column names unless they are quoted.
const KEYWORDS: &[&str] = &[
    "and", "or", "not", "in", "between", "like", "ilike", "escape", "is", "null", "true", "false",
];

/// The syntax tree of a condition.
pub(super) fn parse(text: &str, limits: &FilterLimits) -> Result<Node, FilterError> {
    let mut parser = Parser::new(text, limits)?;
    let node = parser.any()?;
    parser.end("`and`, `or` or the end of the filter")?;
    Ok(node)
}

/// The syntax tree of a column, an attribute or a call.
pub(super) fn parse_value(text: &str, limits: &FilterLimits) -> Result<Node, FilterError> {
    let mut parser = Parser::new(text, limits)?;
    let node = parser.operand()?;
    parser.end("the end of the value")?;
    Ok(node)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    end: Token,
    depth: usize,
    nodes: usize,
    limits: &'a FilterLimits,
}

type Parsed<T = Node> = Result<T, FilterError>;

impl<'a> Parser<'a> {
    fn new(text: &str, limits: &'a FilterLimits) -> Parsed<Self> {
        if text.len() > limits.bytes {
            return Err(FilterError::TooLong {
                limit: limits.bytes,
                found: text.len(),
            });
        }
        let end = Token {
            position: text.len(),
            kind: TokenKind::End,
        };
        Ok(Self {
            tokens: lexer::tokens(text)?,
            next: 0,
            end,
            depth: 0,
            nodes: 0,
            limits,
        })
    }

    fn end(&self, expected: &str) -> Parsed<()> {
        match self.peek().kind {
            TokenKind::End => Ok(()),
            _ => Err(self.unexpected(expected)),
        }
    }
}

impl Parser<'_> {
    fn any(&mut self) -> Parsed {
        self.chain("or", Self::all, NodeKind::Any)
    }

    fn all(&mut self) -> Parsed {
        self.chain("and", Self::negation, NodeKind::All)
    }

    fn chain(
        &mut self,
        keyword: &str,
        mut operand: impl FnMut(&mut Self) -> Parsed,
        join: impl FnOnce(Vec<Node>) -> NodeKind,
    ) -> Parsed {
        let first = operand(self)?;
        if !self.at_keyword(keyword) {
            return Ok(first);
        }
        let position = first.position;
        let mut operands = vec![first];
        while self.take_keyword(keyword) {
            self.count()?;
            operands.push(operand(self)?);
        }
        Ok(Node {
            position,
            kind: join(operands),
        })
    }

    fn negation(&mut self) -> Parsed {
        let position = self.peek().position;
        if !self.take_keyword("not") {
            return self.truth();
        }
        self.count()?;
        let operand = self.nested(position, Self::negation)?;
        Ok(Node {
            position,
            kind: NodeKind::Not(Box::new(operand)),
        })
    }

    fn truth(&mut self) -> Parsed {
        let value = self.comparison()?;
        if !self.take_keyword("is") {
            return Ok(value);
        }
        self.count()?;
        let position = value.position;
        let value = Box::new(value);
        let negated = self.take_keyword("not");
        let kind = if self.take_keyword("null") {
            NodeKind::IsNull { value, negated }
        } else if self.take_keyword("true") {
            NodeKind::Is {
                condition: value,
                truth: true,
                negated,
            }
        } else if self.take_keyword("false") {
            NodeKind::Is {
                condition: value,
                truth: false,
                negated,
            }
        } else {
            return Err(self.unexpected("`null`, `true` or `false`"));
        };
        Ok(Node { position, kind })
    }

    fn comparison(&mut self) -> Parsed {
        let value = self.operand()?;
        let position = value.position;
        let kind = if let TokenKind::Symbol(symbol) = self.peek().kind {
            if let Some(comparison) = Comparison::of(symbol) {
                self.advance();
                self.count()?;
                let right = Box::new(self.operand()?);
                NodeKind::Compare {
                    left: Box::new(value),
                    comparison,
                    right,
                }
            } else if symbol == "~" || symbol == "!~" {
                self.advance();
                self.count()?;
                let pattern = self.text("a regular expression in single quotes")?;
                NodeKind::Matches {
                    value: Box::new(value),
                    pattern,
                    negated: symbol == "!~",
                }
            } else {
                return Ok(value);
            }
        } else {
            let negated = self.take_keyword("not");
            if self.take_keyword("in") {
                self.count()?;
                NodeKind::In {
                    value: Box::new(value),
                    list: self.list()?,
                    negated,
                }
            } else if self.take_keyword("between") {
                self.count()?;
                let low = Box::new(self.operand()?);
                if !self.take_keyword("and") {
                    return Err(self.unexpected("`and` of `between`"));
                }
                let high = Box::new(self.operand()?);
                NodeKind::Between {
                    value: Box::new(value),
                    low,
                    high,
                    negated,
                }
            } else if self.take_keyword("like") {
                self.like(value, negated, false)?
            } else if self.take_keyword("ilike") {
                self.like(value, negated, true)?
            } else if negated {
                return Err(self.unexpected("`in`, `between`, `like` or `ilike`"));
            } else {
                return Ok(value);
            }
        };
        Ok(Node { position, kind })
    }

    fn like(&mut self, value: Node, negated: bool, ignore_case: bool) -> Parsed<NodeKind> {
        self.count()?;
        let pattern = self.text("a pattern in single quotes")?;
        let has_escape = self.take_keyword("escape");
        let escape = has_escape
            .then(|| self.text("one character in single quotes"))
            .transpose()?;
        Ok(NodeKind::Like {
            value: Box::new(value),
            pattern,
            escape,
            negated,
            ignore_case,
        })
    }

    fn list(&mut self) -> Parsed<Vec<Node>> {
        self.symbol("(")?;
        let mut list = Vec::new();
        loop {
            let position = self.peek().position;
            if list.len() == self.limits.list {
                return Err(FilterError::ListTooLong {
                    position,
                    limit: self.limits.list,
                });
            }
            match self.literal()? {
                Some(literal) => list.push(Node {
                    position,
                    kind: NodeKind::Literal(literal),
                }),
                None => return Err(self.unexpected("a literal; texts stand in single quotes")),
            }
            if !self.take_symbol(",") {
                self.symbol(")")?;
                return Ok(list);
            }
        }
    }

    fn operand(&mut self) -> Parsed {
        let position = self.peek().position;
        self.count()?;
        if self.take_symbol("(") {
            let inner = self.nested(position, Self::any)?;
            self.symbol(")")?;
            return Ok(inner);
        }
        if let Some(literal) = self.literal()? {
            return Ok(Node {
                position,
                kind: NodeKind::Literal(literal),
            });
        }
        let name = match &self.peek().kind {
            TokenKind::Word(word) if !is_keyword(word) => Name {
                text: word.clone(),
                quoted: false,
            },
            TokenKind::Quoted(name) => Name {
                text: name.clone(),
                quoted: true,
            },
            _ => return Err(self.unexpected("a column, a literal or a condition")),
        };
        self.advance();
        let kind = if self.take_symbol("[") {
            let key = self.text("a key in single quotes")?.content;
            self.symbol("]")?;
            NodeKind::Subscript { name, key }
        } else if let Some(some) = Self::some(&name)
            && self.take_symbol("(")
        {
            let condition = self.nested(position, Self::any)?;
            self.symbol(")")?;
            let asked = some(Box::new(condition));
            if matches!(asked, NodeKind::SomeEvent(_)) {
                self.nodes += NODES_OF_ANY_EVENT;
            }
            asked
        } else if !name.quoted && self.at_symbol("(") {
            let function = Function::of(&name.text).ok_or_else(|| {
                let names = Function::NAMES.iter().map(|(name, _)| *name);
                let names: Vec<_> = names.chain([ANY, ANY_EVENT]).collect();
                let near = nearest(&name.text, names.iter().copied());
                let expected = match near.first() {
                    Some(near) => format!("a function, such as {near}"),
                    None => format!("one of the functions {}", names.join(", ")),
                };
                FilterError::unexpected(position, expected, format!("`{}`", name.text))
            })?;
            if function == Function::Search {
                self.nodes += NODES_OF_SEARCH;
            }
            self.advance();
            NodeKind::Call {
                function,
                arguments: self.nested(position, Self::arguments)?,
            }
        } else {
            NodeKind::Column(name)
        };
        Ok(Node { position, kind })
    }

    /// What a name before a condition in parentheses means, if it means something.
    fn some(name: &Name) -> Option<fn(Box<Node>) -> NodeKind> {
        let is = |word: &str| !name.quoted && name.text.eq_ignore_ascii_case(word);
        if is(ANY) {
            Some(NodeKind::SomeSpan)
        } else if is(ANY_EVENT) {
            Some(NodeKind::SomeEvent)
        } else {
            None
        }
    }

    /// What stands between the parentheses of a call, and the closing one.
    fn arguments(&mut self) -> Parsed<Vec<Node>> {
        let mut arguments = vec![self.operand()?];
        while self.take_symbol(",") {
            arguments.push(self.operand()?);
        }
        self.symbol(")")?;
        Ok(arguments)
    }

    fn literal(&mut self) -> Parsed<Option<Literal>> {
        let literal = match &self.peek().kind {
            TokenKind::Text(text) => Literal::Text(text.clone()),
            TokenKind::Number(digits) => self.number("", digits)?,
            TokenKind::Symbol("-") => {
                self.advance();
                match &self.peek().kind {
                    TokenKind::Number(digits) => self.number("-", digits)?,
                    _ => return Err(self.unexpected("a number after `-`")),
                }
            }
            TokenKind::Word(word) if word.eq_ignore_ascii_case("true") => Literal::Boolean(true),
            TokenKind::Word(word) if word.eq_ignore_ascii_case("false") => Literal::Boolean(false),
            TokenKind::Word(word) if word.eq_ignore_ascii_case("null") => Literal::Null,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(literal))
    }

    fn number(&self, sign: &str, digits: &str) -> Parsed<Literal> {
        let text = format!("{sign}{digits}");
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            let integer = text.parse().map(Literal::Integer);
            return integer.map_err(|_| self.unexpected("an integer that fits 64 bits"));
        }
        let decimal = text
            .parse()
            .ok()
            .filter(|decimal: &f64| decimal.is_finite());
        decimal
            .map(Literal::Decimal)
            .ok_or_else(|| self.unexpected("a number below 1.8e308"))
    }

    fn text(&mut self, expected: &str) -> Parsed<Text> {
        let Token {
            position,
            kind: TokenKind::Text(content),
        } = self.peek()
        else {
            return Err(self.unexpected(expected));
        };
        let text = Text {
            position: *position,
            content: content.clone(),
        };
        self.advance();
        Ok(text)
    }

    fn nested<T>(
        &mut self,
        position: usize,
        parse: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Parsed<T> {
        if self.depth == self.limits.depth {
            return Err(FilterError::TooDeep {
                position,
                limit: self.limits.depth,
            });
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn count(&mut self) -> Parsed<()> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            let position = self.peek().position;
            return Err(FilterError::TooManyNodes {
                position,
                limit: self.limits.nodes,
            });
        }
        Ok(())
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).unwrap_or(&self.end)
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    fn at_keyword(&self, keyword: &str) -> bool {
        matches!(&self.peek().kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        self.next += usize::from(found);
        found
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Symbol(found) if found == symbol)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        self.next += usize::from(found);
        found
    }

    fn symbol(&mut self, symbol: &str) -> Parsed<()> {
        if self.take_symbol(symbol) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{symbol}`")))
    }

    fn unexpected(&self, expected: &str) -> FilterError {
        let found = self.peek();
        FilterError::unexpected(found.position, expected, found.kind.describe())
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .iter()
        .any(|keyword| keyword.eq_ignore_ascii_case(word))
}
