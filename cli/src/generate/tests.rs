use std::collections::{HashMap, HashSet};
use std::ops::Range;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use proptest::prelude::*;
use prost::Message;
use spanstore_format::otlp::{Span, Value};
use spanstore_format::span::Origin;

use super::*;

const START: i64 = 1_795_000_000_000_000_000;

fn spans(requests: &[ExportTraceServiceRequest]) -> impl Iterator<Item = &Span> {
    requests
        .iter()
        .flat_map(|request| &request.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
}

fn make(seed: u64, start: i64, count: u64) -> Vec<ExportTraceServiceRequest> {
    Application::new(seed, start).requests(count).collect()
}

fn text_of(span: &Span, key: &str) -> Option<String> {
    let attribute = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn integer_of(span: &Span, key: &str) -> Option<i64> {
    let mut attributes = span.attributes.iter();
    let attribute = attributes.find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bytes = |requests: &[ExportTraceServiceRequest]| {
        requests
            .iter()
            .flat_map(Message::encode_to_vec)
            .collect::<Vec<_>>()
    };
    let first = make(7, START, 5_000);
    assert_eq!(bytes(&first), bytes(&make(7, START, 5_000)));
    assert_ne!(bytes(&first), bytes(&make(8, START, 5_000)));
}

#[test]
fn another_start_moves_the_same_spans() {
    let ids = |requests: &[ExportTraceServiceRequest]| {
        spans(requests)
            .map(|span| {
                (
                    span.trace_id.clone(),
                    span.span_id.clone(),
                    span.name.clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let (first, moved) = (make(3, START, 2_000), make(3, START + DAY, 2_000));
    assert_eq!(ids(&first), ids(&moved));
    for (span, moved) in spans(&first).zip(spans(&moved)) {
        assert_eq!(
            moved.start_time_unix_nano - span.start_time_unix_nano,
            DAY as u64
        );
        assert_eq!(
            moved.end_time_unix_nano - span.end_time_unix_nano,
            DAY as u64
        );
    }
}

#[test]
fn it_looks_like_the_real_thing() {
    let requests = make(1, START, 50_000);
    let all: Vec<_> = spans(&requests).collect();
    let share = |count: usize| count as f64 / all.len() as f64;

    let attributes: usize = all.iter().map(|span| span.attributes.len()).sum();
    assert!(
        (10.5..13.5).contains(&share(attributes)),
        "{} attributes a span",
        share(attributes)
    );
    let is_error = |span: &Span| {
        span.status
            .as_ref()
            .is_some_and(|status| status.code == StatusCode::Error as i32)
    };
    let errors = all.iter().filter(|span| is_error(span)).count();
    assert!(
        (0.025..0.035).contains(&share(errors)),
        "{} of the spans fail",
        share(errors)
    );
    let events = all.iter().filter(|span| !span.events.is_empty()).count();
    assert!(events * 4 > errors && events <= errors, "{events} events");
    assert!(all.iter().any(|span| !span.links.is_empty()));

    let traces: HashSet<_> = all.iter().map(|span| &span.trace_id).collect();
    assert!(
        (7.0..14.0).contains(&(all.len() as f64 / traces.len() as f64)),
        "{}",
        traces.len()
    );
    let sessions: HashSet<_> = all
        .iter()
        .filter_map(|span| text_of(span, "session.id"))
        .collect();
    assert!((3.0..20.0).contains(&(traces.len() as f64 / sessions.len() as f64)));

    let mut routes = HashMap::new();
    for span in all.iter().filter(|span| span.parent_span_id.is_empty()) {
        *routes
            .entry(text_of(span, "http.route").unwrap())
            .or_insert(0_u32) += 1;
    }
    let templates: HashSet<_> = ROUTES.iter().map(|route| route.template).collect();
    assert_eq!(routes.len(), templates.len());
    assert!(routes["/products/[slug]"] > 5 * routes["/account/orders"]);

    let caches: HashSet<_> = all
        .iter()
        .filter_map(|span| text_of(span, "vercel.cache"))
        .collect();
    assert_eq!(caches.len(), 6, "{caches:?}");
    for name in [
        "Start VM",
        "Spawn Node.js",
        "Spawn Python",
        "Init User Code",
        "Resolve Cache",
        "waitUntil",
    ] {
        assert!(all.iter().any(|span| span.name == name), "{name}");
    }
}

#[test]
fn every_origin_is_there() {
    let requests = make(1, START, 10_000);
    let mut origins = HashMap::new();
    for resource in requests.iter().flat_map(|request| &request.resource_spans) {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let service = attributes
            .iter()
            .find(|attribute| attribute.key == "service.name")
            .unwrap();
        let Some(Value::StringValue(service)) = &service.value.as_ref().unwrap().value else {
            panic!("a service without a name")
        };
        for scope in &resource.scope_spans {
            let name = &scope.scope.as_ref().unwrap().name;
            for span in &scope.spans {
                let origin =
                    Origin::of(Some(service), name, &span.name, span.kind, &span.attributes);
                *origins.entry(origin.as_str()).or_insert(0_usize) += 1;
                assert_eq!(
                    origin == Origin::Infra,
                    service.starts_with("vercel."),
                    "{}",
                    span.name
                );
            }
        }
    }
    for origin in ["infra", "framework", "user", "fetch"] {
        assert!(
            origins.get(origin).is_some_and(|count| *count > 300),
            "{origins:?}"
        );
    }
}

#[test]
fn spans_are_sound() {
    let requests = make(5, START, 20_000);
    let ids: HashSet<_> = spans(&requests)
        .map(|span| (&span.trace_id, &span.span_id))
        .collect();
    assert_eq!(ids.len(), 20_000, "ids repeat");
    let roots = spans(&requests).filter(|span| span.parent_span_id.is_empty());
    let with_root: HashSet<_> = roots.map(|span| &span.trace_id).collect();
    let mut keys = HashSet::new();
    for span in spans(&requests) {
        let start = span.start_time_unix_nano as i64;
        assert!((START..START + DAY + 60 * SECOND).contains(&start));
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        let is_below = ids.contains(&(&span.trace_id, &span.parent_span_id));
        // Below a root that was lost there is none that requests would take for the root.
        let is_server = span.kind == i32::from(SpanKind::Server);
        let is_orphan = !with_root.contains(&span.trace_id) && !is_server;
        assert!(
            span.parent_span_id.is_empty() || is_below || is_orphan,
            "{} has no parent",
            span.name
        );
        keys.clear();
        assert!(
            span.attributes
                .iter()
                .all(|attribute| keys.insert(&attribute.key)),
            "{}",
            span.name
        );
        let request_id = text_of(span, "vercel.request_id").unwrap();
        let millis: i64 = request_id.split('-').nth(1).unwrap().parse().unwrap();
        assert!(
            (START / 1_000_000..=start / 1_000_000).contains(&millis),
            "{request_id}"
        );
    }
}

#[test]
fn some_spans_come_in_a_later_document_than_their_trace() {
    let requests = make(2, START, 20_000);
    let mut first_seen = HashMap::new();
    let mut late = 0;
    for (document, request) in requests.iter().enumerate() {
        for span in spans(std::slice::from_ref(request)) {
            late += u32::from(*first_seen.entry(&span.trace_id).or_insert(document) < document);
        }
    }
    assert!((100..1_000).contains(&late), "{late}");
}

#[test]
fn a_few_traces_are_unusual() {
    let requests = make(2, START, 50_000);
    let mut traces: HashMap<_, Vec<&Span>> = HashMap::new();
    for span in spans(&requests) {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    let count = |is: &dyn Fn(&[&Span]) -> bool| traces.values().filter(|spans| is(spans)).count();
    let values = |spans: &[&Span], key: &str| -> HashSet<Option<String>> {
        spans.iter().map(|span| text_of(span, key)).collect()
    };
    let has_status = |spans: &[&Span], range: Range<i64>| {
        let status = |span: &&Span| integer_of(span, "http.response.status_code");
        spans
            .iter()
            .filter_map(status)
            .any(|status| range.contains(&status))
    };
    let roots = |span: &&Span| span.parent_span_id.is_empty();
    for (what, found) in [
        ("without a root", count(&|spans| !spans.iter().any(roots))),
        (
            "with two request ids",
            count(&|spans| values(spans, "vercel.request_id").len() == 2),
        ),
        (
            "whose session begins within",
            count(&|spans| values(spans, "session.id").len() == 2),
        ),
        (
            "with warnings beside errors",
            count(&|spans| has_status(spans, 400..500) && has_status(spans, 500..600)),
        ),
    ] {
        assert!((10..traces.len() / 20).contains(&found), "{found} {what}");
    }
}

#[test]
fn documents_have_a_sensible_size() {
    let requests = make(2, START, 20_000);
    let sizes: Vec<_> = requests
        .iter()
        .map(|request| spans(std::slice::from_ref(request)).count())
        .collect();
    let (_, all_but_last) = sizes.split_last().unwrap();
    assert!(
        all_but_last.iter().all(|size| (100..600).contains(size)),
        "{sizes:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn there_are_exactly_as_many_spans_as_asked_for(
        seed in any::<u64>(), count in 0_u64..1_500, period in 1_i64..DAY
    ) {
        let requests: Vec<_> = Application::new(seed, START).over(period).requests(count).collect();
        prop_assert_eq!(spans(&requests).count() as u64, count);
    }
}
