//! The columns that a filter may name, and what they hold.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use spanstore_format::span::SpanColumn;

use super::syntax::Name;
use super::{FilterError, Rows};
use crate::query::events;
use crate::query::functions::IdKind;

/// What a value is, as far as comparisons care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// An integer of 32 bits.
    Int32,
    /// An integer of 64 bits.
    Int64,
    /// An integer of 32 bits without sign.
    UInt32,
    /// An HTTP status code, of 32 bits; its classes are texts such as `5xx`.
    StatusCode,
    /// Nanoseconds.
    Duration,
    /// Nanoseconds since 1970, UTC.
    Time,
    /// True or false.
    Boolean,
    /// The id of a trace or of a span.
    Id(IdKind),
    /// Encoded data, which is there or is not.
    Encoded,
}

impl Kind {
    /// The kind as an error names it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Int32 | Self::Int64 | Self::UInt32 => "an integer",
            Self::StatusCode => "a status code",
            Self::Duration => "a duration",
            Self::Time => "a time",
            Self::Boolean => "true or false",
            Self::Id(IdKind::Trace) => "a trace id",
            Self::Id(IdKind::Span) => "a span id",
            Self::Encoded => "a column that can only be tested with `is null`",
        }
    }

    /// Whether `<` means something.
    pub(super) fn is_ordered(self) -> bool {
        !matches!(self, Self::Boolean | Self::Id(_) | Self::Encoded)
    }

    fn of(field: &Field) -> Self {
        if let Some(id) = IdKind::of(field.data_type()) {
            return Self::Id(id);
        }
        match (SpanColumn::of_name(field.name()), field.data_type()) {
            (Some(SpanColumn::Duration), _) => Self::Duration,
            (Some(SpanColumn::StatusCode), _) => Self::StatusCode,
            (_, DataType::Timestamp(..)) => Self::Time,
            (_, DataType::Boolean) => Self::Boolean,
            (_, DataType::Int32) => Self::Int32,
            (_, DataType::Int64) => Self::Int64,
            (_, DataType::UInt32) => Self::UInt32,
            (_, DataType::BinaryView) => Self::Encoded,
            _ => Self::Text,
        }
    }
}

/// A column that a filter may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterColumn {
    /// Its name.
    pub name: &'static str,
    /// What it holds, in words: `a text`, `a duration`.
    pub holds: &'static str,
    /// Whether it is a facet, whose values [`Query::facets`](crate::query::Query::facets)
    /// counts.
    pub is_facet: bool,
}

/// Whose columns a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of the rows of a query.
    Rows(Rows),
    /// Those of an event of a span.
    Event,
}

impl From<Rows> for Scope {
    fn from(rows: Rows) -> Self {
        Self::Rows(rows)
    }
}

impl Rows {
    /// The columns that filters over these rows may name, in the order of the table.
    pub fn filter_columns(self) -> impl Iterator<Item = FilterColumn> {
        // Attributes are named by their keys.
        let named =
            visible(self.into()).filter(|field| field.name() != SpanColumn::Attributes.name());
        named.map(move |field| {
            let column = self.table().place_of(field.name());
            let column = column.and_then(|place| self.table().column(place));
            FilterColumn {
                name: field.name(),
                holds: Kind::of(field).describe(),
                is_facet: column.is_some_and(|column| column.is_facet),
            }
        })
    }
}

/// Columns that queries see and filters do not: what is stored for the way back to
/// OTLP.
const HIDDEN: &[SpanColumn] = &[
    SpanColumn::ResourceAttributes,
    SpanColumn::ResourceSchemaUrl,
    SpanColumn::Scope,
    SpanColumn::ScopeSchemaUrl,
    SpanColumn::Rest,
];

/// The column that `name` means: the one of exactly this name, or of this name
/// in another case when it is not quoted.
///
/// # Errors
/// [`FilterError::Unexpected`] that lists the nearest names.
pub(super) fn resolve(
    name: &Name,
    scope: impl Into<Scope>,
    position: usize,
) -> Result<(&'static str, Kind), FilterError> {
    let scope = scope.into();
    let exact = visible(scope).find(|field| field.name() == &name.text);
    let folded = || visible(scope).find(|field| name.is(field.name()));
    match exact.or_else(folded) {
        Some(field) => Ok((field.name(), Kind::of(field))),
        None => Err(unknown(name, scope, position)),
    }
}

/// The columns that filters see.
fn visible(scope: Scope) -> impl Iterator<Item = &'static Field> {
    static OF_SPANS: LazyLock<Vec<FieldRef>> = LazyLock::new(|| seen(Rows::Spans));
    static OF_REQUESTS: LazyLock<Vec<FieldRef>> = LazyLock::new(|| seen(Rows::Requests));
    static OF_SESSIONS: LazyLock<Vec<FieldRef>> = LazyLock::new(|| seen(Rows::Sessions));
    let fields = match scope {
        Scope::Rows(Rows::Spans) => &*OF_SPANS,
        Scope::Rows(Rows::Requests) => &*OF_REQUESTS,
        Scope::Rows(Rows::Sessions) => &*OF_SESSIONS,
        Scope::Event => events::fields(),
    };
    fields.iter().map(AsRef::as_ref)
}

fn seen(rows: Rows) -> Vec<FieldRef> {
    let columns = rows.table().columns().iter().filter(|column| {
        let is_hidden = HIDDEN.iter().any(|hidden| hidden.name() == column.name);
        column.is_visible && !is_hidden
    });
    columns.map(|column| Arc::new(column.field())).collect()
}

fn unknown(name: &Name, scope: Scope, position: usize) -> FilterError {
    // Longer names are nobody's misspelling, and comparing them takes time.
    const LONGEST: usize = 64;
    let wanted: String = name
        .text
        .chars()
        .take(LONGEST)
        .collect::<String>()
        .to_lowercase();
    let is_near = |known: &str| {
        let farthest = 1 + wanted.chars().count() / 4;
        distance(&wanted, known) <= farthest
            || (wanted.len() > 2 && (known.contains(&wanted) || wanted.contains(known)))
    };
    let mut near: Vec<_> = visible(scope)
        .map(Field::name)
        .filter(|known| is_near(known))
        .collect();
    if near.is_empty() {
        near = visible(scope).map(Field::name).collect();
    }
    let near: Vec<&str> = near.into_iter().map(String::as_str).collect();
    let expected = match near.as_slice() {
        [only] => format!("a column, such as {only}"),
        several => format!("one of the columns {}", several.join(", ")),
    };
    FilterError::unexpected(
        position,
        expected,
        format!("unknown column `{}`", name.text),
    )
}

/// How many characters have to be inserted, taken out or changed.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (r, cell) in right.chars().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(l != r);
            diagonal = *cell;
            before = changed.min(*cell + 1).min(before + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("a", "a", 0),
            ("durration", "duration", 1),
            ("statu", "status", 1),
            ("ab", "xyz", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
