//! Captures of real systems, read when `SPANSTORE_REAL_DATA` names their folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use crate::otlp::json::Document;
use crate::otlp::{Documents, ExportTraceServiceRequest, compression, json, protobuf};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("SPANSTORE_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SPANSTORE_REAL_DATA does not name the folder of captures");
    }
    folder
}

fn spans(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

/// Documents by what they hold, and all spans; each request goes out and in again.
fn read(path: PathBuf) -> (BTreeMap<&'static str, usize>, usize) {
    let file = compression::reader(File::open(&path).unwrap()).unwrap();
    let (mut documents, mut found) = (BTreeMap::new(), 0);
    for item in Documents::new(file, 64 << 20) {
        let (line, document) = item.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match document {
            Document::Traces(request) => {
                *documents.entry("traces").or_default() += 1;
                found += spans(&request);
                let text = json::encode(&request);
                let again = json::decode(text.as_bytes()).unwrap();
                assert!(
                    again == Document::Traces(request.clone()),
                    "JSON of line {line} changed"
                );
                let bytes = protobuf::encode(&request);
                assert!(
                    protobuf::decode(&bytes).unwrap() == request,
                    "line {line} changed"
                );
            }
            Document::Other(what) => *documents.entry(what).or_default() += 1,
        }
    }
    (documents, found)
}

#[test]
fn captures_hold_the_documents_and_spans_they_are_known_to_hold() {
    let Some(folder) = folder() else { return };
    for (name, documents, spans) in [
        (
            "otel-demo/test_data.jsonl",
            [("traces", 41), ("metrics", 40), ("logs", 16)].as_slice(),
            547,
        ),
        ("robotframework/otel-traces.json", &[], 1_066),
        ("robotframework/diverse_trace_full.json", &[], 1_632),
        ("robotframework/pabot_trace.json", &[], 18),
        ("robotframework/all_types_trace.json", &[], 11),
        ("nextjs/snapshot_spans.otlp.jsonl", &[], 36),
        ("otlp-official/trace.json", &[("traces", 1)], 1),
        ("otlp-official/metrics.json", &[("metrics", 1)], 0),
        ("otlp-official/logs.json", &[("logs", 1)], 0),
        (
            "nezha/trainticket-2023-01-30-small.otlp.jsonl.zst",
            &[],
            usize::MAX,
        ),
    ] {
        let (found_documents, found_spans) = read(folder.join(name));
        if spans == usize::MAX {
            assert!(found_spans > 1_000, "{name}");
        } else {
            assert_eq!(found_spans, spans, "{name}");
        }
        if !documents.is_empty() {
            assert_eq!(
                found_documents,
                documents.iter().copied().collect(),
                "{name}"
            );
        }
    }
    let (documents, spans) = read(folder.join("robotframework/otel-logs.json"));
    assert_eq!(
        (documents.keys().copied().collect::<Vec<_>>(), spans),
        (vec!["logs"], 0)
    );
}
