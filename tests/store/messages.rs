//! What a store writes agrees with `FORMAT.proto`: the messages have no fields but those
//! that the file names, of the types that it says.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use spanstore::TraceId;
use spanstore_format::SegmentId;
use spanstore_format::catalog::{Erased, Erasure, SessionRecord, TeamSettings, encode_segment};
use spanstore_format::log::record::{
    AppendRecord, MonthRecord, ReceiptRecord, RefusalRecord, SessionChange,
};
use spanstore_format::recent::{RecentAppend, RecentBlock, content_bytes};
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::layout::header::Part;
use spanstore_format::segment::summarize;
use spanstore_test_support::spans::{integer, request, span, text, trace_id};
use spanstore_test_support::{NOW, open, segment_path, team};

/// Name and type of the fields of each message, by their numbers.
type Messages = BTreeMap<String, BTreeMap<u32, (String, String)>>;

fn messages() -> Messages {
    let mut messages = Messages::new();
    let mut open = None;
    for line in include_str!("../../FORMAT.proto").lines() {
        let words: Vec<&str> = line.trim().trim_end_matches(';').split(' ').collect();
        match (words.as_slice(), &open) {
            (["message", name, "{"], None) => open = Some((*name).to_owned()),
            (["}"], Some(_)) => open = None,
            ([.., kind, name, "=", number], Some(message)) if *kind != "//" => {
                let fields = messages.entry(message.clone()).or_default();
                let field = ((*name).to_owned(), (*kind).to_owned());
                assert!(fields.insert(number.parse().unwrap(), field).is_none());
            }
            _ => {}
        }
    }
    messages
}

/// The fields of a message that stand in its bytes, and of those in it, as
/// `Message.name`.
fn check(all: &Messages, message: &str, mut bytes: &[u8], seen: &mut BTreeSet<String>) {
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).unwrap();
        let (name, kind) = &all[message][&number];
        seen.insert(format!("{message}.{name}"));
        let expected = match kind.as_str() {
            "uint32" | "uint64" | "bool" => WireType::Varint,
            "fixed32" => WireType::ThirtyTwoBit,
            "sfixed64" => WireType::SixtyFourBit,
            _ => WireType::LengthDelimited,
        };
        // Numbers that repeat are packed.
        let is_packed = name == "left_out" && wire == WireType::LengthDelimited;
        assert!(wire == expected || is_packed, "{message}.{name}: {wire:?}");
        if wire == WireType::LengthDelimited {
            let length = decode_varint(&mut bytes).unwrap() as usize;
            let (value, rest) = bytes.split_at(length);
            if all.contains_key(kind) {
                check(all, kind, value, seen);
            } else if kind == "string" {
                assert!(std::str::from_utf8(value).is_ok(), "{message}.{name}");
            }
            bytes = rest;
        } else {
            skip_field(wire, number, &mut bytes, DecodeContext::default()).unwrap();
        }
    }
}

/// The parts of a segment whose messages have all their fields.
fn parts() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let spans = (0..1_000).map(|n| {
        let mut span = span(n);
        let request = format!("iad1::request-{n}");
        span.attributes.push(text("vercel.request_id", &request));
        span.attributes.push(match n % 50 {
            0 => integer("mixed", 1),
            _ => text("mixed", "text"),
        });
        span.attributes.push(text("varied", &format!("value {n}")));
        span
    });
    let mut request = request(spans);
    request.resource_spans[0].schema_url = "https://example.test".into();
    store.team(&team("acme")).append(request).unwrap();
    store.seal().unwrap();
    let summary = store.segments().remove(0);
    let path = directory.path().join(segment_path(&summary));
    let file = Bytes::from(std::fs::read(path).unwrap());
    let reader = SegmentReader::open(file.clone(), summarize(&file).unwrap()).unwrap();
    let part = |part| {
        let place = reader.header().part(part).unwrap();
        file[place.start as usize..place.end as usize].to_vec()
    };
    let resources = part(Part::Resources);
    let blocks = u32::from_le_bytes(resources[4..8].try_into().unwrap()) as usize;
    let block = zstd::decode_all(&resources[8 + blocks * 24..]).unwrap();
    let mut record = reader.summary().clone();
    record.level = 1;
    (part(Part::Columns), block, encode_segment(&record))
}

#[test]
fn what_is_written_is_what_the_page_of_messages_says() {
    let all = messages();
    let mut seen = BTreeSet::new();
    let receipt = ReceiptRecord {
        accepted: 1,
        duplicates: 2,
        refused: vec![RefusalRecord {
            index: 3,
            reason: 4,
        }],
        months: vec![MonthRecord {
            month: 682,
            used: 5,
            limit: 6,
        }],
        repeated: true,
    };
    let record = AppendRecord {
        team: "acme".into(),
        request: request([span(0)]).encode_to_vec().into(),
        left_out: vec![0, 200],
        idempotency_key: Some(Bytes::from_static(b"key")),
        receipt: Some(receipt.clone()),
        content: Some(content_bytes(7)),
        noted_at: NOW,
        forgets: true,
        removes_sessions: true,
        sessions: vec![SessionChange {
            id: "id".into(),
            session: Some(SessionRecord {
                is_page_trace: true,
                user: "user".into(),
                browser: "browser".into(),
                project: "project".into(),
                deployment: "deployment".into(),
                environment: "preview".into(),
                host: "host".into(),
                started_at: NOW,
                stopped_at: Some(NOW),
                predecessor: Some("other".into()),
            }),
        }],
    };
    let recent = RecentBlock {
        appends: vec![RecentAppend {
            team: "acme".into(),
            noted_at: NOW,
            content: content_bytes(7),
            key: Some(Bytes::from_static(b"key")),
            receipt: Some(receipt),
        }],
    };
    let settings = TeamSettings {
        plan: 2,
        limit: Some(1),
        retention_nanos: Some(1),
    };
    let erasure = |what| Erasure {
        team: team("acme"),
        what,
        before: SegmentId(9),
    };
    let (columns, shared, segment) = parts();
    for (message, bytes) in [
        ("LogRecord", record.encode_to_vec()),
        ("RecentBlock", recent.encode_to_vec()),
        ("TeamSettings", settings.encode_to_vec()),
        (
            "Erasure",
            erasure(Erased::Trace(TraceId(trace_id(1)))).encode(),
        ),
        ("Erasure", erasure(Erased::Session("s".into())).encode()),
        ("Segment", segment),
        ("Columns", columns),
        ("SharedBlock", shared),
    ] {
        check(&all, message, &bytes, &mut seen);
    }
    let fields = all.iter().flat_map(|(message, fields)| {
        let names = fields.values();
        names.map(move |(name, _)| format!("{message}.{name}"))
    });
    assert_eq!(seen, fields.collect());
}
