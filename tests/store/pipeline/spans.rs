//! The spans of the tests of the read pipeline, and what their columns and attributes are.

use spanstore::Team;
use spanstore::otlp::{
    AnyValue, ArrayValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource,
    ResourceSpans, ScopeSpans, Span, Value,
};
use spanstore_test_support::NOW;
use spanstore_test_support::spans::{attribute, integer, text, trace_id};

/// A millisecond, in nanoseconds.
pub(super) const MILLI: i64 = 1_000_000;
/// About the first start.
pub(super) const FIRST: i64 = NOW - 3_600_000 * MILLI;
/// A start that thousands of spans have.
pub(super) const SHARED: i64 = FIRST + 42_000 * MILLI;

/// A span, and the number of its resource.
pub(super) struct Row {
    pub(super) span: Span,
    pub(super) resource: usize,
    pub(super) trace: u64,
}

fn mix(n: u64, salt: u64) -> u64 {
    let n = (n ^ salt << 40).wrapping_add(1);
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ n >> 32
}

fn empty(key: &str) -> KeyValue {
    let value = None;
    KeyValue {
        value,
        ..text(key, "")
    }
}

/// Span number `n` of a trace. Traces overlap in time; those from 4,000 to 4,199 start
/// together, those from 20,000 on an hour before all others.
pub(super) fn row(n: u64, trace: u64) -> Row {
    let few = |salt: u64, of: u64| mix(n, salt) % of;
    let is = |salt: u64, of: u64| few(salt, of) == 0;
    let late = trace.cast_signed() * 10 + few(1, 50).cast_signed() * 100;
    let start = match trace {
        4_000..4_200 => SHARED,
        20_000.. => FIRST + (late - late % 20 - 3_600_000) * MILLI,
        _ => FIRST + (late - late % 20) * MILLI,
    };
    let mut all = Vec::new();
    let mut add = |is_there: bool, one: KeyValue| all.extend(is_there.then_some(one));
    let system = ["redis", "mysql", "z1"][few(2, 3) as usize];
    add(true, text("db.system", system));
    let region = ["iad1", "sfo1", "fra1"][(trace % 7 % 3) as usize];
    let regions = [region, "second"].map(|region| AnyValue {
        value: Some(Value::StringValue(region.into())),
    });
    let values = regions.into();
    let regions = attribute("cloud.region", Value::ArrayValue(ArrayValue { values }));
    add(trace % 7 > 1 && !is(3, 30), text("cloud.region", region));
    add(trace % 7 > 1 && is(3, 30), regions);
    let session = format!("session-{}", trace / 3);
    add(!trace.is_multiple_of(5), text("session.id", &session));
    // The column has what stands behind the colons.
    let prefix = ["iad1", "sfo1"][(trace / 4 % 2) as usize];
    let request = format!("{prefix}::req-{}", trace / 2);
    add(trace % 4 != 1, text("request.id", &request));
    let method = ["GET", "POST", "PUT"][few(4, 3) as usize];
    add(!is(5, 9), text("http.request.method", method));
    let code = "http.response.status_code";
    let number = [200, 204, 301, 404, 500][few(6, 5) as usize];
    add(!is(7, 11) && !is(8, 50), integer(code, number));
    let words = ["404", "none"][few(9, 2) as usize];
    add(!is(7, 11) && is(8, 50), text(code, words));
    let path = format!("/p/{}", few(11, 40_000));
    add(!is(10, 13), text("url.path", &path));
    // More values than a facet has, and more bytes than a dictionary.
    let host = format!("host-{:05}.region.example.com", few(13, 6_000));
    add(!is(12, 17), text("server.address", &host));
    // The column of one of these has the value of the other, or an empty one comes first.
    let route = |salt: u64| format!("/r/{}", few(salt, 5));
    add(is(14, 3), text("next.route", &route(15)));
    add(is(16, 200), empty("http.route"));
    add(!is(14, 3) || is(16, 100), text("http.route", &route(17)));
    // Some values are of another type than the others.
    let retries = few(20, 4).cast_signed() - 1;
    add(!is(18, 6) && !is(19, 40), integer("retries", retries));
    let stray = match few(21, 4) {
        0 => text("retries", "many"),
        1 => text("retries", " 1 "),
        2 => attribute("retries", Value::DoubleValue(1.5)),
        _ => empty("retries"),
    };
    add(!is(18, 6) && is(19, 40), stray);
    let ratio = Value::DoubleValue(few(23, 9) as f64 / 4.0 - 0.5);
    add(!is(22, 5), attribute("ratio", ratio));
    add(!is(24, 4), attribute("cached", Value::BoolValue(is(25, 2))));
    let tenant = trace.cast_signed() % 9;
    add(tenant > 2, integer("tenant", tenant % 4));
    let trial = Value::BoolValue(tenant == 3);
    add(tenant > 2, attribute("trial", trial));
    add(n % 30_000 == 77, text("trial", "false"));
    add(is(26, 7), text("zone", &format!("z{}", few(27, 3))));
    add(is(26, 7), text("zone", "second"));
    add(is(28, 999), text("rare", "yes"));
    add(is(29, 12), empty("nothing"));
    let is_cold = Value::BoolValue(is(31, 3));
    add(is(30, 2), attribute("faas.coldstart", is_cold));
    let parent = (mix(trace, 33) % 50 + 1).to_be_bytes();
    let span = Span {
        trace_id: trace_id(trace).to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        parent_span_id: if is(32, 10) {
            Vec::new()
        } else {
            parent.to_vec()
        },
        // So many that their rows are kept value by value, without the most frequent one.
        name: format!("operation {}", if is(38, 2) { 3 } else { few(34, 200) }),
        kind: few(35, 6) as i32,
        start_time_unix_nano: start.cast_unsigned(),
        end_time_unix_nano: start.cast_unsigned() + few(36, 100) * 10_000,
        attributes: all,
        ..Span::default()
    };
    Row {
        span,
        resource: few(37, 4) as usize,
        trace,
    }
}

/// The attributes of a resource; the last one is none.
pub(super) fn resource(number: usize) -> Vec<KeyValue> {
    match number {
        0 => vec![text("service.name", "shop"), integer("replica", 0)],
        1 => vec![
            text("service.name", "pay"),
            integer("replica", 1),
            text("cloud.region", "home"),
        ],
        2 => vec![text("replica", "2"), text("host.name", "h2")],
        _ => Vec::new(),
    }
}

/// Appends rows in few requests.
pub(super) fn append(team: &Team, rows: &[Row]) {
    for rows in rows.chunks(10_000) {
        let of_resource = |number: usize| {
            let spans = rows.iter().filter(|row| row.resource == number);
            let scope = InstrumentationScope {
                name: "tests".into(),
                ..InstrumentationScope::default()
            };
            let attributes = resource(number);
            let resource = Resource {
                attributes,
                ..Resource::default()
            };
            ResourceSpans {
                resource: (number < 3).then_some(resource),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: spans.map(|row| row.span.clone()).collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }
        };
        let resource_spans = (0..4).map(of_resource).collect();
        let receipt = team.append(ExportTraceServiceRequest { resource_spans });
        assert_eq!(receipt.unwrap().accepted, rows.len() as u64);
    }
}

/// The value of an attribute; of keys that repeat, the first counts.
pub(super) fn first<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|one| one.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn as_text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::ArrayValue(array) => {
            let values = array.values.iter().filter_map(|one| one.value.as_ref());
            let texts: Vec<String> = values.map(|one| format!("\"{}\"", as_text(one))).collect();
            format!("[{}]", texts.join(","))
        }
        other => panic!("{other:?}"),
    }
}

/// A value as a number, if it reads as one.
pub(super) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::StringValue(text) => text.trim().parse().ok(),
        Value::IntValue(number) => Some(*number as f64),
        Value::DoubleValue(number) => Some(*number),
        _ => None,
    }
}

impl Row {
    pub(super) fn start(&self) -> i64 {
        self.span.start_time_unix_nano.cast_signed()
    }

    pub(super) fn duration(&self) -> i64 {
        self.span.end_time_unix_nano.cast_signed() - self.start()
    }

    pub(super) fn id(&self) -> u64 {
        u64::from_be_bytes(self.span.span_id.as_slice().try_into().unwrap())
    }

    /// The text of an attribute.
    pub(super) fn attribute(&self, key: &str) -> Option<String> {
        first(&self.span.attributes, key).map(as_text)
    }

    /// The number of an attribute.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        first(&self.span.attributes, key).and_then(as_number)
    }

    /// Whether it has the attribute.
    pub(super) fn has(&self, key: &str) -> bool {
        self.span.attributes.iter().any(|one| one.key == key)
    }

    /// The text of an attribute of the resource.
    pub(super) fn of_resource(&self, key: &str) -> Option<String> {
        first(&resource(self.resource), key).map(as_text)
    }

    /// The first value of some keys, the first key before the others.
    fn of_keys(&self, keys: &[&str]) -> Option<String> {
        let of = |attributes: &[KeyValue]| {
            let of_key = |key: &&str| {
                let mut all = attributes.iter().filter(|one| one.key == **key);
                all.find_map(|one| one.value.as_ref()?.value.clone())
            };
            Some(match keys.iter().find_map(of_key)? {
                Value::ArrayValue(array) => as_text(array.values[0].value.as_ref().unwrap()),
                other => as_text(&other),
            })
        };
        of(&self.span.attributes).or_else(|| of(&resource(self.resource)))
    }

    /// A column as text.
    pub(super) fn column(&self, name: &str) -> Option<String> {
        match name {
            "name" => Some(self.span.name.clone()),
            "kind" => {
                let kinds = "unspecified internal server client producer consumer";
                let kind = kinds.split(' ').nth(self.span.kind as usize);
                kind.map(str::to_owned)
            }
            "method" => self.of_keys(&["http.request.method"]),
            "path" => self.of_keys(&["url.path"]),
            "host" => self.of_keys(&["server.address"]),
            "route" => self.of_keys(&["http.route", "next.route"]),
            "region" => self.of_keys(&["cloud.region"]),
            "service" => self.of_keys(&["service.name"]),
            "session_id" => self.of_keys(&["session.id"]),
            "request_id" => Some(self.of_keys(&["request.id"])?.split_once("::")?.1.into()),
            "cold_start" => self.of_keys(&["faas.coldstart"]),
            "status_code" => self.code().map(|code| code.to_string()),
            other => panic!("{other}"),
        }
    }

    /// Its name, what columns have of attributes, and texts of its attributes.
    pub(super) fn texts(&self) -> Vec<String> {
        let columns = [
            "name",
            "method",
            "path",
            "host",
            "route",
            "region",
            "service",
            "session_id",
            "request_id",
            "cold_start",
            "status_code",
        ];
        let mut texts: Vec<String> = columns
            .iter()
            .filter_map(|name| self.column(name))
            .collect();
        for one in &self.span.attributes {
            match one.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::ArrayValue(list)) => {
                    let values = list.values.iter().filter_map(|one| one.value.as_ref());
                    texts.extend(values.map(as_text));
                }
                Some(other) => texts.push(as_text(other)),
                None => {}
            }
        }
        texts
    }

    /// The status code.
    pub(super) fn code(&self) -> Option<i64> {
        self.of_keys(&["http.response.status_code"])?.parse().ok()
    }
}
