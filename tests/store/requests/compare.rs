//! What tells two sets of requests apart is what a naive look at every request finds.

use rand::SeedableRng;
use rand::rngs::StdRng;
use spanstore_test_support::{open, team};

use super::random;
use super::spans::{Request, Span, append, requests};
use crate::compare::{Values, check_filters, compared, said};

/// The columns that are compared, in the order of the table.
const COLUMNS: [&str; 15] = [
    "name",
    "service",
    "origin",
    "method",
    "host",
    "route",
    "status_code",
    "request_type",
    "resource",
    "cache",
    "environment",
    "deployment_id",
    "branch",
    "region",
    "level",
];

/// The values of a request as filters mean the columns.
fn values(request: &Values, column: &str) -> Vec<Option<String>> {
    let list = match column {
        "service" => &request["services"],
        "resource" => &request["resources"],
        _ => return vec![request.get(column).cloned()],
    };
    let values: Vec<String> = serde_json::from_str(list).unwrap();
    if values.is_empty() {
        return vec![None];
    }
    values.into_iter().map(Some).collect()
}

/// A filter, and the requests that it finds.
type Part = (&'static str, fn(&Request) -> bool);

const PARTS: [(Part, Part); 4] = [
    (
        ("errors > 0", |one| one.number("errors") > 0),
        ("errors = 0", |one| one.number("errors") == 0),
    ),
    (
        ("service = 'db'", |one| {
            one.any(|span| span.service == Some("db"))
        }),
        ("true", |_| true),
    ),
    (
        ("not any(kind = 'server') and spans < 6", |one| {
            !one.any(|span| span.kind == 2) && one.spans.len() < 6
        }),
        ("method is null", |one| one.text("method").is_none()),
    ),
    (
        ("level = 'warning'", |one| {
            one.any(|span| span.level() == "warning")
        }),
        ("level = 'fatal'", |one| {
            one.any(|span| span.level() == "fatal")
        }),
    ),
];

#[tokio::test]
async fn differences_are_those_of_a_naive_look_at_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let columns = COLUMNS.map(str::to_owned);
    let mut source = StdRng::seed_from_u64(18);
    let mut all: Vec<Span> = Vec::new();
    for state in ["in memory", "sealed and in memory", "merged and in memory"] {
        let first = all.len() as u64 + 1;
        let spans = (first..first + 400).map(|id| random(&mut source, id));
        let spans: Vec<Span> = spans.collect();
        append(&acme, &spans);
        all.extend(spans);
        let seen = requests(&all, |_| false);
        for ((text, holds), (other_text, other_holds)) in PARTS {
            let query = |text| acme.requests().filter(text).unwrap();
            let part = |holds: fn(&Request) -> bool| -> Vec<&Values> {
                let found = seen.iter().filter(|request| holds(request));
                found.map(|request| &request.columns).collect()
            };
            let (one, other) = (part(holds), part(other_holds));
            let comparison = query(text).compare(query(other_text), 1_000).await.unwrap();
            let sizes = (comparison.spans, comparison.other_spans);
            assert_eq!(sizes, (one.len() as u64, other.len() as u64), "{state}");
            let expected = compared(&one, &other, &columns, values);
            assert!(expected.len() > 10, "{state}, {text}");
            assert_eq!(said(&comparison), expected, "{state}, {text}");
            check_filters(&comparison, &query(text), &query(other_text)).await;
        }
        store.seal().unwrap();
        store.compact().unwrap();
    }
}
