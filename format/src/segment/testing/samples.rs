//! Rows, and segments of them.

use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::id::{SegmentId, TeamId};
use crate::month::Month;
use crate::otlp::{AnyValue, InstrumentationScope, KeyValue, Resource, Span, Value};
use crate::segment::layout::order::arrange;
use crate::segment::promotion::choose::Sample;
use crate::segment::{NewSegment, Origin, SegmentSummary, SegmentWriter};
use crate::span::columns::{Classified, ColumnsBuilder, ResourceContext, ScopeContext};
use crate::span::encoded::EncodedSpan;
use crate::span::table;

/// Start of the first span, ns since 1970.
pub const START: u64 = 1_793_491_200_000_000_000;

/// A team's id.
pub fn team(name: &str) -> TeamId {
    TeamId::new(name).unwrap()
}

/// An attribute.
pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// `rows` spans, ten a trace, in an order that is not the segment's; every
/// third trace is of the session `s<trace % 7>`. The first span of a trace is its root,
/// the eighth has a parent that is not there.
pub fn batch(name: &str, rows: u64) -> RecordBatch {
    batch_with(name, rows, |_| Vec::new())
}

/// The same with more attributes.
pub fn batch_with(name: &str, rows: u64, more: impl Fn(u64) -> Vec<KeyValue>) -> RecordBatch {
    let mut builder = ColumnsBuilder::new(&team(name), rows as usize);
    let mut encoded = Vec::new();
    for n in (0..rows).rev() {
        let trace = n / 10 + 1;
        let session = format!("s{}", trace % 7);
        let session =
            (trace % 3 == 0).then(|| attribute("session.id", Value::StringValue(session)));
        let span = Span {
            trace_id: u128::from(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .to_be_bytes()
                .to_vec(),
            span_id: (n + 1).to_be_bytes().to_vec(),
            parent_span_id: parent_of(n).map_or_else(Vec::new, |id| id.to_be_bytes().to_vec()),
            name: format!("span {}", n % 50),
            start_time_unix_nano: START + n * 1_000,
            end_time_unix_nano: START + n * 1_000 + 77,
            attributes: session.into_iter().chain(more(n)).collect(),
            ..Span::default()
        };
        let encoded = EncodedSpan::encode(&span, &mut encoded);
        let (resource, scope) = (resource_of(n), scope_of(n));
        let url = if n.is_multiple_of(3) {
            "https://example.test"
        } else {
            ""
        };
        let resource = ResourceContext::new(resource.as_ref(), url);
        let scope = ScopeContext::new(scope.as_ref(), "");
        let classified = Classified::of(&span, &resource, &scope);
        builder
            .append(&span, &classified, &encoded, &resource, &scope)
            .unwrap();
    }
    builder.finish().unwrap()
}

/// The id of a span's parent.
fn parent_of(n: u64) -> Option<u64> {
    match n % 10 {
        0 => None,
        7 => Some(n + 1_000_000),
        place => Some(n - place + place * 7 % 5 + 1),
    }
}

/// The resource of a span: one of three, or none.
fn resource_of(n: u64) -> Option<Resource> {
    let number = n / 10 % 4;
    (number > 0).then(|| Resource {
        attributes: vec![
            attribute("instance", Value::StringValue(format!("instance {number}"))),
            attribute("number", Value::IntValue(number.cast_signed())),
        ],
        ..Resource::default()
    })
}

/// The scope of a span: one of two, or none.
fn scope_of(n: u64) -> Option<InstrumentationScope> {
    (!n.is_multiple_of(5)).then(|| InstrumentationScope {
        name: format!("scope {}", n % 2),
        version: if n.is_multiple_of(2) { "1" } else { "" }.into(),
        ..InstrumentationScope::default()
    })
}

/// A segment of one batch a team.
pub fn segment_of(teams: impl IntoIterator<Item = RecordBatch>) -> (Bytes, SegmentSummary) {
    let month = Month::of(START.cast_signed());
    let halves = teams.into_iter().map(|whole| {
        let half = whole.num_rows() / 2;
        vec![
            whole.slice(0, half),
            whole.slice(half, whole.num_rows() - half),
        ]
    });
    let halves: Vec<Vec<RecordBatch>> = halves.collect();
    let mut sample = Sample::default();
    for batch in halves.iter().flatten() {
        sample.add(batch, 3);
    }
    let segment = NewSegment {
        id: SegmentId(9),
        month,
        origin: Origin::sealed(1..9),
        promotion: sample.choose(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), table(), segment).unwrap();
    arrange(halves, |batch| writer.write(batch)).unwrap();
    let (file, summary) = writer.finish().unwrap();
    (Bytes::from(file), summary)
}

/// A segment of these teams whose rows have attributes of each type.
pub fn varied_segment(teams: &[(&str, u64)]) -> (Bytes, SegmentSummary) {
    segment_of(teams.iter().map(|(name, rows)| {
        batch_with(name, *rows, |n| {
            let varied = if n % 50 == 0 {
                Value::IntValue(1)
            } else {
                Value::StringValue("v".into())
            };
            let mut attributes = vec![
                attribute("text", Value::StringValue(format!("text {}", n % 20))),
                attribute("http.route", Value::StringValue(format!("/r{}", n % 9))),
                attribute("number", Value::IntValue(n.cast_signed() % 300)),
                attribute("double", Value::DoubleValue(n as f64 / 3.0)),
                attribute("flag", Value::BoolValue(n % 3 == 0)),
                attribute("varied", varied),
                attribute(
                    "vercel.request_id",
                    Value::StringValue(format!("iad1::r{}", n / 10)),
                ),
                attribute("url.path", Value::StringValue(format!("/path/{n}"))),
            ];
            attributes.retain(|one| n % 7 != one.key.len() as u64 % 7);
            attributes
        })
    }))
}
