//! Random filters and pages over requests whose spans lie on both sides of a month's end, in
//! segments and in memory, some forgotten or beyond a horizon.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use spanstore::Store;
use spanstore_test_support::{NOW, open, team};

use super::spans::{Request, Span, append, requests, rows};
use super::{MILLI, ORDERS, random};

/// The start of the month.
const MONTH: i64 = NOW - 14 * 86_400_000 * MILLI;

/// Whether a request fulfils a filter: true, false or null.
type Holds = Box<dyn Fn(&Request) -> Option<bool>>;

fn always(holds: impl Fn(&Request) -> bool + 'static) -> Holds {
    Box::new(move |request| Some(holds(request)))
}

fn equals(column: &'static str, value: String) -> (String, Holds) {
    let text = format!("{column} = '{value}'");
    let holds = move |request: &Request| request.text(column).map(|text| text == value);
    (text, Box::new(holds))
}

fn truth(column: &'static str) -> (String, Holds) {
    let holds = move |request: &Request| request.text(column).map(|text| text == "true");
    (column.into(), Box::new(holds))
}

fn ends(span: &Span, column: &str, ends: &[char]) -> bool {
    let text = span.texts.get(column);
    text.is_some_and(|text| text.ends_with(ends))
}

fn condition(random: &mut StdRng) -> (String, Holds) {
    let few = random.random_range(0..8);
    let time = MONTH + random.random_range(-30..30) * 7 * MILLI;
    let (text, holds) = match random.random_range(0..19) {
        0 => (
            "level = 'fatal'",
            always(|one| one.any(|span| span.level() == "fatal")),
        ),
        1 => (
            "level != 'warning'",
            always(|one| !one.any(|span| span.level() == "warning")),
        ),
        2 => (
            "service not in ('db', 'x')",
            always(|one| !one.any(|span| span.service == Some("db"))),
        ),
        3 => (
            "service is null",
            always(|one| !one.any(|span| span.service.is_some())),
        ),
        4 => (
            "any(service is null)",
            always(|one| one.any(|span| span.service.is_none())),
        ),
        5 => (
            "resource not like '%1'",
            always(|one| !one.any(|span| ends(span, "resource", &['1']))),
        ),
        6 => (
            "function !~ '[02]$'",
            always(|one| !one.any(|span| ends(span, "function", &['0', '2']))),
        ),
        7 => (
            "spans between 2 and 6",
            always(|one| (2..=6).contains(&one.number("spans"))),
        ),
        8 => (
            "any(duration >= '15ms' and not (kind = 'server' or method = 'method 1'))",
            always(|one| {
                one.any(|span| {
                    let method = span.texts.get("method");
                    let is_other = method.is_some_and(|method| method != "method 1");
                    span.duration >= 15 * MILLI && span.kind != 2 && is_other
                })
            }),
        ),
        9 => {
            let is_above = |request: &Request| {
                let code = request.text("status_code")?;
                Some(code.parse::<i64>().unwrap() > 300)
            };
            ("status_code > 300", Box::new(is_above) as Holds)
        }
        10 => return truth("cold_start"),
        11 => return truth("complete"),
        12 => return truth("split"),
        13 => return equals("method", format!("method {}", few % 3)),
        14 => return equals("session_id", format!("session_id {few}")),
        15 => return equals("request_id", format!("request_id {few}")),
        16 => {
            let holds = always(move |one| one.number("start_time") < time);
            return (format!("start_time < {time}"), holds);
        }
        17 => {
            let value = format!("session_id {few}");
            let text = format!("any(session_id = '{value}')");
            let has = move |span: &Span| span.texts.get("session_id") == Some(&value);
            return (text, always(move |one| one.any(&has)));
        }
        _ => {
            let text = format!("any(start_time >= {time} and request_id is not null)");
            let has =
                move |span: &Span| span.start >= time && span.texts.contains_key("request_id");
            return (text, always(move |one| one.any(has)));
        }
    };
    (text.into(), holds)
}

fn filter(random: &mut StdRng, depth: u32) -> (String, Holds) {
    if depth == 0 || random.random_bool(0.2) {
        return condition(random);
    }
    let (text, holds) = filter(random, depth - 1);
    if random.random_bool(0.2) {
        let negated = move |request: &Request| holds(request).map(|truth| !truth);
        return (format!("not ({text})"), Box::new(negated));
    }
    let (other, other_holds) = filter(random, depth - 1);
    let is_and = random.random_bool(0.5);
    let word = if is_and { "and" } else { "or" };
    let both = move |request: &Request| match (holds(request), other_holds(request)) {
        (Some(one), Some(two)) => Some(if is_and { one && two } else { one || two }),
        // What decides alone does so beside null.
        (Some(truth), None) | (None, Some(truth)) if truth != is_and => Some(truth),
        _ => None,
    };
    (format!("({text}) {word} ({other})"), Box::new(both))
}

/// Random spans about the end of the month before.
fn spans(random_numbers: &mut StdRng, first: u64, count: u64) -> Vec<Span> {
    let ids = first..first + count;
    // Some of the traces have spans that come later too.
    let traces = first / 2..first / 2 + 200;
    ids.map(|id| Span {
        trace: random_numbers.random_range(traces.clone()),
        start: MONTH + random_numbers.random_range(-40..40) * 5 * MILLI,
        ..random(random_numbers, id)
    })
    .collect()
}

/// Where a span lies: seals and the months of their segments; all of memory is one place.
fn place(span: &Span, part: usize) -> (usize, bool) {
    const MEMORY: usize = 3;
    (part.min(MEMORY), part < MEMORY && span.start >= MONTH)
}

#[tokio::test]
async fn random_filters_find_what_a_naive_look_finds() {
    let mut source = StdRng::seed_from_u64(1);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    let mut all: Vec<(Span, usize)> = Vec::new();
    for part in 0..5 {
        let spans = spans(&mut source, all.len() as u64 + 1, 300);
        for spans in spans.chunks(70) {
            append(&acme, spans);
            append(&store.team(&team("other")), &spans[..20]);
        }
        all.extend(spans.into_iter().map(|span| (span, part)));
        if part < 3 {
            store.seal().unwrap();
        }
    }
    for round in 0..4 {
        let mut seen = all.clone();
        match round {
            1 => {
                let horizon = MONTH - 33 * MILLI;
                let kept = Duration::from_nanos((NOW - horizon).cast_unsigned());
                acme.set_retention(Some(kept)).unwrap();
                seen.retain(|(span, _)| span.start >= horizon);
            }
            2 => {
                acme.set_retention(None).unwrap();
                // Forgetting seals, and the second time nothing is in memory.
                let forgotten = ["session_id 3", "session_id 20"];
                for session in forgotten {
                    acme.forget_session(session).unwrap();
                }
                all.retain(|(span, _)| {
                    let session = span.texts.get("session_id");
                    !session.is_some_and(|session| forgotten.contains(&session.as_str()))
                });
                seen = all.clone();
            }
            3 => {
                store.seal().unwrap();
                store.compact().unwrap();
            }
            _ => {}
        }
        let mut places: HashMap<u64, BTreeSet<(usize, bool)>> = HashMap::new();
        for (span, part) in &seen {
            let place = match round {
                // What was in memory lies in the segments of one seal.
                2 => ((*part).min(3), span.start >= MONTH),
                3 => (0, span.start >= MONTH),
                _ => place(span, *part),
            };
            places.entry(span.trace).or_default().insert(place);
        }
        let seen: Vec<Span> = seen.into_iter().map(|(span, _)| span).collect();
        let expected = requests(&seen, |trace| places[&trace].len() > 1);
        let mut found = rows(&acme.requests().collect().await.unwrap());
        found.sort_by_key(|row| row["trace_id"].clone());
        assert_eq!(found.len(), expected.len());
        assert!(
            found
                .iter()
                .eq(expected.iter().map(|request| &request.columns))
        );
        for _ in 0..120 {
            let (text, holds) = filter(&mut source, 3);
            let expected = expected.iter().filter(|one| holds(one) == Some(true));
            let expected: BTreeSet<&str> =
                expected.filter_map(|one| one.text("trace_id")).collect();
            let query = acme.requests().filter(&text).unwrap();
            let found = query
                .columns(["trace_id"])
                .unwrap()
                .collect()
                .await
                .unwrap();
            let found = rows(&found);
            let found: BTreeSet<&str> = found.iter().map(|row| row["trace_id"].as_str()).collect();
            assert_eq!(found, expected, "round {round}: {text}");
        }
    }
}

#[tokio::test]
async fn random_pages_show_what_the_first_one_saw_also_when_reopened() {
    let mut source = StdRng::seed_from_u64(1_001);
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let acme = |store: &Store| store.team(&team("acme"));
    append(&acme(&store), &spans(&mut source, 1, 300));
    store.seal().unwrap();
    append(&acme(&store), &spans(&mut source, 301, 200));
    let mut next_id = 501;
    for _ in 0..14 {
        let order = ORDERS[source.random_range(0..ORDERS.len())];
        let text = loop {
            let (text, _) = filter(&mut source, 2);
            if !text.contains("split") {
                break text;
            }
        };
        let size = source.random_range(1..40);
        let query = |store: &Store| {
            let query = acme(store).requests().filter(&text).unwrap();
            query.order(order)
        };
        let without_split = |mut row: std::collections::BTreeMap<String, String>| {
            row.remove("split");
            row
        };
        let expected = rows(&query(&store).collect().await.unwrap()).into_iter();
        let expected: Vec<_> = expected.map(without_split).collect();
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = query(&store).limit(size);
            let page = page.page_with_total(cursor.as_deref()).await.unwrap();
            assert_eq!(page.total, Some(expected.len() as u64), "{text}");
            found.extend(rows(&[page.rows]).into_iter().map(without_split));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            match source.random_range(0..8) {
                0..4 => {
                    append(&acme(&store), &spans(&mut source, next_id, 20));
                    next_id += 20;
                }
                4 => drop(store.seal().unwrap()),
                5 => drop(store.compact().unwrap()),
                6 => {
                    if source.random_bool(0.5) {
                        store.close().unwrap();
                    } else {
                        drop(store);
                    }
                    store = open(directory.path());
                }
                _ => {}
            }
        }
        assert!(found == expected, "{order:?} of {text}");
    }
}
