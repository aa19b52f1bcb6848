//! Real captures go in whole and come out equal. They lie outside of the
//! repository: the environment variable `SPANSTORE_REAL_DATA` says where.

use std::fs::File;
use std::path::{Path, PathBuf};

use spanstore::otlp::Documents;
use spanstore::otlp::ExportTraceServiceRequest;
use spanstore::otlp::compression::reader;
use spanstore::otlp::json::{self, Document};
use spanstore::{SpanBatch, Store, Team, TraceId};
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open, team};

/// The folder of captures; none says that the test is skipped.
fn captures() -> Option<PathBuf> {
    let folder = std::env::var_os("SPANSTORE_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SPANSTORE_REAL_DATA is not set");
    }
    folder
}

/// A number that stands for spans with their resources and scopes, whatever
/// their order and grouping.
fn fingerprint(request: &ExportTraceServiceRequest) -> u128 {
    let mut sum = 0u128;
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let context = format!(
                    "{:?} {:?} {:?} {:?} ",
                    resource.resource, resource.schema_url, scope.scope, scope.schema_url
                );
                let text = context + &json::span_to_json(span).to_string();
                let hash = spanstore_format::segment::key_index::key_of(text.as_bytes());
                sum = sum.wrapping_add(u64::from_le_bytes(hash).into());
            }
        }
    }
    sum
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Ingested {
    accepted: u64,
    duplicates: u64,
    refused: usize,
    skipped: u64,
}

/// Appends a file, and answers what became of it and the fingerprint of what
/// it holds.
fn ingest(acme: &Team, file: &Path) -> (Ingested, u128) {
    let mut ingested = Ingested::default();
    let mut sum = 0u128;
    for document in Documents::new(reader(File::open(file).unwrap()).unwrap(), 64 << 20) {
        match document.unwrap().1 {
            Document::Other(_) => ingested.skipped += 1,
            Document::Traces(request) => {
                sum = sum.wrapping_add(fingerprint(&request));
                let receipt = acme
                    .append(SpanBatch::from_otlp(request).any_time())
                    .unwrap();
                if receipt.repeated {
                    ingested.duplicates += receipt.accepted + receipt.duplicates;
                } else {
                    ingested.accepted += receipt.accepted;
                    ingested.duplicates += receipt.duplicates;
                }
                ingested.refused += receipt.refused.len();
            }
        }
    }
    (ingested, sum)
}

/// Spans of an export and their fingerprint.
fn exported(acme: &Team) -> (u64, u128) {
    let (mut spans, mut sum) = (0, 0u128);
    for chunk in acme.export().unwrap() {
        let chunk = chunk.unwrap();
        spans += chunk.len() as u64;
        sum = sum.wrapping_add(fingerprint(&chunk.to_otlp().unwrap()));
    }
    (spans, sum)
}

fn count(spans: u64, skipped: u64) -> Ingested {
    Ingested {
        accepted: spans,
        skipped,
        ..Ingested::default()
    }
}

#[test]
fn each_capture_comes_out_equal_hot_sealed_and_reopened() {
    let Some(captures) = captures() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mut wholes = Vec::new();
    for (number, (file, expected)) in [
        ("otel-demo/test_data.jsonl", count(547, 56)),
        ("robotframework/otel-traces.json", count(1_066, 0)),
        ("robotframework/diverse_trace_full.json", count(1_632, 0)),
        ("robotframework/pabot_trace.json", count(18, 0)),
        ("robotframework/all_types_trace.json", count(11, 0)),
        ("robotframework/otel-logs.json", count(0, 7)),
        ("nextjs/snapshot_spans.otlp.jsonl", count(36, 0)),
        ("otlp-official/trace.json", count(1, 0)),
        (
            "nezha/trainticket-2023-01-30-small.otlp.jsonl.zst",
            count(4_595, 0),
        ),
        (
            "nezha/onlineboutique-2022-08-23-small.otlp.jsonl.zst",
            count(22_969, 0),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let id = team(&format!("team {number}"));
        let (ingested, sum) = ingest(&store.team(&id), &captures.join(file));
        assert_eq!(ingested, expected, "{file}");
        let whole = (expected.accepted, sum);
        assert_eq!(exported(&store.team(&id)), whole, "{file}, hot");
        drop(store);
        store = open(directory.path());
        assert_eq!(exported(&store.team(&id)), whole, "{file}, replayed");
        store.seal().unwrap();
        assert_eq!(exported(&store.team(&id)), whole, "{file}, sealed");
        wholes.push((id, whole));
    }
    let agree = |store: &Store, state: &str| {
        for (id, whole) in &wholes {
            assert_eq!(&exported(&store.team(id)), whole, "{id}, {state}");
        }
        assert_eq!(store.check().unwrap().damage, [], "{state}");
    };
    agree(&store, "sealed together");
    let before = store.segments().len();
    store.compact().unwrap();
    assert!(store.segments().len() < before);
    agree(&store, "merged");
    // Teams that lie between the others come and go.
    for name in ["team", "team 44", "z"] {
        let stranger = store.team(&team(name));
        stranger.append(request((0..200).map(span))).unwrap();
        store.seal().unwrap();
        stranger.forget().unwrap();
    }
    agree(&store, "with forgotten ones");
    store.erase().unwrap();
    agree(&store, "erased");
    let copy = tempfile::tempdir().unwrap();
    store.backup(copy.path()).unwrap();
    agree(&open(copy.path()), "backed up");
    drop(store);
    agree(&open(directory.path()), "reopened");
}

#[test]
fn the_one_large_trace_is_found_whole() {
    let Some(captures) = captures() else { return };
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let acme = store.team(&team("acme"));
    ingest(
        &acme,
        &captures.join("robotframework/diverse_trace_full.json"),
    );
    let trace = acme
        .export()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .rows()
        .unwrap()[0]
        .trace_id;
    for _ in 0..2 {
        assert_eq!(acme.trace(trace).unwrap().len(), 1_632);
        assert_eq!(acme.trace(TraceId([7; 16])).unwrap().len(), 0);
        store.seal().unwrap();
    }
}

#[test]
fn a_day_of_a_shop_goes_in_without_its_repeats() {
    let Some(captures) = captures() else { return };
    let directory = tempfile::tempdir().unwrap();
    let store: Store = open(directory.path());
    let acme = store.team(&team("acme"));
    let file = captures.join("nezha/onlineboutique-2022-08-22.otlp.jsonl.zst");
    let (ingested, _) = ingest(&acme, &file);
    // 852,420 rows, of which the capture repeats some byte for byte.
    assert_eq!(
        (ingested.accepted, ingested.duplicates),
        (846_632, 852_420 - 846_632)
    );
    let hot = exported(&acme);
    assert_eq!(hot.0, 846_632);
    let month = "2022-08".parse().unwrap();
    assert_eq!(acme.usage(month).unwrap().used, 846_632);
    store.seal().unwrap();
    assert_eq!(exported(&acme), hot);
}
