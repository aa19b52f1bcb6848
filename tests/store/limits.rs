//! Limits are one rule, whatever way a batch came in, and what passes them can be
//! replayed, sealed and read.

use std::path::Path;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use spanstore::otlp::{
    AnyValue, ArrayValue, Event, ExportTraceServiceRequest, InstrumentationScope, KeyValue,
    KeyValueList, Link, Resource, ResourceSpans, ScopeSpans, Span, Status, Value, json, protobuf,
};
use spanstore::{Limits, Receipt, RefusalReason, SpanBatch, Store, TeamId};
use spanstore_test_support::spans::{attribute, request, span, text};
use spanstore_test_support::{NOW, open, open_with, quiet, team};

/// The ways that a batch can come in.
pub(crate) const WAYS: [&str; 3] = ["typed", "protobuf", "json"];

pub(crate) fn batch(way: &str, request: &ExportTraceServiceRequest) -> SpanBatch {
    let batch = match way {
        "typed" => SpanBatch::from_otlp(request.clone()),
        "protobuf" => SpanBatch::from_otlp_protobuf(&protobuf::encode(request)).unwrap(),
        _ => SpanBatch::from_otlp_json(json::encode(request).as_bytes()).unwrap(),
    };
    batch.any_time()
}

/// A span with all that it shares with others, encoded: NaN is unequal to itself.
type Whole = [Vec<u8>; 5];

fn flat(request: &ExportTraceServiceRequest) -> Vec<Whole> {
    let mut found = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let encoded = |message: Option<Vec<u8>>| {
                    message.map_or(Vec::new(), |bytes| [vec![1], bytes].concat())
                };
                found.push([
                    span.encode_to_vec(),
                    encoded(resource.resource.as_ref().map(Message::encode_to_vec)),
                    resource.schema_url.clone().into_bytes(),
                    encoded(scope.scope.as_ref().map(Message::encode_to_vec)),
                    scope.schema_url.clone().into_bytes(),
                ]);
            }
        }
    }
    found
}

pub(crate) fn exported(store: &Store, team: &TeamId) -> Vec<Whole> {
    let mut found = Vec::new();
    for chunk in store.team(team).export().unwrap() {
        found.extend(flat(&chunk.unwrap().to_otlp().unwrap()));
    }
    found.sort_unstable();
    found
}

/// What a request that was appended must leave.
fn accepted(request: &ExportTraceServiceRequest, receipt: &Receipt) -> Vec<Whole> {
    let mut found: Vec<_> = (0..)
        .zip(flat_if_shallow(request, receipt))
        .filter(|(index, _)| {
            let mut refused = receipt.refused.iter();
            !refused.any(|refusal| refusal.index == *index)
        })
        .map(|(_, whole)| whole)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The spans of a request, those that are refused without what they hold: it may be
/// too deep to be encoded.
fn flat_if_shallow(request: &ExportTraceServiceRequest, receipt: &Receipt) -> Vec<Whole> {
    let mut request = request.clone();
    let mut index = 0;
    for resource in &mut request.resource_spans {
        let mut is_used = false;
        for scope in &mut resource.scope_spans {
            let mut is_scope_used = false;
            for span in &mut scope.spans {
                if receipt.refused.iter().any(|one| one.index == index) {
                    *span = Span::default();
                } else {
                    is_scope_used = true;
                }
                index += 1;
            }
            if !is_scope_used {
                scope.scope = None;
            }
            is_used |= is_scope_used;
        }
        if !is_used {
            resource.resource = None;
        }
    }
    flat(&request)
}

/// Appends a request in each way, to a team each; then looks after each step in the
/// life of a row.
fn append_reopen_seal(path: &Path, request: &ExportTraceServiceRequest) -> Receipt {
    let store = open(path);
    let mut receipts: Vec<Receipt> = Vec::new();
    for way in WAYS {
        let receipt = store.team(&team(way)).append(batch(way, request)).unwrap();
        if let Some(first) = receipts.first() {
            assert_eq!(&receipt, first, "{way}");
        }
        receipts.push(receipt);
    }
    let receipt = receipts.remove(0);
    let expected = accepted(request, &receipt);
    assert_eq!(expected.len() as u64, receipt.accepted);
    let assert_all = |store: &Store, step: &str| {
        for way in WAYS {
            let found = exported(store, &team(way));
            assert!(found == expected, "{way}, {step}: {found:?} {expected:?}");
        }
    };
    assert_all(&store, "appended");
    drop(store);
    let store = open(path);
    assert_all(&store, "replayed");
    store.seal().unwrap();
    assert_all(&store, "sealed");
    assert_eq!(store.check().unwrap().damage, []);
    drop(store);
    assert_all(&open(path), "reopened");
    receipt
}

fn some(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// A value in so many arrays and key-value lists, by turns.
pub(crate) fn within(containers: usize, value: AnyValue) -> AnyValue {
    (0..containers).fold(value, |inner, level| {
        some(if level % 2 == 0 {
            Value::ArrayValue(ArrayValue {
                values: vec![inner],
            })
        } else {
            Value::KvlistValue(KeyValueList {
                values: vec![KeyValue {
                    key: "k".into(),
                    value: Some(inner),
                    ..KeyValue::default()
                }],
            })
        })
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z.]{1,8}",
        "\\PC{0,6}",
        "[\\x00-\\x1f\"\\\\]{1,4}",
        Just("https://x.test/a?b=https://y.test".to_owned()),
    ]
}

/// Lengths at and over a limit are rare, since they cost time.
fn long_text(limit: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        60 => any_text(),
        1 => Just("x".repeat(limit)),
        1 => Just("x".repeat(limit + 1)),
    ]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        long_text(65_536).prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(Value::IntValue),
        prop_oneof![
            any::<f64>().prop_filter("one NaN", |number| !number.is_nan()),
            Just(f64::NAN),
            Just(-0.0)
        ]
        .prop_map(Value::DoubleValue),
        vec(any::<u8>(), 0..6).prop_map(Value::BytesValue),
        any::<i32>().prop_map(Value::StringValueStrindex),
    ];
    let leaf = option::weighted(0.9, leaf).prop_map(|value| AnyValue { value });
    let depth = prop_oneof![6 => Just(0), 3 => 0..4_usize, 1 => 14..20_usize, 1 => Just(45)];
    let chain = (depth, leaf).prop_map(|(depth, leaf)| within(depth, leaf));
    prop_oneof![
        9 => chain.clone(),
        1 => vec(chain, 0..4).prop_map(|values| some(Value::ArrayValue(ArrayValue { values }))),
    ]
}

fn any_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        3 => any_text(),
        3 => prop::sample::select(vec![
            "service.name", "session.id", "request.id", "http.route", "url.full", "http.target",
            "http.response.status_code", "faas.coldstart", "user_agent.original",
        ])
        .prop_map(str::to_owned),
        1 => long_text(256),
    ];
    let attribute = (key, option::weighted(0.9, any_value()), any::<bool>()).prop_map(
        |(key, value, has_index)| KeyValue {
            key,
            value,
            key_strindex: i32::from(has_index),
        },
    );
    vec(attribute, 0..4)
}

fn any_id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(1..=255_u8, length),
        1 => Just(vec![0; length]),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn any_span() -> impl Strategy<Value = Span> {
    let time = || {
        prop_oneof![
            5 => (0..100_u64).prop_map(|n| NOW.cast_unsigned() + n * 1_000),
            2 => any::<u64>(),
            1 => prop::sample::select(vec![0, 1, (1 << 63) - 1, 1 << 63, u64::MAX]),
        ]
    };
    let event = (
        any::<u64>(),
        long_text(1_024),
        any_attributes(),
        any::<u32>(),
    )
        .prop_map(
            |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
                time_unix_nano,
                name,
                attributes,
                dropped_attributes_count,
            },
        );
    let link_id = |length| prop_oneof![4 => Just(Vec::new()), 20 => any_id(length)];
    let link = (
        link_id(16),
        link_id(8),
        any_text(),
        any_attributes(),
        any::<u32>(),
    )
        .prop_map(|(trace_id, span_id, trace_state, attributes, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            flags,
            dropped_attributes_count: flags / 2,
        });
    let status = (any_text(), prop_oneof![0..3, any::<i32>()])
        .prop_map(|(message, code)| Status { message, code });
    let parent = prop_oneof![1 => Just(Vec::new()), 1 => any_id(8)];
    (
        (any_id(16), any_id(8), parent, any_text(), long_text(1_024)),
        (
            any::<u32>(),
            prop_oneof![0..6, any::<i32>()],
            time(),
            time(),
        ),
        (
            any_attributes(),
            vec(event, 0..2),
            vec(link, 0..2),
            option::of(status),
        ),
    )
        .prop_map(|(texts, numbers, lists)| Span {
            trace_id: texts.0,
            span_id: texts.1,
            parent_span_id: texts.2,
            trace_state: texts.3,
            name: texts.4,
            flags: numbers.0,
            kind: numbers.1,
            start_time_unix_nano: numbers.2,
            end_time_unix_nano: numbers.3,
            attributes: lists.0,
            events: lists.1,
            links: lists.2,
            status: lists.3,
            dropped_attributes_count: numbers.0 / 2,
            dropped_events_count: numbers.0 / 3,
            dropped_links_count: numbers.0 / 5,
        })
}

fn any_request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = (long_text(65_536), any_text(), any_attributes()).prop_map(
        |(name, version, attributes)| InstrumentationScope {
            name,
            version,
            attributes,
            ..InstrumentationScope::default()
        },
    );
    let scope_spans = (option::of(scope), vec(any_span(), 0..4), long_text(2_048)).prop_map(
        |(scope, spans, schema_url)| ScopeSpans {
            scope,
            spans,
            schema_url,
        },
    );
    let resource = any_attributes().prop_map(|attributes| Resource {
        attributes,
        ..Resource::default()
    });
    let resource_spans = (
        option::of(resource),
        vec(scope_spans, 0..3),
        long_text(2_048),
    )
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans {
            resource,
            scope_spans,
            schema_url,
        });
    vec(resource_spans, 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_is_replayed_sealed_and_read_equal(request in any_request()) {
        let directory = tempfile::tempdir().unwrap();
        append_reopen_seal(directory.path(), &request);
    }
}

#[test]
fn values_nest_in_sixteen_containers_wherever_they_stand() {
    let leaf = || some(Value::IntValue(1));
    for (containers, reason) in [
        (16, None),
        (17, Some(RefusalReason::AttributeTooDeep)),
        (60, Some(RefusalReason::AttributeTooDeep)),
    ] {
        let deep = || attribute("deep", within(containers, leaf()).value.unwrap());
        let mut of_span = request([span(0), span(1)]);
        of_span.resource_spans[0].scope_spans[0].spans[1]
            .attributes
            .push(deep());
        let mut of_event = request([span(0), span(1)]);
        of_event.resource_spans[0].scope_spans[0].spans[1].events = vec![Event {
            attributes: vec![deep()],
            ..Event::default()
        }];
        let mut of_link = request([span(0), span(1)]);
        of_link.resource_spans[0].scope_spans[0].spans[1].links = vec![Link {
            attributes: vec![deep()],
            ..Link::default()
        }];
        let mut of_scope = request([span(0)]);
        let scope = ScopeSpans {
            scope: Some(InstrumentationScope {
                attributes: vec![deep()],
                ..InstrumentationScope::default()
            }),
            spans: vec![span(1)],
            ..ScopeSpans::default()
        };
        of_scope.resource_spans[0].scope_spans.push(scope);
        let mut of_resource = request([span(0)]);
        let mut resource = request([span(1)]).resource_spans.remove(0);
        resource.resource.as_mut().unwrap().attributes.push(deep());
        of_resource.resource_spans.push(resource);

        for request in [of_span, of_event, of_link, of_scope, of_resource] {
            let directory = tempfile::tempdir().unwrap();
            let receipt = append_reopen_seal(directory.path(), &request);
            let reasons: Vec<_> = receipt
                .refused
                .iter()
                .map(|one| (one.index, one.reason))
                .collect();
            assert_eq!(
                reasons,
                reason
                    .map(|reason| (1, reason))
                    .into_iter()
                    .collect::<Vec<_>>()
            );
        }
    }
}

/// A deeper limit that somebody sets does not let in what cannot be read again.
#[test]
fn no_setting_lets_in_what_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = quiet();
    options.limits.attribute_depth = 90;
    options.limits.span_bytes = usize::MAX;
    options.limits.attribute_value_bytes = usize::MAX;
    let store = open_with(directory.path(), options);
    let mut deep = span(0);
    deep.attributes.push(attribute(
        "k",
        within(17, some(Value::BoolValue(true))).value.unwrap(),
    ));
    let mut large = span(1);
    large.attributes.push(text("k", &"x".repeat(1 << 20)));
    let receipt = store
        .team(&team("acme"))
        .append(request([deep, large, span(2)]))
        .unwrap();
    let reasons: Vec<_> = receipt.refused.iter().map(|one| one.reason).collect();
    assert_eq!(
        reasons,
        [RefusalReason::AttributeTooDeep, RefusalReason::SpanTooLarge]
    );
    drop(store);
    assert_eq!(
        open(directory.path())
            .team(&team("acme"))
            .usage(spanstore::Month::of(NOW))
            .unwrap()
            .used,
        1
    );
}

#[test]
fn what_spans_share_has_limits_of_its_own() {
    use RefusalReason as Reason;
    let limits = Limits::default();
    // The attribute takes 64 KiB at most, so two make the resource too large.
    let filled = |bytes: usize| {
        vec![
            text("a", &"x".repeat(60_000)),
            text("b", &"x".repeat(bytes)),
        ]
    };
    let resource = |bytes| Resource {
        attributes: filled(bytes),
        ..Resource::default()
    };
    let scope = |bytes| InstrumentationScope {
        attributes: filled(bytes),
        ..InstrumentationScope::default()
    };
    let fitting = limits.resource_bytes - resource(5_000).encoded_len() + 5_000;
    assert_eq!(resource(fitting).encoded_len(), limits.resource_bytes);
    let change = |change: &dyn Fn(&mut ResourceSpans)| {
        let mut request = request([span(0)]);
        change(&mut request.resource_spans[0]);
        request
    };
    let url = |bytes: usize| "u".repeat(bytes);
    let cases = [
        (change(&|one| one.resource = Some(resource(fitting))), None),
        (
            change(&|one| one.resource = Some(resource(fitting + 1))),
            Some(Reason::ResourceTooLarge),
        ),
        (
            change(&|one| one.scope_spans[0].scope = Some(scope(fitting))),
            None,
        ),
        (
            change(&|one| one.scope_spans[0].scope = Some(scope(fitting + 1))),
            Some(Reason::ScopeTooLarge),
        ),
        (change(&|one| one.schema_url = url(2_048)), None),
        (
            change(&|one| one.schema_url = url(2_049)),
            Some(Reason::SchemaUrlTooLong),
        ),
        (
            change(&|one| one.scope_spans[0].schema_url = url(2_048)),
            None,
        ),
        (
            change(&|one| one.scope_spans[0].schema_url = url(2_049)),
            Some(Reason::SchemaUrlTooLong),
        ),
        (
            change(&|one| {
                one.scope_spans[0].spans[0]
                    .attributes
                    .push(text("service.name", &url(16_384)));
            }),
            None,
        ),
        (
            change(&|one| {
                one.scope_spans[0].spans[0]
                    .attributes
                    .push(text("service.name", &url(16_385)));
            }),
            Some(Reason::MappedTextTooLong),
        ),
        (
            change(&|one| {
                one.resource.as_mut().unwrap().attributes =
                    vec![text("service.name", &url(16_385))];
            }),
            Some(Reason::MappedTextTooLong),
        ),
        // Values in an array count, though they are empty.
        (
            change(&|one| {
                let values = vec![AnyValue::default(); 32_769];
                let array = attribute("k", Value::ArrayValue(ArrayValue { values }));
                one.scope_spans[0].spans[0].attributes.push(array);
            }),
            Some(Reason::AttributeValueTooLarge),
        ),
        (
            change(&|one| {
                one.scope_spans[0].spans[0].links = vec![Link {
                    trace_id: vec![0],
                    ..Link::default()
                }];
            }),
            Some(Reason::InvalidLinkId),
        ),
        (
            change(&|one| {
                one.scope_spans[0].spans[0].links = vec![Link {
                    span_id: vec![1; 16],
                    ..Link::default()
                }];
            }),
            Some(Reason::InvalidLinkId),
        ),
    ];
    for (request, reason) in cases {
        let directory = tempfile::tempdir().unwrap();
        let receipt = append_reopen_seal(directory.path(), &request);
        let found: Vec<_> = receipt.refused.iter().map(|one| one.reason).collect();
        assert_eq!(found, reason.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_link_whose_ids_cannot_be_read_is_refused_and_not_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let text = json::encode(&request([span(0), span(1)])).replacen(
        r#""spanId""#,
        r#""links":[{"traceId":"no id","spanId":"0102030405060708"}],"spanId""#,
        1,
    );
    let batch = SpanBatch::from_otlp_json(text.as_bytes()).unwrap();
    let receipt = store.team(&team("acme")).append(batch).unwrap();
    assert_eq!((receipt.accepted, receipt.refused.len()), (1, 1));
    assert_eq!(receipt.refused[0].reason, RefusalReason::InvalidLinkId);
}
