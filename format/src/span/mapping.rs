//! Which attributes fill which columns.
//!
//! [`SpanColumn`] names the attributes of each column. A column takes the first of
//! them that the span carries, else the first that the resource carries.
//! OpenTelemetry's present name comes first, then its old names and the vendors'.
//! The attributes themselves stay as they came. Of an array the first element
//! counts; bytes, and values that hold others, fill no column.

use std::borrow::Cow;
use std::sync::LazyLock;

use hashbrown::HashMap;

use super::column::{Source, SpanColumn, ValueKind};
use crate::otlp::{AnyValue, KeyValue, Value};
use crate::span::attribute;
use crate::table::ColumnType;

/// The version of the rules that fill columns from attributes, which segments keep:
/// of the attributes that [`SpanColumn`] names, and of those of
/// [`origin`](super::origin). It is raised by one whenever they change.
pub const VERSION: u32 = 1;

/// The first of the columns that attributes fill; they follow each other.
const FIRST: usize = SpanColumn::SessionId.place();
/// How many there are.
const COUNT: usize = SpanColumn::ErrorType.place() + 1 - FIRST;

/// The columns that attributes fill, in the order of the schema.
pub fn columns() -> &'static [SpanColumn] {
    SpanColumn::ALL
        .get(FIRST..FIRST + COUNT)
        .unwrap_or_default()
}

/// The columns that the mapping may fill from an attribute key.
pub(crate) fn columns_of(key: &str) -> impl Iterator<Item = SpanColumn> {
    let columns = BY_KEY.get(key).into_iter().flatten();
    columns.map(|(column, _)| *column)
}

/// Attribute key to the columns it may fill and its rank among their keys.
static BY_KEY: LazyLock<HashMap<&'static str, Vec<(SpanColumn, usize)>>> = LazyLock::new(|| {
    let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
    for column in columns() {
        if let Source::Attributes(_, keys) = column.source() {
            for (rank, key) in keys.iter().enumerate() {
                by_key.entry(*key).or_default().push((*column, rank));
            }
        }
    }
    by_key
});

/// The attribute values that fill the mapped columns of one span or resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapped<'a> {
    /// What was found, by the column's place in [`columns`].
    found: [Option<Found<'a>>; COUNT],
}

/// Bytes of the values that the columns of texts of a span are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextBytes {
    /// Of the longest one.
    pub longest: usize,
    /// Of all together.
    pub all: usize,
}

/// The value that fills a column.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    value: &'a AnyValue,
    /// The place of its key among those of the column.
    rank: usize,
    is_of_resource: bool,
}

impl<'a> Mapped<'a> {
    /// Picks the values out of attributes. Of keys that repeat, the first counts.
    pub(crate) fn of(attributes: &'a [KeyValue]) -> Self {
        let mut mapped = Self::default();
        for attribute in attributes {
            let Some(columns) = BY_KEY.get(attribute.key.as_str()) else {
                continue;
            };
            let Some(value) = attribute
                .value
                .as_ref()
                .filter(|value| value.value.is_some())
            else {
                continue;
            };
            for (column, rank) in columns {
                let Some(slot) = mapped.found.get_mut(column.place() - FIRST) else {
                    continue;
                };
                if slot.is_none_or(|best| *rank < best.rank) {
                    *slot = Some(Found {
                        value,
                        rank: *rank,
                        is_of_resource: false,
                    });
                }
            }
        }
        mapped
    }

    /// This span's values, and where it has none, its resource's.
    pub(crate) fn or(mut self, resource: &Self) -> Self {
        for (own, other) in self.found.iter_mut().zip(&resource.found) {
            let of_resource = other.map(|found| Found {
                is_of_resource: true,
                ..found
            });
            *own = own.or(of_resource);
        }
        self
    }

    fn found(&self, column: SpanColumn) -> Option<Found<'a>> {
        let place = column.place().checked_sub(FIRST)?;
        self.found.get(place).copied().flatten()
    }

    fn value(&self, column: SpanColumn) -> Option<&'a AnyValue> {
        self.found(column).map(|found| found.value)
    }

    /// Whether the value of a column comes from the resource.
    pub(crate) fn is_of_resource(&self, column: SpanColumn) -> bool {
        self.found(column).is_some_and(|found| found.is_of_resource)
    }

    /// Bytes of the values that columns of texts are taken from.
    pub(crate) fn text_bytes(&self) -> TextBytes {
        let texts = self
            .found
            .iter()
            .zip(columns())
            .filter(|(_, column)| column.description().value == ColumnType::Text)
            .filter_map(|(found, _)| scalar_text(found.as_ref()?.value));
        let mut bytes = TextBytes::default();
        for text in texts {
            bytes.longest = bytes.longest.max(text.len());
            bytes.all += text.len();
        }
        bytes
    }

    /// The text of a column that holds text.
    pub(crate) fn text(&self, column: SpanColumn) -> Option<Cow<'a, str>> {
        let text = scalar_text(self.value(column)?)?;
        let Source::Attributes(kind, _) = column.source() else {
            return None;
        };
        match kind {
            ValueKind::LastPart => Some(match text.rfind("::") {
                Some(at) => Cow::Owned(text.get(at + 2..)?.to_owned()),
                None => text,
            }),
            ValueKind::Path => split_target(&text)
                .0
                .map(|path| Cow::Owned(path.to_owned())),
            ValueKind::Query => {
                let is_query_itself = self.found(column)?.rank == 0;
                if is_query_itself {
                    return Some(text);
                }
                split_target(&text)
                    .1
                    .map(|query| Cow::Owned(query.to_owned()))
            }
            _ => Some(text),
        }
    }

    /// The integer of a column that holds one.
    pub(crate) fn integer(&self, column: SpanColumn) -> Option<i32> {
        match first_element(self.value(column)?).value.as_ref()? {
            Value::IntValue(number) => i32::try_from(*number).ok(),
            Value::StringValue(text) => text.trim().parse().ok(),
            Value::DoubleValue(number) if number.fract() == 0.0 => (f64::from(i32::MIN)
                ..=f64::from(i32::MAX))
                .contains(number)
                .then_some(*number as i32),
            _ => None,
        }
    }

    /// The boolean of a column that holds one.
    pub(crate) fn boolean(&self, column: SpanColumn) -> Option<bool> {
        match self.value(column)?.value.as_ref()? {
            Value::BoolValue(truth) => Some(*truth),
            Value::StringValue(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// The text of a value, or of the first one in an array; none of what holds other
/// values, or bytes.
fn scalar_text(value: &AnyValue) -> Option<Cow<'_, str>> {
    let value = first_element(value);
    match &value.value {
        Some(Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_)) => None,
        _ => attribute::text(value),
    }
}

/// Headers come as arrays of texts; the first stands for the rest.
fn first_element(value: &AnyValue) -> &AnyValue {
    match &value.value {
        Some(Value::ArrayValue(array)) => array.values.first().unwrap_or(value),
        _ => value,
    }
}

/// Path and query of `https://host/path?query#fragment` or `/path?query`.
fn split_target(target: &str) -> (Option<&str>, Option<&str>) {
    let after_host = match target.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => match rest.find(['/', '?', '#']) {
            Some(at) => rest.get(at..).unwrap_or(""),
            None => "",
        },
        // A URL may stand in the query.
        _ => target,
    };
    let without_fragment = after_host.split('#').next().unwrap_or("");
    match without_fragment.split_once('?') {
        Some((path, query)) => (Some(path).filter(|path| !path.is_empty()), Some(query)),
        None => (Some(without_fragment).filter(|path| !path.is_empty()), None),
    }
}

/// Whether a text is the scheme of a URL (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    fn string(key: &str, text: &str) -> KeyValue {
        attribute(key, Value::StringValue(text.into()))
    }

    fn text(attributes: &[KeyValue], column: &str) -> Option<String> {
        Mapped::of(attributes)
            .text(SpanColumn::of_name(column).unwrap())
            .map(Cow::into_owned)
    }

    #[test]
    fn the_columns_that_attributes_fill_follow_each_other() {
        for column in SpanColumn::ALL {
            let is_filled = matches!(column.source(), Source::Attributes(..));
            assert_eq!(is_filled, columns().contains(column), "{}", column.name());
        }
    }

    #[test]
    fn the_present_name_wins_over_old_ones_in_any_order() {
        let attributes = [
            string("http.method", "GET"),
            string("http.request.method", "POST"),
        ];
        assert_eq!(text(&attributes, "method").as_deref(), Some("POST"));
    }

    #[test]
    fn span_before_resource() {
        let span = [string("vercel.region", "fra1")];
        let resource = [
            string("cloud.region", "iad1"),
            string("service.name", "shop"),
        ];
        let mapped = Mapped::of(&span).or(&Mapped::of(&resource));
        assert_eq!(mapped.text(SpanColumn::Region).as_deref(), Some("fra1"));
        assert_eq!(mapped.text(SpanColumn::Service).as_deref(), Some("shop"));
    }

    #[test]
    fn targets_and_urls_are_split() {
        for (target, path, query) in [
            ("/a/b?c=d?e#f", Some("/a/b"), Some("c=d?e")),
            ("https://x.test/a?b", Some("/a"), Some("b")),
            ("https://x.test?b", None, Some("b")),
            ("https://x.test", None, None),
            ("/a", Some("/a"), None),
            (
                "/login?next=https://x.test/cart",
                Some("/login"),
                Some("next=https://x.test/cart"),
            ),
            (
                "/go/https://x.test/a?b",
                Some("/go/https://x.test/a"),
                Some("b"),
            ),
            ("?u=http://x.test", None, Some("u=http://x.test")),
            ("svn+ssh://x.test/a", Some("/a"), None),
            (
                "https://x.test/a?u=http://y.test/b",
                Some("/a"),
                Some("u=http://y.test/b"),
            ),
            ("://x.test/a", Some("://x.test/a"), None),
        ] {
            let attributes = [string("http.target", target)];
            assert_eq!(text(&attributes, "path").as_deref(), path, "{target}");
            assert_eq!(text(&attributes, "url_query").as_deref(), query, "{target}");
        }
        assert_eq!(
            text(&[string("url.query", "a?b")], "url_query").as_deref(),
            Some("a?b")
        );
    }

    #[test]
    fn status_codes_come_as_integers_and_as_text() {
        let at = SpanColumn::StatusCode;
        let of = |value| Mapped::of(&[attribute("http.status_code", value)]).integer(at);
        assert_eq!(of(Value::IntValue(503)), Some(503));
        assert_eq!(of(Value::StringValue("404".into())), Some(404));
        assert_eq!(of(Value::DoubleValue(200.0)), Some(200));
        assert_eq!(of(Value::IntValue(1 << 40)), None);
        assert_eq!(of(Value::StringValue("teapot".into())), None);
    }

    #[test]
    fn request_ids_lose_their_regions_and_headers_their_arrays() {
        let id = [string("vercel.request_id", "iad1::hnd1::abc-1")];
        assert_eq!(text(&id, "request_id").as_deref(), Some("abc-1"));
        let array = crate::otlp::ArrayValue {
            values: vec![AnyValue {
                value: Some(Value::StringValue("HIT".into())),
            }],
        };
        let header = [attribute(
            "http.response.header.x-vercel-cache",
            Value::ArrayValue(array),
        )];
        assert_eq!(text(&header, "cache").as_deref(), Some("HIT"));
    }
}
