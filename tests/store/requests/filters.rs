//! Each filter of a list of requests, by name.

use spanstore::{Error, Store, Team};
use spanstore_test_support::{NOW, open, team};
use tempfile::TempDir;

use super::spans::{Span, append, rows};

const MILLI: i64 = 1_000_000;

/// Three requests: a page with a failed query, a call of an API that was not found, and an
/// image out of the cache, of another person.
fn spans() -> Vec<Span> {
    let start = NOW - 60_000 * MILLI;
    let span = |trace, id, parent, start, service| Span {
        trace,
        id,
        parent,
        start,
        duration: 10 * MILLI,
        kind: 2,
        name: format!("span {id}"),
        service: Some(service),
        ..Span::default()
    };
    let page = Span {
        code: Some(200),
        ..span(1, 1, None, start, "web")
    };
    let page = page
        .with("path", "/shop")
        .with("route", "/[page]")
        .with("method", "GET")
        .with("host", "shop.example.com")
        .with("request_type", "func")
        .with("resource", "serverless")
        .with("cache", "MISS")
        .with("cache_reason", "cold")
        .with("environment", "production")
        .with("deployment_id", "dpl_1")
        .with("branch", "main")
        .with("project_id", "prj_1")
        .with("region", "iad1")
        .with("client_address", "203.0.113.7")
        .with("user_agent", "Mozilla/5.0")
        .with("session_id", "ses_1")
        .with("user_id", "ada")
        .with("request_id", "req_1");
    let query = Span {
        kind: 3,
        level: Some("error"),
        ..span(1, 2, Some(1), start + MILLI, "db")
    };
    let function = Span {
        cold_start: Some(true),
        ..span(1, 3, Some(1), start + 2 * MILLI, "web")
    };
    let function = function
        .with("function", "/shop.func")
        .with("host", "db.internal");
    let api = Span {
        code: Some(404),
        ..span(2, 4, Some(77), start + 5 * MILLI, "api")
    };
    let api = api
        .with("path", "/api/none")
        .with("method", "POST")
        .with("host", "api.example.com")
        .with("request_type", "api")
        .with("resource", "edge-function")
        .with("environment", "preview")
        .with("deployment_id", "dpl_2")
        .with("branch", "next")
        .with("session_id", "ses_1")
        .with("request_id", "req_2");
    let image = Span {
        code: Some(200),
        duration: 2_000 * MILLI,
        ..span(3, 5, None, start + 9 * MILLI, "edge")
    };
    let image = image
        .with("path", "/logo.png")
        .with("method", "GET")
        .with("host", "shop.example.com")
        .with("resource", "static")
        .with("cache", "HIT")
        .with("client_address", "203.0.113.8")
        .with("user_agent", "curl/8");
    vec![page, query, function, api, image]
}

struct Fixture {
    _directory: TempDir,
    _store: Store,
    team: Team,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let team = store.team(&team("acme"));
    append(&team, &spans());
    Fixture {
        _directory: directory,
        _store: store,
        team,
    }
}

impl Fixture {
    /// The paths of the requests that a filter finds, the oldest first.
    async fn paths(&self, filter: &str) -> Vec<String> {
        let found = self.team.requests().filter(filter).unwrap();
        let found = found.columns(["path"]).unwrap();
        let found = found.order(spanstore::query::Order::OldestFirst);
        let rows = rows(&found.collect().await.unwrap());
        rows.into_iter().map(|row| row["path"].clone()).collect()
    }

    fn refusal(&self, filter: &str) -> String {
        match self.team.requests().filter(filter) {
            Err(Error::InvalidFilter(error)) => error.to_string(),
            other => panic!("{filter}: {other:?}"),
        }
    }
}

macro_rules! filters {
    ($($(#[doc = $doc:literal])* $name:ident: $($filter:literal => [$($path:literal),*]),+;)*) => {$(
        $(#[doc = $doc])*
        #[tokio::test]
        async fn $name() {
            let fixture = fixture();
            $(
                let expected: Vec<&str> = vec![$($path),*];
                assert_eq!(fixture.paths($filter).await, expected, "{}", $filter);
            )+
        }
    )*};
}

filters! {
    timeline:
        "start_time >= '2000-01-01' and start_time < '2100-01-01'"
            => ["/shop", "/api/none", "/logo.png"],
        "start_time < '2000-01-01'" => [];
    /// A request has a level when one of its spans does; 4xx is a warning, 5xx an error.
    level:
        "level = 'error'" => ["/shop"],
        "level = 'info'" => ["/shop", "/logo.png"],
        "level in ('warning', 'error')" => ["/shop", "/api/none"],
        "level = 'warning'" => ["/api/none"],
        "level >= 'warning'" => ["/shop", "/api/none"],
        "level > 'warning'" => ["/shop"],
        "level < 'warning'" => ["/shop", "/logo.png"],
        "level not between 'warning' and 'error'" => ["/logo.png"],
        "level > 'fatal'" => [],
        "any(level > 'info')" => ["/shop", "/api/none"],
        "level != 'info'" => ["/api/none"],
        "level not in ('error', 'warning')" => ["/logo.png"],
        "not (level = 'error')" => ["/api/none", "/logo.png"];
    function:
        "function = '/shop.func'" => ["/shop"],
        "function is null" => ["/api/none", "/logo.png"],
        "function is not null" => ["/shop"],
        "starts_with(function, '/shop')" => ["/shop"];
    /// The host of a client span is the remote side, so only the root's counts.
    host:
        "host = 'shop.example.com'" => ["/shop", "/logo.png"],
        "host like '%.example.com'" => ["/shop", "/api/none", "/logo.png"],
        "host = 'db.internal'" => [];
    deployment:
        "deployment_id = 'dpl_2'" => ["/api/none"];
    resource:
        "resource = 'edge-function'" => ["/api/none"],
        "resource in ('serverless', 'static')" => ["/shop", "/logo.png"],
        "resource ~ '^edge'" => ["/api/none"],
        "resource !~ '^edge'" => ["/shop", "/logo.png"],
        "resource not like 's%'" => ["/api/none"];
    request_type:
        "request_type = 'func'" => ["/shop"],
        "request_type = 'api'" => ["/api/none"];
    request_method:
        "method = 'GET'" => ["/shop", "/logo.png"];
    request_path:
        "path = '/shop'" => ["/shop"],
        "contains(path, 'o')" => ["/shop", "/api/none", "/logo.png"];
    route:
        "route = '/[page]'" => ["/shop"];
    cache:
        "cache = 'HIT'" => ["/logo.png"],
        "cache is null" => ["/api/none"];
    cache_reason:
        "cache_reason = 'cold'" => ["/shop"];
    /// The person icon: the address and the user agent of the viewer.
    requests_of_your_browser:
        "client_address = '203.0.113.7' and user_agent = 'Mozilla/5.0'" => ["/shop"];
    status:
        "status_code = 404" => ["/api/none"],
        "status_code = '4xx'" => ["/api/none"],
        "status_code < 300" => ["/shop", "/logo.png"];
    request_id:
        "request_id = 'req_2'" => ["/api/none"];
    environment:
        "environment = 'production'" => ["/shop"];
    branch:
        "branch in ('main', 'next')" => ["/shop", "/api/none"];
    project:
        "project_id = 'prj_1'" => ["/shop"];
    region:
        "region = 'iad1'" => ["/shop"];
    session:
        "session_id = 'ses_1'" => ["/shop", "/api/none"],
        "session_id = 'ses_1' and has_trace" => ["/shop", "/api/none"];
    user:
        "user_id = 'ada'" => ["/shop"];
    trace:
        "has_trace" => ["/shop", "/api/none", "/logo.png"],
        "not has_trace" => [],
        "has_root" => ["/shop", "/logo.png"],
        "complete is false" => ["/api/none"];
    service:
        "service = 'db'" => ["/shop"],
        "service = 'web' or service = 'edge'" => ["/shop", "/logo.png"],
        "service != 'db'" => ["/api/none", "/logo.png"],
        "lower(service) = 'db'" => ["/shop"],
        "'db' = service" => ["/shop"];
    counts_and_durations:
        "spans > 1" => ["/shop"],
        "errors = 1 and warnings = 0" => ["/shop"],
        "duration >= '2s'" => ["/logo.png"],
        "cold_start" => ["/shop"];
    some_span:
        "any(service = 'db' and level = 'error')" => ["/shop"],
        "any(service = 'web' and level = 'error')" => [],
        "not any(level = 'error')" => ["/api/none", "/logo.png"],
        "status_code < 300 and any(duration > '1s') and not any(name like 'db%')"
            => ["/logo.png"],
        "any(attributes['vercel.cache'] = 'HIT') or any(has(attributes, 'faas.name'))"
            => ["/shop", "/logo.png"],
        "any(resource['service.name'] = 'api')" => ["/api/none"],
        "any(parent_span_id is not null) and not (any(kind = 'client') or path = '/x')"
            => ["/api/none"],
        "any(true)" => ["/shop", "/api/none", "/logo.png"],
        "any(false)" => [];
}

#[test]
fn what_a_request_has_not_is_refused_with_a_hint() {
    let fixture = fixture();
    for (filter, hint) in [
        ("attributes['a'] = 'b'", "any(attributes['key'] = 'value')"),
        ("has(attributes, 'a')", "any(attributes['key'] = 'value')"),
        ("has('a')", "any(attributes['key'] = 'value')"),
        ("has(resource, 'a')", "any(attributes['key'] = 'value')"),
        ("resource['a'] = 'b'", "any(attributes['key'] = 'value')"),
        ("any(any(level = 'error'))", "a condition on one span"),
        ("any(level = 'error') is true", "`and`, `or` and `not`"),
        ("any(level = 'error') = true", "`and`, `or` and `not`"),
        ("(level = 'error') is not false", "`and`, `or` and `not`"),
        ("any(spans > 1)", "unknown column `spans`"),
        ("span_id = '01'", "unknown column `span_id`"),
        ("sesion_id = 'a'", "session_id"),
        ("any(", "a column, a literal or a condition"),
        ("any()", "a column, a literal or a condition"),
        ("any(level = 'error'", "`)`"),
        ("\"any 0\"", "unknown column `any 0`"),
    ] {
        let refusal = fixture.refusal(filter);
        assert!(refusal.contains(hint), "{filter}: {refusal}");
    }
    // A filter over spans has no requests.
    let refusal = fixture.team.query().filter("any(level = 'error')");
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.contains("a condition on one span"), "{refusal}");
}
