//! The columns that a filter may name, and what they hold.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use spanstore_format::span::SpanColumn;
use spanstore_format::table::{TableColumn, ValueSet};

use super::literal::quoted;
use super::nearest::nearest;
use super::syntax::Name;
use super::{FilterError, Rows};
use crate::error::Error;
use crate::filter_error::cut;
use crate::query::events;
use crate::query::functions::IdKind;

/// What a value is, as far as comparisons care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// Text that is one of some values.
    OneOf(&'static ValueSet),
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
            Self::Text | Self::OneOf(_) => "a text",
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

    /// Whether it is text.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::OneOf(_))
    }

    /// Whether a literal may be a text.
    pub(super) fn takes_texts(self) -> bool {
        let is_id = matches!(self, Self::Id(_));
        self.is_text() || is_id || matches!(self, Self::StatusCode | Self::Duration | Self::Time)
    }

    fn of_column(field: &Field, scope: Scope) -> Self {
        let column = match scope {
            Scope::Rows(rows) => rows.column(field.name()),
            Scope::Event => None,
        };
        let values = column.and_then(|column| column.values.as_ref());
        values.map_or_else(|| Self::of(field), Self::OneOf)
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
        named.map(move |field| FilterColumn {
            name: field.name(),
            holds: Kind::of(field).describe(),
            is_facet: self
                .column(field.name())
                .is_some_and(|column| column.is_facet),
        })
    }

    /// The place of the column that a name means among those that queries see, in any case.
    pub(in crate::query) fn place_of(self, name: &str) -> Option<usize> {
        let exact = self.table().place_of(name);
        let mut columns = self.table().columns().iter();
        let folded = || columns.position(|column| column.name.eq_ignore_ascii_case(name));
        let place = exact.or_else(folded)?;
        self.table().column(place)?.is_visible.then_some(place)
    }

    /// The error for a name that none of the columns has that are offered; it names the nearest
    /// ones.
    pub(in crate::query) fn unknown_column(
        self,
        name: &str,
        is_offered: impl Fn(&TableColumn) -> bool,
    ) -> Error {
        let columns = self.table().columns().iter();
        let offered = columns.filter(|column| column.is_visible && is_offered(column));
        let known: Vec<&str> = offered.map(|column| column.name).collect();
        let of_key = [
            ("attributes[", SpanColumn::Attributes.name()),
            ("resource[", SpanColumn::ResourceAttributes.name()),
        ];
        let of_key = of_key.into_iter().find(|(begin, column)| {
            name.to_ascii_lowercase().starts_with(begin) && known.contains(column)
        });
        let expected = of_key.map_or_else(
            || expected_of(name, &known),
            |(_, column)| format!("`{column}`, which gives all of them"),
        );
        Error::unknown_column(name, expected)
    }

    fn column(self, name: &str) -> Option<&'static TableColumn> {
        let table = self.table();
        table.column(table.place_of(name)?)
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
        Some(field) => Ok((field.name(), Kind::of_column(field, scope))),
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

/// The error for a name of no column where a text may stand: it may be one without its quotes.
pub(super) fn without_quotes(name: &Name, scope: Scope, position: usize) -> FilterError {
    let text = quoted(&cut(&name.text));
    let known = visible(scope).map(|field| field.name().as_str());
    let near = nearest(&name.text, known).into_iter().next();
    let column = near.map(|near| format!(", or a column, such as {near}"));
    let column = column.unwrap_or_default();
    let expected = format!("a text in single quotes, such as {text}{column}");
    FilterError::unexpected(position, expected, name.describe())
}

fn unknown(name: &Name, scope: Scope, position: usize) -> FilterError {
    let found = format!("unknown column `{}`", name.text);
    FilterError::unexpected(position, expected(&name.text, scope), found)
}

/// What is expected in place of a name that no column has.
pub(super) fn expected(wanted: &str, scope: impl Into<Scope>) -> String {
    let known = visible(scope.into()).map(|field| field.name().as_str());
    expected_of(wanted, &known.collect::<Vec<_>>())
}

/// What is expected in place of a name that none of the known columns has.
fn expected_of(wanted: &str, known: &[&str]) -> String {
    const MOST: usize = 5;
    let mut near = nearest(wanted, known.iter().copied());
    near.truncate(MOST);
    match (near.as_slice(), known.get(..MOST)) {
        ([], Some(first)) if known.len() > MOST => {
            let (count, first) = (known.len(), first.join(", "));
            format!("one of {count} columns, such as {first}")
        }
        ([], _) => format!("one of the columns {}", known.join(", ")),
        (near, _) => format!("a column, such as {}", near.join(", ")),
    }
}
