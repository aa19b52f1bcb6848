//! The query of a permalink is the one that a caller would have made.

use spanstore::query::{ListView, Order, Rows, View};
use spanstore::{Error, Team};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{NOW, open, team};

use crate::requests::rows;

async fn shown(team: &Team, text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let Ok(View::List(list)) = text.parse() else {
        panic!("{text}");
    };
    rows(&team.list(&list).unwrap().collect().await.unwrap())
}

#[tokio::test]
async fn a_list_shows_what_its_text_says() {
    let directory = tempfile::tempdir().unwrap();
    let acme = open(directory.path()).team(&team("acme"));
    acme.append(request((0..300).map(span))).unwrap();
    let first = NOW - 3_600_000_000_000;
    let (since, until) = (first + 100_000_000, first + 200_000_000);
    let text = format!(
        "spans?filter=method%20%3D%20%27GET%27&since={since}&until={until}&order=slowest&\
         columns=duration,name"
    );
    let query = acme.query().filter("method = 'GET'").unwrap();
    let query = query.since(since).until(until).order(Order::SlowestFirst);
    let query = query.columns(["duration", "name"]).unwrap();
    let expected = rows(&query.collect().await.unwrap());
    assert_eq!(expected.len(), 50);
    assert_eq!(shown(&acme, &text).await, expected);
    let all = rows(&acme.requests().collect().await.unwrap());
    assert_eq!(all.len(), 30);
    assert_eq!(shown(&acme, "requests").await, all);
    for (filter, columns) in [("level =", vec![]), ("", vec!["none".into()])] {
        let list = ListView {
            filter: filter.into(),
            columns,
            ..ListView::new(Rows::Spans)
        };
        let refused = acme.list(&list).unwrap_err();
        match filter {
            "" => assert!(matches!(refused, Error::UnknownColumn { .. }), "{refused}"),
            _ => assert!(matches!(refused, Error::InvalidFilter(_)), "{refused}"),
        }
    }
}
