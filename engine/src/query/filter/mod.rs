//! The filter language: a text becomes a checked expression over the columns
//! of a span.
//!
//! A filter is what a dashboard's search bar sends, so it comes from
//! strangers. It is read by the parser in this module alone, within
//! [`FilterLimits`]; it names the columns of [`spanstore_format::span::SpanColumn`],
//! never another table, never the team.

mod columns;
mod comparison;
mod lexer;
mod literal;
mod lower;
mod nearest;
mod parser;
mod pattern;
mod requests;
mod shorthand;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use datafusion::logical_expr::Expr;
use spanstore_format::table::Table;
use spanstore_format::{requests as of_requests, sessions as of_sessions, span};

pub use self::columns::FilterColumn;
pub(super) use self::literal::quoted;
pub(super) use self::requests::SomeSpan;
pub use self::shorthand::Shorthand;
pub use crate::filter_error::FilterError;

/// How large a filter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterLimits {
    /// Longest text, in bytes.
    pub bytes: usize,
    /// Deepest nesting of parentheses, `not` and calls.
    pub depth: usize,
    /// Most columns, literals, functions and operators together; the values of
    /// `in` lists are not counted. A `search` counts as 64.
    pub nodes: usize,
    /// Most values of one `in` list.
    pub list: usize,
    /// Longest pattern of `like`, `~`, `starts_with`, `ends_with`,
    /// `contains` and `search`, in bytes.
    pub pattern: usize,
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self {
            bytes: 16 << 10,
            depth: 64,
            nodes: 4096,
            list: 10_000,
            pattern: 1 << 10,
        }
    }
}

/// What the rows of a query are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Spans.
    Spans,
    /// Requests: one row a trace.
    Requests,
    /// Sessions: those that were started, and those that only requests name.
    Sessions,
}

impl Rows {
    /// Their name, which is that of their table in SQL too.
    pub fn name(self) -> &'static str {
        self.table().name()
    }

    /// Their table.
    pub(crate) fn table(self) -> &'static Table {
        match self {
            Self::Spans => span::table(),
            Self::Requests => of_requests::table(),
            Self::Sessions => of_sessions::table(),
        }
    }
}

/// A filter that was read and checked.
///
/// | form | meaning |
/// |---|---|
/// | `a and b`, `a or b`, `not a`, `( )` | from tight to loose: comparisons, `is`, `not`, `and`, `or` |
/// | `=` `==` `!=` `<>` `<` `<=` `>` `>=` | a column with a literal or another column |
/// | `x [not] in (1, 2)`, `x [not] between 1 and 2` | |
/// | `x [not] like '/api/%'`, `ilike`, `escape '!'` | `%` any text, `_` one character; the escape is the backslash unless given |
/// | `x ~ 'regex'`, `x !~ 'regex'` | the syntax of the crate `regex`, anywhere in the text |
/// | `x is [not] null`, `c is [not] true`, `c is [not] false` | |
/// | `cold_start`, `true` | a boolean column or literal is a condition |
/// | `attributes['key']`, `resource['key']` | an attribute of the span or of its resource |
/// | `has('key')`, `has(attributes, 'key')`, `has(resource, 'key')` | whether the attribute is there, with a value or without |
/// | `search('text')` | whether the text is in the name, the status message, a column that attributes are read into (such as `path` or `service`), the value of an attribute of the span, or the name or the value of an attribute of one of its events. Upper and lower case are the same. Values are texts, numbers and booleans, within lists too; keys and bytes are not looked at, nor are ids, kind, level, scope, links, and attributes of the resource that no column has. `%` stands for itself. Over requests: of one of its spans |
/// | `any_event(name = 'exception' and attributes['exception.type'] = 'Timeout')` | whether some event of the span meets all of the condition, never null. In it `name`, `time` and `attributes['key']` are those of the event, and all forms but `search`, `status_class` and `resource` may stand there. Over requests it stands within `any` |
/// | `status_class(5)` | the same as `status_code = '5xx'` |
/// | `lower(x)`, `upper(x)`, `length(x)` | `length` counts characters |
/// | `starts_with(x, 'a')`, `ends_with(x, 'a')`, `contains(x, 'a')` | |
///
/// Keywords and column names are read in any case; a name in double quotes
/// counts as it stands. Texts stand in single quotes, a quote in them is
/// written twice. There are no comments, no arithmetic and no sub-selects.
///
/// A literal is read as what it is compared with:
///
/// | compared with | literal |
/// |---|---|
/// | a text column | a text |
/// | `level` | one of its values; `<`, `<=`, `>`, `>=` and `between` go by how grave they are: `info`, `warning`, `error`, `fatal` |
/// | `kind`, `origin`, `status`; of sessions `kind`, `state`, `environment` | one of its values; of spans also the number of a kind or status that has no name |
/// | `trace_id`, `span_id`, `parent_span_id` | hexadecimal digits, leading zeros may be left out; no order |
/// | `start_time` | RFC 3339, `'2026-11-20'` for midnight UTC, or nanoseconds since 1970 |
/// | `duration` | nanoseconds, or `'250ms'` with `ns`, `us`, `ms`, `s`, `m` or `h` |
/// | `status_code` | an integer, a text of one, or (without order) a class such as `'5xx'` |
/// | a boolean column | `true` or `false` |
/// | `time` of an event | as `start_time`; an event that does not say when it was has no value |
/// | an attribute | a text compares with its text; a number with its number; `true` and `false` with the text `true` and `false` |
///
/// Texts are equal when their bytes are, upper and lower case included. A text that a column with
/// certain values cannot have, such as `level = 'ERROR'`, is refused, and the nearest one named;
/// patterns and functions take any text. In SQL `level` is a text like others, ordered by its bytes.
///
/// The text of an attribute is a string as it is, an integer or a double in decimal digits, `true`
/// or `false`, bytes in base64, lists and maps as JSON. So `attributes['retries'] = '3'` finds the
/// integer 3 and the string `3`, and `<` between texts goes by their bytes: `'10' < '9'`.
///
/// The number of an attribute is that of an integer or a double, and of a string that reads as one
/// (`250`, ` 2.5e2 `, `-0`, `inf`; spaces around it do not matter). Booleans, bytes, lists, maps
/// and other strings have none. So `attributes['retries'] = 3` finds the integer 3, the double 3.0
/// and the strings `3` and `3.0`. Numbers are 64-bit floats: integers beyond 2^53 equal those that
/// round to the same float. NaN is above all numbers and equals itself; -0 equals 0. An attribute
/// without a number compares like a column without a value: it is not found by `!= 3` either, but
/// by `(attributes['retries'] = 3) is not true`. In a list each value compares as its own type
/// says: `attributes['retries'] in (3, 'many')` finds both.
///
/// Comparisons have SQL's three truth values: compared with a column that has
/// no value, even by `!=`, the answer is neither true nor false, and the row is
/// not found. `is null` finds it, and `(status_code != 200) is not false`
/// finds both.
#[derive(Debug, Clone)]
pub struct Filter {
    text: String,
    expr: Expr,
    columns: BTreeSet<String>,
    some_spans: Vec<SomeSpan>,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`] says where the text is wrong, what was expected there
    /// and what was found, or which of `limits` it exceeds.
    pub fn parse(text: &str, limits: &FilterLimits) -> Result<Self, FilterError> {
        Self::over(Rows::Spans, text, limits)
    }

    /// Reads a filter over some rows.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub(super) fn over(rows: Rows, text: &str, limits: &FilterLimits) -> Result<Self, FilterError> {
        let node = parser::parse(text, limits)?;
        let (expr, some_spans) = lower::condition(&node, rows, limits)?;
        let columns = expr.column_refs().into_iter();
        let columns = columns.filter(|column| SomeSpan::number(column).is_none());
        let columns = columns.map(|column| column.name.clone()).collect();
        Ok(Self {
            text: text.to_owned(),
            expr,
            columns,
            some_spans,
        })
    }

    /// The filter as it was read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it asks for a column of its rows.
    pub(super) fn names(&self, column: &str) -> bool {
        self.columns.contains(column)
    }

    /// What it asks of the spans of requests, in the order of their numbers.
    pub(super) fn some_spans(&self) -> &[SomeSpan] {
        &self.some_spans
    }

    /// The condition, over the columns of [`spanstore_format::span::SpanColumn`] by
    /// their names alone. Its types fit, so it needs no coercion. It is not to be
    /// simplified: the simplifier of DataFusion 55.2 merges lists as if there
    /// were no nulls (`x not in (1, 2) or x not in (3, 4)` becomes true).
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The columns that the condition is computed from: `attributes['key']`
    /// needs `attributes`, `resource['key']` needs `resource_attributes`.
    pub fn columns(&self) -> BTreeSet<&str> {
        self.columns.iter().map(String::as_str).collect()
    }
}

/// A value of each span, in the words of filters: a column, `attributes['key']`,
/// `resource['key']`, a function of these.
#[derive(Debug, Clone)]
pub(super) struct NamedValue {
    /// The value; of an attribute, its text.
    pub(super) expr: Expr,
    /// The value as a number where it is an attribute, else as it is.
    pub(super) number: Expr,
}

impl NamedValue {
    /// Reads a value.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub(super) fn parse(rows: Rows, text: &str) -> Result<Self, FilterError> {
        let limits = &FilterLimits::default();
        let node = parser::parse_value(text, limits)?;
        let value = lower::value(&node, rows, limits)?;
        if value.kind == columns::Kind::Encoded {
            let expected = "a value that can be shown";
            let found = value.kind.describe();
            return Err(FilterError::unexpected(node.position, expected, found));
        }
        let number = value.number().unwrap_or_else(|| value.expr.clone());
        Ok(Self {
            expr: value.expr,
            number,
        })
    }
}
