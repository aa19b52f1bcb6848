//! Who made a span, and how grave it is.

use crate::otlp::KeyValue;

/// Who made a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The platform: routing, middleware, caching, function start-up.
    Infra,
    /// The web framework.
    Framework,
    /// The user's own code.
    User,
    /// An outgoing request, made by the instrumented `fetch`.
    Fetch,
}

impl Origin {
    /// The values of the column `origin`.
    pub(crate) const NAMES: &[&str] = &[
        Self::Infra.as_str(),
        Self::Framework.as_str(),
        Self::User.as_str(),
        Self::Fetch.as_str(),
    ];

    /// The value of the column `origin`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Infra => "infra",
            Self::Framework => "framework",
            Self::User => "user",
            Self::Fetch => "fetch",
        }
    }

    /// Tells the origin of a span, by the first rule that holds:
    ///
    /// 1. `infra`: its service begins with `vercel.`, except spans of
    ///    `vercel.serverless-runtime` that carry `http.method` (the function's
    ///    own requests);
    /// 2. `fetch`: `next.span_type` is `AppRender.fetch`, or it is a client
    ///    span that names its HTTP client (`http.client.name`), or whose name
    ///    begins with `fetch ` or whose scope speaks of `fetch` or `undici`;
    /// 3. `framework`: it has a `next.span_type`, or its scope is `next.js`;
    /// 4. `user`: every other.
    pub fn of(
        service: Option<&str>,
        scope: &str,
        name: &str,
        kind: i32,
        attributes: &[KeyValue],
    ) -> Self {
        let find = |key: &str| attributes.iter().find(|attribute| attribute.key == key);
        if let Some(service) = service
            && service.starts_with("vercel.")
            && !(service == "vercel.serverless-runtime" && find("http.method").is_some())
        {
            return Self::Infra;
        }
        let next_span_type = find("next.span_type");
        let is_next_fetch = next_span_type.is_some_and(|attribute| {
            let value = attribute.value.as_ref();
            value.and_then(super::attribute::text).as_deref() == Some("AppRender.fetch")
        });
        let is_client_fetch = kind == CLIENT
            && (name.starts_with("fetch ")
                || scope.contains("fetch")
                || scope.contains("undici")
                || find("http.client.name").is_some());
        if is_next_fetch || is_client_fetch {
            Self::Fetch
        } else if next_span_type.is_some() || scope == "next.js" {
            Self::Framework
        } else {
            Self::User
        }
    }
}

/// OpenTelemetry's number of a client span.
const CLIENT: i32 = 3;

/// The values of the column `level`, the least grave first.
pub(crate) const LEVELS: &[&str] = &["info", "warning", "error", "fatal"];

/// The value of the column `level`: what an attribute `level` says if it says
/// one of the four; else `fatal` when the function crashed (status code -1),
/// `error` for an error status or a status code of 500 and above, `warning`
/// from 400 on, and `info`.
pub(crate) fn level(
    attributes: &[KeyValue],
    is_error: bool,
    status_code: Option<i32>,
) -> &'static str {
    let said = attributes
        .iter()
        .find(|attribute| attribute.key == "level")
        .and_then(|attribute| super::attribute::text(attribute.value.as_ref()?));
    match said.as_deref() {
        Some("info") => return "info",
        Some("warning" | "warn") => return "warning",
        Some("error") => return "error",
        Some("fatal") => return "fatal",
        _ => {}
    }
    match status_code {
        Some(-1) => "fatal",
        Some(500..) => "error",
        _ if is_error => "error",
        Some(400..) => "warning",
        _ => "info",
    }
}

/// The value of the column `resource` for infrastructure spans that do not
/// say it themselves: what their name stands for.
pub(crate) fn resource_of_infra_span(name: &str) -> Option<&'static str> {
    match name {
        "Invoke Function" | "Vercel Runtime" | "waitUntil" | "Start VM" | "Spawn Node.js"
        | "Spawn Python" | "Init User Code" => Some("serverless"),
        "Invoke Middleware" => Some("edge-middleware"),
        "Resolve Cache" => Some("cache"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{AnyValue, Value};

    fn string(key: &str, text: &str) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue {
                value: Some(Value::StringValue(text.into())),
            }),
            ..KeyValue::default()
        }
    }

    #[test]
    fn the_rules_in_their_order() {
        let none: &[KeyValue] = &[];
        let method = &[string("http.method", "GET")][..];
        let next = &[string("next.span_type", "BaseServer.handleRequest")][..];
        let next_fetch = &[string("next.span_type", "AppRender.fetch")][..];
        for (service, scope, name, kind, attributes, expected) in [
            ("vercel.edge-network", "", "GET /", 2, method, Origin::Infra),
            (
                "vercel.serverless-runtime",
                "",
                "Start VM",
                1,
                none,
                Origin::Infra,
            ),
            (
                "vercel.serverless-runtime",
                "",
                "GET /x",
                3,
                method,
                Origin::User,
            ),
            ("shop", "next.js", "GET /", 2, none, Origin::Framework),
            ("shop", "", "GET /", 2, next, Origin::Framework),
            (
                "shop",
                "next.js",
                "fetch GET https://x.test/",
                3,
                next_fetch,
                Origin::Fetch,
            ),
            ("shop", "@vercel/otel/fetch", "GET", 3, none, Origin::Fetch),
            ("shop", "", "fetch the mail", 1, none, Origin::User),
            ("shop", "orders", "charge card", 1, none, Origin::User),
        ] {
            assert_eq!(
                Origin::of(Some(service), scope, name, kind, attributes),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn levels() {
        assert_eq!(level(&[], false, None), "info");
        assert_eq!(level(&[], false, Some(404)), "warning");
        assert_eq!(level(&[], false, Some(500)), "error");
        assert_eq!(level(&[], true, Some(200)), "error");
        assert_eq!(level(&[], true, Some(-1)), "fatal");
        assert_eq!(level(&[string("level", "warn")], true, None), "warning");
    }
}
