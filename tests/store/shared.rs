//! Resources and scopes are there once, however many spans have them.

use std::path::Path;

use arrow::array::RecordBatch;
use prost::Message;
use spanstore::otlp::{ExportTraceServiceRequest, KeyValue, ResourceSpans, ScopeSpans, Span};
use spanstore::{Store, Team, TraceId};
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::summarize;
use spanstore_test_support::spans::{request, span, text, trace_id};
use spanstore_test_support::{open_with, segment_path, team, without_repeats};

const SPANS: u64 = 20_000;

fn open(path: &Path) -> Store {
    open_with(path, without_repeats())
}

/// Spans with the largest resource and the largest scope that are accepted.
fn large(numbers: std::ops::Range<u64>) -> ExportTraceServiceRequest {
    let fill = |key: &str| text(key, &key.repeat(65_480));
    let mut large = request(numbers.map(span));
    let of_resource = &mut large.resource_spans[0];
    of_resource.resource.as_mut().unwrap().attributes = vec![fill("r")];
    of_resource.schema_url = "https://example.test/resource".into();
    let of_scope = &mut of_resource.scope_spans[0];
    of_scope.scope.as_mut().unwrap().attributes = vec![fill("s")];
    of_scope.schema_url = "https://example.test/scope".into();
    large
}

fn bytes_below(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => bytes_below(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

/// All spans of a team, with what they share, in the order of their ids.
fn exported(team: &Team) -> Vec<(ScopeSpans, String, Span)> {
    let mut all = Vec::new();
    for chunk in team.export().unwrap() {
        let chunk = chunk.unwrap();
        // The columns of all rows share the bytes.
        let memory: usize = chunk
            .batches()
            .iter()
            .map(RecordBatch::get_array_memory_size)
            .sum();
        assert!(memory < 64 << 20, "{memory} bytes of {} spans", chunk.len());
        for resource in chunk.to_otlp().unwrap().resource_spans {
            let is_whole = |attributes: &[KeyValue]| {
                attributes.len() == 1 && attributes[0].encoded_len() > 65_480
            };
            assert!(is_whole(&resource.resource.unwrap().attributes));
            for mut scope in resource.scope_spans {
                // 64 KiB for each span would take more than a gigabyte here.
                let attributes = &mut scope.scope.as_mut().unwrap().attributes;
                assert!(is_whole(attributes));
                attributes.clear();
                let spans = std::mem::take(&mut scope.spans);
                let url = resource.schema_url.clone();
                all.extend(
                    spans
                        .into_iter()
                        .map(|span| (scope.clone(), url.clone(), span)),
                );
            }
        }
    }
    all.sort_by(|one, other| one.2.span_id.cmp(&other.2.span_id));
    all
}

#[test]
fn one_large_resource_of_many_spans_costs_its_bytes_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let acme = store.team(&team("acme"));
    let receipt = acme.append(large(0..SPANS)).unwrap();
    assert_eq!(receipt.accepted, SPANS);
    let spans: u64 = (0..SPANS).map(|n| span(n).encoded_len() as u64 + 4).sum();
    let log = bytes_below(&directory.path().join("log"));
    assert!(log < spans + (300 << 10), "{log} bytes of log for {spans}");
    let expected = exported(&acme);
    assert_eq!(expected.len() as u64, SPANS);
    assert_eq!(expected[0].1, "https://example.test/resource");
    assert_eq!(expected[0].0.schema_url, "https://example.test/scope");
    let seal = |store: &Store| store.seal().unwrap().segments[0].bytes;
    // The same text over and over compresses to nearly nothing.
    let first = seal(&store);
    assert!(first < SPANS * 60, "{first} bytes");
    assert!(exported(&acme) == expected, "sealed");
    // A part of them comes again: the merge compares whole rows.
    drop(acme);
    store.close().unwrap();
    store = open(directory.path());
    let acme = store.team(&team("acme"));
    acme.append(large(0..SPANS / 2)).unwrap();
    seal(&store);
    let report = store.compact().unwrap();
    assert_eq!((report.segments_after, report.rows_removed), (1, SPANS / 2));
    assert!(exported(&acme) == expected, "merged");
    assert_eq!(acme.trace(TraceId(trace_id(7))).unwrap().len(), 10);
    let segments = bytes_below(&directory.path().join("segments"));
    assert!(segments < first * 5 / 4, "{segments} bytes, {first} before");
    assert_eq!(store.check().unwrap().damage, []);
}

/// Many different ones: the file has each once, in the order of their first rows.
#[tokio::test]
async fn each_resource_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    for n in 0..300 {
        let mut one = request((n * 5..n * 5 + 5).map(span));
        let resource = one.resource_spans[0].resource.as_mut().unwrap();
        // 100 of them, 1 KiB each; each batch has one.
        let name = format!("{:x<1000}", n % 100);
        resource.attributes.push(text("instance", &name));
        acme.append(one).unwrap();
    }
    store.seal().unwrap();
    let summary = store.segments().remove(0);
    let path = directory.path().join(segment_path(&summary));
    let file = bytes::Bytes::from(std::fs::read(path).unwrap());
    let summary = summarize(&file).unwrap();
    let reader = SegmentReader::open(file, summary).unwrap();
    let shared = reader.shared().unwrap();
    let counts = shared.iter().map(|one| one.as_ref().unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [100, 1]);
    for (n, expected) in [(0u64, 15), (99, 15), (100, 0)] {
        let name = format!("{n:x<1000}");
        let filter = format!("resource['instance'] = '{name}'");
        let query = acme.query().filter(&filter).unwrap();
        assert_eq!(query.count().await.unwrap(), expected, "{n}");
    }
}

/// For each span what it shares with others.
fn shared_of_spans(of_resource: &ResourceSpans) -> impl Iterator<Item = String> {
    of_resource.scope_spans.iter().flat_map(|of_scope| {
        let resource = (&of_resource.resource, &of_resource.schema_url);
        let shared = format!("{resource:?} {:?} {}", of_scope.scope, of_scope.schema_url);
        std::iter::repeat_n(shared, of_scope.spans.len())
    })
}

/// Spans that differ in what they share alone are no copies of each other.
#[test]
fn a_merge_keeps_spans_of_different_resources_and_scopes() {
    let directory = tempfile::tempdir().unwrap();
    let change = |number: usize| {
        let mut request = request((0..10).map(span));
        let resource = &mut request.resource_spans[0];
        match number {
            0 => resource
                .resource
                .as_mut()
                .unwrap()
                .attributes
                .push(text("k", "v")),
            1 => resource.schema_url = "u".into(),
            2 => resource.scope_spans[0].schema_url = "u".into(),
            3 => resource.scope_spans[0].scope.as_mut().unwrap().version = "2".into(),
            4 => resource.scope_spans[0].scope = None,
            _ => {}
        }
        request
    };
    // What was sealed is not known any more: the last ones are copies of the first.
    for number in [5, 0, 1, 2, 3, 4, 5] {
        let store = open(directory.path());
        store.team(&team("acme")).append(change(number)).unwrap();
        store.seal().unwrap();
        store.close().unwrap();
    }
    let store = open(directory.path());
    let report = store.compact().unwrap();
    assert_eq!((report.segments_after, report.rows_removed), (1, 10));
    let acme = store.team(&team("acme"));
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for chunk in acme.export().unwrap() {
        for resource in chunk.unwrap().to_otlp().unwrap().resource_spans {
            found.extend(shared_of_spans(&resource));
        }
    }
    for number in 0..6 {
        expected.extend(shared_of_spans(&change(number).resource_spans[0]));
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// Conditions on resources say the same of rows in memory, of rows that are read and
/// of indexes; rows without a resource among them.
#[tokio::test]
async fn conditions_on_resources_are_the_same_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let teams = [("large", 9_000u64), ("small", 90)];
    for (name, count) in teams {
        let handle = store.team(&team(name));
        for part in 0..3 {
            let spans = (0..count).filter(|n| n / 10 % 3 == part).map(span);
            let mut one = request(spans);
            match part {
                0 => one.resource_spans[0].resource = None,
                1 => {
                    let resource = one.resource_spans[0].resource.as_mut().unwrap();
                    resource.attributes.push(text("zone", "a"));
                }
                _ => {}
            }
            handle.append(one).unwrap();
        }
    }
    let filters = [
        ("resource['zone'] = 'a'", 1),
        ("resource['zone'] != 'b'", 1),
        ("resource['zone'] is null", 2),
        ("resource['zone'] is not null", 1),
        ("has(resource, 'zone')", 1),
        ("not has(resource, 'zone')", 2),
        ("not has(resource, 'service.name')", 1),
        ("not (resource['zone'] = 'a')", 0),
        (
            "resource['zone'] = 'a' or resource['service.name'] is null",
            2,
        ),
        ("resource['service.name'] > 5", 0),
    ];
    for state in ["hot", "sealed"] {
        for (name, count) in teams {
            for (filter, thirds) in filters {
                let query = store.team(&team(name)).query().filter(filter).unwrap();
                let found = query.count().await.unwrap();
                assert_eq!(found, count / 3 * thirds, "{state} {name}: {filter}");
            }
        }
        store.seal().unwrap();
    }
}
