//! Any request that a store acknowledges: its spans are there once, equal,
//! when they were appended, after a power cut, and when they are sealed.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use spanstore::io::{PowerCut, SimulatedDisk};
use spanstore::{ManualClock, SpanBatch, Store, StoreOptions, TeamId};
use spanstore_format::otlp::{ExportTraceServiceRequest, protobuf};
use spanstore_fuzz::single_spans;

const NOW: i64 = 1_794_700_800_000_000_000;

fuzz_target!(init: spanstore_fuzz::allow_caught_panics(), |body: &[u8]| {
    let Ok(request) = protobuf::decode(body) else {
        return;
    };
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let batch = SpanBatch::from_otlp(request.clone()).any_time();
    let Ok(receipt) = store.team(&acme()).append(batch) else {
        return;
    };
    let refused: BTreeSet<usize> = receipt
        .refused
        .iter()
        .map(|one| one.index as usize)
        .collect();
    let expected = accepted(request, &refused);
    assert_eq!(receipt.accepted, expected.len() as u64);
    assert_eq!(found(&store), expected);

    disk.restart(PowerCut::DropAll);
    drop(store);
    let store = open(&disk);
    assert_eq!(found(&store), expected);
    store.seal().expect("what was acknowledged is sealed");
    assert_eq!(found(&store), expected);
    assert_eq!(store.check().expect("the catalog is whole").damage, []);
});

fn acme() -> TeamId {
    TeamId::new("acme").expect("a team id")
}

fn open(disk: &SimulatedDisk) -> Store {
    let clock = Arc::new(ManualClock::new(NOW));
    let store = Store::open_on(
        Arc::new(disk.clone()),
        "/store",
        StoreOptions::default(),
        clock,
    );
    store.expect("the store opens")
}

/// The spans but for those that were refused, each once.
fn accepted(mut request: ExportTraceServiceRequest, refused: &BTreeSet<usize>) -> Vec<Vec<u8>> {
    let mut index = 0;
    for resource in &mut request.resource_spans {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(|_| {
                index += 1;
                !refused.contains(&(index - 1))
            });
        }
    }
    let mut spans = single_spans(&request);
    spans.dedup();
    spans
}

fn found(store: &Store) -> Vec<Vec<u8>> {
    let mut spans = Vec::new();
    for part in store.team(&acme()).export().expect("an open store") {
        let part = part.expect("spans that were acknowledged");
        let request = part.to_otlp().expect("spans that were acknowledged");
        spans.extend(single_spans(&request));
    }
    spans.sort_unstable();
    spans
}
