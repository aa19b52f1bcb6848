//! Writes seeds for the fuzz targets: `seeds DIR` makes a directory for each
//! target in DIR. All of them are made from the formats' own writers.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use spanstore_format::catalog::{Erased, Erasure, TeamSettings, encode_segment};
use spanstore_format::log::record::{AppendRecord, MonthRecord, ReceiptRecord, RefusalRecord};
use spanstore_format::otlp::{
    AnyValue, ArrayValue, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue,
    KeyValueList, Link, Resource, ResourceSpans, ScopeSpans, Span, Status, Value, json, protobuf,
};
use spanstore_format::segment::SegmentReader;
use spanstore_format::segment::layout::header::Part;
use spanstore_format::segment::testing::{START, attribute, team, varied_segment};
use spanstore_format::{SegmentId, TraceId};

/// Filters of each kind that the language has.
const FILTERS: [&str; 16] = [
    "level = 'error' and status_code >= 500",
    "route == '/api/search' or not (method <> 'GET')",
    "duration >= '2s' and start_time > '2026-11-20'",
    "start_time between '2026-11-20T10:00:00Z' and 1794700800000000000",
    "status_code in (200, '404', '5xx') and service not in ('a', 'b')",
    "name ilike '%checkout!%%' escape '!' or path not like '/api/_'",
    "host ~ '^a.*[0-9]{2,}$' and name !~ '(?i)health'",
    "session_id is not null and cold_start is not true",
    "attributes['db.system'] = 'postgresql' and resource['k8s.pod'] is null",
    "attributes['items'] > 41.5 or attributes['flag'] = true",
    "has(attributes, 'http.route') and not has(resource, 'x')",
    "lower(name) = 'get' and length(path) < 20 and upper(method) != 'PUT'",
    "starts_with(path, '/a') and ends_with(name, 'z') or contains(host, '''')",
    "trace_id = '0123456789abcdef0123456789abcdef' and parent_span_id is null",
    "\"level\" = 'info' and (start_time = trace_start or cold_start)",
    "(((((kind = 'server')))))",
];

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("usage: seeds DIR"))?;
    let seeds = Seeds { directory };
    let requests = requests();
    for request in &requests {
        let body = protobuf::encode(request);
        let text = json::encode(request);
        for target in ["otlp_protobuf", "span_round_trip", "append_reopen"] {
            seeds.add(target, &[], &body)?;
        }
        seeds.add("otlp_json", &[], text.as_bytes())?;
        seeds.add(
            "otlp_json",
            &[],
            text.replace("resourceSpans", "resource_spans").as_bytes(),
        )?;
        compressed(&seeds, text.as_bytes())?;
        log_records(&seeds, body)?;
        for span in spans(request) {
            let key = span
                .attributes
                .first()
                .map_or("", |attribute| &attribute.key);
            let start = [&[key.len() as u8], key.as_bytes()].concat();
            seeds.add("attribute", &start, &span.encode_to_vec())?;
        }
    }
    seeds.add("otlp_json", &[], b"{\"resourceMetrics\":[]}")?;
    for filter in FILTERS {
        seeds.add("filter_text", &[], filter.as_bytes())?;
    }
    segments(&seeds)?;
    catalog_values(&seeds)?;
    any_bytes(&seeds)
}

/// Where seeds go.
struct Seeds {
    directory: PathBuf,
}

impl Seeds {
    /// Adds a seed for a target that takes numbers, and bytes after them.
    fn add(&self, target: &str, numbers: &[u8], bytes: &[u8]) -> io::Result<()> {
        let directory: &Path = &self.directory.join(target);
        fs::create_dir_all(directory)?;
        let seed = [numbers, bytes].concat();
        // Equal seeds are one file.
        fs::write(
            directory.join(format!("{:08x}-{}", crc(&seed), seed.len())),
            seed,
        )
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = flate2::Crc::new();
    hasher.update(bytes);
    hasher.sum()
}

fn spans(request: &ExportTraceServiceRequest) -> impl Iterator<Item = &Span> {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|one| &one.scope_spans);
    scopes.flat_map(|one| &one.spans)
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// A value within so many arrays.
fn nested(depth: usize) -> AnyValue {
    let leaf = AnyValue {
        value: Some(Value::IntValue(7)),
    };
    (0..depth).fold(leaf, |value, _| AnyValue {
        value: Some(Value::ArrayValue(ArrayValue {
            values: vec![value],
        })),
    })
}

fn span(n: u64, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: u128::from(n / 3 + 1).to_be_bytes().to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        parent_span_id: if n % 3 == 0 {
            Vec::new()
        } else {
            n.to_be_bytes().to_vec()
        },
        name: format!("GET /api/{n}"),
        kind: (n % 6) as i32,
        start_time_unix_nano: START + n * 1_000,
        end_time_unix_nano: START + n * 2_000,
        attributes,
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", "shop"), text("vercel.region", "fra1")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "next.js".into(),
                    version: "0.0.1".into(),
                    ..InstrumentationScope::default()
                }),
                spans,
                schema_url: String::new(),
            }],
            schema_url: "https://opentelemetry.io/schemas/1.30.0".into(),
        }],
    }
}

/// Requests small and large, usual and odd.
fn requests() -> Vec<ExportTraceServiceRequest> {
    let usual = |n: u64| {
        vec![
            text("http.request.method", "GET"),
            text("http.route", "/api/[id]"),
            text("url.path", &format!("/api/{n}")),
            attribute("http.response.status_code", Value::IntValue(200)),
            text("session.id", "s1"),
        ]
    };
    let odd = vec![
        attribute("double", Value::DoubleValue(-0.0)),
        attribute("flag", Value::BoolValue(true)),
        attribute("bytes", Value::BytesValue(vec![0, 0xff])),
        attribute("least", Value::IntValue(i64::MIN)),
        KeyValue {
            key: "none".into(),
            ..KeyValue::default()
        },
        KeyValue {
            key: "empty".into(),
            value: Some(AnyValue::default()),
            ..KeyValue::default()
        },
        KeyValue {
            key: "deep".into(),
            value: Some(nested(15)),
            ..KeyValue::default()
        },
        attribute(
            "list",
            Value::KvlistValue(KeyValueList {
                values: vec![text("a", "b")],
            }),
        ),
        text("url.full", "https://shop.test/cart?next=%2F#top"),
        text("twice", "1"),
        text("twice", "2"),
    ];
    let full = Span {
        trace_state: "a=1,b=2".into(),
        flags: 0x101,
        end_time_unix_nano: 5,
        events: vec![Event {
            time_unix_nano: START,
            name: "exception".into(),
            attributes: vec![text("exception.type", "Error")],
            dropped_attributes_count: 1,
        }],
        links: vec![Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            flags: 1,
            ..Link::default()
        }],
        status: Some(Status {
            message: "bad".into(),
            code: 2,
        }),
        dropped_attributes_count: 1,
        dropped_events_count: 2,
        dropped_links_count: 3,
        ..span(1, odd)
    };
    let too_deep = KeyValue {
        key: "deep".into(),
        value: Some(nested(16)),
        ..KeyValue::default()
    };
    let mut two = request(vec![span(3, usual(3))]);
    two.resource_spans
        .extend(request(vec![full.clone()]).resource_spans);
    two.resource_spans.push(ResourceSpans::default());
    vec![
        ExportTraceServiceRequest::default(),
        request(vec![span(0, Vec::new())]),
        request((0..6).map(|n| span(n, usual(n))).collect()),
        request(vec![full.clone(), full]),
        request(vec![span(0, vec![too_deep])]),
        two,
    ]
}

fn compressed(seeds: &Seeds, body: &[u8]) -> io::Result<()> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body)?;
    let bodies = [body.to_vec(), gzip.finish()?, zstd::encode_all(body, 1)?];
    for body in bodies {
        for most in [1_000u32, 1 << 20] {
            let numbers = [&most.to_le_bytes()[..], &[100]].concat();
            seeds.add("compression", &numbers, &body)?;
        }
    }
    Ok(())
}

fn log_records(seeds: &Seeds, body: Vec<u8>) -> io::Result<()> {
    let plain = AppendRecord {
        team: "acme".into(),
        request: Bytes::from(body),
        left_out: vec![0, 4],
        ..AppendRecord::default()
    };
    let keyed = AppendRecord {
        idempotency_key: Some(Bytes::from_static(b"key")),
        receipt: Some(ReceiptRecord {
            accepted: 3,
            duplicates: 1,
            refused: vec![RefusalRecord {
                index: 4,
                reason: 7,
            }],
            months: vec![MonthRecord {
                month: 682,
                used: 10,
                limit: 20,
            }],
            repeated: false,
        }),
        ..plain.clone()
    };
    seeds.add("log_record", &[], &plain.encode_to_vec())?;
    seeds.add("log_record", &[], &keyed.encode_to_vec())
}

/// Whole segments, and what they are made of.
fn segments(seeds: &Seeds) -> io::Result<()> {
    let large: &[(&str, u64)] = &[("large", 9_000), ("small", 30)];
    for teams in [large, &[("a", 3), ("b", 2)], &[("acme", 30)]] {
        let (file, summary) = varied_segment(teams);
        if summary.rows < 100 {
            seeds.add("segment_open", &[], &file)?;
        }
        let number = summary.id.0.to_le_bytes();
        seeds.add("catalog_values", &number, &encode_segment(&summary))?;
        let reader = SegmentReader::open(file.clone(), summary).map_err(io::Error::other)?;
        let part = |part: Part| {
            let range = reader.header().part(part).unwrap_or_default();
            &file[range.start as usize..range.end as usize]
        };
        let rows = reader.summary().rows;
        seeds.add(
            "partition_directory",
            &rows.to_le_bytes(),
            part(Part::Directory),
        )?;
        seeds.add("file_columns", &[], part(Part::Columns))?;
        let first_and_rows = [[0, 0], (rows as u16).to_le_bytes()].concat();
        seeds.add("facets", &first_and_rows, part(Part::Facets))?;
        let rows = reader.row_reader().map_err(io::Error::other)?;
        let metadata = rows.metadata().map_err(io::Error::other)?;
        for chunk in metadata
            .row_groups()
            .iter()
            .flat_map(|group| group.columns())
        {
            let start = chunk.data_page_offset() as usize;
            let page = &file[start..(start + 200).min(file.len())];
            seeds.add("page_parts", &[8, 0, 0, 40, 0], page)?;
        }
    }
    // Runs of one value, then packed bits.
    for bit_width in [1, 3, 20] {
        let runs = [0x14, 1, 0, 0, 0x05, 0xaa, 0x55, 0x0f, 1, 2, 3, 4, 5, 6, 7];
        seeds.add("page_parts", &[bit_width, 2, 0, 16, 0], &runs)?;
    }
    Ok(())
}

fn catalog_values(seeds: &Seeds) -> io::Result<()> {
    let settings = TeamSettings {
        plan: 1,
        limit: Some(5),
        retention_nanos: Some(86_400_000_000_000),
    };
    seeds.add("catalog_values", &[0; 8], &settings.encode_to_vec())?;
    let session = Erased::Session("s1".into());
    for what in [Erased::Team, Erased::Trace(TraceId([7; 16])), session] {
        let erasure = Erasure {
            team: team("acme"),
            what,
            before: SegmentId(9),
        };
        seeds.add("catalog_values", &[1; 8], &erasure.encode())?;
    }
    Ok(())
}

/// Bytes without a meaning, for targets that make something of any.
fn any_bytes(seeds: &Seeds) -> io::Result<()> {
    let mut state = 1u64;
    for length in [8usize, 40, 200, 1_000].into_iter().cycle().take(24) {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(length)
        .collect();
        for target in [
            "key_index",
            "log_frames",
            "recent_appends",
            "segment_forged",
        ] {
            seeds.add(target, &[], &bytes)?;
        }
    }
    Ok(())
}
