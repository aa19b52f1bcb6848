//! What a person looks at, as a text: a permalink.

use std::fmt::{self, Write};
use std::str::FromStr;

use spanstore_format::id::from_hex;
use spanstore_format::{SpanId, TraceId};

use super::builder::{Order, Query};
use super::filter::Rows;
use crate::error::Error;
use crate::filter_error::cut;

/// What a person looks at: a list, or a trace.
///
/// As a text it fits into the fragment of a URL as it stands, the part after `#`:
///
/// ```text
/// spans?filter=level%20%3D%20%27error%27&since=1794700800000000000&order=slowest
/// requests?columns=start_time,path,duration
/// trace/5b8efff798038103d269b633813fc60c?view=waterfall&span=00f067aa0ba902b7
/// ```
///
/// | field | of | what it says | without it |
/// |---|---|---|---|
/// | `filter` | lists | [`ListView::filter`] | every row |
/// | `since`, `until` | lists | ns since 1970 | no bound |
/// | `order` | lists | `newest`, `oldest`, `slowest`, `fastest`, `spans`, `errors` | `newest` |
/// | `columns` | lists | names, with commas between them | all columns |
/// | `view` | traces | [`TraceView::view`] | the usual view |
/// | `span` | traces | 16 hexadecimal digits | none is selected |
///
/// In a value, all but `A`–`Z`, `a`–`z`, `0`–`9`, `-`, `.`, `_` and `~` is written as the
/// bytes of UTF-8, each as `%` and two hexadecimal digits. The text is canonical: equal views
/// have equal texts, others have other ones, and reading a text that was written gives the
/// view that it was written from. Reading also takes the fields in any order, and plain
/// characters that would have been written as bytes, `%`, `&` and in columns `,` excepted.
/// Whether filter and columns make sense is seen where a query is made
/// ([`Team::list`](crate::Team::list)).
///
/// ```
/// use spanstore::query::{ListView, Order, Rows, View};
///
/// let slowest = View::List(ListView {
///     filter: "path like '/api/%'".into(),
///     order: Order::SlowestFirst,
///     ..ListView::new(Rows::Requests)
/// });
/// let text = "requests?filter=path%20like%20%27%2Fapi%2F%25%27&order=slowest";
/// assert_eq!(slowest.to_string(), text);
/// assert_eq!(text.parse(), Ok(slowest));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// A list of spans or requests.
    List(ListView),
    /// A trace.
    Trace(TraceView),
}

/// A list of spans or requests, by what it shows of which rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListView {
    /// What its rows are.
    pub rows: Rows,
    /// In the words of [`Query::filter`]; empty for every row.
    pub filter: String,
    /// Only rows that start at or after this time, ns since 1970.
    pub since: Option<i64>,
    /// Only rows that start before this time, ns since 1970.
    pub until: Option<i64>,
    /// Which row comes first.
    pub order: Order,
    /// Names of columns, in the order in which they are shown; empty for all.
    pub columns: Vec<String>,
}

/// A trace, and how it is shown. An id of zeros alone is none, and is not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceView {
    /// The trace.
    pub trace: TraceId,
    /// How it is drawn, such as `timeline`, `tree` or `waterfall`: any text, empty for the
    /// usual view.
    pub view: String,
    /// The span that is selected.
    pub span: Option<SpanId>,
}

/// Why a text is not a view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: expected {expected}, found {found:?}")]
pub struct ViewError {
    /// Where it goes wrong: a byte offset into the text.
    pub position: usize,
    /// What may stand there.
    pub expected: &'static str,
    /// What does, cut off after 40 characters.
    pub found: String,
}

/// The orders by their names.
const ORDERS: [(Order, &str); 6] = [
    (Order::NewestFirst, "newest"),
    (Order::OldestFirst, "oldest"),
    (Order::SlowestFirst, "slowest"),
    (Order::FastestFirst, "fastest"),
    (Order::MostSpansFirst, "spans"),
    (Order::MostErrorsFirst, "errors"),
];

impl ListView {
    /// All rows with all columns, newest first.
    pub fn new(rows: Rows) -> Self {
        Self {
            rows,
            filter: String::new(),
            since: None,
            until: None,
            order: Order::default(),
            columns: Vec::new(),
        }
    }

    /// The query for what the list shows, made from one for all its rows.
    ///
    /// # Errors
    /// As [`Query::filter`] and [`Query::columns`].
    pub(crate) fn apply(&self, mut query: Query) -> Result<Query, Error> {
        if !self.filter.is_empty() {
            query = query.filter(&self.filter)?;
        }
        if !self.columns.is_empty() {
            query = query.columns(self.columns.iter().map(String::as_str))?;
        }
        query.question.since = self.since;
        query.question.until = self.until;
        Ok(query.order(self.order))
    }
}

impl TraceView {
    /// A trace in the usual view.
    pub fn new(trace: TraceId) -> Self {
        Self {
            trace,
            view: String::new(),
            span: None,
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(list) => list.fmt(out),
            Self::Trace(trace) => trace.fmt(out),
        }
    }
}

/// The text of the [`View`].
impl fmt::Display for ListView {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.rows.name())?;
        let mut fields = Fields {
            out,
            are_there: false,
        };
        if !self.filter.is_empty() {
            fields.begin("filter")?.write(&self.filter)?;
        }
        for (name, time) in [("since", self.since), ("until", self.until)] {
            if let Some(time) = time {
                fields.begin(name)?.write(&time.to_string())?;
            }
        }
        let mut orders = ORDERS.iter();
        let order = orders.find(|(order, _)| *order == self.order);
        if let Some((_, name)) = order.filter(|(order, _)| *order != Order::default()) {
            fields.begin("order")?.write(name)?;
        }
        if let Some((first, others)) = self.columns.split_first() {
            fields.begin("columns")?.write(first)?;
            for column in others {
                fields.out.write_char(',')?;
                fields.write(column)?;
            }
        }
        Ok(())
    }
}

/// The text of the [`View`].
impl fmt::Display for TraceView {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "trace/{}", self.trace)?;
        let mut fields = Fields {
            out,
            are_there: false,
        };
        if !self.view.is_empty() {
            fields.begin("view")?.write(&self.view)?;
        }
        if let Some(span) = self.span {
            fields.begin("span")?.write(&span.to_string())?;
        }
        Ok(())
    }
}

/// Writes fields.
struct Fields<'o, 'f> {
    out: &'o mut fmt::Formatter<'f>,
    are_there: bool,
}

impl Fields<'_, '_> {
    fn begin(&mut self, name: &str) -> Result<&mut Self, fmt::Error> {
        let before = if self.are_there { '&' } else { '?' };
        self.are_there = true;
        write!(self.out, "{before}{name}=")?;
        Ok(self)
    }

    fn write(&mut self, value: &str) -> fmt::Result {
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.out.write_char(char::from(byte))?;
                }
                other => write!(self.out, "%{other:02X}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for View {
    type Err = ViewError;

    fn from_str(text: &str) -> Result<Self, ViewError> {
        let text = Part { position: 0, text };
        let (head, fields) = text.split_once('?');
        match head.text {
            "spans" => list(Rows::Spans, fields).map(Self::List),
            "requests" => list(Rows::Requests, fields).map(Self::List),
            "sessions" => list(Rows::Sessions, fields).map(Self::List),
            _ => trace(head, fields).map(Self::Trace),
        }
    }
}

fn list(rows: Rows, fields: Option<Part<'_>>) -> Result<ListView, ViewError> {
    let mut list = ListView::new(rows);
    let mut known = Vec::new();
    for field in fields.into_iter().flat_map(|fields| fields.split('&')) {
        let (name, value) = field.field(&mut known)?;
        match name {
            "filter" => list.filter = value.decoded()?,
            "since" => list.since = Some(value.time()?),
            "until" => list.until = Some(value.time()?),
            "order" => list.order = value.order()?,
            "columns" => {
                let names = value.split(',').map(Part::decoded);
                list.columns = names.collect::<Result<_, _>>()?;
            }
            _ => return Err(field.is_not("filter, since, until, order or columns, then `=`")),
        }
    }
    Ok(list)
}

fn trace(head: Part<'_>, fields: Option<Part<'_>>) -> Result<TraceView, ViewError> {
    let id = match head.split_once('/') {
        (kind, Some(id)) if kind.text == "trace" => id,
        _ => return Err(head.is_not("`spans`, `requests`, `sessions` or `trace/` and an id")),
    };
    let of_trace = "the id of a trace, 32 hexadecimal digits, not all zero";
    let mut trace = TraceView::new(id.parsed(of_trace)?);
    let mut known = Vec::new();
    for field in fields.into_iter().flat_map(|fields| fields.split('&')) {
        let (name, value) = field.field(&mut known)?;
        match name {
            "view" => trace.view = value.decoded()?,
            "span" => {
                let of_span = "the id of a span, 16 hexadecimal digits, not all zero";
                trace.span = Some(value.parsed(of_span)?);
            }
            _ => return Err(field.is_not("view or span, then `=`")),
        }
    }
    Ok(trace)
}

/// A part of a text, and where it begins.
#[derive(Debug, Clone, Copy)]
struct Part<'t> {
    position: usize,
    text: &'t str,
}

impl<'t> Part<'t> {
    fn is_not(self, expected: &'static str) -> ViewError {
        ViewError {
            position: self.position,
            expected,
            found: cut(self.text),
        }
    }

    /// What is before the first separator, and what is after it.
    fn split_once(self, separator: char) -> (Self, Option<Self>) {
        let Some((before, after)) = self.text.split_once(separator) else {
            return (self, None);
        };
        let part = |text: &'t str, position| Self { position, text };
        let after_position = self.position + self.text.len() - after.len();
        (
            part(before, self.position),
            Some(part(after, after_position)),
        )
    }

    /// What lies between separators, of one byte each.
    fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let parts = self.text.split(separator);
        parts.scan(self.position, |next, text| {
            let position = *next;
            *next += text.len() + 1;
            Some(Self { position, text })
        })
    }

    /// A field: its name, which is not known yet, and its value.
    fn field(self, known: &mut Vec<&'t str>) -> Result<(&'t str, Self), ViewError> {
        let (name, value) = self.split_once('=');
        let value = value.ok_or_else(|| self.is_not("a field: its name, `=` and its value"))?;
        if known.contains(&name.text) {
            return Err(self.is_not("each field once"));
        }
        known.push(name.text);
        Ok((name.text, value))
    }

    /// The text that its bytes stand for.
    fn decoded(self) -> Result<String, ViewError> {
        let mut pieces = self.split('%');
        let first = pieces.next().map_or("", |piece| piece.text);
        let mut bytes = first.as_bytes().to_vec();
        for piece in pieces {
            let byte = piece.text.get(..2).and_then(from_hex);
            let expected = "two hexadecimal digits after `%`";
            bytes.extend(byte.ok_or_else(|| piece.is_not(expected))?);
            bytes.extend(piece.text.bytes().skip(2));
        }
        String::from_utf8(bytes).map_err(|_| self.is_not("bytes that are UTF-8"))
    }

    fn parsed<T: FromStr>(self, expected: &'static str) -> Result<T, ViewError> {
        let parsed = self.decoded()?.parse();
        parsed.map_err(|_| self.is_not(expected))
    }

    fn time(self) -> Result<i64, ViewError> {
        self.parsed("a time, ns since 1970")
    }

    fn order(self) -> Result<Order, ViewError> {
        let name = self.decoded()?;
        let order = ORDERS.iter().find(|(_, known)| *known == name);
        let expected = "newest, oldest, slowest, fastest, spans or errors";
        let order = order.ok_or_else(|| self.is_not(expected))?;
        Ok(order.0)
    }
}

#[cfg(test)]
mod tests;
