//! Spans of the tests of suggestions, and their values as a naive look tells them.

use rand::Rng;
use rand::rngs::StdRng;
use spanstore::Team;
use spanstore::otlp::{
    ArrayValue, ExportTraceServiceRequest, KeyValue, KeyValueList, Resource, ResourceSpans,
    ScopeSpans, Span, Value,
};
use spanstore::query::ValueType;
use spanstore_format::id::to_hex;
use spanstore_format::span::attribute;
use spanstore_test_support::spans::{attribute as pair, integer, span, text};

/// A span and the attributes of its resource.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) span: Span,
    pub(super) resource: Vec<KeyValue>,
}

/// A random span with attributes that are promoted, of mixed types, twice there, and rare.
pub(super) fn random(random: &mut StdRng, id: u64) -> Item {
    let mut span = span(id);
    let attributes = &mut span.attributes;
    attributes.retain(|_| random.random_bool(0.8));
    let few = random.random_range(0..5);
    attributes.push(match random.random_range(0..30) {
        0 => text("mixed", &format!("text {few}")),
        1 => pair("mixed", Value::DoubleValue(1.5)),
        _ => integer("mixed", few),
    });
    if random.random_bool(0.5) {
        attributes.push(text("varied", &format!("value {}", id * 7_919 % 100_003)));
        attributes.push(pair("is_Late", Value::BoolValue(few == 1)));
        attributes.push(pair("ratio", Value::DoubleValue(few as f64 / 4.0)));
    }
    // The first one counts, whichever has the type of most.
    let zone = [text("zone", &format!("z{few}")), integer("zone", few)];
    match random.random_range(0..10) {
        0 => attributes.extend(zone),
        1 => attributes.extend(zone.into_iter().rev()),
        _ => {}
    }
    if random.random_bool(0.02) {
        attributes.push(text(&format!("rare.{few}"), "yes"));
        attributes.push(KeyValue {
            key: "empty".into(),
            ..KeyValue::default()
        });
        let values = vec![spanstore::otlp::AnyValue {
            value: Some(Value::IntValue(few)),
        }];
        attributes.push(pair("list", Value::ArrayValue(ArrayValue { values })));
        let values = vec![integer("inner", few)];
        attributes.push(pair("map", Value::KvlistValue(KeyValueList { values })));
        attributes.push(pair("raw", Value::BytesValue(vec![1, 2])));
    }
    let mut resource = Vec::new();
    if !id.is_multiple_of(11) {
        resource.push(text(
            "service.name",
            ["shop", "Search", "edge"][(id % 3) as usize],
        ));
        resource.push(text("cloud.region", &format!("region-{}", id / 10 % 4)));
        resource.push(integer("host.number", (id % 17).cast_signed()));
    }
    Item { span, resource }
}

impl Item {
    /// A span of another team: alike, but no value is the same.
    pub(super) fn of_another_team(&self) -> Self {
        let mut item = self.clone();
        let attributes = item.span.attributes.iter_mut();
        for one in attributes.chain(&mut item.resource) {
            if let Some(Value::StringValue(text)) =
                one.value.as_mut().and_then(|value| value.value.as_mut())
            {
                text.push_str(" of another team");
            }
        }
        let attributes = &mut item.span.attributes;
        attributes.push(text("of.another.team", "secret"));
        item
    }

    pub(super) fn trace(&self) -> &[u8] {
        &self.span.trace_id
    }

    pub(super) fn start(&self) -> i64 {
        self.span.start_time_unix_nano.cast_signed()
    }

    pub(super) fn duration(&self) -> u64 {
        self.span.end_time_unix_nano - self.span.start_time_unix_nano
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.span.attributes.iter().any(|one| one.key == key)
    }

    /// The text of a value by its name.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let of = |attributes: &[KeyValue], key: &str| {
            let found = attributes.iter().find(|one| one.key == key)?;
            let text = attribute::text(found.value.as_ref()?)?;
            Some(text.into_owned())
        };
        let of_span = |key| of(&self.span.attributes, key);
        match name {
            "name" => Some(self.span.name.clone()),
            "method" => of_span("http.request.method"),
            "status_code" => of_span("http.response.status_code"),
            "path" => of_span("url.path"),
            "lower(path)" => of_span("url.path").map(|path| path.to_lowercase()),
            "duration" => Some(self.duration().to_string()),
            "trace_id" => Some(to_hex(self.trace())),
            "service" => of(&self.resource, "service.name"),
            "has('db.system')" => Some(of_span("db.system").is_some().to_string()),
            "has(resource, 'cloud.region')" => {
                Some(of(&self.resource, "cloud.region").is_some().to_string())
            }
            name => {
                let (owner, key) = name.split_once("['").unwrap();
                let key = key.strip_suffix("']").unwrap();
                match owner {
                    "attributes" => of_span(key),
                    _ => of(&self.resource, key),
                }
            }
        }
    }
}

/// What the value of an attribute is.
pub(super) fn value_type(one: &KeyValue) -> ValueType {
    match one.value.as_ref().and_then(|value| value.value.as_ref()) {
        None => ValueType::Empty,
        Some(Value::BoolValue(_)) => ValueType::Boolean,
        Some(Value::IntValue(_)) => ValueType::Integer,
        Some(Value::DoubleValue(_)) => ValueType::Double,
        Some(Value::ArrayValue(_)) => ValueType::List,
        Some(Value::KvlistValue(_)) => ValueType::Map,
        Some(Value::BytesValue(_)) => ValueType::Bytes,
        Some(Value::StringValue(_) | Value::StringValueStrindex(_)) => ValueType::Text,
    }
}

/// Appends spans in one batch.
pub(super) fn append(team: &Team, items: &[Item]) {
    let of_item = |item: &Item| ResourceSpans {
        resource: Some(Resource {
            attributes: item.resource.clone(),
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: vec![item.span.clone()],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    let receipt = team.append(ExportTraceServiceRequest {
        resource_spans: items.iter().map(of_item).collect(),
    });
    assert_eq!(receipt.unwrap().accepted, items.len() as u64);
}
