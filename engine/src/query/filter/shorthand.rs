//! What a person types into a search bar, as a filter.

use std::fmt::{self, Write};
use std::iter::Peekable;
use std::str::CharIndices;

use super::columns::{self, Kind};
use super::literal::quoted;
use super::nearest::distance;
use super::pattern::push_literal;
use super::requests::is_of_spans;
use super::syntax::{Comparison, Name};
use super::{Filter, FilterError, FilterLimits, Rows};
use crate::filter_error::cut;

/// What a person types into a search bar: terms with spaces between them, all of which hold.
///
/// | term | meaning |
/// |---|---|
/// | `timeout`, `"timed out"` | the text is in the row: `search('timed out')` |
/// | `service:db` | the column has the value |
/// | `service:db\|cache` | it has one of the values |
/// | `host:*.example.com` | `*` stands for any text; alone it asks for any value |
/// | `status:5xx`, `status:404` | the status code; other words are those of the span's status |
/// | `duration:>250ms`, `status:>=500`, `level:>=warning` | `>`, `>=`, `<`, `<=` |
/// | `db.system:redis`, `@plan:pro` | an attribute, by a key with a dot or behind `@`; over requests, of one of its spans |
/// | `has:user_id`, `has:db.system` | the column has a value, or the attribute is there |
/// | `-route:/health` | the opposite: rows without a value are found too |
///
/// A value or a text with spaces, or a text with a colon such as `"http://a"`, stands in double
/// quotes, in which `*` and `|` mean themselves; so does any character behind a backslash. Columns
/// are those of filters, with the values that they may have, and
/// `session`, `request`, `trace`, `user`, `project`, `deployment`, `env`, `start`, `query` and
/// `message` stand for `session_id` and so on. For `or` between terms and for parentheses there
/// is [`Filter`].
///
/// [`fmt::Display`] writes the terms so that they are read as the same ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shorthand {
    terms: Vec<Term>,
    filter: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    is_negated: bool,
    asked: Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Text(String),
    Has(String),
    Field(String, Vec<Value>),
}

/// A value that a column may have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    /// None for equality.
    comparison: Option<Comparison>,
    /// The texts between which any text stands; mostly one.
    parts: Vec<String>,
}

/// Where the parts of a term stand.
struct Places<'t> {
    /// Its name, or its text.
    name: usize,
    values: Vec<usize>,
    /// The term from its name on, as it was typed.
    typed: &'t str,
}

/// Other names of columns.
const ALIASES: [(&str, &str); 10] = [
    ("session", "session_id"),
    ("request", "request_id"),
    ("trace", "trace_id"),
    ("user", "user_id"),
    ("project", "project_id"),
    ("deployment", "deployment_id"),
    ("env", "environment"),
    ("start", "start_time"),
    ("query", "url_query"),
    ("message", "status_message"),
];

/// What is compared by a term.
enum Compared {
    Column(&'static str, Kind),
    Attribute(String),
}

impl Shorthand {
    /// Reads what was typed.
    ///
    /// # Errors
    /// [`FilterError`] says where it is wrong, and names columns that may be meant.
    pub fn parse(rows: Rows, text: &str, limits: &FilterLimits) -> Result<Self, FilterError> {
        if text.len() > limits.bytes {
            let (limit, found) = (limits.bytes, text.len());
            return Err(FilterError::TooLong { limit, found });
        }
        let (mut terms, mut filters) = (Vec::new(), Vec::new());
        let mut typed = Typed {
            text,
            rest: text.char_indices().peekable(),
        };
        while let Some(position) = typed.skip_spaces() {
            let (term, places) = typed.term(position)?;
            let filter = term.filter(rows, &places)?;
            // A wrong value, such as a time, is found here.
            Filter::over(rows, &filter, limits)
                .map_err(|error| error.at(term.wrong_place(rows, &places, limits)))?;
            terms.push(term);
            filters.push(filter);
        }
        if filters.is_empty() {
            filters.push("true".to_owned());
        }
        let filter = filters.join(" and ");
        Ok(Self { terms, filter })
    }

    /// The same as the text of a [`Filter`].
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

/// The terms, one space between two.
impl fmt::Display for Shorthand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, term) in self.terms.iter().enumerate() {
            if number > 0 {
                out.write_char(' ')?;
            }
            term.fmt(out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negated {
            out.write_char('-')?;
        }
        match &self.asked {
            Asked::Text(text) => in_double_quotes(text, out),
            Asked::Has(key) => {
                out.write_str("has:")?;
                write_name(key, out)
            }
            Asked::Field(column, values) => {
                write_name(column, out)?;
                for (number, value) in values.iter().enumerate() {
                    out.write_char(if number == 0 { ':' } else { '|' })?;
                    value.fmt(out)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(comparison) = self.comparison {
            out.write_str(comparison.symbol())?;
        }
        for (number, part) in self.parts.iter().enumerate() {
            if number > 0 {
                out.write_char('*')?;
            }
            if self.parts.len() == 1 || !part.is_empty() {
                escaped(part, "|*", "<>=", out)?;
            }
        }
        Ok(())
    }
}

fn write_name(name: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match name.strip_prefix('@') {
        Some(key) => {
            out.write_char('@')?;
            escaped(key, ":", "", out)
        }
        None => escaped(name, ":", "-@", out),
    }
}

fn in_double_quotes(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_char('"')?;
    for one in text.chars() {
        if matches!(one, '"' | '\\') {
            out.write_char('\\')?;
        }
        out.write_char(one)?;
    }
    out.write_char('"')
}

/// Writes a text with a backslash before spaces, quotes and some characters, and before others
/// where they stand first.
fn escaped(text: &str, anywhere: &str, first: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    if text.is_empty() {
        return out.write_str("\"\"");
    }
    for (place, one) in text.char_indices() {
        let is_special = one.is_whitespace()
            || matches!(one, '"' | '\\')
            || anywhere.contains(one)
            || place == 0 && first.contains(one);
        if is_special {
            out.write_char('\\')?;
        }
        out.write_char(one)?;
    }
    Ok(())
}

/// A text that is read term by term.
struct Typed<'t> {
    text: &'t str,
    rest: Peekable<CharIndices<'t>>,
}

impl<'t> Typed<'t> {
    /// Where the next term begins.
    fn skip_spaces(&mut self) -> Option<usize> {
        while self.rest.next_if(|(_, one)| one.is_whitespace()).is_some() {}
        self.rest.peek().map(|(position, _)| *position)
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, one)| *one == wanted).is_some()
    }

    fn position(&mut self) -> usize {
        let next = self.rest.peek();
        next.map_or(self.text.len(), |(position, _)| *position)
    }

    fn term(&mut self, start: usize) -> Result<(Term, Places<'t>), FilterError> {
        let is_negated = self.take('-');
        let mut places = Places {
            name: self.position(),
            values: Vec::new(),
            typed: "",
        };
        let name_place = places.name;
        let is_quoted = self.rest.peek().is_some_and(|(_, one)| *one == '"');
        let is_attribute = self.take('@');
        let head = self.word(&[':'])?;
        let name = if is_attribute {
            format!("@{head}")
        } else {
            head
        };
        let asked = if is_quoted || is_attribute && !self.is_at(':') || !self.take(':') {
            if !is_quoted && matches!(name.as_str(), "AND" | "OR" | "NOT" | "") {
                let expected = "a text or a column and its value; all terms hold, values of one \
                                column are joined by `|`, and `-` before a term negates it";
                let found = self.text.get(start..self.position()).unwrap_or_default();
                return Err(FilterError::unexpected(
                    start,
                    expected,
                    format!("`{found}`"),
                ));
            }
            Asked::Text(name)
        } else if name == "has" {
            let sign = if self.take('@') { "@" } else { "" };
            places.name = self.position();
            let name = self.word(&[])?;
            if name.is_empty() {
                let expected = "a column or the key of an attribute, such as has:user_id";
                return Err(FilterError::unexpected(places.name, expected, "none"));
            }
            Asked::Has(format!("{sign}{name}"))
        } else {
            let values = self.values()?;
            places.values = values.iter().map(|(place, _)| *place).collect();
            let values = values.into_iter().map(|(_, value)| value);
            Asked::Field(name, values.collect())
        };
        let position = self.position();
        if self
            .rest
            .peek()
            .is_some_and(|(_, one)| !one.is_whitespace())
        {
            let found = self.text.get(position..).unwrap_or_default();
            return Err(FilterError::unexpected(
                position,
                "a space",
                format!("`{found}`"),
            ));
        }
        places.typed = self.text.get(name_place..position).unwrap_or_default();
        Ok((Term { is_negated, asked }, places))
    }

    fn is_at(&mut self, wanted: char) -> bool {
        self.rest.peek().is_some_and(|(_, one)| *one == wanted)
    }

    /// A word that ends at a space or at one of some characters.
    fn word(&mut self, ends: &[char]) -> Result<String, FilterError> {
        let mut word = String::new();
        if self.is_at('"') {
            self.quoted(&mut word)?;
            return Ok(word);
        }
        while let Some((_, one)) = self
            .rest
            .next_if(|(_, one)| !one.is_whitespace() && !ends.contains(one))
        {
            word.push(self.unescaped(one));
        }
        Ok(word)
    }

    /// What stands behind a backslash, or another character.
    fn unescaped(&mut self, one: char) -> char {
        match one {
            '\\' => self.rest.next().map_or('\\', |(_, next)| next),
            other => other,
        }
    }

    fn quoted(&mut self, out: &mut String) -> Result<(), FilterError> {
        let start = self.position();
        self.take('"');
        loop {
            match self.rest.next() {
                Some((_, '"')) => return Ok(()),
                Some((_, one)) => out.push(self.unescaped(one)),
                None => {
                    let expected = "`\"` at the end of the text that begins here";
                    return Err(FilterError::unexpected(start, expected, "the end"));
                }
            }
        }
    }

    /// Values between `|`, each with its place.
    fn values(&mut self) -> Result<Vec<(usize, Value)>, FilterError> {
        let mut values = vec![self.value()?];
        while self.take('|') {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn value(&mut self) -> Result<(usize, Value), FilterError> {
        let comparison = if self.take('>') {
            Some((Comparison::Greater, Comparison::GreaterOrEqual))
        } else if self.take('<') {
            Some((Comparison::Less, Comparison::LessOrEqual))
        } else {
            None
        };
        let comparison =
            comparison.map(|(without, with)| if self.take('=') { with } else { without });
        let start = self.position();
        let mut parts = vec![String::new()];
        let mut is_empty = true;
        while let Some((_, one)) = self.rest.peek().copied() {
            if one.is_whitespace() || one == '|' {
                break;
            }
            is_empty = false;
            let Some(part) = parts.last_mut() else {
                break;
            };
            if one == '"' {
                self.quoted(part)?;
                continue;
            }
            self.rest.next();
            if one == '*' && comparison.is_none() {
                parts.push(String::new());
            } else {
                part.push(self.unescaped(one));
            }
        }
        if is_empty {
            let expected = "a value, such as status:5xx or duration:>250ms";
            return Err(FilterError::unexpected(start, expected, "none"));
        }
        Ok((start, Value { comparison, parts }))
    }
}

impl Term {
    /// The filter that it is.
    fn filter(&self, rows: Rows, places: &Places<'_>) -> Result<String, FilterError> {
        // Over requests, what asks for spans is true or false and stands alone.
        let (filter, is_of_spans) = match &self.asked {
            Asked::Text(text) => (format!("search({})", quoted(text)), true),
            Asked::Has(name) => match compared(name, rows, places) {
                Ok(Compared::Column(column, _)) => {
                    (format!("{column} is not null"), is_of_spans(column))
                }
                _ => {
                    let key = name.strip_prefix('@').unwrap_or(name);
                    (of_spans(rows, &format!("has({})", quoted(key))), true)
                }
            },
            Asked::Field(name, values) => {
                let values = values.iter().zip(places.values.iter().copied());
                let is_code = |value: &Value| name == "status" && value.is_status_code();
                let (codes, others): (Vec<_>, Vec<_>) =
                    values.partition(|(value, _)| is_code(value));
                match (codes.is_empty(), others.is_empty()) {
                    (true, _) => field(name, others, rows, places)?,
                    (_, true) => field("status_code", codes, rows, places)?,
                    _ => {
                        let (codes, _) = field("status_code", codes, rows, places)?;
                        let (others, is_of_spans) = field(name, others, rows, places)?;
                        (format!("({codes} or {others})"), is_of_spans)
                    }
                }
            }
        };
        Ok(match (self.is_negated, rows) {
            (false, _) => filter,
            (true, Rows::Requests) if is_of_spans => format!("not ({filter})"),
            (true, _) => format!("({filter}) is not true"),
        })
    }

    /// Where the value stands for which it is no filter, else its name.
    fn wrong_place(&self, rows: Rows, places: &Places<'_>, limits: &FilterLimits) -> usize {
        let Asked::Field(name, values) = &self.asked else {
            return places.name;
        };
        if matches!(compared(name, rows, places), Ok(Compared::Attribute(_))) {
            return places.name;
        }
        let is_wrong = |value: &Value, place: usize| {
            let alone = Self {
                is_negated: false,
                asked: Asked::Field(name.clone(), vec![value.clone()]),
            };
            let places = Places {
                values: vec![place],
                ..*places
            };
            let filter = alone.filter(rows, &places);
            filter.is_ok_and(|filter| Filter::over(rows, &filter, limits).is_err())
        };
        let mut values = values.iter().zip(places.values.iter().copied());
        let wrong = values.find(|(value, place)| is_wrong(value, *place));
        wrong.map_or(places.name, |(_, place)| place)
    }
}

/// A filter for one of some values of a column or an attribute, each with its place; and
/// whether it asks for spans.
fn field(
    name: &str,
    values: Vec<(&Value, usize)>,
    rows: Rows,
    places: &Places<'_>,
) -> Result<(String, bool), FilterError> {
    let values = values.into_iter();
    Ok(match compared(name, rows, places)? {
        Compared::Column(column, kind) => {
            let literals = |value: &Value, place| value.of(kind, place);
            (one_of(column, values, literals)?, is_of_spans(column))
        }
        Compared::Attribute(key) => {
            let access = format!("attributes[{}]", quoted(&key));
            let literals = |value: &Value, _| Ok(value.of_attribute());
            (of_spans(rows, &one_of(&access, values, literals)?), true)
        }
    })
}

fn of_spans(rows: Rows, filter: &str) -> String {
    match rows {
        // Sessions have no attributes, which the filter says.
        Rows::Spans | Rows::Sessions => filter.to_owned(),
        Rows::Requests => format!("any({filter})"),
    }
}

fn compared(name: &str, rows: Rows, places: &Places<'_>) -> Result<Compared, FilterError> {
    if let Some(key) = name.strip_prefix('@') {
        return Ok(Compared::Attribute(key.to_owned()));
    }
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    let column = Name::unquoted(alias.map_or(name, |(_, column)| column));
    match columns::resolve(&column, rows, places.name) {
        Ok((column, kind)) => Ok(Compared::Column(column, kind)),
        Err(_) if name.contains('.') => Ok(Compared::Attribute(name.to_owned())),
        Err(_) => {
            let mut aliases = ALIASES.iter();
            let near = aliases.find(|(alias, _)| distance(alias, name) == 1);
            let expected = near.map_or_else(
                || columns::expected(name, rows),
                |(alias, _)| format!("a column, such as {alias}"),
            );
            let text = Term {
                is_negated: false,
                asked: Asked::Text(cut(places.typed)),
            };
            let expected = format!("{expected}; {text} in double quotes is searched as a text");
            let found = format!("unknown column `{name}`");
            Err(FilterError::unexpected(places.name, expected, found))
        }
    }
}

/// The condition that a value is one of some.
fn one_of<'v>(
    access: &str,
    values: impl Iterator<Item = (&'v Value, usize)>,
    literal_of: impl Fn(&Value, usize) -> Result<String, FilterError>,
) -> Result<String, FilterError> {
    let conditions = values.map(|(value, place)| {
        if value.parts.len() > 1 {
            return Ok(match value.like() {
                None => format!("{access} is not null"),
                Some(pattern) => format!("{access} like {}", quoted(&pattern)),
            });
        }
        let comparison = value.comparison.unwrap_or(Comparison::Equal).symbol();
        Ok(format!(
            "{access} {comparison} {}",
            literal_of(value, place)?
        ))
    });
    let conditions: Vec<String> = conditions.collect::<Result<_, FilterError>>()?;
    Ok(match conditions.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join(" or ")),
    })
}

impl Value {
    fn text(&self) -> String {
        self.parts.join("*")
    }

    /// The pattern of `like`; none when any value will do.
    fn like(&self) -> Option<String> {
        if self.parts.iter().all(String::is_empty) {
            return None;
        }
        let escaped = self.parts.iter().map(|part| {
            let mut escaped = String::with_capacity(part.len());
            part.chars().for_each(|one| push_literal(&mut escaped, one));
            escaped
        });
        Some(escaped.collect::<Vec<_>>().join("%"))
    }

    /// Whether it is a status code or a class of them.
    fn is_status_code(&self) -> bool {
        let text = self.text();
        let class = text.to_ascii_lowercase();
        text.parse::<u16>().is_ok() || class.strip_suffix("xx").is_some_and(|one| one.len() == 1)
    }

    /// The literal that it is beside a column.
    fn of(&self, kind: Kind, position: usize) -> Result<String, FilterError> {
        let text = self.text();
        let is_bare = match kind {
            Kind::Int32 | Kind::Int64 | Kind::UInt32 => text.parse::<i64>().is_ok(),
            Kind::Boolean => matches!(text.as_str(), "true" | "false"),
            _ => return Ok(quoted(&text)),
        };
        if is_bare {
            return Ok(text);
        }
        Err(FilterError::unexpected(
            position,
            kind.describe(),
            format!("`{text}`"),
        ))
    }

    /// The literal that it is beside an attribute: numbers have an order, and are equal as texts.
    fn of_attribute(&self) -> String {
        let text = self.text();
        let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
        if self.comparison.is_some() && is_number {
            return text;
        }
        quoted(&text)
    }
}
