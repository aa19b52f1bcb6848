//! Filters, and what they mean for one span: true, false or null.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spanstore_test_support::spans::trace_id;

use super::spans::{FIRST, MILLI, Row, SHARED, as_number, first, resource};

type Compare = fn(&i64, &i64) -> bool;

type Truth = Option<bool>;

/// A filter, and what it says of each row.
pub(super) struct Filter {
    pub(super) text: String,
    pub(super) truth: Vec<Truth>,
}

struct Conditions<'a> {
    rows: &'a [Row],
    all: Vec<Filter>,
}

impl Conditions<'_> {
    fn add(&mut self, text: impl Into<String>, holds: impl Fn(&Row) -> Truth) {
        self.all.push(Filter {
            text: text.into(),
            truth: self.rows.iter().map(holds).collect(),
        });
    }

    /// A condition that is never null.
    fn is(&mut self, text: impl Into<String>, holds: impl Fn(&Row) -> bool) {
        self.add(text, |row| Some(holds(row)));
    }

    /// Conditions on a text, which a row may lack; all of them or some.
    fn texts(
        &mut self,
        access: &str,
        value: &str,
        is_all: bool,
        of: impl Fn(&Row) -> Option<String>,
    ) {
        let texts: Vec<Option<String>> = self.rows.iter().map(of).collect();
        let mut add = |text: String, holds: &dyn Fn(Option<&str>) -> Truth| {
            let truth = texts.iter().map(|text| holds(text.as_deref()));
            self.all.push(Filter {
                text,
                truth: truth.collect(),
            });
        };
        add(format!("{access} = '{value}'"), &|text| {
            Some(text? == value)
        });
        add(format!("{access} != '{value}'"), &|text| {
            Some(text? != value)
        });
        add(format!("{access} is null"), &|text| Some(text.is_none()));
        if is_all {
            add(format!("{access} > '{value}'"), &|text| Some(text? > value));
            add(format!("{access} in ('{value}', 'none')"), &|text| {
                Some([value, "none"].contains(&text?))
            });
            add(format!("{access} like '%7%'"), &|text| {
                Some(text?.contains('7'))
            });
            add(format!("({access} = '{value}') is not true"), &|text| {
                Some(text != Some(value))
            });
            add(format!("({access} = '{value}') is not false"), &|text| {
                Some(text.is_none_or(|text| text == value))
            });
        }
    }
}

fn conditions(rows: &[Row]) -> Vec<Filter> {
    let mut all = Conditions {
        rows,
        all: Vec::new(),
    };
    all.is("true", |_| true);
    all.is("false", |_| false);
    for (column, value) in [
        ("method", "GET"),
        ("path", "/p/777"),
        ("host", "host-04242.region.example.com"),
        ("name", "operation 3"),
        ("route", "/r/2"),
        ("region", "iad1"),
        ("service", "pay"),
        ("session_id", "session-34"),
        ("request_id", "req-140"),
    ] {
        all.texts(column, value, true, move |row| row.column(column));
    }
    for (key, value) in [
        ("http.route", "/r/2"),
        ("next.route", "/r/2"),
        ("retries", "1"),
        ("ratio", "0.25"),
        ("cached", "true"),
        ("trial", "false"),
        ("zone", "z1"),
        ("tenant", "1"),
        ("rare", "yes"),
        ("nothing", ""),
        ("cloud.region", "iad1"),
        ("request.id", "sfo1::req-142"),
        ("http.response.status_code", "404"),
        ("url.path", "/p/777"),
    ] {
        let access = format!("attributes['{key}']");
        all.texts(&access, value, key.contains('.'), move |row| {
            row.attribute(key)
        });
        all.is(format!("has(attributes, '{key}')"), move |row| row.has(key));
        if let Ok(number) = value.parse::<f64>() {
            all.add(format!("{access} = {number}"), move |row| {
                Some(row.number(key)?.total_cmp(&number).is_eq())
            });
            all.add(format!("{access} > {number}"), move |row| {
                Some(row.number(key)? > number)
            });
        }
    }
    all.texts("resource['service.name']", "shop", true, |row| {
        row.of_resource("service.name")
    });
    all.is("resource['host.name'] is null", |row| row.resource != 2);
    all.add("resource['replica'] >= 1", |row| {
        Some(first(&resource(row.resource), "replica").and_then(as_number)? >= 1.0)
    });
    all.is("has(resource, 'replica')", |row| row.resource < 3);
    all.is("kind in ('server', 'client')", |row| {
        matches!(row.span.kind, 2 | 3)
    });
    all.add("status_code >= 400", |row| Some(row.code()? >= 400));
    all.add("status_code = '2xx'", |row| Some(row.code()? / 100 == 2));
    all.add("status_code not between 204 and 404", |row| {
        Some(!(204..=404).contains(&row.code()?))
    });
    all.add("cold_start", |row| {
        Some(row.column("cold_start")? == "true")
    });
    all.is("cold_start is not true", |row| {
        row.column("cold_start").as_deref() != Some("true")
    });
    all.is("trace_state is null and scope_name = 'tests'", |_| true);
    // Columns that have one value, or none, in all rows.
    all.is("status = 'unset'", |_| true);
    all.is("status != 'unset' or status_message is not null", |_| false);
    all.add("user_id != 'x'", |_| None);
    // Of several columns.
    all.add("attributes['zone'] = attributes['db.system']", |row| {
        Some(row.attribute("zone")? == row.attribute("db.system")?)
    });
    all.add("attributes['http.route'] != route", |row| {
        Some(row.attribute("http.route")? != row.column("route")?)
    });
    all.add("path > route", |row| {
        Some(row.column("path")? > row.column("route")?)
    });
    all.add("lower(method) = 'post'", |row| {
        Some(row.column("method")? == "POST")
    });
    all.add("length(path) > 7", |row| {
        Some(row.column("path")?.len() > 7)
    });
    for needle in [
        "OPERATION 3",
        "second",
        "/r/2",
        "sfo1::req-14",
        "Req-7",
        "z1",
        "404",
        "0.25",
        "ue",
        "home",
        "pay",
        "many",
        "no such text",
    ] {
        let lower = needle.to_lowercase();
        all.is(format!("search('{needle}')"), move |row| {
            row.texts()
                .iter()
                .any(|text| text.to_lowercase().contains(&lower))
        });
    }
    // Ids.
    let hex = |trace: u64| format!("{:032x}", u128::from_be_bytes(trace_id(trace)));
    all.is(format!("trace_id = '{}'", hex(4_123)), |row| {
        row.trace == 4_123
    });
    all.is(
        format!("trace_id in ('{}', '{}', '1')", hex(99), hex(7_111)),
        |row| matches!(row.trace, 99 | 7_111),
    );
    all.is(format!("trace_id != '{}'", hex(7)), |row| row.trace != 7);
    all.is("span_id in ('4242', '10001')", |row| {
        matches!(row.id(), 0x4242 | 0x10001)
    });
    all.is("parent_span_id is null", |row| {
        row.span.parent_span_id.is_empty()
    });
    all.add("parent_span_id = '7'", |row| {
        Some(*row.span.parent_span_id.last()? == 7)
    });
    all.is("duration > 500000", |row| row.duration() > 500_000);
    all.is("duration between '100us' and '110us'", |row| {
        (100_000..=110_000).contains(&row.duration())
    });
    // Times: that many have, the last, between pages, before most.
    let comparisons: [(&str, Compare); 6] = [
        ("=", i64::eq),
        ("!=", i64::ne),
        ("<", i64::lt),
        ("<=", i64::le),
        (">", i64::gt),
        (">=", i64::ge),
    ];
    let last = rows.last().unwrap().start();
    let times = [
        SHARED,
        last,
        FIRST + 61_240 * MILLI,
        FIRST - 3_400_000 * MILLI,
    ];
    for (at, time) in times.into_iter().enumerate() {
        for (comparison, holds) in &comparisons[at.saturating_sub(1)..] {
            let holds = *holds;
            all.is(format!("start_time {comparison} {time}"), move |row| {
                holds(&row.start(), &time)
            });
        }
        let end = time + 900 * MILLI;
        all.is(format!("start_time between {time} and {end}"), move |row| {
            (time..=end).contains(&row.start())
        });
        all.is(format!("start_time in ({time}, {end})"), move |row| {
            row.start() == time || row.start() == end
        });
    }
    // One of several ranges, of which each leaves out what the other has.
    let (early, late) = (FIRST + 5_000 * MILLI, FIRST + 70_000 * MILLI);
    all.is(
        format!("start_time < {early} or start_time < {SHARED}"),
        |row| row.start() < SHARED,
    );
    all.is(
        format!("start_time >= {late} or start_time > {SHARED}"),
        |row| row.start() > SHARED,
    );
    all.is(
        format!("start_time < {early} or start_time >= {late}"),
        |row| !(early..late).contains(&row.start()),
    );
    all.is(
        format!("not (start_time < {late} and start_time >= {early})"),
        |row| !(early..late).contains(&row.start()),
    );
    all.all
}

/// Conditions and combinations of them, each with its truth for every row.
pub(super) fn filters(rows: &[Row]) -> Vec<Filter> {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut all = conditions(rows);
    for _ in 0..40 {
        // Those before may be combinations themselves.
        let mut one = || {
            let Filter { text, truth } = &all[random.random_range(2..all.len())];
            if random.random_bool(0.3) {
                let truth = truth.iter().map(|truth| truth.map(|truth| !truth));
                (format!("not ({text})"), truth.collect())
            } else {
                (format!("({text})"), truth.clone())
            }
        };
        let ((one, truth), (other, of_other)): ((String, Vec<Truth>), _) = (one(), one());
        let is_and = random.random_bool(0.5);
        // What decides, decides, even beside null.
        let decides = Some(!is_and);
        let join = |(one, other): (&Truth, &Truth)| match (*one, *other) {
            (one, other) if one == decides || other == decides => decides,
            (Some(_), Some(_)) => Some(is_and),
            _ => None,
        };
        let truth = truth.iter().zip(&of_other).map(join).collect();
        let word = if is_and { "and" } else { "or" };
        let text = format!("{one} {word} {other}");
        all.push(Filter { text, truth });
    }
    all
}
