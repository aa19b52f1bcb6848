//! What bodies of every shape cost in memory, from the call with the body to the
//! answer of the append, beyond the bytes that the caller has.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use spanstore::otlp::{json, protobuf};
use spanstore::{Error, Receipt, SpanBatch, StoreOptions};
use spanstore_benches::{bodies, machine, open, team};

/// The system's allocator, which counts what is in use and the most that ever was.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if the old block stayed until the new one is filled.
        add(size);
        // SAFETY: the caller keeps the contract.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: usize = 1 << 20;
/// Bytes of the large bodies, with some left for what is around their elements.
const LARGE: usize = 64 * MIB - 1_024;

/// A message as a field of another.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

/// Elements of two bytes that fill a body of so many bytes.
fn elements(number: u8, bytes: usize) -> Vec<u8> {
    [number << 3 | 2, 0].repeat(bytes / 2)
}

fn in_scope(elements: &[u8]) -> Vec<u8> {
    field(1, &field(2, elements))
}

fn in_span(elements: &[u8]) -> Vec<u8> {
    in_scope(&field(2, elements))
}

fn in_value(elements: &[u8]) -> Vec<u8> {
    in_span(&field(9, &field(2, elements)))
}

fn json_spans(elements: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{elements}]}}]}}]}}"#)
}

fn json_value(elements: &str) -> String {
    json_spans(&format!(
        r#"{{"attributes":[{{"value":{{"arrayValue":{{"values":[{elements}]}}}}}}]}}"#
    ))
}

/// Spans that have what a span must have and nothing else.
fn bare_spans(count: u64) -> Vec<u8> {
    let start = (spanstore_benches::NOW - 1_000_000_000).cast_unsigned();
    let spans = (1..=count).flat_map(|n| {
        let mut span = field(1, &u128::from(n).to_be_bytes());
        span.extend(field(2, &n.to_be_bytes()));
        for number in [7, 8] {
            span.push(number << 3 | 1);
            span.extend(start.to_le_bytes());
        }
        field(2, &span)
    });
    in_scope(&spans.collect::<Vec<_>>())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Appends a body to a store of its own.
fn append(name: &str, body: &[u8], decompressed: usize, is_json: bool) {
    let directory = machine::directory();
    let store = open(directory.path(), StoreOptions::default());
    let team = store.team(&team());
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let batch = if is_json {
        SpanBatch::from_otlp_json(body)
    } else {
        SpanBatch::from_otlp_protobuf(body)
    };
    let answer = batch.and_then(|batch| team.append(batch));
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!(
        "| {name} | {} | {} | {} | {:.2} | {} |",
        size(body.len()),
        size(decompressed),
        size(peak),
        peak as f64 / decompressed as f64,
        told(answer),
    );
}

fn size(bytes: usize) -> String {
    if bytes >= MIB {
        format!("{:.1} MiB", bytes as f64 / MIB as f64)
    } else {
        format!("{:.1} KiB", bytes as f64 / 1_024.0)
    }
}

fn told(answer: Result<Receipt, Error>) -> String {
    match answer {
        Ok(receipt) => {
            let refused = receipt.refused.first();
            let why = refused.map_or(String::new(), |refusal| {
                format!(", {} refused: {}", receipt.refused.len(), refusal.reason)
            });
            format!("{} accepted{why}", receipt.accepted)
        }
        Err(error) => error.to_string(),
    }
}

fn main() {
    println!(
        "| body | as it comes | its bytes | memory beyond the caller's | for each byte | answer |"
    );
    println!("|---|---|---|---|---|---|");
    let protobuf = |name: &str, body: Vec<u8>| append(name, &body, body.len(), false);
    let json = |name: &str, text: String| append(name, text.as_bytes(), text.len(), true);
    let packed = |name: &str, body: Vec<u8>| append(name, &gzip(&body), body.len(), false);

    packed("empty spans, gzip", in_scope(&elements(2, 3 * MIB)));
    packed("100,000 empty spans, gzip", in_scope(&elements(2, 200_000)));
    protobuf("empty spans", in_scope(&elements(2, LARGE)));
    protobuf("empty attributes", in_span(&elements(9, LARGE)));
    protobuf("empty events", in_span(&elements(11, LARGE)));
    protobuf("empty links", in_span(&elements(13, LARGE)));
    protobuf(
        "values in an array",
        in_value(&field(5, &elements(1, LARGE))),
    );
    protobuf(
        "entries in a key-value list",
        in_value(&field(6, &elements(1, LARGE))),
    );
    protobuf("arrays in each other", {
        let mut value = Vec::new();
        let mut deep = Vec::new();
        while deep.len() < 60_000 {
            value = field(5, &field(1, &value));
            deep.extend_from_slice(&value);
        }
        let span = field(2, &field(9, &field(2, &value)));
        in_scope(&span.repeat(LARGE / span.len()))
    });
    protobuf("empty scopes", field(1, &elements(2, LARGE)));
    protobuf("empty resources", elements(1, LARGE));
    protobuf(
        "resources of empty attributes",
        field(1, &field(1, &elements(1, LARGE))),
    );
    protobuf("unknown fields", elements(31 >> 1, LARGE));
    protobuf(
        "one name",
        in_scope(&field(2, &field(5, &vec![b'n'; LARGE]))),
    );
    json("JSON, empty spans", json_spans(&"{},".repeat(LARGE / 3)));
    json(
        "JSON, empty attributes",
        json_spans(&format!(
            r#"{{"attributes":[{}]}}"#,
            "{},".repeat(LARGE / 3)
        )),
    );
    json(
        "JSON, values in an array",
        json_value(&"{},".repeat(LARGE / 3)),
    );
    json(
        "JSON, arrays in each other",
        json_value(&r#"{"arrayValue":{"values":["#.repeat(LARGE / 26)),
    );
    json("JSON, brackets", format!(r#"{{"x":{}"#, "[".repeat(LARGE)));
    json(
        "JSON, unknown keys",
        format!("{{{}", r#""a":1,"#.repeat(LARGE / 6)),
    );
    json(
        "JSON, one text with an escape",
        format!(r#"{{"x":"{}\n"}}"#, "a".repeat(LARGE)),
    );
    protobuf("100,000 bare spans", bare_spans(100_000));
    packed("100,000 bare spans, gzip", bare_spans(100_000));
    for (name, spans) in [
        ("sample application, 500 spans", 500),
        ("sample application, 100,000 spans", 100_000),
    ] {
        let body = bodies(spans, spans as usize).remove(0);
        packed(&format!("{name}, gzip"), body.clone());
        if spans < 1_000 {
            json_of(&format!("{name}, JSON"), &body, json);
        }
        protobuf(name, body);
    }
    let body = bodies(40_000, 40_000).remove(0);
    json_of("sample application, 40,000 spans, JSON", &body, json);
}

/// Appends a body in protobuf as JSON.
fn json_of(name: &str, body: &[u8], append: impl Fn(&str, String)) {
    let request = protobuf::decode(body).unwrap();
    append(name, json::encode(&request));
}
