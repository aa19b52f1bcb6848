//! Which attributes become which columns: the one table.
//!
//! A column takes the first of its keys that the span carries, else the first
//! that the resource carries. OpenTelemetry's present name comes first, then
//! its old names and the vendors'. The attributes themselves stay as they came. Of
//! an array the first element counts; bytes, and values that hold others, fill no
//! column.
//!
//! | column | attributes, first match wins |
//! |---|---|
//! | `session_id` | `session.id` |
//! | `request_id` | `request.id`, `vercel.request_id`, `faas.invocation_id`; the part after the last `::` |
//! | `user_id` | `user.id`, `enduser.id`, `enduser.pseudo.id` |
//! | `service` | `service.name` |
//! | `project_id` | `project.id`, `vercel.projectId`, `vercel.project_id` |
//! | `environment` | `deployment.environment.name`, `deployment.environment`, `vercel.environment`, `env` |
//! | `deployment_id` | `deployment.id`, `vercel.deploymentId`, `vercel.deployment_id`, `service.version` |
//! | `branch` | `vcs.ref.head.name`, `vercel.branch`, `vcs.repository.ref.name` |
//! | `sha` | `vcs.ref.head.revision`, `vercel.sha`, `vcs.repository.ref.revision` |
//! | `region` | `cloud.region`, `vercel.region`, `vercel.function.region`, `vercel.execution_region`, `faas.invoked_region`, `vercel.edge_region` |
//! | `runtime` | `process.runtime.name`, `vercel.runtime` |
//! | `host` | `server.address`, `http.host`, `vercel.proxy.host`, `vercel.host`, `net.peer.name` |
//! | `method` | `http.request.method`, `http.method`, `vercel.proxy.method` |
//! | `route` | `http.route`, `next.route`, `vercel.matched_path` |
//! | `path` | `url.path`, `http.target`, `vercel.proxy.path`, `url.full`, `http.url`; the path alone |
//! | `url_query` | `url.query`, `http.target`, `vercel.proxy.path`, `url.full`, `http.url`; what follows `?` |
//! | `status_code` | `http.response.status_code`, `http.status_code`, `vercel.status_code`, `vercel.proxy.status_code`; integers and texts of integers |
//! | `request_type` | `vercel.path_type`, `vercel.pathType`, `vercel.proxy.path_type`, `vercel.request_type`, `faas.trigger` |
//! | `resource` | `vercel.source`, `vercel.resource`; else by the name of an infrastructure span |
//! | `cache` | `vercel.cache`, `http.response.header.x-vercel-cache`, `vercel.proxy.vercel_cache`, `vercel.proxy.vercelCache` |
//! | `cache_reason` | `vercel.cache_reason`, `vercel.cache.reason`, `http.response.header.x-vercel-cache-reason` |
//! | `client_address` | `client.address`, `vercel.proxy.client_ip`, `http.client_ip` |
//! | `user_agent` | `user_agent.original`, `http.user_agent`, `vercel.proxy.user_agent` |
//! | `cold_start` | `faas.coldstart`, `func.cold` |
//! | `error_type` | `error.type` |

use std::borrow::Cow;
use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::otlp::{AnyValue, KeyValue, Value};
use crate::span::attribute;

/// How a column reads the value of its attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// The text of the value; of an array, of its first element.
    Text,
    /// The text after the last `::`.
    LastPart,
    /// The path of a URL or of a request target.
    Path,
    /// The query of a URL or of a request target, without its `?`.
    Query,
    /// A 32-bit integer, or a text of one.
    Integer,
    /// A boolean, or a text of one.
    Boolean,
}

/// A column and the attributes that it is taken from.
#[derive(Debug, Clone, Copy)]
pub struct MappedColumn {
    /// The column's name.
    pub name: &'static str,
    /// How the value is read.
    pub value: ValueKind,
    /// Attribute keys, the first one found wins.
    pub keys: &'static [&'static str],
}

const fn column(
    name: &'static str,
    value: ValueKind,
    keys: &'static [&'static str],
) -> MappedColumn {
    MappedColumn { name, value, keys }
}

/// The mapped columns in the order of the schema.
pub const COLUMNS: &[MappedColumn] = &[
    column("session_id", ValueKind::Text, &["session.id"]),
    column(
        "request_id",
        ValueKind::LastPart,
        &["request.id", "vercel.request_id", "faas.invocation_id"],
    ),
    column(
        "user_id",
        ValueKind::Text,
        &["user.id", "enduser.id", "enduser.pseudo.id"],
    ),
    column("service", ValueKind::Text, &["service.name"]),
    column(
        "project_id",
        ValueKind::Text,
        &["project.id", "vercel.projectId", "vercel.project_id"],
    ),
    column(
        "environment",
        ValueKind::Text,
        &[
            "deployment.environment.name",
            "deployment.environment",
            "vercel.environment",
            "env",
        ],
    ),
    column(
        "deployment_id",
        ValueKind::Text,
        &[
            "deployment.id",
            "vercel.deploymentId",
            "vercel.deployment_id",
            "service.version",
        ],
    ),
    column(
        "branch",
        ValueKind::Text,
        &[
            "vcs.ref.head.name",
            "vercel.branch",
            "vcs.repository.ref.name",
        ],
    ),
    column(
        "sha",
        ValueKind::Text,
        &[
            "vcs.ref.head.revision",
            "vercel.sha",
            "vcs.repository.ref.revision",
        ],
    ),
    column(
        "region",
        ValueKind::Text,
        &[
            "cloud.region",
            "vercel.region",
            "vercel.function.region",
            "vercel.execution_region",
            "faas.invoked_region",
            "vercel.edge_region",
        ],
    ),
    column(
        "runtime",
        ValueKind::Text,
        &["process.runtime.name", "vercel.runtime"],
    ),
    column(
        "host",
        ValueKind::Text,
        &[
            "server.address",
            "http.host",
            "vercel.proxy.host",
            "vercel.host",
            "net.peer.name",
        ],
    ),
    column(
        "method",
        ValueKind::Text,
        &["http.request.method", "http.method", "vercel.proxy.method"],
    ),
    column(
        "route",
        ValueKind::Text,
        &["http.route", "next.route", "vercel.matched_path"],
    ),
    column(
        "path",
        ValueKind::Path,
        &[
            "url.path",
            "http.target",
            "vercel.proxy.path",
            "url.full",
            "http.url",
        ],
    ),
    column(
        "url_query",
        ValueKind::Query,
        &[
            "url.query",
            "http.target",
            "vercel.proxy.path",
            "url.full",
            "http.url",
        ],
    ),
    column(
        "status_code",
        ValueKind::Integer,
        &[
            "http.response.status_code",
            "http.status_code",
            "vercel.status_code",
            "vercel.proxy.status_code",
        ],
    ),
    column(
        "request_type",
        ValueKind::Text,
        &[
            "vercel.path_type",
            "vercel.pathType",
            "vercel.proxy.path_type",
            "vercel.request_type",
            "faas.trigger",
        ],
    ),
    column(
        "resource",
        ValueKind::Text,
        &["vercel.source", "vercel.resource"],
    ),
    column(
        "cache",
        ValueKind::Text,
        &[
            "vercel.cache",
            "http.response.header.x-vercel-cache",
            "vercel.proxy.vercel_cache",
            "vercel.proxy.vercelCache",
        ],
    ),
    column(
        "cache_reason",
        ValueKind::Text,
        &[
            "vercel.cache_reason",
            "vercel.cache.reason",
            "http.response.header.x-vercel-cache-reason",
        ],
    ),
    column(
        "client_address",
        ValueKind::Text,
        &["client.address", "vercel.proxy.client_ip", "http.client_ip"],
    ),
    column(
        "user_agent",
        ValueKind::Text,
        &[
            "user_agent.original",
            "http.user_agent",
            "vercel.proxy.user_agent",
        ],
    ),
    column(
        "cold_start",
        ValueKind::Boolean,
        &["faas.coldstart", "func.cold"],
    ),
    column("error_type", ValueKind::Text, &["error.type"]),
];

/// Where `COLUMNS` stands a column of this name.
pub(crate) fn position(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// The columns that the mapping may fill from an attribute key, by their
/// places in the span schema.
pub(crate) fn columns_of(key: &str) -> Vec<usize> {
    let columns = BY_KEY.get(key).into_iter().flatten();
    columns
        .filter_map(|(position, _)| {
            let name = COLUMNS.get(*position)?.name;
            super::schema::schema().index_of(name).ok()
        })
        .collect()
}

/// Attribute key to the columns it may fill and its rank among their keys.
static BY_KEY: LazyLock<HashMap<&'static str, Vec<(usize, usize)>>> = LazyLock::new(|| {
    let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
    for (position, column) in COLUMNS.iter().enumerate() {
        for (rank, key) in column.keys.iter().enumerate() {
            by_key.entry(*key).or_default().push((position, rank));
        }
    }
    by_key
});

/// The attribute values that fill the mapped columns of one span or resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapped<'a> {
    /// What was found, by the column's place in [`COLUMNS`].
    found: [Option<Found<'a>>; COLUMNS.len()],
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
            for (position, rank) in columns {
                let Some(slot) = mapped.found.get_mut(*position) else {
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

    fn found(&self, position: usize) -> Option<Found<'a>> {
        self.found.get(position).copied().flatten()
    }

    fn value(&self, position: usize) -> Option<&'a AnyValue> {
        self.found(position).map(|found| found.value)
    }

    /// Whether the value of a column comes from the resource.
    pub(crate) fn is_of_resource(&self, position: usize) -> bool {
        self.found(position)
            .is_some_and(|found| found.is_of_resource)
    }

    /// Bytes of the longest value that a column of texts is taken from.
    pub(crate) fn longest_text_bytes(&self) -> usize {
        let texts = self
            .found
            .iter()
            .zip(COLUMNS)
            .filter(|(_, column)| !matches!(column.value, ValueKind::Integer | ValueKind::Boolean))
            .filter_map(|(found, _)| scalar_text(found.as_ref()?.value));
        texts.map(|text| text.len()).max().unwrap_or(0)
    }

    /// The text of a column that holds text.
    pub(crate) fn text(&self, position: usize) -> Option<Cow<'a, str>> {
        let text = scalar_text(self.value(position)?)?;
        match COLUMNS.get(position)?.value {
            ValueKind::LastPart => Some(match text.rfind("::") {
                Some(at) => Cow::Owned(text.get(at + 2..)?.to_owned()),
                None => text,
            }),
            ValueKind::Path => split_target(&text)
                .0
                .map(|path| Cow::Owned(path.to_owned())),
            ValueKind::Query => {
                let is_query_itself = self.found(position)?.rank == 0;
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
    pub(crate) fn integer(&self, position: usize) -> Option<i32> {
        match first_element(self.value(position)?).value.as_ref()? {
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
    pub(crate) fn boolean(&self, position: usize) -> Option<bool> {
        match self.value(position)?.value.as_ref()? {
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
            .text(position(column).unwrap())
            .map(Cow::into_owned)
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
        assert_eq!(
            mapped.text(position("region").unwrap()).as_deref(),
            Some("fra1")
        );
        assert_eq!(
            mapped.text(position("service").unwrap()).as_deref(),
            Some("shop")
        );
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
        let at = position("status_code").unwrap();
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
